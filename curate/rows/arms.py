"""The subsets of a study's arms: which rows each arm holds at each draw.

A *draw* is a hash-drawn 80 % of the pool, the same for every arm, so that a deterministic selector has draws too; or, where
draws are to share nothing, one of as many disjoint parts as there are draws. Every arm picks once a draw, at the largest
budget; the smaller budgets are the prefixes by ``rank``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from curate.contract import columns
from curate.contract.draws import draw, draws
from curate.contract.errors import DataError
from curate.contract.files import whole
from curate.contract.methods import Method
from curate.contract.progress import bar
from curate.rows.pool import Picks, Pool

BASELINES = ("random", "longest", "stratified")  # among the arms of a study, unless it names fewer
SHARE = 0.8
POOLS = ("overlapping", "disjoint")


@dataclass(frozen=True)
class Arm:
    """How an arm picks, and how many at most. prefixes: whether the first of its picks must be its smaller choices. beside: rows
    that it is shown and does not pick, as those of its target."""

    method: Method
    options: dict[str, Any]
    budget: int
    prefixes: bool = True
    beside: Pool | None = None


@dataclass(frozen=True)
class Tokens:
    """What arms hold the same of: for each row its tokens, under every rendering of the rows that the study has, and how many of
    the reference's first picks all must reach."""

    of_row: list[dict[str, int]]
    reference: str
    budget: int


def drawn(ids: list[str], number: int, seed: int, parts: int = 0) -> np.ndarray:
    """The rows of draw ``number``: int64, rising, floor(0.8 n) of them, those with the smallest hashes; with ``parts`` the
    number-th of so many disjoint parts, as equal as can be."""
    names = np.asarray(ids, dtype=np.str_)
    if not parts:
        order = np.lexsort((names, draws(seed, f"study.draw/{number}", ids)))
        return np.sort(order[: int(len(ids) * SHARE)]).astype(np.int64)
    order = np.lexsort((names, draws(seed, "study.part", ids)))
    return np.sort(order[number::parts]).astype(np.int64)


def write_subsets(
    folder: Path, pool: Pool, arms: dict[str, Arm], n_draws: int, seed: int, *, pools: str = "overlapping",
    tokens: Tokens | None = None,
) -> None:  # fmt: skip
    """Writes ``folder/<arm>/<draw>.parquet`` (id, rank i32, gain f32) for every arm and draw.

    pools: whether draws overlap or are disjoint. tokens: what is held equal where it is not examples; an arm then picks twice
    as many until they have as many tokens as the reference's.
    Files that are there are kept, so that a killed study goes on. Cost: one selection of the largest budget an arm and draw.
    """
    parts = n_draws if pools == "disjoint" else 0
    size = len(pool) // parts if parts else int(len(pool) * SHARE)
    largest = max(arm.budget for arm in arms.values())
    if largest > size:
        what = f"a {parts}th" if parts else "80 %"
        raise DataError(
            f"study: the largest budget is {largest:,}, but a draw holds {size:,} rows ({what} of a pool of {len(pool):,}); "
            f"ask for at most {size:,}, or filter less"
        )
    with bar(n_draws * len(arms), "study: selecting") as advance:
        for number in range(n_draws):
            rows: Pool | None = None
            for name, arm in arms.items():
                path = folder / name / f"{number}.parquet"
                if not path.is_file():
                    rows = pool.take(drawn(pool.ids, number, seed, parts)) if rows is None else rows
                    least = _least(folder, tokens, number) if tokens and name != tokens.reference else []
                    _write(path, name, arm, rows, draw(seed, "study.arm", str(number)) % 2**31, tokens, least)
                advance(1)


def _least(folder: Path, tokens: Tokens, number: int) -> list[int]:
    """The tokens of the reference's first picks on a draw, under every rendering."""
    picked = pl.read_parquet(folder / tokens.reference / f"{number}.parquet").sort(columns.RANK)[columns.ID]
    return [sum(of_row[id] for id in picked[: tokens.budget]) for of_row in tokens.of_row]


def _write(path: Path, name: str, arm: Arm, rows: Pool, seed: int, tokens: Tokens | None, least: list[int]) -> None:
    budget = arm.budget
    while True:
        ids, picks = _picked(name, arm, rows, budget, seed)
        if tokens is None or all(sum(of[id] for id in ids) >= n for of, n in zip(tokens.of_row, least, strict=False)):
            break
        if budget == len(rows):
            raise DataError(
                f"study: on draw {path.stem} the whole of what the arm '{name}' may pick has fewer tokens than {tokens.budget:,} rows of "
                f"{tokens.reference}; ask for smaller budgets"
            )
        budget = min(2 * budget, len(rows))
    frame = pl.DataFrame(
        {
            columns.ID: ids,
            columns.RANK: pl.Series(np.arange(len(ids)), dtype=pl.Int32),
            columns.GAIN: pl.Series(picks.gain, dtype=pl.Float32),
        }
    )
    with whole(path) as temporary:
        frame.write_parquet(temporary)


def _picked(name: str, arm: Arm, rows: Pool, budget: int, seed: int) -> tuple[list[str], Picks]:
    from curate.rows.pick import pick

    shown = rows if arm.beside is None else _together(rows, arm.beside)
    picks = pick(arm.method, shown, budget, arm.options, seed)
    if arm.prefixes and not picks.facts.get("nested", True):
        raise DataError(
            f"study: the arm '{name}' ({arm.method.name}) chooses other rows for each budget, so the first rows of a "
            "large choice are no smaller one; give the study one budget, or the arm options that keep prefixes "
            "(centroid: a k; facility_location: neither epsilon nor partitions, and above 60,000 rows `neighbours`; no quotas)"
        )
    return shown.table[columns.ID].gather(picks.index.tolist()).to_list(), picks


def _together(rows: Pool, beside: Pool) -> Pool:
    table = pl.concat([rows.table, beside.table], how="diagonal_relaxed")
    vectors = None
    if rows.vectors is not None and beside.vectors is not None:
        vectors = np.concatenate([rows.vectors, beside.vectors])
    return Pool(table, vectors)
