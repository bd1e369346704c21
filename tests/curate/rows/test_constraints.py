from __future__ import annotations

import itertools
import re

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tamis
from curate.contract import methods
from curate.contract.errors import ContractError, DataError, MethodError
from curate.rows import constraints
from curate.rows.constraints import Constraints
from curate.rows.groups import even
from curate.rows.pool import Pool
from curate.select import coverage, facility_location, greedy, random

TAKING = [name for name in methods.all_of("select") if "constraints" in methods.find("select", name).takes]
OPTIONS = {  # of selectors that cannot do without
    "rds": {"target": {"split": "target"}},
    "mig": {"labels": "task"},
    **{name: {"score": "score"} for name in ("deita", "car", "qdit", "top_score")},
}


def pool_of(n: int = 60, seed: int = 0, d: int = 6) -> Pool:
    rng = np.random.default_rng(seed)
    table = pl.DataFrame(
        {
            "id": [f"r{i:03d}" for i in range(n)],
            "source": [("alpaca", "dolly", "lima")[i % 3] for i in range(n)],
            "task": [f"t{i % 4}" for i in range(n)],
            "origin": [("a", "d", "l")[i % 3] for i in range(n)],
            "split": ["target" if i >= n - 3 else "train" for i in range(n)],
            "cluster": pl.Series([i % 5 - 1 for i in range(n)], dtype=pl.Int32),
            "prompt": ["word " * (1 + i % 7) for i in range(n)],
            "response": ["x" * (1 + (7 * i) % 11) for i in range(n)],
            "score": [((13 * i) % n) / n for i in range(n)],
        }
    )
    return Pool(table, rng.normal(size=(n, d)).astype(np.float32))


def choose(pool: Pool, method: str, budget, **options):
    return tamis.select(pool, method, budget=budget, seed=1, **OPTIONS.get(method, {}), **options)


# every selector that takes constraints


@pytest.mark.parametrize("method", TAKING)
def test_quotas_are_met_exactly_and_the_rest_goes_to_the_others(method):
    pool = pool_of()
    picks = choose(pool, method, 20, quotas={"source": {"alpaca": 3, "lima": 11}})
    assert dict(pool.table["source"][picks.index.tolist()].value_counts().iter_rows()) == {
        "alpaca": 3,
        "lima": 11,
        "dolly": 6,
    }


@pytest.mark.parametrize("method", TAKING)
def test_a_cap_holds_for_every_cluster_and_not_for_noise(method):
    pool = pool_of()
    picks = choose(pool, method, 18, at_most={"cluster": 2})
    got = np.bincount(pool.table["cluster"].to_numpy()[picks.index] + 1, minlength=5)
    assert (got[1:] <= 2).all() and got.sum() == 18 and got[0] == 18 - got[1:].sum()


@pytest.mark.parametrize("method", TAKING)
def test_rows_that_must_be_in_come_first_and_rows_that_must_not_never(method):
    pool = pool_of()
    picks = choose(pool, method, 15, must_have=["r006", "r042"], must_not_have={"source": "dolly"})
    ids = [pool.ids[row] for row in picks.index]
    assert set(ids[:2]) == {"r006", "r042"}
    assert "dolly" not in pool.table["source"][picks.index.tolist()]


@pytest.mark.parametrize("method", TAKING)
def test_a_budget_of_tokens_is_kept_and_nothing_that_fits_is_left_out(method):
    pool = pool_of()
    picks = choose(pool, method, {"tokens": 40})
    cost = np.array([len(p.split()) + len(r.split()) for p, r in pool.table.select("prompt", "response").rows()])
    spent = cost[picks.index].sum()
    left = np.setdiff1d(np.arange(len(pool) - (3 if method == "rds" else 0)), picks.index)
    assert spent <= 40 and picks.facts["tokens"] == spent
    assert (cost[left] > 40 - spent).all()


@pytest.mark.parametrize("method", TAKING)
def test_all_at_once(method):
    pool = pool_of()
    asked = {
        "quotas": {"source": {"lima": 4}},
        "at_most": {"task": 3},
        "must_have": ["r002"],
        "must_not_have": ["r005"],
    }
    picks = choose(pool, method, 12, **asked)
    rows = pool.table[picks.index.tolist()]
    assert rows.filter(pl.col("source") == "lima").height == 4
    assert rows["task"].value_counts()["count"].max() <= 3
    assert rows["id"][0] == "r002" and "r005" not in rows["id"]


