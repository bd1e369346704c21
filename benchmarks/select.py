"""Selectors against their peers at sizes that the peers can hold; `benchmarks/million.py` goes on from there.

Facility location: all solve the same problem, the sum over rows of max(0, best cosine to a pick). The peers cannot take a cosine
that is cut at zero (apricot's own is squared), so both are given the kernel, and the time to compute it is in their time; ours
computes what it needs. Peers run with their lazy optimisers, which their documentation calls the fastest exact ones. DEITA is
held against the rule as its authors publish it, a row at a time. Wanted: facility location of 500 from 7,600 in at most twice
the time of X Xᵀ alone, and at least 2.5 times as fast as either peer; DEITA at least 100 times as fast as the loop; on a graph of
16 neighbours at least 0.99 of the exact value at 20,000 rows.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import polars as pl

from benchmarks.embed import texts
from curate.embed import sentence
from curate.rows.pool import Pool
from curate.select import deita, facility_location, k_center

ROUNDS = 3


def kernel(vectors: np.ndarray) -> np.ndarray:
    similarity = vectors @ vectors.T
    return np.maximum(similarity, 0, out=similarity)


def with_apricot(vectors: np.ndarray, budget: int) -> list[int]:
    from apricot import FacilityLocationSelection

    selector = FacilityLocationSelection(budget, metric="precomputed", optimizer="lazy")
    return selector.fit(kernel(vectors)).ranking.tolist()


def with_submodlib(vectors: np.ndarray, budget: int) -> list[int]:
    from submodlib import FacilityLocationFunction

    function = FacilityLocationFunction(n=len(vectors), mode="dense", sijs=kernel(vectors), separate_rep=False)
    picks = function.maximize(
        budget=budget, optimizer="LazyGreedy", stopIfZeroGain=False, stopIfNegativeGain=False, show_progress=False
    )
    return [row for row, _ in picks]


def one_product_a_pick(vectors: np.ndarray, budget: int) -> list[int]:
    """k-center as it is usually written."""
    picks = [int(np.argmax(vectors @ vectors.mean(axis=0)))]
    nearest = np.full(len(vectors), np.inf, dtype=np.float32)
    while len(picks) < budget:
        np.minimum(nearest, 2 - 2 * (vectors @ vectors[picks[-1]]), out=nearest)
        picks.append(int(nearest.argmax()))
    return picks


def deita_row_by_row(vectors: np.ndarray, score: np.ndarray, budget: int, threshold: float = 0.9) -> list[int]:
    """DEITA's filter as published, batches of one: the kept rows are gathered, made a tensor and normalised for every row."""
    import torch

    def normalised(matrix: torch.Tensor) -> torch.Tensor:
        for _ in range(2):  # once for the metric, once for `normalize_emb`
            matrix = matrix / matrix.norm(dim=1)[:, None]
        return matrix

    order = np.lexsort((np.arange(len(score)), -score))
    sorted_vectors, kept = vectors[order], [0]
    for row in range(1, len(order)):
        if len(kept) >= budget:
            break
        mine, others = torch.tensor(sorted_vectors[row : row + 1]), torch.tensor(sorted_vectors[kept])
        if not bool((normalised(mine) @ normalised(others).T > threshold).any()):
            kept.append(row)
    return order[kept].tolist()


def timed(work: Callable[[], list[int]], rounds: int = ROUNDS) -> tuple[float, list[int]]:
    """The fewest seconds of some rounds, and the result."""
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        picks = work()
        seconds.append(time.perf_counter() - start)
    return min(seconds), picks


def pool_of(vectors: np.ndarray, score: np.ndarray | None = None) -> Pool:
    table = pl.DataFrame({"id": [f"{i:08d}" for i in range(len(vectors))]})
    return Pool(table if score is None else table.with_columns(score=score), vectors)


def grown(vectors: np.ndarray, rows: int, seed: int = 0, mixed: bool = True) -> np.ndarray:
    """Rows between real ones: each is a mixture of two, with noise; float32 (rows, d) of unit length. Made by blocks. Not mixed:
    each is one of them, with noise."""
    rng, out = np.random.default_rng(seed), np.empty((rows, vectors.shape[1]), np.float32)
    for start in range(0, rows, 65_536):
        block = out[start : start + 65_536]
        share = rng.uniform(0.5 if mixed else 1, 1, (len(block), 1)).astype(np.float32)
        one, other = (vectors[rng.integers(0, len(vectors), len(block))] for _ in range(2))
        block[:] = share * one + (1 - share) * other + rng.normal(0, 0.01, block.shape).astype(np.float32)
        block /= np.linalg.norm(block, axis=1, keepdims=True)
    return out


