"""What a selection kept of its pool, on one page: tamis report WORK.

    write(Path("work"))                          # work/selection.html, of the last `select` stage
    data(Path("work"), stage="05-select")        # the same as JSON can say it, without the pictures

The page needs the folder alone, and every number on it is counted from the stage's tables. Cost: the measures of diversity
against random subsets where the stage did not tell them, at most a minute for the map, and the pool's texts and vectors once in memory.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from curate.contract.errors import RequestError
from curate.contract.files import write_text
from curate.report.selection import read
from curate.report.selection_numbers import numbers
from curate.run.work import Work

PAGE = "selection.html"


def write(work: Path, stage: str | None = None, *, seed: int = 0) -> tuple[Path, dict[str, Any]]:
    """Writes WORK/selection.html whole; its path, and the numbers on it. stage: "05-select" or "select"; the last `select`
    stage if not given. seed: of the random subsets and of the rows that are shown. The same work gives the same bytes."""
    from curate.report.selection_page import page

    selection = read(Work(work), stage)
    told = numbers(selection, seed)
    path = Path(work) / PAGE
    write_text(path, page(selection, told, seed))
    return path, told


def data(work: Path, stage: str | None = None, *, seed: int = 0) -> dict[str, Any]:
    """All numbers and texts of the page, as JSON can say them (curate/report/selection_numbers.py)."""
    return numbers(read(Work(work), stage), seed)


def clusters(work: Path, stage: str | None, ks: str) -> tuple[list[dict[str, Any]], str]:
    """How many clusters the pool of a select stage falls into: a line a k (curate/report/how_many_clusters.py), and what to
    make of them. ks: "8,16,32"."""
    from curate.report import how_many_clusters

    try:
        wanted = [int(k) for k in ks.split(",")]
    except ValueError as error:
        raise RequestError(f"--clusters {ks}: write numbers with commas between them, as 8,16,32") from error
    selection = read(Work(work), stage)
    if selection.vectors is None:
        raise RequestError(f"{work} has no vectors to cluster; add an `embed` step to the recipe and run it")
    lines = how_many_clusters.report(selection.vectors, wanted)
    best = how_many_clusters.suggest(lines)
    return lines, f"k = {best}: {how_many_clusters.RULE}." if best else "No k parts the rows into clusters."
