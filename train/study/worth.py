"""m(N): how many of the reference's examples one example of an arm is worth.

The curve of the reference reaches the arm's score at m N examples. With five budgets or more it is a cubic in log N, fitted to
the mean scores by least squares: over six factors of two that follows a law like N^-0.3 to a hundredth of its fall, and it keeps
the noise of single budgets from bending the curve back. Where the budgets' scores lie off the cubic by more than their noise (Bonferroni, 5 %),
and with fewer budgets, the curve is straight in log N between them. A curve that bends between two budgets then makes m a little
too large: by 7 % at most where budgets are a factor of four apart, by 2 % where they are a factor of two apart.

The interval of m holds each m for which the difference "arm at N less reference at m N" has an interval that holds zero, which
is Fieller's inversion (1954, JRSS B 16:175). Nothing is extrapolated: beyond the budgets of the reference there are bounds only.
Where the reference is not shown to get better from its smallest budget to its largest (one-sided, 5 %), there is no such number
of examples, and m is undefined.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy import optimize

from train.study.moments import LEVEL, Estimate
from train.study.results import Cell

GRID = 1024  # points, evenly spaced in log N, at which m's interval is looked for
_DEGREE = 3
_ENOUGH = 5  # budgets for a fitted curve


class Means(Protocol):
    """Means of cells, float64 (C,), and the interval of any contrast of them (train/study/moments.py, records.py)."""

    mean: np.ndarray

    def estimate(self, contrast: np.ndarray) -> Estimate: ...


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
    """The reference's scores over its budgets. cells: their places among the moments'. gain: what it gains from the smallest to
    the largest, above 0 if it gets better; shown: whether it does. fitted: whether it is a cubic, or straight in parts."""

    budgets: list[int]
    cells: list[int]
    gain: Estimate
    fitted: bool

    @property
    def shown(self) -> bool:
        return self.gain.p_above <= 1 - LEVEL


def curve(moments: Means, cells: list[Cell], reference: str, better: int) -> Curve | None:
    """The reference's curve, or None where it has a single budget. better: -1 where a lower score is better, 1 where a higher."""
    places = [(budget, place) for place, (arm, budget) in enumerate(cells) if arm == reference and budget > 0]
    if len(places) < 2:
        return None
    places.sort()
    budgets, own = [budget for budget, _ in places], [place for _, place in places]
    gain = moments.estimate(gain_contrast(len(cells), own[0], own[-1], better))
    return Curve(budgets, own, gain, len(budgets) >= _ENOUGH and _follows(moments, budgets, own))


def _follows(moments: Means, budgets: list[int], own: list[int]) -> bool:
    """Whether no budget's score lies off the fitted curve by more than noise."""
    log_budgets = np.log(budgets)
    off = np.zeros((len(own), len(moments.mean)))
    off[:, own] = np.eye(len(own)) - _weights(log_budgets, log_budgets, True)
    p = moments.estimate(off).p
    return bool(p.min() * (len(own) - _DEGREE - 1) > 1 - LEVEL)


def _weights(log_budgets: np.ndarray, at: np.ndarray, fitted: bool) -> np.ndarray:
    """What the curve at some points is made of: float64 (points, budgets), the weights of the budgets' scores."""
    if not fitted:  # the hat functions of straight interpolation
        return np.stack([np.interp(at, log_budgets, hat) for hat in np.eye(len(log_budgets))], axis=1)
    middle = log_budgets.mean()
    powers = np.vander(log_budgets - middle, _DEGREE + 1)
    return np.vander(at - middle, _DEGREE + 1) @ np.linalg.pinv(powers)


def gain_contrast(n_cells: int, first: int, last: int, better: int) -> np.ndarray:
    """What is gained from the first cell to the last."""
    contrast = np.zeros(n_cells)
    contrast[last] += better
    contrast[first] -= better
    return contrast


def worth(moments: Means, cell: Cell, own: int, reference: Curve, better: int) -> Worth:
    """m at one cell. own: its place among the moments' cells. Cost: GRID intervals."""
    arm, budget = cell
    least, most = reference.budgets[0] / budget, reference.budgets[-1] / budget
    if not reference.shown:
        return Worth(arm, budget, np.nan, np.nan, np.nan, least, most)
    log_budgets = np.log(reference.budgets)
    grid = np.linspace(log_budgets[0], log_budgets[-1], GRID)
    weights = _weights(log_budgets, grid, reference.fitted)
    contrasts = np.zeros((GRID, len(moments.mean)))
    contrasts[:, reference.cells] = -weights
    contrasts[:, own] += 1
    difference = moments.estimate(contrasts)
    possible = (difference.low <= 0) & (0 <= difference.high)
    value = _invert(grid, better * (weights @ moments.mean[reference.cells]), better * moments.mean[own])
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


def _invert(grid: np.ndarray, scores: np.ndarray, target: float) -> float:
    """log N at which the reference's rising curve reaches the target; -inf or inf where it does so beyond its budgets.

    The curve is first made to rise (isotonic regression), as more of the same data cannot be told to hurt on average.
    """
    rising = optimize.isotonic_regression(scores, increasing=True).x
    if target < rising[0]:
        return -np.inf
    if target > rising[-1]:
        return np.inf
    return float(np.interp(target, rising, grid))