def coverage(vectors: np.ndarray, picks: list[int]) -> float:
    parts = [vectors[at : at + 8_192] @ vectors[picks].T for at in range(0, len(vectors), 8_192)]
    return float(sum(np.maximum(part.max(axis=1), 0).sum(dtype=np.float64) for part in parts))


def radius(vectors: np.ndarray, picks: list[int]) -> float:
    return float(np.sqrt(2 - 2 * (vectors @ vectors[picks].T).max(axis=1).min()))


def compare(
    title: str,
    works: dict[str, Callable[[], list[int]]],
    score: Callable[[list[int]], float],
    rounds: int = ROUNDS,
) -> None:
    print(title, flush=True)
    mine = None
    for name, work in works.items():
        try:
            seconds, picks = timed(work, rounds)
        except ImportError as error:
            print(f"  {name:<28} not installed ({error.name})")
            continue
        mine = mine or seconds
        value = f"value {score(picks):,.3f}" if picks else ""
        print(f"  {name:<28} {seconds:>7.2f} s   {seconds / mine:>6.2f} times ours   {value}", flush=True)


def main() -> None:
    vectors = sentence.embed(texts(7_600))
    pool = pool_of(vectors)
    rng = np.random.default_rng(0)
    compare(
        f"facility location, {len(vectors):,} rows of {vectors.shape[1]}, 500 picks; value: sum of best cosines",
        {
            "ours": lambda: facility_location.select(pool, 500).index.tolist(),
            "X Xᵀ alone": lambda: (vectors @ vectors.T)[:0, 0].tolist(),
            "apricot, lazy": lambda: with_apricot(vectors, 500),
            "submodlib, LazyGreedy": lambda: with_submodlib(vectors, 500),
        },
        lambda picks: coverage(vectors, picks),
    )
    near = vectors[rng.integers(0, len(vectors), 10_000)]
    near = near + rng.normal(0, 0.02, near.shape).astype(np.float32)
    near /= np.linalg.norm(near, axis=1, keepdims=True)
    many = pool_of(near)
    compare(
        f"k-center, {len(near):,} rows of {near.shape[1]}, 1,000 picks; value: largest distance to a pick",
        {
            "ours": lambda: k_center.select(many, 1_000).index.tolist(),
            "one product a pick": lambda: one_product_a_pick(near, 1_000),
        },
        lambda picks: radius(near, picks),
    )
    score = rng.random(len(vectors))
    scored = pool_of(vectors, score)
    kept = len(deita_row_by_row(vectors, score, len(vectors)))
    compare(
        f"DEITA, {len(vectors):,} rows, threshold 0.9, all {kept:,} that it lets in; value: the picks' place in the order",
        {
            "ours": lambda: deita.select(scored, kept, score="score").index.tolist(),
            "row by row, as published": lambda: deita_row_by_row(vectors, score, kept),
        },
        lambda picks: float(np.arange(1, len(picks) + 1) @ np.array(picks) % 1e9),
        rounds=1,
    )
    more = grown(vectors, 20_000)
    large = pool_of(more)
    compare(
        "facility location, 20,000 rows, 500 picks, exact and otherwise; value: sum of best cosines",
        {
            "exact": lambda: facility_location.select(large, 500).index.tolist(),
            "graph of 16 neighbours": lambda: facility_location.select(large, 500, neighbours=16).index.tolist(),
            "graph of 64 neighbours": lambda: facility_location.select(large, 500, neighbours=64).index.tolist(),
            "on samples, epsilon 0.01": lambda: facility_location.select(large, 500, epsilon=0.01).index.tolist(),
            "in 4 parts": lambda: facility_location.select(large, 500, partitions=4).index.tolist(),
            "in 16 parts": lambda: facility_location.select(large, 500, partitions=16).index.tolist(),
            "at random": lambda: np.sort(rng.permutation(20_000)[:500]).tolist(),
        },
        lambda picks: coverage(more, picks),
        rounds=1,
    )


if __name__ == "__main__":
    main()
