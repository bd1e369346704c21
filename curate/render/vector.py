"""Template sets as polars expressions: the engine's bytes, a column at a time instead of a row.

    vector = compile_set(engine)                     None where something in the set needs Python row by row
    found = vector.render(ids, fields, "one")        the rows it was sure of, rendered, with their places in ``row``

Sets compile that have no choices or fixed ones, at most five, and no ``references``. Of them the templates that are made of
literals, roles, ``answer`` and ``options``, with conditions on them. Columns compile that are named by a path, also through
``default`` and the filters of ``_FILTERS``, and labels through ``label_index``; where one of a set does not, all of them come
from the engine row by row, and the texts are still put together by column. A row is taken only where its columns hold what
the set expects: text where text is printed, a known label. Every other row is the engine's, which renders it or says why
not, so nothing is decided twice.

Cost: two to three microseconds a row, a third of it for hashing the id; about eight where columns need Python.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate
from math import factorial
from typing import Any

import numpy as np
import orjson
import polars as pl
import pyarrow as pa
from jinja2 import nodes

from curate.contract import columns
from curate.contract.draws import draws, pairs
from curate.rows.table import MESSAGES_TYPE
from curate.template import sandbox
from curate.template.cleanup import SENTENCE_ENDS
from curate.template.engine import Engine
from curate.template.options import fitting, lay_out, permutation, unshown, without_options
from curate.template.sets import Template

MOST_CHOICES = 5  # of more there are too many orders to lay them all out beforehand

_FIELDS = pl.col(columns.FIELDS)
_SPACES = "".join(
    chr(i) for i in range(0x3001) if chr(i).isspace()
)  # what str.split and str.strip take for white space
_SPACE = "[" + "".join(rf"\x{{{ord(c):x}}}" for c in _SPACES) + "]"
_TEXTS = pl.List(pl.String)


class _Unfit(Exception):
    """Something that only Python can do."""


@dataclass(frozen=True)
class _Value:
    """An expression and what it gives: "text" (String, not null), "index" (Int32, not null) or "truth" (Boolean)."""

    expr: pl.Expr
    kind: str


@dataclass(frozen=True)
class _Column:
    """A role, from ``fields``. sure: the value is there, is not null, and is of that kind and no other."""

    value: _Value
    sure: pl.Expr


Names = dict[str, _Value]


def compile_set(engine: Engine) -> Vector | None:
    """The set of an engine as expressions, or None: then every row is the engine's."""
    found = engine.set
    if found.messages or found.references or isinstance(found.choices, str) or not found.templates:
        return None
    if found.choices and len(found.choices) > MOST_CHOICES:
        return None
    try:
        return Vector(engine)
    except _Unfit:
        return None


