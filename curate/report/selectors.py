"""All selectors on one pool: what each costs, what it reaches, how diverse it is, and how much they choose the same rows.

    comparison = compare(Path("work"), budget=500, only=["facility_location", "k_center", "random"])
    write(comparison, Path("work/selectors.html"), command="how it was made")      # the page, and all numbers beside it

The pool is that of the last select stage of a work folder. Each selector runs in a process of its own, once on a few rows so
that its libraries are loaded, then on the pool, then with other seeds and other numbers of clusters. A selector that needs a
column gets one that the pool has, which the page tells; one that fails is listed with its sentence.

Cost: that of the selectors, one after another, up to eight times each; then the diversity report of all selections together, whose
random subsets are measured once. 20 selectors, 100 of 1,076 rows of 256: under a minute.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from curate.contract import columns
from curate.contract.draws import draws
from curate.contract.errors import RequestError
from curate.contract.files import write_json, write_text
from curate.contract.progress import say
from curate.diversity.against_random import POOL_ROWS, how_many, reports
from curate.report.selection import Selection, read
from curate.report.selectors_run import LENGTH, Ran, plan, run_all, score_of
from curate.report.selectors_table import VENDI
from curate.run.work import Work
from curate.vectors.unit import unit

BLOCK = 4_096  # rows of the pool compared with a selection at a time
_SHARE = 10  # of the pool is chosen, one row in so many, where the budget is not given


def compare(
    work: Path, *, budget: int | None = None, seeds: int = 5, only: Sequence[str] = (), subsets: int | None = None
) -> dict[str, Any]:
    """All numbers of the comparison, as JSON can say them.

    selectors: by name, options, seconds, mb, facility_location (mean over the pool of the largest cosine to a pick, not below 0),
    radius (largest distance of a row to its nearest pick), seed_overlap and k_overlap (mean Jaccard overlap of the picks between
    seeds, and between half, once and twice the clusters in ``ks``; None where nothing was varied), draws (whether seed 1 gave
    other picks than seed 0; if not, no other seed was tried), diversity (the report of ``curate.diversity.family``).
    random: facility_location, radius and vendi of each random subset. overlap: Jaccard of each two selectors' picks, in the order
    of ``order``. failed and left_out: a sentence each.
    """
    selection = read(Work(work))
    if selection.vectors is None:
        raise RequestError(
            f"{work} has no vectors to compare selectors by; add `- embed: hashing` before `select` and run it"
        )
    budget = _budget(work, selection, budget)
    subsets = how_many(budget) if subsets is None else subsets
    if seeds < 1:
        raise RequestError(f"--seeds is {seeds}; it is a number of seeds, 1 or more")
    pool, score = _with_a_score(selection.pool.drop(columns.RANK, columns.GAIN))
    cluster = next(iter(selection.names), None)
    wanted, left_out = plan(pool, score, cluster, only)
    ran, failed = run_all(pool, selection.vectors, cluster, wanted, budget, seeds)
    options = {one.name: one.options for one in wanted}
    return {
        "recipe": selection.recipe,
        "stage": selection.manifest["stage"],
        "rows": pool.height,
        "dimensions": int(selection.vectors.shape[1]),
        "budget": budget,
        "seeds": seeds,
        "subsets": subsets,
        "score": score,
        **_measured(pool, selection.vectors, ran, options, budget, subsets),
        "order": list(ran),
        "overlap": [[round(jaccard(one.picks, other.picks), 6) for other in ran.values()] for one in ran.values()],
        "failed": failed,
        "left_out": left_out,
    }


def write(comparison: dict[str, Any], path: Path, command: str) -> Path:
    """Writes the page, and all numbers as JSON beside it; the path of these. command: how it is made again."""
    from curate.report.selectors_page import page

    numbers = path.with_suffix(".json")
    write_json(numbers, comparison)
    write_text(path, page(comparison, command))
    return numbers


def jaccard(one: np.ndarray, other: np.ndarray) -> float:
    """Rows in both over rows in either; 1 for the same rows."""
    both = len(np.intersect1d(one, other))
    return both / max(len(one) + len(other) - both, 1)


def mean_overlap(runs: Iterable[np.ndarray]) -> float | None:
    """The mean Jaccard overlap of each two; None for fewer than two."""
    overlaps = [jaccard(one, other) for one, other in itertools.combinations(runs, 2)]
    return float(np.mean(overlaps)) if overlaps else None


def coverage(vectors: np.ndarray, selections: Sequence[np.ndarray], stands: np.ndarray) -> list[tuple[float, float]]:
    """(facility location value, radius) of each selection over the rows ``stands``; vectors of unit length."""
    reached = []
    for selection in selections:
        picked = vectors[selection].T
        total, least = 0.0, np.inf
        for start in range(0, len(stands), BLOCK):
            nearest = (vectors[stands[start : start + BLOCK]] @ picked).max(axis=1)
            total += float(np.maximum(nearest, 0).sum(dtype=np.float64))
            least = min(least, float(nearest.min()))
        reached.append((total / len(stands), math.sqrt(max(2 - 2 * least, 0.0))))
    return reached


def _budget(work: Path, selection: Selection, asked: int | None) -> int:
    rows = selection.pool.height
    budget = min(len(selection.chosen), max(1, rows // _SHARE)) if asked is None else asked
    if not 1 <= budget <= rows:
        raise RequestError(f"--budget is {budget:,}; {work} has a pool of {rows:,} rows, and so many at most")
    return budget


def _with_a_score(pool: pl.DataFrame) -> tuple[pl.DataFrame, str]:
    """(the pool, its column of scores): where it has none, the length of the response is added as one."""
    score = score_of(pool)
    if score == LENGTH:
        pool = pool.with_columns(pl.col(columns.RESPONSE).fill_null("").str.len_chars().alias(LENGTH))
    return pool, score


def _measured(
    pool: pl.DataFrame,
    vectors: np.ndarray,
    ran: Mapping[str, Ran],
    options: Mapping[str, dict[str, Any]],
    budget: int,
    subsets: int,
) -> dict[str, Any]:
    """What each selector reached and how diverse its picks are, and the same of random subsets, these over some rows alone."""
    say("measuring")
    scaled = unit(vectors, "the comparison of selectors")
    picks = [one.picks for one in ran.values()]
    diversity, random = reports(pool, scaled, picks, budget, subsets=subsets)
    values = coverage(scaled, picks, np.arange(len(scaled)))
    drawn = draws(0, "selectors.pool", pool[columns.ID])
    stands = np.sort(np.argsort(drawn, kind="stable")[:POOL_ROWS])
    by_chance = coverage(scaled, [subset for subset, _ in random], stands)
    return {
        "selectors": {
            name: _told(one, options[name], *reached) | {"diversity": told}
            for (name, one), reached, told in zip(ran.items(), values, diversity, strict=True)
        },
        "random": {
            "facility_location": [value for value, _ in by_chance],
            "radius": [radius for _, radius in by_chance],
            "vendi": [measures.get(VENDI) for _, measures in random],
        },
    }


def _told(one: Ran, options: dict[str, Any], value: float, radius: float) -> dict[str, Any]:
    return {
        "options": options,
        "seconds": round(one.seconds, 3),
        "mb": one.mb,
        "facility_location": value,
        "radius": radius,
        "seed_overlap": mean_overlap(one.seeds.values()),
        "draws": one.draws,
        "k_overlap": mean_overlap(one.cuts.values()),
        "ks": list(one.cuts),
    }
