"""A set's columns as polars expressions over ``fields``, the rows' raw columns as JSON text.

    raws = Raws()
    role = column("text | squeeze", label=False, raws=raws)
    raws.read(table).filter(role.sure).select(role.value.expr)

A role is sure where its value is there and is of the kind that the set expects. What only Python can do raises Unfit.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import orjson
import polars as pl
from jinja2 import nodes

from curate.contract import columns
from curate.render.expressions import Names, Unfit, Value, expression, filtered, literals, path_of, text_of, value

_FIELDS = pl.col(columns.FIELDS)
_KINDS = ("null", "string", "number")  # of a raw value, told by the byte after its key


@dataclass(frozen=True)
class Column:
    """A role, from ``fields``. sure: the value is there, is not null, and is of that kind and no other."""

    value: Value
    sure: pl.Expr


@dataclass(frozen=True)
class Raw:
    """A raw value, once ``Raws.read`` has read the rows: ``text``, as text also where it is a number, and what it is."""

    text: pl.Expr
    missing: pl.Expr
    string: pl.Expr
    number: pl.Expr


@dataclass(frozen=True)
class Raws:
    """The raw values that a set needs, read out of the rows' JSON all at once.

    JSON is told by its bytes: a quotation mark inside a text is escaped, so ``"label":`` is a key wherever it stands, and the
    byte after it says what its value is. Each key must stand in a row once, so that it is the one that is meant.
    """

    paths: list[tuple[str, ...]] = field(default_factory=list)

    def of(self, path: str) -> Raw:
        """path: names with points between them."""
        names = tuple(path.split("."))
        if not all(re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) for name in names):
            raise Unfit
        if names not in self.paths:
            self.paths.append(names)
        return Raw(*(pl.col(f"{what} {path}") for what in ("text", "missing", "string", "number")))

    def read(self, table: pl.DataFrame) -> pl.DataFrame:
        """The rows whose values can be told, without ``fields``, with the columns that ``Raw`` names."""
        if not self.paths:
            return table.drop(columns.FIELDS)
        table = only(self._told(table), "known")
        decoded = table[columns.FIELDS].str.json_decode(schema(self.paths))
        texts = [_at(decoded, path).alias(f"text {'.'.join(path)}") for path in self.paths]
        return table.drop(columns.FIELDS, "known").with_columns(texts)

    def _told(self, table: pl.DataFrame) -> pl.DataFrame:
        """With a flag for each key that is there and for what each value is. known: each key stands once, and each value is
        missing or of one of the kinds."""
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
            known.append(pl.any_horizontal(*(f"{kind} {name}" for kind in _KINDS), missing[-1]))
        return table.with_columns(flags).with_columns(*missing, known=pl.all_horizontal(known))


def only(table: pl.DataFrame, flag: str) -> pl.DataFrame:
    """The rows where a column is true; no copy where all are."""
    return table if table[flag].all() else table.filter(flag)


def schema(paths: list[tuple[str, ...]]) -> pl.Struct:
    """What to decode for these paths, texts at their ends. Raises Unfit: one ends where another goes on."""
    firsts = dict.fromkeys(path[0] for path in paths)
    rests = {first: [path[1:] for path in paths if path[0] == first] for first in firsts}
    if any(len(rest) > 1 and () in rest for rest in rests.values()):
        raise Unfit
    return pl.Struct({first: pl.String if rest == [()] else schema(rest) for first, rest in rests.items()})


def can_be_told(paths: list[tuple[str, ...]], fields: dict[str, Any]) -> bool:
    """Whether a row's values at these paths can be told by its bytes: each is a text, a whole number, null or missing, and no
    key stands in the row twice."""
    written = orjson.dumps(fields)
    for path in paths:
        value: Any = fields
        for name in path:
            value = value.get(name) if isinstance(value, dict) else value
            if written.count(b'"' + name.encode() + b'":') > 1:
                return False
        if not (value is None or value.__class__ in (str, int)):
            return False
    return True


def _at(decoded: pl.Series, path: tuple[str, ...]) -> pl.Series:
    for name in path:
        decoded = decoded.struct.field(name)
    return decoded


# --- roles -----------------------------------------------------------------------------------------------------------


def column(source: str, label: bool, raws: Raws) -> Column:
    """A role's source as expressions over ``fields``. label: it numbers the choices, so a bare path may hold numbers."""
    node = expression(source)
    if label and (path := path_of(node)):
        raw = raws.of(path)
        number = raw.text.str.to_integer(dtype=pl.Int32, strict=False)
        return Column(Value(number, "index"), raw.number & number.is_not_null())
    return _column(node, raws)


