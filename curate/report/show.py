"""Looking at rows: at a stage, among the removed, by what they say, or one row through all stages.

    rows(Path("work"), grep="photosynthesis")      # wherever they ended: kept to the end, or removed on the way
    history(Path("work"), "9f0c")                  # the one row whose id begins so

Shards are read one after another, and of each no more than what is asked of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl

from curate.contract import columns, progress
from curate.contract.errors import RequestError
from curate.report import why_not
from curate.run.work import Done, Work

_TEXT = 160  # characters of a text that a table shows
_IDS = 5  # of those that begin alike, so many are told
_LARGE = 64 * 2**20  # bytes of shards that take a second or two to go through


@dataclass(frozen=True)
class _Sought:
    """A text to look for, taken literally; with an upper-case letter in it, case counts."""

    text: str

    @property
    def exactly(self) -> bool:
        return any(letter.isupper() for letter in self.text)

    def among(self, there: Sequence[str]) -> pl.Expr:
        """Whether a row's prompt, response or messages hold it. there: the columns that it has."""
        content = pl.element().struct.field(columns.CONTENT)
        holds = {
            columns.PROMPT: self._in(pl.col(columns.PROMPT)),
            columns.RESPONSE: self._in(pl.col(columns.RESPONSE)),
            columns.MESSAGES: pl.col(columns.MESSAGES).list.eval(self._in(content)).list.any(),
        }
        return pl.any_horizontal(holds[name] for name in holds if name in there)

    def _in(self, text: pl.Expr) -> pl.Expr:
        if self.exactly:
            return text.str.contains(self.text, literal=True)
        return text.str.contains(f"(?i){pl.escape_regex(self.text)}")

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        return re.compile(re.escape(self.text), 0 if self.exactly else re.IGNORECASE)

    def place(self, text: str) -> tuple[int, int]:
        """(start, end) of where it first stands in a text; (0, 0) where it does not."""
        found = self._pattern.search(text)
        return found.span() if found else (0, 0)


def rows(
    work: Path,
    *,
    stage: str | None = None,
    removed: bool = False,
    reason: str | None = None,
    grep: str | None = None,
    limit: int = 10,
) -> list[dict[str, Any]]:
    """Rows for a terminal or JSON, at most ``limit``; see `tamis show --help`.

    grep: only rows whose prompt, response or messages hold this text; without ``stage`` and ``removed`` those of the last table
    come first, then those that left on the way.
    """
    if grep == "":
        raise RequestError("--grep is empty; give the text to look for")
    whole, sought = Work(work), None if grep is None else _Sought(grep)
    parts = [part for done in _asked(whole, stage, removed) for part in (done.removed if removed else done.kept)]
    if sought and stage is None and not removed:
        parts += [part for _, part in whole.history("removed")]
    shown: list[dict[str, Any]] = []
    for part in _watched(parts, "looking" if sought or reason is not None else None):
        found = pl.scan_parquet(part)
        if reason is not None:
            found = found.filter(pl.col(columns.REASON).str.contains(reason, literal=True))
        if sought:
            found = found.filter(sought.among(list(pl.read_parquet_schema(part))))
        shown += [_shown(row, sought) for row in found.head(limit - len(shown)).collect().iter_rows(named=True)]
        if len(shown) >= limit:
            break
    return shown


def history(work: Path, id: str) -> list[dict[str, Any]]:
    """Everything that happened to one row: where it passed, what was added, where and why it left. Of a row that was not
    selected, the last event's ``why`` says more (curate/report/why_not.py). id: or the beginning of one that no other id has."""
    whole = Work(work)
    id = _whole_id(whole, id)
    story: list[dict[str, Any]] = []
    known: dict[str, Any] = {}
    missed: list[tuple[dict[str, Any], Done, str]] = []
    for done, side, part in _watched(_everywhere(whole), "following"):
        for row in _of_id(part, id):
            shown = _shown(row)
            new = {name: value for name, value in shown.items() if known.get(name) != value and value is not None}
            known |= new
            event = "removed: " + str(row.get(columns.REASON)) if side == "removed" else "kept"
            added = "; ".join(
                f"{name}={value}" for name, value in new.items() if name not in (columns.STAGE, columns.REASON)
            )
            story.append({"stage": done.title, "what": event, "new or changed": added})
            if side == "removed" and done.kind == "select":
                missed.append((story[-1], done, row[columns.ID]))
    for event, done, row in missed:
        event["why"] = why_not.told(whole, done, row)
    return story