class Vector:
    """A template set over columns. Made by ``compile_set``."""

    def __init__(self, engine: Engine):
        self.engine = engine
        try:
            self.reader: _ByColumn | _ByRow = _ByColumn(engine)
        except _Unfit:
            self.reader = _ByRow(engine)
        self.conditions = list(dict.fromkeys(template.when for template in engine.set.templates if template.when))
        self.layouts = _Layouts()
        self.phrasings = [_Phrasing(template, engine, self.reader.names) for template in engine.set.templates]
        read = [phrasing.reads for phrasing in self.phrasings if phrasing.texts]
        if not read or (isinstance(self.reader, _ByRow) and 2 * len(read) < len(self.phrasings)):
            raise _Unfit  # to read most rows twice costs more than it saves
        self.reader.needed = frozenset().union(*read) & self.reader.names.keys()

    def render(self, ids: pl.Series, fields: pl.Series, which: str) -> pl.DataFrame:
        """ids, fields (n,): String. which: "one" drawn by the id, or a template's name. Gives the rows that it was sure of,
        in their order: ``row`` (place among the given ones, UInt32) and the fields of ``Rendered``."""
        table = self.reader.read(pl.DataFrame([ids.alias("id"), fields.alias(columns.FIELDS)]).with_row_index("row"))
        table = table.with_columns(self._draw(table, which)).filter(pl.col("template") >= 0)
        table = table.with_columns(self._shown(table))
        parts = [
            self.phrasings[number].render(part, bool(shown), self.layouts)
            for (number, shown), part in table.partition_by("template", "shown", as_dict=True).items()
        ]
        if not parts:
            return _EMPTY
        width = max(len(part.columns) for part in parts)
        found = pl.concat(parts, how="diagonal" if any(len(part.columns) < width for part in parts) else "vertical")
        return self._finished(found.sort("row"))

    def _draw(self, table: pl.DataFrame, which: str) -> list[pl.Series]:
        """``template``: the number of each row's, -1 where it is the engine's to say; ``number``: the draw of the options."""
        for_template, for_options = pairs(self.engine.seed, "render", table["id"].to_list())
        keys = np.zeros(table.height, dtype=np.int64)
        for bit in range(len(self.conditions)):
            keys |= table[f"when {bit}"].to_numpy().astype(np.int64) << bit
        chosen = np.full(table.height, -1, dtype=np.int32)
        for key in np.unique(keys):
            true = {None, *(when for bit, when in enumerate(self.conditions) if key >> bit & 1)}
            fit = [i for i, phrasing in enumerate(self.phrasings) if phrasing.template.when in true]
            if which != "one":
                fit = [i for i in fit if self.phrasings[i].template.name == which]
            if fit:
                numbers = np.asarray([i if self.phrasings[i].texts else -1 for i in fit], dtype=np.int32)
                rows = keys == key
                chosen[rows] = numbers[(for_template[rows] % np.uint64(len(fit))).astype(np.int64)]
        return [pl.Series("template", chosen), pl.Series("number", for_options)]

    def _shown(self, table: pl.DataFrame) -> pl.Series:
        shows = np.asarray([phrasing.shows for phrasing in self.phrasings])[table["template"].to_numpy()]
        if self.engine.no_options > 0:
            shows &= ~self.engine.hidden(draws(self.engine.seed, "render.no_options", table["id"].to_list()))
        return pl.Series("shown", shows)

    def _finished(self, found: pl.DataFrame) -> pl.DataFrame:
        number = found["template"].to_numpy()
        templates = [phrasing.template for phrasing in self.phrasings]
        contents = [found[f"message {i}"] for i in range(sum(name.startswith("message ") for name in found.columns))]
        last = np.asarray([len(template.messages) - 1 for template in templates])[number]
        target = _gather(contents, last)
        return pl.DataFrame(
            [
                found["row"],
                pl.Series([template.name for template in templates]).gather(number).alias("template"),
                pl.Series([template.kind for template in templates]).gather(number).alias("kind"),
                self.layouts.styles.gather(found["layout"]).alias("options_style"),
                found["choices"],
                found["place"].alias("answer"),
                target.reshape((-1, 1)).arr.to_list().alias("references"),
                _conversations([[role for role, _ in template.messages] for template in templates], number, contents),
                pl.repeat(0, found.height, dtype=pl.Int32, eager=True).alias("shots"),
            ]
        )


