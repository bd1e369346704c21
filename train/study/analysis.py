"""What a table of results says about the arms of a study, and how surely.

    analysis = analyse(pq.read_table("results.parquet"))
    analysis.headline                # one sentence, chosen by the intervals
    for view in analysis.views:      # one an evaluation set
        view.comparisons             # every arm against the reference, at every budget
        view.worths                  # how many reference examples one of an arm's examples is worth
        view.gains                   # every arm against the untuned model

It reads a tidy table (one row an arm, budget, draw, seed and item, with the item's `bits` and `bytes`; train/study/results.py)
and knows nothing of what trained the models. The metric is bits per byte, the sum of the bits over the sum of the bytes, or its
mean over groups of items; lower is better. Intervals: train/study/moments.py; m(N): train/study/worth.py.

**Verdicts.** Better and worse are said where Holm's correction over the family leaves p at 0.05 or below. Equivalent is said
where two one-sided tests, corrected alike, put the difference within delta (Schuirmann 1987). By default delta is a tenth of
what the reference gains from its smallest budget to its largest; that gain is estimated, so that each test is one of the
contrast "difference less a tenth of the gain", which carries both errors, and where the gain itself is not shown nothing is
called equivalent. In all other cases no difference was shown, which is not the same as none.

The families are fixed before the runs: the questions that the study asks (`compare`), or else every arm against the reference
at every budget, in every evaluation set; every arm against the untuned model; every level of a factor against its first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from curate.contract.errors import RequestError
from train.study.asked import UNTUNED, share_of, sides
from train.study.moments import Estimate, Moments, judged
from train.study.results import Cell, Results, read_results
from train.study.worth import Curve, Worth, curve, gain_contrast, worth

DELTA = "10%"  # of what the reference gains over its budgets
Population = Literal["this pool", "pools like it"]
Tasks = Literal["these tasks", "new tasks"]


@dataclass(frozen=True)
class Comparison:
    """One arm less another at one budget, or in the mean over the budgets that both have (budget None).

    difference: below zero is better, or above where a higher score is. p_holm: of no difference, corrected over the family.
    p_equivalent: of a difference of delta or more, corrected alike; NaN where there is no margin. verdict: better, worse,
    equivalent, not shown."""

    view: str
    arm: str
    budget: int | None
    against: str
    at: int | None
    difference: Estimate
    contrast: np.ndarray
    p_holm: float = np.nan
    p_equivalent: float = np.nan
    verdict: str = "not shown"


@dataclass(frozen=True)
class Effect:
    """A level of a factor less its first, in the mean over all cells that have both."""

    factor: str
    level: str
    first: str
    cells: int
    comparison: Comparison


@dataclass(frozen=True)
class Rule:
    """How verdicts are reached. share: delta as a share of the reference's gain, or None where it is in the unit of the score.
    better: -1 where a lower score is better, 1 where a higher one is."""

    delta: float | str
    share: float | None
    better: int


@dataclass(frozen=True)
class View:
    """One evaluation set: a score for every cell, and what follows from it. place: of each cell among the moments'."""

    name: str
    results: Results  # of its items
    moments: Moments
    curve: Curve | None
    levels: dict[Cell, Estimate]  # each arm by itself, for these items: the interval covers draws
    margin: float | None  # delta in the unit of the score, as estimated; None: nothing can be called equivalent
    comparisons: list[Comparison]  # every arm against the reference
    answers: list[Comparison]  # to the questions asked
    gains: list[Comparison]  # every arm against the untuned model
    effects: list[Effect]
    worths: list[Worth]

    def place(self, arm: str, budget: int) -> int:
        return self.results.cells.index((arm, budget))


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
    rule: Rule
    unit: str
    population: Population
    tasks: Tasks
    covers: str  # what the intervals of differences cover
    views: list[View]

    @property
    def headline(self) -> str:
        from train.study.say import headline

        return headline(self)

    def by_task(self, view: View) -> dict[str, list[Estimate]]:
        """The view's comparisons within each task, not corrected for their number."""
        out = {}
        for task in sorted(set(view.results.task.tolist())):
            part = view.results.only_items(view.results.task == task)
            moments = Moments(part.bits, part.size)
            out[task] = [moments.estimate(c.contrast) for c in view.comparisons]
        return out

    def spread(self, view: View, arm: str, budget: int) -> Spread:
        """Standard deviations of the scores behind one comparison, in the unit of the score."""
        scores = view.moments.scores
        own = scores[view.place(arm, budget)]
        paired = own - scores[view.place(self.reference, budget)]
        many_draws, many_seeds = own.shape[0] > 1, own.shape[1] > 1
        return Spread(
            arm=float(own.mean(axis=1).std(ddof=1)) if many_draws else None,
            paired=float(paired.mean(axis=1).std(ddof=1)) if many_draws else None,
            seeds=float(np.sqrt(paired.var(axis=1, ddof=1).mean())) if many_seeds else None,
        )


