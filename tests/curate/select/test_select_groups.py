from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.cluster import kmeans
from curate.contract.errors import ContractError, MethodError
from curate.rows import constraints
from curate.rows.pool import Clusters, Picks, Pool
from curate.select import car, centroid, clusters, d4, deita, kmq, temperature, top_score
from curate.vectors.unit import unit as unit_vectors

EVERY = {
    top_score: {"score": "quality"},
    temperature: {"by": "source"},
    centroid: {},
    car: {"score": "quality"},
    kmq: {"score": "quality", "k": 7},
    deita: {"score": "quality", "threshold": 0.5},
    d4: {},
}
WITH_VECTORS = [centroid, car, kmq, deita, d4]
NAMES = [method.__name__.rsplit(".", 1)[-1] for method in EVERY]
every = pytest.mark.parametrize("method", EVERY, ids=NAMES)


def pool_of(vectors: np.ndarray, quality=None, sources: Sequence[str | None] | None = None) -> Pool:
    n = len(vectors)
    table = pl.DataFrame(
        {
            "id": [f"id{i:04d}" for i in range(n)],
            "source": pl.Series(sources or ["a"] * n, dtype=pl.String),
            "prompt": ["a b c"[: 1 + 2 * (i % 3)] for i in range(n)],
            "quality": pl.Series(
                quality if quality is not None else [(7 * i) % 11 for i in range(n)], dtype=pl.Float64
            ),
        }
    )
    return Pool(table, np.asarray(vectors, dtype=np.float32))


def random_pool(n: int = 60, d: int = 8, seed: int = 0) -> Pool:
    rng = np.random.default_rng(seed)
    return pool_of(rng.normal(size=(n, d)), sources=[("a", "b", "c", None)[i % 7 % 4] for i in range(n)])


def select(method, pool: Pool, budget: int, **options) -> Picks:
    return method.select(pool, budget, **EVERY[method] | options)


def under(method, pool: Pool, budget: int | dict, **wanted) -> Picks:
    """A selection under constraints, as a recipe makes it."""
    bound = constraints.build("test", pool, budget, **wanted)
    picks = select(method, pool, bound.budget, seed=1, constraints=bound)
    constraints.check("test", bound, picks.index, "its file")
    return picks


def ids(pool: Pool, picks: Picks) -> list[str]:
    return [pool.ids[row] for row in picks.index]


def cosines(vectors: np.ndarray) -> np.ndarray:
    vectors = vectors.astype(np.float64)
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors = vectors / np.where(length > 0, length, 1)
    return vectors @ vectors.T


# every selector


@every
def test_every_selector_gives_exactly_its_budget_of_different_rows(method):
    pool = random_pool()
    for budget in (0, 1, 2, 17, len(pool)):
        picks = select(method, pool, budget, seed=1)
        assert picks.index.dtype == np.int64 and picks.gain.dtype == np.float32
        assert len(picks.index) == len(picks.gain) == len(set(picks.index.tolist())) == budget


@every
def test_every_prefix_of_a_selection_is_the_smaller_selection(method):
    pool = random_pool()
    options = {"k": 5} if method is centroid else {}
    whole = select(method, pool, len(pool), seed=2, **options)
    for budget in (1, 5, 33):
        part = select(method, pool, budget, seed=2, **options)
        assert part.index.tolist() == whole.index[:budget].tolist()
        np.testing.assert_array_equal(part.gain, whole.gain[:budget])


@every
def test_the_order_of_the_pool_changes_nothing(method):
    pool = random_pool()
    shuffled = pool.take(np.random.default_rng(5).permutation(len(pool)))
    one, other = select(method, pool, 30, seed=3), select(method, shuffled, 30, seed=3)
    assert ids(shuffled, other) == ids(pool, one)
    np.testing.assert_array_equal(other.gain, one.gain)
    assert other.facts == one.facts


@every
def test_an_empty_pool_gives_no_picks(method):
    assert len(select(method, random_pool().take(np.array([], dtype=np.int64)), 0).index) == 0


@every
def test_a_pool_of_one_row_gives_that_row(method):
    assert select(method, random_pool(1), 1).index.tolist() == [0]