# quotas


def quotas(pool: Pool, budget: int, share) -> dict[str, int]:
    picks = choose(pool, "random", budget, quotas={"source": share})
    counts = pool.table["source"][picks.index.tolist()].value_counts()
    return dict(sorted(counts.iter_rows()))


def test_quotas_can_be_shares_proportional_or_equal():
    pool = pool_of(60)
    pool = pool.take(np.flatnonzero((pool.table["source"] != "lima").to_numpy() | (np.arange(60) < 12)))  # 20, 20, 4
    assert quotas(pool, 22, {"dolly": 0.5, "lima": 0.1}) == {"alpaca": 9, "dolly": 11, "lima": 2}
    assert quotas(pool, 22, "proportional") == {"alpaca": 10, "dolly": 10, "lima": 2}
    assert quotas(pool, 22, "equal") == {"alpaca": 9, "dolly": 9, "lima": 4}


@given(st.lists(st.integers(0, 9), min_size=1, max_size=6), st.data())
@settings(max_examples=80, deadline=None)
def test_even_shares_make_the_budget_and_differ_by_one_unless_a_group_is_used_up(sizes, data):
    budget = data.draw(st.integers(0, sum(sizes)))
    given = even(np.array(sizes), budget)
    assert given.sum() == budget and (given <= sizes).all()
    free = [g for g, size in zip(given, sizes, strict=True) if g < size]
    assert not free or max(given) - min(free) <= 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"quotas": {"source": {"lima": 30}}}, "the quota of 30 rows for source lima cannot be met: the pool holds 20"),
        (
            {"quotas": {"source": {"limo": 3}}},
            "quotas name source 'limo', of which the pool has no row; it has alpaca, dolly, lima. Did you mean 'lima'?",
        ),
        (
            {"quotas": {"source": {"lima": 20, "dolly": 20}}},
            "the quotas of source make 40 rows, more than the budget of 30",
        ),
        ({"quotas": {"source": {"lima": 0.7, "dolly": 0.6}}}, "should lie between 0 and 1 and make at most 1 together"),
        ({"quotas": {"source": "propotional"}}, "Did you mean 'proportional'?"),
        ({"quotas": {"source": 5}}, "write them as {source: {value: rows}}"),
        ({"quotas": {"source": {"lima": -1}}}, "no number of 0 or more"),
        ({"quotas": {"sauce": {"lima": 1}}}, "needs the column `sauce`"),
        ({"at_most": {"task": 2}}, "at_most of task lets in 8 rows, fewer than the budget of 30"),
        ({"at_most": {"task": 0}}, "at_most of task is 0; it is a number of rows, 1 or more"),
        ({"must_have": ["r001", "nope"]}, "must_have names 'nope', which is no row of this pool (1 of 2 are missing)"),
        ({"must_have": ["r001"], "must_not_have": ["r001"]}, "row r001 is in must_have and in must_not_have"),
        ({"must_not_have": {"source": ["lima", "dolly"]}}, "20 of which are left by must_not_have"),
        ({"must_have": {"source": ["lima", "dolly"]}}, "must_have names 40 rows, more than the budget of 30"),
        (
            {"must_have": {"task": "t1"}, "at_most": {"task": 3}},
            "must_have names 15 rows of task t1, and at_most lets in 3",
        ),
        ({"quality": {"score": 1.2}}, "the weight of score is 1.2; it lies between 0 and 1"),
        ({"quality": {"score": 0.2, "task": 0.1}}, "quality names one column"),
        ({"quality": {"task": 0.2}}, "the column `task` holds String, and should hold numbers"),
    ],
)
def test_what_cannot_be_obeyed_is_one_sentence(options, said):
    with pytest.raises((DataError, MethodError, ContractError), match=re.escape(said)):
        choose(pool_of(), "facility_location", 30, **options)


def test_a_score_with_a_gap_names_the_first_row_without():
    pool = pool_of()
    table = pool.table.with_columns(pl.when(pl.col("id") == "r009").then(None).otherwise("score").alias("score"))
    with pytest.raises(ContractError, match=r"`score` has no number in 1 rows, the first is r009"):
        choose(Pool(table, pool.vectors), "facility_location", 5, quality={"score": 0.5})


