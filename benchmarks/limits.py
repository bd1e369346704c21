"""What it costs that limits on several columns are met wherever they can be: 100,000 rows, random choices, no vectors.

Rows lie unevenly over 50 x 50 cells; the quotas are proportional to one column and equal over the other, so that a choice which
does not look ahead comes to an end before its budget. Beside it the same choice under quotas of one column. Wanted: whether
all limits can be met is decided in less than a second.
"""

from __future__ import annotations

import time

import numpy as np
import polars as pl

import tamis
from curate.rows import constraints
from curate.rows.pool import Pool

ROWS, VALUES, LANGUAGES = 100_000, 50, 4
BUDGETS = (1_000, 10_000)


def pool() -> Pool:
    rng = np.random.default_rng(0)
    source = rng.integers(0, VALUES, ROWS)
    cluster = np.where(
        rng.random(ROWS) < 0.7, (source + rng.integers(0, 15, ROWS)) % VALUES, rng.integers(0, VALUES, ROWS)
    )
    language = np.where(rng.random(ROWS) < 0.5, source % LANGUAGES, rng.integers(0, LANGUAGES, ROWS))
    return Pool(
        pl.DataFrame(
            {
                "id": [f"{row:06d}" for row in range(ROWS)],
                "source": [f"s{one}" for one in source.tolist()],
                "cluster": cluster.astype(np.int32),
                "language": [f"l{one}" for one in language.tolist()],
            }
        )
    )


def main() -> None:
    rows = pool()
    quotas = {"source": "proportional", "cluster": "equal", "language": "equal"}
    print(f"random choices from {ROWS:,} rows; values of the columns: {VALUES}, {VALUES}, {LANGUAGES}")
    print(f"{'picks':>7}  {'limited columns':>15}  {'decided in':>10}  {'chosen in':>9}", flush=True)
    for budget in BUDGETS:
        for many in (1, 2, 3):
            some = dict(list(quotas.items())[:many])
            start = time.perf_counter()
            constraints.build("random", rows, budget, quotas=some)
            decided = time.perf_counter() - start
            start = time.perf_counter()
            tamis.select(rows, "random", budget=budget, quotas=some)
            chosen = time.perf_counter() - start
            print(f"{budget:>7,}  {many:>15}  {decided:>8.2f} s  {chosen:>7.2f} s", flush=True)


if __name__ == "__main__":
    main()
