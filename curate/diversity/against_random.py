"""How diverse a selection is: every measure as a value, and against random subsets of the same size.

A value by itself says little: nearly all measures grow or fall with the size of the subset, and each has its own scale. So each
is also taken on random subsets of the same size, and z says how many of their standard deviations the selection lies from their
mean. Which z is far, with so many measures, is told by ``curate/diversity/family.py``.

The measures are the files in ``curate/diversity``; each says what it is, what it costs and where it comes from. One that does
not apply (no vectors, no cluster column, no templates) is left out.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from curate.contract import columns
from curate.contract.draws import draws, pairs
from curate.contract.errors import ContractError, DataError, MethodError
from curate.contract.progress import track
from curate.contract.threads import one_thread
from curate.diversity import family
from curate.diversity.sample import Sample
from curate.vectors.density import around
from curate.vectors.unit import unit

POOL_ROWS = 20_000  # that stand for the pool in coverage and density
_SUBSETS, _FEW = 100, 39  # random ones; the few are enough to tell apart what only one random selection in 40 reaches
_LARGE = 2_000  # rows, above which the few must do
_AT_ONCE = 4  # threads, of which each holds 80 MB of cosines


def report(
    table: pl.DataFrame, vectors: np.ndarray | None, chosen: np.ndarray, *, seed: int = 0, subsets: int | None = None
) -> dict[str, Any]:
    """The measures of a selection, and all of them together: see ``family.against``.

    table: the pool, n rows. vectors: its vectors (n, d) of any length, or None. chosen: int64 (k,), the selected rows of it,
    in any order. subsets: how many random ones; None for 100, and 39 where k is above 2,000. The result does not depend on the
    order of the pool or of ``chosen``, or on the number of threads: subset number i is the k rows whose hash of (seed, i // 2,
    id) is lowest.

    Time: 1,000 of 50,000 rows of 384 take about 30 seconds of processor time, 5,000 of 25,000 about 40, 10,000 of a million
    some minutes; by the clock as much less as there are threads, four at most. Memory: the vectors twice more as float32, 80 MB
    of cosines twice and once a thread, 8 bytes a word of all rows of any subset.
    """
    subsets = how_many(len(chosen)) if subsets is None else subsets
    chosen = _checked(table, vectors, chosen, subsets)
    return reports(table, vectors, [chosen], len(chosen), seed=seed, subsets=subsets)[0][0]


def how_many(size: int) -> int:
    """Random subsets of so many rows that a selection is held against."""
    return _SUBSETS if size <= _LARGE else _FEW


def reports(
    table: pl.DataFrame,
    vectors: np.ndarray | None,
    selections: Sequence[np.ndarray],
    size: int,
    *,
    seed: int = 0,
    subsets: int,
) -> tuple[list[dict[str, Any]], list[tuple[np.ndarray, dict[str, float]]]]:
    """(the report of each selection; the rows of each random subset and its measures), the random subsets measured once.

    selections: int64 (size,) each, rows of the same pool. size: of the random subsets.
    """
    order = table[columns.ID].arg_sort().to_numpy().astype(np.int64)
    table = table[order]
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    random = list(_random(table[columns.ID], size, subsets, seed))
    taken = [*(np.sort(place[chosen]) for chosen in selections), *random]
    scaled = None if vectors is None else unit(vectors, "the diversity report", order)
    metrics = _metrics()
    about = {name: said for metric in metrics for name, said in metric.ABOUT.items()}
    values = _measured(table, scaled, taken, metrics, seed)
    mine, chance = values[: len(selections)], values[len(selections) :]
    told = [family.against(about, measures, chance) for measures in mine]
    return told, [(order[subset], measures) for subset, measures in zip(random, chance, strict=True)]


def _checked(table: pl.DataFrame, vectors: np.ndarray | None, chosen: np.ndarray, subsets: int) -> np.ndarray:
    """The chosen rows as int64, or one sentence."""
    n = table.height
    if columns.ID not in table.columns:
        raise ContractError(
            f"the diversity report needs the column `id`; there are: {', '.join(sorted(table.columns))}"
        )
    if vectors is not None and len(vectors) != n:
        raise ContractError(f"the diversity report was given {len(vectors)} vectors for {n} rows; run `embed` again")
    if subsets < 2:
        raise MethodError(f"diversity report: subsets {subsets} should be 2 or more; 100 is usual")
    rows = np.asarray(chosen)
    if rows.ndim != 1 or not len(rows) or not np.issubdtype(rows.dtype, np.integer):
        raise DataError(
            f"the diversity report needs one or more row numbers, and was given {rows.dtype} of shape {rows.shape}; "
            "select at least one row"
        )
    outside = rows[(rows < 0) | (rows >= n)]
    if len(outside):
        raise DataError(f"the diversity report was given row {outside[0]} of a pool of {n}; rows go from 0 to {n - 1}")
    if len(np.unique(rows)) < len(rows):
        raise DataError("the diversity report was given a row twice; each selected row counts once")
    return rows.astype(np.int64)


def _random(ids: pl.Series, k: int, subsets: int, seed: int) -> Iterator[np.ndarray]:
    """Random subsets of k rows: int64 (k,) each, sorted. One pass over the ids draws two of them."""
    for number in track(range(0, subsets, 2), "drawing subsets"):
        for drawn in pairs(seed, f"diversity.{number // 2}", ids)[: subsets - number]:
            yield np.sort(np.argpartition(drawn, k - 1)[:k])


def _measured(
    table: pl.DataFrame, vectors: np.ndarray | None, subsets: list[np.ndarray], metrics: list[Any], seed: int
) -> list[dict[str, float]]:
    """The measures of each subset. Computed once for all: facts a row, nearness to the pool, density. The subsets are shared among
    threads, each of which multiplies on its own."""
    used, ids = np.unique(np.concatenate(subsets)), table[columns.ID]
    there = [name for name in table.columns if table[name].null_count() < table.height]
    table = table.select(there)[used]
    facts = pl.DataFrame(
        {
            of_rows.__name__: fact
            for of_rows in dict.fromkeys(of_rows for metric in metrics for of_rows in getattr(metric, "FACTS", ()))
            if (fact := of_rows(table)) is not None
        }
    )
    nearest = density = None
    if vectors is not None:
        stands = np.sort(np.argsort(draws(seed, "diversity.pool", ids), kind="stable")[:POOL_ROWS])
        nearest, density = around(vectors, stands, subsets)

    def measured(number: int) -> dict[str, float]:
        subset = subsets[number]
        index = np.searchsorted(used, subset)
        sample = Sample(
            table[index],
            None if vectors is None else vectors[subset],
            None if nearest is None else nearest[number],
            None if density is None else density[subset],
            facts[index] if facts.width else None,
        )
        return {name: value for metric in metrics for name, value in metric.measure(sample).items()}

    with one_thread() as threads, ThreadPoolExecutor(min(threads, _AT_ONCE)) as pool:
        try:
            return list(track(pool.map(measured, range(len(subsets))), "random subsets", len(subsets)))
        except BaseException:
            pool.shutdown(cancel_futures=True)  # else Ctrl-C waits for all that is left
            raise


def _metrics() -> list[Any]:
    """The modules of ``curate/diversity`` that measure, by name."""
    files = sorted(Path(__file__).parent.glob("[!_]*.py"))
    modules = [importlib.import_module(f"curate.diversity.{file.stem}") for file in files if file != Path(__file__)]
    return [module for module in modules if hasattr(module, "measure")]
