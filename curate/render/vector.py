"""Template sets as polars expressions: the engine's bytes, a column at a time instead of a row.

    vector = compile_set(engine)                     None where something in the set needs Python row by row
    vector.render(ids, fields, "one")                the rows it was sure of, rendered, with their places in ``row``

A template compiles that is made of literals, roles, ``answer`` and ``options``, of what expressions.py can say of them, and of
conditions on them; the others' rows are the engine's. Columns compile that raw.py can say. Where one of a set does not, all
of them come from the engine row by row, and the texts are still put together by column. Choices and other right answers may
be each row's own. A row is taken only where its columns hold what the set expects: text where text is printed, a known label.
Every other row is the engine's, which renders it or says why not, so nothing is decided twice.

Cost: two to three microseconds a row, a third of it for hashing the id; about eight where columns need Python, and seven more
where each row brings its choices.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import polars as pl

from curate.contract import columns
from curate.contract.draws import draws, pairs
from curate.render.expressions import SPACES, Names, Unfit, Value, text
from curate.render.layouts import own_choices, same_choices
from curate.render.list_columns import conversations_of, gather, lists_of
from curate.render.raw import only
from curate.render.readers import ByColumn, ByRow, conditions
from curate.rows.table import MESSAGES_TYPE
from curate.template.engine import Engine, by_rule, place
from curate.template.options import without_options
from curate.template.sets import Template, TemplateSet

_TEXTS = pl.List(pl.String)


def compile_set(engine: Engine) -> Vector | None:
    """The set of an engine as expressions, or None: then every row is the engine's."""
    if engine.set.messages or not engine.set.templates:
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
    printed = [phrasing.reads for phrasing in phrasings if phrasing.fits]
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

    def render(self, ids: pl.Series, fields: pl.Series, which: str) -> pl.DataFrame:
        """ids, fields (n,): String. which: "one" drawn by the id, or a template's name. Gives the rows that it was sure of,
        in their order: ``row`` (place among the given ones, UInt32) and the fields of ``Rendered``."""
        table = self.reader.read(pl.DataFrame([ids.alias("id"), fields.alias(columns.FIELDS)]).with_row_index("row"))
        table = table.with_columns(self._drawn(table, which)).filter(pl.col("template") >= 0)
        if not table.height:
            return _EMPTY
        table = table.with_columns(self._shown(table))
        table = table.hstack(self._laid_out(table))
        parts = [
            self.phrasings[number].render(part, bool(shown))
            for (number, shown), part in table.partition_by("template", "shown", as_dict=True).items()
        ]
        width = max(len(part.columns) for part in parts)
        whole = pl.concat(parts, how="diagonal" if any(len(part.columns) < width for part in parts) else "vertical")
        return self._finished(only(whole, "fit").sort("row"))

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
        can = np.asarray([phrasing.fits for phrasing in self.phrasings] + [False])
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

    def _laid_out(self, table: pl.DataFrame) -> pl.DataFrame:
        """The layout of each row's options (curate/render/layouts.py), as far as there are choices."""
        template, shown = table["template"].to_numpy(), table["shown"].to_numpy()
        lists = list(dict.fromkeys(phrasing.choices for phrasing in self.phrasings))
        which = np.asarray([lists.index(phrasing.choices) for phrasing in self.phrasings])[template] * 2 + shown
        number, label = table["number"].to_numpy(), table["label"].to_numpy()
        parts, places = [], []
        for one in np.unique(which):
            rows, choices = np.flatnonzero(which == one), lists[one // 2]
            if choices is not None:
                part = same_choices(choices, bool(one % 2), number[rows], label[rows])
            elif "own choices" in table.columns:
                part = own_choices(table["own choices"].gather(rows), bool(one % 2), number[rows], label[rows])
            else:
                part = _NO_LAYOUT.clear(len(rows))
            parts.append(part)
            places.append(rows)
        return parts[0] if len(parts) == 1 else pl.concat(parts)[np.argsort(np.concatenate(places))]

    def _finished(self, table: pl.DataFrame) -> pl.DataFrame:
        """row and the fields of ``Rendered``, from what the phrasings give."""
        number = table["template"].to_numpy()
        templates = [phrasing.template for phrasing in self.phrasings]
        contents = [table[f"message {i}"] for i in range(sum(name.startswith("message ") for name in table.columns))]
        if self.engine.set.references is None:
            last = np.asarray([len(template.messages) - 1 for template in templates])[number]
            references = gather(contents, last).reshape((-1, 1)).arr.to_list()
        else:
            references = table["references"]
        roles = [[role for role, _ in template.messages] for template in templates]
        return pl.DataFrame(
            [
                table["row"],
                pl.Series([template.name for template in templates]).gather(number).alias("template"),
                pl.Series([template.kind for template in templates]).gather(number).alias("kind"),
                table["options_style"],
                table["choices"],
                table["place"].alias("answer"),
                references.alias("references"),
                conversations_of(roles, number, contents),
                pl.Series("shots", np.zeros(table.height, dtype=np.int32)),
            ]
        )


@dataclass(frozen=True)
class _Phrasing:
    """A template over the columns ``role …``, ``answer`` and ``block``. choices: the set's or its own, None where each row
    brings them, or there are none. names: what it may print. shows, asks, bare: as the engine's (curate/template/engine.py).
    references: the set has other right answers."""

    template: Template
    choices: tuple[str, ...] | None
    names: Names
    shows: bool
    asks: bool
    bare: bool
    references: bool
    written: dict[bool, list[pl.Expr]] = field(default_factory=dict)

    @classmethod
    def of(cls, template: Template, template_set: TemplateSet, roles: Names) -> _Phrasing:
        return cls(
            template,
            choices=template.choices or template_set.choices if isinstance(template_set.choices, tuple) else None,
            names=roles if template_set.answer is None else {**roles, "answer": Value(pl.col("answer"), "text")},
            shows="options" in template.input_reads,
            asks=template.kind == "forward" and "answer" in template.target_reads,
            bare=template.target.replace(" ", "") == "{{answer}}",
            references=template_set.references is not None,
        )

    @property
    def reads(self) -> frozenset[str]:
        return self.template.input_reads | self.template.target_reads

    @cached_property
    def fits(self) -> bool:
        """Whether it can be said in polars; with options and without them it can be or not alike."""
        if self.template.choices and self.choices is None:
            return False
        try:
            return bool(self.texts(self.shows))
        except Unfit:
            return False

    def texts(self, shown: bool) -> list[pl.Expr]:
        """Its messages, where options are shown or where they are not."""
        if shown not in self.written:
            names = {**self.names, "options": Value(pl.col("block") if shown else pl.lit(""), "text")}
            sources = (source if shown else without_options(source) for _, source in self.template.messages)
            self.written[shown] = [text(source, names) for source in sources]
        return self.written[shown]

    def render(self, part: pl.DataFrame, shown: bool) -> pl.DataFrame:
        """row, template, options_style, place, choices and the messages of one template's rows. fit: whether all messages
        say something; the other rows are the engine's."""
        contents = self.texts(shown)
        done = part.select(
            "row",
            "template",
            "options_style",
            pl.col("place") if self.asks else pl.lit(None, pl.Int32).alias("place"),
            pl.all_horizontal(content.str.strip_chars(SPACES) != "" for content in contents)
            .fill_null(False)
            .alias("fit"),
            *(content.alias(f"message {i}") for i, content in enumerate(contents)),
            (pl.col("answers") if self.asks and self.bare else pl.lit(None, _TEXTS)).alias("choices"),
        )
        if self.asks and not self.bare and part["answers"].null_count() == 0:
            done = done.with_columns(self._targets(part, part["answers"], contents[-1]).alias("choices"))
        if self.references:
            done = done.with_columns(self._references(part, contents[-1], done[f"message {len(contents) - 1}"]))
        return done

    def _targets(self, part: pl.DataFrame, answers: pl.Series, target: pl.Expr) -> pl.Series:
        """The target as it would be for each of the answers of each row. answers: List(String)."""
        counts = answers.list.len().to_numpy()
        each = part[np.repeat(np.arange(part.height), counts)].with_columns(
            answers.filter(counts > 0).explode().alias("answer")
        )
        return lists_of(each.select(target.alias("x")).to_series(), np.concatenate([[0], np.cumsum(counts)]))

    def _references(self, part: pl.DataFrame, target: pl.Expr, content: pl.Series) -> pl.Series:
        """Every right target, each once, that of the row first."""
        first = content.reshape((-1, 1)).arr.to_list()
        if not self.asks:
            return first.alias("references")
        others = part["other answers"]
        others = others if self.bare else self._targets(part, others, target)
        return pl.select(pl.concat_list(first, others).list.unique(maintain_order=True).alias("references")).to_series()


_NO_LAYOUT = pl.DataFrame(schema={"answers": _TEXTS, "options_style": pl.String, "place": pl.Int32})
_EMPTY = pl.DataFrame(
    schema={
        "row": pl.UInt32, "template": pl.String, "kind": pl.String, "options_style": pl.String, "choices": _TEXTS,
        "answer": pl.Int32, "references": _TEXTS, "messages": MESSAGES_TYPE, "shots": pl.Int32,
    }
)  # fmt: skip
