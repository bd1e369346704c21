"""Facility location where not all pairs are looked at: the graph follows the budget, and its facts are true."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest

import tamis
from curate.rows.pool import Pool
from curate.select import facility_location, random
from curate.stages import select as stage
from curate.vectors import neighbours


def pool_of(n: int = 3_000, seed: int = 0, d: int = 24) -> Pool:
    """Clusters of clusters, some large and some small, as texts are."""
    rng = np.random.default_rng(seed)
    coarse = rng.normal(size=(25, d))
    fine = coarse[rng.integers(0, 25, 300)] + 0.6 * rng.normal(size=(300, d))
    weight = 1 / np.arange(1, 301)
    vectors = fine[rng.choice(300, n, p=weight / weight.sum())] + 0.5 * rng.normal(size=(n, d))
    table = pl.DataFrame(
        {"id": [f"r{i:05d}" for i in range(n)], "source": ["rare" if i < 9 else "often" for i in range(n)]}
    )
    return Pool(table.with_columns(score=pl.Series(rng.random(n))), vectors.astype(np.float32))


def nearest(pool: Pool, rows: np.ndarray | slice, picks: np.ndarray) -> np.ndarray:
    unit = pool.vectors / np.linalg.norm(pool.vectors, axis=1, keepdims=True)
    return np.maximum((unit[rows] @ unit[picks].T).max(axis=1), 0)


def value(pool: Pool, picks: np.ndarray) -> float:
    return float(nearest(pool, slice(None), picks).mean())


@pytest.fixture
def large(monkeypatch) -> None:
    """A few hundred rows are many."""
    monkeypatch.setattr(facility_location, "EXACT", 300)
    monkeypatch.setattr(facility_location, "_FEW_ROWS", 1_000)


@pytest.mark.parametrize("search", ["exact", "lists"])
@pytest.mark.parametrize("budget", [1, 5, 20, 40, 300])
def test_what_follows_the_budget_has_nearly_all_of_the_exact_gain_over_random(budget, search, large, monkeypatch):
    if search == "lists":
        monkeypatch.setitem(neighbours.graph.__kwdefaults__, "exact_below", 0)
    pool = pool_of()
    exact = value(pool, facility_location.select(pool, budget, neighbours=0).index)
    at_random = np.mean([value(pool, random.select(pool, budget, seed=seed).index) for seed in range(20)])
    picks = facility_location.select(pool, budget)
    share = (value(pool, picks.index) - at_random) / (exact - at_random)
    assert share > 0.95 and len(set(picks.index.tolist())) == budget
    assert picks.facts["nested"] is False and picks.facts.get("covered", 1) > 0.5
    if budget == 20:
        sixteen = facility_location.select(pool, budget, neighbours=16)
        assert (value(pool, sixteen.index) - at_random) / (exact - at_random) < 0.9 and sixteen.facts["covered"] < 0.5
        assert "nested" not in sixteen.facts and "counted_rows" not in sixteen.facts


def test_how_many_neighbours_of_how_many_rows_follows_from_the_budget_alone(large):
    pool = pool_of()
    for budget, size in ((1, (None, 1_000)), (20, (75, 2_000)), (30, (25, None)), (500, (16, None))):
        facts = facility_location.select(pool, budget).facts
        assert (facts.get("graph_neighbours"), facts.get("counted_rows")) == size
    table = pool.table.with_columns(prompt=pl.lit("a b"), response=pl.lit(""))
    tokens = tamis.select(Pool(table, pool.vectors), budget={"tokens": 40}).facts
    assert (tokens["graph_neighbours"], tokens["counted_rows"]) == (75, 2_000)


def test_a_choice_on_drawn_rows_says_what_it_is_worth_on_them_as_if_all_were_counted(large):
    pool = pool_of(2_000)
    picks = facility_location.select(pool, 6, seed=4)
    rows = facility_location._drawn(pool.ids, 1_000, 4, "select.counted")
    counted = 2 * nearest(pool, rows, picks.index).sum()
    proof = picks.facts["drawn_certificate"]
    assert proof["value"] == pytest.approx(counted, rel=1e-4) and picks.gain.sum() == pytest.approx(counted, rel=1e-4)
    best = max(2 * nearest(pool, rows, np.array([row])).sum() for row in range(0, 2_000, 7))
    assert best <= proof["upper_bound"] and picks.gain[0] >= best - 1e-2
    assert not {"certificate", "graph_certificate", "covered", "sparse_ratio"} & set(picks.facts)
    assert picks.facts["full_objective"] == pytest.approx(value(pool, picks.index), abs=1e-5)


def test_the_facts_of_a_graph_on_drawn_rows_are_true(large, monkeypatch):
    monkeypatch.setattr(facility_location, "_FEW", 2)
    pool = pool_of(1_500)
    picks = facility_location.select(pool, 8, seed=3)
    facts = picks.facts
    assert (facts["graph_neighbours"], facts["counted_rows"], facts["recall"]) == (94, 800, 1.0)
    rows = facility_location._drawn(pool.ids, 800, 3, "select.counted")
    unit = pool.vectors / np.linalg.norm(pool.vectors, axis=1, keepdims=True)
    cosine = unit[rows] @ unit.T
    least = np.sort(cosine, axis=1)[:, -94]
    near = np.where(cosine[:, picks.index] >= least[:, None] - 1e-6, cosine[:, picks.index], 0).max(axis=1)
    assert facts["covered"] == pytest.approx((near > 0).mean())
    assert facts["sparse_ratio"] == pytest.approx(near.sum() / nearest(pool, rows, picks.index).sum(), abs=1e-5)
    background = 0.8 * least.clip(0)
    counted = (np.maximum(near, background) - background).sum() * 1_500 / 800
    proof = facts["graph_certificate"]
    assert proof["value"] == pytest.approx(counted, rel=1e-4) and picks.gain.sum() == pytest.approx(counted, rel=1e-4)
    assert proof["upper_bound"] >= proof["value"] and proof["ratio"] == pytest.approx(
        proof["value"] / proof["upper_bound"]
    )
    measured = set(facility_location._drawn(pool.ids, 800, 3).tolist())
    assert len(measured & set(rows.tolist())) < 500  # the full objective is measured on other rows


def test_what_the_graph_sees_of_the_full_objective_lies_between_0_and_1_and_grows_with_its_neighbours():
    for seed in range(3):
        pool, seen = pool_of(400, seed), []
        for many in (2, 5, 30, 150, 399):
            facts = facility_location.select(pool, 12, neighbours=many, seed=seed).facts
            assert 0 <= facts["covered"] <= 1 and 0 <= facts["sparse_ratio"] <= 1
            seen.append(facts["sparse_ratio"])
        assert seen == sorted(seen) and seen[0] < 0.4 and seen[-1] > 0.999


def test_drawn_rows_hang_on_ids_and_seed_and_not_on_the_order_of_the_pool(large):
    pool = pool_of(2_500)
    shuffled = pool.take(np.random.default_rng(5).permutation(len(pool)))
    for budget in (3, 22):
        picks, again = (facility_location.select(one, budget, seed=2) for one in (pool, shuffled))
        assert [pool.ids[row] for row in picks.index] == [shuffled.ids[row] for row in again.index]
        assert picks.gain.tolist() == again.gain.tolist() and picks.facts == again.facts
        assert picks.facts["counted_rows"] < 2_500


def test_rows_that_no_drawn_row_counts_can_be_picked_where_constraints_want_them(large, monkeypatch):
    pool = pool_of()
    table = pool.table.with_columns(source=pl.when(pl.col("id") > "r02990").then(pl.lit("last")).otherwise("source"))
    monkeypatch.setattr(facility_location, "_FEW", 2)
    for options in ({"quotas": {"source": {"last": 4}}}, {"must_have": ["r00007"]}, {"at_most": {"source": 2}}):
        picks = tamis.select(Pool(table, pool.vectors), budget=5, **options)
        rows = table[picks.index.tolist()]
        assert rows.height == 5 and picks.facts["counted_rows"] == 500
        if "quotas" in options:
            assert rows.filter(pl.col("source") == "last").height == 4
        if "at_most" in options:
            assert rows["source"].value_counts()["count"].max() == 2


def test_a_score_beside_drawn_rows_weighs_as_much_as_beside_all(large):
    pool = pool_of(1_500)
    half, alone = (tamis.select(pool, budget=8, quality={"score": weight}) for weight in (0.5, 1.0))
    score = pool.table["score"].to_numpy()
    assert sorted(score[alone.index]) == sorted(np.sort(score)[-8:])
    assert score[half.index].mean() > 0.7 and half.gain.max() <= 1 + 1e-6


def test_a_graph_on_which_most_rows_have_no_pick_says_so():
    pool, step = pool_of(800), SimpleNamespace(name="select")
    for many, wanted in ((4, True), (200, False)):
        facts = facility_location.select(pool, 6, neighbours=many).facts
        said = [line for line in stage.says(step, facts) if "leave `neighbours` out" in line]
        assert bool(said) is wanted and facts["covered"] < 0.5 if wanted else not said
        assert not said or said[0].startswith(
            f"select: only {facts['covered']:.0%} of the rows have a pick among their 4 neighbours"
        )
