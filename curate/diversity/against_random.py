"""How diverse a selection is: every measure as a value, and against random subsets of the same size.

A value by itself says little: nearly all measures grow or fall with the size of the subset, and each has its own scale. So each
is also taken on random subsets of the same size, and z says how many of their standard deviations the selection lies from their
mean. Where values are normal, about one measure in twenty lies beyond 2 by chance and one in four hundred beyond 3; measures of
the same vectors rise and fall together.

The measures are the files in ``curate/diversity``; each says what it is, what it costs and where it comes from. One that does
not apply (no vectors, no cluster column, no templates) is left out.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from curate.contract import columns
from curate.contract.draws import draws, pairs
from curate.contract.errors import ContractError, DataError, MethodError
from curate.contract.progress import track
from curate.diversity.sample import Sample
from curate.vectors.density import around
from curate.vectors.unit import unit

POOL_ROWS = 20_000  # that stand for the pool in coverage and density
_DIGITS = 6  # of a value; the rest of a float32 sum depends on the number of threads
CLEAR = 3.0  # a z beyond this is told apart from chance: of twenty measures one lies beyond 2 by chance alone


def report(
    table: pl.DataFrame, vectors: np.ndarray | None, chosen: np.ndarray, *, seed: int = 0, subsets: int = 100
) -> list[dict[str, Any]]:
    """One dict a measure: name, about (one plain line), better ("higher", "lower" or None: what is more diverse), value,
    random_mean, random_sd, z, percentile (of the value among the random ones, 0 to 100, ties half).

    table: the pool, n rows. vectors: its vectors (n, d) of any length, or None. chosen: int64 (k,), the selected rows of it, in any
    order. z is None where all random subsets have the same value. The result does not depend on the order of the pool or of
    ``chosen``: subset number i is the k rows whose hash of (seed, i // 2, id) is lowest.

    Time: a pool of 50,000 x 384, 1,000 chosen and 100 subsets take about 30 seconds of processor time, 10,000 of a million some
    minutes. Memory: the vectors twice more as float32, 80 MB of cosines twice, 8 bytes a word of all rows of any subset.
    """
    chosen = _checked(table, vectors, chosen, subsets)
    return reports(table, vectors, [chosen], len(chosen), seed=seed, subsets=subsets)[0][0]


def reports(
    table: pl.DataFrame,
    vectors: np.ndarray | None,
    selections: Sequence[np.ndarray],
    size: int,
    *,
    seed: int = 0,
    subsets: int = 100,
) -> tuple[list[list[dict[str, Any]]], list[tuple[np.ndarray, dict[str, float]]]]:
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
    about: dict[str, tuple[str, str | None]] = {name: said for metric in metrics for name, said in metric.ABOUT.items()}
    values = [
        {name: value for metric in metrics for name, value in metric.measure(sample).items()}
        for sample in track(_samples(table, scaled, taken, metrics, seed), "random subsets", len(taken))
    ]
    mine, chance = values[: len(selections)], values[len(selections) :]
    lines = [
        [
            _line(name, *about[name], value, [other[name] for other in chance if name in other])
            for name, value in measures.items()
        ]
        for measures in mine
    ]
    return lines, [(order[subset], measures) for subset, measures in zip(random, chance, strict=True)]


def toward_diverse(line: dict[str, Any]) -> float | None:
    """z of a line of the report, its sign such that more is more diverse where one of both ends is."""
    return None if line["z"] is None else -line["z"] if line["better"] == "lower" else line["z"]


def rows(measures: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The report as the lines of a plain table, the columns in order; a cell is text, a number or None."""
    return [
        {
            "measure": line["name"],
            "value": line["value"],
            "random": f"{line['random_mean']:.4g} ± {line['random_sd']:.2g}" if line["random_mean"] is not None else "",
            "z": f"{line['z']:+.1f}" if line["z"] is not None else "",
            "percentile": line["percentile"],
            "than random": _verdict(line["better"], line["z"]),
            "what": line["about"],
        }
        for line in measures
    ]


def _verdict(better: str | None, z: float | None) -> str:
    if z is None:
        return ""
    if abs(z) < CLEAR:
        return "alike"
    if better is None:
        return "higher" if z > 0 else "lower"
    return "more diverse" if (z > 0) == (better == "higher") else "less diverse"


def _line(name: str, about: str, better: str | None, value: float, others: list[float]) -> dict[str, Any]:
    mean = sd = z = percentile = None
    if len(others) > 1:
        random = np.asarray(others, dtype=np.float64)
        mean, sd = float(random.mean()), float(random.std(ddof=1))
        noise = 1e-6 * max(abs(mean), 1)  # what rounding alone makes of equal values
        if sd <= noise:
            sd = 0.0
        else:
            z = round((value - mean) / sd, 3)
        same = np.abs(random - value) <= noise
        percentile = round(100 * float(((random < value) & ~same).mean() + same.mean() / 2), 1)
    return {
        "name": name,
        "about": about,
        "better": better,
        "value": _rounded(value),
        "random_mean": _rounded(mean),
        "random_sd": _rounded(sd),
        "z": z,
        "percentile": percentile,
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.{_DIGITS}g}")


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


def _samples(
    table: pl.DataFrame, vectors: np.ndarray | None, subsets: list[np.ndarray], metrics: list[Any], seed: int
) -> Iterator[Sample]:
    """Each subset with what was computed once for all: facts a row, nearness to the pool, density."""
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
    for number, subset in enumerate(subsets):
        index = np.searchsorted(used, subset)
        yield Sample(
            table[index],
            None if vectors is None else vectors[subset],
            None if nearest is None else nearest[number],
            None if density is None else density[subset],
            facts[index] if facts.width else None,
        )


def _metrics() -> list[Any]:
    """The modules of ``curate/diversity`` that measure, by name."""
    files = sorted(Path(__file__).parent.glob("[!_]*.py"))
    modules = [importlib.import_module(f"curate.diversity.{file.stem}") for file in files if file != Path(__file__)]
    return [module for module in modules if hasattr(module, "measure")]