def test_budgets_of_tokens_that_are_no_budgets():
    for budget, said in [({"token": 5}, "is written {tokens: 200000"), (-1, "0 or more"), (True, "number of rows")]:
        with pytest.raises(MethodError, match=re.escape(said)):
            choose(pool_of(), "random", budget)
    with pytest.raises(DataError, match="tokens, more than the 3 asked"):
        choose(pool_of(), "random", {"tokens": 3}, must_have=["r006", "r013"])
    with pytest.raises(MethodError, match="shares need a budget in rows"):
        choose(pool_of(), "random", {"tokens": 30}, quotas={"source": "equal"})


RANKING = {
    "random",
    "longest",
    "stratified",
    "homogeneous",
    "top_score",
    "temperature",
    "centroid",
    "car",
    "kmq",
    "deita",
    "d4",
}


@pytest.mark.parametrize("method", [name for name in TAKING if name not in ("qdit", "rds")])
def test_a_score_counts_in_everygreedy_selector_and_is_refused_by_the_others(method):
    pool = pool_of()
    if method in RANKING:
        with pytest.raises(MethodError, match="goes by a ranking, in which `quality` has no weight"):
            choose(pool, method, 10, quality={"score": 0.5})
        return
    score = pool.table["score"].to_numpy()
    assert set(score[choose(pool, method, 10, quality={"score": 1.0}).index]) == set(np.sort(score)[-10:])
    half = choose(pool, method, 10, quality={"score": 0.5})
    assert score[half.index].mean() > score[choose(pool, method, 10).index].mean()


def test_a_selector_of_ones_own_that_takes_no_constraints_says_so(tmp_path):
    (tmp_path / "methods" / "select").mkdir(parents=True)
    (tmp_path / "methods" / "select" / "mine.py").write_text(
        "import numpy as np\nfrom curate.rows.pool import Picks\n"
        "def select(pool, budget, *, seed: int = 0): return Picks(np.arange(budget), np.zeros(budget, np.float32))\n"
    )
    from curate.rows.pick import pick

    mine = methods.find("select", "mine", tmp_path)
    assert pick(mine, pool_of(), 3, {}, 0).index.tolist() == [0, 1, 2]
    with pytest.raises(MethodError, match="select mine takes no constraints, and was given at_most"):
        pick(mine, pool_of(), 3, {"at_most": {"task": 1}}, 0)


# the greedy optimiser against brute force


class Cover:
    """Weighted coverage of a set system: the plainest monotone submodular function."""

    def __init__(self, sets: np.ndarray, exact: bool):
        self.sets, self.exact, self.done = sets, exact, np.zeros(sets.shape[1], bool)
        self.gain = np.full(len(sets), np.inf) if not exact else self._gains(np.arange(len(sets)))

    def _gains(self, rows):
        return (self.sets[rows] * ~self.done).sum(axis=1).astype(np.float64)

    def refresh(self, rows, later):
        self.gain[rows] = self._gains(rows)

    def add(self, row):
        self.done |= self.sets[row] > 0
        if self.exact:
            self.gain = self._gains(np.arange(len(self.sets)))


def cover_value(sets: np.ndarray, picks) -> float:
    return float(sets[list(picks)].max(axis=0).sum()) if len(picks) else 0.0


@given(st.integers(0, 10_000), st.integers(1, 9))
@settings(max_examples=60, deadline=None)
def test_lazy_and_plaingreedy_make_the_same_picks(seed, budget):
    sets = np.random.default_rng(seed).integers(0, 2, (40, 12)).astype(float)
    wanted = Constraints.none(40, budget)
    lazy, plain = (greedy.greedy(lambda e=e: Cover(sets, e), wanted, label="") for e in (False, True))
    assert lazy.index.tolist() == plain.index.tolist() and lazy.gain.tolist() == plain.gain.tolist()


@pytest.mark.parametrize("front", [2, 5, 1024])
def test_the_size_of_the_front_changes_nothing(monkeypatch, front):
    sets = np.random.default_rng(3).random((200, 30)) * (np.random.default_rng(4).random((200, 30)) < 0.2)
    wanted = Constraints.none(200, 60)
    expected = greedy.greedy(lambda: Weighted(sets, True), wanted, label="").index.tolist()
    monkeypatch.setattr(greedy, "_FRONT", front)
    monkeypatch.setattr(greedy, "_BLOCK", 3)
    assert greedy.greedy(lambda: Weighted(sets, False), wanted, label="").index.tolist() == expected


