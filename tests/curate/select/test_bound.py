"""The certificate of a greedy selection: never below the best there is, never looser than theory or than its last prefix."""

from __future__ import annotations

import itertools
from functools import partial
from typing import Any

import numpy as np
import polars as pl
import pytest

import tamis
from curate.rows.constraints import Constraints, Group
from curate.rows.pool import Pool
from curate.select import greedy
from curate.select.bound import theory

ROWS, ITEMS = 9, 6
EVERY = np.array(list(itertools.product([False, True], repeat=ROWS)))


class Cover:
    """The sum over items of the largest weight that a pick has for it: monotone, submodular."""

    def __init__(self, weights: np.ndarray, exact: bool):
        self.weights, self.exact, self.most = weights, exact, np.zeros(ITEMS)
        self.gain = weights.sum(axis=1)

    def refresh(self, rows, later):
        self.gain[rows] = np.maximum(self.weights[rows] - self.most, 0).sum(axis=1)

    def add(self, row):
        self.most = np.maximum(self.most, self.weights[row])
        if self.exact:
            self.refresh(np.arange(ROWS), np.arange(ROWS))


def values_of(weights: np.ndarray, wanted: Constraints, scale: float) -> np.ndarray:
    """Of every subset of the rows, with the score where there is one: float64 (512,)."""
    gain = np.where(EVERY[:, :, None], weights, 0).max(axis=1).sum(axis=1)
    if wanted.quality is None:
        return gain
    return (1 - wanted.weight) / scale * gain + wanted.weight * (EVERY @ wanted.quality)


def allowed(wanted: Constraints) -> np.ndarray:
    """Which subsets obey, be they as large as the budget or not: bool (512,)."""
    good = EVERY[:, wanted.must].all(axis=1) & ~EVERY[:, ~wanted.open].any(axis=1)
    good &= EVERY.sum(axis=1) <= wanted.budget
    for group in wanted.groups:
        for value, limit in enumerate(group.limit):
            good &= EVERY[:, group.code == value].sum(axis=1) <= limit
    return good if wanted.cost is None else good & (EVERY @ wanted.cost <= wanted.tokens)


def instance(rng: np.random.Generator) -> Constraints | None:
    """Constraints of every kind, alone and together; None where no selection obeys."""
    opened, budget = np.ones(ROWS, bool), int(rng.integers(1, 6))
    if rng.random() < 0.3:
        opened[rng.choice(ROWS, 2, replace=False)] = False
    must = (
        np.sort(rng.choice(np.flatnonzero(opened), int(rng.integers(1, budget + 1)), replace=False))
        if rng.random() < 0.3
        else np.empty(0, int)
    )
    groups = tuple(
        Group(f"c{j}", tuple("abc"), rng.integers(-1, 3, ROWS).astype(np.int32), rng.integers(1, 4, 3))
        for j in range(rng.choice([0, 0, 1, 1, 2, 3]))
    )
    cost = rng.integers(1, 9, ROWS).astype(float) if rng.random() < 0.25 else None
    quality = rng.random(ROWS) if rng.random() < 0.3 else None
    weight = float(rng.choice([0.3, 0.8, 1.0]))
    wanted = Constraints(budget if cost is None else ROWS, opened, must, groups, cost, 12, quality, weight)
    good = allowed(wanted)
    return wanted if good.any() and (cost is not None or EVERY[good].sum(axis=1).max() == budget) else None


def last_bound(weights: np.ndarray, wanted: Constraints, picks: np.ndarray, scale: float) -> float:
    """The bound at the last prefix alone, without what rows of must_have say: value + the best sum of gains beside the picks
    that each limit lets in."""
    most = weights[picks].max(axis=0)
    gain = np.maximum(weights - most, 0).sum(axis=1)
    value = weights[picks].max(axis=0).sum()
    if wanted.quality is not None:
        gain = (1 - wanted.weight) / scale * gain + wanted.weight * wanted.quality
        value = (1 - wanted.weight) / scale * value + wanted.weight * wanted.quality[picks].sum()
    rest = np.setdiff1d(np.flatnonzero(wanted.open), picks)
    rest = rest[np.argsort(-gain[rest], kind="stable")]
    if wanted.cost is not None:
        order, left, more = rest[np.argsort(-gain[rest] / wanted.cost[rest], kind="stable")], float(wanted.tokens), 0.0
        for row in order:
            share = min(1.0, max(left, 0) / wanted.cost[row])
            more, left = more + share * gain[row], left - wanted.cost[row]
        return value + more
    bounds = [gain[rest[: wanted.budget]].sum()]
    for group in wanted.groups:
        room, some = group.limit.copy(), []
        for row in rest:
            if group.code[row] < 0 or room[group.code[row]] > 0:
                some.append(gain[row])
                room[group.code[row]] -= group.code[row] >= 0
        bounds.append(sum(some[: wanted.budget]))
    return value + min(bounds)