def _column(node: nodes.Node, raws: Raws) -> Column:
    if path := path_of(node):
        raw = raws.of(path)
        return Column(Value(raw.text, "text"), raw.string)
    if not isinstance(node, nodes.Filter) or node.node is None:
        return _computed(node, raws)
    if node.name == "label_index":
        return _label_index(node.node, literals(node), raws)
    if node.name in ("default", "d"):
        return _default(node, node.node, raws)
    inner = _column(node.node, raws)
    return Column(filtered(node, inner.value, {}), inner.sure)


def _computed(node: nodes.Node, raws: Raws) -> Column:
    """Any other expression, over columns that it reads as texts and labels."""
    columns_read: dict[str, Column] = {}
    node = _with_names(node, columns_read, raws)
    names: Names = {name: one.value for name, one in columns_read.items()}
    return Column(value(node, names), pl.all_horizontal(pl.lit(True), *(one.sure for one in columns_read.values())))


def _with_names(node: nodes.Node, found: dict[str, Column], raws: Raws) -> nodes.Node:
    """The tree with a name in place of each path, ``default`` and ``label_index`` in it; found: the columns by these names."""
    if path_of(node) or (isinstance(node, nodes.Filter) and node.name in ("default", "d", "label_index")):
        name = f"column {len(found)}"
        found[name] = _column(node, raws)
        return nodes.Name(name, "load")
    for part, inner in node.iter_fields():
        if isinstance(inner, nodes.Node) and not (isinstance(node, nodes.Call) and part == "node"):
            setattr(node, part, _with_names(inner, found, raws))
        elif isinstance(inner, list):
            setattr(node, part, [_with_names(one, found, raws) for one in inner])
    if isinstance(node, nodes.Call) and isinstance(node.node, nodes.Getattr):  # the last name is a method
        node.node.node = _with_names(node.node.node, found, raws)  # type: ignore[assignment]
    return node


def _label_index(node: nodes.Node, names: list[Any], raws: Raws) -> Column:
    """``label_index`` of a column that holds names, or numbers also in digits; of another where it is not there."""
    if not all(isinstance(name, str) for name in names):
        raise Unfit
    digits = {str(number): number for number in range(len(names))}
    words = digits | {name: number for number, name in reversed([*enumerate(names)])}
    while isinstance(node, nodes.Filter) and node.name == "string":  # it makes digits of a number
        node = node.node or node
    paths = [path_of(node)]
    if isinstance(node, nodes.Filter) and node.name == "default" and len(node.args) == 1 and node.node is not None:
        paths = [path_of(node.node), path_of(node.args[0])]
    number = pl.lit(None, pl.Int32)
    if all(paths):
        for raw in reversed([raws.of(path or "") for path in paths]):
            known = (
                pl.when(raw.string).then(_numbered(raw.text, words)).when(raw.number).then(_numbered(raw.text, digits))
            )
            number = pl.when(raw.missing).then(number).otherwise(known)
        return Column(Value(number, "index"), number.is_not_null())
    inner = _column(node, raws)
    number = _numbered(text_of(inner.value), words)
    return Column(Value(number, "index"), inner.sure & number.is_not_null())


def _numbered(text: pl.Expr, numbers: dict[str, int]) -> pl.Expr:
    return text.replace_strict(numbers, default=None, return_dtype=pl.Int32)


def _default(node: nodes.Filter, inner: nodes.Expr, raws: Raws) -> Column:
    """``a | default(b)``: b where the row has no a; with ``true`` also where it is empty or null, else a null is the engine's."""
    path = path_of(inner)
    if path is None or "." in path or not node.args or node.kwargs:
        raise Unfit
    fallback, *also_null = node.args
    if also_null and not (isinstance(also_null[0], nodes.Const) and also_null[0].value is True):
        raise Unfit
    raw = raws.of(path)
    if isinstance(fallback, nodes.Const) and isinstance(fallback.value, str):
        other = Column(Value(pl.lit(fallback.value), "text"), pl.lit(True))
    else:
        other = _column(fallback, raws)
        text_of(other.value)
    missing = raw.missing
    if also_null:
        missing |= raw.string & (raw.text == "")
    value = pl.when(missing).then(other.value.expr).otherwise(raw.text)
    return Column(Value(value, "text"), pl.when(missing).then(other.sure).otherwise(raw.string))
