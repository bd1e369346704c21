"""The render stage over tables: records in, messages and the columns that describe them out."""

from __future__ import annotations

import functools
import gc
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import orjson
import polars as pl
import pyarrow as pa

from curate.contract import columns
from curate.contract.draws import draws
from curate.contract.errors import RequestError, RowSkipped, TemplateError
from curate.contract.progress import bar
from curate.render import few_shot as shots
from curate.render.few_shot import Composer
from curate.render.vector import Vector, compile_set
from curate.rows.table import MESSAGES_TYPE
from curate.template import sandbox
from curate.template.engine import Engine, Rendered, as_is
from curate.template.sets import load_set

_CHUNK = 50_000  # rows at a time
_SLICE = 5_000  # rows that stand in memory as Python values


class _Renderer(NamedTuple):
    engine: Engine
    vector: Vector | None


@functools.lru_cache(maxsize=256)
def _renderer(
    name: str, folder: Path | None, source_hash: str, seed: int, no_options: float, inversions: float, thread: int
) -> _Renderer:
    """A set, compiled once for all the shards of a process. The hash stands for the file's content; an engine is one thread's."""
    engine = Engine(load_set(name, folder), seed, no_options, inversions)
    return _Renderer(engine, compile_set(engine))


def render_rows(
    table: pl.DataFrame,
    *,
    templates: str = "one",
    no_options: float = 0.0,
    inversions: float = 0.0,
    few_shot: dict[str, Any] | None = None,
    exemplars: pl.DataFrame | None = None,
    seed: int = 0,
    folder: Path | None = None,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Puts every record into messages.

    templates: "one" drawn by the record's id, "all" that apply (the id becomes ``record:template``), or one by name.
    no_options: the share of records that are shown no list of options where their template has one.
    inversions: the share of records that are put in a template turned around by rule, where one applies.
    few_shot: options of curate.render.few_shot. exemplars: the rows to take examples from (id, template_set, fields), which
    go to removed where they are in the table; if left out, they are set aside of the table's own.
    folder: the recipe's folder, from which template files of its own are named. Returns (kept, removed): kept has the
    table's columns and ``record, template, template_kind, options_style, choices, answer, references, shots``, with
    ``messages`` filled; removed has the rows that no template takes, with ``stage`` and ``reason``. A conversation
    (``pools/messages``, ``pools/conversations``) keeps its messages; its template is called "as_is". Raises TemplateError:
    a template that is wrong or fails, or a name in ``templates`` that none of the sets has. Cost: two to three
    microseconds a row where the set compiles to expressions (curate/render/vector.py), else 12.
    """
    sets = table[columns.TEMPLATE_SET].unique().sort().to_list()
    for option, share in (("no_options", no_options), ("inversions", inversions)):
        if not 0 <= share <= 1:
            raise RequestError(f"render: {option} is {share}; it is a share and lies between 0 and 1")
    thread = threading.get_ident()
    renderers = {
        name: _renderer(name, folder, load_set(name, folder).source_hash, seed, no_options, inversions, thread)
        for name in sets
    }
    _check_name(templates, {name: renderer.engine for name, renderer in renderers.items()})
    composer = None
    if few_shot is not None:
        options = shots.few_shot(**few_shot)
        if exemplars is None:
            exemplars = table.filter(pl.col(columns.ID).is_in(shots.set_aside(table, options, seed).implode()))
        composer = Composer(options, exemplars, seed, folder)
    kept, removed = [], []
    with bar(table.height, "rendering") as advance:
        for start in range(0, max(table.height, 1), _CHUNK):
            chunk = _Chunk(table.slice(start, _CHUNK), renderers, templates, composer)
            kept.append(chunk.kept())
            removed.append(chunk.removed())
            advance(chunk.table.height)
    return pl.concat(kept), pl.concat(removed)


class _Chunk:
    """One slice of the table. What a set's expressions are sure of is rendered by column, the rest row by row."""

    def __init__(self, table: pl.DataFrame, renderers: dict[str, _Renderer], which: str, composer: Composer | None):
        self.table = table
        self.composer = composer
        self.gone: list[int] = []
        self.reasons: list[str] = []
        left = np.ones(table.height, dtype=bool)
        self.after_examples = np.zeros(table.height, dtype=bool)
        if composer is not None:
            aside = table[columns.ID].is_in(composer.ids).to_numpy()
            self.gone += np.flatnonzero(aside).tolist()
            self.reasons += [shots.REASON] * len(self.gone)
            left &= ~aside
            self.after_examples = left & shots.drawn(table[columns.ID], composer.options, composer.seed)
        parts = []
        for name, renderer in renderers.items():
            if renderer.vector is None or which == "all":
                continue
            mine = (table[columns.TEMPLATE_SET] == name).to_numpy() & left & ~self.after_examples
            if (engine := renderer.engine).inversions > 0:
                mine &= ~engine.turned_around(draws(engine.seed, "render.inversions", table[columns.ID]))
            rows = np.flatnonzero(mine)
            given = _taken(table.select(columns.ID, columns.FIELDS), rows)
            found = renderer.vector.render(given[columns.ID], given[columns.FIELDS], which)
            rows = rows[found["row"].to_numpy()]
            left[rows] = False
            parts.append(found.with_columns(pl.Series("row", rows, dtype=pl.UInt32)))
        rows = np.flatnonzero(left)
        parts += [self._by_row(rows[i : i + _SLICE], renderers, which) for i in range(0, max(len(rows), 1), _SLICE)]
        parts = [part for part in parts if part.height] or parts[:1]
        self.found = parts[0] if len(parts) == 1 else pl.concat(parts).sort("row", maintain_order=True)
        self.which = which

    def _by_row(self, rows: np.ndarray, renderers: dict[str, _Renderer], which: str) -> pl.DataFrame:
        places: list[int] = []
        renderings: list[Rendered] = []
        with _collector_paused(), sandbox.watched():
            for i, rendered in self._rendered(rows, renderers, which):
                if isinstance(rendered, str):
                    self.gone.append(i)
                    self.reasons.append(rendered)
                else:
                    places += [i] * len(rendered)
                    renderings += rendered
        added = zip(*renderings, strict=True) if renderings else [[]] * len(Rendered._fields)
        values = dict(zip(Rendered._fields, added, strict=True))
        return pl.DataFrame(
            [
                pl.Series("row", places, dtype=pl.UInt32),
                pl.Series("template", values["template"], dtype=pl.String),
                pl.Series("kind", values["kind"], dtype=pl.String),
                pl.Series("options_style", values["options_style"], dtype=pl.String),
                _texts("choices", values["choices"]),
                pl.Series("answer", values["answer"], dtype=pl.Int32),
                _texts("references", values["references"]),
                _conversations("messages", values["messages"]),
                pl.Series("shots", values["shots"], dtype=pl.Int32),
            ]
        )

    def _rendered(
        self, rows: np.ndarray, renderers: dict[str, _Renderer], which: str
    ) -> Iterator[tuple[int, list[Rendered] | str]]:
        """Each row's place, and what it becomes, or the reason why it goes."""
        own = self.table[columns.MESSAGES]
        wanted = (columns.ID, columns.TEMPLATE_SET, columns.FIELDS)
        values = (self.table[column].gather(rows).to_list() for column in wanted)
        for i, id, name, fields in zip(rows.tolist(), *values, strict=True):
            engine = renderers[name].engine
            try:
                if engine.set.messages is not None:
                    yield i, [as_is(own[i].to_list())]
                else:
                    found = engine.render(id, orjson.loads(fields), which=which)
                    if self.composer is not None and self.after_examples[i]:
                        found = [self.composer.compose(engine, id, one) for one in found]
                    yield i, found
            except RowSkipped as reason:
                yield i, str(reason)

    def kept(self) -> pl.DataFrame:
        found = self.found
        table = _taken(self.table, found["row"].to_numpy())
        id = table[columns.ID]
        return table.with_columns(
            id.alias(columns.RECORD),
            id + ":" + found["template"] if self.which == "all" else id,
            found["template"].alias(columns.TEMPLATE),
            found["kind"].alias(columns.TEMPLATE_KIND),
            found["options_style"].alias(columns.OPTIONS_STYLE),
            found["choices"].alias(columns.CHOICES),
            found["answer"].alias(columns.ANSWER),
            found["references"].alias(columns.REFERENCES),
            found["shots"].alias(columns.SHOTS),
            found["messages"].alias(columns.MESSAGES),
        )

    def removed(self) -> pl.DataFrame:
        order = np.argsort(self.gone, kind="stable")
        reasons = pl.Series(columns.REASON, self.reasons, dtype=pl.String)[order]
        return self.table[np.asarray(self.gone, dtype=np.int64)[order]].with_columns(
            pl.lit("render").alias(columns.STAGE), reasons
        )


def _taken(table: pl.DataFrame, rows: np.ndarray) -> pl.DataFrame:
    """The rows at these places, in this order; no copy where they are all of them, as they are."""
    return table if np.array_equal(rows, np.arange(table.height)) else table[rows]


def _texts(name: str, lists: Sequence[list[str] | None]) -> pl.Series:
    return pl.Series(name, pa.array(lists, pa.large_list(pa.large_string())), dtype=pl.List(pl.String))


def _conversations(name: str, conversations: Sequence[list[dict[str, str]]]) -> pl.Series:
    """Lists of {role, content} by way of Arrow's offsets: forty times as fast as from the dicts themselves."""
    flat = [message for conversation in conversations for message in conversation]
    ends = pa.array([0, *accumulate(map(len, conversations))], pa.int64())
    parts = [pa.array([message[key] for message in flat], pa.large_string()) for key in (columns.ROLE, columns.CONTENT)]
    turns = pa.StructArray.from_arrays(parts, names=[columns.ROLE, columns.CONTENT])
    return pl.Series(name, pa.LargeListArray.from_arrays(ends, turns), dtype=MESSAGES_TYPE)


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


def _check_name(templates: str, engines: dict[str, Engine]) -> None:
    if templates in ("one", "all"):
        return
    known = sorted({template.name for engine in engines.values() for template in engine.set.templates})
    if templates not in known:
        raise TemplateError(
            f"no template is called '{templates}' in {', '.join(engines)}; write one, all, or one of: {', '.join(known)}"
        )
