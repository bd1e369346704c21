"""Template sets as polars expressions: the engine's bytes, a column at a time instead of a row.

    vector = compile_set(engine)                     None where something in the set needs Python row by row
    vector.render(ids, fields, "one")                the rows it was sure of, rendered, with their places in ``row``

Sets compile that have no choices or fixed ones, at most five, and no ``references``. Of them the templates that are made of
literals, roles, ``answer`` and ``options``, with conditions on them. Columns compile that are named by a path, also through
``default`` and the filters of expressions.py, and labels through ``label_index``; where one of a set does not, all of them
come from the engine row by row, and the texts are still put together by column. A row is taken only where its columns hold
what the set expects: text where text is printed, a known label. Every other row is the engine's, which renders it or says
why not, so nothing is decided twice.

Cost: two to three microseconds a row, a third of it for hashing the id; about eight where columns need Python.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import polars as pl

from curate.contract import columns
from curate.contract.draws import draws, pairs
from curate.render.expressions import SPACES, Names, Unfit, Value, text
from curate.render.layouts import MOST_CHOICES, Layouts
from curate.render.list_columns import conversations_of, gather, interleaved
from curate.render.readers import ByColumn, ByRow, conditions
from curate.rows.table import MESSAGES_TYPE
from curate.template.engine import Engine, by_rule, place
from curate.template.options import without_options
from curate.template.sets import Template, TemplateSet

_TEXTS = pl.List(pl.String)


def compile_set(engine: Engine) -> Vector | None:
    """The set of an engine as expressions, or None: then every row is the engine's."""
    given = engine.set
    if given.messages or given.references or isinstance(given.choices, str) or not given.templates:
        return None
    if given.choices and len(given.choices) > MOST_CHOICES:
        return None
    try:
        return _compiled(engine)
    except Unfit:
        return None


def _compiled(engine: Engine) -> Vector:
    try:
        reader: ByColumn | ByRow = ByColumn.of(engine.set)
    except Unfit:
        reader = ByRow.of(engine)
    phrasings = [_Phrasing.of(template, engine.set, reader.names) for template in engine.set.templates]
    printed = [phrasing.reads for phrasing in phrasings if phrasing.texts]
    if not printed:
        raise Unfit
    if isinstance(reader, ByRow):
        if 2 * len(printed) < len(phrasings):
            raise Unfit  # to read most rows twice costs more than it saves
        reader = replace(reader, needed=frozenset().union(*printed) & reader.names.keys())
    return Vector(engine, reader, phrasings, conditions(engine.set))


