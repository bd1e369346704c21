"""The render stage over tables: records in, messages and the columns that describe them out."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path

import orjson
import polars as pl
import pyarrow as pa

from curate import columns
from curate.errors import RowSkipped, TemplateError
from curate.progress import bar
from curate.render.engine import Engine, Rendered, as_is
from curate.render.template import load_set
from curate.table import MESSAGES_TYPE

_CHUNK = 5_000  # rows that stand in memory as Python values


def render_rows(
    table: pl.DataFrame, *, templates: str = "one", seed: int = 0, base: Path | None = None
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Puts every record into messages.

    templates: "one" drawn by the record's id, "all" that apply (the id becomes ``record:template``), or one by name.
    base: the recipe's folder, from which template files of its own are named. Returns (kept, removed): kept has the
    table's columns and ``record, template, template_kind, options_style, choices, answer, references, shots``, with
    ``messages`` filled; removed has the rows that no template takes, with ``stage`` and ``reason``. A conversation
    (``pools/messages``, ``pools/conversations``) keeps its messages; its template is called "as_is". Raises TemplateError:
    a template that is wrong or fails, or a name in ``templates`` that none of the sets has. Cost: 12 microseconds a row.
    """
    sets = table[columns.TEMPLATE_SET].unique().sort().to_list()
    engines = {name: Engine(load_set(name, base), seed) for name in sets}
    _check_name(templates, engines)
    kept, removed = [], []
    with bar(table.height, "rendering") as advance:
        for start in range(0, max(table.height, 1), _CHUNK):
            with _collector_paused():
                chunk = _Chunk(table.slice(start, _CHUNK), engines, templates)
            kept.append(chunk.kept())
            removed.append(chunk.removed())
            advance(chunk.table.height)
    return pl.concat(kept), pl.concat(removed)


class _Chunk:
    """One slice of the table, rendered row by row and gathered column by column."""

    def __init__(self, table: pl.DataFrame, engines: dict[str, Engine], which: str):
        self.table = table
        self.index: list[int] = []  # of the kept rows, once a rendering
        self.ids: list[str] = []
        self.renderings: list[Rendered] = []
        self.gone: list[int] = []
        self.reasons: list[str] = []
        for i, (id, rendered) in enumerate(self.rows(engines, which)):
            if isinstance(rendered, str):
                self.gone.append(i)
                self.reasons.append(rendered)
            else:
                self.index += [i] * len(rendered)
                self.ids += [f"{id}:{one.template}" for one in rendered] if which == "all" else [id]
                self.renderings += rendered

    def rows(self, engines: dict[str, Engine], which: str) -> Iterator[tuple[str, list[Rendered] | str]]:
        """Each row's id, and what it becomes, or the reason why it goes."""
        own = self.table[columns.MESSAGES]
        wanted = (columns.ID, columns.TEMPLATE_SET, columns.FIELDS)
        for i, (id, name, fields) in enumerate(zip(*(self.table[column].to_list() for column in wanted), strict=True)):
            engine = engines[name]
            try:
                if engine.set.messages is not None:
                    yield id, [as_is(own[i].to_list())]
                else:
                    yield id, engine.render(id, orjson.loads(fields), which=which)
            except RowSkipped as reason:
                yield id, str(reason)

    def kept(self) -> pl.DataFrame:
        table = self.table[self.index]
        added = zip(*self.renderings, strict=True) if self.renderings else [[]] * len(Rendered._fields)
        values = dict(zip(Rendered._fields, added, strict=True))
        return table.with_columns(
            table[columns.ID].alias(columns.RECORD),
            pl.Series(columns.ID, self.ids, dtype=pl.String),
            pl.Series(columns.TEMPLATE, values["template"], dtype=pl.String),
            pl.Series(columns.TEMPLATE_KIND, values["kind"], dtype=pl.String),
            pl.Series(columns.OPTIONS_STYLE, values["options_style"], dtype=pl.String),
            _texts(columns.CHOICES, values["choices"]),
            pl.Series(columns.ANSWER, values["answer"], dtype=pl.Int32),
            _texts(columns.REFERENCES, values["references"]),
            pl.Series(columns.SHOTS, values["shots"], dtype=pl.Int32),
            _conversations(columns.MESSAGES, values["messages"]),
        )

    def removed(self) -> pl.DataFrame:
        reasons = pl.Series(columns.REASON, self.reasons, dtype=pl.String)
        return self.table[self.gone].with_columns(pl.lit("render").alias(columns.STAGE), reasons)


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
