"""Jinja as polars expressions: texts, values and conditions over roles that are columns, where both say the same.

    text("Q: {{ q }}", {"q": Value(pl.col("role q"), "text")})       the text of every row
    truth(expression("q == 'yes'"), names)                           a condition, Boolean

What has no counterpart in polars raises Unfit, and is then the engine's. So is a row where an expression gives null: there
Jinja finds an item that is not there. Filters on texts that polars has not, or has otherwise, are called on every value.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import polars as pl
from jinja2 import nodes

from curate.template import sandbox
from curate.template.cleanup import SENTENCE_ENDS

SPACES = "".join(chr(i) for i in range(0x3001) if chr(i).isspace())  # what str.split and str.strip take for white space
_SPACE = "[" + "".join(rf"\x{{{ord(c):x}}}" for c in SPACES) + "]"
_BLACK = _SPACE.replace("[", "[^", 1)
_AGE = unicodedata.unidata_version.removesuffix(".0")  # of Unicode that this Python knows; polars may know a later one
_WORD = rf"[[\p{{L}}\p{{N}}_]&&\p{{age={_AGE}}}]"  # what Python's \w takes


class Unfit(Exception):
    """Something that only Python can do."""


@dataclass(frozen=True)
class Value:
    """An expression and what it gives: "text" (String), "index" (a whole number), "truth" (Boolean), "texts" (a list of String),
    or "words", the list that ``split()`` makes of the text that the expression gives."""

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


def path_of(node: nodes.Node) -> str | None:
    """``a.b`` as "a.b", and None for all else."""
    if isinstance(node, nodes.Name):
        return node.name
    if isinstance(node, nodes.Getattr) and (before := path_of(node.node)):
        return f"{before}.{node.attr}"
    return None


def _body(body: list[nodes.Node], names: Names) -> pl.Expr:
    pieces = [piece for node in body for piece in _pieces(node, names)]
    return pl.concat_str(pieces) if pieces else pl.lit("")


def _pieces(node: nodes.Node, names: Names) -> list[pl.Expr]:
    if isinstance(node, nodes.Output):
        return [pl.lit(one.data) if isinstance(one, nodes.TemplateData) else _printed(one, names) for one in node.nodes]
    if isinstance(node, nodes.If):
        return [_branches(node, names)]
    if isinstance(node, nodes.FilterBlock):
        return [_block(node.filter, _body(node.body, names), names).expr]
    raise Unfit


def _branches(node: nodes.If, names: Names) -> pl.Expr:
    cases = [(node.test, node.body), *((case.test, case.body) for case in node.elif_)]
    chosen = _body(node.else_, names)
    for test, then in reversed(cases):
        chosen = _either(truth(test, names), _body(then, names), chosen)
    return chosen


def _block(node: nodes.Filter, inner: pl.Expr, names: Names) -> Value:
    """A block's chain of filters, those nearest to it first."""
    before = _block(node.node, inner, names) if isinstance(node.node, nodes.Filter) else Value(inner, "text")
    return filtered(node, before, names)


def _either(test: pl.Expr, then: pl.Expr, other: pl.Expr) -> pl.Expr:
    """then or other; null where the test is."""
    return pl.when(test).then(then).when(~test).then(other)


# --- values ----------------------------------------------------------------------------------------------------------


def _printed(node: nodes.Node, names: Names) -> pl.Expr:
    value_ = value(node, names)
    if value_.kind == "index":
        return value_.expr.cast(pl.String)
    return _of("text", value_)


def _of(kind: str, value: Value) -> pl.Expr:
    if value.kind != kind:
        raise Unfit
    return value.expr


def text_of(value: Value) -> pl.Expr:
    """Raises Unfit: it is no text."""
    return _of("text", value)


def _texts_in(node: nodes.Node, names: Names) -> list[pl.Expr]:
    """The items of ``[a, b]``, all of them texts."""
    if not isinstance(node, nodes.List | nodes.Tuple):
        raise Unfit
    return [_of("text", value(item, names)) for item in node.items]


