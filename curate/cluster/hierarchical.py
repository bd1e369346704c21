"""Group rows in a tree that can be cut at any level: k-means into some hundreds of leaves, then Ward on the leaves.

When to use: for coarse and fine topics that agree with each other, as a stratum by the coarse ones and a quota by the
fine ones; for a large pool where ``agglomerative`` needs too much memory.
Cost: that of ``kmeans`` with k = leaves, then leaves² x d for the tree. Memory: a copy of the vectors. 200,000 rows of
384 in 512 leaves take 34 s of one core, most of it the training on 131,000 of them.

    - embed: sentence
    - cluster: {hierarchical: {k: 64, levels: [8, 256]}}

Reference: Ward 1963, "Hierarchical grouping to optimize an objective function", on groups with weights as in the global
phase of BIRCH, Zhang, Ramakrishnan and Livny 1996.
"""

from __future__ import annotations

import numpy as np

from curate.cluster import kmeans
from curate.cluster.centres import by_size, cut, directions, distance_to_own, drawn, keys, nearest, totals
from curate.contract.errors import MethodError
from curate.rows.pool import Clusters
from curate.vectors.unit import unit

_MOST_LEAVES = 4_096


def cluster(
    vectors: np.ndarray, *, seed: int = 0, k: int = 64, levels: list[int] | None = None, leaves: int = 512
) -> Clusters:
    """k: how many groups. levels: numbers of groups of further cuts of the same tree (a column ``cluster_8`` for 8); each
    group of a coarse cut is a union of groups of a finer one. leaves: the groups that k-means makes and the tree begins
    with; no cut can be finer.

    Ward joins the two groups that add least to the sum of squared distances of the rows to the means of their groups;
    it is exact above the leaves, since each counts with its rows. Distance: Euclidean, from the unit vector to the mean
    of its group of k scaled to length one. Labels of every cut are numbered by falling size, and depend neither on the
    order of the rows nor on the number of threads; there are fewer than asked for where fewer rows differ. A row of
    zeros has no direction: label -1 at every level, distance 1.
    """
    if not 1 <= leaves <= _MOST_LEAVES:
        raise MethodError(f"cluster hierarchical: leaves {leaves} should be between 1 and {_MOST_LEAVES:,}")
    most = min(leaves, len(vectors))
    for name, count in [("k", k), *(("a level of", level) for level in levels or [])]:
        if not 1 <= count <= most:
            raise MethodError(
                f"cluster hierarchical: {name} {count} should be between 1 and {most}, the smaller of the number "
                "of rows and `leaves`"
            )
    vectors = unit(vectors, "cluster hierarchical")
    hashes = keys(vectors)
    order = drawn(vectors, hashes, seed, "cluster.hierarchical")
    leaf = by_size(nearest(vectors, kmeans.train(vectors, hashes, most, seed), "leaves")[0])
    sums, sizes = totals(vectors, leaf, order, leaf.max() + 1)
    merges = _ward(sums, sizes)

    def label(count: int) -> np.ndarray:
        group = cut(merges, len(sizes), min(count, len(sizes))) if len(sizes) else np.empty(0, dtype=np.int64)
        return by_size(np.append(group, -1)[leaf])  # a leaf of -1 reads the last entry

    own = label(k)
    centres = directions(vectors, own, order, k)[0]
    return Clusters(own, distance_to_own(vectors, own, centres), {level: label(level) for level in levels or []})


def _ward(sums: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Ward's tree over groups of rows, given the sum and the number of the rows of each: the two nodes that each step
    joins, int64 (m - 1, 2), as ``cut`` reads them."""
    m = len(sizes)
    means, weight, node = sums / sizes[:, None], sizes.astype(np.float64), np.arange(m)
    cost = np.full((m, m), np.inf)
    for i in range(1, m):
        cost[i, :i] = cost[:i, i] = _cost(means[:i], weight[:i], means[i], weight[i])
    merges = np.empty((max(m - 1, 0), 2), dtype=np.int64)
    least = cost.min(axis=1, initial=np.inf)
    for step in range(m - 1):
        i = int(least.argmin())
        j = int(cost[i].argmin())
        merges[step] = node[i], node[j]
        means[i] = (weight[i] * means[i] + weight[j] * means[j]) / (weight[i] + weight[j])
        weight[i] += weight[j]
        node[i] = m + step
        touched = np.flatnonzero((cost[i] == least) | (cost[j] == least))  # rows whose best partner may be gone
        cost[j] = cost[:, j] = np.inf
        other = np.isfinite(cost[i])
        cost[i, other] = cost[other, i] = _cost(means[other], weight[other], means[i], weight[i])
        least = np.minimum(least, cost[i])
        for row in {*touched.tolist(), i, j}:
            least[row] = cost[row].min()
    return merges


def _cost(means: np.ndarray, weight: np.ndarray, mean: np.ndarray, its: float) -> np.ndarray:
    """What joining each of some groups with one adds to the sum of squares."""
    return weight * its / (weight + its) * np.square(means - mean).sum(axis=1)