class _ByColumn:
    """The roles of rows as expressions over ``fields``. names: the roles as columns of what ``read`` gives."""

    needed: frozenset[str] = frozenset()

    def __init__(self, engine: Engine):
        found = engine.set
        labels = {found.answer} if found.choices and found.answer else set()
        self.raws = _Raws()
        roles = {role: _column(source, role in labels, self.raws) for role, source in found.columns.items()}
        _schema(self.raws.paths)  # a path may not end where another goes on
        inside: Names = {role: column.value for role, column in roles.items()}
        sure = [pl.lit(True), *(column.sure for column in roles.values())]
        if found.when is not None:
            sure.append(_truth(_expression(found.when), inside))
        label = pl.lit(-1, pl.Int32)
        if isinstance(found.choices, tuple):
            right = inside.get(found.answer or "")
            if right is None:
                raise _Unfit
            label = right.expr if right.kind == "index" else _place(right.expr, found.choices)
            sure.append(label.is_between(0, len(found.choices) - 1))
        self.names: Names = {role: _Value(pl.col(f"role {role}"), value.kind) for role, value in inside.items()}
        if found.answer is not None and not found.choices:
            if self.names.get(found.answer, _Value(pl.lit(0), "index")).kind != "text":
                raise _Unfit
            self.names["answer"] = self.names[found.answer]
        self.values = [value.expr.alias(f"role {role}") for role, value in inside.items()]
        self.values += [label.alias("label"), pl.all_horizontal(*(one.fill_null(False) for one in sure)).alias("sure")]
        whens = dict.fromkeys(template.when for template in found.templates if template.when)
        self.when = [_truth(_expression(when), self.names).alias(f"when {i}") for i, when in enumerate(whens)]

    def read(self, table: pl.DataFrame) -> pl.DataFrame:
        """row, id, the roles, label and conditions of the rows that it is sure of."""
        table = _only(self.raws.read(table).select("row", "id", *self.values), "sure")
        return table.with_columns(self.when) if self.when else table


class _ByRow:
    """The same from the engine, row by row, where a column needs Python; the texts are still put together by column.

    A role is text, or a number where a template compares it with one; rows in which one that is needed is something else
    are the engine's.
    """

    needed: frozenset[str] = frozenset()

    def __init__(self, engine: Engine):
        self.engine, found = engine, engine.set
        numbers = {found.answer} if found.choices else set()
        for template in found.templates:
            for _, source in template.messages:
                for node in sandbox.ENVIRONMENT.parse(source).find_all(nodes.Compare):
                    if any(isinstance(one.expr, nodes.Const) and type(one.expr.value) is int for one in node.ops):
                        numbers |= {name.name for name in node.find_all(nodes.Name)}
        self.names: Names = {
            role: _Value(pl.col(f"role {role}"), "index" if role in numbers else "text") for role in found.columns
        }
        if found.answer is not None and not found.choices:
            self.names["answer"] = _Value(pl.col("role answer"), "text")
        self.conditions = len({template.when for template in found.templates if template.when})

    def read(self, table: pl.DataFrame) -> pl.DataFrame:
        kinds = [(role, str if self.names[role].kind == "text" else int) for role in sorted(self.needed)]
        values: dict[str, list[Any]] = {role: [] for role, _ in kinds}
        rows: list[int] = []
        labels: list[int] = []
        whens: list[tuple[bool, ...]] = []
        for row, text in enumerate(table[columns.FIELDS].to_list()):
            found = self.engine.typed(orjson.loads(text))
            if found is None:
                continue
            roles, label, when = found
            if all(roles[role].__class__ is kind for role, kind in kinds):
                rows.append(row)
                labels.append(label)
                whens.append(when)
                for role, kept in values.items():
                    kept.append(roles[role])
        types = {role: pl.String if kind is str else pl.Int64 for role, kind in kinds}
        given = [pl.Series(f"role {role}", kept, dtype=types[role], strict=True) for role, kept in values.items()]
        conditions = range(self.conditions)
        given += [pl.Series(f"when {i}", [when[i] for when in whens], dtype=pl.Boolean) for i in conditions]
        kept = table.select("row", "id")[rows]
        return kept.with_columns(*given, pl.Series("label", labels, dtype=pl.Int32))