def value(node: nodes.Node, names: Names) -> Value:
    """What an expression gives. Raises Unfit."""
    if (path := path_of(node)) in names:
        return names[path]
    if isinstance(node, nodes.Const) and isinstance(node.value, str):
        return Value(pl.lit(node.value), "text")
    if isinstance(node, nodes.Const) and type(node.value) is int:
        return Value(pl.lit(node.value), "index")
    if isinstance(node, nodes.Filter) and node.node is not None:
        return filtered(node, value(node.node, names), names)
    if isinstance(node, nodes.Concat):
        return Value(pl.concat_str([_printed(one, names) for one in node.nodes]), "text")
    if isinstance(node, nodes.CondExpr) and node.expr2 is not None:
        if (known := _is_text(node.test, names)) is not None:
            return value(node.expr1 if known else node.expr2, names)
        first, second = value(node.expr1, names), value(node.expr2, names)
        if first.kind == second.kind:
            return Value(_either(truth(node.test, names), first.expr, second.expr), first.kind)
    if isinstance(node, nodes.Or):
        first, second = value(node.left, names), value(node.right, names)
        if first.kind == second.kind:
            return Value(_either(_true(first), first.expr, second.expr), first.kind)
    if isinstance(node, nodes.Add | nodes.Sub):
        left, right = (_of("index", value(side, names)) for side in (node.left, node.right))
        return Value(left + right if isinstance(node, nodes.Add) else left - right, "index")
    if isinstance(node, nodes.Call) and isinstance(node.node, nodes.Getattr):
        return _called(node, node.node, names)
    if isinstance(node, nodes.Getitem):
        return _item(node, names)
    if isinstance(node, nodes.List) and node.items:
        return Value(pl.concat_list(_texts_in(node, names)), "texts")
    if isinstance(node, nodes.Compare | nodes.Test | nodes.Not):
        return Value(truth(node, names), "truth")
    raise Unfit


def _called(node: nodes.Call, method: nodes.Getattr, names: Names) -> Value:
    """A method of a text."""
    inner = _of("text", value(method.node, names))
    arguments = literals(node)
    if method.attr == "split" and not arguments:
        return Value(inner, "words")
    if method.attr == "lower" and not arguments:
        return Value(_called_on_each("lower", inner, []), "text")
    wanted, kind, function = _METHODS.get(method.attr, (-1, "", None))
    if function is None or len(arguments) != wanted or not all(isinstance(one, str) for one in arguments):
        raise Unfit
    if not arguments[0]:  # an empty text stands in every other, but polars counts it otherwise
        raise Unfit
    return Value(function(inner, *arguments), kind)


_METHODS: dict[str, tuple[int, str, Callable[..., pl.Expr]]] = {  # name: (how many texts it is given, what it gives)
    "count": (1, "index", lambda text, one: text.str.count_matches(one, literal=True).cast(pl.Int64)),
    "startswith": (1, "truth", lambda text, one: text.str.starts_with(one)),
    "endswith": (1, "truth", lambda text, one: text.str.ends_with(one)),
    "removeprefix": (1, "text", lambda text, one: text.str.strip_prefix(one)),
    "removesuffix": (1, "text", lambda text, one: text.str.strip_suffix(one)),
    "replace": (2, "text", lambda text, old, new: text.str.replace_all(old, new, literal=True)),
    "split": (1, "texts", lambda text, one: text.str.split(one)),
}


def _item(node: nodes.Getitem, names: Names) -> Value:
    """``list[number]`` of texts; of a text ``[:n]``, ``[n:]`` and ``[-1:]``."""
    if isinstance(node.arg, nodes.Slice):
        inner = _of("text", value(node.node, names))
        start, stop, step = (None if one is None else _number(one) for one in _slice(node.arg))
        if step is None and stop is None and start is not None and start >= -1:
            return Value(inner.str.slice(start), "text")
        if step is None and start is None and stop is not None and stop >= 0:
            return Value(inner.str.slice(0, stop), "text")
        raise Unfit
    index = _of("index", value(node.arg, names))
    if isinstance(node.node, nodes.List):
        chosen = pl.lit(None, pl.String)
        for number, item in enumerate(_texts_in(node.node, names)):
            chosen = pl.when(index == number).then(item).otherwise(chosen)
        return Value(chosen, "text")
    return Value(_of("texts", value(node.node, names)).list.get(index, null_on_oob=True), "text")


def _slice(node: nodes.Slice) -> tuple[nodes.Expr | None, ...]:
    return node.start, node.stop, node.step