@dataclass(frozen=True)
class Vector:
    """A template set over columns. Made by ``compile_set``."""

    engine: Engine
    reader: ByColumn | ByRow
    phrasings: list[_Phrasing]
    conditions: list[str]
    layouts: Layouts = field(default_factory=Layouts)

    def render(self, ids: pl.Series, fields: pl.Series, which: str) -> pl.DataFrame:
        """ids, fields (n,): String. which: "one" drawn by the id, or a template's name. Gives the rows that it was sure of,
        in their order: ``row`` (place among the given ones, UInt32) and the fields of ``Rendered``."""
        table = self.reader.read(pl.DataFrame([ids.alias("id"), fields.alias(columns.FIELDS)]).with_row_index("row"))
        table = table.with_columns(self._drawn(table, which)).filter(pl.col("template") >= 0)
        table = table.with_columns(self._shown(table))
        parts = [
            self.phrasings[number].render(part, bool(shown), self.layouts)
            for (number, shown), part in table.partition_by("template", "shown", as_dict=True).items()
        ]
        if not parts:
            return _EMPTY
        width = max(len(part.columns) for part in parts)
        whole = pl.concat(parts, how="diagonal" if any(len(part.columns) < width for part in parts) else "vertical")
        return self._finished(whole.sort("row"))

    def _drawn(self, table: pl.DataFrame, which: str) -> list[pl.Series]:
        """``template``: the number of each row's, -1 where it is the engine's to say; ``number``: the draw of the options."""
        ids = table["id"].to_list()
        for_template, for_options = pairs(self.engine.seed, "render", ids)
        holding = np.zeros(table.height, dtype=np.int64)  # a bit for each condition that holds
        for bit in range(len(self.conditions)):
            holding |= table[f"when {bit}"].to_numpy().astype(np.int64) << bit
        turned = np.zeros(table.height, dtype=bool)
        if which == "one" and self.engine.inversions > 0:
            turned = self.engine.turned_around(draws(self.engine.seed, "render.inversions", ids))
        chosen = np.full(table.height, -1, dtype=np.int32)
        for bits in np.unique(holding):
            rows = np.flatnonzero(holding == bits)
            if which == "one":
                chosen[rows] = self._lots(int(bits), for_template[rows], turned[rows])
            else:
                chosen[rows] = self._named(int(bits), which)
        can = np.asarray([phrasing.texts is not None for phrasing in self.phrasings] + [False])
        return [pl.Series("template", np.where(can[chosen], chosen, -1)), pl.Series("number", for_options)]

    def _lots(self, bits: int, numbers: np.ndarray, turned: np.ndarray) -> np.ndarray:
        """The templates that the engine draws for rows where these conditions hold; -1 for one derived by rule, and for none."""
        lot = self.engine.lot(self._holds(bits))
        chosen = np.full(len(numbers), -1, dtype=np.int32)
        if lot.ends:
            group = np.searchsorted(np.asarray(lot.ends), numbers >> np.uint64(32), side="right")
            sizes = np.asarray([len(some) for some in lot.groups], dtype=np.uint64)
            starts = np.cumsum(sizes) - sizes
            members = np.asarray([i for some in lot.groups for i in some], dtype=np.int32)
            chosen = members[starts[group] + place(numbers, sizes[group])]
        if lot.inverted:
            by_hand = np.asarray(lot.inverted, dtype=np.int32)[place(numbers, np.uint64(len(lot.inverted)))]
            return np.where(turned, np.where(by_rule(numbers), -1, by_hand), chosen)
        return np.where(turned, -1, chosen)

    def _named(self, bits: int, name: str) -> int:
        true = {None, *(when for when, yes in zip(self.conditions, self._holds(bits), strict=True) if yes)}
        applying = (i for i, phrasing in enumerate(self.phrasings) if phrasing.template.when in true)
        return next((i for i in applying if self.phrasings[i].template.name == name), -1)

    def _holds(self, bits: int) -> tuple[bool, ...]:
        return tuple(bool(bits >> bit & 1) for bit in range(len(self.conditions)))

    def _shown(self, table: pl.DataFrame) -> pl.Series:
        """``shown``: whether the row's template shows options to it."""
        shows = np.asarray([phrasing.shows for phrasing in self.phrasings])[table["template"].to_numpy()]
        if self.engine.no_options > 0:
            shows &= ~self.engine.hidden(draws(self.engine.seed, "render.no_options", table["id"].to_list()))
        return pl.Series("shown", shows)

    def _finished(self, table: pl.DataFrame) -> pl.DataFrame:
        """row and the fields of ``Rendered``, from what the phrasings give."""
        number = table["template"].to_numpy()
        templates = [phrasing.template for phrasing in self.phrasings]
        contents = [table[f"message {i}"] for i in range(sum(name.startswith("message ") for name in table.columns))]
        last = np.asarray([len(template.messages) - 1 for template in templates])[number]
        roles = [[role for role, _ in template.messages] for template in templates]
        return pl.DataFrame(
            [
                table["row"],
                pl.Series([template.name for template in templates]).gather(number).alias("template"),
                pl.Series([template.kind for template in templates]).gather(number).alias("kind"),
                self.layouts.tables.styles.gather(table["layout"]).alias("options_style"),
                table["choices"],
                table["place"].alias("answer"),
                gather(contents, last).reshape((-1, 1)).arr.to_list().alias("references"),
                conversations_of(roles, number, contents),
                pl.repeat(0, table.height, dtype=pl.Int32, eager=True).alias("shots"),
            ]
        )


