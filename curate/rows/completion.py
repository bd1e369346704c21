"""Whether picks can still be completed to a whole selection where several columns limit it: decided, not guessed.

A cell is all rows that have the same values in every limited column. A selection then is a number of rows for each cell, and
limits are sums over cells: with two columns a transportation problem, which is a maximum flow from the values of one column
to those of the other; with three or more an integer programme over the cells. A completion is one solution, kept true while
picks are made: a row of a cell that it still takes from may be picked at once; for any other it is changed by a cycle through
that cell (two columns) or by an exchange or a new solution (more). Where there is none, no whole selection holds the picks
and that row.

A quota needs no lower limit here: the quotas of a column make the whole budget, so a selection of all rows within its upper
limits meets them exactly.

References: Ford and Fulkerson 1956, "Maximal flow through a network"; Ahuja, Magnanti and Orlin 1993, "Network Flows", on
residual networks. The maximum flow is SciPy's; the integer programme is solved by HiGHS, through SciPy.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from curate.rows.groups import Group

_CLOSED = -1  # the cell of a row that is not open
_START = -1  # where a search began
_TOTAL = -2  # a step over what the values of a column take in all: one takes a row more, another a row less
_UNSEEN = -3
_ROUNDS = 8
_PAIRED = 400  # cells of which pairs are looked at
_TRIPLED = 16  # cells for each value of which triples are looked at


@dataclass(frozen=True)
class Cells:
    """The open rows by their values in m limited columns.

    of_row: int64 (n,), the cell of each row, -1 where it is not open. size: int64 (c,), rows of each cell. code: int64 (c, m),
    its value in each column; rows without one share a last value. limits: int64 (values,) for each column, what a selection
    may hold of each value.
    """

    of_row: np.ndarray
    size: np.ndarray
    code: np.ndarray
    limits: tuple[np.ndarray, ...]

    def count(self, rows: np.ndarray) -> np.ndarray:
        """How many of ``rows`` lie in each cell: int64 (c,)."""
        return np.bincount(self.of_row[rows], minlength=len(self.size))

    def of_two(self, one: int, other: int) -> Cells:
        """The same rows by two of the columns."""
        code, of_cell = np.unique(self.code[:, [one, other]], axis=0, return_inverse=True)
        of_cell = of_cell.reshape(-1)
        of_row = np.append(of_cell, _CLOSED)[self.of_row]
        size = np.bincount(of_cell, weights=self.size, minlength=len(code)).astype(np.int64)
        return Cells(of_row, size, code, (self.limits[one], self.limits[other]))

    def left(self, taken: np.ndarray) -> list[np.ndarray]:
        """What the limits of each column leave beside so many rows of each cell."""
        return [
            limit - np.bincount(code, weights=taken, minlength=len(limit)).astype(np.int64)
            for limit, code in zip(self.limits, self.code.T, strict=True)
        ]


def cells_of(groups: Sequence[Group], opened: np.ndarray, budget: int) -> Cells:
    """Time: one sort of n whole numbers a column."""
    rows = np.flatnonzero(opened)
    limits = tuple(np.append(np.clip(group.limit, 0, budget), budget).astype(np.int64) for group in groups)
    codes = [
        np.where(group.code[rows] < 0, len(group.limit), group.code[rows]).astype(np.int64).reshape(-1)
        for group in groups
    ]
    cell = np.zeros(len(rows), np.int64)
    for code, limit in zip(codes, limits, strict=True):
        cell = np.unique(cell * len(limit) + code, return_inverse=True)[1].reshape(-1)
    _, first, size = np.unique(cell, return_index=True, return_counts=True)
    of_row = np.full(len(opened), _CLOSED, np.int64)
    of_row[rows] = cell
    code = np.stack([code[first] for code in codes], axis=1) if codes else np.empty((len(size), 0), np.int64)
    return Cells(of_row, size, code, limits)


def fullest(cells: Cells, least: np.ndarray, budget: int) -> np.ndarray:
    """How many rows of each cell a largest selection within the limits takes, but at most ``budget`` in all: int64 (c,).

    least: int64 (c,), what it takes of each cell at least; all are 0 where that is beyond the limits. Time: with two columns that
    of a maximum flow over c arcs, some milliseconds for thousands; with three or more that of an integer programme.
    """
    left = cells.left(least)
    if not len(least) or any((one < 0).any() for one in left):
        return np.zeros_like(least)
    more = budget - int(least.sum())
    return least + (_flow if len(left) <= 2 else _programme)(cells.code, cells.size - least, left, more)


def _flow(code: np.ndarray, size: np.ndarray, left: list[np.ndarray], budget: int) -> np.ndarray:
    """With at most two columns: a flow from a start, over all rows, the values of one column and those of the other, to an end."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import maximum_flow

    free = np.array([budget])  # of a column that is not there
    mine, others = (*left, free, free)[:2]
    here, there = (*code.T, *np.zeros((2, len(size)), np.int64))[:2]
    whole = len(mine) + len(others)
    start, end, at = whole + 1, whole + 2, len(mine) + there
    tail = np.concatenate([[start], np.full(len(mine), whole), here, len(mine) + np.arange(len(others))])
    head = np.concatenate([[whole], np.arange(len(mine)), at, np.full(len(others), end)])
    room = np.minimum(np.concatenate([[budget], mine, size, others]), budget)
    graph = csr_array((room.astype(np.int32), (tail, head)), shape=(end + 1, end + 1))
    moved = maximum_flow(graph, start, end).flow.tocsr()
    return np.asarray(moved[here, at], dtype=np.int64).reshape(-1)


