"""How well picks cover a pool: the objective of facility location, exact or on a graph of neighbours, for the greedy optimiser."""

from __future__ import annotations

import copy

import numpy as np

from curate.vectors.product import product

_KEPT_BYTES = 320 * 2**20  # neighbours of promising rows that are kept for later picks, 8 bytes each
_ROWS = 64  # rows of a matrix that are summed at a time
_FEW = 0.03  # of all pairs: where fewer are left in which a candidate is nearer than any pick, they are taken out
_BACKGROUND = 0.8  # of the cosine to the farthest neighbour on a graph
_LOOK = 256  # rows compared with the whole pool at a time: in smaller matrix products the processor waits for memory


class Coverage:
    """The sum over ``rows``, float32 (n, d), of the largest cosine to a pick, among ``candidates``, float32 (m, d): those rows
    themselves if not given. All cosines are held where they fit in 320 MB; else there are bounds from moments, and for each
    candidate that was looked at the list of the rows that it is nearer to than any pick."""

    exact = False

    def __init__(self, rows: np.ndarray, candidates: np.ndarray | None = None):
        candidates = rows if candidates is None else candidates
        self.gain = np.full(len(candidates), np.inf)  # at least what each candidate would add now
        self.covered = np.zeros(len(rows), dtype=np.float32)  # how near the nearest pick is to each row
        self.moments = Moments(rows, candidates)
        fits = 4 * len(rows) * len(candidates) <= _KEPT_BYTES
        self.near: _Near | _Matrix = _Matrix(rows, candidates) if fits else _Near(rows, candidates)
        self._first_gains()

    def _first_gains(self) -> None:
        if isinstance(self.near, _Near):
            self.moments.lower(self.gain, self.covered)
            return
        for start in range(0, len(self.gain), _ROWS):
            some = np.arange(start, min(start + _ROWS, len(self.gain)))
            self.gain[some] = self.near.gains(some, self.covered)

    def refresh(self, rows: np.ndarray, later: np.ndarray) -> None:
        self.near.look(rows, later, self.covered, self.gain)
        self.gain[rows] = self.near.gains(rows, self.covered)

    def add(self, row: int) -> None:
        self.near.look(np.array([row]), np.array([row]), self.covered, self.gain)  # in case its list had to make room
        index, cosine = self.near.index[row], self.near.cosine[row]
        self.covered[index] = np.maximum(self.covered[index], cosine)
        self.gain[row] = 0.0
        self.near.forget(row)
        if isinstance(self.near, _Matrix):
            self.near.thin(self.covered)
        self.moments.lower(self.gain, self.covered)


class Moments:
    """An upper bound on every row's gain from two sums over the pool, without any pair of rows.

    With s = cos(v, a) - covered(v), the gain of a is the sum of max(0, s) = (s + |s|) / 2 over v, and by Cauchy and Schwarz
    the sum of |s| is at most sqrt(n times the sum of s squared). Both sums are products with the d x d matrix of second
    moments or with one vector. It is tight while few picks are made, which is when the gains fall most: without it nearly all
    pairs would be looked at for the first pick, and once more for the second.
    """

    def __init__(self, rows: np.ndarray, candidates: np.ndarray):
        self.rows, self.candidates, self.total = rows, candidates, rows.sum(axis=0)
        self.squares = np.einsum("ij,ij->i", candidates @ (rows.T @ rows), candidates)
        self.useful = len(candidates) > 0

    def lower(self, bound: np.ndarray, covered: np.ndarray) -> None:
        """Lowers ``bound`` in place where this one is lower, until that is so for fewer than one row in twenty."""
        if not self.useful:
            return
        sums = self.candidates @ self.total - covered.sum()
        squares = self.squares - 2 * (self.candidates @ (self.rows.T @ covered)) + covered @ covered
        mine = (sums + np.sqrt(len(covered) * np.maximum(squares, 0))) / 2
        mine = mine.astype(np.float64) * 1.001 + 1e-6 * len(covered)  # above what rounding can do
        self.useful = float((mine < bound).mean()) > 0.05
        np.minimum(bound, mine, out=bound)


