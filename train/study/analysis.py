"""What a table of results says about the arms of a study, and how surely.

    analysis = analyse(pq.read_table("results.parquet"))
    analysis.headline      # one sentence, chosen by the intervals
    analysis.comparisons   # every arm against the reference, at every budget
    analysis.worths        # how many reference examples one of an arm's examples is worth

It reads a tidy table (one row an arm, budget, draw, seed and item, with the item's `bits` and `bytes`) and knows nothing
of what trained the models. The metric is bits per byte: the sum of the bits over the sum of the bytes. Lower is better.

**The interval.** Items and draws are crossed random factors: the model of every draw is scored on the same items. A
percentile bootstrap over five draws is too narrow, and a t interval over the draws forgets that other items would have
given another answer. Reader studies in radiology have this very design (readers for draws, cases for items), and the
estimator is theirs: the two-way variance of Obuchowski and Rockette (1995, Communications in Statistics, Simulation and
Computation 24:285) with the degrees of freedom of Hillis (2007, Statistics in Medicine 26:596), which are Satterthwaite's
with the items' share taken as known. With r the difference of item i in draw k, linearised for the ratio of sums,

    variance = s2_draws / D + max(0, s2_items / n - s2_residual / (n D))

It tends to the t interval over draws where the draws vary most, and to the interval over items where they do not. Seeds
are nested in draws (a run's seed is hashed from its draw too), so that their noise is part of s2_draws. With fewer than
five draws nothing is claimed about other draws: the interval covers items only, and says so.

**The worth m(N).** m is the number of reference examples that one example of the arm is worth at budget N: the mean curve
of the reference, straight in log N between its budgets, reaches the arm's score at m N examples. The interval of m holds
each m for which the difference "arm at N less reference at m N" has an interval that holds zero, which is Fieller's
inversion (1954, JRSS B 16:175). Nothing is extrapolated: beyond the budgets of the reference there are bounds only. A curve
that bends between two budgets makes m a little too large: a curve like N^-0.3 by 7 % at most where budgets are a factor of
four apart, by 2 % where they are a factor of two apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from scipy import optimize, stats

from curate.contract.errors import ContractError, RequestError

ENOUGH_DRAWS = 5  # below, the interval covers items only
LEVEL = 0.95
DELTA = 0.02  # bits per byte: a smaller difference is called none, if that is shown
GRID = 1024  # points, evenly spaced in log N, at which m's interval is looked for
COLUMNS = ("arm", "budget", "draw", "seed", "item", "task", "bits", "bytes")

Cell = tuple[str, int]  # an arm at a budget


@dataclass(frozen=True)
class Results:
    """A complete crossed table: C cells (an arm at a budget) × D draws × S seeds × n items.

    bits: float64 (C, D, S, n). size: the items' bytes, float64 (n,). task: str (n,).
    """

    cells: list[Cell]
    draws: list[int]
    seeds: list[int]
    items: list[str]
    bits: np.ndarray
    size: np.ndarray
    task: np.ndarray

    @property
    def arms(self) -> list[str]:
        return list(dict.fromkeys(arm for arm, _ in self.cells))

    def budgets(self, arm: str) -> list[int]:
        return [budget for name, budget in self.cells if name == arm]

    def scores(self) -> np.ndarray:
        """Bits per byte of every run: float64 (C, D, S)."""
        return self.bits.sum(axis=-1) / self.size.sum()


@dataclass(frozen=True)
class Estimate:
    """A value in bits per byte with its 95 % interval; p is two-sided, of zero. Fields are floats, or equal-shaped arrays
    where many were asked for at once."""

    value: np.ndarray
    low: np.ndarray
    high: np.ndarray
    standard_error: np.ndarray
    degrees_of_freedom: np.ndarray
    p: np.ndarray
    variance_draws: np.ndarray  # what the draws add to standard_error squared
    variance_items: np.ndarray  # what the items add


@dataclass(frozen=True)
class Comparison:
    """An arm less the reference at one budget: a negative difference is better."""

    arm: str
    budget: int
    difference: Estimate
    p_holm: float  # of no difference, corrected over the family of all comparisons
    p_equivalent: float  # of a difference of delta or more: two one-sided tests, corrected over the same family
    verdict: str  # better, worse, equivalent, not shown


@dataclass(frozen=True)
class Worth:
    """m(N). Between `least` and `most` it was measured; 0 means somewhere below `least`, infinity above `most`."""

    arm: str
    budget: int
    value: float
    low: float
    high: float
    least: float
    most: float

    def __str__(self) -> str:
        """1.45 [1.20, 1.81], or with bounds: 3.10 [1.90, >4]; <0.25."""
        if self.high <= self.least:
            return f"<{self.least:.3g}"
        if self.low >= self.most:
            return f">{self.most:.3g}"
        return f"{self._show(self.value)} [{self._show(self.low)}, {self._show(self.high)}]"

    def _show(self, m: float) -> str:
        return f"<{self.least:.3g}" if m == 0 else f">{self.most:.3g}" if m == np.inf else f"{m:.2f}"


@dataclass(frozen=True)
class Spread:
    """Of an arm from draw to draw; of its paired difference from draw to draw; of that from seed to seed within a draw."""

    arm: float | None
    paired: float | None
    seeds: float | None


@dataclass(frozen=True)
class Analysis:
    results: Results
    reference: str
    delta: float
    covers: str  # what the intervals of differences cover: "draws and items" or "items"
    levels: dict[Cell, Estimate]  # each arm by itself, for these items: the interval covers draws
    comparisons: list[Comparison]
    worths: list[Worth]
    tasks: dict[str, dict[Cell, Estimate]]  # differences within a task, not corrected for their number
    headline: str
    sentences: list[str]  # one an arm, the best first

    def spread(self, arm: str, budget: int) -> Spread:
        """Standard deviations of the scores behind one comparison, in bits per byte."""
        cells, scores = self.results.cells, self.results.scores()
        own = scores[cells.index((arm, budget))]
        paired = own - scores[cells.index((self.reference, budget))]
        many_draws, many_seeds = len(self.results.draws) > 1, len(self.results.seeds) > 1
        return Spread(
            arm=float(own.mean(axis=1).std(ddof=1)) if many_draws else None,
            paired=float(paired.mean(axis=1).std(ddof=1)) if many_draws else None,
            seeds=float(np.sqrt(paired.var(axis=1, ddof=1).mean())) if many_seeds else None,
        )


def analyse(table: pa.Table, *, reference: str = "random", delta: float = DELTA) -> Analysis:
    """The whole analysis. About a second and 200 MB a million rows."""
    results = read_results(table, reference=reference)
    moments = Moments(results.bits.mean(axis=2), results.size)
    others = [cell for cell in results.cells if cell[0] != reference and (reference, cell[1]) in results.cells]
    comparisons = compare(results, moments, others, reference, delta)
    worths = [told for cell in others if (told := worth(results, moments, cell, reference))]
    tasks = {}
    for task in sorted(set(results.task.tolist())):
        inside = results.task == task
        part = Moments(results.bits[..., inside].mean(axis=2), results.size[inside])
        tasks[task] = {cell: part.estimate(_contrast(results, cell, reference)) for cell in others}
    covers = "draws and items" if len(results.draws) >= ENOUGH_DRAWS else "items"
    levels = {cell: moments.level(index) for index, cell in enumerate(results.cells)}
    headline, sentences = say(results, comparisons, worths, reference, delta)
    return Analysis(results, reference, delta, covers, levels, comparisons, worths, tasks, headline, sentences)


def summary(path: Path) -> dict[str, Any]:
    """The analysis of a results table on disk, as `facts`."""
    return facts(analyse(pq.read_table(path)))


def facts(analysis: Analysis) -> dict[str, Any]:
    """What JSON can say of an analysis: headline, sentences, and one row an arm and budget."""
    compared = {(c.arm, c.budget): c for c in analysis.comparisons}
    worths = {(w.arm, w.budget): w for w in analysis.worths}
    rows = []
    for cell, level in analysis.levels.items():
        row: dict[str, Any] = {"arm": cell[0], "budget": cell[1], **_numbers_of("bits_per_byte", level)}
        if c := compared.get(cell):
            row |= _numbers_of("difference", c.difference)
            row |= {"p_holm": _number(c.p_holm), "p_equivalent": _number(c.p_equivalent), "verdict": c.verdict}
        if w := worths.get(cell):
            row["worth"] = str(w)
        rows.append(row)
    said = {"headline": analysis.headline, "sentences": analysis.sentences, "covers": analysis.covers}
    size = {
        "items": len(analysis.results.items),
        "draws": len(analysis.results.draws),
        "seeds": len(analysis.results.seeds),
    }
    return {**said, "reference": analysis.reference, "delta": analysis.delta, **size, "table": rows}


def _numbers_of(name: str, estimate: Estimate) -> dict[str, float | None]:
    return {name: _number(estimate.value), f"{name}_low": _number(estimate.low), f"{name}_high": _number(estimate.high)}


def _number(value: float | np.ndarray) -> float | None:
    return round(float(value), 4) if np.isfinite(value) else None


def read_results(table: pa.Table, *, reference: str = "random") -> Results:
    """The tidy table as arrays, in an order that does not depend on the order of its rows: the reference first.

    Raises ContractError where a column, a run or an item is missing, doubled or not finite.
    """
    missing = [name for name in COLUMNS if name not in table.column_names]
    if missing:
        raise ContractError(f"the results lack the column(s) {', '.join(missing)}; they need {', '.join(COLUMNS)}")
    if table.num_rows == 0:
        raise ContractError("the results hold no row; run the study first")
    arms, arm = _codes(table["arm"], first=reference)
    if arms[0] != reference:
        raise RequestError(f"the reference arm `{reference}` is not in the results; they hold {', '.join(arms)}")
    budgets, budget = _codes(table["budget"])
    pairs, cell = np.unique(arm * len(budgets) + budget, return_inverse=True)
    cells = [(arms[pair // len(budgets)], budgets[pair % len(budgets)]) for pair in pairs.tolist()]
    draws, draw = _codes(table["draw"])
    seeds, seed = _codes(table["seed"])
    items, item = _codes(table["item"])
    shape = (len(cells), len(draws), len(seeds), len(items))
    place = np.ravel_multi_index((cell, draw, seed, item), shape)
    times = np.bincount(place, minlength=np.prod(shape))
    if (times != 1).any():
        first = int(np.argmax(times != 1))
        c, d, s, i = np.unravel_index(first, shape)
        raise ContractError(
            f"the results hold {times[first]} rows, not 1, for arm {cells[c][0]}, budget {cells[c][1]}, draw {draws[d]}, "
            f"seed {seeds[s]}, item {items[i]}; every arm needs the same draws, seeds and items"
        )
    bits = np.empty(shape)
    bits.reshape(-1)[place] = table["bits"].to_numpy()
    size = np.empty(shape)
    size.reshape(-1)[place] = table["bytes"].to_numpy()
    if not np.isfinite(bits).all():
        c, d, s, i = np.argwhere(~np.isfinite(bits))[0]
        raise ContractError(f"the bits of item {items[i]} under arm {cells[c][0]}, draw {draws[d]} are not finite")
    if (size != size[0, 0, 0]).any() or (size <= 0).any():
        c, d, s, i = np.argwhere((size != size[0, 0, 0]) | (size <= 0))[0]
        raise ContractError(
            f"item {items[i]} has {size[c, d, s, i]:g} bytes under arm {cells[c][0]}; an item has one size > 0"
        )
    task = np.empty(len(items), dtype=object)
    task[item] = pc.fill_null(table["task"].cast(pa.string()), "none").to_numpy(zero_copy_only=False)
    return Results(cells, draws, seeds, items, bits, size[0, 0, 0].copy(), task)


def _codes(column: pa.ChunkedArray, first: str | None = None) -> tuple[list, np.ndarray]:
    """The sorted values of a column (`first` before the others) and each row's index into them."""
    encoded = pc.dictionary_encode(column.combine_chunks())  # pyright: ignore
    values = encoded.dictionary.to_pylist()
    order = sorted(range(len(values)), key=lambda i: (values[i] != first, values[i]))
    rank = np.empty(len(values), dtype=np.int64)
    rank[order] = np.arange(len(values))
    return [values[i] for i in order], rank[encoded.indices.to_numpy()]


