"""Results of several models and tasks with a few seeds each, as papers publish them: one number a run.

With fewer than five seeds the spread of one comparison is hardly known. What the runs of one task and model have in common is
how far a seed moves them: the residual mean square of the two-way layout of cells (an arm at a budget) by seeds, a randomised
block design (Fisher 1935), has (C - 1)(S - 1) degrees of freedom, and a contrast x of cell means the variance
MS / S * sum x^2. It takes the spread as the same for all cells of a task and model; Levene's test says where that is doubtful.

Equivalent is said as in train/study/analysis.py: two one-sided tests put the difference within delta, which by default is a tenth
of what the reference gains over its budgets, with the error of that gain; where the gain is not shown nothing is equivalent.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from scipy import stats

from curate.contract.errors import ContractError, RequestError
from train.study.analysis import DELTA
from train.study.asked import share_of
from train.study.moments import LEVEL, Estimate, judged
from train.study.results import Cell
from train.study.worth import Curve, Worth, curve, gain_contrast, worth


class Pooled:
    """Cell means with one spread for all of them: what `train.study.worth` needs of moments. values: float64 (C, S)."""

    def __init__(self, values: np.ndarray):
        self.mean = values.mean(axis=1)
        n_cells, self.n_seeds = values.shape
        left = values - self.mean[:, None] - values.mean(axis=0) + values.mean()
        self.free = (n_cells - 1) * (self.n_seeds - 1)
        self.square = float((left**2).sum() / self.free) if self.free else np.nan
        self.levene = float(stats.levene(*values).pvalue) if self.n_seeds > 2 and self.square > 0 else 1.0  # pyright: ignore

    def estimate(self, contrast: np.ndarray) -> Estimate:
        """The t interval of a contrast whose weights add up to zero, float64 (C,), or of many, (…, C)."""
        value = contrast @ self.mean
        draws = self.square / self.n_seeds * (contrast**2).sum(axis=-1)
        return _interval(value, draws, self.free)


def _interval(value: np.ndarray, variance: np.ndarray, free: float) -> Estimate:
    error = np.maximum(np.sqrt(variance), 1e-12)
    half = stats.t.ppf(0.5 + LEVEL / 2, free) * error
    p = 2 * stats.t.sf(np.abs(value) / error, free)
    return Estimate(
        value, value - half, value + half, error, np.full_like(error, free), p, variance, np.zeros_like(error)
    )


@dataclass(frozen=True)
class Gap:
    """An arm less the reference. within: the difference less delta, and with delta added; None where there is no delta. p_holm, and
    p_equivalent of a difference of delta or more: over all of one model and task, or of one model's means over tasks."""

    arm: str
    budget: int
    difference: Estimate
    within: tuple[Estimate, Estimate] | None
    p_holm: float
    p_equivalent: float | None
    verdict: str


@dataclass(frozen=True)
class Block:
    """One task under one model. values: float64 (C, S). untuned: the model's own score, if known."""

    model: str
    task: str
    cells: list[Cell]
    values: np.ndarray
    pooled: Pooled
    gaps: list[Gap]
    curve: Curve | None
    worths: list[Worth]
    untuned: float | None


@dataclass(frozen=True)
class Records:
    """means: of each model its arms' mean gaps over tasks. better: 1 where a higher value is better, -1 where a lower."""

    reference: str
    better: int
    seeds: int
    blocks: list[Block]
    means: dict[str, list[Gap]]

    @property
    def models(self) -> list[str]:
        return list(dict.fromkeys(block.model for block in self.blocks))


