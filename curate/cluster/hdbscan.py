"""Find dense groups with HDBSCAN, whose number is not asked for; rows in thin regions are noise.

When to use: to find the tight topics of a pool and to leave what belongs to none (``noise: keep``), or to start a
partition from them (``noise: nearest``). Expect much noise on sentence embeddings: with the defaults, 8,500 docstrings
gave 5 clusters and 26 % noise; with ``selection: leaf``, 23 clusters and 86 % noise. For a partition of a stated size
take ``kmeans`` or ``hierarchical``.
Cost: time n² x dimensions, memory n x (d + min_samples). 8,500 rows in 16 dimensions take 1 s of one core, 20,000 take
8 s, 30,000 take 24 s, and so 100,000 about 5 minutes. More work than that is refused.

    - embed: sentence
    - cluster: {hdbscan: {min_cluster_size: 15, noise: nearest}}

Reference: Campello, Moulavi and Sander 2013, "Density-based clustering based on hierarchical density estimates";
McInnes, Healy and Astels 2017, "hdbscan: Hierarchical density based clustering", for the name and the two ways of
selection.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from curate.cluster.centres import by_size, directions, distance_to_own, drawn, keys, nearest, need_scikit_learn
from curate.contract.errors import DataError, MethodError
from curate.rows.pool import Clusters
from curate.vectors.unit import unit

_MOST_WORK = 100_000**2 * 16  # rows² x dimensions


def cluster(
    vectors: np.ndarray,
    *,
    min_cluster_size: int = 15,
    min_samples: int | None = None,
    dimensions: int | None = 16,
    selection: Literal["eom", "leaf"] = "eom",
    noise: Literal["keep", "nearest"] = "keep",
) -> Clusters:
    """Dense groups of rows, in the first principal components of the unit vectors.

    min_cluster_size: the fewest rows of a group. dimensions: how many principal components; null takes all dimensions,
    which is slow and finds little. min_samples: rows in whose reach a row must be to count as dense, itself among them;
    None: as min_cluster_size. A larger one gives more noise. selection: "eom" takes the groups that last longest as the
    density rises, "leaf" the smallest ones. noise: what becomes of rows in no group. With "keep" they stay label -1,
    and their distance is to the nearest centre; with "nearest" they join the group with the nearest centre, which they
    do not move.

    A row of zeros has no direction and is noise in both cases, at distance 1. Distance: Euclidean in all dimensions,
    from the unit vector to the mean of its group's rows scaled to length one. Nothing is drawn; labels do not depend on
    the order of the rows, and are numbered by falling size.
    """
    if min_cluster_size < 2:
        raise MethodError(f"cluster hdbscan: min_cluster_size {min_cluster_size} should be 2 or more")
    if min_samples is not None and min_samples < 1:
        raise MethodError(f"cluster hdbscan: min_samples {min_samples} should be 1 or more")
    if dimensions is not None and dimensions < 1:
        raise MethodError(f"cluster hdbscan: dimensions {dimensions} should be 1 or more")
    need_scikit_learn("hdbscan")
    vectors = unit(vectors, "cluster hdbscan")
    used = min(vectors.shape[1], dimensions or vectors.shape[1])
    if len(vectors) ** 2 * used > _MOST_WORK:
        most = int((_MOST_WORK / used) ** 0.5)
        raise MethodError(
            f"cluster hdbscan: {len(vectors):,} rows in {used} dimensions take hours; it takes at most {most:,} "
            f"rows in so many. Give fewer `dimensions`, or take `hierarchical` or `mini_batch`, which have no limit"
        )
    order = drawn(vectors, keys(vectors), 0, "cluster.hdbscan")
    label = np.full(len(vectors), -1, dtype=np.int32)
    label[order] = _labels(vectors[order], used, min_cluster_size, min_samples or min_cluster_size, selection)
    if (label < 0).all():
        raise DataError(
            f"cluster hdbscan: all {len(vectors):,} rows are noise, since none stand in two or more dense groups of "
            f"{min_cluster_size} rows; lower `min_cluster_size` or `min_samples`, or take `kmeans`"
        )
    centres = directions(vectors, label, order, label.max() + 1)[0]
    if noise == "nearest":
        outside = np.flatnonzero(label < 0)
        label[outside] = nearest(vectors[outside], centres)[0]
    distance = distance_to_own(vectors, label, centres)
    return Clusters(by_size(label), distance)


def _labels(vectors: np.ndarray, dimensions: int, size: int, samples: int, selection: str) -> np.ndarray:
    """int (n,), -1 for noise; none where there are too few rows."""
    from sklearn.cluster import HDBSCAN
    from threadpoolctl import threadpool_limits

    if len(vectors) < max(size, samples):
        return np.full(len(vectors), -1)
    points = vectors.astype(np.float64)
    with threadpool_limits(1):  # with more, sums are added in the order in which threads finish
        if dimensions < points.shape[1]:
            points -= points.mean(axis=0)
            points = points @ np.linalg.eigh(points.T @ points)[1][:, : -dimensions - 1 : -1]
        model = HDBSCAN(size, min_samples=samples, cluster_selection_method=selection, copy=True)  # pyright: ignore
        return model.fit_predict(np.ascontiguousarray(points))