def _asked(work: Work, stage: str | None, removed: bool) -> Sequence[Done]:
    """The tables to look at: those of a title or name; without one all of them for removed rows, else the last one that the
    last run came to."""
    if stage is not None:
        return [done for done in work.tables if stage in (done.title, done.name)] or [work.stage(stage)]
    if removed:
        return work.tables
    return ([done for done in work.tables if not done.old] or [work.stage()])[-1:]


def _everywhere(work: Work) -> list[tuple[Done, str, Path]]:
    """All shards, stage by stage."""
    return [
        (done, side, part)
        for done in work.tables
        for side, parts in (("kept", done.kept), ("removed", done.removed))
        for part in parts
    ]


def _watched(parts: Sequence[Any], label: str | None) -> Iterator[Any]:
    """The shards, with a bar where it takes long to go through them. label: None for no bar."""
    paths = [part if isinstance(part, Path) else part[-1] for part in parts]
    with ExitStack() as stack:
        if label and sum(path.stat().st_size for path in paths) > _LARGE:
            stack.enter_context(progress.shown())
        yield from progress.track(parts, label or "") if label else parts


def _whole_id(work: Work, asked: str) -> str:
    """The id that is meant: the one that is so, also of a record that was phrased; else the only one that begins so."""
    begin: set[str] = set()
    for _, _, part in _watched(_everywhere(work), "looking for the id"):
        ids = _beginning(part, asked)
        if asked in ids:
            return asked
        begin = set(sorted(begin | ids)[: _IDS + 1])
    if not begin:
        raise RequestError(
            f"no stage of {work.folder} knows a row whose id is '{asked}' or begins so; `tamis show {work.folder}` prints "
            "ids, and --grep TEXT finds rows by what they say"
        )
    if len(begin) > 1:
        many = f"{len(begin)} ids" if len(begin) <= _IDS else f"more than {_IDS} ids"
        told = ", ".join(sorted(begin)[:_IDS])
        raise RequestError(f"--id {asked}: {many} of {work.folder} begin so: {told}; write more of the one you mean")
    return begin.pop()


def _beginning(part: Path, asked: str) -> set[str]:
    """The ids of a shard that begin so; of the phrasings of a record that does, the record's."""
    name = pl.col(columns.ID)
    if columns.RECORD in pl.read_parquet_schema(part):
        record = pl.col(columns.RECORD)
        name = pl.when(record.str.starts_with(asked)).then(record).otherwise(name)
    names = pl.scan_parquet(part).select(name.alias("name")).filter(pl.col("name").str.starts_with(asked)).unique()
    return set(names.collect()["name"])


def _of_id(part: Path, id: str) -> list[dict[str, Any]]:
    """The rows of a shard that have an id, or phrase the record that has it."""
    is_mine = pl.col(columns.ID) == id
    if columns.RECORD in pl.read_parquet_schema(part):
        is_mine = is_mine | (pl.col(columns.RECORD) == id)
    return list(pl.scan_parquet(part).filter(is_mine).collect().iter_rows(named=True))


def _shown(row: dict[str, Any], sought: _Sought | None = None) -> dict[str, Any]:
    """Without empty columns and the raw fields, and with long texts cut, around what was sought."""
    shown = {}
    for name, value in row.items():
        if value is None or name == columns.FIELDS:
            continue
        if name == columns.MESSAGES:
            value = " | ".join(f"{message[columns.ROLE]}: {message[columns.CONTENT]}" for message in value)
        if isinstance(value, bytes):  # of a row that could not be read
            value = value[:_TEXT].decode("utf-8", "backslashreplace")
        if isinstance(value, str):
            searched = sought and name in (columns.PROMPT, columns.RESPONSE, columns.MESSAGES)
            value = _cut(value, *(sought.place(value) if sought and searched else (0, 0))).replace("\n", "⏎")
        shown[name] = value
    return shown


def _cut(text: str, start: int, end: int) -> str:
    """At most ``_TEXT`` characters of a text: its beginning, if that holds all from start to end, else what stands around
    these."""
    if len(text) <= _TEXT:
        return text
    if end < _TEXT or not start:
        return text[: _TEXT - 1] + "…"
    room = _TEXT - 2
    first = max(0, start - max(0, room - (end - start)) // 2)
    if first + room >= len(text) - 1:
        return f"…{text[1 - _TEXT :]}"
    return f"…{text[first : first + room]}…"