class Moments:
    """Means and the three two-way covariance matrices of C cells, from which any contrast of cells has its interval.

    bits: float64 (C, D, n). size: float64 (n,). With r = (bits - mean * size) / mean size, the residuals that make a ratio
    of sums linear (Cochran, Sampling Techniques, 6.4), the matrices are the mean squares and products of r's draw means,
    of its item means and of what is left, each divided by what makes it the variance of the grand mean.
    """

    def __init__(self, bits: np.ndarray, size: np.ndarray):
        n_cells, self.n_draws, self.n_items = bits.shape
        by_draw = bits.sum(axis=2) / size.sum()
        self.mean = by_draw.mean(axis=1)
        r = (bits - self.mean[:, None, None] * size) / size.mean()
        draws, items = r.mean(axis=2), r.mean(axis=1)
        left = (r - draws[:, :, None] - items[:, None, :]).reshape(n_cells, -1)
        free_draws, free_items = max(self.n_draws - 1, 1), max(self.n_items - 1, 1)
        self.draws = draws @ draws.T / free_draws / self.n_draws
        self.items = items @ items.T / free_items / self.n_items
        self.residual = left @ left.T / (free_draws * free_items) / (self.n_draws * self.n_items)

    def estimate(self, contrast: np.ndarray) -> Estimate:
        """The interval of a contrast of cells, float64 (C,), or of many, (…, C), over draws and items."""
        items = _quadratic(self.items, contrast)
        if self.n_draws < ENOUGH_DRAWS:
            return self._interval(contrast, np.zeros_like(items), items, np.full_like(items, self.n_items - 1))
        draws = _quadratic(self.draws, contrast)
        items = np.maximum(items - _quadratic(self.residual, contrast), 0.0)
        spread = np.where(draws > 0, draws, 1.0)
        free = np.where(draws > 0, (self.n_draws - 1) * ((draws + items) / spread) ** 2, np.inf)
        return self._interval(contrast, draws, items, np.minimum(free, max(self.n_items, self.n_draws) - 1))

    def level(self, cell: int) -> Estimate:
        """One cell by itself, its items taken as they are: the t interval over draws, unbounded with too few draws."""
        contrast = np.eye(len(self.mean))[cell]
        draws = _quadratic(self.draws, contrast) if self.n_draws >= ENOUGH_DRAWS else np.asarray(np.nan)
        return self._interval(contrast, draws, np.zeros_like(draws), np.full_like(draws, self.n_draws - 1))

    def _interval(self, contrast: np.ndarray, draws: np.ndarray, items: np.ndarray, free: np.ndarray) -> Estimate:
        value = contrast @ self.mean
        error = np.maximum(np.sqrt(draws + items), 1e-12)  # two equal arms differ by rounding alone
        if self.n_items < 2:
            error = np.full_like(error, np.nan)
        half = stats.t.ppf(0.5 + LEVEL / 2, free) * error
        p = 2 * stats.t.sf(np.abs(value) / error, free)
        return Estimate(value, value - half, value + half, error, free, p, draws, items)