@every
def test_facts_are_plain_numbers(method):
    assert all(type(value) in (int, float, bool) for value in select(method, random_pool(), 9).facts.values())


@every
def test_quotas_are_met_exactly(method):
    pool = random_pool()
    picks = under(method, pool, 20, quotas={"source": {"a": 3, "b": 9}})
    sources = pool.table["source"].gather(picks.index).to_list()
    assert len(sources) == 20 and sources.count("a") == 3 and sources.count("b") == 9


@every
def test_caps_hold_and_the_budget_is_still_full(method):
    pool = random_pool()
    picks = under(method, pool, 20, at_most={"source": 4})
    counts = pool.table[picks.index.tolist()]["source"].drop_nulls().value_counts()["count"]
    assert len(picks.index) == 20 and counts.max() <= 4


@every
def test_rows_that_must_be_in_come_first_and_others_that_must_not_never(method):
    pool = random_pool()
    picks = under(method, pool, 20, must_have=["id0009", "id0041"], must_not_have={"source": ["b"]})
    assert len(picks.index) == len(set(picks.index.tolist())) == 20
    assert set(ids(pool, picks)[:2]) == {"id0009", "id0041"}
    assert "b" not in pool.table["source"].gather(picks.index).to_list()


@every
def test_a_budget_of_tokens_is_never_passed(method):
    pool = random_pool()
    picks = under(method, pool, {"tokens": 31, "tokenizer": "words"})
    cost = np.array([1 + i % 3 for i in range(60)])
    assert 29 <= cost[picks.index].sum() <= 31


@every
def test_copies_and_rows_of_zeros_are_defined(method):
    vectors = np.repeat(np.random.default_rng(1).normal(size=(10, 4)), 3, axis=0)
    vectors[[0, 15, 16]] = 0
    pool = pool_of(vectors)
    assert sorted(select(method, pool, 30).index.tolist()) == list(range(30))
    assert len(set(select(method, pool, 12).index.tolist())) == 12
    zeros = pool_of(np.zeros((9, 4)))
    assert sorted(select(method, zeros, 9).index.tolist()) == list(range(9))


@pytest.mark.parametrize("method", WITH_VECTORS)
def test_a_selector_of_vectors_says_that_there_are_none(method):
    with pytest.raises(ContractError, match="needs vectors; add an `embed` step"):
        select(method, Pool(random_pool().table), 3)


@pytest.mark.parametrize("method", WITH_VECTORS)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_vector_that_is_not_finite_is_one_sentence(method, value):
    pool = random_pool()
    pool.need_vectors("test")[7, 3] = value
    with pytest.raises(ContractError, match="row 7 of 60 holds NaN or infinity"):
        select(method, pool, 3)


@pytest.mark.parametrize("method", WITH_VECTORS)
def test_vectors_that_do_not_belong_to_the_rows_are_one_sentence(method):
    pool = random_pool()
    with pytest.raises(ContractError, match="was given 59 vectors for 60 rows"):
        select(method, Pool(pool.table, pool.need_vectors("test")[:59]), 3)


@pytest.mark.parametrize("method", [top_score, car, kmq, deita])
def test_a_row_without_a_score_is_one_sentence(method):
    for value in (None, float("nan")):
        quality = [1.0] * 5 + [value] + [2.0] * 4
        with pytest.raises(ContractError, match="`quality` has no number in 1 rows, the first is id0005"):
            select(method, pool_of(np.ones((10, 2)), quality), 3)


@pytest.mark.parametrize(
    ("method", "options", "said"),
    [
        (temperature, {"temperature": 0.0}, "above 0"),
        (temperature, {"temperature": float("nan")}, "above 0"),
        (temperature, {"cap": 0}, "1 or more"),
        (centroid, {"k": 0}, "1 or more"),
        (car, {"per_cluster": 0}, "1 or more"),
        (car, {"k": 0}, "1 or more"),
        (kmq, {"k": 0}, "1 or more"),
        (deita, {"threshold": 1.5}, "between -1 and 1"),
        (deita, {"threshold": float("nan")}, "between -1 and 1"),
        (d4, {"dedup": 0.0}, "above 0 and at most 1"),
        (d4, {"k": 0}, "1 or more"),
    ],
)
def test_an_option_out_of_range_is_one_sentence(method, options, said):
    with pytest.raises(MethodError, match=said):
        select(method, random_pool(), 3, **options)