def analyse_records(
    table: pa.Table,
    *,
    reference: str,
    higher_is_better: bool,
    delta: float | str = DELTA,
    baseline: pa.Table | None = None,
) -> Records:
    """table: arm, budget, seed, task (or item), value, and model, if there are several (train/study/reading.py); a run's items are
    averaged. delta: the difference below which two arms count as equivalent, in the unit of the value or as a share of the
    reference's gain ("10%"). baseline: value, task, model of the untuned models.

    Raises ContractError where a score is missing or doubled; RequestError where there is one arm, one seed, no reference, no
    budget that it shares with another arm, or every value is the same.
    """
    better, share_of_gain = 1 if higher_is_better else -1, share_of(delta)
    values = _values(table, reference)
    untuned = {} if baseline is None else _untuned(baseline, values)
    blocks = [
        _block(model, task, cells, some, reference, better, delta, untuned.get((model, task)))
        for (model, task), (cells, _, some) in values.items()
    ]
    models = list(dict.fromkeys(block.model for block in blocks))
    means = {
        model: _means([block for block in blocks if block.model == model], better, share_of_gain is None)
        for model in models
    }
    return Records(reference, better, blocks[0].values.shape[1], blocks, means)


Run = tuple[int, int]  # draw, seed


def _values(table: pa.Table, reference: str) -> dict[tuple[str, str], tuple[list[Cell], list[str], np.ndarray]]:
    """For each model and task the cells, the reference first, the items, and the mean over these: float64 (C, S)."""
    for name in ("arm", "seed", "value"):
        if name not in table.column_names:
            raise RequestError(
                f"the results have no column for {name}; say which it is, as in `--map {name}=THEIRS`; they have "
                f"{', '.join(n for n in table.column_names if n != 'where')}"
            )
    found: dict[tuple[str, str], dict[tuple[Cell, Run, str], tuple[float, str]]] = {}
    for row in table.to_pylist():
        budget = row.get("budget", 1)
        if budget < 1:
            raise RequestError(
                f"{row['where']}: the budget is {budget}; it is 1 or more, and an untuned model's scores are for --baseline"
            )
        task, model = row.get("task") or row.get("item") or "all", row.get("model") or "the model"
        block = found.setdefault((model, task), {})
        key = (row["arm"], budget), (row.get("draw", 0), row["seed"]), row.get("item") or task
        if key in block:
            raise ContractError(
                f"{row['where']}: {_said(*key, task)}, of {task} under {model} stands twice, first in {block[key][1]}"
            )
        block[key] = row["value"], row["where"]
    arms = sorted({arm for rows in found.values() for (arm, _), _, _ in rows}, key=lambda arm: (arm != reference, arm))
    if reference not in arms:
        raise RequestError(f"the reference `{reference}` is not among the arms; there are {', '.join(arms)}")
    if len(arms) < 2:
        raise RequestError(f"there is one arm, {arms[0]}: nothing to compare it with")
    of_model: dict[str, set[Cell]] = {}
    for (model, _), rows in found.items():
        of_model.setdefault(model, set()).update(cell for cell, _, _ in rows)
    out = {}
    for (model, task), rows in sorted(found.items()):
        cells = sorted(of_model[model], key=lambda cell: (arms.index(cell[0]), cell[1]))
        runs, items = sorted({run for _, run, _ in rows}), sorted({item for _, _, item in rows})
        _check(model, task, cells, runs, items, rows, reference)
        values = np.array([[np.mean([rows[cell, run, item][0] for item in items]) for run in runs] for cell in cells])
        out[model, task] = cells, items, values
    every = np.concatenate([values.reshape(-1) for _, _, values in out.values()])
    if (every == every[0]).all():
        raise RequestError(f"every value is {every[0]:g}: the metric is constant, and nothing can be compared")
    return out


def _said(cell: Cell, run: Run, item: str, task: str) -> str:
    draw, of_item = f"draw {run[0]}, " if run[0] else "", "" if item == task else f", item {item}"
    return f"{cell[0]} at {cell[1]:,}, {draw}seed {run[1]}{of_item}"