def _number(node: nodes.Expr) -> int:
    negative = isinstance(node, nodes.Neg)
    number = node.node if isinstance(node, nodes.Neg) else node
    if not isinstance(number, nodes.Const) or type(number.value) is not int:
        raise Unfit
    return -number.value if negative else number.value


# --- conditions ------------------------------------------------------------------------------------------------------


def truth(node: nodes.Node, names: Names) -> pl.Expr:
    """A condition as Boolean. No role is null here, so that ``is none`` is known."""
    if isinstance(node, nodes.Not):
        return ~truth(node.node, names)
    if isinstance(node, nodes.Test) and (known := _is_text(node, names)) is not None:
        return pl.lit(known)
    if isinstance(node, nodes.And):  # the right side counts only where the left one holds, in Python too
        return _either(truth(node.left, names), truth(node.right, names), pl.lit(False))
    if isinstance(node, nodes.Or):
        return _either(truth(node.left, names), pl.lit(True), truth(node.right, names))
    if isinstance(node, nodes.Test):
        return _tested(node.name, value(node.node, names), node)
    if isinstance(node, nodes.Compare):
        sides = [node.expr, *(operand.expr for operand in node.ops)]
        holds = [_compared(one.op, sides[i], one.expr, names) for i, one in enumerate(node.ops)]
        for right in holds[1:]:
            holds[0] = _either(holds[0], right, pl.lit(False))
        return holds[0]
    return _true(value(node, names))


def _true(value: Value) -> pl.Expr:
    if value.kind == "truth":
        return value.expr
    return value.expr != "" if value.kind == "text" else _length(value) != 0


def _tested(name: str, value: Value, node: nodes.Test) -> pl.Expr:
    if name == "none" and path_of(node.node):
        return pl.lit(False)
    if name in ("odd", "even") and not node.args:
        return _of("index", value) % 2 == (name == "odd")
    raise Unfit


def _is_text(node: nodes.Node, names: Names) -> bool | None:
    """What ``role is string`` is; None: it is another condition."""
    if isinstance(node, nodes.Test) and node.name == "string" and path_of(node.node) in names:
        return names[path_of(node.node) or ""].kind == "text"
    return None


def _compared(operator: str, left: nodes.Expr, right: nodes.Expr, names: Names) -> pl.Expr:
    if operator == "notin":
        return ~_compared("in", left, right, names)
    one = value(left, names)
    if operator == "in":
        return _within(one, left, right, names)
    other = value(right, names)
    if operator not in _COMPARISONS or one.kind != other.kind or one.kind in ("texts", "words"):
        raise Unfit
    if one.kind != "index" and operator not in ("eq", "ne"):
        raise Unfit
    return _COMPARISONS[operator](one.expr, other.expr)


def _within(one: Value, left: nodes.Expr, right: nodes.Expr, names: Names) -> pl.Expr:
    """``x in [a, b]``, ``text in text``, ``text in list``, ``"word" in text.split()``."""
    if isinstance(right, nodes.List | nodes.Tuple):
        items = [_of(one.kind, value(item, names)) for item in right.items]
        if not items or one.kind not in ("text", "index"):
            raise Unfit
        return pl.any_horizontal(one.expr == item for item in items)
    other = value(right, names)
    if one.kind == "text" and other.kind == "text":
        return other.expr.str.contains(one.expr, literal=True)
    if other.kind == "words" and isinstance(left, nodes.Const) and re.fullmatch(r"[^\s]+", str(left.value)):
        return pl.concat_str([pl.lit(" "), _squeeze(other.expr), pl.lit(" ")]).str.contains(
            f" {left.value} ", literal=True
        )
    if one.kind == "text" and other.kind == "texts":
        return other.expr.list.contains(one.expr)
    raise Unfit


_COMPARISONS: dict[str, Callable[[pl.Expr, pl.Expr], pl.Expr]] = {
    "eq": lambda a, b: a == b,
    "ne": lambda a, b: a != b,
    "lt": lambda a, b: a < b,
    "lteq": lambda a, b: a <= b,
    "gt": lambda a, b: a > b,
    "gteq": lambda a, b: a >= b,
}


# --- filters ---------------------------------------------------------------------------------------------------------


