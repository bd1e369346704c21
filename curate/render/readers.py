"""The roles of a set's rows as columns ``role …``, with ``label`` and the templates' conditions ``when …``.

Where polars can say every column of the set, it reads them (``ByColumn``); where one needs Python, the engine reads the rows
one by one (``ByRow``), and the texts are still put together by column. Rows that hold something else than the set expects
are left out; they are the engine's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import polars as pl

from curate.contract import columns
from curate.render.expressions import Names, Unfit, Value, expression, truth, value
from curate.render.layouts import can_be_shown
from curate.render.list_columns import texts
from curate.render.raw import Raws, can_be_told, column, only, schema
from curate.rows.fields import loads as fields_of
from curate.template.engine import Engine, Typed
from curate.template.sets import TemplateSet


def conditions(template_set: TemplateSet) -> list[str]:
    """The different ``when`` of the templates, in their order; the engine counts them alike."""
    return list(dict.fromkeys(template.when for template in template_set.templates if template.when))


@dataclass(frozen=True)
class ByColumn:
    """Roles as expressions over ``fields``. names: the roles as columns of what ``read`` gives. values: the roles, ``label``,
    ``own choices`` where rows bring them, and ``sure``. when: the conditions."""

    raws: Raws
    names: Names
    values: list[pl.Expr]
    when: list[pl.Expr]

    @classmethod
    def of(cls, template_set: TemplateSet) -> ByColumn:
        """Raises Unfit: a column, the answer or a condition needs Python."""
        raws = Raws()
        labels = {template_set.answer} if template_set.choices and template_set.answer else set()
        roles = {role: column(source, role in labels, raws) for role, source in template_set.columns.items()}
        schema(raws.paths)  # a path may not end where another goes on
        if not any(can_be_told(raws.paths, example) for example in template_set.examples):
            raise Unfit  # nor will the rows be like that
        inside: Names = {role: one.value for role, one in roles.items()}
        sure = [pl.lit(True), *(one.sure for one in roles.values())]
        if template_set.when is not None:
            sure.append(truth(expression(template_set.when), inside))
        if template_set.references is not None:
            raise Unfit
        label, values = pl.lit(-1, pl.Int32), []
        if template_set.choices:
            right = value(expression(template_set.answer or ""), inside)
            if isinstance(template_set.choices, tuple):
                label, many = _label(right, template_set.choices), pl.lit(len(template_set.choices))
            else:
                label, own = _of("index", right), _of("texts", value(expression(template_set.choices), inside))
                many = own.list.len()
                sure.append(can_be_shown(own))
                values.append(own.alias("own choices"))
            sure += [label >= 0, label < many]
        elif template_set.answer is not None:
            values.append(_of("text", value(expression(template_set.answer), inside)).alias("answer"))
        names: Names = {role: Value(pl.col(f"role {role}"), one.kind) for role, one in inside.items()}
        values += [one.expr.alias(f"role {role}") for role, one in inside.items()]
        values += [label.alias("label"), pl.all_horizontal(*(one.fill_null(False) for one in sure)).alias("sure")]
        whens = enumerate(conditions(template_set))
        return cls(raws, names, values, [truth(expression(when), names).alias(f"when {i}") for i, when in whens])

    def read(self, table: pl.DataFrame) -> pl.DataFrame:
        """row, id, the roles, label and conditions of the rows that it is sure of. table: row, id, fields."""
        table = only(self.raws.read(table).select("row", "id", *self.values), "sure")
        table = table.with_columns(self.when) if self.when else table
        return table.drop_nulls([f"when {i}" for i in range(len(self.when))]) if self.when else table


def _label(right: Value, choices: tuple[str, ...]) -> pl.Expr:
    """The number of the right choice, from its number, its number in digits or its text."""
    if right.kind == "index":
        return right.expr
    known = {str(number): number for number in range(len(choices))} | {text: i for i, text in enumerate(choices)}
    return _of("text", right).replace_strict(known, default=None, return_dtype=pl.Int32)


def _of(kind: str, value: Value) -> pl.Expr:
    if value.kind != kind:
        raise Unfit
    return value.expr


@dataclass(frozen=True)
class ByRow:
    """The same from the engine, row by row. names: with the kinds that the set's examples have. needed: the roles that some
    text prints, and the answer. Rows in which one of them is of another kind are the engine's."""

    engine: Engine
    names: Names
    needed: frozenset[str] = frozenset()

    @classmethod
    def of(cls, engine: Engine) -> ByRow:
        names: Names = {}
        typed = [one for one in map(engine.typed, engine.set.examples) if one is not None]
        for role in typed[0].roles if typed else ():
            kinds = {_kind(one.roles.get(role)) for one in typed}
            if len(kinds) == 1 and (kind := kinds.pop()) is not None:
                names[role] = Value(pl.col(f"role {role}"), kind)
        return cls(engine, names)

    def read(self, table: pl.DataFrame) -> pl.DataFrame:
        """As ``ByColumn.read``."""
        own = self.engine.set
        kinds = {role: self.names[role].kind for role in sorted(self.needed)}
        if answered := own.answer is not None and not own.choices:
            kinds["answer"] = "text"
        rows: list[int] = []
        taken: list[Typed] = []
        for row, text in enumerate(table[columns.FIELDS].to_list()):
            typed = self.engine.typed(fields_of(text))
            if typed is not None and all(_kind(typed.roles.get(role)) == kind for role, kind in kinds.items()):
                rows.append(row)
                taken.append(typed)
        given = [_column(f"role {role}", [one.roles[role] for one in taken], kind) for role, kind in kinds.items()]
        given.append(pl.Series("label", [one.label for one in taken], dtype=pl.Int32))
        for i in range(len(conditions(own))):
            given.append(pl.Series(f"when {i}", [one.when[i] for one in taken], dtype=pl.Boolean))
        if own.references is not None:
            given.append(texts("other answers", [one.references for one in taken]))
        if isinstance(own.choices, str):
            given.append(texts("own choices", [one.choices for one in taken]))
        table = table.select("row", "id")[rows].with_columns(given)
        if isinstance(own.choices, str):
            table = table.filter(can_be_shown(pl.col("own choices")))
        return table.rename({"role answer": "answer"}) if answered else table


_TYPES = {"text": pl.String, "index": pl.Int64, "truth": pl.Boolean}
_KINDS: dict[type, str] = {str: "text", int: "index", bool: "truth"}


def _kind(value: Any) -> str | None:
    """Of what kind a role is (see ``Value``); None: it is no column."""
    if value.__class__ is list:
        return "texts" if all(item.__class__ is str for item in value) else None
    return _KINDS.get(value.__class__)


def _column(name: str, values: list[Any], kind: str) -> pl.Series:
    return texts(name, values) if kind == "texts" else pl.Series(name, values, dtype=_TYPES[kind], strict=True)