class _Phrasing:
    """A template over the columns ``role …``, ``answer`` and ``block``. texts: its messages where options are shown, and where
    they are not; None where one of them needs Python."""

    def __init__(self, template: Template, engine: Engine, roles: Names):
        found = engine.set
        self.template = template
        self.reads = template.input_reads | template.target_reads
        assert not isinstance(found.choices, str)
        self.choices = template.choices or found.choices
        self.shows = "options" in template.input_reads
        self.asks = bool(self.choices) and template.kind == "forward" and "answer" in template.target_reads
        self.bare = template.target.replace(" ", "") == "{{answer}}"
        names = dict(roles)
        if self.choices:
            names["answer"] = _Value(pl.col("answer"), "text")
        shown, hidden = ({**names, "options": _Value(expr, "text")} for expr in (pl.col("block"), pl.lit("")))
        self.texts: dict[bool, list[pl.Expr]] | None = None
        try:
            self.texts = {
                True: [_text(source, shown) for _, source in template.messages],
                False: [_text(without_options(source), hidden) for _, source in template.messages],
            }
        except _Unfit:
            return

    def render(self, part: pl.DataFrame, shown: bool, layouts: _Layouts) -> pl.DataFrame:
        """row, template, layout, place, choices and the messages of one template's rows. Rows with an empty message are
        left to the engine."""
        assert self.texts is not None
        texts = [text.alias(f"message {i}") for i, text in enumerate(self.texts[shown])]
        if self.choices:
            layout, place, answer = layouts.of(self.choices, shown, part["number"].to_numpy(), part["label"].to_numpy())
            part = part.with_columns(layout, answer, place, layouts.blocks.gather(layout).alias("block"))
        else:
            part = part.with_columns(layout=pl.lit(0, pl.UInt32), place=pl.lit(None, pl.Int32))
        done = part.with_columns(texts)
        names = [text.meta.output_name() for text in texts]
        done = done.filter(pl.all_horizontal(pl.col(name).str.strip_chars(_SPACES) != "" for name in names))
        choices, place = pl.repeat(None, done.height, dtype=_TEXTS, eager=True), pl.lit(None, pl.Int32)
        if self.asks:
            choices, place = self._candidates(done, shown, layouts), pl.col("place")
        return done.select(
            "row", "template", "layout", place.alias("place"), choices.alias("choices"), *names
        )  # fmt: skip

    def _candidates(self, done: pl.DataFrame, shown: bool, layouts: _Layouts) -> pl.Series:
        """The target as it would be for each of the answers, in the order shown."""
        answers = layouts.answers.gather(done["layout"])
        if self.bare:
            return answers
        assert self.texts is not None
        target = self.texts[shown][-1]
        each = [
            done.with_columns(answers.list.get(i).alias("answer")).select(target.alias("x")).to_series()
            for i in range(len(self.choices or ()))
        ]
        return _interleaved(each)


class _Layouts:
    """Every way to show each list of choices, in one table: number 0 is of templates without choices."""

    def __init__(self) -> None:
        self.starts: dict[tuple[tuple[str, ...], bool], tuple[int, int]] = {}
        self.values: list[tuple[str, list[str], str | None]] = [("", [], None)]
        self.orders: list[tuple[int, ...]] = [()]
        self._tables()

    def of(
        self, choices: tuple[str, ...], shown: bool, number: np.ndarray, label: np.ndarray
    ) -> tuple[pl.Series, pl.Series, pl.Series]:
        """``layout`` (UInt32), ``place`` (Int32) of the right one and ``answer`` (its text in the target) for each row."""
        start, styles = self._start(choices, shown)
        code = np.full(len(number), start)
        if shown:
            style, rest = number % np.uint64(styles), number // np.uint64(styles)
            orders = factorial(len(choices))
            code = start + (style * np.uint64(orders) + rest % np.uint64(orders)).astype(np.int64)
        place = self.places[code, label]
        return (
            pl.Series("layout", code.astype(np.uint32)),
            pl.Series("place", place),
            self.flat.gather(code * MOST_CHOICES + place).alias("answer"),
        )

    def _start(self, choices: tuple[str, ...], shown: bool) -> tuple[int, int]:
        key = (choices, shown)
        if key not in self.starts:
            styles = fitting(choices)
            self.starts[key] = (len(self.values), len(styles))
            orders = [permutation(len(choices), i) for i in range(factorial(len(choices)))]
            laid = [lay_out(choices, style, order) for style in styles for order in orders]
            for one in laid if shown else [unshown(choices)]:
                self.values.append((one.block, list(one.answers), one.style))
                self.orders.append(one.order)
            self._tables()
        return self.starts[key]

    def _tables(self) -> None:
        blocks, answers, styles = zip(*self.values, strict=True)
        self.blocks = pl.Series(blocks, dtype=pl.String)
        self.answers = pl.Series(answers, dtype=_TEXTS)
        self.styles = pl.Series(styles, dtype=pl.String)
        padded = [[*texts, *[None] * (MOST_CHOICES - len(texts))] for texts in answers]
        self.flat = pl.Series([text for texts in padded for text in texts], dtype=pl.String)
        self.places = np.full((len(self.values), MOST_CHOICES), 0, dtype=np.int32)
        for code, order in enumerate(self.orders):
            for place, label in enumerate(order):
                self.places[code, label] = place


