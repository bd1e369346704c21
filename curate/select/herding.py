"""Pick rows whose mean follows the mean of the pool (herding).

When to use: for a small set that stands for the average of a pool, such as a proxy of it to measure on. It matches the
mean and nothing else: it neither covers the edges nor keeps copies out.
Cost: time n x budget x d, memory n x (d + 4) floats. 10,000 rows of 384 with 1,000 picks: two seconds of one core; each
pick reads all vectors once, so a million rows take about a quarter of a second a pick.

    - embed: sentence
    - select: {herding: {budget: 1000}}

Each pick is the row x with the largest <w, x>; then w grows by (mean - x), and it begins as the mean, all of unit
vectors. Each row is taken once at most, where the papers let it come again.

Reference: Welling 2009, "Herding Dynamical Weights to Learn"; Chen, Welling and Smola 2010, "Super-Samples from Kernel
Herding", arXiv 1203.3472: the distance from the mean of k picks to the mean falls as 1 / k where rows may come again.
"""

from __future__ import annotations

import numpy as np

from curate.rows.constraints import Constraints
from curate.rows.pool import Picks, Pool
from curate.select.greedy import greedy
from curate.vectors.product import product
from curate.vectors.unit import unit_by_id

_BLOCK = 16_384  # rows whose products with the mean are computed in double precision at a time
_TIE = 1e-5  # products closer than this are rounding, and go by id


def select(pool: Pool, budget: int, *, seed: int = 0, constraints: Constraints | None = None) -> Picks:
    """Gain: <w, x> when x was picked, which neither falls nor rises steadily. Every prefix is the smaller selection.

    Fact: ``distance_to_mean``, Euclidean, from the mean of the picks to that of the pool. Nothing is drawn; ``seed``
    changes nothing. A row of zeros has a product of 0, and is taken when all others point away from w.
    """
    order, vectors = unit_by_id(pool, "herding")
    wanted = (constraints or Constraints.none(len(pool), budget)).ordered(order)
    picks = greedy(lambda: _Herd(vectors), wanted, label="herding", tie=_TIE, scale=1.0)
    facts = {}
    if len(picks.index):
        apart = vectors[picks.index].mean(axis=0, dtype=np.float64) - vectors.mean(axis=0, dtype=np.float64)
        facts["distance_to_mean"] = float(np.linalg.norm(apart))
    return Picks(order[picks.index], picks.gain, facts)


class _Herd:
    """gain: <w, x> of each row."""

    exact = True

    def __init__(self, vectors: np.ndarray):
        self.vectors, self.with_mean = vectors, _with_mean(vectors)
        self.gain = self.with_mean.copy()

    def refresh(self, rows: np.ndarray, later: np.ndarray) -> None: ...

    def add(self, row: int) -> None:
        self.gain += self.with_mean - product(self.vectors, self.vectors[row])


def _with_mean(vectors: np.ndarray) -> np.ndarray:
    """The product of each row with the mean of all: float64 (n,)."""
    products = np.empty(len(vectors))
    if len(vectors):
        mean = vectors.mean(axis=0, dtype=np.float64)
        for start in range(0, len(vectors), _BLOCK):
            products[start : start + _BLOCK] = vectors[start : start + _BLOCK].astype(np.float64) @ mean
    return products
