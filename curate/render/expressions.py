"""Jinja as polars expressions: texts, values and conditions over roles that are columns, where both say the same.

    text("Q: {{ q }}", {"q": Value(pl.col("role q"), "text")})       the text of every row
    truth(expression("q == 'yes'"), names)                           a condition, Boolean

What has no counterpart in polars raises Unfit, and is then the engine's.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import polars as pl
from jinja2 import nodes

from curate.template import sandbox
from curate.template.cleanup import SENTENCE_ENDS

SPACES = "".join(chr(i) for i in range(0x3001) if chr(i).isspace())  # what str.split and str.strip take for white space
_SPACE = "[" + "".join(rf"\x{{{ord(c):x}}}" for c in SPACES) + "]"


class Unfit(Exception):
    """Something that only Python can do."""


@dataclass(frozen=True)
class Value:
    """An expression and what it gives: "text" (String, not null), "index" (Int32, not null) or "truth" (Boolean)."""

    expr: pl.Expr
    kind: str


Names = dict[str, Value]


def expression(source: str) -> nodes.Expr:
    """The tree of what stands between ``{{`` and ``}}``."""
    output = sandbox.ENVIRONMENT.parse("{{ " + source + " }}").body[0]
    assert isinstance(output, nodes.Output)
    return output.nodes[0]


def text(source: str, names: Names) -> pl.Expr:
    """What a text with ``{{ … }}`` and ``{% if … %}`` renders to."""
    return _body(sandbox.ENVIRONMENT.parse(source).body, names)


def _body(body: list[nodes.Node], names: Names) -> pl.Expr:
    pieces = [piece for node in body for piece in _pieces(node, names)]
    return pl.concat_str(pieces) if pieces else pl.lit("")


def _pieces(node: nodes.Node, names: Names) -> list[pl.Expr]:
    if isinstance(node, nodes.Output):
        return [pl.lit(one.data) if isinstance(one, nodes.TemplateData) else _string(one, names) for one in node.nodes]
    if isinstance(node, nodes.If):
        return [_branches(node, names)]
    if isinstance(node, nodes.FilterBlock):
        return [filtered(node.filter, Value(_body(node.body, names), "text"))]
    raise Unfit


def _branches(node: nodes.If, names: Names) -> pl.Expr:
    cases = [(node.test, node.body), *((case.test, case.body) for case in node.elif_)]
    chosen = _body(node.else_, names)
    for test, then in reversed(cases):
        chosen = pl.when(truth(test, names)).then(_body(then, names)).otherwise(chosen)
    return chosen


def _string(node: nodes.Node, names: Names) -> pl.Expr:
    value = _value(node, names)
    if value.kind != "text":
        raise Unfit
    return value.expr


def _value(node: nodes.Node, names: Names) -> Value:
    if isinstance(node, nodes.Const) and isinstance(node.value, str):
        return Value(pl.lit(node.value), "text")
    if isinstance(node, nodes.Const) and type(node.value) is int:
        return Value(pl.lit(node.value), "index")
    if isinstance(node, nodes.Name) and node.name in names:
        return names[node.name]
    if isinstance(node, nodes.Filter) and node.node is not None:
        return Value(filtered(node, _value(node.node, names)), "text")
    if isinstance(node, nodes.Concat):
        return Value(pl.concat_str([_string(one, names) for one in node.nodes]), "text")
    if isinstance(node, nodes.CondExpr) and node.expr2 is not None:
        first, second = _value(node.expr1, names), _value(node.expr2, names)
        if first.kind == second.kind != "truth":
            return Value(pl.when(truth(node.test, names)).then(first.expr).otherwise(second.expr), first.kind)
    raise Unfit


# --- conditions ------------------------------------------------------------------------------------------------------


def truth(node: nodes.Node, names: Names) -> pl.Expr:
    """A condition as Boolean. No role is null here, so that ``is none`` is known."""
    if isinstance(node, nodes.Not):
        return ~truth(node.node, names)
    if isinstance(node, nodes.And):
        return truth(node.left, names) & truth(node.right, names)
    if isinstance(node, nodes.Or):
        return truth(node.left, names) | truth(node.right, names)
    if isinstance(node, nodes.Test) and node.name == "none" and isinstance(node.node, nodes.Name):
        _value(node.node, names)
        return pl.lit(False)
    if isinstance(node, nodes.Compare) and len(node.ops) == 1 and node.ops[0].op in _COMPARISONS:
        left, right = _value(node.expr, names), _value(node.ops[0].expr, names)
        if left.kind == right.kind and (left.kind == "index" or node.ops[0].op in ("eq", "ne")):
            return _COMPARISONS[node.ops[0].op](left.expr, right.expr)
        raise Unfit
    value = _value(node, names)
    return value.expr != ("" if value.kind == "text" else 0)


_COMPARISONS: dict[str, Callable[[pl.Expr, pl.Expr], pl.Expr]] = {
    "eq": lambda a, b: a == b,
    "ne": lambda a, b: a != b,
    "lt": lambda a, b: a < b,
    "lteq": lambda a, b: a <= b,
    "gt": lambda a, b: a > b,
    "gteq": lambda a, b: a >= b,
}


# --- filters ---------------------------------------------------------------------------------------------------------


def _squeeze(text: pl.Expr) -> pl.Expr:
    return text.str.replace_all(f"{_SPACE}+", " ").str.strip_chars(" ")


def _without(text: pl.Expr, start: str, end: str) -> pl.Expr:
    return text.str.replace_all(f"(?s){re.escape(start)}.*?{re.escape(end)}", "")


def _capital(text: pl.Expr) -> pl.Expr:
    return pl.concat_str([text.str.slice(0, 1).str.to_uppercase(), text.str.slice(1)])


def _question(text: pl.Expr) -> pl.Expr:
    stripped = text.str.strip_chars(SPACES).str.strip_chars_end("?").str.strip_chars_end(SPACES)
    return _capital(pl.concat_str([stripped, pl.lit("?")]))


def _sentence(text: pl.Expr) -> pl.Expr:
    text = text.str.strip_chars(SPACES)
    ended = text.str.slice(-1).is_in([*SENTENCE_ENDS])
    return _capital(pl.when(ended).then(text).otherwise(pl.concat_str([text, pl.lit(".")])))


_FILTERS: dict[str, tuple[int, Callable[..., pl.Expr]]] = {  # name: (how many arguments, what it does)
    "squeeze": (0, _squeeze),
    "trim": (0, lambda text: text.str.strip_chars(SPACES)),
    "replace": (2, lambda text, old, new: text.str.replace_all(old, new, literal=True)),
    "without": (2, _without),
    "before": (1, lambda text, mark: text.str.splitn(mark, 2).struct[0].str.strip_chars(SPACES)),
    "after": (1, lambda text, mark: text.str.split(mark).list.last().str.strip_chars(SPACES)),
    "question": (0, _question),
    "sentence": (0, _sentence),
}


def filtered(node: nodes.Filter, inner: Value) -> pl.Expr:
    """One filter on its inner value; of a block's filters, those before it first."""
    if isinstance(node.node, nodes.Filter) and _innermost(node) is None:
        inner = Value(filtered(node.node, inner), "text")
    wanted, function = _FILTERS.get(node.name, (-1, None))
    arguments = _texts_given(node)
    if function is None or inner.kind != "text" or len(arguments) != wanted or "" in arguments[:1]:
        raise Unfit
    return function(inner.expr, *arguments)


def _texts_given(node: nodes.Filter) -> list[str]:
    """A filter's arguments, where all of them are literal texts."""
    arguments = [argument.value for argument in node.args if isinstance(argument, nodes.Const)]
    named = node.kwargs or node.dyn_args or node.dyn_kwargs
    if named or len(arguments) < len(node.args) or not all(isinstance(argument, str) for argument in arguments):
        raise Unfit
    return arguments


def _innermost(node: nodes.Filter) -> nodes.Expr | None:
    """What a chain of filters is applied to; None in a block."""
    inner = node.node
    while isinstance(inner, nodes.Filter):
        inner = inner.node
    return inner
