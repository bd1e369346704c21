"""What facility location loses where not all pairs are looked at, over budgets: as above 60,000 rows, on 20,000 of them.

Of each choice, the share of what the exact one gains over random picks, the mean of five; how many rows have a pick among the
neighbours that they count; what the graph sees of the full objective. Rows are mixtures of two real embeddings each, with
noise. Wanted: with what follows the budget, at least 0.95 at each of them.
"""

from __future__ import annotations

import time

import numpy as np

from benchmarks.embed import texts
from benchmarks.select import coverage, grown, pool_of
from curate.embed import sentence
from curate.select import facility_location, random

ROWS = 20_000
BUDGETS = (5, 20, 100, 500, 2_000)


def main(vectors: np.ndarray | None = None) -> None:
    vectors = grown(sentence.embed(texts(7_600)), ROWS) if vectors is None else vectors
    pool = pool_of(vectors)
    exact = facility_location.select(pool, max(BUDGETS), neighbours=0).index.tolist()
    facility_location.EXACT = 0  # no pool is small
    print(f"facility location of {len(vectors):,} rows of {vectors.shape[1]}")
    print(f"{'picks':>6}  {'':<20} {'of the exact gain':>17} {'covered':>8} {'seen':>6} {'seconds':>8}", flush=True)
    for budget in BUDGETS:
        best = coverage(vectors, exact[:budget])
        drawn = [coverage(vectors, random.select(pool, budget, seed=seed).index.tolist()) for seed in range(5)]
        for name, neighbours in (("16 neighbours", 16), ("what follows", None)):
            start = time.perf_counter()
            picks = facility_location.select(pool, budget, neighbours=neighbours)
            seconds = time.perf_counter() - start
            share = (coverage(vectors, picks.index.tolist()) - np.mean(drawn)) / (best - np.mean(drawn))
            told = [f"{picks.facts[name]:.2f}" if name in picks.facts else "" for name in ("covered", "sparse_ratio")]
            print(f"{budget:>6,}  {name:<20} {share:>17.3f} {told[0]:>8} {told[1]:>6} {seconds:>8.1f}", flush=True)


if __name__ == "__main__":
    main()
