"""Clusters of a pool for selectors that make their own."""

from __future__ import annotations

import numpy as np

from curate.cluster import kmeans, mini_batch
from curate.rows.pool import Clusters

_MANY = 1_000  # clusters, from which on k-means proper takes longer than it is better


def clusters(vectors: np.ndarray, k: int, seed: int) -> Clusters:
    """k-means, by mini-batches where there are many clusters."""
    return (kmeans if k <= _MANY else mini_batch).cluster(vectors, seed=seed, k=k)
