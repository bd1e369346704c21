"""The subsets of a study's arms: which rows each arm holds at each draw.

A *draw* is a hash-drawn 80 % of the pool, the same for every arm, so that a deterministic selector has draws too. Every arm
picks once a draw, at the largest budget; the smaller budgets are the prefixes by ``rank``.
"""

from __future__ import annotations

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
from curate.rows.pool import Pool

SHARE = 0.8


def drawn(ids: list[str], number: int, seed: int) -> np.ndarray:
    """The rows of draw ``number``: int64 (floor(0.8 n),), those with the smallest hashes, in the order of the pool."""
    order = np.lexsort((np.asarray(ids, dtype=np.str_), draws(seed, f"study.draw/{number}", ids)))
    return np.sort(order[: int(len(ids) * SHARE)]).astype(np.int64)


def write_subsets(
    folder: Path,
    pool: Pool,
    arms: dict[str, tuple[Method, dict[str, Any]]],
    budgets: list[int],
    n_draws: int,
    seed: int,
) -> None:
    """Writes ``folder/<arm>/<draw>.parquet`` (id, rank i32, gain f32) for every arm and draw.

    Files that are there are kept, so that a killed study goes on. Cost: one selection of max(budgets) rows an arm and draw.
    """
    from curate.rows.pick import pick

    size = int(len(pool) * SHARE)
    if max(budgets) > size:
        raise DataError(
            f"study: the largest budget is {max(budgets):,}, but a draw holds {size:,} rows (80 % of a pool of {len(pool):,}); "
            f"ask for at most {size:,}, or filter less"
        )
    with bar(n_draws * len(arms), "study: selecting") as advance:
        for number in range(n_draws):
            rows = None
            for arm, (method, options) in arms.items():
                path = folder / arm / f"{number}.parquet"
                if not path.is_file():
                    rows = pool.take(drawn(pool.ids, number, seed)) if rows is None else rows
                    picks = pick(method, rows, max(budgets), options, draw(seed, "study.arm", str(number)) % 2**31)
                    if len(budgets) > 1 and not picks.facts.get("nested", True):
                        raise DataError(
                            f"study: the arm '{arm}' ({method.name}) chooses other rows for each budget, so the first rows of a "
                            "large choice are no smaller one; give the study one budget, or the arm options that keep prefixes "
                            "(centroid: a k; facility_location: neither epsilon nor partitions, and above 60,000 rows `neighbours`; no quotas)"
                        )
                    ids = rows.table[columns.ID].gather(picks.index.tolist())
                    rank = pl.Series(columns.RANK, np.arange(len(picks.index)), dtype=pl.Int32)
                    gain = pl.Series(columns.GAIN, picks.gain, dtype=pl.Float32)
                    with whole(path) as temporary:
                        pl.DataFrame([ids, rank, gain]).write_parquet(temporary)
                advance(1)
