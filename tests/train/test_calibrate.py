"""The calibration in a small form, and that it can fail."""

from __future__ import annotations

import numpy as np
import pytest

from train.study import calibrate, moments
from train.study.calibrate import level_0, printed
from train.study.simulate import Pools, World, results


def rates(**how: object) -> dict[tuple[str, str], calibrate.Line]:
    return {(line.design, line.rate): line for line in level_0(**how)}  # pyright: ignore


@pytest.mark.parametrize(
    "only", ["arms alike, 5 draws, 50", "difference of delta (10%), 5", "m = 2, a fall of 15", "new tasks", "flat"]
)
def test_what_is_claimed_holds_in_a_few_hundred_simulated_studies(only):
    lines = level_0(300, 1, only)
    assert lines and [printed(line) for line in lines if line.verdict == "fails"] == []
    assert any(line.verdict == "holds" for line in lines)


def test_intervals_that_are_too_narrow_fail(monkeypatch):
    """The reason for the table: without the items' share of the variance it says so."""
    original = moments.Moments.estimate
    monkeypatch.setattr(moments.Moments, "estimate", lambda self, contrast: original(_without_items(self), contrast))
    lines = rates(simulations=300, only="arms alike, 5 draws, 50")
    assert lines["arms alike, 5 draws, 50 items", "coverage of a difference"].verdict == "fails"
    assert lines["arms alike, 5 draws, 50 items", "anything false shown"].verdict == "fails"


def _without_items(found: moments.Moments) -> moments.Moments:
    found.items = found.items * 0
    return found


def test_the_naive_protocol_shows_what_is_not_there():
    naive = rates(simulations=300, only="arms alike, 5 draws, 2000")
    assert naive["arms alike, 5 draws, 2000 items", "one run an arm, t test over items: false"].value > 0.3


def test_draws_of_one_pool_are_too_narrow_for_others_and_the_correction_is_not():
    found = rates(simulations=300, only="draws of 80 %, 2 seeds")
    narrow, wide = (
        found["other pools, draws of 80 %, 2 seeds", f"coverage over pools, analysed for {population}"].value
        for population in ("this pool", "pools like it")
    )
    assert narrow < 0.9 < wide


def test_the_table_is_the_same_for_any_number_of_workers():
    assert level_0(60, 1, "flat") == level_0(60, 2, "flat")


def test_a_world_has_the_scores_that_it_plants():
    world = World(
        {"random": 1.0, "a": 2.0}, shift={"a": 0.1}, draws=40, items=400, rest_sd=0.01, item_sd=0.01, shared_sd=0.0
    )
    rng = np.random.default_rng(0)
    found = results(world, rng)
    scores = (found.bits / found.size).mean(axis=(1, 2, 3))
    for (arm, budget), score in zip(found.cells, scores, strict=True):
        assert score - scores[0] == pytest.approx(world.truth(arm, budget) - world.truth("random", 64), abs=0.02)


def test_draws_of_a_pool_share_their_rows_and_disjoint_ones_none():
    rng = np.random.default_rng(0)
    overlapping, apart = Pools().results(rng).overlap, Pools(disjoint=True).results(rng).overlap
    assert overlapping is not None and apart is not None
    assert 0.05 < overlapping[0] < 0.15 and 0.6 < overlapping[1] < 0.85
    assert apart.tolist() == [0.0, 0.0]
