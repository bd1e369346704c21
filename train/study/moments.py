"""Means of cells and the interval of any contrast of them, over draws, seeds and items.

Items and draws are crossed random factors: the model of every draw is scored on the same items. A percentile bootstrap over
five draws is too narrow, and a t interval over the draws forgets that other items would have given another answer. Reader
studies in radiology have this very design (readers for draws, cases for items), and the estimator is theirs: the two-way
variance of Obuchowski and Rockette (1995, Communications in Statistics, Simulation and Computation 24:285) with the degrees
of freedom of Hillis (2007, Statistics in Medicine 26:596), which are Satterthwaite's with the items' share taken as known.
With r the difference of item i in draw k, linearised for the ratio of sums,

    variance = s2_draws / D + max(0, s2_items / n - s2_residual / (n D))

It tends to the t interval over draws where the draws vary most, and to the interval over items where they do not. The degrees of
freedom rest on the ratio of the two parts, which is corrected for its bias. Seeds are
nested in draws (a run's seed is hashed from its draw too), so that their noise is part of s2_draws. Fewer than five draws
speak of items only; where there is one draw and five seeds or more, the seeds take the place of draws.

**Which population.** As it stands the interval covers other draws of this pool. Two draws of 80 % of one pool share rows, and
so their scores agree more than those of two pools would. If a subset's score is a mean over its rows, two subsets that share
a part s of their rows have a covariance of s times the variance over pools, so that

    variance over pools like it = s2 / D + s / (1 - s) (s2 - s2_seeds)

which for draws that leave out a fifth of the pool is the delete-d jackknife (Shao and Wu 1989, Annals of Statistics 17:1176:
s/(1-s) = 4), and s2 / D where draws have no row in common. The noise of training (s2_seeds, known where there are two seeds
or more, else taken as none, which makes the interval too wide rather than too narrow) is no property of a pool.

Items of other tasks: with tasks as clusters, an item is replaced by its task's sum (Miller 2024, arXiv 2411.00640, section 2.2).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

ENOUGH = 5  # draws, or seeds of one draw; below, the interval covers items only
LEVEL = 0.95
_ALIKE = 0.95  # draws that share more of their rows say nothing of other pools


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval, in the unit of the score; p is two-sided, of zero. Fields are floats, or equal-shaped
    arrays where many were asked for at once."""

    value: np.ndarray
    low: np.ndarray
    high: np.ndarray
    standard_error: np.ndarray
    degrees_of_freedom: np.ndarray
    p: np.ndarray
    variance_draws: np.ndarray  # what the draws add to standard_error squared
    variance_items: np.ndarray  # what the items add

    def shifted(self, by: float) -> Estimate:
        """The estimate of the value with a number added."""
        return replace(self, value=self.value + by, low=self.low + by, high=self.high + by)

    @property
    def t(self) -> np.ndarray:
        return self.value / self.standard_error

    @property
    def p_below(self) -> float:
        """One-sided p of "zero or more": small where the value is shown to be below zero."""
        return float(stats.t.cdf(self.t, self.degrees_of_freedom))

    @property
    def p_above(self) -> float:
        """One-sided p of "zero or less"."""
        return float(stats.t.sf(self.t, self.degrees_of_freedom))


