"""Whether a verdict on one model holds on another: how often the sign of a difference is the same.

A *decision* is a pair of arms at a budget on a task: which is better under the donor model, and is it under the other? By chance
it is so in half of the cases. Decisions of one pair of models hang together; the error is a jackknife over models, which with
five of them is rough.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from train.study.moments import LEVEL
from train.study.records import Block, Records


@dataclass(frozen=True)
class Agreement:
    """share of decisions that agree, its jackknife error, and how many there are."""

    share: float
    error: float
    decisions: int

    def __str__(self) -> str:
        return f"{100 * self.share:.0f} ± {100 * self.error:.0f} % of {self.decisions:,}"


@dataclass(frozen=True)
class Transfer:
    """every: of all decisions; shown: where the donor's difference is shown (5 %, by itself); beats: where the donor's arm beats the
    reference, by pair of models (least, most) and in all; pairs: agreement of every donor (row) with every target."""

    models: list[str]
    every: Agreement
    shown: Agreement
    beats: Agreement
    beats_range: tuple[float, float]
    pairs: np.ndarray


def transfer(records: Records) -> Transfer | None:
    """None where there are fewer than two models with a task in common."""
    models = records.models
    decided = {pair: _decisions(records, *pair) for pair in itertools.permutations(models, 2)}
    if not decided or not any(len(d) for d in decided.values()):
        return None
    pairs = np.full((len(models), len(models)), np.nan)
    beats = []
    for (donor, target), found in decided.items():
        if len(found):
            pairs[models.index(donor), models.index(target)] = found[:, 0].mean()
            own = found[found[:, 2] == 1]
            beats += [float(own[:, 0].mean())] if len(own) else []
    return Transfer(
        models,
        _agreement(models, decided, lambda d: np.ones(len(d), dtype=bool)),
        _agreement(models, decided, lambda d: d[:, 1] == 1),
        _agreement(models, decided, lambda d: d[:, 2] == 1),
        (min(beats, default=np.nan), max(beats, default=np.nan)),
        pairs,
    )


def _decisions(records: Records, donor: str, target: str) -> np.ndarray:
    """(agrees, shown under the donor, the donor's arm beats the reference) of each decision: float64 (n, 3)."""
    blocks = {(block.model, block.task): block for block in records.blocks}
    out = []
    for (model, task), own in blocks.items():
        other = blocks.get((target, task))
        if model != donor or other is None:
            continue
        for budget in sorted({b for _, b in own.cells} & {b for _, b in other.cells}):
            arms = [arm for arm, b in own.cells if b == budget and (arm, b) in other.cells]
            for one, two in itertools.combinations(arms, 2):
                here, there = _gap(own, one, two, budget), _gap(other, one, two, budget)
                if here[0] == 0 or there[0] == 0:
                    continue
                beats = one == records.reference and records.better * here[0] < 0
                out.append((np.sign(here[0]) == np.sign(there[0]), here[1] <= 1 - LEVEL, beats))
    return np.array(out, dtype=float).reshape(-1, 3)


def _gap(block: Block, one: str, two: str, budget: int) -> tuple[float, float]:
    """(difference, p)"""
    contrast = np.zeros(len(block.cells))
    contrast[block.cells.index((one, budget))] = 1
    contrast[block.cells.index((two, budget))] = -1
    found = block.pooled.estimate(contrast)
    return float(found.value), float(found.p)


def _agreement(
    models: list[str], decided: dict[tuple[str, str], np.ndarray], which: Callable[[np.ndarray], np.ndarray]
) -> Agreement:

    def share(without: str | None) -> tuple[float, int]:
        some = [d[which(d)][:, 0] for pair, d in decided.items() if without not in pair]
        joined = np.concatenate(some) if some else np.zeros(0)
        return (float(joined.mean()) if len(joined) else np.nan), len(joined)

    value, n = share(None)
    left_out = np.array([share(model)[0] for model in models])
    m = len(models)
    error = float(np.sqrt((m - 1) / m * ((left_out - left_out.mean()) ** 2).sum())) if m > 2 else np.nan
    return Agreement(value, error, n)
