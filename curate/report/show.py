"""Looking at rows: at a stage, among the removed, or one row through all stages."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from curate.contract import columns
from curate.contract.errors import RequestError
from curate.run.work import Done, Work

_TEXT = 160  # characters of a text that a table shows


def rows(
    work: Path, *, stage: str | None, removed: bool, reason: str | None, id: str | None, limit: int
) -> list[dict[str, Any]]:
    """Rows for a terminal or JSON; see `tamis show --help`."""
    whole = Work(work)
    if id is not None:
        return _history(whole, id)
    shown: list[dict[str, Any]] = []
    for done in _asked(whole, stage, removed):
        for path in done.removed if removed else done.kept:
            part = pl.read_parquet(path)
            if reason is not None:
                part = part.filter(pl.col(columns.REASON).str.contains(reason, literal=True))
            shown += [_shown(row) for row in part.head(limit - len(shown)).iter_rows(named=True)]
            if len(shown) >= limit:
                return shown
    return shown


def _asked(work: Work, stage: str | None, removed: bool) -> Sequence[Done]:
    """The tables to look at: those of a title or name; without one all of them for removed rows, else the last one that the
    last run came to."""
    if stage is not None:
        return [done for done in work.tables if stage in (done.title, done.name)] or [work.stage(stage)]
    if removed:
        return work.tables
    return ([done for done in work.tables if not done.old] or [work.stage()])[-1:]


def _history(work: Work, id: str) -> list[dict[str, Any]]:
    """Everything that happened to one row: where it passed, what was added, where and why it left."""
    story: list[dict[str, Any]] = []
    known: dict[str, Any] = {}
    for done in work.tables:
        for side, paths in (("kept", done.kept), ("removed", done.removed)):
            for row in _of_id(paths, id):
                shown = _shown(row)
                new = {name: value for name, value in shown.items() if known.get(name) != value and value is not None}
                known |= new
                event = "removed: " + str(row.get(columns.REASON)) if side == "removed" else "kept"
                added = "; ".join(
                    f"{name}={value}" for name, value in new.items() if name not in (columns.STAGE, columns.REASON)
                )
                story.append({"stage": done.title, "what": event, "new or changed": added})
    if not story:
        raise RequestError(f"no stage of {work.folder} knows a row '{id}'; `tamis show {work.folder}` prints ids")
    return story


def _of_id(paths: Sequence[Path], id: str) -> list[dict[str, Any]]:
    """The rows of shards that have an id, or phrase the record that has it."""
    mine = []
    for path in paths:
        is_mine = pl.col(columns.ID) == id
        if columns.RECORD in pl.read_parquet_schema(path):
            is_mine = is_mine | (pl.col(columns.RECORD) == id)
        mine += pl.scan_parquet(path).filter(is_mine).collect().iter_rows(named=True)
    return mine


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    """Without empty columns and the raw fields, and with long texts cut."""
    shown = {}
    for name, value in row.items():
        if value is None or name == columns.FIELDS:
            continue
        if name == columns.MESSAGES:
            value = " | ".join(f"{message[columns.ROLE]}: {message[columns.CONTENT]}" for message in value)
        if isinstance(value, str):
            value = value.replace("\n", "⏎")
            value = value if len(value) <= _TEXT else value[: _TEXT - 1] + "…"
        shown[name] = value
    return shown