class Weighted(Cover):
    """The sum over places of the largest value picked so far."""

    def __init__(self, sets, exact):
        self.most = np.zeros(sets.shape[1])
        super().__init__(sets, exact)

    def _gains(self, rows):
        return np.maximum(self.sets[rows] - self.most, 0).sum(axis=1)

    def add(self, row):
        self.most = np.maximum(self.most, self.sets[row])
        if self.exact:
            self.gain = self._gains(np.arange(len(self.sets)))


@given(st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_the_certificate_is_never_below_the_best_there_is(seed):
    rng = np.random.default_rng(seed)
    sets, k = rng.random((10, 6)), int(rng.integers(1, 6))
    picks = greedy.greedy(lambda: Weighted(sets, False), Constraints.none(10, k), label="", certify=True)
    best = max(cover_value(sets, picks) for picks in itertools.combinations(range(10), k))
    mine = picks.facts["certificate"]
    assert mine["value"] == pytest.approx(cover_value(sets, picks.index)) and mine["upper_bound"] >= best - 1e-9
    assert mine["value"] >= (1 - 1 / np.e) * best and mine["ratio"] == pytest.approx(
        mine["value"] / mine["upper_bound"]
    )


@given(st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_under_quotasgreedy_reaches_half_and_the_bound_holds(seed):
    rng = np.random.default_rng(seed)
    sets, code = rng.random((10, 6)), rng.integers(0, 3, 10).astype(np.int32)
    limit = rng.integers(0, 3, 3)
    group = constraints.Group("source", ("a", "b", "c"), code, limit, exact=True)
    wanted = Constraints(
        int(np.minimum(limit, np.bincount(code, minlength=3)).sum()), np.ones(10, bool), np.empty(0, int), (group,)
    )
    feasible = [
        picks
        for size in range(11)
        for picks in itertools.combinations(range(10), size)
        if (np.bincount(code[list(picks)], minlength=3) <= limit).all()
    ]
    best = max(cover_value(sets, picks) for picks in feasible)
    picks = greedy.greedy(lambda: Weighted(sets, False), wanted, label="", certify=True)
    assert tuple(sorted(picks.index.tolist())) in feasible and cover_value(sets, picks.index) >= best / 2
    assert not len(picks.index) or picks.facts["certificate"]["upper_bound"] >= best - 1e-9


@given(st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_under_a_budget_of_tokensgreedy_reaches_its_share_and_the_bound_holds(seed):
    rng = np.random.default_rng(seed)
    sets, cost, tokens = rng.random((10, 6)) ** 3, rng.integers(1, 9, 10).astype(float), 12
    wanted = Constraints(10, np.ones(10, bool), np.empty(0, int), cost=cost, tokens=tokens)
    every = (picks for size in range(11) for picks in itertools.combinations(range(10), size))
    best = max(cover_value(sets, picks) for picks in every if cost[list(picks)].sum() <= tokens)
    picks = greedy.greedy(lambda: Weighted(sets, False), wanted, label="", certify=True)
    mine = cover_value(sets, picks.index)
    assert cost[picks.index].sum() <= tokens and mine >= (1 - 1 / np.e) / 2 * best
    assert picks.facts["certificate"]["upper_bound"] >= best - 1e-9


def test_a_token_budget_takes_the_better_of_two_runs():
    sets = np.zeros((3, 10))
    sets[0, 0], sets[1] = 1, 0.9  # one place for one token, or all for ten
    cost = np.array([1.0, 10, 5])
    wanted = Constraints(3, np.ones(3, bool), np.empty(0, int), cost=cost, tokens=10)
    assert greedy.greedy(lambda: Weighted(sets, False), wanted, label="", certify=True).index.tolist() == [1]
    sets[1] = 0.09
    assert greedy.greedy(lambda: Weighted(sets, False), wanted, label="", certify=True).index.tolist()[0] == 0


@given(st.integers(0, 10_000), st.sampled_from([0.0, 0.25, 0.5, 1.0]))
@settings(max_examples=40, deadline=None)
def test_quality_is_added_on_one_scale(seed, weight):
    rng = np.random.default_rng(seed)
    sets, quality = rng.random((20, 6)), rng.random(20)
    wanted = Constraints(6, np.ones(20, bool), np.empty(0, int), quality=quality, weight=weight)
    chosen = greedy.greedy(lambda: Weighted(sets, False), wanted, label="", certify=True)
    scale, most, picks = sets.sum(axis=1).max(), np.zeros(6), []
    for _ in range(6):
        score = (1 - weight) * np.maximum(sets - most, 0).sum(axis=1) / scale + weight * quality
        score[picks] = -1
        picks.append(int(score.argmax()))
        most = np.maximum(most, sets[picks[-1]])
    assert chosen.index.tolist() == picks
    if weight == 1:
        assert picks == np.argsort(-quality)[:6].tolist()


def test_samples_give_the_plain_choice_where_they_hold_all_rows():
    sets = np.random.default_rng(0).random((30, 8))
    wanted = Constraints.none(30, 5)
    plain = greedy.greedy(lambda: Weighted(sets, True), wanted, label="")
    order = np.random.default_rng(1).permutation(30)
    sampled = greedy.greedy(lambda: Weighted(sets, False), wanted, label="", samples=order, epsilon=1e-9)
    assert sampled.index.tolist() == plain.index.tolist()
    few = greedy.greedy(lambda: Weighted(sets, False), wanted, label="", samples=order, epsilon=0.5)
    assert len(set(few.index.tolist())) == 5 and few.index.tolist() != plain.index.tolist()


# facility location on a graph, on samples, in parts


def clustered(n: int, seed: int = 0, d: int = 8) -> Pool:
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(12, d))
    vectors = centres[rng.integers(0, 12, n)] + 0.4 * rng.normal(size=(n, d))
    return Pool(pl.DataFrame({"id": [f"r{i:04d}" for i in range(n)]}), vectors.astype(np.float32))


def full_value(pool: Pool, index: np.ndarray) -> float:
    unit = pool.vectors / np.linalg.norm(pool.vectors, axis=1, keepdims=True)
    return float(np.maximum((unit @ unit[index].T).max(axis=1), 0).mean())


def test_a_graph_of_all_rows_is_the_exact_choice_and_few_neighbours_come_near():
    pool = clustered(400)
    exact = facility_location.select(pool, 40)
    from curate.vectors.unit import unit_by_id

    _, vectors = unit_by_id(pool, "test")
    cosine = vectors @ vectors.T
    index = np.argsort(-cosine, axis=1, kind="stable").astype(np.int32)
    graph = coverage.GraphCoverage(index, np.take_along_axis(cosine, index, axis=1))
    whole = greedy.greedy(graph.fresh, Constraints.none(400, 40), label="", tie=1e-6 + 3e-8 * 400)
    assert whole.index.tolist() == exact.index.tolist()
    sparse = facility_location.select(pool, 40, neighbours=20)
    assert full_value(pool, sparse.index) >= 0.99 * full_value(pool, exact.index)


def test_the_facts_of_a_sparse_choice_are_true():
    pool = clustered(500)
    picks = facility_location.select(pool, 30, neighbours=20, seed=3)
    facts = picks.facts
    assert facts["full_objective"] == pytest.approx(full_value(pool, picks.index), abs=1e-5)
    assert facts["full_objective_of_random"] == pytest.approx(
        full_value(pool, random.select(pool, 30, seed=3).index), abs=1e-5
    )
    unit = pool.vectors / np.linalg.norm(pool.vectors, axis=1, keepdims=True)
    cosine = unit @ unit.T
    near, order = np.zeros((500, 500), bool), np.argsort(-cosine, axis=1)
    np.put_along_axis(near, order[:, :20], True, axis=1)
    base = 0.8 * np.take_along_axis(cosine, order[:, 19:20], axis=1)[:, 0].clip(0)
    seen = np.maximum(np.where(near[:, picks.index], cosine[:, picks.index], 0).max(axis=1), base)
    assert facts["covered"] == pytest.approx(near[:, picks.index].any(axis=1).mean()) and facts["recall"] == 1
    assert 0 < facts["sparse_ratio"] < 1  # what it is stands in tests/curate/select/test_select_graph.py
    assert facts["graph_certificate"]["value"] == pytest.approx((seen - base).sum(), abs=1e-2)


def test_samples_and_parts_come_near_the_exact_choice_and_are_exact_in_budget():
    pool = clustered(600)
    exact = full_value(pool, facility_location.select(pool, 30).index)
    for options in ({"epsilon": 0.01}, {"partitions": 4}, {"partitions": 16}, {"partitions": 3, "neighbours": 50}):
        picks = facility_location.select(pool, 30, **options)
        assert len(set(picks.index.tolist())) == 30
        assert full_value(pool, picks.index) >= 0.95 * exact, options
        shuffled = pool.take(np.random.default_rng(5).permutation(len(pool)))
        again = facility_location.select(shuffled, 30, **options)
        assert [shuffled.ids[row] for row in again.index] == [pool.ids[row] for row in picks.index]
    one = facility_location.select(pool, 30, partitions=1)
    assert one.index.tolist() == facility_location.select(pool, 30).index.tolist()


def test_parts_obey_constraints_too():
    pool = pool_of(90)
    picks = choose(pool, "facility_location", 20, partitions=4, quotas={"source": {"lima": 12}}, must_have=["r001"])
    rows = pool.table[picks.index.tolist()]
    assert rows.filter(pl.col("source") == "lima").height == 12 and "r001" in rows["id"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"neighbours": 1}, "neighbours is 1; it is 2 or more"),
        ({"epsilon": 1.0}, "epsilon is 1.0; it lies between 0 and 1"),
        ({"partitions": 0}, "partitions is 0; it is 1 or more"),
    ],
)
def test_options_of_facility_location_that_make_no_sense(options, said):
    with pytest.raises(MethodError, match=re.escape(said)):
        facility_location.select(pool_of(), 3, **options)