def _length(value: Value) -> pl.Expr:
    if value.kind == "index":
        return value.expr
    if value.kind == "texts":
        return value.expr.list.len().cast(pl.Int64)
    length = value.expr.str.count_matches(f"{_BLACK}+") if value.kind == "words" else value.expr.str.len_chars()
    return length.cast(pl.Int64)


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


_FILTERS: dict[str, tuple[int, Callable[..., pl.Expr]]] = {  # name: (how many texts it is given, what it does)
    "squeeze": (0, _squeeze),
    "trim": (0, lambda text: text.str.strip_chars(SPACES)),
    "replace": (2, lambda text, old, new: text.str.replace_all(old, new, literal=True)),
    "without": (2, _without),
    "before": (1, lambda text, mark: text.str.splitn(mark, 2).struct[0].str.strip_chars(SPACES)),
    "after": (1, lambda text, mark: text.str.split(mark).list.last().str.strip_chars(SPACES)),
    "question": (0, _question),
    "sentence": (0, _sentence),
}
_CALLED = (
    "untokenized",
    "first_words",
    "last_words",
    "skip_words",
    "blank_if",
    "words",
    "lower",
    "upper",
    "capitalize",
)
_ITEMS = ("join", "first", "last", "map", "select", "list")


def filtered(node: nodes.Filter, inner: Value, names: Names) -> Value:
    """One filter on its inner value."""
    arguments = literals(node)
    if node.name in ("length", "count", "wordcount") and not arguments:
        if node.name == "wordcount":
            return Value(_of("text", inner).str.count_matches(f"{_WORD}+").cast(pl.Int64), "index")
        if inner.kind in ("text", "texts", "words"):
            return Value(_length(inner), "index")
    if node.name in ("first", "last") and inner.kind == "text" and not arguments:
        place = pl.when(inner.expr != "").then(
            pl.lit(0 if node.name == "first" else -1)
        )  # of an empty text there is none
        return Value(inner.expr.str.slice(place, 1), "text")
    if node.name in _ITEMS and inner.kind != "text":
        return _of_items(node.name, inner, arguments)
    text = _of("text", inner)
    if node.name == "trim" and len(arguments) == 1 and isinstance(arguments[0], str) and arguments[0]:
        return Value(text.str.strip_chars(arguments[0]), "text")
    if node.name in _CALLED:
        return Value(_called_on_each(node.name, text, arguments), "text")
    wanted, function = _FILTERS.get(node.name, (-1, None))
    if function is None or len(arguments) != wanted or not all(isinstance(one, str) for one in arguments):
        raise Unfit
    if "" in arguments[:1]:
        raise Unfit
    return Value(function(text, *arguments), "text")


def _of_items(name: str, inner: Value, arguments: list[Any]) -> Value:
    texts = _of("texts", inner)
    if name == "join" and len(arguments) < 2 and all(isinstance(one, str) for one in arguments):
        return Value(texts.list.join("".join(arguments)), "text")
    if name in ("first", "last") and not arguments:
        return Value(texts.list.get(0 if name == "first" else -1, null_on_oob=True), "text")
    if name == "list" and not arguments:
        return inner
    if name == "select" and not arguments:
        return Value(texts.list.eval(pl.element().filter(pl.element() != "")), "texts")
    if name == "map" and arguments:
        node = nodes.Filter(None, arguments[0], [nodes.Const(one) for one in arguments[1:]], [], None, None)
        return Value(texts.list.eval(_of("text", filtered(node, Value(pl.element(), "text"), {}))), "texts")
    raise Unfit


def _called_on_each(name: str, text: pl.Expr, arguments: list[Any]) -> pl.Expr:
    """The engine's own filter, on one value after the other."""
    function = sandbox.ENVIRONMENT.filters[name]

    def each(series: pl.Series) -> pl.Series:
        done = [None if one is None else function(one, *arguments) for one in series.to_list()]
        return pl.Series(series.name, done, dtype=pl.String)

    return text.map_batches(each, return_dtype=pl.String)


def literals(node: nodes.Filter | nodes.Call) -> list[Any]:
    """The arguments, where all of them are literal texts and whole numbers."""
    arguments = [argument.value for argument in node.args if isinstance(argument, nodes.Const)]
    named = node.kwargs or node.dyn_args or node.dyn_kwargs
    if named or len(arguments) < len(node.args) or not all(type(argument) in (str, int) for argument in arguments):
        raise Unfit
    return arguments
