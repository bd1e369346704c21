"""What k-center says of distances is true, near-copies included, and scores stand on one scale with them."""

from __future__ import annotations

import itertools

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tamis
from curate.rows.pool import Pool
from curate.select import k_center


def pool_of(vectors: np.ndarray, **columns) -> Pool:
    ids = [f"r{row:04d}" for row in range(len(vectors))]
    return Pool(pl.DataFrame({"id": ids, **columns}), np.asarray(vectors, np.float32))


def distances(pool: Pool) -> np.ndarray:
    """Between unit vectors, by differences of 64 bits of mantissa where the machine has them."""
    vectors = pool.vectors.astype(np.longdouble)
    length = np.sqrt((vectors**2).sum(axis=1, keepdims=True))
    unit = vectors / np.where(length > 0, length, 1)
    return np.sqrt(((unit[:, None] - unit[None]) ** 2).sum(axis=2))


def near_copies(seed: int, n: int, kinds: int, jitter: float, d: int = 5) -> Pool:
    """Rows that are copies of a few but for ``jitter``, of any length; one of them is zero, one an exact copy."""
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(kinds, d))[rng.integers(0, kinds, n)]
    vectors = (vectors + jitter * rng.normal(size=(n, d))) * 10.0 ** rng.integers(-3, 4, (n, 1))
    vectors[rng.integers(n)] = 0
    vectors[rng.integers(n)] = vectors[rng.integers(n)]
    return pool_of(vectors)


@settings(deadline=None, max_examples=150)
@given(st.integers(0, 10**6), st.integers(2, 10), st.integers(1, 4), st.integers(1, 9), st.data())
def test_the_radius_is_never_too_small_and_its_bound_never_too_large_whatever_the_copies(seed, n, kinds, digits, data):
    pool, budget = near_copies(seed, n, kinds, 10.0**-digits), data.draw(st.integers(1, n))
    between, picks = distances(pool), k_center.select(pool, budget)
    radius = between[picks.index].min(axis=0).max()
    best = min(between[list(some)].min(axis=0).max() for some in itertools.combinations(range(n), budget))
    assert radius <= picks.facts["radius"] <= radius * (1 + 1e-9) + 1e-6
    assert picks.facts["radius_at_least"] <= best
    assert picks.facts["radius_at_least"] >= min(np.append(picks.gain[1:], radius)) / 2 - 1e-6  # and of use
    for place in range(1, budget):
        gain = between[picks.index[place], picks.index[:place]].min()
        assert float(picks.gain[place]) == pytest.approx(float(gain), rel=1e-6, abs=1e-6)


def test_distances_that_drown_in_float32_are_told():
    base = np.random.default_rng(0).normal(size=384)
    base /= np.linalg.norm(base)
    pool = pool_of(np.stack([base + 1e-4 * step * np.eye(384)[0] for step in range(5)]))
    picks, between = k_center.select(pool, 2), distances(pool)
    assert picks.facts["radius"] == pytest.approx(float(between[picks.index].min(axis=0).max()), rel=1e-9)
    assert float(picks.gain[1]) == pytest.approx(float(between[picks.index[0], picks.index[1]]), rel=1e-6)
    assert 1e-5 < picks.facts["radius_at_least"] < 2e-4


def test_only_rows_within_rounding_of_the_radius_are_compared_again(monkeypatch):
    pool = pool_of(np.random.default_rng(1).normal(size=(4_000, 16)))
    compared, whole = [], k_center._squared_to_nearest

    def counted(rows, centres, first=None):
        compared.append(len(rows))
        return whole(rows, centres, first)

    monkeypatch.setattr(k_center, "_squared_to_nearest", counted)
    picks = k_center.select(pool, 60)
    unit = pool.vectors.astype(np.float64)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    nearest = np.sqrt(np.maximum(2 - 2 * unit @ unit[picks.index].T, 0)).min(axis=1)
    assert picks.facts["radius"] == pytest.approx(nearest.max(), rel=1e-10)
    assert picks.facts["radius_at_least"] == pytest.approx(nearest.max() / 2, rel=1e-6)
    assert compared[0] == 59 and sum(compared[1:]) < 20


@pytest.mark.parametrize("share", [0.05, 0.2, 0.9])
@pytest.mark.parametrize("jitter", [1e-6, 1e-3, 0.5])
def test_the_radius_without_outliers_is_that_of_the_rows_that_are_left(share, jitter):
    for seed in range(4):
        pool = near_copies(seed, 60, 6, jitter)
        picks = k_center.select(pool, 8, outliers=share)
        nearest = np.sort(distances(pool)[picks.index].min(axis=0))
        radius = float(nearest[59 - int(share * 60)])
        assert radius <= picks.facts["radius"] <= radius + 1e-6 and "radius_at_least" not in picks.facts


def test_a_score_weighs_as_much_as_the_largest_distance_that_two_rows_can_have():
    vectors = np.array([[1, 0], [-1, 0], [0, 1]])  # squared distances to the first: 0, 4, 2
    for score, second in ((0.45, 1), (0.55, 2)):  # halves of 1 + 0, and of 2 / 4 + score
        pool = pool_of(vectors, score=[1.0, 0.0, score])
        picks = tamis.select(pool, "k_center", budget=2, quality={"score": 0.5}, must_have=["r0000"])
        assert picks.index.tolist() == [0, second] and picks.gain[1] == pytest.approx(
            2 if second == 1 else 2**0.5, rel=1e-4
        )


def test_outliers_come_last_whatever_their_score():
    rng = np.random.default_rng(0)
    vectors = np.concatenate([np.array([1, 0, 0, 0]) + 0.1 * rng.normal(size=(57, 4)), -np.eye(4)[:3]])
    pool = pool_of(vectors, score=[0.0] * 57 + [1.0, 0.9, 0.8])
    picks = tamis.select(pool, "k_center", budget=60, outliers=0.05, quality={"score": 0.9}, must_have=["r0000"])
    assert set(picks.index[-3:].tolist()) == {57, 58, 59}


def test_six_digits_of_the_radius_are_not_below_it():
    for seed in range(10):
        pool = pool_of(np.random.default_rng(seed).normal(size=(30, 4)))
        told, whole = tamis.select(pool, "k_center", budget=4).facts, k_center.select(pool, 4).facts
        assert whole["radius"] <= told["radius"] <= whole["radius"] + 1e-5
        assert whole["radius_at_least"] >= told["radius_at_least"] >= whole["radius_at_least"] - 1e-5
