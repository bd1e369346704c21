"""Log-determinant distance: how far the subset is, in volume, from one of the same size whose rows share nothing.

For a reader: 0 where all rows are at right angles; each row that others nearly span adds to it. Lower is more diverse.
Cost: that of the Vendi score, whose eigenvalues it shares.

log(1 + noise) - log det(K + noise I) / k, with K the k x k cosines of the rows: the distance per row to K = I. ``noise`` keeps
it finite where rows repeat or where there are more rows than dimensions.

Reference: Wang et al. 2024, "Diversity Measurement and Subset Selection for Instruction Tuning Datasets", arXiv 2402.02318,
with cosines of the vectors for its kernel.
"""

from __future__ import annotations

import numpy as np

from curate.contract.errors import MethodError
from curate.diversity.sample import Sample

ABOUT = {"log_det_distance": ("volume that the rows lack to rows that share nothing, in logs per row", "lower")}


def measure(sample: Sample, *, noise: float = 1e-3) -> dict[str, float]:
    if noise <= 0:
        raise MethodError(f"diversity log_det: noise {noise} should be above 0; 0.001 is usual")
    spectrum = sample.spectrum
    if spectrum is None:
        return {}
    k = len(sample)
    spectrum = np.sort(spectrum)[::-1][:k]  # with d > k rows of zeros aside, what is cut is 0
    volume = np.log(spectrum + noise).sum() + (k - len(spectrum)) * np.log(noise)
    return {"log_det_distance": float(np.log1p(noise) - volume / k)}
