"""Go through the rows from the best score down, and keep a row if it is not too like one that is kept already (DEITA).

When to use: with a score that you trust, on a pool with many near-copies. It only avoids likeness; to represent the
pool use ``facility_location`` with ``quality``.
Cost: time (rows looked at) x (rows kept) x d, in matrix products; memory budget x d floats and 50 MB, the pool's
vectors are read in blocks. To go through 7,600 rows of 384 takes about a third of a second; 10,000 of a million take
seconds where few rows are alike, and a minute or two where all of the million must be looked at.

    - embed: sentence
    - select: {deita: {budget: 1000, score: score_ifd, threshold: 0.9}}

Reference: Liu et al. 2023, "What Makes Good Data for Alignment?", arXiv 2312.15685, section 2.5 and algorithm 1. The
paper speaks of a distance below the threshold, its code compares the cosine with it, and so does this. The picks are
those of the published rule one row at a time.
"""

from __future__ import annotations

import numpy as np

from curate.contract.errors import ContractError, MethodError
from curate.contract.progress import bar
from curate.rows.constraints import Constraints, Remaining, numbers
from curate.rows.pool import Picks, Pool
from curate.select.rankings import by_falling
from curate.vectors.product import product
from curate.vectors.unit import unit

_BLOCK = 512  # rows looked at in one matrix product
_KEPT = 8_192  # kept rows that a block is compared with at a time
_EQUAL = 1e-6  # a cosine that is larger than the threshold by no more than this is equal to it
_ROUNDING = 1e-5  # of a float32 cosine; closer ones are computed again


def select(
    pool: Pool,
    budget: int,
    *,
    seed: int = 0,
    constraints: Constraints | None = None,
    score: str,
    threshold: float = 0.9,
) -> Picks:
    """Rows by falling score, ties by id, each kept if it is not too like a kept one. Gain: 1 less the largest cosine to a
    kept row; 1 for the first.

    score: a column of numbers, higher is better. threshold: the largest cosine to a kept row at which a row is kept too.

    If no row is left before the budget is full, those passed over follow by falling score, and their gains are those at
    which they were passed over. Every prefix is the smaller selection. Rows of zeros are like nothing, not even each
    other. Rows that must be in come first, whatever they are like. Nothing is drawn; ``seed`` changes nothing. Facts:
    refilled, the picks among those passed over.
    """
    if not -1 <= threshold <= 1:
        raise MethodError(f"select deita: threshold is {threshold}; it is a cosine, between -1 and 1")
    vectors = pool.need_vectors("deita")
    _check(vectors, pool)
    ranking = by_falling(pool, numbers("deita", pool, score))
    wanted = constraints or Constraints.none(len(pool), budget)
    wanted.refuse_quality()
    must = np.isin(ranking, wanted.must)
    remaining = wanted.begin()
    kept = _Kept(min(wanted.budget, len(pool)), vectors.shape[1], threshold + _EQUAL if threshold < 1 else np.inf)
    with bar(wanted.budget if wanted.cost is None else None, "deita") as advance:
        for rows, limited in ((ranking[must], False), (ranking[~must], True)):
            for start in range(0, len(rows), _BLOCK):
                block = rows[start : start + _BLOCK]
                block = block[remaining.open[block]]
                if remaining.rows and len(block):
                    before = len(kept.rows)
                    kept.look(block, unit(vectors[block], "deita"), remaining, limited)
                    advance(len(kept.rows) - before)
    index, gain = list(kept.rows), list(kept.gains)
    for row, one in zip(kept.passed, kept.passed_gains, strict=True):
        if remaining.take(row):
            index.append(row)
            gain.append(one)
    refilled = len(index) - len(kept.rows)
    return Picks(np.array(index, dtype=np.int64), np.array(gain, dtype=np.float32), {"refilled": refilled})


class _Kept:
    """The rows kept so far with their vectors, and those passed over."""

    def __init__(self, most: int, dimensions: int, limit: float):
        self.vectors, self.limit = np.empty((most, dimensions), dtype=np.float32), limit
        self.rows: list[int] = []
        self.gains: list[float] = []
        self.passed: list[int] = []
        self.passed_gains: list[float] = []

    def look(self, rows: np.ndarray, vectors: np.ndarray, remaining: Remaining, limited: bool) -> None:
        """Goes through ``rows`` in order. limited: whether those that are too like a kept row are passed over."""
        cosine, like = self._nearest(vectors)
        among = product(vectors, vectors)
        kept, passed = [], []
        for i, row in enumerate(rows.tolist()):
            if not remaining.open[row]:
                continue
            if limited and self._too_like(float(cosine[i]), vectors[i]):
                passed.append(i)
                continue
            if not remaining.take(row):
                continue
            place = len(self.rows)
            self.vectors[place] = vectors[i]
            self.rows.append(row)
            kept.append(i)
            nearer = i + 1 + np.flatnonzero(among[i, i + 1 :] > cosine[i + 1 :])
            cosine[nearer], like[nearer] = among[i, nearer], place
        nearest = self.vectors[np.maximum(like, 0)]
        exact = (vectors.astype(np.float64) * nearest).sum(axis=1)  # however many rows were multiplied at a time
        gain = np.where(like >= 0, 1 - exact, 1.0)
        self.gains += gain[kept].tolist()
        self.passed += rows[passed].tolist()
        self.passed_gains += gain[passed].tolist()

    def _nearest(self, vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(the largest cosine to a kept row, float32 (b,); that row's place, int64 (b,), -1 where none is kept)."""
        cosine, like = np.full(len(vectors), -2, dtype=np.float32), np.full(len(vectors), -1)
        for start in range(0, len(self.rows), _KEPT):
            some = product(vectors, self.vectors[start : min(start + _KEPT, len(self.rows))])
            best = some.argmax(axis=1)
            largest = np.take_along_axis(some, best[:, None], axis=1)[:, 0]
            nearer = largest > cosine
            cosine[nearer], like[nearer] = largest[nearer], start + best[nearer]
        return cosine, like

    def _too_like(self, cosine: float, vector: np.ndarray) -> bool:
        if abs(cosine - self.limit) > _ROUNDING:
            return cosine > self.limit
        kept = self.vectors[: len(self.rows)]
        close = kept[kept @ vector > self.limit - 2 * _ROUNDING].astype(np.float64)
        return bool(((close * vector).sum(axis=1) > self.limit).any())


def _check(vectors: np.ndarray, pool: Pool) -> None:
    """What ``curate.vectors.unit.unit_by_id`` checks, without a copy of all vectors."""
    if len(vectors) != len(pool):
        raise ContractError(f"deita was given {len(vectors)} vectors for {len(pool)} rows; run the `embed` step again")
    for start in range(0, len(vectors), _KEPT):
        if not np.isfinite(vectors[start : start + _KEPT]).all():
            unit(vectors, "deita")  # says which row
