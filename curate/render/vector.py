"""Template sets as polars expressions: the engine's bytes, a column at a time instead of a row.

    vector = compile_set(engine)                     None where something in the set needs Python row by row
    vector.render(ids, fields, "one")                the rows it was sure of, rendered, with their places in ``row``

A template compiles that is made of literals, roles, ``answer`` and ``options``, of what expressions.py can say of them, and of
conditions on them; the others' rows are the engine's. Columns compile that raw.py can say. Where one of a set does not, all
of them come from the engine row by row, and the texts are still put together by column. Choices and other right answers may
be each row's own. A row is taken only where its columns hold what the set expects: text where text is printed, a known label.
Every other row is the engine's, which renders it or says why not, so nothing is decided twice.

Cost: about five microseconds a row, a third of it for hashing the id; about twelve where columns need Python, and seven more
where each row brings its choices.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import polars as pl
from jinja2 import nodes

from curate.contract import columns
from curate.contract.draws import draws, pairs
from curate.render.expressions import SPACES, Names, Unfit, Value, expression, text, truth
from curate.render.layouts import FEW, own_choices, same_choices
from curate.render.list_columns import conversations_of, gather, lists_of
from curate.render.raw import only
from curate.render.readers import ByColumn, ByRow, conditions
from curate.rows.table import MESSAGES_TYPE
from curate.template.engine import Engine, by_rule, place
from curate.template.invert import derive
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
    fit = sum(phrasing.fits for phrasing in phrasings)
    if not fit:
        raise Unfit
    if isinstance(reader, ByRow):
        if 2 * fit < len(phrasings):
            raise Unfit  # to read most rows twice costs more than it saves
        read = {engine.set.answer}.union(*(phrasing.reads for phrasing in phrasings))
        reader = replace(reader, needed=frozenset(reader.names.keys() & read))
    return Vector(engine, reader, phrasings, conditions(engine.set))


@dataclass(frozen=True)
class Vector:
    """A template set over columns. Made by ``compile_set``."""

    engine: Engine
    reader: ByColumn | ByRow
    phrasings: list[_Phrasing]
    conditions: list[str]

    @cached_property
    def derived(self) -> _Derived:
        """The templates turned around by rule, made when a row first takes one."""
        return _Derived.of(self.engine.set, self.reader.names)

    def render(self, ids: pl.Series, fields: pl.Series, which: str) -> pl.DataFrame:
        """ids, fields (n,): String. which: "one" drawn by the id, or a template's name. Gives the rows that it was sure of,
        in their order: ``row`` (place among the given ones, UInt32) and the fields of ``Rendered``."""
        table = self.reader.read(pl.DataFrame([ids.alias("id"), fields.alias(columns.FIELDS)]).with_row_index("row"))
        phrasings, drawn = self._drawn(table, which)
        table = table.with_columns(drawn).filter(pl.col("template") >= 0)
        if not table.height:
            return _EMPTY
        table = table.with_columns(self._shown(table, phrasings))
        table = table.hstack(_laid_out(table, phrasings))
        parts = [
            phrasings[number].render(part, bool(shown))
            for (number, shown), part in table.partition_by("template", "shown", as_dict=True).items()
        ]
        width = max(len(part.columns) for part in parts)
        whole = pl.concat(parts, how="diagonal" if any(len(part.columns) < width for part in parts) else "vertical")
        return self._finished(only(whole, "fit").sort("row"), phrasings)

    def _drawn(self, table: pl.DataFrame, which: str) -> tuple[list[_Phrasing], list[pl.Series]]:
        """The templates, and ``template``: the number of each row's, -1 where it is the engine's to say; ``number``: the draw
        of the options."""
        ids = table["id"].to_list()
        for_template, for_options = pairs(self.engine.seed, "render", ids)
        holding = np.zeros(table.height, dtype=np.int64)  # a bit for each condition that holds
        for bit in range(len(self.conditions)):
            holding |= table[f"when {bit}"].to_numpy().astype(np.int64) << bit
        turned = np.zeros(table.height, dtype=bool)
        if which == "one" and self.engine.inversions > 0:
            turned = self.engine.turned_around(draws(self.engine.seed, "render.inversions", ids))
        chosen, ruled = np.full(table.height, -1, dtype=np.int32), np.zeros(table.height, dtype=bool)
        for bits in np.unique(holding):
            rows = np.flatnonzero(holding == bits)
            if which == "one":
                chosen[rows], ruled[rows] = self._lots(int(bits), for_template[rows], turned[rows])
            else:
                chosen[rows] = self._named(int(bits), which)
        phrasings = self.phrasings
        if ruled.any():
            phrasings = [*phrasings, *self.derived.phrasings]
            rows = np.flatnonzero(ruled)
            number = self.derived.drawn(table[rows], for_template[rows])
            chosen[rows] = np.where(
                number >= 0, len(self.phrasings) + number, np.where(number == _NONE, chosen[rows], -1)
            )
        used = np.unique(chosen[chosen >= 0])
        can = np.zeros(len(phrasings) + 1, dtype=bool)  # the last for -1
        can[used] = [phrasings[number].fits for number in used]
        return phrasings, [
            pl.Series("template", np.where(can[chosen], chosen, -1)),
            pl.Series("number", for_options),
        ]

    def _lots(self, bits: int, numbers: np.ndarray, turned: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The templates that the engine draws for rows where these conditions hold, -1 for none; and which rows have one
        derived by rule instead, where one applies."""
        lot = self.engine.lot(self._holds(bits))
        chosen = np.full(len(numbers), -1, dtype=np.int32)
        if lot.ends:
            group = np.searchsorted(np.asarray(lot.ends), numbers >> np.uint64(32), side="right")
            sizes = np.asarray([len(some) for some in lot.groups], dtype=np.uint64)
            starts = np.cumsum(sizes) - sizes
            members = np.asarray([i for some in lot.groups for i in some], dtype=np.int32)
            chosen = members[starts[group] + place(numbers, sizes[group])]
        if not lot.inverted:
            return chosen, turned
        by_hand = np.asarray(lot.inverted, dtype=np.int32)[place(numbers, np.uint64(len(lot.inverted)))]
        return np.where(turned, by_hand, chosen), turned & by_rule(numbers)

    def _named(self, bits: int, name: str) -> int:
        true = {None, *(when for when, yes in zip(self.conditions, self._holds(bits), strict=True) if yes)}
        applying = (i for i, phrasing in enumerate(self.phrasings) if phrasing.template.when in true)
        return next((i for i in applying if self.phrasings[i].template.name == name), -1)

    def _holds(self, bits: int) -> tuple[bool, ...]:
        return tuple(bool(bits >> bit & 1) for bit in range(len(self.conditions)))

    def _shown(self, table: pl.DataFrame, phrasings: list[_Phrasing]) -> pl.Series:
        """``shown``: whether the row's template shows options to it."""
        used, template = np.unique(table["template"].to_numpy(), return_inverse=True)
        shows = np.asarray([phrasings[number].shows for number in used])[template]
        if self.engine.no_options > 0:
            shows &= ~self.engine.hidden(draws(self.engine.seed, "render.no_options", table["id"].to_list()))
        return pl.Series("shown", shows)

    def _finished(self, table: pl.DataFrame, phrasings: list[_Phrasing]) -> pl.DataFrame:
        """row and the fields of ``Rendered``, from what the phrasings give."""
        number = table["template"].to_numpy()
        templates = [phrasing.template for phrasing in phrasings]
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