def analyse(table: pa.Table, *, reference: str = "random", **how: Any) -> Analysis:
    """The whole analysis of a table; see `analyse_results`. About a second and 200 MB a million rows."""
    return analyse_results(read_results(table, reference=reference), reference=reference, **how)


def analyse_results(
    results: Results,
    *,
    reference: str = "random",
    delta: float | str = DELTA,
    compare: Sequence[Sequence[str]] = (),
    population: Population = "this pool",
    tasks: Tasks = "these tasks",
    higher_is_better: bool = False,
    unit: str = "bits per byte",
) -> Analysis:
    """The whole analysis of results.

    reference: the arm that all others are compared with. delta: the difference below which two arms count as equivalent, in
    the unit of the score or as a share of the reference's gain ("10%"). compare: pairs of "arm@budget", or of arms, which are
    then compared in the mean over the budgets that both have. population: other draws of this pool, or other
    pools like it. tasks: items of these tasks, or of new ones.

    Raises RequestError where a question names what is not there, or a population cannot be told from these results.
    """
    if population == "pools like it" and results.overlap is None:
        raise RequestError(
            "the results do not say how many rows the draws of an arm share (column overlap, draws of two or more), so nothing "
            "can be said of other pools"
        )
    rule = Rule(delta, share_of(delta), 1 if higher_is_better else -1)
    for question in compare:
        sides(question, _budgets(results.cells))  # says what is not there
    views = [_view(name, results, reference, rule, compare, population, tasks) for name in results.sets]
    for family in ("comparisons", "answers", "gains"):
        views = _judged(views, family, rule)
    views = _judged_effects(views, rule)
    covers = _covers(views[0].moments.covers, population, tasks)
    return Analysis(results, reference, rule, unit, population, tasks, covers, views)


def half_width(analysis: Analysis) -> float:
    """Half the width of the widest interval that was asked for."""
    asked = [c for view in analysis.views for c in view.answers] or [
        c for view in analysis.views for c in view.comparisons
    ]
    return max((float(c.difference.high - c.difference.value) for c in asked), default=0.0)


def _covers(runs: str, population: Population, tasks: Tasks) -> str:
    """What the intervals of differences cover, in words."""
    items = "tasks" if tasks == "new tasks" else "items"
    if runs == "none":
        return items
    return (
        f"seeds of one draw and {items}"
        if runs == "seeds"
        else f"{'pools' if population == 'pools like it' else 'draws'} and {items}"
    )


def _view(
    name: str,
    results: Results,
    reference: str,
    rule: Rule,
    compare: Sequence[Sequence[str]],
    population: Population,
    tasks: Tasks,
) -> View:
    groups = results.sets[name]
    inside = np.array([group is not None for group in groups])
    if not inside.any():
        raise RequestError(f"the evaluation set {name} holds no item")
    part = results if inside.all() else results.only_items(inside)
    part = part.only_arms({reference, *part.compared[name]}) if part.compared.get(name) else part
    codes = np.unique(part.sets[name].astype(str), return_inverse=True)[1]
    clusters = np.unique(part.task.astype(str), return_inverse=True)[1] if tasks == "new tasks" else None
    if clusters is not None and clusters.max() < 1:
        raise RequestError(f"the items of {name} are all of one task, so nothing can be said of new ones")
    moments = Moments(
        part.bits,
        part.size,
        groups=codes,
        clusters=clusters,
        overlap=part.overlap if population == "pools like it" else None,
    )
    line = curve(moments, part.cells, reference, rule.better)
    others = [cell for cell in part.tuned if cell[0] != reference and (reference, cell[1]) in part.cells]
    against = {cell: part.base[i] for i, cell in enumerate(part.cells) if cell[1] > 0 and part.base[i] is not None}
    return View(
        name,
        part,
        moments,
        line,
        {cell: moments.level(i) for i, cell in enumerate(part.cells)},
        _margin(rule, line),
        [_comparison(name, moments, part.cells, [cell], [(reference, cell[1])]) for cell in others],
        [_question(name, moments, part.cells, question) for question in compare if _asked_of(question, part)],
        [_comparison(name, moments, part.cells, [cell], [(base or UNTUNED, 0)]) for cell, base in against.items()],
        _effects(name, moments, part),
        [] if line is None else [worth(moments, cell, part.cells.index(cell), line, rule.better) for cell in others],
    )