class Moments:
    """Means and the two-way covariance matrices of C cells, from which any contrast of cells has its interval.

    bits: float64 (C, D, S, n), of cells, draws, seeds and items. size: float64 (n,), bytes (or ones, where the score is a
    mean over items). A cell's score is the sum of the bits over the sum of the bytes; with ``groups`` (int (n,), 0 … G-1) the
    mean of that over the groups. clusters: int (n,), 0 … T-1, where the items are a sample of clusters, such as tasks, and not
    of single rows. overlap: float64 (C,), the share of rows that two draws of a cell have in common, where the interval is to
    cover pools like this one and not other draws of it.

    With w the weight of an item's bits in the score and r = n w (bits - rate * size), the residuals that make a ratio of sums
    linear (Cochran, Sampling Techniques, 6.4; the rate is that of the item's group, or the score itself where items come in
    clusters), the matrices are the mean squares and products of r's draw means, of its item means and of what is left, each
    divided by what makes it the variance of the grand mean. Cost: three passes over bits.
    """

    def __init__(
        self,
        bits: np.ndarray,
        size: np.ndarray,
        *,
        groups: np.ndarray | None = None,
        clusters: np.ndarray | None = None,
        overlap: np.ndarray | None = None,
    ):
        n_cells, n_draws, n_seeds, n = bits.shape
        groups = np.zeros(n, dtype=np.int64) if groups is None else groups
        sums = np.bincount(groups, weights=size)
        weight = 1 / (len(sums) * sums[groups])
        self.scores = bits @ weight  # (C, D, S)
        self.covers = "draws" if n_draws >= ENOUGH else "seeds" if n_draws == 1 and n_seeds >= ENOUGH else "none"
        if self.covers == "seeds":
            bits = bits.transpose(0, 2, 1, 3)
        by_draw = bits.mean(axis=2)
        self.mean = self.scores.mean(axis=(1, 2))
        if clusters is None:
            cell_bits = by_draw.mean(axis=1)
            of_group = np.stack([np.bincount(groups, weights=row) for row in cell_bits]) / sums
            rate = of_group[:, groups]
        else:
            rate = np.broadcast_to(self.mean[:, None], (n_cells, n))
        r = (by_draw - (rate * size)[:, None, :]) * (n * weight)
        if clusters is not None:
            r = _by_cluster(r, clusters)
        self.n_draws, self.n_items = r.shape[1:]
        draws, items = r.mean(axis=2), r.mean(axis=1)
        left = (r - draws[:, :, None] - items[:, None, :]).reshape(n_cells, -1)
        centred = draws - draws.mean(axis=1, keepdims=True)
        free_draws, free_items = max(self.n_draws - 1, 1), max(self.n_items - 1, 1)
        self.draws = centred @ centred.T / free_draws / self.n_draws
        self.items = items @ items.T / free_items / self.n_items
        self.residual = left @ left.T / (free_draws * free_items) / (self.n_draws * self.n_items)
        self.pools = self._over_pools(overlap) if overlap is not None and self.covers == "draws" else None

    def _over_pools(self, overlap: np.ndarray) -> np.ndarray:
        """What pools add to ``draws``: float64 (C, C)."""
        within = self.scores - self.scores.mean(axis=2, keepdims=True)
        n_seeds = self.scores.shape[2]
        seeds = np.einsum("cds,eds->ce", within, within) / (max(n_seeds - 1, 1) * self.n_draws * n_seeds)
        root = np.sqrt(np.where(overlap < _ALIKE, overlap / np.maximum(1 - overlap, 1e-9), np.inf))
        with np.errstate(
            invalid="ignore"
        ):  # infinity times zero: draws that agree in all, of which nothing can be said
            return root[:, None] * (self.draws * self.n_draws - seeds) * root

    def estimate(self, contrast: np.ndarray) -> Estimate:
        """The interval of a contrast of cells, float64 (C,), or of many, (…, C), over draws and items."""
        items = _quadratic(self.items, contrast)
        if self.covers == "none":
            return self._interval(contrast, np.zeros_like(items), items, np.full_like(items, self.n_items - 1))
        draws = _quadratic(self.draws, contrast)
        items = np.maximum(items - _quadratic(self.residual, contrast), 0.0)
        if self.pools is not None:
            draws = draws + self._pools(contrast)
        known = (draws > 0) & np.isfinite(draws)
        ratio = 1 + _unbiased(self.n_draws) * items / np.where(known, draws, 1.0)
        free = np.where(known, (self.n_draws - 1) * ratio**2, np.where(draws > 0, self.n_draws - 1, np.inf))
        return self._interval(contrast, draws, items, np.minimum(free, max(self.n_items, self.n_draws) - 1))

    def _pools(self, contrast: np.ndarray) -> np.ndarray:
        """What pools add to the variance of contrasts; infinite where a cell's draws are too much alike to tell."""
        assert self.pools is not None
        unknown = ~np.isfinite(self.pools).all(axis=1)
        known = np.where(np.isfinite(self.pools), self.pools, 0.0)
        return np.where((contrast[..., unknown] != 0).any(axis=-1), np.inf, _quadratic(known, contrast))

    def level(self, cell: int) -> Estimate:
        """One cell by itself, its items taken as they are: the t interval over draws, unbounded with too few draws."""
        contrast = np.eye(len(self.mean))[cell]
        draws = _quadratic(self.draws, contrast) if self.covers != "none" else np.asarray(np.nan)
        return self._interval(contrast, draws, np.zeros_like(draws), np.full_like(draws, self.n_draws - 1))

    def _interval(self, contrast: np.ndarray, draws: np.ndarray, items: np.ndarray, free: np.ndarray) -> Estimate:
        value = contrast @ self.mean
        error = np.maximum(np.sqrt(draws + items), 1e-12)  # two equal arms differ by rounding alone
        if self.n_items < 2 and self.covers == "none":
            error = np.full_like(error, np.nan)
        half = stats.t.ppf(0.5 + LEVEL / 2, free) * error
        p = 2 * stats.t.sf(np.abs(value) / error, free)
        return Estimate(value, value - half, value + half, error, free, p, draws, items)