# --- columns -----------------------------------------------------------------------------------------------------------


def _column(source: str, label: bool, raws: _Raws) -> _Column:
    """A role's source as expressions over ``fields``. label: it numbers the choices, so a bare path may hold numbers."""
    node = _expression(source)
    if label and (path := _path(node)):
        raw = raws.of(path)
        number = raw.text.str.to_integer(dtype=pl.Int32, strict=False)
        return _Column(_Value(number, "index"), raw.number & number.is_not_null())
    if isinstance(node, nodes.Filter) and node.name == "label_index" and node.node is not None:
        names = [argument.value if isinstance(argument, nodes.Const) else None for argument in node.args]
        path = _path(node.node)
        if path is None or node.kwargs or not all(isinstance(name, str) for name in names):
            raise _Unfit
        return _label(raws.of(path), names)
    return _text_column(node, raws)


def _text_column(node: nodes.Node, raws: _Raws) -> _Column:
    if path := _path(node):
        raw = raws.of(path)
        return _Column(_Value(raw.text, "text"), raw.string)
    if not isinstance(node, nodes.Filter) or node.node is None:
        raise _Unfit
    if node.name not in ("default", "d"):
        inner = _text_column(node.node, raws)
        return _Column(_Value(_filter(node, inner.value), "text"), inner.sure)
    path = _path(node.node)
    if path is None or len(path) > 1 or not node.args or node.kwargs:
        raise _Unfit
    first, *rest = node.args
    if rest and not (isinstance(rest[0], nodes.Const) and rest[0].value is True):
        raise _Unfit
    return _default(raws.of(path), first, raws, also_null=bool(rest))


def _path(node: nodes.Node) -> list[str] | None:
    """``a.b`` as ["a", "b"]."""
    if isinstance(node, nodes.Name):
        return [node.name]
    if isinstance(node, nodes.Getattr) and (before := _path(node.node)):
        return [*before, node.attr]
    return None


@dataclass(frozen=True)
class _Raw:
    """A raw value, once ``_Raws.read`` has read the rows: ``text``, as text also where it is a number, and what it is."""

    text: pl.Expr
    missing: pl.Expr
    string: pl.Expr
    number: pl.Expr


