"""Coverage of the pool: how near every row of the pool is to some row of the subset.

For a reader: the radius is the distance of the row that is worst served, the similarity is how well rows are served on
average. A low radius and a high similarity are more diverse: nothing of the pool is left out.
Cost: one matrix product for all subsets together; see ``curate/vectors/density.py``.

Radius: max over the pool of the least Euclidean distance between unit vectors, sqrt(2 - 2 cos), what k-center makes small.
Similarity: mean over the pool of the largest cosine, what facility location makes large. Both over at most 20,000 rows of the
pool, drawn by a hash of the id: in a larger pool the true radius may be larger.

Reference: Gonzalez 1985 (radius); Mirchandani and Francis 1990, "Discrete Location Theory" (facility location).
"""

from __future__ import annotations

import numpy as np

from curate.diversity.sample import Sample

ABOUT = {
    "coverage_radius": ("distance of the pool's worst-served row to its nearest selected row", "lower"),
    "pool_similarity": ("mean cosine of the pool's rows to their nearest selected row", "higher"),
}


def measure(sample: Sample) -> dict[str, float]:
    if sample.nearest is None:
        return {}
    return {
        "coverage_radius": float(np.sqrt(max(2 - 2 * float(sample.nearest.min()), 0.0))),
        "pool_similarity": float(sample.nearest.mean(dtype=np.float64)),
    }
