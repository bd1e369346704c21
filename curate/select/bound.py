"""What no selection can exceed: an upper bound beside greedy picks, so that a run says how good it is at least.

Where gains only fall as rows are added (the objective is monotone and submodular), a best selection has at most what a prefix
of the picks has, and what the best rows beside it would add if each added as much as it does there. That holds at every prefix, also at
the empty one, and the least of a few is given: with few picks of many directions the first is sharp, with many picks the last
(Minoux 1978; Leskovec et al. 2007, "Cost-effective Outbreak Detection in Networks", section 4, "online bounds"). And it is
never less than theory says of greedy picks: 1 - (1 - 1/k)^k of the best for a budget of k rows (Nemhauser, Wolsey and Fisher 1978),
1 / (c + 1) under limits on c columns (Fisher, Nemhauser and Wolsey 1978), (1 - 1/e) / 2 for the better of two runs under a
budget of tokens (Leskovec et al. 2007, theorem 2).
"""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np

from curate.rows.constraints import Constraints

_PARTS = 8  # prefixes at which it is computed, beside the empty one
_PATIENCE = 4  # gains are brought up to date for at most so many times the budget of rows at a prefix
_BLOCK = 64  # rows at a time


class Gains(Protocol):
    """Of an objective: curate/select/greedy.py."""

    gain: np.ndarray
    exact: bool

    def refresh(self, rows: np.ndarray, later: np.ndarray) -> None: ...


class Bound:
    """The least bound of the prefixes that were looked at. Rows of must_have are in every selection, so the first prefix holds
    them all."""

    def __init__(self, constraints: Constraints, scale: float):
        self.constraints, self.scale = constraints, scale
        self.least, self.part, self.looked = math.inf, 0, -1
        must = constraints.must
        self.budget = constraints.budget - len(must)
        self.limits = [
            group.limit - np.bincount(group.code[must][group.code[must] >= 0], minlength=len(group.limit))
            for group in constraints.groups
        ]
        self.opened, self.tokens = constraints.open, 0.0
        self.used, self.whole = float(len(must)), float(max(constraints.budget, 1))  # rows, or tokens
        if constraints.cost is not None:
            self.opened = constraints.open & (constraints.cost <= constraints.tokens)
            self.used, self.whole = float(constraints.cost[must].sum()), float(max(constraints.tokens, 1))
            self.tokens = constraints.tokens - self.used

    def due(self, row: int) -> bool:
        """Whether the picks, the last of which is ``row``, fill an eighth of the budget more than when this last was so."""
        self.used += 1.0 if self.constraints.cost is None else float(self.constraints.cost[row])
        part = int(_PARTS * self.used / self.whole + 1e-9)
        due, self.part = part > self.part, max(part, self.part)
        return due

    def look(self, objective: Gains, picks: list[int], gains: list[float]) -> None:
        """Computes it beside ``picks``, whose gains are given."""
        if len(picks) == self.looked:
            return
        self.looked = len(picks)
        opened = self.opened.copy()
        opened[picks] = False
        rows = np.flatnonzero(opened)
        most, chosen = self._most(objective, rows)
        fresh, patience = np.zeros(len(opened), bool), _PATIENCE * max(len(picks), self.budget // _PARTS, _BLOCK)
        while not objective.exact and picks and patience > 0 and len(stale := chosen[~fresh[chosen]]):
            for start in range(0, len(stale), _BLOCK):
                objective.refresh(stale[start : start + _BLOCK], stale[start:])
            fresh[stale] = True
            patience -= len(stale)
            most, chosen = self._most(objective, rows)
        self.least = min(self.least, sum(gains) + most)

    def _most(self, objective: Gains, rows: np.ndarray) -> tuple[float, np.ndarray]:
        """(the most that a feasible choice of ``rows`` could add, were their gains not to fall; the rows of that choice). Where
        there are several limits, the least of what each of them allows."""
        wanted = self.constraints
        more = np.maximum(wanted.combined(objective.gain[rows], self.scale, rows), 0.0)
        if not np.isfinite(more).all():  # what has not been looked at could add anything
            return math.inf, rows[~np.isfinite(more)]
        if wanted.cost is not None:
            cost = wanted.cost[rows]
            order = np.argsort(-more / cost, kind="stable")
            share = np.clip(1 - (np.cumsum(cost[order]) - self.tokens) / cost[order], 0, 1)
            return float(more[order] @ share), rows[order[share > 0]]
        top = _largest(more, self.budget)
        best = (float(more[top].sum()), rows[top])
        for group, limit in zip(wanted.groups, self.limits, strict=True):
            some = _within(more, group.code[rows], limit)
            some = some[_largest(more[some], self.budget)]
            best = min(best, (float(more[some].sum()), rows[some]), key=lambda one: one[0])
        return best


def certificate(bounds: list[Bound], value: float, slack: float, sampled: bool) -> dict[str, float]:
    """value: the objective of the picks. upper_bound: no choice that obeys the constraints has more. ratio: value / upper_bound.
    bounds: of all runs under the same constraints. slack: what ties that were broken by id can have cost in all."""
    upper = min(bound.least for bound in bounds)
    if (share := theory(bounds[0].constraints, sampled)) > 0:
        upper = min(upper, (value + slack) / share)
    upper = max(upper, value)
    return {"value": value, "upper_bound": upper, "ratio": value / upper if upper > 0 else 1.0}


def theory(constraints: Constraints, sampled: bool) -> float:
    """The share of the best value that a finished greedy choice has in any case; 0 where none is known: on samples, with limits
    under a budget of tokens, and where a row was refused since the selection could not have been completed with it."""
    if sampled or constraints.refused or (constraints.groups and constraints.cost is not None):
        return 0.0
    if constraints.cost is not None:
        return (1 - 1 / math.e) / 2
    if constraints.groups:
        return 1 / (len(constraints.groups) + 1)
    free = max(constraints.budget - len(constraints.must), 1)
    return 1 - (1 - 1 / free) ** free


def _largest(values: np.ndarray, many: int) -> np.ndarray:
    """Where the ``many`` largest stand, in no order."""
    if many >= len(values):
        return np.arange(len(values))
    return np.argpartition(-values, many - 1)[:many] if many > 0 else np.empty(0, np.int64)


def _within(values: np.ndarray, code: np.ndarray, limit: np.ndarray) -> np.ndarray:
    """Where the largest of each group stand, as many as it may hold, and all of none."""
    order = np.argsort(-values, kind="stable")
    by_group = order[np.argsort(code[order], kind="stable")]
    place = np.arange(len(code)) - np.searchsorted(code[by_group], code[by_group])
    return by_group[(code[by_group] < 0) | (place < np.append(limit, 0)[code[by_group]])]