# top_score


def test_top_score_takes_the_largest_and_ties_go_by_id():
    picks = select(top_score, pool_of(np.ones((5, 2)), [1, 3, -2, 3, 2]), 4)
    assert picks.index.tolist() == [1, 3, 4, 0] and picks.gain.tolist() == [3, 3, 2, 1]


# temperature


def rows_of_groups(sizes: list[int], budget: int, **options) -> list[int]:
    """How many rows each group gives."""
    names = [f"s{i}" for i, size in enumerate(sizes) for _ in range(size)]
    pool = pool_of(np.ones((len(names), 1)), sources=names)
    picked = pool.table["source"].gather(select(temperature, pool, budget, **options).index).to_list()
    return [picked.count(f"s{i}") for i in range(len(sizes))]


def shares_by_hand(sizes: np.ndarray, weights: np.ndarray, budget: int) -> np.ndarray:
    """Water-filling without rounding: min(size, level * weight), with the level that makes the budget."""
    low, high = 0.0, budget / weights.min() + sizes.max() / weights.min()
    for _ in range(200):
        level = (low + high) / 2
        low, high = (level, high) if np.minimum(sizes, level * weights).sum() < budget else (low, level)
    return np.minimum(sizes, high * weights)


def test_temperature_one_is_proportional_and_infinity_is_equal():
    assert rows_of_groups([100, 40, 20], 80, temperature=1) == [50, 20, 10]
    assert rows_of_groups([100, 40, 20], 30, temperature=float("inf")) == [10, 10, 10]
    assert rows_of_groups([100, 40, 20], 30, temperature=1e9) == [10, 10, 10]
    assert rows_of_groups([80, 40, 5], 17, temperature=1e-3) == [17, 0, 0]


def test_temperature_three_takes_cube_roots():
    assert rows_of_groups([1000, 125, 8], 34, temperature=3) == [20, 10, 4]


def test_a_cap_is_that_of_the_weight_and_not_of_the_rows():
    assert rows_of_groups([300, 100, 50], 50, temperature=1, cap=100) == [20, 20, 10]
    assert rows_of_groups([300, 100, 50], 400, temperature=1, cap=100) == [250, 100, 50]


@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=6),
    st.floats(0.5, 50),
    st.integers(0, 10**6),
)
@settings(max_examples=80, deadline=None)
def test_groups_that_are_used_up_leave_their_share_to_the_others(sizes, hot, part):
    budget = 1 + part % sum(sizes)
    sizes, weights = np.array(sizes), np.array(sizes) ** (1 / hot)
    got = np.array(rows_of_groups(sizes.tolist(), budget, temperature=hot))
    assert got.sum() == budget and (got <= sizes).all()
    reached = (got[got > 0] - 0.5) / weights[got > 0]  # the level at which the last row of a group came
    to_come = (got[got < sizes] + 0.5) / weights[got < sizes]  # and at which its next one would
    assert reached.max() <= to_come.min(initial=np.inf) * (1 + 1e-12)
    shares = shares_by_hand(sizes, weights, budget)
    assert (np.abs(got - shares) < 1 + len(sizes) / 2).all()


def test_the_rounding_of_temperature_favours_neither_large_nor_small_groups():
    assert rows_of_groups([60, 14, 14, 12], 10, temperature=1) == [6, 2, 1, 1]


def test_the_facts_of_temperature_count_what_small_groups_could_not_give():
    names = ["a"] * 90 + ["b"] * 4
    picks = select(temperature, pool_of(np.ones((94, 1)), sources=names), 40, temperature=float("inf"))
    assert picks.facts == {"groups": 2, "refilled": 16}


