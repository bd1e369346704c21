"""Take the best-scored rows of every cluster, and fill up with the best-scored of all (CaR, cluster and rank).

When to use: with a score that you trust, where score alone would leave whole topics out.
Cost: k-means with sqrt(n / 2) clusters after a PCA: time n x d² and 256 k² x d x rounds. 7,600 rows of 384 take less
than a second, 100,000 take 8, a million a few minutes. Memory: four copies of the vectors.

    - embed: sentence
    - select: {car: {budget: 1000, score: score_ifd}}

Reference: Ge et al. 2024, "Clustering and Ranking", arXiv 2402.18191. They take the top n1 = 1,000 rows and
join the top n2 = 1 of each cluster, 1,017 rows together; here n1 is what makes the budget exact. They group by
Euclidean k-means, here rows are grouped by their direction from the mean of the pool.
"""

from __future__ import annotations

import math

import numpy as np

from curate.contract.errors import MethodError
from curate.contract.threads import one_thread
from curate.rows.constraints import Constraints, numbers
from curate.rows.pool import Picks, Pool
from curate.select.clusters import clusters
from curate.vectors.unit import unit_by_id

_VARIANCE = 0.95  # that the principal components keep
_BLOCK = 16_384  # rows at a time


def select(
    pool: Pool,
    budget: int,
    *,
    seed: int = 0,
    constraints: Constraints | None = None,
    score: str,
    per_cluster: int = 1,
    k: int | None = None,
) -> Picks:
    """First the best rows of each cluster by falling score, then all others likewise. Ties go by id. Gain: the score.

    score: a column of numbers, higher is better. per_cluster: how many rows of each cluster come first; with a budget
    below ``per_cluster`` x k the best of these are taken. k: how many clusters, floor(sqrt(n / 2)) if not given.

    Every prefix is the smaller selection. A row that constraints close does not count for its cluster, one that must be
    in does. Facts: clusters, dimensions (kept by the PCA), and from_clusters, the picks of the first kind.
    """
    if per_cluster < 1 or (k is not None and k < 1):
        raise MethodError(
            f"select car: per_cluster is {per_cluster} and k is {k}; both are 1 or more, and k may be left out"
        )
    order, vectors = unit_by_id(pool, "car")
    value = numbers("car", pool, score)[order]
    wanted = (constraints or Constraints.none(len(pool), budget)).ordered(order)
    wanted.refuse_quality()
    if not wanted.budget or not len(pool):
        return Picks(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float32))
    vectors = _principal(vectors)
    k = min(k or max(1, math.isqrt(len(pool) // 2)), len(pool))
    label = clusters(vectors, k, seed).label
    picks, from_clusters = _best(np.argsort(-value, kind="stable"), label + 1, per_cluster, wanted)
    facts = {"clusters": int(label.max()) + 1, "dimensions": vectors.shape[1], "from_clusters": from_clusters}
    return Picks(order[picks], value[picks].astype(np.float32), facts)


def _best(ranking: np.ndarray, label: np.ndarray, per_cluster: int, wanted: Constraints) -> tuple[np.ndarray, int]:
    """(the picks, int64 (k,); how many of them are among the best of their cluster)."""
    remaining = wanted.begin()
    picks = ranking[np.isin(ranking, wanted.must)].tolist()
    count = np.bincount(label[picks], minlength=label.max() + 1).tolist()
    for row in picks:
        remaining.take(row)
    first = sum(min(rows, per_cluster) for rows in count)
    for most in (per_cluster, len(ranking)):
        for row in ranking.tolist():
            if count[label[row]] < most and remaining.take(row):
                picks.append(row)
                count[label[row]] += 1
                first += most == per_cluster
    return np.array(picks, dtype=np.int64), first


def _principal(vectors: np.ndarray) -> np.ndarray:
    """The vectors less their mean, in the fewest principal components that keep their variance: float32 (n, r).

    On one thread, since with more the last bits could differ, and k-means draws by a hash of these bits.
    """
    mean = vectors.mean(axis=0, dtype=np.float64).astype(np.float32)
    spread = np.zeros((vectors.shape[1], vectors.shape[1]))
    with one_thread():
        for start in range(0, len(vectors), _BLOCK):
            block = vectors[start : start + _BLOCK] - mean
            spread += block.T @ block
        variance, axes = np.linalg.eigh(spread)
        variance, axes = np.maximum(variance[::-1], 0), axes[:, ::-1]
        enough = np.searchsorted(np.cumsum(variance), _VARIANCE * variance.sum()) + 1
        axes = np.ascontiguousarray(axes[:, :enough], dtype=np.float32)
        reduced = np.empty((len(vectors), axes.shape[1]), dtype=np.float32)
        for start in range(0, len(vectors), _BLOCK):
            np.matmul(vectors[start : start + _BLOCK] - mean, axes, out=reduced[start : start + _BLOCK])
    return reduced
