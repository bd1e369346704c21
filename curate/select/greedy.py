"""Greedy choice, written once: exact, lazy or on samples, under any constraints, with a bound on the best that was possible.

A selector says what it maximises (an Objective); this says which row is next. Where gains only fall as picks are made (the
objective is submodular), a row whose last known gain is too small need not be looked at again: the picks are those of the
plain greedy rule, sooner. References: Minoux 1978, "Accelerated greedy algorithms for maximizing submodular set functions", also
for the bound; Mirzasoleiman et al. 2015, "Lazier Than Lazy Greedy", arXiv 1409.7938, for samples.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

import numpy as np

from curate.contract.progress import bar
from curate.rows.constraints import Constraints, Remaining
from curate.rows.pool import Picks
from curate.select.bound import Bound, certificate

_FRONT = 1_024  # rows of the largest bounds that are looked at for a pick; all others are known to be below these
_BLOCK = 64  # rows whose gains are brought up to date at first, and twice as many each time that this was not enough,
_LARGEST_BLOCK = 256  # up to so many


class Objective(Protocol):
    """What is maximised. gain: float64 (n,), what each row would add now, or, where not ``exact``, at least that; then it
    must be that gains only fall as rows are added (submodular)."""

    gain: np.ndarray
    exact: bool

    def refresh(self, rows: np.ndarray, later: np.ndarray) -> None:
        """Makes gain[rows] what each would add now, and leaves all other gains as they are. later: rows that will likely be
        asked for next. Not called if exact."""
        ...

    def add(self, row: int) -> None:
        """``row`` is picked."""
        ...


def greedy(
    make: Callable[[], Objective],
    constraints: Constraints,
    *,
    label: str,
    tie: float = 0.0,
    scale: float | None = None,
    samples: np.ndarray | None = None,
    epsilon: float = 0.1,
    certify: bool = False,
) -> Picks:
    """Greedy picks of the objective that ``make`` gives. Gain: what each added to the objective (with quality: to the sum of
    both terms). Facts: a certificate, where asked.

    tie: gains closer than this are rounding, and go to the lowest index. scale: what gains are divided by where a score counts
    too; the largest first gain if not given. samples: a random order of the rows, int64 (n,); each step then looks at the next
    (n / k) ln(1 / epsilon) of it alone, and reaches 1 - 1/e - epsilon in expectation. certify: whether the objective is
    monotone and submodular, so that the bound holds; with a budget of tokens two passes are then made, by gain and by gain a
    token, and the better is given.
    """
    if constraints.quality is None:
        scale = 1.0
    elif scale is None:  # of one more pass, by gain alone
        first = replace(constraints, budget=1, must=constraints.must[:0], cost=None, quality=None)
        scale = max(Pass(make(), first, label, tie).run().gains, default=1.0) or 1.0
    passes = [
        Pass(make(), constraints, label, tie, scale, samples, epsilon, by_token, certify).run()
        for by_token in ((False, True) if constraints.cost is not None and certify else (False,))
    ]
    best = max(passes, key=lambda one: sum(one.gains))
    facts, bounds = {}, [one.bound for one in passes if one.bound is not None]
    if bounds and len(best.picks):
        slack = len(best.picks) * tie / scale
        facts["certificate"] = certificate(bounds, sum(best.gains), slack, sampled=samples is not None)
    return Picks(np.array(best.picks, dtype=np.int64), np.array(best.gains, dtype=np.float32), facts)


class Pass:
    """One greedy choice. picks, gains: lists, in order, filled by ``run``. by_token: rows are compared by gain a token."""

    def __init__(
        self,
        objective: Objective,
        constraints: Constraints,
        label: str,
        tie: float = 0.0,
        scale: float = 1.0,
        samples: np.ndarray | None = None,
        epsilon: float = 0.1,
        by_token: bool = False,
        certify: bool = False,
    ):
        self.objective, self.constraints, self.label = objective, constraints, label
        self.tie, self.scale = tie, scale
        self.samples, self.epsilon = samples, epsilon
        self.bound = Bound(constraints, scale) if certify else None
        self.cost = constraints.cost if by_token else None
        self.remaining: Remaining = constraints.begin()
        self.picks: list[int] = []
        self.gains: list[float] = []
        self.front, self.ceiling = np.empty(0, np.int64), np.inf
        self.flat = False  # once no row adds anything, none ever will: the rest goes by index
        self.widest = tie / scale / (1.0 if self.cost is None else float(self.cost.min(initial=np.inf)))

    def run(self) -> Pass:
        """Picks until the budget is full or no row is left; gives itself."""
        wanted, step, expected = self.constraints, 0, self._expected()
        with bar(wanted.budget if wanted.cost is None else None, self.label) as advance:
            for row in wanted.must.tolist():
                self._take(row, np.array([row]))
            self._look()
            while self.remaining.rows and self.remaining.open.any():
                if self.samples is not None:
                    row = self._of_sample(_sample(self.samples, expected, self.epsilon, step, self.remaining.open))
                else:
                    row = self._of_all() if self.objective.exact else self._lazily()
                if self._take(row, None):
                    step += 1
                    advance(1)
                    if self.bound is not None and self.bound.due(row):
                        self._look()
            self._look()
        return self

    def _look(self) -> None:
        if self.bound is not None:
            self.bound.look(self.objective, self.picks, self.gains)

    def _expected(self) -> int:
        """How many picks there will be, about."""
        wanted = self.constraints
        if wanted.cost is None or not wanted.open.any():
            return wanted.budget
        return int(wanted.tokens / wanted.cost[wanted.open].mean())

    def _take(self, row: int, stale: np.ndarray | None) -> bool:
        if not self.remaining.take(row):
            return False
        if stale is not None and not self.objective.exact:
            self.objective.refresh(stale, stale)
        rows = np.array([row])
        self.gains.append(float(self.constraints.combined(self.objective.gain[rows], self.scale, rows)[0]))
        self.picks.append(row)
        self.objective.add(row)
        return True

    def _score(self, rows: np.ndarray | slice) -> np.ndarray:
        """What rows are compared by: gain with quality, a token where tokens count."""
        score = self.constraints.combined(self.objective.gain[rows], self.scale, rows)
        return score if self.cost is None else score / self.cost[rows]

    def _of_all(self) -> int:
        score = np.where(self.remaining.open, self._score(slice(None)), -np.inf)
        return int(np.argmax(score >= score.max() - self._tie(slice(None))))

    def _of_sample(self, rows: np.ndarray) -> int:
        rows = np.sort(rows)
        if not self.objective.exact:
            self._fresh(rows)
        score = self._score(rows)
        return int(rows[np.argmax(score >= score.max() - self._tie(rows))])

    def _lazily(self) -> int:
        """The row that ``_of_all`` would give if all gains were up to date."""
        if self.flat:
            return int(np.argmax(self.remaining.open))
        rows = self.front[self.remaining.open[self.front]]
        best = self._fresh(rows)
        if not best - self.widest > self.ceiling:
            rows, best = self._refill()
            self.flat = self.constraints.quality is None and self.cost is None and best <= self.tie
        score = self._score(rows)
        return int(rows[score >= best - self._tie(rows)].min())

    def _refill(self) -> tuple[np.ndarray, float]:
        """A new front, and the rows among which the pick is, with the best score of any row."""
        opened = np.flatnonzero(self.remaining.open)
        if len(opened) <= _FRONT:
            self.front, self.ceiling = opened, -np.inf
            return opened, self._fresh(opened)
        score = self._score(opened)
        split = np.argpartition(-score, _FRONT)
        self.front, self.ceiling = opened[split[:_FRONT]], float(score[split[_FRONT]])
        best = self._fresh(self.front)
        if best - self.widest > self.ceiling:
            return self.front, best
        rest = opened[split[_FRONT:]]
        rest = rest[self._score(rest) >= best - self._tie(rest)]
        best = max(best, self._fresh(rest, best))
        return np.concatenate([self.front, rest]), best

    def _fresh(self, rows: np.ndarray, best: float = -np.inf) -> float:
        """Brings the gains of ``rows`` up to date as far as they could be the best, or tie with it; gives the best score.
        best: a score that another row is known to have."""
        order = rows[np.argsort(-self._score(rows), kind="stable")]
        start, size = 0, _BLOCK
        while start < len(order):
            block = order[start : start + size]
            block = block[self._score(block) >= best - self._tie(block)]
            if not len(block):
                break
            self.objective.refresh(block, order[start:])
            best = max(best, float(self._score(block).max()))
            start, size = start + size, min(2 * size, _LARGEST_BLOCK)
        return best

    def _tie(self, rows: np.ndarray | slice) -> float | np.ndarray:
        """Scores closer than this are rounding."""
        tie = self.tie / self.scale
        return tie if self.cost is None else tie / self.cost[rows]


def _sample(samples: np.ndarray, expected: int, epsilon: float, step: int, opened: np.ndarray) -> np.ndarray:
    """The next rows of a random order that may still be picked; the order is gone through again and again."""
    size = max(1, math.ceil(len(samples) / max(expected, 1) * math.log(1 / epsilon)))
    start = step * size
    while True:
        rows = samples[np.arange(start, start + min(size, len(samples))) % len(samples)]
        rows = rows[opened[rows]]
        if len(rows):
            return rows
        start += size