@dataclass(frozen=True)
class _Phrasing:
    """A template over the columns ``role …``, ``answer`` and ``block``. texts: its messages where options are shown, and where
    they are not; None where one of them needs Python. shows, asks, bare: as the engine's (curate/template/engine.py)."""

    template: Template
    choices: tuple[str, ...] | None
    shows: bool
    asks: bool
    bare: bool
    texts: dict[bool, list[pl.Expr]] | None

    @classmethod
    def of(cls, template: Template, template_set: TemplateSet, roles: Names) -> _Phrasing:
        assert not isinstance(template_set.choices, str)
        choices = template.choices or template_set.choices
        return cls(
            template,
            choices,
            shows="options" in template.input_reads,
            asks=bool(choices) and template.kind == "forward" and "answer" in template.target_reads,
            bare=template.target.replace(" ", "") == "{{answer}}",
            texts=_texts(template, {**roles, "answer": Value(pl.col("answer"), "text")} if choices else roles),
        )

    @property
    def reads(self) -> frozenset[str]:
        return self.template.input_reads | self.template.target_reads

    def render(self, part: pl.DataFrame, shown: bool, layouts: Layouts) -> pl.DataFrame:
        """row, template, layout, place, choices and the messages of one template's rows. Rows with an empty message are
        left to the engine."""
        assert self.texts is not None
        texts = [content.alias(f"message {i}") for i, content in enumerate(self.texts[shown])]
        if self.choices:
            layout, place, answer = layouts.of(self.choices, shown, part["number"].to_numpy(), part["label"].to_numpy())
            part = part.with_columns(layout, answer, place, layouts.tables.blocks.gather(layout).alias("block"))
        else:
            part = part.with_columns(layout=pl.lit(0, pl.UInt32), place=pl.lit(None, pl.Int32))
        names = [content.meta.output_name() for content in texts]
        done = part.with_columns(texts)
        done = done.filter(pl.all_horizontal(pl.col(name).str.strip_chars(SPACES) != "" for name in names))
        choices, place = pl.repeat(None, done.height, dtype=_TEXTS, eager=True), pl.lit(None, pl.Int32)
        if self.asks:
            choices, place = self._candidates(done, shown, layouts), pl.col("place")
        return done.select("row", "template", "layout", place.alias("place"), choices.alias("choices"), *names)

    def _candidates(self, done: pl.DataFrame, shown: bool, layouts: Layouts) -> pl.Series:
        """The target as it would be for each of the answers, in the order shown."""
        answers = layouts.tables.answers.gather(done["layout"])
        if self.bare:
            return answers
        assert self.texts is not None
        target = self.texts[shown][-1]
        each = [
            done.with_columns(answers.list.get(i).alias("answer")).select(target.alias("x")).to_series()
            for i in range(len(self.choices or ()))
        ]
        return interleaved(each)


def _texts(template: Template, names: Names) -> dict[bool, list[pl.Expr]] | None:
    shown, hidden = ({**names, "options": Value(block, "text")} for block in (pl.col("block"), pl.lit("")))
    try:
        return {
            True: [text(source, shown) for _, source in template.messages],
            False: [text(without_options(source), hidden) for _, source in template.messages],
        }
    except Unfit:
        return None


_EMPTY = pl.DataFrame(
    schema={
        "row": pl.UInt32, "template": pl.String, "kind": pl.String, "options_style": pl.String, "choices": _TEXTS,
        "answer": pl.Int32, "references": _TEXTS, "messages": MESSAGES_TYPE, "shots": pl.Int32,
    }
)  # fmt: skip