def _check(
    model: str, task: str, cells: list[Cell], runs: list[Run], items: list[str], rows: Collection[Any], reference: str
) -> None:
    if not any(arm != reference and (reference, budget) in cells for arm, budget in cells):
        raise RequestError(f"no arm has a budget under {model} that {reference} has too, so nothing can be compared")
    if missing := [key for key in itertools.product(cells, runs, items) if key not in rows]:
        raise ContractError(
            f"{len(missing):,} of {len(cells) * len(runs) * len(items):,} scores of {task} under {model} are missing, first "
            f"{_said(*missing[0], task)}; every arm and budget of a model has the same seeds and items, on all of its tasks"
        )
    if len(runs) < 2:
        raise RequestError(
            f"{task} under {model} has one seed: how far a seed moves a score is not known, and no interval can be given"
        )


def _untuned(baseline: pa.Table, values: dict[tuple[str, str], Any]) -> dict[tuple[str, str], float]:
    """The untuned model's mean over the items of each model and task; a task may also have a single score."""
    if "value" not in baseline.column_names:
        raise RequestError(f"the baseline has no column for value; it has {', '.join(baseline.column_names[:-1])}")
    there: dict[tuple[str, str], dict[str, float]] = {}
    for row in baseline.to_pylist():
        task = row.get("task") or row.get("item") or "all"
        own = there.setdefault((row.get("model") or "the model", task), {})
        if own.setdefault(row.get("item") or task, row["value"]) != row["value"]:
            raise ContractError(f"{row['where']}: the baseline has another value of {row.get('item') or task} already")
    out = {}
    for (model, task), (_, items, _) in values.items():
        own = there.get((model, task), {})
        own = dict.fromkeys(items, own[task]) if set(own) == {task} else own
        if missing := [item for item in items if item not in own]:
            has = [" under ".join(key[::-1]) for key in there]
            raise ContractError(
                f"the baseline lacks {task} under {model}{f', item {missing[0]}' if own else ''}; it has {', '.join(has[:8])}"
            )
        out[model, task] = float(np.mean([own[item] for item in items]))
    return out


def _block(
    model: str,
    task: str,
    cells: list[Cell],
    values: np.ndarray,
    reference: str,
    better: int,
    delta: float | str,
    untuned: float | None,
) -> Block:
    pooled = Pooled(values)
    others = [cell for cell in cells if cell[0] != reference and (reference, cell[1]) in cells]
    contrasts = [apart(cells, cell, (reference, cell[1])) for cell in others]
    differences = [pooled.estimate(x) for x in contrasts]
    line = curve(pooled, cells, reference, better)
    within, share = None, share_of(delta)
    if share is None:
        within = [(d.shifted(-float(delta)), d.shifted(float(delta))) for d in differences]
    elif line is not None:
        gain = share * gain_contrast(len(cells), line.cells[0], line.cells[-1], better)
        within = [(pooled.estimate(x - gain), pooled.estimate(x + gain)) for x in contrasts]
    known = share is None or (line is not None and line.shown)
    gaps = _judged(others, differences, within, better, known)
    worths = [] if line is None else [worth(pooled, cell, cells.index(cell), line, better) for cell in others]
    return Block(model, task, cells, values, pooled, gaps, line, worths, untuned)


def apart(cells: list[Cell], one: Cell, other: Cell) -> np.ndarray:
    """The contrast of one cell less another."""
    contrast = np.zeros(len(cells))
    contrast[cells.index(one)] += 1
    contrast[cells.index(other)] -= 1
    return contrast


def _judged(
    cells: list[Cell],
    differences: list[Estimate],
    within: list[tuple[Estimate, Estimate]] | None,
    better: int,
    known: bool,
) -> list[Gap]:
    """known: whether delta is, so that two arms can be called equivalent."""
    tested = within if within is not None and known else None
    alike = [max(less.p_below, more.p_above) for less, more in tested] if tested else [np.nan] * len(cells)
    verdicts = judged(differences, alike, better)
    return [
        Gap(arm, budget, d, within[k] if within else None, p, None if np.isnan(q) else q, verdict)
        for k, ((arm, budget), d, (p, q, verdict)) in enumerate(zip(cells, differences, verdicts, strict=True))
    ]


