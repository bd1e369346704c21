"""Where subsets of a pool lie in it, and how crowded it is around their rows: one pass of matrix products for all of them."""

from __future__ import annotations

import numpy as np

from curate.contract.progress import bar
from curate.vectors.product import product

_BLOCK = 1_024  # rows compared with the pool's sample at a time: 80 MB with 20,000 of them
_SLAB = 64  # of these, rows whose nearest are found at a time
_SAME = 1e-6  # rows whose squared distance is below this are copies
_ROUNDING = 2e-6  # what float32 may be off in 1 - cos
_CLOSE = 1e-2  # of 1 - cos: below it float32 has too few digits left, and distances are computed in float64
_PAIRS = 16_384  # pairs computed in float64 at a time


def around(
    vectors: np.ndarray, sample: np.ndarray, subsets: list[np.ndarray], neighbours: int = 10
) -> tuple[np.ndarray, np.ndarray]:
    """(nearest, density): float32 (subsets, m) and float32 (n,), the same bits on any number of threads.

    vectors: float32 (n, d) of unit length. sample: int64 (m,), the rows that stand for the pool. subsets: int64 rows, each
    sorted. nearest: of each row of the sample, the largest cosine to a row of the subset. density: of each row of a subset, 1
    over the mean squared Euclidean distance to its nearest rows of the sample, itself and its copies left out; nan for others.
    Time: (rows of any subset) x m x d, whatever the number of subsets that hold a row.
    """
    rows = np.unique(np.concatenate(subsets))
    places = [np.searchsorted(rows, subset) for subset in subsets]
    nearest = np.full((len(subsets), len(sample)), -1, dtype=np.float32)
    density = np.full(len(vectors), np.nan, dtype=np.float32)
    crowd = _Crowd(vectors, sample, neighbours)
    with bar(len(rows), "comparing with the pool") as advance:
        for start in range(0, len(rows), _BLOCK):
            block = rows[start : start + _BLOCK]
            cosines = product(vectors[block], crowd.pool)
            for number, place in enumerate(places):
                low, high = np.searchsorted(place, [start, start + len(block)])
                if low < high:
                    np.maximum(nearest[number], cosines[place[low:high] - start].max(axis=0), out=nearest[number])
            for slab in range(0, len(block), _SLAB):
                some = block[slab : slab + _SLAB]
                density[some] = crowd.density(some, cosines[slab : slab + _SLAB])
            advance(len(block))
    return nearest, density


class _Crowd:
    """The sample of a pool, and how crowded it is around a row."""

    def __init__(self, vectors: np.ndarray, sample: np.ndarray, neighbours: int):
        self.vectors, self.pool, self.neighbours = vectors, vectors[sample], min(neighbours, len(sample))
        self.place = np.full(len(vectors), -1)  # of a row in the sample
        self.place[sample] = np.arange(len(sample))

    def density(self, rows: np.ndarray, cosines: np.ndarray) -> np.ndarray:
        """1 over the mean squared distance of each of ``rows`` to its nearest of the sample: float64 (r,). Changes ``cosines``."""
        apart = np.subtract(1, cosines, out=cosines)
        own = np.flatnonzero(self.place[rows] >= 0)
        apart[own, self.place[rows[own]]] = np.inf
        here, there = np.divmod(np.flatnonzero(apart < _SAME / 2 + _ROUNDING), apart.shape[1])
        same = self._squared(rows[here], there) < _SAME
        apart[here[same], there[same]] = np.inf
        nearest = np.argpartition(apart, self.neighbours - 1, axis=1)[:, : self.neighbours]
        squared = 2 * np.take_along_axis(apart, nearest, axis=1).astype(np.float64)
        close = squared < 2 * _CLOSE
        squared[close] = self._squared(rows[np.nonzero(close)[0]], nearest[close])
        counts = np.isfinite(squared)
        mean = np.where(counts, squared, 0).sum(axis=1) / np.maximum(counts.sum(axis=1), 1)
        return 1 / np.where(counts.any(axis=1), mean, _SAME)

    def _squared(self, rows: np.ndarray, places: np.ndarray) -> np.ndarray:
        """The squared distance of each of ``rows`` to the row at a place of the sample: float64 (pairs,)."""
        squared = np.empty(len(rows))
        for start in range(0, len(rows), _PAIRS):
            some = slice(start, start + _PAIRS)
            away = self.vectors[rows[some]].astype(np.float64) - self.pool[places[some]]
            squared[some] = np.square(away, out=away).sum(axis=1)
        return squared