def test_inside_a_group_every_row_comes_equally_often():
    pool = pool_of(np.ones((25, 1)), sources=["a"] * 20 + ["b"] * 5)
    first = [pool.ids[select(temperature, pool, 1, seed=seed).index[0]] for seed in range(2000)]
    counts = np.unique(first, return_counts=True)[1]
    assert len(counts) == 20 and ((counts - 100) ** 2 / 100).sum() < 43.8  # chi-square, 19 degrees, 1 in 1,000


def test_temperature_needs_its_column():
    with pytest.raises(ContractError, match=r"needs the column `cluster`; add a `cluster` step"):
        temperature.select(random_pool(), 3)


# centroid


def blobs(sizes: tuple[int, ...], seed: int = 0, d: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """Well-separated groups of directions: (vectors, true group)."""
    rng = np.random.default_rng(seed)
    group = np.repeat(np.arange(len(sizes)), sizes)
    return np.eye(len(sizes), d)[group] + rng.normal(0, 0.05, (len(group), d)), group


def test_centroid_takes_the_row_nearest_to_the_centre_of_each_group_the_largest_first():
    vectors, group = blobs((30, 50, 20))
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    expected = []
    for name in (1, 0, 2):
        centre = unit[group == name].mean(axis=0)
        away = np.where(group == name, 1 - unit @ (centre / np.linalg.norm(centre)), np.inf)
        expected.append(int(away.argmin()))
    picks = select(centroid, pool_of(vectors), 3)
    assert picks.index.tolist() == expected and picks.facts == {"clusters": 3, "refilled": 0, "nested": False}


def test_with_few_clusters_centroid_takes_rows_of_each_in_turn():
    vectors, group = blobs((30, 20, 2))
    picks = select(centroid, pool_of(vectors), 11, k=3)
    assert group[picks.index].tolist() == [0, 1, 2, 0, 1, 2, 0, 1, 0, 1, 0]
    assert picks.facts == {
        "clusters": 3,
        "refilled": 1,
    }  # four of the largest group stand where two and a part were due
    for name in range(3):
        assert (np.diff(picks.gain[group[picks.index] == name]) >= 0).all()


def test_with_fewer_different_rows_than_the_budget_the_rest_is_filled():
    vectors = np.repeat(np.eye(4), 5, axis=0)
    picks = select(centroid, pool_of(vectors), 10)
    assert len({row // 5 for row in picks.index[:4].tolist()}) == 4
    assert picks.facts == {"clusters": 4, "refilled": 6, "nested": False}


def test_a_row_that_must_be_in_stands_for_its_cluster_and_a_closed_one_makes_way_for_the_next():
    vectors, group = blobs((30, 20, 10))
    pool = pool_of(vectors)
    nearest = select(centroid, pool, 3).index.tolist()
    last = int(np.flatnonzero(group == 1)[-1])
    forced = under(centroid, pool, 3, must_have=[pool.ids[last]])
    assert sorted(group[forced.index].tolist()) == [0, 1, 2] and forced.index[0] == last
    closed = under(centroid, pool, 3, must_not_have=[pool.ids[row] for row in nearest])
    assert sorted(group[closed.index].tolist()) == [0, 1, 2] and not set(nearest) & set(closed.index.tolist())


def test_many_clusters_go_to_mini_batch_k_means(monkeypatch):
    monkeypatch.setattr(clusters, "_MANY", 10)
    pool = random_pool(200)
    assert len(set(select(centroid, pool, 40).index.tolist())) == 40


# car


def test_car_joins_the_best_of_every_cluster_and_the_best_of_all():
    vectors, group = blobs((40, 30, 20, 10))
    quality = np.random.default_rng(3).permutation(100).astype(float) + 100 * (group == 0)
    for per_cluster, budget in ((1, 12), (2, 12), (2, 5)):
        tops = [row for name in range(4) for row in np.argsort(-np.where(group == name, quality, -1))[:per_cluster]]
        tops = sorted(tops, key=lambda row: -quality[row])
        others = [row for row in np.argsort(-quality) if row not in tops]
        picks = select(car, pool_of(vectors, quality), budget, per_cluster=per_cluster, k=4)
        assert picks.index.tolist() == [*tops, *others][:budget]
        assert picks.gain.tolist() == quality[picks.index].tolist()
        assert picks.facts["clusters"] == 4 and picks.facts["from_clusters"] == min(4 * per_cluster, budget)


def test_car_is_the_published_union_of_two_top_lists():
    vectors, group = blobs((40, 30, 20, 10))
    quality = np.random.default_rng(4).permutation(100).astype(float)
    top = set(np.argsort(-quality)[:20].tolist())
    union = top | {int(np.where(group == name, quality, -1).argmax()) for name in range(4)}
    assert set(select(car, pool_of(vectors, quality), len(union), k=4).index.tolist()) == union


def test_the_principal_components_are_the_fewest_that_keep_95_percent_of_the_variance():
    vectors = np.random.default_rng(0).normal(size=(400, 12)).astype(np.float32) * np.linspace(
        3, 0.1, 12, dtype=np.float32
    )
    reduced = car._principal(vectors)
    variance = np.linalg.svd(vectors - vectors.mean(axis=0), compute_uv=False) ** 2
    share = np.cumsum(variance) / variance.sum()
    assert reduced.shape[1] == 1 + int((share < 0.95).sum())
    assert np.square(reduced).sum() / variance.sum() == pytest.approx(share[reduced.shape[1] - 1], abs=1e-4)


def test_car_has_the_published_number_of_clusters():
    assert select(car, random_pool(200, 16), 3).facts["clusters"] == 10
    assert select(car, random_pool(1), 1).facts["clusters"] <= 1


def test_a_row_that_is_closed_does_not_stand_for_its_cluster_and_one_that_must_be_in_does():
    vectors, _ = blobs((20, 20, 20))
    pool = pool_of(vectors, np.arange(60, dtype=float))
    wanted = constraints.build("car", pool, 3, must_not_have=["id0019"])
    assert select(car, pool, 3, k=3, constraints=wanted).index.tolist() == [59, 39, 18]
    wanted = constraints.build("car", pool, 3, must_have=["id0021"])
    picks = select(car, pool, 3, k=3, constraints=wanted)
    assert picks.index.tolist() == [21, 59, 19] and picks.facts["from_clusters"] == 3


# kmq


def test_kmq_gives_each_cluster_its_rounded_share_and_fills_the_budget():
    vectors, group = blobs((50, 30, 20))
    picks = select(kmq, pool_of(vectors), 17, k=3)
    assert np.bincount(group[picks.index]).tolist() == [9, 5, 3]
    assert picks.facts == {"clusters": 3, "refilled": 17 - 8 - 5 - 3}


@pytest.fixture
def one_cluster(monkeypatch):
    """k-means is not run; all rows are one cluster."""
    monkeypatch.setattr(
        kmq,
        "clusters",
        lambda vectors, k, seed: Clusters(np.zeros(len(vectors), np.int32), np.zeros(len(vectors), np.float32)),
    )


def test_kmq_draws_a_row_first_with_the_probability_of_its_softmax_and_without_replacement(one_cluster):
    quality = np.array([0.0, 1.0, 2.0, 3.0])
    pool = pool_of(np.ones((4, 2)), quality)
    picks = [select(kmq, pool, 4, seed=seed, k=1).index for seed in range(2000)]
    chance = np.exp(quality) / np.exp(quality).sum()
    first = np.bincount([pick[0] for pick in picks], minlength=4)
    assert ((first - 2000 * chance) ** 2 / (2000 * chance)).sum() < 16.3  # chi-square, 3 degrees, 1 in 1,000
    second = np.bincount([pick[1] for pick in picks if pick[0] == 3], minlength=4)
    left = chance[:3] / chance[:3].sum() * second.sum()
    assert second[3] == 0 and ((second[:3] - left) ** 2 / left).sum() < 13.8  # 2 degrees


def test_kmq_without_a_score_draws_alike_and_has_no_gain(one_cluster):
    pool = pool_of(np.ones((20, 2)))
    first = [select(kmq, pool, 1, seed=seed, score=None).index[0] for seed in range(2000)]
    counts = np.bincount(first, minlength=20)
    assert ((counts - 100) ** 2 / 100).sum() < 43.8
    assert np.isnan(select(kmq, pool, 3, score=None).gain).all()


def test_scores_of_any_size_do_not_overflow():
    quality = [1e6, -1e6, 3e5, 0.0]
    assert select(kmq, pool_of(np.ones((4, 2)), quality), 4, k=1).index.tolist() == [0, 2, 3, 1]


# deita


def published_deita(vectors: np.ndarray, quality: np.ndarray, budget: int, threshold: float) -> list[int]:
    """One row at a time, as published; then the rows passed over."""
    similarity, kept, passed = cosines(vectors), [], []
    for row in np.argsort(-quality, kind="stable").tolist():
        if not kept or similarity[row, kept].max() <= threshold + 1e-6:
            kept.append(row)
        else:
            passed.append(row)
    return (kept + passed)[:budget]


def near_copies(n: int, d: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n // 6, d))[rng.integers(0, n // 6, n)] + rng.normal(size=(n, d)) * rng.uniform(
        0, 0.6, (n, 1)
    )


@pytest.mark.parametrize("block", [1, 7, 64, 512])
def test_deita_makes_the_picks_of_the_published_loop(block, monkeypatch):
    monkeypatch.setattr(deita, "_BLOCK", block)
    monkeypatch.setattr(deita, "_KEPT", 100)
    for seed in range(3):
        vectors = near_copies(600, 12, seed)
        quality = np.random.default_rng(seed).integers(0, 50, 600).astype(float)
        for threshold in (0.3, 0.9, 0.99):
            expected = published_deita(vectors, quality, 600, threshold)
            picks = select(deita, pool_of(vectors, quality), 600, threshold=threshold)
            assert picks.index.tolist() == expected
            assert 0 < picks.facts["refilled"] < 600


def test_deita_makes_the_picks_of_the_published_loop_on_2000_rows():
    vectors = near_copies(2000, 24, 0)
    quality = np.random.default_rng(0).normal(size=2000)
    assert select(deita, pool_of(vectors, quality), 900, threshold=0.9).index.tolist() == published_deita(
        vectors, quality, 900, 0.9
    )


@given(
    st.lists(st.tuples(st.integers(-2, 2), st.integers(-2, 2)), min_size=1, max_size=14),
    st.sampled_from([-1.0, -0.5, 0.0, 0.6, 0.8, 1.0]),
)
@settings(max_examples=100, deadline=None)
def test_a_cosine_equal_to_the_threshold_is_kept_whatever_the_rounding(points, threshold):
    vectors = np.array(points, dtype=np.float64)
    quality = np.array([(5 * i) % 7 for i in range(len(points))], dtype=np.float64)
    picks = select(deita, pool_of(vectors, quality), len(points), threshold=threshold)
    assert picks.index.tolist() == published_deita(vectors, quality, len(points), threshold)


def test_the_gain_of_deita_is_one_less_the_largest_cosine_to_the_kept():
    vectors, quality = near_copies(300, 8, 1), np.random.default_rng(1).normal(size=300)
    picks = select(deita, pool_of(vectors, quality), 300, threshold=0.8)
    similarity, kept = cosines(vectors), 300 - picks.facts["refilled"]
    assert picks.gain[0] == 1 and (picks.gain[1:kept] >= 1 - 0.8 - 1e-5).all() and (picks.gain[kept:] < 1 - 0.8).all()
    for place in range(1, 300):
        row = picks.index[place]
        before = [other for other in picks.index[:kept] if quality[other] > quality[row]]
        assert picks.gain[place] == pytest.approx(1 - similarity[row, before].max(), abs=1e-5)


def test_rows_of_zeros_are_like_nothing_to_deita():
    vectors = np.ones((6, 3))
    vectors[[1, 4]] = 0
    picks = select(deita, pool_of(vectors, [6, 5, 4, 3, 2, 1]), 6, threshold=0.9)
    assert picks.index.tolist() == [0, 1, 4, 2, 3, 5] and picks.facts == {"refilled": 3}


def test_deita_passes_over_copies_of_a_row_that_must_be_in():
    vectors = np.repeat(np.eye(3), 2, axis=0)
    picks = under(deita, pool_of(vectors, [6, 5, 4, 3, 2, 1]), 3, must_have=["id0005"])
    assert picks.index.tolist() == [5, 0, 2]


def test_deita_reads_vectors_that_are_mapped_from_a_file(tmp_path):
    pool = random_pool()
    half = pool.need_vectors("test").astype(np.float16)
    np.save(tmp_path / "vectors.npy", half)
    mapped = Pool(pool.table, np.load(tmp_path / "vectors.npy", mmap_mode="r"))
    held = Pool(pool.table, half)
    assert select(deita, mapped, 20).index.tolist() == select(deita, held, 20).index.tolist()


# d4


def likeness_by_hand(vectors: np.ndarray, label: np.ndarray, distance: np.ndarray) -> np.ndarray:
    """The largest cosine to a row of the cluster that is farther out; equally far ones stand in the order of ids."""
    similarity, out = cosines(vectors), np.full(len(vectors), -1.0)
    for row in range(len(vectors)):
        for other in range(len(vectors)):
            farther = (-distance[other], other) < (-distance[row], row)
            if label[other] == label[row] and farther:
                out[row] = max(out[row], similarity[row, other])
    return np.round(out, 6)


@pytest.mark.parametrize("block", [1, 5, 1024])
def test_d4_keeps_the_rows_least_like_those_farther_out_and_then_the_farthest_from_the_new_centres(block, monkeypatch):
    monkeypatch.setattr(d4, "_BLOCK", block)
    monkeypatch.setattr(d4, "_CHUNK", 2 * block + 1)
    pool = pool_of(near_copies(180, 6, 2))
    unit = unit_vectors(pool.need_vectors("test"), "test")
    first = kmeans.cluster(unit, seed=4, k=13)
    likeness = likeness_by_hand(unit, first.label, first.distance)
    by_likeness = np.argsort(likeness, kind="stable")
    kept = np.sort(by_likeness[:135])
    again = kmeans.cluster(unit[kept], seed=4, k=11)
    expected = kept[np.argsort(-again.distance, kind="stable")]
    picks = select(d4, pool, 180, seed=4)
    assert picks.index[:135].tolist() == expected.tolist()
    assert picks.index[135:].tolist() == by_likeness[135:].tolist()
    np.testing.assert_allclose(picks.gain[:135], np.sort(again.distance)[::-1], atol=1e-5)
    assert np.isnan(picks.gain[135:]).all()
    assert picks.facts["kept_by_dedup"] == 135 and picks.facts["refilled"] == 45
    assert picks.facts["similarity"] == pytest.approx(likeness[kept].max(), abs=1e-6)


def test_d4_picks_no_copy_before_it_has_one_of_each():
    vectors = np.repeat(np.random.default_rng(0).normal(size=(12, 6)), 3, axis=0)
    picks = select(d4, pool_of(vectors), 12, dedup=1 / 3)
    assert len({row // 3 for row in picks.index.tolist()}) == 12
    assert all(row % 3 == 0 for row in picks.index)


def test_of_a_chain_of_likenesses_d4_may_drop_all_but_the_end():
    angle = np.radians([0, 14, 28])
    vectors = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    likeness = d4._to_earlier(vectors.astype(np.float32))
    np.testing.assert_allclose(likeness, [-1, np.cos(angle[1]), np.cos(angle[1])], atol=1e-5)


def test_rows_that_may_not_be_picked_make_no_copies_for_d4():
    vectors = np.repeat(np.random.default_rng(0).normal(size=(10, 6)), 2, axis=0)
    pool = pool_of(vectors, sources=["a", "b"] * 10)
    picks = under(d4, pool, 7, must_not_have={"source": "a"})
    assert picks.facts["kept_by_dedup"] == 8 and picks.facts["similarity"] < 0.99


def test_without_the_first_step_d4_is_the_prototypes_alone():
    pool = random_pool(80)
    picks = select(d4, pool, 80, dedup=1, k=5)
    assert picks.facts["refilled"] == 0 and (np.diff(picks.gain) <= 0).all()
