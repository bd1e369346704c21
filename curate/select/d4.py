"""Drop near-copies inside clusters, cluster what is left anew, and drop the rows nearest to the new centres (D4).

When to use: to shrink a pool by a half or three quarters, as the paper does; what stays are rows that are neither
copies nor typical. For a small budget it picks outliers: look at them.
Cost: two runs of k-means with sqrt(n) clusters, and all pairs inside each cluster, in blocks. 7,600 rows of 384 take
about a second, 100,000 take 13, a million some minutes; a cluster of 300,000 rows alone takes ten. Memory: four copies
of the vectors.

    - embed: sentence
    - select: {d4: {budget: 1000, dedup: 0.75}}

Reference: Tirumala et al. 2023, "D4: Improving LLM Pretraining via Document De-Duplication and Diversification", arXiv
2308.12284 (0.75 for the first step); the first step is SemDeDup, Abbas et al. 2023, arXiv 2303.09540, the
last the prototypes of Sorscher et al. 2022, arXiv 2206.14486.
"""

from __future__ import annotations

import math

import numpy as np

from curate.contract.errors import MethodError
from curate.contract.progress import bar
from curate.rows.constraints import Constraints
from curate.rows.pool import Picks, Pool
from curate.select.clusters import clusters
from curate.vectors.product import product
from curate.vectors.unit import unit_by_id

_BLOCK = 1_024  # rows of a cluster that are compared with
_CHUNK = 8_192  # rows of it at a time
_DIGITS = 6  # of a cosine that count; what is below is rounding, and such ties go by id


def select(
    pool: Pool,
    budget: int,
    *,
    seed: int = 0,
    constraints: Constraints | None = None,
    dedup: float = 0.75,
    k: int | None = None,
) -> Picks:
    """Of the rows that the first step keeps, those farthest from their new centre, farthest first. Gain: that distance.
    Every prefix is the smaller selection.

    dedup: the share of the rows that the first step keeps. It goes through each cluster from the rows farthest from the
    centre inwards and gives a row its largest cosine to those before it; the rows with the lowest such cosines are
    kept, ties by id. A row that is dropped itself still counts for those after it: of a chain, where a is like b and b
    like c, both b and c may go, though c is not like a. k: how many clusters, the square root of the rows if not given,
    in the second run of the rows that are left.

    With a budget larger than the first step left, the dropped rows follow, the least like first, with gain nan. Rows of
    zeros count as copies and come last. Rows that may not be picked are left out from the start. Facts: kept_by_dedup,
    similarity (the largest such cosine of a row that was kept), refilled (picks among the dropped).
    """
    if not 0 < dedup <= 1:
        raise MethodError(
            f"select d4: dedup is {dedup}; it is the share that the first step keeps, above 0 and at most 1"
        )
    if k is not None and k < 1:
        raise MethodError(f"select d4: k is {k}; it is a number of clusters, 1 or more, or null for the square root")
    order, vectors = unit_by_id(pool, "d4")
    wanted = (constraints or Constraints.none(len(pool), budget)).ordered(order)
    rows = np.flatnonzero(wanted.open)
    if not wanted.budget or not len(rows):
        return Picks(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float32))
    if len(rows) < len(vectors):
        vectors = vectors[rows]
    likeness = _likeness(vectors, k, seed)
    by_likeness = np.argsort(likeness, kind="stable")
    many = max(1, round(dedup * len(rows)))
    kept, dropped = np.sort(by_likeness[:many]), by_likeness[many:]
    again = clusters(vectors[kept], min(k or math.isqrt(many), many), seed)
    outward = np.argsort(np.where(again.label < 0, np.inf, -again.distance), kind="stable")
    distance = np.full(len(pool), np.nan, dtype=np.float32)
    distance[rows[kept]] = again.distance
    picks = wanted.walk(rows[np.concatenate([kept[outward], dropped])])
    facts = {
        "kept_by_dedup": many,
        "similarity": float(min(likeness[kept].max(), 1.0)),
        "refilled": int(np.isin(picks, rows[dropped]).sum()),
    }
    return Picks(order[picks], distance[picks], facts)


def _likeness(vectors: np.ndarray, k: int | None, seed: int) -> np.ndarray:
    """The largest cosine of each row to a row of its cluster that is farther from the centre: float64 (n,); -1 for the
    farthest of a cluster, infinity for a row of zeros."""
    groups = clusters(vectors, min(k or math.isqrt(len(vectors)), len(vectors)), seed)
    inward = np.lexsort((-groups.distance, groups.label))
    likeness = np.where(groups.label < 0, np.inf, -1.0)
    with bar(len(vectors), "near-copies") as advance:
        for members in np.split(inward, np.flatnonzero(np.diff(groups.label[inward])) + 1):
            if groups.label[members[0]] >= 0:
                likeness[members] = _to_earlier(vectors[members])
            advance(len(members))
    return likeness


def _to_earlier(vectors: np.ndarray) -> np.ndarray:
    """The largest cosine of each row to one before it: float64 (m,), -1 for the first."""
    largest = np.full(len(vectors), -1.0)
    for start in range(0, len(vectors), _BLOCK):
        block = vectors[start : start + _BLOCK]
        here = np.arange(start, start + len(block))
        cosine, like = np.full(len(block), -2, dtype=np.float32), np.zeros(len(block), dtype=np.int64)
        for first in range(0, start + len(block), _CHUNK):
            there = np.arange(first, min(first + _CHUNK, start + len(block)))
            some = product(block, vectors[there[0] : there[-1] + 1])
            some[there[None] >= here[:, None]] = -2
            best = some.argmax(axis=1)
            nearer = some[np.arange(len(block)), best] > cosine
            cosine[nearer], like[nearer] = some[nearer, best[nearer]], first + best[nearer]
        exact = (block.astype(np.float64) * vectors[like]).sum(axis=1)
        largest[start : start + len(block)] = np.where(cosine > -2, np.round(exact, _DIGITS), -1.0)
    return largest
