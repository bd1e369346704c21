"""Pick the rows that together are most like all rows: each row of the pool should have a pick near it.

When to use: as the first choice for a small, diverse subset; it covers the dense regions first and is not drawn to outliers.
Cost: time is a few n x n x d matrix products, memory n x d floats and half a gigabyte. 7,600 rows of 384 with 500 picks:
about a second on two cores; 40,000 rows with 1,000 picks: forty seconds. No n x n matrix is held.

    - embed: sentence
    - select: {facility_location: {budget: 1000}}

Objective: the sum over all rows v of max(0, max over picks a of cos(v, a)). Greedy picks reach at least 63 % of the best
possible value (Nemhauser, Wolsey and Fisher 1978); lazy evaluation (Minoux 1978) gives the same picks sooner: a gain only
falls as picks are made, so a row whose last known gain is too small need not be looked at.
"""

from __future__ import annotations

import numpy as np

from curate.constraints import Constraints
from curate.pool import Picks, Pool
from curate.select._greedy import greedy
from curate.vectors import unit_by_id

_KEPT_BYTES = 2**29  # neighbours of promising rows that are kept for later picks, 8 bytes each
_LOOK = 256  # rows compared with the whole pool at a time: in smaller matrix products the processor waits for memory


def select(pool: Pool, budget: int, *, seed: int = 0, constraints: Constraints | None = None) -> Picks:
    """The exact greedy picks. Gain: what the pick adds to the objective, in units of rows.

    Gains within rounding of each other (1e-6 + 3e-8 n) are ties and go by id; so do rows that add nothing, such as copies of
    a pick, which come last. Nothing is drawn; ``seed`` changes nothing.
    """
    order, vectors = unit_by_id(pool, "facility_location")
    wanted = (constraints or Constraints.none(len(pool), budget)).ordered(order)
    tie = 1e-6 + 3e-8 * len(vectors)
    found = greedy(lambda: _Coverage(vectors), wanted, label="facility_location", tie=tie, certify=True)
    return Picks(order[found.index], found.gain, found.facts)


class _Coverage:
    """The objective, without a matrix of n x n: bounds from moments, and the lists of rows that a candidate is nearest to."""

    exact = False

    def __init__(self, vectors: np.ndarray):
        self.gain = np.full(len(vectors), np.inf)  # at least what each row would add now
        self.covered = np.zeros(len(vectors), dtype=np.float32)  # how near the nearest pick is to each row
        self.near, self.moments = _Near(vectors), _Moments(vectors)
        self.moments.lower(self.gain, self.covered)

    def refresh(self, rows: np.ndarray, later: np.ndarray) -> None:
        self.near.look(rows, later, self.covered, self.gain)
        self.gain[rows] = self.near.gains(rows, self.covered)

    def add(self, row: int) -> None:
        self.near.look(np.array([row]), np.array([row]), self.covered, self.gain)  # in case its list had to make room
        index, cosine = self.near.index[row], self.near.cosine[row]
        self.covered[index] = np.maximum(self.covered[index], cosine)
        self.gain[row] = 0.0
        self.near.forget(row)
        self.moments.lower(self.gain, self.covered)


class _Moments:
    """An upper bound on every row's gain from two sums over the pool, without any pair of rows.

    With s = cos(v, a) - covered(v), the gain of a is the sum of max(0, s) = (s + |s|) / 2 over v, and by Cauchy and Schwarz
    the sum of |s| is at most sqrt(n times the sum of s squared). Both sums are products with the d x d matrix of second
    moments or with one vector. It is tight while few picks are made, which is when the gains fall most: without it nearly all
    pairs would be looked at for the first pick, and once more for the second.
    """

    def __init__(self, vectors: np.ndarray):
        self.vectors, self.total = vectors, vectors.sum(axis=0)
        self.squares = np.einsum("ij,ij->i", vectors @ (vectors.T @ vectors), vectors)
        self.useful = len(vectors) > 0

    def lower(self, bound: np.ndarray, covered: np.ndarray) -> None:
        """Lowers ``bound`` in place where this one is lower, until that is so for fewer than one row in twenty."""
        if not self.useful:
            return
        sums = self.vectors @ self.total - covered.sum()
        squares = self.squares - 2 * (self.vectors @ (self.vectors.T @ covered)) + covered @ covered
        mine = (sums + np.sqrt(len(bound) * np.maximum(squares, 0))) / 2
        mine = mine.astype(np.float64) * 1.001 + 1e-6 * len(bound)  # above what rounding can do
        self.useful = float((mine < bound).mean()) > 0.05
        np.minimum(bound, mine, out=bound)