class _Raws:
    """The raw values that a set needs, read out of the rows' JSON all at once.

    JSON is told by its bytes: a quotation mark inside a text is escaped, so ``"label":`` is a key wherever it stands, and the
    byte after it says what its value is. Each key must stand in a row once, so that it is the one that is meant.
    """

    def __init__(self) -> None:
        self.paths: list[tuple[str, ...]] = []

    def of(self, path: list[str]) -> _Raw:
        if not all(re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) for name in path):
            raise _Unfit
        if tuple(path) not in self.paths:
            self.paths.append(tuple(path))
        name = ".".join(path)
        return _Raw(*(pl.col(f"{what} {name}") for what in ("text", "missing", "string", "number")))

    def read(self, table: pl.DataFrame) -> pl.DataFrame:
        """The rows whose values can be told, without ``fields``, with the columns that ``_Raw`` names."""
        if not self.paths:
            return table.drop(columns.FIELDS)
        keys = sorted({name for path in self.paths for name in path})
        # one pass over the bytes for each: polars does not share what two expressions have in common here
        flags = [_FIELDS.str.contains(f'"{name}":', literal=True).alias(f"there {name}") for name in keys]
        flags.append(_FIELDS.str.count_matches('"(?:' + "|".join(keys) + ')":').alias("times"))
        known = [pl.col("times") == pl.sum_horizontal(f"there {name}" for name in keys)]
        missing = []
        for path in self.paths:
            name, key = ".".join(path), f'"{path[-1]}":'
            flags.append(_FIELDS.str.contains(key + "null", literal=True).alias(f"null {name}"))
            flags.append(_FIELDS.str.contains(key + '"', literal=True).alias(f"string {name}"))
            flags.append(_FIELDS.str.contains(key + "-?[0-9]+[,}]").alias(f"number {name}"))
            missing.append((~pl.col(f"there {path[0]}")).alias(f"missing {name}"))
            known.append(pl.any_horizontal(*(f"{what} {name}" for what in ("null", "string", "number")), missing[-1]))
        table = table.with_columns(flags).with_columns(*missing, known=pl.all_horizontal(known))
        table = _only(table, "known")
        found = table[columns.FIELDS].str.json_decode(_schema(self.paths))
        texts = []
        for path in self.paths:
            text = found
            for name in path:
                text = text.struct.field(name)
            texts.append(text.alias(f"text {'.'.join(path)}"))
        return table.drop(columns.FIELDS, "known").with_columns(texts)


def _only(table: pl.DataFrame, column: str) -> pl.DataFrame:
    """The rows where the column is true; no copy where all are."""
    return table if table[column].all() else table.filter(column)


def _schema(paths: list[tuple[str, ...]]) -> pl.Struct:
    firsts = dict.fromkeys(path[0] for path in paths)
    rests = {first: [path[1:] for path in paths if path[0] == first] for first in firsts}
    if any(len(rest) > 1 and () in rest for rest in rests.values()):
        raise _Unfit
    return pl.Struct({first: pl.String if rest == [()] else _schema(rest) for first, rest in rests.items()})


def _label(raw: _Raw, names: list[Any]) -> _Column:
    """``label_index``: a name, or a number in digits."""
    digits = {str(number): number for number in range(len(names))}
    words = digits | {name: number for number, name in reversed([*enumerate(names)])}
    found = (
        pl.when(raw.string)
        .then(raw.text.replace_strict(words, default=None, return_dtype=pl.Int32))
        .when(raw.number)
        .then(raw.text.replace_strict(digits, default=None, return_dtype=pl.Int32))
    )
    return _Column(_Value(found, "index"), found.is_not_null())


def _default(raw: _Raw, fallback: nodes.Expr, raws: _Raws, *, also_null: bool) -> _Column:
    """``a | default(b)``: b where the row has no a; with ``true`` also where it is empty or null, else a null is the engine's."""
    if isinstance(fallback, nodes.Const) and isinstance(fallback.value, str):
        other = _Column(_Value(pl.lit(fallback.value), "text"), pl.lit(True))
    else:
        other = _text_column(fallback, raws)
    missing = raw.missing
    if also_null:
        missing |= raw.string & (raw.text == "")
    value = pl.when(missing).then(other.value.expr).otherwise(raw.text)
    return _Column(_Value(value, "text"), pl.when(missing).then(other.sure).otherwise(raw.string))


# --- texts and conditions ----------------------------------------------------------------------------------------------


def _text(source: str, names: Names) -> pl.Expr:
    return _body(sandbox.ENVIRONMENT.parse(source).body, names)


def _body(body: list[nodes.Node], names: Names) -> pl.Expr:
    pieces: list[pl.Expr] = []
    for node in body:
        if isinstance(node, nodes.Output):
            pieces += [
                pl.lit(piece.data) if isinstance(piece, nodes.TemplateData) else _string(piece, names)
                for piece in node.nodes
            ]
        elif isinstance(node, nodes.If):
            cases = [(node.test, node.body), *((case.test, case.body) for case in node.elif_)]
            chosen = _body(node.else_, names)
            for test, then in reversed(cases):
                chosen = pl.when(_truth(test, names)).then(_body(then, names)).otherwise(chosen)
            pieces.append(chosen)
        elif isinstance(node, nodes.FilterBlock):
            pieces.append(_filter(node.filter, _Value(_body(node.body, names), "text")))
        else:
            raise _Unfit
    return pl.concat_str(pieces) if pieces else pl.lit("")