def test_facility_location_makes_the_picks_of_submodlib():
    submodlib = pytest.importorskip("submodlib")
    pool = clustered(800, d=32)
    unit = pool.vectors / np.linalg.norm(pool.vectors, axis=1, keepdims=True)
    kernel = np.maximum(unit @ unit.T, 0)
    function = submodlib.FacilityLocationFunction(n=800, mode="dense", sijs=kernel, separate_rep=False)
    theirs = function.maximize(
        budget=80, optimizer="LazyGreedy", stopIfZeroGain=False, stopIfNegativeGain=False, show_progress=False
    )
    covered, mine = np.zeros(800), facility_location.select(pool, 80).index.tolist()
    for row, (other, _) in zip(mine, theirs, strict=True):
        gains = np.sort(np.maximum(kernel.astype(np.float64) - covered[:, None], 0).sum(axis=0))
        if gains[-1] - gains[-2] < 1e-6:
            break
        assert row == other
        covered = np.maximum(covered, kernel[:, row])


# what a review found


def test_rows_without_a_value_are_a_group_of_shared_quotas():
    table = pl.DataFrame({"id": [f"{i:02d}" for i in range(60)], "topic": ["a"] * 30 + ["b"] * 10 + [None] * 20})
    for share, wanted in (("proportional", [23, 7, 15]), ("equal", [18, 10, 17])):
        picks = choose(Pool(table), "random", 45, quotas={"topic": share})
        got = dict(table["topic"].fill_null("none")[picks.index.tolist()].value_counts().iter_rows())
        assert [got["a"], got["b"], got["none"]] == wanted, share