_NONE, _UNSURE = -1, -2


@dataclass(frozen=True)
class _Derived:
    """The templates turned around by rule. Each applies where the ``when`` of the template holds that it was made from, and
    what the rule asks besides. conditions: what the rules ask, each once; None: one of them needs Python. forward: of each
    template the number of the former among the set's conditions, -1 where it has none; rule: that of the latter."""

    phrasings: list[_Phrasing]
    conditions: list[pl.Expr] | None
    forward: list[int]
    rule: list[int]

    @classmethod
    def of(cls, template_set: TemplateSet, names: Names) -> _Derived:
        whens = {template.name: template.when for template in template_set.templates}
        known: list[str | None] = [*conditions(template_set)]
        phrasings, forward, rules = [], [], []
        for template in derive(template_set):
            when = whens[template.inversion_of or ""]
            phrasings.append(_Phrasing.of(template, template_set, names))
            forward.append(known.index(when) if when else -1)
            rules.append((template.target.strip("{} "), (template.when or "").removeprefix(f"({when}) and ")))
        once = list(dict.fromkeys(rules))
        try:
            asked = [_rule(role, rule, template_set, names).alias(str(i)) for i, (role, rule) in enumerate(once)]
        except Unfit:
            asked = None
        return cls(phrasings, asked, forward, [once.index(rule) for rule in rules])

    def drawn(self, table: pl.DataFrame, numbers: np.ndarray) -> np.ndarray:
        """Of each row one of the templates that apply to it, by the draws: (n,), -1 where none does; -2: the engine's to say."""
        if not self.phrasings:
            return np.full(len(numbers), _NONE)
        if self.conditions is None:
            return np.full(len(numbers), _UNSURE)
        holds = table.select("row", *self.conditions).drop("row")
        if any(one.null_count() for one in holds):
            return np.full(len(numbers), _UNSURE)
        applies = holds.to_numpy()[:, self.rule]
        for i, when in enumerate(self.forward):
            if when >= 0:
                applies[:, i] &= table[f"when {when}"].to_numpy()
        many = applies.sum(axis=1)
        nth = place(numbers, np.maximum(many, 1).astype(np.uint64)).astype(np.int64)
        number = np.argmax(applies & (np.cumsum(applies, axis=1) - 1 == nth[:, None]), axis=1)
        return np.where(many > 0, number, _NONE)


