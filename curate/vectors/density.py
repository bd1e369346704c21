"""Where subsets of a pool lie in it, and how crowded it is around their rows: one pass of matrix products for all of them."""

from __future__ import annotations

import numpy as np

from curate.contract.progress import bar

_BLOCK = 1_024  # rows compared with the pool's sample at a time: 80 MB with 20,000 of them
_SAME = 1 - 5e-7  # rows with a larger cosine are copies; float32 tells no more


def around(
    vectors: np.ndarray, sample: np.ndarray, subsets: list[np.ndarray], neighbours: int = 10
) -> tuple[np.ndarray, np.ndarray]:
    """(nearest, density): float32 (subsets, m) and float32 (n,).

    vectors: float32 (n, d) of unit length. sample: int64 (m,), the rows that stand for the pool. subsets: int64 rows, each
    sorted. nearest: of each row of the sample, the largest cosine to a row of the subset. density: of each row of a subset, 1
    over the mean squared Euclidean distance to its nearest rows of the sample, copies of itself left out; nan for others.
    Time: (rows of any subset) x m x d, whatever the number of subsets that hold a row.
    """
    pool = np.ascontiguousarray(vectors[sample].T)
    rows = np.unique(np.concatenate(subsets))
    places = [np.searchsorted(rows, subset) for subset in subsets]
    nearest = np.full((len(subsets), len(sample)), -1, dtype=np.float32)
    density = np.full(len(vectors), np.nan, dtype=np.float32)
    with bar(len(rows), "comparing with the pool") as advance:
        for start in range(0, len(rows), _BLOCK):
            block = rows[start : start + _BLOCK]
            cosines = vectors[block] @ pool
            for number, place in enumerate(places):
                low, high = np.searchsorted(place, [start, start + len(block)])
                if low < high:
                    np.maximum(nearest[number], cosines[place[low:high] - start].max(axis=0), out=nearest[number])
            density[block] = _density(cosines, neighbours)
            advance(len(block))
    return nearest, density


def _density(cosines: np.ndarray, neighbours: int) -> np.ndarray:
    """1 / mean(2 - 2 cos) over the largest cosines of each row: float32 (rows,). Changes ``cosines``."""
    cosines[cosines > _SAME] = -np.inf
    if cosines.shape[1] > neighbours:
        cosines.partition(cosines.shape[1] - neighbours, axis=1)
        cosines = cosines[:, -neighbours:]
    there = np.isfinite(cosines)
    squared = 2 - 2 * np.where(there, cosines, _SAME).astype(np.float64)
    mean = (squared * there).sum(axis=1) / np.maximum(there.sum(axis=1), 1)
    return (1 / np.where(there.any(axis=1), mean, 2 - 2 * _SAME)).astype(np.float32)