def _unbiased(n_draws: int) -> float:
    """What a variance over the mean square of so many draws must be multiplied with for its expectation to be that of the
    variances: the mean of 1/chi-square of f degrees of freedom is 1/(f - 2). Without it the degrees of freedom come out too
    many, and false verdicts with few draws and many items are more frequent than said."""
    return max(n_draws - 3, 1) / (n_draws - 1)


def _by_cluster(r: np.ndarray, clusters: np.ndarray) -> np.ndarray:
    """Residuals of items as those of their clusters, whose mean is the same: (C, D, n) to (C, D, T)."""
    n_clusters, n = int(clusters.max()) + 1, r.shape[-1]
    belongs = np.zeros((n, n_clusters))
    belongs[np.arange(n), clusters] = n_clusters / n
    return r @ belongs


def _quadratic(matrix: np.ndarray, contrast: np.ndarray) -> np.ndarray:
    return np.maximum(((contrast @ matrix) * contrast).sum(axis=-1), 0.0)


def holm(p: Sequence[float]) -> list[float]:
    """p values corrected for their number (Holm 1979, Scandinavian Journal of Statistics 6:65), in the order given."""
    order = np.argsort(p, kind="stable")
    steps = np.asarray(p, dtype=float)[order] * np.arange(len(p), 0, -1)
    corrected = np.empty(len(p))
    corrected[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return corrected.tolist()


def judged(family: Sequence[Estimate], alike: Sequence[float], better: int) -> list[tuple[float, float, str]]:
    """(p of no difference, p of one of delta or more, verdict) of each difference, both p corrected over the family. alike: the
    uncorrected p of delta or more, NaN where there is no delta. better: -1 where a lower score is better, 1 where a higher."""
    differ = holm([float(d.p) for d in family])
    within = holm([1.0 if np.isnan(p) else p for p in alike])
    out = []
    for d, p, raw, q in zip(family, differ, alike, within, strict=True):
        if p <= 1 - LEVEL:
            verdict = "better" if better * d.value > 0 else "worse"
        else:
            verdict = "equivalent" if not np.isnan(raw) and q <= 1 - LEVEL else "not shown"
        out.append((p, np.nan if np.isnan(raw) else q, verdict))
    return out
