"""How small a difference a design can see, and what it takes to see a smaller one.

    visible(difference, family=12)                  # the smallest effect with 80 % power, given the noise that was found
    needed(0.02, components, family=12)             # draws and items that see 0.02

The test is the t test of train/study/moments.py, whose power is that of the noncentral t distribution: with standard error s,
f degrees of freedom and an effect e, the share of cases beyond the critical value when t is centred at e / s. A family of k
tests has the level 0.05 / k each (Bonferroni), a little less than what Holm's correction leaves to them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import optimize, stats

from train.study.moments import ENOUGH, LEVEL, Estimate, Moments

POWER = 0.8
_POINTS, _WEIGHTS = (part / 2 for part in np.polynomial.legendre.leggauss(128))
_POINTS = _POINTS + 0.5  # of the distribution of the standard error, in (0, 1)
_MOST = 1_000_000  # draws or items: more than that is no design


@dataclass(frozen=True)
class Components:
    """Variances of a paired difference of two cells: of its draw means (seeds included), of its items, and of what is left of
    an item in one draw."""

    draws: float
    items: float
    residual: float


def components(moments: Moments, contrast: np.ndarray) -> Components:
    """As found in results. contrast: float64 (C,)."""
    n_draws, n_items = moments.n_draws, moments.n_items
    draws, items, left = (
        float(contrast @ matrix @ contrast) * n
        for matrix, n in ((moments.draws, n_draws), (moments.items, n_items), (moments.residual, n_draws * n_items))
    )
    return Components(max(draws - left / n_items, 0.0), max(items - left / n_draws, 0.0), left)


def power(effect: float, standard_error: float, free: float, family: int = 1) -> float:
    """The share of studies that show an effect, either way: the two tails of the noncentral t distribution, as the mean over
    the estimated standard error of those of the normal one."""
    critical = stats.t.ppf(1 - (1 - LEVEL) / family / 2, free)
    centre = abs(effect) / standard_error
    scale = np.sqrt(stats.chi2.ppf(_POINTS, free) / free) if np.isfinite(free) else np.ones_like(_POINTS)
    shown = stats.norm.cdf(centre - critical * scale) + stats.norm.cdf(-centre - critical * scale)
    return float(_WEIGHTS @ shown)


def visible(difference: Estimate, family: int = 1) -> float:
    """The smallest effect that a design with this standard error shows with 80 % power."""
    return smallest(float(difference.standard_error), float(difference.degrees_of_freedom), family)


def smallest(standard_error: float, free: float, family: int = 1) -> float:
    """As `visible`, of a standard error and degrees of freedom."""
    if not (np.isfinite(standard_error) and free >= 1):  # one item, or draws that say nothing
        return np.inf
    top = 2.0
    while power(top, 1.0, free, family) < POWER:
        top *= 2
    found: Any = optimize.brentq(lambda effect: power(effect, 1.0, free, family) - POWER, 0.0, top, xtol=1e-6)
    return float(found) * standard_error


def error_of(found: Components, draws: int, items: int) -> tuple[float, float]:
    """(standard error, degrees of freedom) that a design of so many draws and items can expect."""
    of_draws = found.draws / draws + found.residual / (draws * items)
    of_items = found.items / items
    if draws < ENOUGH:
        return float(np.sqrt(of_items + found.residual / (draws * items))), items - 1
    if of_draws == 0:
        return float(np.sqrt(of_items)), items - 1
    free = (draws - 1) * ((of_draws + of_items) / of_draws) ** 2
    return float(np.sqrt(of_draws + of_items)), min(free, max(items, draws) - 1)


def needed(
    effect: float, found: Components, family: int = 1, *, draws: int, items: int
) -> tuple[int | None, int | None]:
    """(draws with these items, items with these draws) that show an effect with 80 % power; None where no number does."""

    def sees(draws: int, items: int) -> bool:
        error, free = error_of(found, draws, items)
        return error == 0 or power(effect, error, free, family) >= POWER

    return _least(lambda n: sees(n, items), ENOUGH), _least(lambda n: sees(draws, n), 2)


def _least(holds: Callable[[int], bool], start: int) -> int | None:
    """The least number from ``start`` for which it holds, which from there on it does."""
    high = start
    while not holds(high):
        high *= 2
        if high > _MOST:
            return None
    low = start
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
    return low
