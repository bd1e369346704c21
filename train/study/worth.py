"""m(N): how many of the reference's examples one example of an arm is worth.

The mean curve of the reference, straight in log N between its budgets, reaches the arm's score at m N examples. The interval
of m holds each m for which the difference "arm at N less reference at m N" has an interval that holds zero, which is
Fieller's inversion (1954, JRSS B 16:175). Nothing is extrapolated: beyond the budgets of the reference there are bounds only.

Where the reference is not shown to get better from its smallest budget to its largest (one-sided, 5 %), there is no such
number of examples, and m is undefined. A curve that bends between two budgets makes m a little too large: a curve like
N^-0.3 by 7 % at most where budgets are a factor of four apart, by 2 % where they are a factor of two apart.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import optimize

from train.study.moments import LEVEL, Estimate, Moments
from train.study.results import Cell

GRID = 1024  # points, evenly spaced in log N, at which m's interval is looked for


@dataclass(frozen=True)
class Worth:
    """m(N). Between `least` and `most` it was measured; 0 means somewhere below `least`, infinity above `most`; all three are
    NaN where it is undefined, since more of the reference's examples are not shown to help."""

    arm: str
    budget: int
    value: float
    low: float
    high: float
    least: float
    most: float

    @property
    def defined(self) -> bool:
        return not np.isnan(self.value)

    @property
    def bounded(self) -> bool:
        """Whether the interval has two ends."""
        return self.defined and self.low > 0 and self.high < np.inf

    def __str__(self) -> str:
        """1.45 [1.20, 1.81], or with bounds: 3.10 [1.90, >4]; <0.25; undefined."""
        if not self.defined:
            return "undefined"
        if self.high <= self.least:
            return f"<{self.least:.3g}"
        if self.low >= self.most:
            return f">{self.most:.3g}"
        return f"{self._show(self.value)} [{self._show(self.low)}, {self._show(self.high)}]"

    def _show(self, m: float) -> str:
        return f"<{self.least:.3g}" if m == 0 else f">{self.most:.3g}" if m == np.inf else f"{m:.2f}"


@dataclass(frozen=True)
class Curve:
    """The reference's scores over its budgets. gain: what it gains from the smallest to the largest, above 0 if it gets
    better; shown: whether it does."""

    budgets: list[int]
    cells: list[int]
    gain: Estimate

    @property
    def shown(self) -> bool:
        return self.gain.p_above <= 1 - LEVEL


def curve(moments: Moments, cells: list[Cell], reference: str, better: int) -> Curve | None:
    """The reference's curve, or None where it has a single budget. better: -1 where a lower score is better, 1 where a higher."""
    places = [(budget, place) for place, (arm, budget) in enumerate(cells) if arm == reference and budget > 0]
    if len(places) < 2:
        return None
    places.sort()
    return Curve(
        [budget for budget, _ in places],
        [place for _, place in places],
        moments.estimate(gain_contrast(len(cells), places[0][1], places[-1][1], better)),
    )


def gain_contrast(n_cells: int, first: int, last: int, better: int) -> np.ndarray:
    """What is gained from the first cell to the last."""
    contrast = np.zeros(n_cells)
    contrast[last] += better
    contrast[first] -= better
    return contrast


def worth(moments: Moments, cell: Cell, own: int, reference: Curve, better: int) -> Worth:
    """m at one cell. own: its place among the moments' cells. Cost: GRID intervals."""
    arm, budget = cell
    least, most = reference.budgets[0] / budget, reference.budgets[-1] / budget
    if not reference.shown:
        return Worth(arm, budget, np.nan, np.nan, np.nan, least, most)
    log_budgets = np.log(reference.budgets)
    grid = np.linspace(log_budgets[0], log_budgets[-1], GRID)
    contrasts = np.zeros((GRID, len(moments.mean)))
    for step, place in enumerate(reference.cells):  # the hat functions of straight interpolation
        contrasts[:, place] = -np.interp(grid, log_budgets, np.eye(len(log_budgets))[step])
    contrasts[:, own] += 1
    difference = moments.estimate(contrasts)
    possible = (difference.low <= 0) & (0 <= difference.high)
    value = _invert(log_budgets, better * moments.mean[reference.cells], better * moments.mean[own])
    if not possible.any() and np.isfinite(value):
        possible[np.abs(grid - value).argmin()] = True  # an interval that is narrower than the grid
    if not possible.any():
        low, high = (0.0, least) if value < 0 else (most, np.inf)
        return Worth(arm, budget, 0.0 if value < 0 else np.inf, low, high, least, most)
    inside = np.flatnonzero(possible)
    first, last = inside[0], inside[-1]
    if np.isfinite(value):
        value = float(np.clip(value, grid[first], grid[last]))  # where the curve is not monotone
    elif (first, last) != (0, GRID - 1) and not (first == 0 if value < 0 else last == GRID - 1):
        value = float(grid[np.abs(difference.t).argmin()])
    low = 0.0 if first == 0 else float(np.exp(grid[first])) / budget
    high = np.inf if last == GRID - 1 else float(np.exp(grid[last])) / budget
    return Worth(arm, budget, float(np.exp(value)) / budget, low, high, least, most)


def _invert(log_budgets: np.ndarray, means: np.ndarray, target: float) -> float:
    """log N at which the reference's rising curve reaches the target; -inf or inf where it does so beyond its budgets.

    The curve is first made to rise (isotonic regression), as more of the same data cannot be told to hurt on average.
    """
    rising = optimize.isotonic_regression(means, increasing=True).x
    if target < rising[0]:
        return -np.inf
    if target > rising[-1]:
        return np.inf
    return float(np.interp(target, rising, log_budgets))