@pytest.mark.parametrize(
    ("said", "index"),
    [
        ("gave a row twice", [1, 1, 2]),
        ("gave a row twice, or one that is not in the pool", [1, 2, 99]),
        ("gave a row of must_not_have", [2, 3, 5]),
        ("left out one of must_have", [1, 2, 4]),
        (r"did not obey at_most of source \(alpaca: 3 for 2\)", [3, 0, 6]),
        ("gave 2 rows for a budget of 3", [3, 1]),
        ("gave 4 rows for a budget of 3", [3, 1, 2, 4]),
    ],
)
def test_a_selector_that_does_not_obey_is_named(said, index):
    wanted = constraints.build("mine", pool_of(), 3, must_have=["r003"], must_not_have=["r005"], at_most={"source": 2})
    if "2 rows" in said:
        wanted = constraints.build("mine", pool_of(), 3)
    with pytest.raises(DataError, match=f"{said}.*this is a defect of mine.py"):
        constraints.check("mine", wanted, np.array(index), "mine.py")


def test_whether_prefixes_are_smaller_selections_stands_in_the_facts():
    pool = pool_of()
    for method, budget, options, nested in (
        ("facility_location", 9, {}, True),
        ("facility_location", 9, {"epsilon": 0.5}, False),
        ("facility_location", 9, {"partitions": 2}, False),
        ("facility_location", 9, {"quotas": {"source": "equal"}}, False),
        ("facility_location", {"tokens": 30}, {}, False),
        ("centroid", 9, {}, False),
        ("centroid", 9, {"k": 4}, True),
    ):
        facts = choose(pool, method, budget, **options).facts
        assert facts.get("nested", True) is nested, (method, options)