def _programme(code: np.ndarray, size: np.ndarray, left: list[np.ndarray], budget: int) -> np.ndarray:
    """With more: the integer programme, whose variables are the cells."""
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import csr_array, vstack

    cell, one = np.arange(len(size)), np.ones(len(size))
    sums = [
        csr_array((one, (values, cell)), shape=(len(most), len(cell)))
        for values, most in zip(code.T, left, strict=True)
    ]
    most: Any = np.concatenate([*left, [budget]])  # SciPy's stubs know of scalars alone
    room: Any = size
    within = LinearConstraint(vstack([*sums, csr_array(one[None])]), -np.inf, most)
    exact = {"mip_rel_gap": 0.0}  # else a selection of 10,000 rows may lack one and pass for the largest
    solved = milp(-one, integrality=one, bounds=Bounds(0, room), constraints=within, options=exact)
    if solved.x is None:  # nothing at all is a solution
        raise RuntimeError(f"HiGHS did not solve an integer programme of {len(size):,} cells: {solved.message}")
    return np.rint(solved.x).astype(np.int64)


def _spread(cells: Cells, least: np.ndarray, budget: int) -> np.ndarray:
    """``fullest``, about in proportion to the sizes of the cells where that can be, as picks are likely to be."""
    share = cells.size * min(1.0, budget / max(int(cells.size.sum()), 1))
    for _ in range(_ROUNDS):  # iterative proportional fitting, downwards
        for code, limit in zip(cells.code.T, cells.limits, strict=True):
            held = np.bincount(code, weights=share, minlength=len(limit))
            share *= np.minimum(1.0, limit / np.maximum(held, 1e-9))[code]
    near = fullest(cells, np.maximum(least, share.astype(np.int64)), budget)
    return near if near.sum() == budget else fullest(cells, least, budget)


