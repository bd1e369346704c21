"""Whether a verdict on one model holds on another: how often the sign of a difference is the same.

A *decision* is a pair of arms at a budget on a task: which is better under the donor model, and is it under the other? By chance
it is so in half of the cases. An arm that beats the reference is another matter: where most arms do, it would under a model that
knew nothing of the donor's verdict, so that chance is the share of all arms that do. Decisions of one pair of models hang
together; the error is a jackknife over models, which with five of them is rough, and with two there is none.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from train.study.moments import LEVEL
from train.study.records import Block, Records, apart


@dataclass(frozen=True)
class Agreement:
    """share of decisions that agree (None where there are none), its jackknife error (None with fewer than three models), how many
    there are, and the share to be expected if the models had nothing in common."""

    share: float | None
    error: float | None
    decisions: int
    chance: float = 0.5

    def __str__(self) -> str:
        if self.share is None:
            return "none of 0"
        error = "" if self.error is None else f" ± {100 * self.error:.0f}"
        return f"{100 * self.share:.0f}{error} % of {self.decisions:,}"


@dataclass(frozen=True)
class Transfer:
    """every: of all decisions; shown: where the donor's difference is shown (5 %, by itself); beats: where the donor's arm beats the
    reference, in all and by pair of models (least, most); pairs: agreement of every donor (row) with every target."""

    models: list[str]
    every: Agreement
    shown: Agreement
    beats: Agreement
    beats_range: tuple[float, float] | None
    pairs: np.ndarray


def transfer(records: Records) -> Transfer | None:
    """None where there are fewer than two models with a task in common."""
    models = records.models
    decided = {pair: _decisions(records, *pair) for pair in itertools.permutations(models, 2)}
    if not decided or not any(len(d) for d in decided.values()):
        return None
    pairs = np.full((len(models), len(models)), np.nan)
    beats, by_chance = [], []
    for (donor, target), found in decided.items():
        if len(found):
            pairs[models.index(donor), models.index(target)] = found[:, 0].mean()
            own = found[found[:, 2] == 1]
            beats += [float(own[:, 0].mean())] if len(own) else []
            by_chance += [float(np.nanmean(found[:, 3]))] * len(own)
    beating = _agreement(models, decided, lambda d: d[:, 2] == 1)
    return Transfer(
        models,
        _agreement(models, decided, lambda d: np.ones(len(d), dtype=bool)),
        _agreement(models, decided, lambda d: d[:, 1] == 1),
        replace(beating, chance=float(np.mean(by_chance))) if by_chance else beating,
        (min(beats), max(beats)) if beats else None,
        pairs,
    )


def _decisions(records: Records, donor: str, target: str) -> np.ndarray:
    """(agrees, shown under the donor, the donor's arm beats the reference, the target's does) of each decision: float64 (n, 4), NaN
    where the reference is not one of the two arms."""
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
                beats = [records.better * gap < 0 if one == records.reference else np.nan for gap, _ in (here, there)]
                out.append((np.sign(here[0]) == np.sign(there[0]), here[1] <= 1 - LEVEL, *beats))
    return np.array(out, dtype=float).reshape(-1, 4)


def _gap(block: Block, one: str, two: str, budget: int) -> tuple[float, float]:
    """(difference, p)"""
    found = block.pooled.estimate(apart(block.cells, (one, budget), (two, budget)))
    return float(found.value), float(found.p)


def _agreement(
    models: list[str], decided: dict[tuple[str, str], np.ndarray], which: Callable[[np.ndarray], np.ndarray]
) -> Agreement:
    def agrees(without: str | None) -> np.ndarray:
        some = [d[which(d)][:, 0] for pair, d in decided.items() if without not in pair]
        return np.concatenate(some) if some else np.zeros(0)

    every, left_out = agrees(None), [agrees(model) for model in models]
    m = len(models)
    if not all(map(len, left_out)):
        return Agreement(float(every.mean()) if len(every) else None, None, len(every))
    shares = np.array([some.mean() for some in left_out])
    error = float(np.sqrt((m - 1) / m * ((shares - shares.mean()) ** 2).sum()))
    return Agreement(float(every.mean()), error, len(every))