class _Near:
    """For each row looked at so far: the rows of the pool that it is nearer to than any pick is, and how near.

    As picks are made these lists only shrink, soon to a thousandth of the pool; so a row is compared with the whole pool once,
    and its later gains are sums over its list. Where the lists outgrow _KEPT_BYTES, those that promise least are forgotten.
    """

    def __init__(self, vectors: np.ndarray):
        self.vectors = vectors
        self.index: dict[int, np.ndarray] = {}  # row: int32 (m,), the rows near it
        self.cosine: dict[int, np.ndarray] = {}  # row: float32 (m,), their cosines to it
        self.known = np.zeros(len(vectors), dtype=bool)  # which rows have a list
        self.kept = 0  # entries in all lists

    def gains(self, rows: np.ndarray, covered: np.ndarray) -> np.ndarray:
        """float64 (m,): what each of ``rows`` would add. They must have been looked at."""
        lists = [self.index[row] for row in rows.tolist()]
        index, cosine = np.concatenate(lists), np.concatenate([self.cosine[row] for row in rows.tolist()])
        starts = np.cumsum([0, *map(len, lists)])
        more = cosine - covered[index]
        nearer = more > 0
        if np.count_nonzero(nearer) < 0.5 * len(more):
            kept = np.flatnonzero(nearer)
            starts, index, cosine, more = np.searchsorted(kept, starts), index[kept], cosine[kept], more[kept]
            for row, start, end in zip(rows.tolist(), starts[:-1], starts[1:], strict=True):
                self._keep(row, index[start:end].copy(), cosine[start:end].copy())
        else:
            np.maximum(more, 0, out=more)
        gains = np.add.reduceat(np.append(more, np.float32(0)), starts[:-1], dtype=np.float64)
        return np.where(starts[1:] > starts[:-1], gains, 0)

    def look(self, rows: np.ndarray, later: np.ndarray, covered: np.ndarray, bound: np.ndarray) -> None:
        """Compares ``rows`` with the whole pool, if they have no list, and with them the first of ``later`` that have none."""
        if self.known[rows].all():
            return
        later = later[~self.known[later]][: min(_LOOK, 2**26 // len(bound))]
        new = np.union1d(rows[~self.known[rows]], later)
        for row, cosine in zip(new.tolist(), self.vectors[new] @ self.vectors.T, strict=True):
            index = np.flatnonzero(cosine > covered).astype(np.int32)
            self._keep(row, index, cosine[index])
        if 8 * self.kept > _KEPT_BYTES:
            self._make_room(rows, covered, bound)

    def _make_room(self, rows: np.ndarray, covered: np.ndarray, bound: np.ndarray) -> None:
        """Shortens all lists; if a quarter of the room is not free then, forgets what promises least, but none of ``rows``."""
        for row in list(self.index):
            index, cosine = self.index[row], self.cosine[row]
            nearer = cosine > covered[index]
            self._keep(row, index[nearer], cosine[nearer])
        needed = set(rows.tolist())
        for row in sorted(self.index.keys() - needed, key=lambda row: (bound[row], row)):
            if 8 * self.kept <= 0.75 * _KEPT_BYTES:
                break
            self.forget(row)

    def _keep(self, row: int, index: np.ndarray, cosine: np.ndarray) -> None:
        self.forget(row)
        self.index[row], self.cosine[row], self.known[row] = index, cosine, True
        self.kept += len(index)

    def forget(self, row: int) -> None:
        if self.known[row]:
            self.kept -= len(self.index.pop(row))
            del self.cosine[row]
            self.known[row] = False