def _rule(role: str, rule: str, template_set: TemplateSet, names: Names) -> pl.Expr:
    """What is asked where a template was turned around to give this role; of a role that is no text nothing is."""
    if role not in names:
        raise Unfit
    if names[role].kind != "text":
        return pl.lit(False)
    tree = expression(rule)
    strangers = {one.name for one in tree.find_all(nodes.Name)} - template_set.columns.keys()  # of a loop: not there
    nothing: Names = {name: Value(pl.lit(None), "nothing") for name in strangers}
    return truth(tree, {**nothing, **names})


def _laid_out(table: pl.DataFrame, phrasings: list[_Phrasing]) -> pl.DataFrame:
    """The layout of each row's options (curate/render/layouts.py), as far as there are choices."""
    shown, number, label = (table[name].to_numpy() for name in ("shown", "number", "label"))
    if "own choices" in table.columns:
        return own_choices(table["own choices"], shown, number, label)
    lists = list(dict.fromkeys(phrasing.choices for phrasing in phrasings if phrasing.choices))
    if not lists:
        return _NO_LAYOUT.clear(table.height)
    of_each = [lists.index(phrasing.choices) if phrasing.choices else 0 for phrasing in phrasings]
    which = np.asarray(of_each)[table["template"].to_numpy()]
    if max(map(len, lists)) > FEW:
        return own_choices(pl.Series(lists, dtype=_TEXTS).gather(which), shown, number, label)
    return same_choices(lists, which, shown, number, label)


@dataclass(frozen=True)
class _Phrasing:
    """A template over the columns ``role …``, ``answer`` and ``block``. choices: the set's or its own, None where each row
    brings them, or there are none. names: what it may print. shows, asks, bare: as the engine's (curate/template/engine.py).
    references: the set has other right answers."""

    template: Template
    choices: tuple[str, ...] | None
    names: Names
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
            asks=template.kind == "forward" and "answer" in template.target_reads,
            bare=template.target.replace(" ", "") == "{{answer}}",
            references=template_set.references is not None,
        )

    @property
    def reads(self) -> frozenset[str]:
        return self.template.input_reads | self.template.target_reads

    @cached_property
    def shows(self) -> bool:
        """Told by the letters first, for to read a text takes time."""
        return any("options" in said for _, said in self.template.messages) and "options" in self.template.input_reads

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