def test_under_equal_costs_the_choice_by_token_is_the_choice_by_gain():
    pool = clustered(300)
    plain = facility_location.select(pool, 20).index.tolist()
    order = np.argsort(pool.ids, kind="stable")
    for cost in (1.0, 4_000.0, 200_000.0):
        wanted = Constraints(300, np.ones(300, bool), np.empty(0, int), cost=np.full(300, cost), tokens=int(20 * cost))
        runs = [
            greedy.Pass(_coverage_of(pool), wanted.ordered(order), "", 1e-5, by_token=by_token).run().picks
            for by_token in (False, True)
        ]
        assert runs[0] == runs[1] == plain, cost


def _coverage_of(pool: Pool):
    from curate.vectors.unit import unit_by_id

    return coverage.Coverage(unit_by_id(pool, "test")[1])


def test_quality_stands_on_one_scale_with_and_without_a_matrix_of_all_pairs(monkeypatch):
    pool = pool_of(120)
    expected = choose(pool, "facility_location", 12, quality={"score": 0.4}).index.tolist()
    monkeypatch.setattr(coverage, "_KEPT_BYTES", 8 * 1000)
    assert choose(pool, "facility_location", 12, quality={"score": 0.4}).index.tolist() == expected


def test_more_parts_than_rows_and_empty_parts_are_fine():
    for n, budget, parts in ((3, 2, 3), (40, 5, 20), (10, 0, 2), (5, 5, 9)):
        assert len(set(facility_location.select(pool_of(n), budget, partitions=parts).index.tolist())) == budget


def test_values_that_are_missing_null_or_true():
    pool = pool_of()
    some = pl.when(pl.col("source") != "lima").then("source").alias("origin")
    table = pool.table.with_columns(some, (pl.col("task") == "t1").alias("first"))
    with pytest.raises(DataError, match=r"must_have names \{'source': 'limo'\}, and no row of this pool is so"):
        choose(pool, "random", 30, must_have={"source": "limo"})
    picks = choose(Pool(table), "random", 40, must_not_have={"origin": None})
    assert "lima" not in table["source"][picks.index.tolist()]
    picks = choose(Pool(table), "random", 20, must_have={"first": True})
    assert table["first"][picks.index.tolist()].sum() == 15
    lists = pool.table.with_columns(pl.concat_list("source").alias("source"))
    for options in ({"quotas": {"source": "equal"}}, {"must_have": {"source": "lima"}}):
        with pytest.raises(ContractError, match=r"groups rows by the values of `source`, and that column holds List"):
            choose(Pool(lists), "random", 5, **options)


def test_what_python_users_get_wrong_is_one_sentence():
    pool = pool_of()
    for said, options in (
        ("needs 'score' (str)", {"method": "car"}),
        ("'quotas' is 'source', and should be", {"method": "random", "quotas": "source"}),
        ("'at_most' is {'source': '2'}", {"method": "random", "at_most": {"source": "2"}}),
        ("'outliers' is 'x', and should be float", {"method": "k_center", "outliers": "x"}),
        ("no option 'quota'. Did you mean 'quotas'?", {"method": "random", "quota": 3}),
    ):
        with pytest.raises(MethodError, match=re.escape(said)):
            tamis.select(pool, options.pop("method"), budget=3, **options)
    assert len(tamis.select(pool, "random", budget=np.int64(3)).index) == 3
    for said, arguments in (
        ("a column `id` of texts", (pool.table.drop("id"),)),
        ("has 1 values twice", (pl.DataFrame({"id": ["a", "a"]}),)),
        ("a numpy array (60 rows, dimensions), and here (3, 2)", (pool.table, np.zeros((3, 2)))),
    ):
        with pytest.raises(ContractError, match=re.escape(said)):
            tamis.pool(*arguments)
    assert len(tamis.pool(pool.table, pool.vectors)) == 60