def test_2000_certificates_are_valid_and_none_is_looser_than_the_last_prefix_or_theory():
    tighter = checked = 0
    for seed in itertools.count():
        rng = np.random.default_rng(seed)
        weights = rng.random((ROWS, ITEMS)) ** rng.choice([1, 4])
        if (wanted := instance(rng)) is None:
            continue
        checked += 1
        exact = bool(rng.integers(2))
        picks = greedy.greedy(partial(Cover, weights, exact), wanted, label="", certify=True)
        if not len(picks.index):
            continue
        first = Constraints(1, wanted.open, np.empty(0, int), wanted.groups)
        scale = (
            float(greedy.greedy(partial(Cover, weights, True), first, label="").gain[0])
            if wanted.quality is not None
            else 1.0
        )
        value, best = values_of(weights, wanted, scale), allowed(wanted)
        mine = picks.facts["certificate"]
        assert mine["upper_bound"] >= value[best].max() * (1 - 1e-6), seed
        at = int(np.flatnonzero((EVERY == np.isin(np.arange(ROWS), picks.index)).all(axis=1))[0])
        assert best[at] and mine["value"] == pytest.approx(value[at], rel=1e-5), seed
        earlier = last_bound(weights, wanted, picks.index, scale)
        assert mine["upper_bound"] <= earlier * (1 + 1e-6), seed
        tighter += mine["upper_bound"] < earlier * 0.99
        assert mine["ratio"] >= theory(wanted, sampled=False) - 1e-9, seed
        if checked == 2_000:
            break
    assert tighter > 400


def test_a_score_that_counts_alone_is_certified_to_be_the_best():
    rng = np.random.default_rng(0)
    table = pl.DataFrame(
        {"id": [f"{i:03d}" for i in range(300)], "score": rng.random(300), "source": ["a", "b", "c"] * 100}
    )
    pool = Pool(table, rng.normal(size=(300, 8)).astype(np.float32))
    some: list[dict[str, Any]] = [{}, {"at_most": {"source": 9}}, {"must_have": ["007", "100"]}]
    for more in some:
        for method in ("facility_location", "dpp"):
            picks = tamis.select(pool, method, budget=20, quality={"score": 1.0}, **more)
            assert picks.facts["certificate"]["ratio"] == pytest.approx(1.0, abs=1e-9), (method, more)


def test_few_directions_of_many_are_certified_by_the_first_gains():
    rng = np.random.default_rng(1)
    pool = Pool(
        pl.DataFrame({"id": [f"{i:04d}" for i in range(2_000)]}), rng.normal(size=(2_000, 256)).astype(np.float32)
    )
    assert tamis.select(pool, "dpp", budget=30).facts["certificate"]["ratio"] > 0.95


def test_theory_knows_the_cases_and_says_nothing_of_others():
    free = Constraints(4, np.ones(9, bool), np.empty(0, int))
    group = Group("c", ("a",), np.zeros(9, np.int32), np.array([4]))
    assert theory(free, sampled=False) == pytest.approx(1 - 0.75**4)
    assert theory(free, sampled=True) == 0
    assert theory(Constraints(4, free.open, free.must, (group,)), False) == 1 / 2
    assert theory(Constraints(4, free.open, free.must, (group, group)), False) == 1 / 3
    assert theory(Constraints(9, free.open, free.must, cost=np.ones(9), tokens=4), False) == pytest.approx(
        (1 - 1 / np.e) / 2
    )
    assert theory(Constraints(9, free.open, free.must, (group,), np.ones(9), 4), False) == 0
    refused = Constraints(4, free.open, free.must, (group, group), refused=[3])
    assert theory(refused, False) == 0
