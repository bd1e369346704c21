"""Group rows by spherical k-means: each row joins the centre with the largest cosine, each centre has length one.

When to use: to stratify a selection by topic (``select: {stratified: {by: cluster}}``), to look at what a pool holds,
to split it for a method that compares all pairs. For thousands of clusters take ``mini_batch``.
Cost: training on at most 256 rows a cluster, time 256 x k² x d x rounds (some dozens at most), then one product of all
rows with all centres. Memory: a copy of the vectors. 200,000 rows of 384 in 64 clusters take 4 s of a core; a million
take half a minute, in 512 clusters a minute and a half, both on busy cores and in 3.5 GB, 1.5 GB of them the vectors
that were given.

    - embed: sentence
    - cluster: {kmeans: {k: 64}}

Reference: Dhillon and Modha 2001, "Concept decompositions for large sparse text data using clustering", section 3;
starts by k-means++, Arthur and Vassilvitskii 2007. 256 rows a cluster are what FAISS trains on.
"""

from __future__ import annotations

import numpy as np

from curate.cluster.centres import by_size, directions, drawn, keys, nearest, need_scikit_learn
from curate.contract.errors import MethodError
from curate.rows.pool import Clusters
from curate.vectors.unit import unit

_TRAINING_ROWS = 256  # a cluster
_START_ROWS = 32  # a cluster, among which k-means++ chooses
_ROUNDS = 100
_GAIN = 1e-4  # a round that lowers the mean squared distance by less than this share is the last


def cluster(vectors: np.ndarray, *, seed: int = 0, k: int = 64) -> Clusters:
    """k: how many groups.

    Distance: Euclidean, from the unit vector to the unit centre of its group: sqrt(2 - 2 cos).

    Labels do not depend on the order of the rows (which rows are trained on, and in which order, is drawn by a hash of
    (seed, the vector itself)), nor on the number of threads. They are numbered by falling size; there are fewer than k
    where fewer rows differ. A row of zeros has no direction: label -1, distance 1.
    """
    if not 1 <= k <= len(vectors):
        raise MethodError(f"cluster kmeans: k {k} should be between 1 and the number of rows, {len(vectors)}")
    vectors = unit(vectors, "cluster kmeans")
    label, distance = nearest(vectors, train(vectors, keys(vectors), k, seed), "k-means")
    return Clusters(by_size(label), distance)


def train(vectors: np.ndarray, keys: list[str], k: int, seed: int) -> np.ndarray:
    """The centres of k groups, each of length one: float32 (at most k, d). vectors: of length one; keys: of the
    rows."""
    need_scikit_learn("kmeans")
    from sklearn.cluster import kmeans_plusplus
    from threadpoolctl import threadpool_limits

    sample = vectors[drawn(vectors, keys, seed, "cluster.kmeans")[: _TRAINING_ROWS * k]]
    if not len(sample):  # every row is zero
        return np.zeros((1, vectors.shape[1]), dtype=np.float32)
    start = sample[: _START_ROWS * k]
    with threadpool_limits(1):  # with more, sums are added in the order in which threads finish
        centres = kmeans_plusplus(start, min(k, len(start)), random_state=seed % 2**32)[0]
    everything, before = np.arange(len(sample)), np.inf
    for _ in range(_ROUNDS):
        label, distance = nearest(sample, centres)
        spread = float(np.square(distance, dtype=np.float64).sum())
        if spread >= before * (1 - _GAIN):
            break
        before = spread
        moved, sizes = directions(sample, label, everything, len(centres))
        empty = np.flatnonzero(sizes == 0)  # starts anew at a row that is far from its centre
        moved[empty] = sample[np.argsort(-distance, kind="stable")[: len(empty)]]
        centres = np.where(moved.any(axis=1, keepdims=True), moved, centres)
    _, first = np.unique(centres, axis=0, return_index=True)
    return centres[np.sort(first)]
