"""Cut the pool into clusters and draw each cluster's share of the budget by a softmax of the score (kMQ).

When to use: to keep the mixture of topics as it is while better rows come more often. Without a score it is
``stratified`` over clusters.
Cost: k-means with 512 clusters, time 256 k² x d x rounds + n x k x d. 7,600 rows of 384 take about three seconds,
100,000 take 12, a million a minute or two. Memory: four copies of the vectors.

    - embed: sentence
    - select: {kmq: {budget: 1000, score: score_ifd}}

Reference: Yu et al. 2024, "Diversify and Conquer", arXiv 2409.11378, the static form (k-means-quality). The
published code cuts each cluster's share to a whole number and gives fewer rows than asked: 9,216 of 10,000 with 1,024
clusters. Drawing without replacement by adding Gumbel noise to the scores: Kool et al. 2019, arXiv 1903.06059.
"""

from __future__ import annotations

import numpy as np

from curate.contract.draws import uniform
from curate.contract.errors import MethodError
from curate.rows.constraints import Constraints, numbers
from curate.rows.pool import Picks, Pool
from curate.select.clusters import clusters
from curate.select.rankings import interleaved
from curate.vectors.unit import unit_by_id

_ROWS_A_CLUSTER = 10  # on average: with fewer, most clusters are due less than one row


def select(
    pool: Pool,
    budget: int,
    *,
    seed: int = 0,
    constraints: Constraints | None = None,
    score: str | None = None,
    k: int = 512,
) -> Picks:
    """Of each cluster its rounded share of the budget, drawn one by one without replacement: of those left, a row comes
    next with probability exp(score) / sum of exp(score). Gain: the score, or nan without one. Every prefix is the
    smaller selection.

    score: a column, taken as it is: rows whose scores are 1 apart differ by a factor of 2.7. k: how many clusters,
    fewer where the pool has fewer rows.

    Rows of zeros are a cluster of their own. Facts: clusters, and refilled, the rows by which the published rounding
    would fall short.
    """
    if k < 1:
        raise MethodError(f"select kmq: k is {k}; it is a number of clusters, 1 or more")
    order, vectors = unit_by_id(pool, "kmq")
    value = np.full(len(pool), np.nan) if score is None else numbers("kmq", pool, score)[order]
    wanted = (constraints or Constraints.none(len(pool), budget)).ordered(order)
    if not wanted.budget or not len(pool):
        return Picks(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float32))
    k = min(k, max(1, len(pool) // _ROWS_A_CLUSTER))
    label = clusters(vectors, k, seed).label + 1
    size = np.bincount(label)
    drawn = np.maximum(uniform(seed, "select.kmq", pool.ids)[order], 2.0**-54)  # 0 has no logarithm
    key = -np.log(-np.log(drawn)) + (0.0 if score is None else value)
    picks = wanted.walk(interleaved(np.argsort(-key, kind="stable"), label, size))
    short = len(picks) - int((len(picks) * size // len(pool)).sum())
    facts = {"clusters": int(np.count_nonzero(size[1:])), "refilled": short}
    return Picks(order[picks], value[picks].astype(np.float32), facts)
