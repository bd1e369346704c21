"""Results of studies that never ran: what the analysis is calibrated on, since their truth is known.

A score is a curve of the arm's examples plus noise of items, of draws, and of both, some of it shared by all arms, as with
models that are trained on one pool and scored on the same items:

    value(arm, N, draw, item) = f(m N) + item + draw + own item + own draw + rest

In a world of pools (`pools`) draws are what they are in a study: 80 % of one pool, from which arms pick rows that have an
influence each; the truth is then the mean over pools.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from train.study.results import WHOLE, Cell, Results

Noise = Literal["normal", "t3", "exponential", "lognormal"]
Curve = Literal["power", "straight", "flat"]

CURVES: dict[Curve, Callable[[np.ndarray], np.ndarray]] = {
    "power": lambda n: 1.5 + 4.0 * n**-0.3,
    "straight": lambda n: 3.0 - 0.15 * np.log(n),
    "flat": lambda n: np.full_like(n, 2.5),
}
_NOISES: dict[Noise, Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]] = {  # of mean 0 and deviation 1
    "normal": lambda rng, shape: rng.normal(size=shape),
    "t3": lambda rng, shape: rng.standard_t(3, size=shape) / np.sqrt(3),
    "exponential": lambda rng, shape: rng.exponential(size=shape) - 1,
    "lognormal": lambda rng, shape: (rng.lognormal(size=shape) - np.exp(0.5)) / np.sqrt((np.e - 1) * np.e),
}


@dataclass(frozen=True)
class World:
    """arms: what one example of each is worth, the reference first. shift: what each arm's score is moved by beside. Deviations
    are in the unit of the score: of an arm's own draws and items, of both together, and of what all arms share. noise: of the
    own draws of `noisy`, the others' are normal. tasks: how many the items come from, each with an effect of its own on every
    arm (task_sd)."""

    arms: dict[str, float]
    budgets: tuple[int, ...] = (64, 256)
    reference_budgets: tuple[int, ...] = ()
    draws: int = 5
    seeds: int = 1
    items: int = 300
    curve: Curve = "power"
    shift: dict[str, float] = field(default_factory=dict)
    draw_sd: float = 0.02
    item_sd: float = 0.2
    rest_sd: float = 0.2
    shared_sd: float = 0.03
    noise: Noise = "normal"
    noisy: tuple[str, ...] = ()
    tasks: int = 1
    task_sd: float = 0.0

    @property
    def cells(self) -> list[Cell]:
        first = next(iter(self.arms))
        return [
            (arm, budget)
            for arm in self.arms
            for budget in sorted({*self.budgets, *(self.reference_budgets if arm == first else ())})
        ]

    def truth(self, arm: str, budget: int) -> float:
        """The expected score of an arm at a budget."""
        return float(CURVES[self.curve](np.array(self.arms[arm] * budget))) + self.shift.get(arm, 0.0)

    def difference(self, arm: str, budget: int) -> float:
        """The expected difference from the reference."""
        return self.truth(arm, budget) - self.truth(next(iter(self.arms)), budget)

    def gain(self) -> float:
        """What the reference gains from its smallest budget to its largest."""
        first = next(iter(self.arms))
        own = [budget for arm, budget in self.cells if arm == first]
        return self.truth(first, own[0]) - self.truth(first, own[-1])


def results(world: World, rng: np.random.Generator) -> Results:
    """One study in a world."""
    cells, n = world.cells, world.items
    size = np.round(rng.lognormal(5, 0.5, n)) + 1
    task = rng.integers(world.tasks, size=n)
    shape = (world.draws, world.seeds, 1)
    shared = rng.normal(0, 1, n) + rng.normal(0, world.shared_sd, shape)
    bits = np.empty((len(cells), world.draws, world.seeds, n))
    for c, (arm, budget) in enumerate(cells):
        own = _NOISES[world.noise if arm in world.noisy else "normal"](rng, shape) * world.draw_sd
        rest = rng.normal(0, world.rest_sd, bits.shape[1:])
        items = rng.normal(0, world.item_sd, n) + rng.normal(0, world.task_sd, world.tasks)[task]
        bits[c] = size * (world.truth(arm, budget) + shared + own + items + rest)
    return _results(cells, bits, size, np.char.add("task-", task.astype(str)).astype(object), None)


@dataclass(frozen=True)
class Pools:
    """Pools of rows that have an influence each. An arm picks by influence plus noise (``good``: the better rows), or at random;
    the score of a subset is 2 less its mean influence, plus noise of training."""

    rows: int = 400
    budget: int = 40
    draws: int = 5
    seeds: int = 1
    disjoint: bool = False
    influence_sd: float = 1.0
    noise_sd: float = 0.05
    items: int = 20

    def results(self, rng: np.random.Generator) -> Results:
        """One study of one pool."""
        influence = rng.normal(0, self.influence_sd, self.rows)
        looks = influence + rng.normal(0, self.influence_sd, self.rows)
        parts = rng.permutation(self.rows)
        scores = np.empty((2, self.draws, self.seeds))
        picked: list[list[set[int]]] = [[], []]
        for draw in range(self.draws):
            if self.disjoint:
                drawn = parts[draw :: self.draws]
            else:
                drawn = rng.permutation(self.rows)[: int(0.8 * self.rows)]
            chosen = (rng.permutation(drawn)[: self.budget], drawn[np.argsort(-looks[drawn])][: self.budget])
            for arm, own in enumerate(chosen):
                picked[arm].append(set(own.tolist()))
                scores[arm, draw] = 2 - influence[own].mean() + rng.normal(0, self.noise_sd, self.seeds)
        bits = np.repeat(scores[..., None], self.items, axis=3) * 100.0
        overlap = np.array([_shared(draws, self.budget) for draws in picked])
        cells: list[Cell] = [("random", self.budget), ("good", self.budget)]
        return _results(cells, bits, np.full(self.items, 100.0), np.full(self.items, "task", dtype=object), overlap)

    def truth(self, rng: np.random.Generator, pools: int = 4000) -> float:
        """The expected difference over pools, by as many of them."""
        return float(
            np.mean([np.diff(self.results(rng).bits[:, :, :, 0].mean(axis=(1, 2)))[0] / 100 for _ in range(pools)])
        )


def _shared(draws: list[set[int]], budget: int) -> float:
    pairs = [len(a & b) / budget for i, a in enumerate(draws) for b in draws[i + 1 :]]
    return float(np.mean(pairs))


def _results(
    cells: list[Cell], bits: np.ndarray, size: np.ndarray, task: np.ndarray, overlap: np.ndarray | None
) -> Results:
    n = bits.shape[-1]
    return Results(
        cells,
        list(range(bits.shape[1])),
        list(range(bits.shape[2])),
        [f"item-{i:05}" for i in range(n)],
        bits,
        size,
        task,
        sets={WHOLE: np.full(n, "", dtype=object)},
        base=[None] * len(cells),
        overlap=overlap,
        levels=[{} for _ in cells],
    )