class _Matrix:
    """All cosines, float32 (candidates, rows), where they fit: the product of all pairs in one piece is faster than in slices.

    After some tens of picks few pairs are left in which the candidate is nearer than any pick; those are then taken out, and
    gains are sums over them alone.
    """

    def __init__(self, rows: np.ndarray, candidates: np.ndarray):
        self.cosine = product(candidates, rows)
        self.index = [slice(None)] * len(candidates)
        self.more = np.empty((_ROWS, len(rows)), np.float32)
        self.left: _Pairs | None = None

    def gains(self, rows: np.ndarray, covered: np.ndarray) -> np.ndarray:
        """float64 (m,): what each of ``rows`` would add. A row at a time, so that all stays in the processor's cache."""
        if self.left is not None:
            return self.left.gains(rows, covered)
        gains = np.empty(len(rows))
        for start in range(0, len(rows), _ROWS):
            some = rows[start : start + _ROWS]
            more = self.more[: len(some)]
            for place, row in zip(more, some.tolist(), strict=True):
                np.subtract(self.cosine[row], covered, out=place)
            gains[start : start + len(some)] = np.maximum(more, 0, out=more).sum(axis=1)
        return gains

    def thin(self, covered: np.ndarray) -> None:
        """Takes out the pairs that are left, once they are few."""
        if self.left is None and (self.cosine[:: 1 + len(self.cosine) // _ROWS] > covered).mean() < _FEW:
            self.left = _Pairs.above(self.cosine, covered)

    def look(self, rows: np.ndarray, later: np.ndarray, covered: np.ndarray, bound: np.ndarray) -> None: ...

    def forget(self, row: int) -> None: ...


class _Pairs:
    """Pairs of a candidate and a row, candidate by candidate. start: int64 (candidates + 1,), where those of each begin.
    row: int32 (pairs,). cosine: float32 (pairs,)."""

    def __init__(self, start: np.ndarray, row: np.ndarray, cosine: np.ndarray):
        self.start, self.row, self.cosine = start, row, cosine

    @staticmethod
    def above(cosine: np.ndarray, covered: np.ndarray) -> _Pairs:
        """Those of a matrix in which the candidate is nearer to the row than ``covered``."""
        places = []
        for start in range(0, len(cosine), _ROWS):
            places.append(np.flatnonzero(cosine[start : start + _ROWS] > covered) + start * cosine.shape[1])
        place = np.concatenate(places)
        candidate = place // cosine.shape[1]
        begin = np.searchsorted(candidate, np.arange(len(cosine) + 1))
        return _Pairs(begin, (place - candidate * cosine.shape[1]).astype(np.int32), cosine.ravel()[place])

    def gains(self, rows: np.ndarray, covered: np.ndarray) -> np.ndarray:
        """float64 (m,): what each of ``rows`` would add."""
        length = self.start[rows + 1] - self.start[rows]
        begin = np.cumsum(length) - length
        at = np.arange(int(length.sum())) + np.repeat(self.start[rows] - begin, length)
        more = np.maximum(self.cosine[at] - covered[self.row[at]], 0)
        gains = np.add.reduceat(np.append(more, np.float32(0)), begin, dtype=np.float64)
        return np.where(length > 0, gains, 0)


class _Near:
    """For each row looked at so far: the rows of the pool that it is nearer to than any pick is, and how near.

    As picks are made these lists only shrink, soon to a thousandth of the pool; so a row is compared with the whole pool once,
    and its later gains are sums over its list. Where the lists outgrow _KEPT_BYTES, those that promise least are forgotten.
    """

    def __init__(self, rows: np.ndarray, candidates: np.ndarray):
        self.rows, self.candidates = rows, candidates
        self.index: dict[int, np.ndarray] = {}  # row: int32 (m,), the rows near it
        self.cosine: dict[int, np.ndarray] = {}  # row: float32 (m,), their cosines to it
        self.known = np.zeros(len(candidates), dtype=bool)  # which candidates have a list
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
        later = later[~self.known[later]][: max(1, min(_LOOK, 2**26 // max(len(covered), 1)))]
        new = np.union1d(rows[~self.known[rows]], later)
        for row, cosine in zip(new.tolist(), product(self.candidates[new], self.rows), strict=True):
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


class GraphCoverage:
    """The same sum, of which a row sees only its nearest neighbours. Where none of them is picked, it counts as covered by four
    fifths of the cosine to its farthest neighbour, ``background``, since other picks will be about so near. So a neighbour counts for
    what it is nearer than that, and not as much as a pick in the middle of the row's neighbourhood. `python -m benchmarks
    select` prints what the choice is worth beside the exact one.

    index, cosine: int32 and float32 (m, t), the neighbours of each row that counts and how near they are
    (curate/vectors/neighbours.py). candidates: how many rows may be picked, m if not given.
    """

    exact = False

    def __init__(self, index: np.ndarray, cosine: np.ndarray, candidates: int | None = None):
        candidates = len(index) if candidates is None else candidates
        self.background = _BACKGROUND * np.maximum(cosine[:, -1], 0)
        above = np.maximum(cosine - self.background[:, None], 0)
        order = np.argsort(index.ravel(), kind="stable")
        start = np.searchsorted(index.ravel()[order], np.arange(candidates + 1))
        row = (order // max(index.shape[1], 1)).astype(np.int32)
        self.pairs = _Pairs(start, row, above.ravel()[order])
        self.first = np.bincount(index.ravel(), above.ravel(), minlength=candidates)
        self.covered, self.gain = np.zeros(len(index), dtype=np.float32), self.first.copy()

    def fresh(self) -> GraphCoverage:
        """The same graph without picks."""
        again = copy.copy(self)
        again.covered, again.gain = np.zeros_like(self.covered), self.first.copy()
        return again

    def refresh(self, rows: np.ndarray, later: np.ndarray) -> None:
        self.gain[rows] = self.pairs.gains(rows, self.covered)

    def add(self, row: int) -> None:
        at = slice(self.pairs.start[row], self.pairs.start[row + 1])
        seen = self.pairs.row[at]
        self.covered[seen] = np.maximum(self.covered[seen], self.pairs.cosine[at])
        self.gain[row] = 0.0
