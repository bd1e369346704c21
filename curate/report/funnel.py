"""The funnel of a work folder: rows in and out of every stage, and why rows left."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from curate.run.work import Done, Work

_REASONS = 3  # told of a stage; what is beyond is one line
_GAP, _INDENT = "  ", "    "
_COLUMNS = ("stage", "method", "in", "out", "kept %", "s", "peak MB")
_TEXTS = 2  # the first columns, which stand to the left
_NARROWEST = 8  # that the method is cut to where the rest needs the room


def rows(work: str | Path) -> list[dict[str, Any]]:
    """A line a stage: stage, method, in, out, kept (a share), seconds, peak_mb, reasons (by count), old (left by a run of an
    earlier recipe)."""
    return [_line(done) for done in Work(work).stages]


def lines(rows: Sequence[dict[str, Any]], width: int) -> list[str]:
    """The funnel as people read it, in lines of at most `width` characters where the numbers leave room for that: a table, the
    reasons why rows left under their stage, a star before stages of an earlier recipe."""
    star = any(row["old"] for row in rows)
    cells = [_cells(row, ("*" if row["old"] else " ") if star else "") for row in rows]
    widths = [max(len(line[i]) for line in [_COLUMNS, *cells]) for i in range(len(_COLUMNS))]
    beyond = sum(widths) + len(_GAP) * (len(widths) - 1) - width
    widths[1] = max(min(widths[1], _NARROWEST), widths[1] - max(beyond, 0))
    head = _set(_COLUMNS, widths)
    reasons = [_reasons(row["reasons"]) for row in rows]
    digits = max((len(count) for told in reasons for count, _ in told), default=0)
    said = [head, "─" * len(head)]
    for line, told in zip(cells, reasons, strict=True):
        said.append(_set(line, widths))
        said += [part for count, reason in told for part in _wrapped(count, reason, digits, width)]
    return said


def earlier(work: str | Path) -> str:
    """A sentence on the stages that are of an earlier recipe, and on those that are not there; empty where the last run came to
    all that its recipe holds."""
    whole = Work(work)
    now = f"the run that goes on ({whole.running}) has not come to" if whole.running else ""
    told = []
    if old := [done.title for done in whole.old]:
        are, them = ("is", "it") if len(old) == 1 else ("are", "them")
        why = f"the last run did not come to {them}; `tamis run` on the recipe makes {them} anew"
        told.append(
            f"{_list(old)} {are} of an earlier recipe, or of earlier sources or code: {f'{now} {them}' if now else why}"
        )
    if missing := whole.missing:
        are, them = ("is", "it") if len(missing) == 1 else ("are", "them")
        why = f"the last run did not come to {them}; `tamis run` on the recipe goes on there"
        told.append(f"{_list(missing)} {are} not there: {f'{now} {them}' if now else why}")
    return "; ".join(told)


def _list(titles: Sequence[str]) -> str:
    return titles[0] if len(titles) == 1 else f"{', '.join(titles[:-1])} and {titles[-1]}"


def _line(done: Done) -> dict[str, Any]:
    manifest, run = done.manifest, done.run
    return {
        "stage": done.title,
        "method": manifest["method"],
        "in": manifest["in"],
        "out": manifest["out"],
        "kept": None if not manifest["in"] or manifest["out"] is None else manifest["out"] / manifest["in"],
        "seconds": run.get("seconds", 0.0),
        "peak_mb": run.get("peak_mb", 0),
        "reasons": sorted(manifest["reasons"].items(), key=lambda item: (-item[1], item[0])),
        "old": done.old,
    }


def _cells(row: dict[str, Any], mark: str) -> tuple[str, ...]:
    return (
        f"{mark}{row['stage']}",
        row["method"],
        "" if row["in"] is None else f"{row['in']:,}",
        "" if row["out"] is None else f"{row['out']:,}",
        "" if row["kept"] is None else f"{100 * row['kept']:.1f}",
        f"{row['seconds']:.1f}",
        f"{row['peak_mb']:,}",
    )


def _set(cells: Sequence[str], widths: Sequence[int]) -> str:
    """One line of the table: texts to the left, cut where they are too long, numbers to the right."""
    texts = [f"{_cut(cell, width):<{width}}" for cell, width in zip(cells[:_TEXTS], widths, strict=False)]
    numbers = [f"{cell:>{width}}" for cell, width in zip(cells[_TEXTS:], widths[_TEXTS:], strict=True)]
    return _GAP.join([*texts, *numbers]).rstrip()


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def _reasons(reasons: Sequence[tuple[str, int]]) -> list[tuple[str, str]]:
    """(how many rows left, why) of a stage, the most frequent first; what is beyond a few is one line."""
    told = [(f"−{count:,}", reason) for reason, count in reasons[:_REASONS]]
    if rest := reasons[_REASONS:]:
        others = f"{len(rest):,} other reasons" if len(rest) > 1 else "another reason"
        told.append((f"−{sum(count for _, count in rest):,}", others))
    return told


def _wrapped(count: str, reason: str, digits: int, width: int) -> list[str]:
    hang = " " * (len(_INDENT) + digits + len(_GAP))
    first = f"{_INDENT}{count:>{digits}}{_GAP}"
    return textwrap.wrap(reason, max(width, 2 * len(hang)), initial_indent=first, subsequent_indent=hang)