def _comparison(view: str, moments: Moments, cells: list[Cell], left: list[Cell], right: list[Cell]) -> Comparison:
    """Cells less other cells, each side in the mean."""
    contrast = np.zeros(len(cells))
    for cell in left:
        contrast[cells.index(cell)] += 1 / len(left)
    for cell in right:
        contrast[cells.index(cell)] -= 1 / len(right)
    (arm, budget), (against, at) = left[0], right[0]
    one = len(left) == 1
    difference = moments.estimate(contrast)
    return Comparison(view, arm, budget if one else None, against, at if one else None, difference, contrast)


def _budgets(cells: list[Cell]) -> dict[str, set[int]]:
    there: dict[str, set[int]] = {}
    for arm, budget in cells:
        there.setdefault(arm, set()).add(budget)
    return there


def _asked_of(question: Sequence[str], part: Results) -> bool:
    """Whether both arms of a question are compared in an evaluation set."""
    return {str(side).partition("@")[0] for side in question} <= {arm for arm, _ in part.cells}


def _question(view: str, moments: Moments, cells: list[Cell], question: Sequence[str]) -> Comparison:
    """A question as one contrast: of two cells, or of the means over the budgets that two arms have in common."""
    there = _budgets(cells)
    (left, own), (right, other) = sides(question, there)
    if own is not None and other is not None:
        return _comparison(view, moments, cells, [(left, own)], [(right, other)])
    both = sorted(there[left] & there[right])
    return _comparison(view, moments, cells, [(left, b) for b in both], [(right, b) for b in both])


def _effects(view: str, moments: Moments, results: Results) -> list[Effect]:
    """Each level of each factor less the first, over all pairs of cells that differ in nothing else."""
    names = sorted({name for levels in results.levels for name in levels} - {"arm"})
    effects = []
    for factor in names:
        of_cell = [levels.get(factor) for levels in results.levels]
        found = [level for level, (_, budget) in zip(of_cell, results.cells, strict=True) if budget > 0 and level]
        levels = list(dict.fromkeys(found))
        by_rest: dict[Any, dict[str, Cell]] = {}
        for cell, own in zip(results.cells, results.levels, strict=True):
            if cell[1] > 0 and factor in own:
                rest = (*sorted((k, v) for k, v in own.items() if k != factor), cell[1])
                by_rest.setdefault(rest, {})[own[factor]] = cell
        for level in levels[1:]:
            pairs = [(there[level], there[levels[0]]) for there in by_rest.values() if {level, levels[0]} <= set(there)]
            if pairs:
                left, right = [a for a, _ in pairs], [b for _, b in pairs]
                comparison = _comparison(view, moments, results.cells, left, right)
                effects.append(Effect(factor, level, levels[0], len(pairs), comparison))
    return effects


# --- verdicts --------------------------------------------------------------------------------------------------------


def _margin(rule: Rule, line: Curve | None) -> float | None:
    """delta in the unit of the score; None where it is a share of a gain that is not shown."""
    if rule.share is None:
        return float(rule.delta)
    return rule.share * float(line.gain.value) if line is not None and line.shown else None


def equivalence(view: View, comparison: Comparison, rule: Rule) -> float:
    """p of "the difference is delta or more, either way": the larger of two one-sided tests; NaN where there is no margin."""
    if view.margin is None:
        return np.nan
    if rule.share is None:
        d = comparison.difference
        return max(d.shifted(-view.margin).p_below, d.shifted(view.margin).p_above)
    assert view.curve is not None
    cells = view.curve.cells
    gain = rule.share * gain_contrast(len(comparison.contrast), cells[0], cells[-1], rule.better)
    above = view.moments.estimate(comparison.contrast - gain).p_below
    return max(above, view.moments.estimate(comparison.contrast + gain).p_above)


def _verdicts(found: list[tuple[View, Comparison]], rule: Rule) -> list[Comparison]:
    """A family, each with its corrected p values and its verdict."""
    verdicts = judged([c.difference for _, c in found], [equivalence(view, c, rule) for view, c in found], rule.better)
    return [
        replace(c, p_holm=p, p_equivalent=q, verdict=verdict)
        for (_, c), (p, q, verdict) in zip(found, verdicts, strict=True)
    ]


def _judged(views: list[View], family: str, rule: Rule) -> list[View]:
    """The views with one family of comparisons judged together."""
    verdicts = iter(_verdicts([(view, c) for view in views for c in getattr(view, family)], rule))
    return [replace(view, **{family: [next(verdicts) for _ in getattr(view, family)]}) for view in views]


def _judged_effects(views: list[View], rule: Rule) -> list[View]:
    verdicts = iter(_verdicts([(view, e.comparison) for view in views for e in view.effects], rule))
    return [replace(view, effects=[replace(e, comparison=next(verdicts)) for e in view.effects]) for view in views]