def _string(node: nodes.Node, names: Names) -> pl.Expr:
    value = _value(node, names)
    if value.kind != "text":
        raise _Unfit
    return value.expr


def _value(node: nodes.Node, names: Names) -> _Value:
    if isinstance(node, nodes.Const) and isinstance(node.value, str):
        return _Value(pl.lit(node.value), "text")
    if isinstance(node, nodes.Const) and type(node.value) is int:
        return _Value(pl.lit(node.value), "index")
    if isinstance(node, nodes.Name) and node.name in names:
        return names[node.name]
    if isinstance(node, nodes.Filter) and node.node is not None:
        return _Value(_filter(node, _value(node.node, names)), "text")
    if isinstance(node, nodes.Concat):
        return _Value(pl.concat_str([_string(one, names) for one in node.nodes]), "text")
    if isinstance(node, nodes.CondExpr) and node.expr2 is not None:
        first, second = _value(node.expr1, names), _value(node.expr2, names)
        if first.kind == second.kind != "truth":
            return _Value(pl.when(_truth(node.test, names)).then(first.expr).otherwise(second.expr), first.kind)
    raise _Unfit


def _truth(node: nodes.Node, names: Names) -> pl.Expr:
    """A condition as Boolean. No role is null here, so that ``is none`` is known."""
    if isinstance(node, nodes.Not):
        return ~_truth(node.node, names)
    if isinstance(node, nodes.And):
        return _truth(node.left, names) & _truth(node.right, names)
    if isinstance(node, nodes.Or):
        return _truth(node.left, names) | _truth(node.right, names)
    if isinstance(node, nodes.Test) and node.name == "none" and isinstance(node.node, nodes.Name):
        _value(node.node, names)
        return pl.lit(False)
    if isinstance(node, nodes.Compare) and len(node.ops) == 1 and node.ops[0].op in _COMPARISONS:
        left, right = _value(node.expr, names), _value(node.ops[0].expr, names)
        if left.kind == right.kind and (left.kind == "index" or node.ops[0].op in ("eq", "ne")):
            return _COMPARISONS[node.ops[0].op](left.expr, right.expr)
        raise _Unfit
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


def _squeeze(text: pl.Expr) -> pl.Expr:
    return text.str.replace_all(f"{_SPACE}+", " ").str.strip_chars(" ")


def _without(text: pl.Expr, start: str, end: str) -> pl.Expr:
    return text.str.replace_all(f"(?s){re.escape(start)}.*?{re.escape(end)}", "")


def _capital(text: pl.Expr) -> pl.Expr:
    return pl.concat_str([text.str.slice(0, 1).str.to_uppercase(), text.str.slice(1)])


def _question(text: pl.Expr) -> pl.Expr:
    stripped = text.str.strip_chars(_SPACES).str.strip_chars_end("?").str.strip_chars_end(_SPACES)
    return _capital(pl.concat_str([stripped, pl.lit("?")]))


def _sentence(text: pl.Expr) -> pl.Expr:
    text = text.str.strip_chars(_SPACES)
    ended = text.str.slice(-1).is_in([*SENTENCE_ENDS])
    return _capital(pl.when(ended).then(text).otherwise(pl.concat_str([text, pl.lit(".")])))


_FILTERS: dict[str, tuple[int, Callable[..., pl.Expr]]] = {  # name: (arguments, all of them text, and what it does)
    "squeeze": (0, _squeeze),
    "trim": (0, lambda text: text.str.strip_chars(_SPACES)),
    "replace": (2, lambda text, old, new: text.str.replace_all(old, new, literal=True)),
    "without": (2, _without),
    "before": (1, lambda text, mark: text.str.splitn(mark, 2).struct[0].str.strip_chars(_SPACES)),
    "after": (1, lambda text, mark: text.str.split(mark).list.last().str.strip_chars(_SPACES)),
    "question": (0, _question),
    "sentence": (0, _sentence),
}


