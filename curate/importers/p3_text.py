"""The source of a template of P3 in our own Jinja: one text becomes two, the prompt's and the target's.

    text = Text.of("{% if a %}{{ a }} ||| {{ b.append(1) }}{% endif %}", names={}, keys=["a", "b"])
    for halves in text.halves(): halves.when, halves.input, halves.target

The words of the source stay as they are. In the braces: names that our engine takes for itself are renamed; ``choice`` and
``random`` become ``pick``, drawn by the columns that the template reads; calls of ``zip``, ``range``, ``namespace`` and
``dict``, and methods that change a list or a mapping, become filters. The text is cut at its separator, inside of `if` as
well: each half keeps the conditions, and the target what is set before the cut and read after it.
Whether the halves say the same as the source is for the caller to prove.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from jinja2 import nodes

from curate.importers.promptsource import ENVIRONMENT, SEPARATOR, parsed
from curate.template import sandbox

_CHANGING = {"append": "put", "update": "put", "pop": "take"}
_ENDS = {"if": "endif", "for": "endfor", "set": "endset", "filter": "endfilter", "with": "endwith", "macro": "endmacro"}
_WORDS = frozenset(
    ["and", "or", "not", "in", "is", "if", "else", "true", "false", "none", "True", "False", "None", "loop"]
)


class NotConverted(Exception):
    """Why a template of P3 does not become one of ours."""


class Halves(NamedTuple):
    """when: a condition, an expression; None where there is none."""

    when: str | None
    input: str
    target: str


@dataclass(frozen=True)
class _Piece:
    """A stretch of the source: text, or one pair of braces. word: the first of a block. reads: every name in it. changes: the
    names that it sets or adds to."""

    source: str
    kind: str  # text, print, block
    word: str = ""
    reads: frozenset[str] = frozenset()
    changes: frozenset[str] = frozenset()
    test: str = ""  # what stands after `if`, `elif`
    sets: tuple[str, str] | None = None  # name and value of a plain `set`


@dataclass(frozen=True)
class _Block:
    """What stands from `if` to `endif`: the arms, each with the piece that opens it."""

    arms: tuple[tuple[_Piece, tuple[_Node, ...]], ...]
    end: _Piece

    @property
    def word(self) -> str:
        return self.arms[0][0].word

    @property
    def tests(self) -> list[str | None]:
        return [opening.test if opening.word in ("if", "elif") else None for opening, _ in self.arms]

    def pieces(self) -> Iterator[_Piece]:
        for opening, inner in self.arms:
            yield opening
            yield from _pieces(inner)
        yield self.end


_Node = _Piece | _Block
_Nodes = tuple[_Node, ...]


def _pieces(all: Iterable[_Node]) -> Iterator[_Piece]:
    for node in all:
        if isinstance(node, _Block):
            yield from node.pieces()
        else:
            yield node


def _joined(all: Iterable[_Node]) -> str:
    return "".join(piece.source for piece in _pieces(all))


@dataclass(frozen=True)
class Text:
    """A source, rewritten and taken apart. local: names that the source itself sets."""

    tree: _Nodes
    local: frozenset[str]
    values: dict[str, str] = field(default_factory=dict)  # of names that are set once, outside of blocks

    @classmethod
    def of(cls, source: str, names: dict[str, str], keys: list[str]) -> Text:
        """names: what stands for a name of P3. keys: the columns by which is drawn. Raises NotConverted."""
        pieces = _Writer(names, keys).pieces(source)
        tree = _tree(list(pieces))
        local = frozenset().union(*(piece.changes for piece in pieces))
        single: dict[str, list[str]] = {}
        for piece in pieces:
            for name in piece.changes:
                single.setdefault(name, [])
            if piece.sets is not None:
                single[piece.sets[0]].append(piece.sets[1])
        outside = [node.sets[0] for node in tree if isinstance(node, _Piece) and node.sets is not None]
        changed = {name for piece in pieces if piece.sets is None for name in piece.changes}
        values = {name: v[0] for name, v in single.items() if len(v) == 1 and name in outside and name not in changed}
        return cls(tree, local, values)

    @property
    def source(self) -> str:
        return self._whole(self.tree)

    def halves(self) -> Iterator[Halves]:
        """The ways to cut it, the one with most told by `when` first. Raises NotConverted: there is no way."""
        count = sum(piece.source.count(SEPARATOR) for piece in _pieces(self.tree) if piece.kind == "text")
        if not count:
            raise NotConverted(f"it has no {SEPARATOR} between prompt and target")
        try:
            cut = _cut(self.tree, alone=True)
            when = None if cut.when is None else self.inlined(cut.when)
            if when is None or not sandbox.expression_reads(when) & self.local:
                yield self._halves(when, cut)
            if when is None:
                return
        except NotConverted:
            if count == 1:
                raise
        cut = _cut(self.tree, alone=False)
        when = None if cut.when is None else self.inlined(cut.when)
        if when is not None and not sandbox.expression_reads(when) & self.local:
            yield self._halves(when, cut)
        yield self._halves(None, cut)

    def _halves(self, when: str | None, cut: _Cut) -> Halves:
        return Halves(when, self._whole(cut.before), self._whole(cut.after))

    def _whole(self, all: _Nodes) -> str:
        """As source, in which a name that only some branches set is empty elsewhere."""
        source = _joined(all).strip()
        unset = sorted((sandbox.text_reads(source) & self.local) - self._columns)
        return "".join(f'{{% set {name} = "" %}}' for name in unset) + source

    @property
    def _columns(self) -> set[str]:
        """Names that are read before they are set: columns of the row, with a new value from there on."""
        found, done = set(), set()
        for piece in _pieces(self.tree):
            if piece.sets is not None:
                found |= set(sandbox.expression_reads(piece.sets[1])) - done
            else:
                found |= piece.reads - piece.changes - done
            done |= piece.changes
        return found

    def inlined(self, expression: str) -> str:
        """The expression, with the value of each name that is set once."""
        for _ in range(10):
            reads = sandbox.expression_reads(expression) & self.values.keys()
            if not reads or len(expression) > 2_000:
                return expression
            writer = _Writer({name: f"({self.values[name]})" for name in reads}, [])
            expression = writer.expression(expression)
        return expression


# --- in the braces ---------------------------------------------------------------------------------------------------

_Tokens = list[tuple[str, str]]  # type and text, of Jinja's lexer


@dataclass
class _Writer:
    """Rewrites what stands in braces. growing: names whose values the source changes in place."""

    names: dict[str, str]
    keys: list[str]
    growing: set[str] = field(default_factory=set)
    draws: int = 0
    loops: int = 0

    def pieces(self, source: str) -> list[_Piece]:
        parsed(source)
        tokens = [(kind, text) for _, kind, text in ENVIRONMENT.lexer.tokeniter(source, None)]
        if any(kind == "raw_begin" for kind, _ in tokens):
            raise NotConverted("it has a block `raw`")
        self.growing = _grown(tokens)
        pieces, inside, assigned = [], [], set()
        for kind, text in tokens:
            if kind == "data":
                pieces.append(_Piece(text, "text"))
            elif kind.startswith("comment"):
                continue
            else:
                inside.append((kind, text))
                if kind in ("variable_end", "block_end"):
                    pieces.append(self.piece(inside))
                    assigned |= pieces[-1].changes if pieces[-1].sets else set()
                    inside = []
        columns = sorted(self.growing - assigned)  # a column of the row that is changed: a copy of it
        copies = [self.piece(_lexed(f"{{% set {name} = {name} %}}")) for name in columns]
        return [*copies, *pieces]

    def piece(self, tokens: _Tokens) -> _Piece:
        opening, inner, closing = tokens[0][1], tokens[1:-1], tokens[-1][1]
        names = [text for kind, text in inner if kind == "name"]
        if tokens[0][0] == "variable_begin":
            source = self.written(inner)
            return _Piece(opening + source + closing, "print", "", *self.said(inner))
        word = names[0] if names else ""
        start = next(i for i, token in enumerate(inner) if token == ("name", word)) + 1
        if word == "set":
            return self.assignment(opening, inner[:start], inner[start:], closing)
        reads, changes = self.said(inner[start:])
        if word == "for":
            target = next(i for i, token in enumerate(inner) if token == ("name", "in"))
            changes |= {self.name(text) for kind, text in inner[start:target] if kind == "name"}
        rest = self.written(inner[start:])
        self.loops += (word == "for") - (word == "endfor")
        source = opening + "".join(text for _, text in inner[:start]) + rest + closing
        test = rest.strip() if word in ("if", "elif") else ""
        return _Piece(source, "block", word, reads, changes, test)

    def assignment(self, opening: str, head: _Tokens, rest: _Tokens, closing: str) -> _Piece:
        lead = "".join(text for _, text in head)
        equals = next((i for i, (kind, text) in enumerate(rest) if text == "=" and kind == "operator"), None)
        reads, changes = self.said(rest if equals is None else rest[equals:])
        if equals is None:  # {% set x %}…{% endset %}
            name = next(text for kind, text in rest if kind == "name")
            return _Piece(opening + lead + self.written(rest) + closing, "block", "set", reads, frozenset({name}))
        target, value = [t for t in rest[:equals] if t[0] != "whitespace"], rest[equals + 1 :]
        written = self.written(value).strip()
        if len(target) == 3 and target[1][1] == ".":  # of a namespace
            name = self.name(target[0][1])
            put = f'{opening}{lead} _ = {name} | put({{"{target[2][1]}": {written}}}) {closing}'
            return _Piece(put, "block", "put", reads | {name}, changes | {name, "_"})
        names = frozenset(self.name(text) for kind, text in target if kind == "name")
        if len(target) == 1 and target[0][1] in self.growing and not written.endswith("| growing)"):
            plain = len([t for t in value if t[0] != "whitespace"]) <= 2
            written = f"{written} | growing" if plain else f"({written}) | growing"
        left = "".join(self.name(text) if kind == "name" else text for kind, text in rest[:equals]).strip()
        sets = (left, written) if len(target) == 1 else None
        return _Piece(f"{opening}{lead} {left} = {written} {closing}", "block", "put", reads, changes | names, "", sets)

    def name(self, name: str) -> str:
        return self.names.get(name, name)

    def said(self, tokens: _Tokens) -> tuple[frozenset[str], frozenset[str]]:
        """(names read, names changed in place) of what stands in braces."""
        reads = {text for i, (kind, text) in enumerate(tokens) if kind == "name" and _is_name(tokens, i)}
        return frozenset(map(self.name, reads)), frozenset(map(self.name, _grown(tokens)))

    def expression(self, source: str) -> str:
        return self.written(_lexed("{{" + source + "}}")[1:-1])

    def written(self, tokens: _Tokens) -> str:
        out, i = [], 0
        while i < len(tokens):
            text, i = self.one(tokens, i)
            out.append(text)
        return "".join(out)

    def one(self, tokens: _Tokens, i: int) -> tuple[str, int]:
        """The token at a place, written our way, and the place after it."""
        kind, text = tokens[i]
        if text == "." and kind == "operator":
            method, call = _next(tokens, i), _next(tokens, _next(tokens, i))
            if tokens[method][1] in _CHANGING and call < len(tokens) and tokens[call][1] == "(":
                return self.change(tokens, method, call)
        if kind != "name":
            return text, i + 1
        before = _before(tokens, i)
        if before == "|" and text in ("choice", "random"):
            after = _next(tokens, i)
            if after < len(tokens) and tokens[after][1] == "(":
                i = _closing(tokens, after)
            self.draws += 1
            by = [str(self.draws), *(["loop.index"] if self.loops else []), *map(self.name, self.keys)]
            return f"pick({', '.join(by)})", i + 1
        if not _is_name(tokens, i):
            return text, i + 1
        call = _next(tokens, i)
        if text in ("zip", "range", "namespace", "dict") and call < len(tokens) and tokens[call][1] == "(":
            return self.call(text, tokens, call)
        return self.name(text), i + 1

    def change(self, tokens: _Tokens, method: int, call: int) -> tuple[str, int]:
        """`.append(x)` as ` | put(x)`."""
        end = _closing(tokens, call)
        after = _next(tokens, end)
        if after < len(tokens) and tokens[after][1] in (".", "[", "("):
            raise NotConverted(f"it goes on after `{tokens[method][1]}(…)`, which is a filter in ours")
        arguments = tokens[call + 1 : end]
        name, inner = _CHANGING[tokens[method][1]], self.written(arguments)
        if tokens[method][1] == "update" and _keywords(arguments):
            inner = self.pairs(arguments)
        return f" | {name}({inner})" if inner.strip() else f" | {name}", end + 1

    def call(self, name: str, tokens: _Tokens, call: int) -> tuple[str, int]:
        end = _closing(tokens, call)
        arguments = tokens[call + 1 : end]
        after = _next(tokens, end)
        if name in ("namespace", "dict"):
            written = self.pairs(arguments) + (" | growing" if name == "namespace" else "")
        else:
            parts = [self.written(part).strip() for part in _parts(arguments)]
            if not parts or any(part.startswith("*") for part in parts):
                raise NotConverted(f"`{name}` is called in a way that our filter has not")
            plain = all(kind in ("name", "integer", "whitespace") or text == "." for kind, text in _parts(arguments)[0])
            first = parts[0] if plain and "|" not in parts[0] else f"({parts[0]})"
            written = f"{first} | {name}" + (f"({', '.join(parts[1:])})" if parts[1:] else "")
        postfix = after < len(tokens) and tokens[after][1] in (".", "[", "(")
        return f"({written})" if postfix or name == "namespace" else written, end + 1

    def pairs(self, arguments: _Tokens) -> str:
        """`a=1, b=[]` as `{"a": 1, "b": []}`."""
        pairs = []
        for part in _parts(arguments):
            part = [token for token in part if token[0] != "whitespace" or part.index(token)]
            equals = _next(part, 0)
            if equals >= len(part) or part[0][0] != "name" or part[equals][1] != "=":
                raise NotConverted("`namespace` or `dict` is called with more than names and values")
            pairs.append(f"{json.dumps(part[0][1])}: {self.written(part[equals + 1 :]).strip()}")
        return "{" + ", ".join(pairs) + "}"


def _lexed(source: str) -> _Tokens:
    return [(kind, text) for _, kind, text in ENVIRONMENT.lexer.tokeniter(source, None)]


def _next(tokens: _Tokens, i: int) -> int:
    """The place of the next token that is no white space; the end where there is none."""
    i += 1
    while i < len(tokens) and tokens[i][0] == "whitespace":
        i += 1
    return i


def _before(tokens: _Tokens, i: int) -> str:
    return next((text for kind, text in reversed(tokens[:i]) if kind != "whitespace"), "")


def _is_name(tokens: _Tokens, i: int) -> bool:
    """Whether the name there is a variable: no attribute, filter, test, keyword or name of an argument."""
    if _before(tokens, i) in (".", "|", "is") or tokens[i][1] in _WORDS:
        return False
    after = _next(tokens, i)
    if after < len(tokens) and tokens[after] == ("operator", "="):
        return _before(tokens, i) not in ("(", ",")
    return not (_before(tokens, i) == "not" and "is" in [text for _, text in tokens[max(0, i - 4) : i]])


def _closing(tokens: _Tokens, opening: int) -> int:
    depth = 0
    for i in range(opening, len(tokens)):
        if tokens[i][0] == "operator":
            depth += (tokens[i][1] in "([{") - (tokens[i][1] in ")]}")
            if not depth:
                return i
    raise NotConverted("its brackets do not match")


def _parts(tokens: _Tokens) -> list[_Tokens]:
    """Arguments, cut at the commas between them."""
    parts: list[_Tokens] = [[]]
    depth = 0
    for kind, text in tokens:
        if kind == "operator":
            depth += (text in "([{") - (text in ")]}")
        if text == "," and not depth:
            parts.append([])
        else:
            parts[-1].append((kind, text))
    return [part for part in parts if any(kind != "whitespace" for kind, _ in part)]


def _keywords(arguments: _Tokens) -> bool:
    parts = _parts(arguments)
    return bool(parts) and all(("operator", "=") in part for part in parts)


def _grown(tokens: _Tokens) -> set[str]:
    """The names whose values are changed in place: `x` of `x.append(…)` and `x.y.update(…)`; of `set x.y = …` as well."""
    grown = set()
    for i, (kind, text) in enumerate(tokens):
        if kind == "name" and text in _CHANGING and _before(tokens, i) == "." and tokens[_next(tokens, i) : _next(tokens, i) + 1] == [("operator", "(")]:  # fmt: skip
            depth = 0
            for j in range(i - 1, -1, -1):
                inner, word = tokens[j]
                if inner == "operator" and word in ")]":
                    depth += 1
                elif inner == "operator" and word in "([":
                    depth -= 1
                    if depth < 0:
                        break
                elif not depth and inner == "name" and _before(tokens, j) != ".":
                    grown.add(word)
                    break
    return grown


# --- blocks ----------------------------------------------------------------------------------------------------------


def _tree(pieces: list[_Piece]) -> _Nodes:
    """Takes pieces from the front until they end."""
    stack: list[list[tuple[_Piece, list[_Node]]]] = []
    top: list[_Node] = []

    def here() -> list[_Node]:
        return stack[-1][-1][1] if stack else top

    for piece in pieces:
        if piece.kind == "block" and piece.word in _ENDS:
            stack.append([(piece, [])])
        elif piece.kind == "block" and piece.word in ("elif", "else"):
            stack[-1].append((piece, []))
        elif piece.kind == "block" and piece.word in _ENDS.values():
            arms = stack.pop()
            here().append(_Block(tuple((opening, tuple(inner)) for opening, inner in arms), piece))
        elif piece.kind == "block" and piece.word != "put":
            raise NotConverted(f"it has a block `{piece.word}`")
        else:
            here().append(piece)
    return tuple(top)


class _Cut(NamedTuple):
    """after: with what is set before the cut and read after it."""

    when: str | None
    before: _Nodes
    after: _Nodes


def _separates(node: _Node) -> bool:
    return any(piece.kind == "text" and SEPARATOR in piece.source for piece in _pieces([node]))


def _cut(all: _Nodes, alone: bool) -> _Cut:
    """alone: an `if` that separates in one arm only is told by `when`, and is not kept."""
    places = [i for i, node in enumerate(all) if _separates(node)]
    before: list[_Node] = list(all[: places[0]])
    apart = list(before)  # without what is cut in two
    after: list[_Node] = []
    conditions: list[str | None] = []
    for number, place in enumerate(places):
        if number:
            between = all[places[number - 1] + 1 : place]
            if any(piece.kind != "block" and piece.source.strip() for piece in _pieces(between)):
                raise NotConverted(f"{SEPARATOR} stands in it more than once")
            before += between
            apart += between
        cut = _cut_node(all[place], alone and len(places) == 1)
        before += cut.before
        after += cut.after
        conditions.append(cut.when)
    after += all[places[-1] + 1 :]
    when = (
        None
        if None in conditions
        else " or ".join(f"({one})" for one in conditions if len(conditions) > 1) or conditions[0]
    )
    return _Cut(when, tuple(before), (*_silent(tuple(apart), tuple(after)), *after))


def _cut_node(node: _Node, alone: bool) -> _Cut:
    if isinstance(node, _Piece):
        parts = node.source.split(SEPARATOR)
        if len(parts) > 2:
            raise NotConverted(f"{SEPARATOR} stands in it more than once")
        return _Cut(None, (replace(node, source=parts[0]),), (replace(node, source=parts[1]),))
    if node.word != "if":
        raise NotConverted(f"{SEPARATOR} stands inside a block `{node.word}`")
    separating = [i for i, (_, inner) in enumerate(node.arms) if any(map(_separates, inner))]
    if alone and len(separating) == 1:
        cut = _cut(node.arms[separating[0]][1], alone)
        return cut._replace(when=_both(_arm(node, separating[0]), cut.when))
    before, after, conditions, inside = [], [], [], False
    for i, (opening, inner) in enumerate(node.arms):
        if i in separating:
            cut = _cut(inner, alone=False)
            conditions.append(_both(_arm(node, i), cut.when))
            inside |= cut.when is not None
        else:
            cut = _Cut(None, inner, ())
        before.append((opening, cut.before))
        after.append((opening, cut.after))
    always = len(separating) == len(node.arms) and node.tests[-1] is None and not inside
    when = None if always else " or ".join(f"({condition})" for condition in conditions)
    return _Cut(when, (_Block(tuple(before), node.end),), (_Block(tuple(after), node.end),))


def _arm(block: _Block, number: int) -> str:
    """The condition for an arm to be taken."""
    tests = block.tests
    passed = [f"not ({test})" for test in tests[:number]]
    own = tests[number]
    if own is not None and not passed:
        return own
    return " and ".join([*passed, *([f"({own})"] if own is not None else [])])


def _both(one: str, other: str | None) -> str:
    return one if other is None else f"({one}) and ({other})"


def _silent(before: _Nodes, after: _Nodes) -> _Nodes:
    """What ``before`` sets and ``after`` reads, without what it prints."""
    needed = set().union(*(piece.reads for piece in _pieces(after)))
    while True:
        kept = [node for node in before if any(piece.changes & needed for piece in _pieces([node]))]
        more = needed.union(*(piece.reads for piece in _pieces(kept)))
        if more == needed:
            break
        needed = more
    return tuple(silent for node in kept if (silent := _silenced(node, needed)) is not None)


def _silenced(node: _Node, needed: set[str]) -> _Node | None:
    if isinstance(node, _Piece):
        return node if node.changes & needed else None
    if node.word != "if" and node.word != "for":
        return node if any(piece.changes & needed for piece in node.pieces()) else None
    arms = tuple(
        (opening, tuple(s for inside in inner if (s := _silenced(inside, needed)) is not None))
        for opening, inner in node.arms
    )
    kept = any(inner for _, inner in arms) or any(
        opening.word != "for" and opening.changes & needed for opening, _ in arms
    )
    return _Block(arms, node.end) if kept else None


def renamed(expression: str, names: dict[str, str], keys: list[str] | None = None) -> str:
    """An expression of P3 in our own words."""
    return _Writer(names, keys or []).expression(expression)


def columns(sources: Iterable[str]) -> list[str]:
    """The names of the row that sources of P3 read, in alphabetical order."""
    from jinja2 import meta

    names = set()
    for source in sources:
        tree = parsed(source)
        assigned = {n.name for n in tree.find_all(nodes.Name) if n.ctx == "store"}
        names |= meta.find_undeclared_variables(tree) - assigned
    return sorted(names - ENVIRONMENT.globals.keys() - {"answer_choices"})
