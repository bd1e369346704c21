"""A template's text taken apart, for the rules that look at its words: literal text, what is printed, and blocks.

pieces("Q: {{ q }}{% if a %}!{% endif %}")
[Piece("text", "Q: "), Piece("print", "q"), Piece("block", "if a"), Piece("text", "!", guards=("if a",)), …]
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import NamedTuple

from jinja2 import nodes

from curate.template.sandbox import ENVIRONMENT
from curate.template.sets import Template

_BEGIN = {"variable_begin": "print", "block_begin": "block", "comment_begin": "comment"}
_END = {"variable_end", "block_end", "comment_end"}
_OPENING = re.compile(r"(if|for|filter|macro|call|set)\b")


class Piece(NamedTuple):
    """kind: text, print (an expression) or block (a statement). line: where it begins in the message, from 0. guards: the
    statements around it, the outermost first ("if options", "else of if options", "for x in list"); filters are none."""

    kind: str
    text: str
    line: int = 0
    guards: tuple[str, ...] = ()

    @property
    def only_with_options(self) -> bool:
        """Whether it is left out where no options are shown."""
        return any(
            re.search(r"\b(if|elif)\b.*\boptions\b", guard) and guard.startswith("else of ") == (" not " in guard)
            for guard in self.guards
        )


@lru_cache(maxsize=8192)
def pieces(source: str) -> tuple[Piece, ...]:
    """The pieces of a text in their order. Comments are left out."""
    parts: list[Piece] = []
    guards: list[str] = []
    kind, inside, start, line = "", "", 0, 0
    for _, token, value in ENVIRONMENT.lex(source):
        if token in _BEGIN:
            kind, inside, start = _BEGIN[token], "", line
        elif token in _END:
            text = inside.strip(" \t\n+-")
            if kind == "block":
                _enter_or_leave(text, guards)
            if kind != "comment":
                parts.append(Piece(kind, text, start, _guarding(guards)))
            kind = ""
        elif kind:
            inside += value
        elif token == "data":
            parts.append(Piece("text", value, line, _guarding(guards)))
        line += value.count("\n")
    return tuple(parts)


def _guarding(guards: list[str]) -> tuple[str, ...]:
    return tuple(guard for guard in guards if not guard.startswith("filter"))


def _enter_or_leave(statement: str, guards: list[str]) -> None:
    if statement.startswith("end"):
        guards[-1:] = []
    elif statement.startswith("elif"):
        guards[-1:] = [statement]
    elif statement == "else":
        guards[-1:] = [f"else of {guards[-1]}"] if guards else []
    elif _OPENING.match(statement) and not re.match(r"set\b[^=]*=", statement):
        guards.append(statement)


def literal(source: str, gap: str = "\x00") -> str:
    """The words that the template itself says; ``gap`` stands where a value is printed or a block begins or ends."""
    return "".join(piece.text if piece.kind == "text" else gap for piece in pieces(source))


def literals(template: Template, prompt_only: bool = False) -> Iterator[tuple[int, Piece]]:
    """The literal text of a template, piece by piece, with the number of its message."""
    messages = template.messages[:-1] if prompt_only else template.messages
    for number, (_, source) in enumerate(messages):
        for piece in pieces(source):
            if piece.kind == "text":
                yield number, piece


@lru_cache(maxsize=8192)
def whole_roles(source: str) -> frozenset[str]:
    """The names that the text prints whole and in any case: ``{{ x }}`` or ``{{ x | trim }}``, outside every block."""
    return frozenset(name for node in ENVIRONMENT.parse(source).body for name in _whole(node))


def _whole(node: nodes.Node) -> Iterable[str]:
    if isinstance(node, nodes.Name):
        yield node.name
    elif isinstance(node, nodes.Filter) and node.name in ("trim", "squeeze", "string") and node.node is not None:
        yield from _whole(node.node)
    elif isinstance(node, nodes.Output | nodes.Concat):
        for child in node.nodes:
            yield from _whole(child)
    elif isinstance(node, nodes.FilterBlock):
        for child in node.body:
            yield from _whole(child)


@lru_cache(maxsize=8192)
def constants(source: str) -> frozenset[str]:
    """Every text that stands in the source itself: its literal words and the strings within its expressions."""
    tree = ENVIRONMENT.parse(source)
    said = {node.value.strip() for node in tree.find_all(nodes.Const) if isinstance(node.value, str)}
    return frozenset(said | {node.data.strip() for node in tree.find_all(nodes.TemplateData)})


def four_grams(template: Template) -> frozenset[tuple[str, ...]]:
    """Word 4-grams of the literal text, none of which spans a place where the row's text goes."""
    runs = [
        re.findall(r"\w+", text.lower()) for _, source in template.messages for text in literal(source).split("\x00")
    ]
    return frozenset(tuple(run[i : i + 4]) for run in runs for i in range(len(run) - 3))