def _quadratic(matrix: np.ndarray, contrast: np.ndarray) -> np.ndarray:
    return np.maximum(((contrast @ matrix) * contrast).sum(axis=-1), 0.0)


def _contrast(results: Results, cell: Cell, reference: str) -> np.ndarray:
    contrast = np.zeros(len(results.cells))
    contrast[results.cells.index(cell)] += 1
    contrast[results.cells.index((reference, cell[1]))] -= 1
    return contrast


def compare(results: Results, moments: Moments, cells: list[Cell], reference: str, delta: float) -> list[Comparison]:
    """Each cell less the reference at the same budget. One family: Holm's correction is over all of `cells`."""
    differences = [moments.estimate(_contrast(results, cell, reference)) for cell in cells]
    p_differ = holm([float(d.p) for d in differences])
    p_equivalent = holm([equivalence(d, delta) for d in differences])
    comparisons = []
    for cell, difference, p, q in zip(cells, differences, p_differ, p_equivalent, strict=True):
        if p <= 1 - LEVEL:
            verdict = "better" if difference.value < 0 else "worse"
        else:
            verdict = "equivalent" if q <= 1 - LEVEL else "not shown"
        comparisons.append(Comparison(*cell, difference, p, q, verdict))
    return comparisons


def equivalence(difference: Estimate, delta: float) -> float:
    """p of "the difference is delta or more, either way": the larger of two one-sided tests (Schuirmann 1987)."""
    room = delta - np.abs(difference.value)
    return float(stats.t.sf(room / difference.standard_error, difference.degrees_of_freedom))


