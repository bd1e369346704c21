"""Group rows by k-means on their unit vectors, so that nearness is cosine.

When to use: to stratify a selection by topic (``select: {stratified: {by: cluster}}``), to look at what a pool holds, to
split it for a method that compares all pairs.
Cost: training on at most 256 rows a cluster, then one matrix product over all rows: 40,000 rows of 384 in 64 clusters take a
few seconds on one core, a million in 64 clusters about half a minute.

    - embed: sentence
    - cluster: {kmeans: {k: 64}}

Reference: Lloyd 1982; k-means++ starts, Arthur and Vassilvitskii 2007. 256 rows a cluster are what FAISS trains on.
"""

from __future__ import annotations

import hashlib
import warnings

import numpy as np

from curate.draws import shuffled
from curate.errors import MethodError
from curate.pool import Clusters
from curate.progress import track
from curate.vectors import unit

_TRAINING_ROWS = 256  # a cluster
_SLICE = 8_192  # rows assigned at a time


def cluster(vectors: np.ndarray, *, seed: int = 0, k: int = 64) -> Clusters:
    """k groups. Distance: Euclidean, from the unit vector to the mean of its group.

    Labels do not depend on the order of the rows (which rows are trained on, and in which order, is drawn by a hash of (seed,
    the vector itself)), nor on the number of threads (the work runs on one). They are numbered by falling size.
    """
    if not 1 <= k <= len(vectors):
        raise MethodError(f"cluster kmeans: k {k} should be between 1 and the number of rows, {len(vectors)}")
    from threadpoolctl import threadpool_limits

    vectors = unit(vectors, "cluster kmeans")
    with threadpool_limits(1):  # with more, sums are added in the order in which threads finish
        centres = _centres(vectors, k, seed)
        parts = (vectors[start : start + _SLICE] for start in range(0, len(vectors), _SLICE))
        nearest = [_nearest(part, centres) for part in track(parts, "k-means", -(-len(vectors) // _SLICE))]
    label = np.concatenate([part[0] for part in nearest])
    by_size = np.argsort(-np.bincount(label, minlength=k), kind="stable")
    return Clusters(np.argsort(by_size)[label].astype(np.int32), np.concatenate([part[1] for part in nearest]))


def _centres(vectors: np.ndarray, k: int, seed: int) -> np.ndarray:
    """The means of k groups of a sample: float32 (k, d)."""
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    keys = [hashlib.blake2b(row.tobytes(), digest_size=16).hexdigest() for row in vectors]
    sample = vectors[shuffled(seed, "cluster.kmeans", keys)[: _TRAINING_ROWS * k]]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct rows than k: some groups stay empty
        return KMeans(k, n_init=1, random_state=seed % 2**32).fit(sample).cluster_centers_  # pyright: ignore


def _nearest(vectors: np.ndarray, centres: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(index of the nearest centre (n,), distance to it, float32 (n,))."""
    closeness = vectors @ centres.T
    closeness -= np.einsum("ij,ij->i", centres, centres) / 2
    label = closeness.argmax(axis=1)
    away = vectors - centres[label]
    return label, np.sqrt((away * away).sum(axis=1))
