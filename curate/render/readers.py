"""The roles of a set's rows as columns ``role …``, with ``label`` and the templates' conditions ``when …``.

Where polars can say every column of the set, it reads them (``ByColumn``); where one needs Python, the engine reads the rows
one by one (``ByRow``), and the texts are still put together by column. Rows that hold something else than the set expects
are left out; they are the engine's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import polars as pl
from jinja2 import nodes

from curate.contract import columns
from curate.render.expressions import Names, Unfit, Value, expression, truth
from curate.render.raw import Raws, column, only, schema
from curate.rows.fields import loads as fields_of
from curate.template import sandbox
from curate.template.engine import Engine
from curate.template.sets import TemplateSet


def conditions(template_set: TemplateSet) -> list[str]:
    """The different ``when`` of the templates, in their order; the engine counts them alike."""
    return list(dict.fromkeys(template.when for template in template_set.templates if template.when))


@dataclass(frozen=True)
class ByColumn:
    """Roles as expressions over ``fields``. names: the roles as columns of what ``read`` gives. values: the roles, ``label`` and
    ``sure``. when: the conditions."""

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
        inside: Names = {role: one.value for role, one in roles.items()}
        sure = [pl.lit(True), *(one.sure for one in roles.values())]
        if template_set.when is not None:
            sure.append(truth(expression(template_set.when), inside))
        label = pl.lit(-1, pl.Int32)
        if isinstance(template_set.choices, tuple):
            label = _label(inside.get(template_set.answer or ""), template_set.choices)
            sure.append(label.is_between(0, len(template_set.choices) - 1))
        names = _as_columns(inside, template_set)
        values = [value.expr.alias(f"role {role}") for role, value in inside.items()]
        values += [label.alias("label"), pl.all_horizontal(*(one.fill_null(False) for one in sure)).alias("sure")]
        whens = enumerate(conditions(template_set))
        return cls(raws, names, values, [truth(expression(when), names).alias(f"when {i}") for i, when in whens])

    def read(self, table: pl.DataFrame) -> pl.DataFrame:
        """row, id, the roles, label and conditions of the rows that it is sure of. table: row, id, fields."""
        table = only(self.raws.read(table).select("row", "id", *self.values), "sure")
        return table.with_columns(self.when) if self.when else table


def _label(right: Value | None, choices: tuple[str, ...]) -> pl.Expr:
    """The number of the right choice, from its number, its number in digits or its text."""
    if right is None:
        raise Unfit
    if right.kind == "index":
        return right.expr
    known = {str(number): number for number in range(len(choices))} | {text: i for i, text in enumerate(choices)}
    return right.expr.replace_strict(known, default=None, return_dtype=pl.Int32)


def _as_columns(roles: Names, template_set: TemplateSet) -> Names:
    """The roles once they are read, and ``answer`` where it is one of them that is no choice."""
    names = {role: Value(pl.col(f"role {role}"), value.kind) for role, value in roles.items()}
    if template_set.answer is not None and not template_set.choices:
        right = names.get(template_set.answer)
        if right is None or right.kind != "text":
            raise Unfit
        names["answer"] = right
    return names


@dataclass(frozen=True)
class ByRow:
    """The same from the engine, row by row. needed: the roles that some text prints.

    A role is text, or a number where a template compares it with one; rows in which one that is needed is something else
    are the engine's.
    """

    engine: Engine
    names: Names
    needed: frozenset[str] = frozenset()

    @classmethod
    def of(cls, engine: Engine) -> ByRow:
        numbers = _compared_with_numbers(engine.set) | ({engine.set.answer} if engine.set.choices else set())
        names: Names = {
            role: Value(pl.col(f"role {role}"), "index" if role in numbers else "text") for role in engine.set.columns
        }
        if engine.set.answer is not None and not engine.set.choices:
            names["answer"] = Value(pl.col("role answer"), "text")
        return cls(engine, names)

    def read(self, table: pl.DataFrame) -> pl.DataFrame:
        """As ``ByColumn.read``."""
        kinds = [(role, str if self.names[role].kind == "text" else int) for role in sorted(self.needed)]
        values: dict[str, list[Any]] = {role: [] for role, _ in kinds}
        rows: list[int] = []
        labels: list[int] = []
        whens: list[tuple[bool, ...]] = []
        for row, text in enumerate(table[columns.FIELDS].to_list()):
            typed = self.engine.typed(fields_of(text))
            if typed is None:
                continue
            roles, label, when = typed
            if all(roles[role].__class__ is kind for role, kind in kinds):
                rows.append(row)
                labels.append(label)
                whens.append(when)
                for role, kept in values.items():
                    kept.append(roles[role])
        types = {role: pl.String if kind is str else pl.Int64 for role, kind in kinds}
        given = [pl.Series(f"role {role}", kept, dtype=types[role], strict=True) for role, kept in values.items()]
        for i in range(len(conditions(self.engine.set))):
            given.append(pl.Series(f"when {i}", [when[i] for when in whens], dtype=pl.Boolean))
        return table.select("row", "id")[rows].with_columns(*given, pl.Series("label", labels, dtype=pl.Int32))


def _compared_with_numbers(template_set: TemplateSet) -> set[str | None]:
    """The names that some text of the templates compares with a number."""
    return {
        name.name
        for template in template_set.templates
        for _, source in template.messages
        for comparison in sandbox.ENVIRONMENT.parse(source).find_all(nodes.Compare)
        if any(isinstance(one.expr, nodes.Const) and type(one.expr.value) is int for one in comparison.ops)
        for name in comparison.find_all(nodes.Name)
    }