def holm(p: Sequence[float]) -> list[float]:
    """p values corrected for their number (Holm 1979, Scandinavian Journal of Statistics 6:65), in the order given."""
    order = np.argsort(p, kind="stable")
    steps = np.asarray(p)[order] * np.arange(len(p), 0, -1)
    corrected = np.empty(len(p))
    corrected[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return corrected.tolist()


def worth(results: Results, moments: Moments, cell: Cell, reference: str) -> Worth | None:
    """m at one cell, or None where the reference has a single budget and so no curve."""
    arm, budget = cell
    ladder = results.budgets(reference)
    if len(ladder) < 2:
        return None
    steps = [results.cells.index((reference, b)) for b in ladder]
    own = results.cells.index(cell)
    log_budgets = np.log(ladder)
    grid = np.linspace(log_budgets[0], log_budgets[-1], GRID)
    contrasts = np.zeros((GRID, len(results.cells)))
    for step in range(len(ladder)):  # the hat functions of straight interpolation
        contrasts[:, steps[step]] = -np.interp(grid, log_budgets, np.eye(len(ladder))[step])
    contrasts[:, own] += 1
    difference = moments.estimate(contrasts)
    possible = (difference.low <= 0) & (0 <= difference.high)
    value = _invert(log_budgets, moments.mean[steps], moments.mean[own])
    if np.isfinite(value):
        possible[np.abs(grid - value).argmin()] = True
    least, most = ladder[0] / budget, ladder[-1] / budget
    if not possible.any():
        low, high = (0.0, least) if value < 0 else (most, np.inf)
    else:
        inside = np.flatnonzero(possible)
        low = 0.0 if inside[0] == 0 else float(np.exp(grid[inside[0]])) / budget
        high = np.inf if inside[-1] == GRID - 1 else float(np.exp(grid[inside[-1]])) / budget
    return Worth(arm, budget, float(np.exp(value)) / budget, low, high, least, most)


def _invert(log_budgets: np.ndarray, means: np.ndarray, target: float) -> float:
    """log N at which the reference's curve reaches the target; -inf or inf where it does so beyond its budgets.

    The curve is first made to fall (isotonic regression), as more of the same data cannot be told to hurt on average.
    """
    falling = optimize.isotonic_regression(means, increasing=False).x
    if target > falling[0]:
        return -np.inf
    if target < falling[-1]:
        return np.inf
    return float(np.interp(-target, -falling, log_budgets))


def say(
    results: Results, comparisons: list[Comparison], worths: list[Worth], reference: str, delta: float
) -> tuple[str, list[str]]:
    """The headline, and one sentence an arm, the best first; the words follow from the verdicts alone."""
    if not comparisons:
        return f"Only {reference} was measured: there is nothing to compare it with.", []
    worth_of = {(w.arm, w.budget): w for w in worths}
    arms = sorted({c.arm for c in comparisons}, key=lambda arm: _standing(comparisons, arm))
    of_arm = {arm: [c for c in comparisons if c.arm == arm] for arm in arms}
    sentences = [f"{arm}: {'; '.join(_said(c, worth_of, reference, delta) for c in of_arm[arm])}." for arm in arms]
    here = "" if len(results.draws) >= ENOUGH_DRAWS else " on these draws"
    verdicts = {c.verdict for c in comparisons}
    budgets = f"{_listed([f'{b:,}' for b in sorted({c.budget for c in comparisons})], 'or')} examples"
    if "better" in verdicts:
        headline = _best(of_arm[arms[0]], worth_of, reference) + here
    elif verdicts == {"equivalent"}:
        headline = f"Every arm was equivalent to {reference} within {delta:g} bits per byte at {budgets}{here}"
    else:
        headline = f"No arm was shown to be better than {reference} at {budgets}{here}"
    worse = [arm for arm in sorted(arms) if "worse" in {c.verdict for c in of_arm[arm]}]
    if worse and "better" not in verdicts:
        headline += f"; {_listed(worse, 'and')} {'was' if len(worse) == 1 else 'were'} worse"
    return headline + ".", sentences


def _standing(comparisons: list[Comparison], arm: str) -> tuple[int, float, str]:
    """Arms with more better verdicts first, then by their mean difference, then by name."""
    own = [c for c in comparisons if c.arm == arm]
    score = {"better": -1, "worse": 1}
    return sum(score.get(c.verdict, 0) for c in own), float(np.mean([c.difference.value for c in own])), arm


def _best(own: list[Comparison], worth_of: dict[Cell, Worth], reference: str) -> str:
    """What the headline says of the arm that did best: its worth where there is a curve to read it from."""
    better = [c for c in own if c.verdict == "better"]
    if all((c.arm, c.budget) in worth_of for c in better):
        worths = [f"{worth_of[c.arm, c.budget]} {reference} ones at {c.budget:,} examples" for c in better]
        start = f"One example chosen by {own[0].arm} was worth {_listed(worths, 'and')}"
    else:
        gains = [f"by {_span(c.difference)} bits per byte at {c.budget:,} examples" for c in better]
        start = f"Examples chosen by {own[0].arm} were better than {reference} ones {_listed(gains, 'and')}"
    others = {"equivalent": "it was equivalent", "worse": "it was worse", "not shown": "no difference was shown"}
    rest = [f"at {c.budget:,} {others[c.verdict]}" for c in own if c.verdict != "better"]
    return "; ".join([start, *rest])


def _said(c: Comparison, worth_of: dict[Cell, Worth], reference: str, delta: float) -> str:
    """What is said of one arm at one budget."""
    at, d = f"at {c.budget:,} examples ", c.difference
    if c.verdict == "equivalent":
        return at + f"equivalent to {reference} within {delta:g} bits per byte"
    if c.verdict == "not shown":
        return at + f"no difference from {reference} was shown ({d.value:+.3f} [{d.low:+.3f}, {d.high:+.3f}])"
    small = f", though by less than {delta:g}" if c.p_equivalent <= 1 - LEVEL else ""
    worth = worth_of.get((c.arm, c.budget))
    m = f", an example worth {worth} {reference} ones" if worth else ""
    return at + f"{c.verdict} than {reference} by {_span(d)} bits per byte{small}{m}"


def _span(d: Estimate) -> str:
    """The size of a difference and its interval, whatever its sign: 0.119 [0.092, 0.146]."""
    low, high = (d.low, d.high) if d.value >= 0 else (-d.high, -d.low)
    return f"{abs(d.value):.3f} [{low:.3f}, {high:.3f}]"


def _listed(words: list[str], last: str) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} {last} {words[-1]}"