class Completion:
    """A whole selection by cells, kept feasible while rows are picked. ``possible`` is False where there never was one."""

    def __init__(self, cells: Cells, must: np.ndarray, budget: int):
        self.cells, self.size = cells, cells.size.copy()
        self.takes = _spread(cells, cells.count(must), budget)  # rows of each cell that are still to be picked
        self.possible = int(self.takes.sum()) == budget
        self.left = cells.left(self.takes)
        self.held = _less(cells.limits, self.left)  # still to be picked, by value
        self.rows: tuple[np.ndarray, np.ndarray] | None = None  # by cell
        self.by_two: list[Completion] = []
        if len(cells.limits) > 2:  # each two columns must be met too, and that is decided soon
            columns = range(len(cells.limits))
            self.by_two = [Completion(cells.of_two(i, j), must, budget) for i in columns for j in columns[i + 1 :]]
            radix = [math.prod(len(limit) for limit in cells.limits[j + 1 :]) for j in columns]
            self.radix = np.array(radix if max(radix) < 2**31 else [], np.int64)  # a number a cell, if it can have one
            key = cells.code @ self.radix if len(self.radix) else np.arange(len(cells.size))
            self.order = np.argsort(key, kind="stable")
            self.keys = key[self.order]
        self.by_value = [_by_value(code, len(limit)) for code, limit in zip(cells.code.T, cells.limits, strict=True)]

    def allows(self, row: int) -> bool:
        """Whether some whole selection holds the rows picked so far and this one, which must be open."""
        cell = int(self.cells.of_row[row])
        if self.takes[cell] > 0 or not self.size[cell]:
            return bool(self.takes[cell] > 0)
        if self.cells.code.shape[1] == 2:
            changed = self._exchanged(cell) or self._cycled(cell)
        else:
            changed = self._exchanged(cell) or self._swapped(cell)
            changed = changed or (all(two.allows(row) for two in self.by_two) and self._solved_anew(cell))
        if not changed:
            self.size[cell] = 0  # picks only narrow what is left, so none of its rows will ever be let in
        return changed

    def take(self, row: int) -> None:
        """A row that is allowed is picked."""
        cell = int(self.cells.of_row[row])
        for two in self.by_two:
            two.allows(row)
            two.take(row)
        self.takes[cell] -= 1
        self.size[cell] -= 1
        for held, code in zip(self.held, self.cells.code[cell], strict=True):
            held[code] -= 1

    def rows_like(self, row: int) -> np.ndarray:
        """The rows of a row's cell: int64."""
        if self.rows is None:
            self.rows = _by_value(self.cells.of_row, len(self.size))
        return _of_values(self.rows, [int(self.cells.of_row[row])])

    def _move(self, cell: int, rows: int) -> None:
        """Takes so many rows more of a cell."""
        self.takes[cell] += rows
        for left, held, code in zip(self.left, self.held, self.cells.code[cell], strict=True):
            left[code] -= rows
            held[code] += rows

    def _exchanged(self, cell: int) -> bool:
        """Whether a row of one other cell could make room."""
        fits = self.takes > 0
        for code, left in zip(self.cells.code.T, self.left, strict=True):
            if left[code[cell]] <= 0:
                fits &= code == code[cell]
        if not fits.any():
            return False
        self._move(int(np.argmax(fits)), -1)
        self._move(cell, 1)
        return True

    def _swapped(self, cell: int) -> bool:
        """Whether rows of two other cells could make room for one of this cell and one of a fourth, which has of each column
        the value that this one does not take over; with three columns also of three others, one for each value."""
        if not len(self.radix):
            return False
        code, used = self.cells.code, np.flatnonzero(self.takes > 0)
        alike = code[used] == code[cell]
        two, both = used[alike.any(axis=1)][:_PAIRED], alike[alike.any(axis=1)][:_PAIRED]
        here, there = np.nonzero((both[:, None] | both).all(axis=2))
        last = self._with_room(np.where(both[here], code[two[there]], code[two[here]]))
        if (last >= 0).any():
            pair = int(np.argmax(last >= 0))
            return self._trade((two[here[pair]], two[there[pair]]), (cell, last[pair]))
        if code.shape[1] != 3:
            return False
        a, b, c = (one.ravel() for one in np.meshgrid(*(used[like][:_TRIPLED] for like in alike.T), indexing="ij"))
        # one of two new cells takes the first column's value of b and these of the others; the other new cell takes the rest
        for middle, last in ((a, a), (a, b), (c, a), (c, b)):
            first = self._with_room(np.stack([code[b, 0], code[middle, 1], code[last, 2]], axis=1))
            rest = [code[c, 0], code[c if middle is a else a, 1], code[b if last is a else a, 2]]
            second = self._with_room(np.stack(rest, axis=1))
            fits = (first >= 0) & (second >= 0) & (first != second) & (first != cell) & (second != cell)
            fits &= (a != b) & (b != c) & (a != c)
            if fits.any():
                at = int(np.argmax(fits))
                return self._trade((a[at], b[at], c[at]), (cell, first[at], second[at]))
        return False

    def _with_room(self, codes: np.ndarray) -> np.ndarray:
        """The cells of these values, int64 (k, m), of which one row more could be taken: int64 (k,), -1 where there is none."""
        key = codes @ self.radix
        place = np.minimum(np.searchsorted(self.keys, key), len(self.keys) - 1)
        cell = self.order[place]
        return np.where((self.keys[place] == key) & (self.takes[cell] < self.size[cell]), cell, -1)

    def _trade(self, less: Iterable[Any], more: Iterable[Any]) -> bool:
        """Takes a row less of some cells and one more of others, which have as many rows of each value; gives True."""
        for cell in less:
            self._move(int(cell), -1)
        for cell in more:
            self._move(int(cell), 1)
        return True

    def _cycled(self, cell: int) -> bool:
        """Whether a cycle of exchanges, each in one value of one of two columns, makes room: a search in breadth from the
        cell's value in the second column to its value in the first."""
        here, there = self.cells.code.T
        start, goal = int(there[cell]), int(here[cell])
        # of each value of both columns, the cell that led to it
        mine, others = (np.full(len(limit), _UNSEEN, np.int64) for limit in self.cells.limits)
        others[start], front = _START, np.array([start])
        total = [_UNSEEN, _UNSEEN]  # the value over which what a column takes in all was balanced
        while len(front):
            cells = _of_values(self.by_value[1], front)
            cells = cells[(self.takes[cells] > 0) & (mine[here[cells]] == _UNSEEN)]
            mine[here[cells]] = cells
            first = np.unique(here[cells])
            if total[1] == _UNSEEN and (self.left[1][front] > 0).any():
                total[1] = int(front[np.argmax(self.left[1][front] > 0)])
                over = np.flatnonzero((self.held[1] > 0) & (others == _UNSEEN))
                others[over] = _TOTAL
            else:
                over = np.empty(0, np.int64)
            if total[0] == _UNSEEN and len(first):
                total[0] = int(first[0])
                more = np.flatnonzero((self.left[0] > 0) & (mine == _UNSEEN))
                mine[more] = _TOTAL
                first = np.concatenate([first, more])
            if mine[goal] != _UNSEEN:
                self._turn(cell, goal, mine, others, total)
                return True
            cells = _of_values(self.by_value[0], first)
            cells = cells[(self.takes[cells] < self.size[cells]) & (others[there[cells]] == _UNSEEN)]
            others[there[cells]] = cells
            front = np.union1d(there[cells], over)
        self.size[(self.takes == 0) & (others[there] != _UNSEEN) & (mine[here] == _UNSEEN)] = 0  # nor could these
        return False

    def _turn(self, cell: int, goal: int, mine: np.ndarray, others: np.ndarray, total: list[int]) -> None:
        """Moves one row along the cycle that the search ended."""
        here, there = self.cells.code.T
        self._move(cell, 1)
        value = goal
        while True:
            if mine[value] == _TOTAL:
                value = total[0]
            taken = int(mine[value])
            self._move(taken, -1)
            other = int(there[taken])
            if others[other] == _TOTAL:
                other = total[1]
            if others[other] == _START:
                return
            given = int(others[other])
            self._move(given, 1)
            value = int(here[given])

    def _solved_anew(self, cell: int) -> bool:
        """Whether the integer programme has a solution with a row of this cell."""
        least = np.zeros(len(self.size), np.int64)
        least[cell] = 1
        rest = int(self.takes.sum())
        limits = tuple(left + held for left, held in zip(self.left, self.held, strict=True))
        cells = Cells(self.cells.of_row, self.size, self.cells.code, limits)
        takes = fullest(cells, least, rest)
        if takes.sum() < rest:
            return False
        self.takes, self.left = takes, cells.left(takes)
        self.held = _less(limits, self.left)
        return True


def _less(limits: Iterable[np.ndarray], left: Iterable[np.ndarray]) -> list[np.ndarray]:
    return [limit - one for limit, one in zip(limits, left, strict=True)]


def _by_value(code: np.ndarray, values: int) -> tuple[np.ndarray, np.ndarray]:
    """(cells by their value in a column, where each value begins)."""
    order = np.argsort(code, kind="stable")
    return order, np.searchsorted(code[order], np.arange(values + 1))


def _of_values(by_value: tuple[np.ndarray, np.ndarray], values: Iterable[int]) -> np.ndarray:
    order, start = by_value
    parts = [order[start[value] : start[value + 1]] for value in values]
    return np.concatenate(parts) if parts else np.empty(0, np.int64)
