"""The render stage over tables: records in, messages and the columns that describe them out."""

from __future__ import annotations

import functools
import gc
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from curate.contract import columns
from curate.contract.errors import RequestError, RowSkipped, TemplateError
from curate.contract.methods import nearest
from curate.contract.progress import bar
from curate.render import few_shot as shots
from curate.render.few_shot import Composer
from curate.render.list_columns import conversations, texts
from curate.render.vector import Vector, compile_set
from curate.rows.fields import loads as fields_of
from curate.template import sandbox
from curate.template.engine import STYLES, Engine, Rendered, as_is
from curate.template.guard import at, guard, outside
from curate.template.sets import STYLES as TEMPLATE_STYLES
from curate.template.sets import TemplateSet, load_set

_CHUNK = 50_000  # rows at a time
_GUARDED = 20_000  # rows that go to the process with limits at once
_GUARDED_BYTES = 16 << 20  # of their columns
_SLICE = 5_000  # rows that stand in memory as Python values


class _Renderer(NamedTuple):
    engine: Engine
    vector: Vector | None


def render_rows(
    rows: pl.DataFrame,
    *,
    templates: str = "one",
    no_options: float = 0.0,
    inversions: float = 0.15,
    styles: dict[str, Any] | None = None,
    leave_out: dict[str, Any] | None = None,
    few_shot: dict[str, Any] | None = None,
    exemplars: pl.DataFrame | None = None,
    seed: int = 0,
    folder: Path | None = None,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Puts every record into messages.

    templates: "one" drawn by the record's id, "all" that apply (the id becomes ``record:template``), or one by name.
    no_options: the share of records that are shown no list of options where their template has one.
    inversions: the share of records that are put in a template turned around, by hand or by rule, where one applies.
    styles: of the other records, the share of each style (canonical, terse, plain, detailed) where a template of it applies;
        the styles that are not named share the rest. If left out: {canonical: 0.6}.
    leave_out: templates that are not used, set name: [template names], as `tamis eval --by template` finds them to be worse.
    few_shot: solved examples before the question; options of curate/render/few_shot.py.
    exemplars: the rows to take examples from (id, template_set, fields), which go to removed where they are among the rows;
        if left out, they are set aside of the rows themselves.
    seed: of all draws.
    folder: the recipe's folder, from which template files of its own are named.

    Returns (kept, removed): kept has the rows' columns and ``record, template, template_kind, options_style, choices, answer,
    references, shots``, with ``messages`` filled; removed has the rows that no template takes, with ``stage`` and ``reason``.
    A conversation (``pools/messages``, ``pools/conversations``) keeps its messages; its template is called "as_is".

    Raises RequestError: a share that is none, a style that a set has no template of, a name to leave out that it has not.
    Raises TemplateError: a template that is wrong or fails, or a name in ``templates`` that none of the sets has. Cost: five to twelve microseconds a row where the set compiles to expressions
    (curate/render/vector.py), else 25; twice that for a set of one's own.
    """
    _check_share("no_options", no_options)
    _check_share("inversions", inversions)
    sets = rows[columns.TEMPLATE_SET].unique().sort().to_list()
    used = [without(load_set(name, folder), leave_out) for name in sets]
    if problem := styles and styles_problem(styles, used):
        raise RequestError(f"render: {problem}")
    _check_name(templates, used)
    if few_shot is not None and exemplars is None:
        exemplars = rows.filter(pl.col(columns.ID).is_in(_set_aside(rows, few_shot, seed, folder).implode()))
    shares = tuple(sorted((STYLES if styles is None else styles).items()))
    left = tuple((name, tuple(some)) for name, some in sorted((leave_out or {}).items()))
    asked = _Asked(templates, no_options, inversions, shares, left, few_shot, exemplars, seed, folder)
    composer = _composer(asked)
    kept, removed = [], []
    with bar(rows.height, "rendering") as advance:
        for start in range(0, max(rows.height, 1), _CHUNK):
            chunk = rows.slice(start, _CHUNK)
            rendered, gone = _apart(chunk, asked, composer)
            kept.append(rendered)
            removed.append(gone)
            advance(chunk.height)
    return pl.concat(kept), pl.concat(removed)


class _Asked(NamedTuple):
    """The options of ``render_rows``, as they go to a process with limits."""

    templates: str
    no_options: float
    inversions: float
    styles: tuple[tuple[str, float], ...]
    leave_out: tuple[tuple[str, tuple[str, ...]], ...]
    few_shot: dict[str, Any] | None
    exemplars: pl.DataFrame | None
    seed: int
    folder: Path | None


def _apart(chunk: pl.DataFrame, asked: _Asked, composer: Composer | None) -> tuple[pl.DataFrame, pl.DataFrame]:
    """A chunk's rows, those of sets from outside the library in a process with limits."""
    foreign = chunk[columns.TEMPLATE_SET].is_in(
        [name for name in chunk[columns.TEMPLATE_SET].unique() if outside(name)]
    )
    if not foreign.any():
        return _rendered(chunk, asked, composer)
    light = [
        column for column in (columns.ID, columns.TEMPLATE_SET, columns.FIELDS, columns.MESSAGES) if column in chunk
    ]
    parts = [guard(_rendered_here, part, asked) for part in _slices(chunk.filter(foreign).select(light))]
    parts.append(_rendered(chunk.filter(~foreign).select(light), asked, composer))
    kept, gone = (pl.concat(side) for side in zip(*parts, strict=True))
    rest = chunk.drop(light[1:]).rename({columns.ID: columns.RECORD}).with_row_index("place")
    order = [*chunk.columns, *(column for column in kept.columns if column not in light)]
    kept = kept.join(rest, on=columns.RECORD, maintain_order="left").sort("place", maintain_order=True)
    gone = gone.join(rest, left_on=columns.ID, right_on=columns.RECORD, maintain_order="left").sort("place")
    return kept.select(order), gone.select([*chunk.columns, columns.STAGE, columns.REASON])


def _slices(rows: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """Rows that go to the process with limits at once: so many, and a row more than so many bytes at most."""
    size = rows[columns.FIELDS].str.len_bytes().fill_null(0).cast(pl.Int64)
    number = np.arange(rows.height) // _GUARDED + (size.cum_sum().to_numpy() - size.to_numpy()) // _GUARDED_BYTES
    ends = [*(np.flatnonzero(np.diff(number)) + 1).tolist(), rows.height]
    for start, end in pairwise([0, *ends]):
        yield rows.slice(start, end - start)


def _rendered_here(rows: pl.DataFrame, asked: _Asked) -> tuple[pl.DataFrame, pl.DataFrame]:
    """In the process with limits."""
    return _rendered(rows, asked, _composer(asked))


def _rendered(rows: pl.DataFrame, asked: _Asked, composer: Composer | None) -> tuple[pl.DataFrame, pl.DataFrame]:
    names = rows[columns.TEMPLATE_SET].unique().sort().to_list()
    renderers = {name: _renderer(name, asked) for name in names}
    return _Chunk(rows, renderers, asked.templates, composer).render()


def _check_share(option: str, share: float) -> None:
    if not 0 <= share <= 1:
        raise RequestError(f"render: {option} is {share}; it is a share and lies between 0 and 1")


def styles_problem(styles: dict[str, Any], sets: Sequence[TemplateSet] = ()) -> str | None:
    """What is wrong with the shares of styles, in themselves or for these sets; None: nothing is."""
    if unknown := sorted(set(map(str, styles)) - set(TEMPLATE_STYLES)):
        return f"styles: there is no style '{unknown[0]}'{nearest(unknown[0], TEMPLATE_STYLES)}; the styles are {', '.join(TEMPLATE_STYLES)}"
    for name, share in styles.items():
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
            return f"styles: {name} is {share}; it is a share and lies between 0 and 1"
    if sum(styles.values()) > 1 + 1e-9:
        return f"styles: the shares come to {sum(styles.values()):g}; all together they are at most 1"
    for one in sets:
        having = {template.style for template in one.templates if template.kind != "inverted"}
        if lacking := [name for name, share in styles.items() if share and having and name not in having]:
            return (
                f"styles: {lacking[0]} is {styles[lacking[0]]:g}, and {one.name} has no such template to draw; it has "
                f"{', '.join(sorted(having))}, so write one (`style: {lacking[0]}`), or leave that style out"
            )
    return None


def without(template_set: TemplateSet, leave_out: Mapping[str, Sequence[str]] | None) -> TemplateSet:
    """The set without the templates to leave out. Raises RequestError: it has no such template, or none is left."""
    names = (leave_out or {}).get(template_set.name, ())
    known = [template.name for template in template_set.templates]
    if unknown := [name for name in names if name not in known]:
        raise RequestError(
            f"render: leave_out: {template_set.name} has no template '{unknown[0]}'{nearest(unknown[0], known)}; its templates "
            f"are {', '.join(known)}"
        )
    left = tuple(template for template in template_set.templates if template.name not in names)
    if known and not left:
        raise RequestError(
            f"render: leave_out leaves {template_set.name} no template; keep one, or leave its source out"
        )
    return replace(template_set, templates=left) if names else template_set


def _renderer(name: str, asked: _Asked) -> _Renderer:
    options = (asked.seed, asked.no_options, asked.inversions, asked.styles, dict(asked.leave_out).get(name, ()))
    return _compiled(name, asked.folder, load_set(name, asked.folder).source_hash, threading.get_ident(), *options)


@functools.lru_cache(maxsize=256)
def _compiled(
    name: str,
    folder: Path | None,
    source_hash: str,
    thread: int,
    seed: int,
    no_options: float,
    inversions: float,
    styles: tuple[tuple[str, float], ...],
    left_out: tuple[str, ...],
) -> _Renderer:
    """A set, compiled once for all the shards of a process. The hash stands for the file's content; an engine is one thread's."""
    template_set = without(load_set(name, folder), {name: left_out})
    engine = Engine(template_set, seed, no_options, inversions, dict(styles))
    return _Renderer(engine, compile_set(engine))


def _check_name(templates: str, sets: Sequence[TemplateSet]) -> None:
    known = sorted({template.name for one in sets for template in one.templates})
    if templates not in ("one", "all", *known):
        raise TemplateError(
            f"no template is called '{templates}' in {', '.join(one.name for one in sets)}; write one, all, or one of: "
            f"{', '.join(known)}"
        )


def _set_aside(rows: pl.DataFrame, few_shot: dict[str, Any], seed: int, folder: Path | None) -> pl.Series:
    return shots.set_aside(rows, shots.few_shot(**few_shot), seed, folder)


def _composer(asked: _Asked) -> Composer | None:
    if asked.few_shot is None or asked.exemplars is None:
        return None
    return Composer.of(shots.few_shot(**asked.few_shot), asked.exemplars, asked.seed, asked.folder)


@dataclass
class _Chunk:
    """One slice of the rows. What a set's expressions are sure of is rendered by column, the rest row by row. gone, reasons: the
    places of the rows that leave, and why."""

    rows: pl.DataFrame
    renderers: dict[str, _Renderer]
    which: str
    composer: Composer | None
    gone: list[int] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)

    def render(self) -> tuple[pl.DataFrame, pl.DataFrame]:
        """(kept, removed)."""
        left, after_examples = self._without_exemplars()
        parts = []
        if self.which != "all":
            for name, renderer in self.renderers.items():
                if renderer.vector is not None:
                    part = self._by_column(name, renderer.engine, renderer.vector, left & ~after_examples)
                    left[part["row"].to_numpy()] = False
                    parts.append(part)
        places = np.flatnonzero(left)
        slices = (places[start : start + _SLICE] for start in range(0, max(len(places), 1), _SLICE))
        parts += [self._by_row(some, after_examples) for some in slices]
        parts = [part for part in parts if part.height] or parts[:1]
        rendered = parts[0] if len(parts) == 1 else pl.concat(parts).sort("row", maintain_order=True)
        return self._kept(rendered), self._removed()

    def _without_exemplars(self) -> tuple[np.ndarray, np.ndarray]:
        """Which rows are rendered, and which of them after examples: bool (n,). Exemplars leave."""
        left, after_examples = np.ones(self.rows.height, dtype=bool), np.zeros(self.rows.height, dtype=bool)
        if self.composer is None:
            return left, after_examples
        ids = self.rows[columns.ID]
        aside = ids.is_in(self.composer.ids.implode()).to_numpy()
        self.gone += np.flatnonzero(aside).tolist()
        self.reasons += [shots.REASON] * len(self.gone)
        return left & ~aside, ~aside & shots.drawn(ids, self.composer.options, self.composer.seed)

    def _by_column(self, name: str, engine: Engine, vector: Vector, wanted: np.ndarray) -> pl.DataFrame:
        """What a set's expressions are sure of: ``row`` and the fields of ``Rendered``."""
        mine = (self.rows[columns.TEMPLATE_SET] == name).to_numpy() & wanted
        places = np.flatnonzero(mine)
        given = _taken(self.rows.select(columns.ID, columns.FIELDS), places)
        if given.height:
            at(f"{engine.set.path}: the rows {given[columns.ID][0]} to {given[columns.ID][-1]}")
        rendered = vector.render(given[columns.ID], given[columns.FIELDS], self.which)
        return rendered.with_columns(pl.Series("row", places[rendered["row"].to_numpy()], dtype=pl.UInt32))

    def _by_row(self, places: np.ndarray, after_examples: np.ndarray) -> pl.DataFrame:
        """The same from the engines; rows that they do not take are gone."""
        rows: list[int] = []
        renderings: list[Rendered] = []
        with _collector_paused(), sandbox.watched():
            for row, rendered in self._rendered(places, after_examples):
                if isinstance(rendered, str):
                    self.gone.append(row)
                    self.reasons.append(rendered)
                else:
                    rows += [row] * len(rendered)
                    renderings += rendered
        added = zip(*renderings, strict=True) if renderings else [[]] * len(Rendered._fields)
        values = dict(zip(Rendered._fields, added, strict=True))
        return pl.DataFrame(
            [
                pl.Series("row", rows, dtype=pl.UInt32),
                pl.Series("template", values["template"], dtype=pl.String),
                pl.Series("kind", values["kind"], dtype=pl.String),
                pl.Series("options_style", values["options_style"], dtype=pl.String),
                texts("choices", values["choices"]),
                pl.Series("answer", values["answer"], dtype=pl.Int32),
                texts("references", values["references"]),
                conversations("messages", values["messages"]),
                pl.Series("shots", values["shots"], dtype=pl.Int32),
            ]
        )

    def _rendered(self, places: np.ndarray, after_examples: np.ndarray) -> Iterator[tuple[int, list[Rendered] | str]]:
        """Each row's place, and what it becomes, or the reason why it goes."""
        own = self.rows[columns.MESSAGES]
        wanted = (columns.ID, columns.TEMPLATE_SET, columns.FIELDS)
        values = (self.rows[column].gather(places).to_list() for column in wanted)
        for row, id, name, fields in zip(places.tolist(), *values, strict=True):
            engine = self.renderers[name].engine
            at(f"{engine.set.path}: the row {id}")
            try:
                if engine.set.messages is not None:
                    yield row, [as_is(own[row].to_list())]
                    continue
                rendered = engine.render(id, fields_of(fields), which=self.which)
                if self.composer is not None and after_examples[row]:
                    rendered = [self.composer.compose(engine, id, one) for one in rendered]
                yield row, rendered
            except RowSkipped as reason:
                yield row, str(reason)

    def _kept(self, rendered: pl.DataFrame) -> pl.DataFrame:
        rows = _taken(self.rows, rendered["row"].to_numpy())
        id = rows[columns.ID]
        return rows.with_columns(
            id.alias(columns.RECORD),
            id + ":" + rendered["template"] if self.which == "all" else id,
            rendered["template"].alias(columns.TEMPLATE),
            rendered["kind"].alias(columns.TEMPLATE_KIND),
            rendered["options_style"].alias(columns.OPTIONS_STYLE),
            rendered["choices"].alias(columns.CHOICES),
            rendered["answer"].alias(columns.ANSWER),
            rendered["references"].alias(columns.REFERENCES),
            rendered["shots"].alias(columns.SHOTS),
            rendered["messages"].alias(columns.MESSAGES),
        )

    def _removed(self) -> pl.DataFrame:
        order = np.argsort(self.gone, kind="stable")
        reasons = pl.Series(columns.REASON, self.reasons, dtype=pl.String)[order]
        gone = self.rows[np.asarray(self.gone, dtype=np.int64)[order]]
        return gone.with_columns(pl.lit("render").alias(columns.STAGE), reasons)


def _taken(rows: pl.DataFrame, places: np.ndarray) -> pl.DataFrame:
    """The rows at these places, in this order; no copy where they are all of them, as they are."""
    return rows if np.array_equal(places, np.arange(rows.height)) else rows[places]


@contextmanager
def _collector_paused() -> Iterator[None]:
    """A chunk makes a hundred thousand small objects and no cycle; to look through them for some takes a quarter of the time."""
    running = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if running:
            gc.enable()
