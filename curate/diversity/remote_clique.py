"""Remote clique: the mean cosine distance between two rows of the subset.

For a reader: 0 for copies, 1 for rows without likeness. It rewards what lies at the edges of the pool, and two tight clumps far
apart score well. Higher is more diverse.
Cost: k x d, in closed form: 1 - (|sum x|^2 - sum |x|^2) / (k (k - 1)).

Reference: Chandra and Halldorsson 2001, "Approximation Algorithms for Dispersion Problems" (sum and mean of pairs).
"""

from __future__ import annotations

import numpy as np

from curate.diversity.sample import Sample

ABOUT = {"remote_clique": ("mean cosine distance between two rows", "higher")}


def measure(sample: Sample) -> dict[str, float]:
    k = len(sample)
    if sample.vectors is None or k < 2:
        return {}
    vectors = sample.vectors.astype(np.float64)
    total = vectors.sum(axis=0)
    return {"remote_clique": float(1 - (total @ total - (vectors * vectors).sum()) / (k * (k - 1)))}
