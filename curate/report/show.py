"""Looking at rows: at a stage, among the removed, or one row through all stages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from curate.contract import columns
from curate.contract.errors import RequestError
from curate.rows import table
from curate.run import runner

_TEXT = 160  # characters of a text that a table shows


def rows(
    work: Path, *, stage: str | None, removed: bool, reason: str | None, id: str | None, limit: int
) -> list[dict[str, Any]]:
    """Rows for a terminal or JSON; see `tamis show --help`."""
    titles = [title for title in runner.titles(work) if title[:2].isdigit()]
    if id is not None:
        return _history(work, titles, id)
    if stage is not None:
        chosen = [title for title in titles if stage in (title, title.partition("-")[2])]
        if not chosen:
            raise RequestError(f"{work} has no stage '{stage}'; it has {', '.join(titles)}")
    else:
        chosen = titles if removed else titles[-1:]
    found: list[dict[str, Any]] = []
    for title in chosen:
        for part in table.scan(work / title / ("removed" if removed else "kept")):
            if reason is not None:
                part = part.filter(pl.col(columns.REASON).str.contains(reason, literal=True))
            found += [_shown(row) for row in part.head(limit - len(found)).iter_rows(named=True)]
            if len(found) >= limit:
                return found
    return found


def _history(work: Path, titles: list[str], id: str) -> list[dict[str, Any]]:
    """Everything that happened to one row: where it passed, what was added, where and why it left."""
    story: list[dict[str, Any]] = []
    known: dict[str, Any] = {}
    for title in titles:
        for side in ("kept", "removed"):
            for path in table.shards(work / title / side):
                mine = pl.col(columns.ID) == id
                if columns.RECORD in pl.read_parquet_schema(path):
                    mine = mine | (pl.col(columns.RECORD) == id)
                for row in pl.scan_parquet(path).filter(mine).collect().iter_rows(named=True):
                    new = {
                        name: value
                        for name, value in _shown(row).items()
                        if known.get(name) != value and value is not None
                    }
                    known |= new
                    event = "removed: " + str(row.get(columns.REASON)) if side == "removed" else "kept"
                    added = "; ".join(
                        f"{name}={value}" for name, value in new.items() if name not in (columns.STAGE, columns.REASON)
                    )
                    story.append({"stage": title, "what": event, "new or changed": added})
    if not story:
        raise RequestError(f"no stage of {work} knows a row '{id}'; `tamis show {work}` prints ids")
    return story


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