def _means(blocks: list[Block], better: int, fixed: bool) -> list[Gap]:
    """Gaps in the mean over tasks. fixed: whether delta is a number, and not a share of the gain, which is then to be shown."""
    cells = [(g.arm, g.budget) for g in blocks[0].gaps]  # every task of a model has the same
    of_tasks = list(zip(*(block.gaps for block in blocks), strict=True))
    differences = [_mean([g.difference for g in gaps]) for gaps in of_tasks]
    lines = [block.curve for block in blocks]
    gains = [line.gain for line in lines if line is not None]
    known = fixed or (len(gains) == len(blocks) and _mean(gains).p_above <= 1 - LEVEL)
    pairs = [[g.within for g in gaps if g.within is not None] for gaps in of_tasks]
    within = [(_mean([less for less, _ in own]), _mean([more for _, more in own])) for own in pairs] if known else None
    return _judged(cells, differences, within, better, known)


def _mean(of_tasks: list[Estimate]) -> Estimate:
    """The mean over tasks, which are taken as they are: Satterthwaite's degrees of freedom."""
    variances = np.array([float(d.variance_draws) for d in of_tasks]) / len(of_tasks) ** 2
    total = float(variances.sum())
    each = [float(d.degrees_of_freedom) for d in of_tasks]
    free = total**2 / float((variances**2 / each).sum()) if total > 0 else 1.0
    return _interval(np.asarray(np.mean([float(d.value) for d in of_tasks])), np.asarray(total), free)


# --- what a reader should know ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Curse:
    """Taking the best of several arms, in the mean over tasks, models and budgets: what its mean over all seeds says, what the
    seeds say that had no part in the choice, and the observed gain shrunken by what noise alone would spread arms."""

    arms: int
    observed: float
    honest: float
    shrunken: float


def curse(records: Records) -> Curse:
    observed, honest, shrunken = [], [], []
    n_arms = 0
    for block in records.blocks:
        for budget in sorted({g.budget for g in block.gaps}):
            own = [block.cells.index((g.arm, budget)) for g in block.gaps if g.budget == budget]
            gain = records.better * (block.values[own] - block.values[block.cells.index((records.reference, budget))])
            n_arms = max(n_arms, len(own))
            mean = gain.mean(axis=1)
            observed.append(mean.max())
            for seed in range(gain.shape[1]):
                others = np.delete(gain, seed, axis=1).mean(axis=1)
                honest.append(gain[others.argmax(), seed])
            noise = block.pooled.square / block.pooled.n_seeds
            kept = max(0.0, 1 - noise / mean.var(ddof=1)) if len(mean) > 1 and mean.var() > 0 else 0.0
            shrunken.append(mean.mean() + kept * (mean.max() - mean.mean()))
    return Curse(n_arms, *(float(np.mean(some)) for some in (observed, honest, shrunken)))


def hurt(records: Records) -> dict[str, tuple[int, int, int]]:
    """Of each model: cells (an arm at a budget, on a task), those below the untuned model, and those shown to be (one cell by
    itself, 5 %, not corrected)."""
    out: dict[str, tuple[int, int, int]] = {}
    for block in records.blocks:
        if block.untuned is None:
            continue
        gap = records.better * (block.pooled.mean - block.untuned)
        error = np.sqrt(block.values.var(axis=1, ddof=1).mean() / block.pooled.n_seeds)
        free = len(block.cells) * (block.pooled.n_seeds - 1)
        shown = gap < -stats.t.ppf(LEVEL, free) * error
        n, below, sure = out.get(block.model, (0, 0, 0))
        out[block.model] = n + len(gap), below + int((gap < 0).sum()), sure + int(shown.sum())
    return out