def _filter(node: nodes.Filter, inner: _Value) -> pl.Expr:
    """One filter on its inner value; of a block's filters, those before it first."""
    if isinstance(node.node, nodes.Filter) and _base(node) is None:
        inner = _Value(_filter(node.node, inner), "text")
    arguments = [argument.value for argument in node.args if isinstance(argument, nodes.Const)]
    wanted, function = _FILTERS.get(node.name, (-1, None))
    if (
        function is None
        or inner.kind != "text"
        or len(arguments) != len(node.args)
        or len(arguments) != wanted
        or not all(isinstance(argument, str) and argument for argument in arguments[:1])
        or not all(isinstance(argument, str) for argument in arguments)
        or node.kwargs
        or node.dyn_args
        or node.dyn_kwargs
    ):
        raise _Unfit
    return function(inner.expr, *arguments)


def _base(node: nodes.Filter) -> nodes.Expr | None:
    """What a chain of filters is applied to; None in a block."""
    inner = node.node
    while isinstance(inner, nodes.Filter):
        inner = inner.node
    return inner


def _expression(source: str) -> nodes.Expr:
    output = sandbox.ENVIRONMENT.parse("{{ " + source + " }}").body[0]
    assert isinstance(output, nodes.Output)
    return output.nodes[0]


def _place(text: pl.Expr, choices: tuple[str, ...]) -> pl.Expr:
    """The number of a choice from its text, or from its number in digits."""
    known = {str(number): number for number in range(len(choices))} | {text: i for i, text in enumerate(choices)}
    return text.replace_strict(known, default=None, return_dtype=pl.Int32)


# --- columns of lists --------------------------------------------------------------------------------------------------


def _gather(series: list[pl.Series], which: np.ndarray) -> pl.Series:
    """Of each row the value in the series that ``which`` (n,) names."""
    return pl.concat(series).gather(which * len(which) + np.arange(len(which)))


def _interleaved(series: list[pl.Series]) -> pl.Series:
    """Series of n texts each -> n lists."""
    n = len(series[0])
    order = np.arange(n * len(series)).reshape(len(series), n).T.ravel()
    return pl.concat(series).gather(order).reshape((-1, len(series))).arr.to_list()


def _conversations(roles: list[list[str]], template: np.ndarray, contents: list[pl.Series]) -> pl.Series:
    """Lists of {role, content}, through Arrow's offsets. roles: of each template; contents: first messages, second ones, …"""
    n = len(template)
    counts = np.asarray([len(names) for names in roles])[template]
    ends = np.concatenate([[0], np.cumsum(counts)])
    row = np.repeat(np.arange(n), counts)
    nth = np.arange(ends[-1]) - np.repeat(ends[:-1], counts)
    starts = np.asarray([0, *accumulate(map(len, roles))])[:-1]
    names = pl.Series([name for names in roles for name in names], dtype=pl.String)
    parts = [names.gather(starts[template][row] + nth), pl.concat(contents).gather(nth * n + row)]
    turns = pa.StructArray.from_arrays(
        [part.to_arrow(compat_level=pl.CompatLevel.oldest()) for part in parts], names=[columns.ROLE, columns.CONTENT]
    )
    lists = pa.LargeListArray.from_arrays(pa.array(ends, pa.int64()), turns)
    return pl.Series("messages", lists, dtype=MESSAGES_TYPE)


_EMPTY = pl.DataFrame(
    schema={
        "row": pl.UInt32, "template": pl.String, "kind": pl.String, "options_style": pl.String, "choices": _TEXTS,
        "answer": pl.Int32, "references": _TEXTS, "messages": MESSAGES_TYPE, "shots": pl.Int32,
    }
)  # fmt: skip
