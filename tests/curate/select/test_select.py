from __future__ import annotations

import itertools

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.contract.errors import ContractError, MethodError
from curate.rows.pool import Pool
from curate.select import coverage, facility_location, greedy, homogeneous, k_center, longest, random, stratified
from curate.vectors.unit import unit_by_id

EVERY = [random, longest, stratified, k_center, facility_location, homogeneous]
WITH_VECTORS = [k_center, facility_location, homogeneous]


def pool_of(vectors: np.ndarray, responses: list[str] | None = None, sources: list[str | None] | None = None) -> Pool:
    n = len(vectors)
    table = pl.DataFrame(
        {
            "id": [f"id{i:04d}" for i in range(n)],
            "source": pl.Series(sources or ["a"] * n, dtype=pl.String),
            "response": responses or ["x" * ((7 * i) % 11) for i in range(n)],
        }
    )
    return Pool(table, vectors.astype(np.float32))


def random_pool(n: int = 60, d: int = 8, seed: int = 0) -> Pool:
    rng = np.random.default_rng(seed)
    return pool_of(rng.normal(size=(n, d)), sources=[("a", "b", "c", None)[i % 7 % 4] for i in range(n)])


def picked(method, pool: Pool, budget: int, **options) -> list[str]:
    """The ids that a method picks, in order."""
    return [pool.ids[row] for row in method.select(pool, budget, **options).index]


# every selector


@pytest.mark.parametrize("method", EVERY)
def test_every_selector_gives_exactly_its_budget_of_different_rows(method):
    pool = random_pool()
    for budget in (0, 1, 2, 17, len(pool)):
        picks = method.select(pool, budget, seed=1)
        assert picks.index.dtype == np.int64 and picks.gain.dtype == np.float32
        assert len(picks.index) == len(picks.gain) == len(set(picks.index.tolist())) == budget


@pytest.mark.parametrize("method", EVERY)
def test_every_prefix_of_a_selection_is_the_smaller_selection(method):
    pool = random_pool()
    whole = method.select(pool, len(pool), seed=2)
    for budget in (1, 5, 33):
        part = method.select(pool, budget, seed=2)
        assert part.index.tolist() == whole.index[:budget].tolist()
        np.testing.assert_array_equal(part.gain, whole.gain[:budget])


@pytest.mark.parametrize("method", EVERY)
def test_the_order_of_the_pool_changes_nothing(method):
    pool = random_pool()
    shuffled = pool.take(np.random.default_rng(5).permutation(len(pool)))
    assert picked(method, shuffled, 30, seed=3) == picked(method, pool, 30, seed=3)
    np.testing.assert_array_equal(method.select(shuffled, 30, seed=3).gain, method.select(pool, 30, seed=3).gain)


@pytest.mark.parametrize("method", EVERY)
def test_an_empty_pool_gives_no_picks(method):
    assert len(method.select(random_pool().take(np.array([], dtype=np.int64)), 0).index) == 0


@pytest.mark.parametrize("method", WITH_VECTORS)
def test_a_selector_of_vectors_says_that_there_are_none(method):
    with pytest.raises(ContractError, match="needs vectors; add an `embed` step"):
        method.select(Pool(random_pool().table), 3)


@pytest.mark.parametrize("method", WITH_VECTORS)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_vector_that_is_not_finite_is_one_sentence(method, value):
    pool = random_pool()
    pool.vectors[7, 3] = value
    with pytest.raises(ContractError, match="row 7 of 60 holds NaN or infinity"):
        method.select(pool, 3)


@pytest.mark.parametrize("method", WITH_VECTORS)
def test_the_length_of_a_vector_does_not_count(method):
    pool = random_pool()
    scaled = Pool(pool.table, pool.vectors * np.float32(2.0) ** np.arange(-30, 30)[:, None].astype(np.float32))
    assert picked(method, scaled, 20) == picked(method, pool, 20)


# random, longest, stratified, homogeneous


def test_random_depends_on_the_seed_and_each_row_comes_equally_often():
    pool = random_pool(20)
    assert picked(random, pool, 20, seed=0) != picked(random, pool, 20, seed=1)
    first = [picked(random, pool, 1, seed=seed)[0] for seed in range(2000)]
    counts = np.unique(first, return_counts=True)[1]
    assert len(counts) == 20 and ((counts - 100) ** 2 / 100).sum() < 43.8  # chi-square, 19 degrees, 1 in 1,000


def test_a_row_that_joins_the_pool_does_not_reorder_the_others():
    pool = random_pool(20)
    without = [row for row in picked(random, pool, 20) if row != "id0004"]
    assert picked(random, pool.take(np.array([i for i in range(20) if i != 4])), 19) == without


def test_longest_counts_characters_and_ties_go_by_id():
    pool = pool_of(np.ones((4, 2)), responses=["ab", "éèê", "abc", "a"])
    picks = longest.select(pool, 3)
    assert picks.index.tolist() == [1, 2, 0] and picks.gain.tolist() == [3, 3, 2]


def test_stratified_keeps_the_share_of_every_group_in_every_prefix():
    sources = ["a"] * 50 + ["b"] * 30 + ["c"] * 19 + [None]
    pool = pool_of(np.ones((100, 2)), sources=sources)
    index = stratified.select(pool, 100).index
    for k in range(1, 101):
        for name, size in (("a", 50), ("b", 30), ("c", 19), (None, 1)):
            taken = sum(sources[row] == name for row in index[:k])
            assert size * k // 100 <= taken <= -(-size * k // 100), (k, name)


@given(st.lists(st.integers(1, 40), min_size=1, max_size=7))
@settings(max_examples=50, deadline=None)
def test_stratified_stays_within_one_of_the_quota_whatever_the_sizes(sizes):
    names = [f"s{i}" for i, size in enumerate(sizes) for _ in range(size)]
    total = len(names)
    index = stratified.select(pool_of(np.ones((total, 1)), sources=names), total).index
    taken = np.cumsum(np.array(names)[index][:, None] == np.array([f"s{i}" for i in range(len(sizes))]), axis=0)
    share = np.arange(1, total + 1)[:, None] * np.array(sizes) / total
    assert (np.abs(taken - share) < 1 + 1e-9).all()


def test_stratified_names_the_columns_that_there_are():
    with pytest.raises(ContractError, match=r"needs the column `cluster`; add a `cluster` step.*source"):
        stratified.select(random_pool(), 3, by="cluster")


def test_homogeneous_takes_the_nearest_neighbours_of_one_drawn_row():
    pool = random_pool()
    unit = pool.vectors / np.linalg.norm(pool.vectors, axis=1, keepdims=True)
    picks = homogeneous.select(pool, 10, seed=4)
    expected = np.argsort(-(unit @ unit[picks.index[0]]), kind="stable")[:10]
    assert picks.index.tolist() == expected.tolist()
    np.testing.assert_allclose(picks.gain, unit[expected] @ unit[picks.index[0]], atol=1e-6)
    assert len({homogeneous.select(pool, 1, seed=seed).index[0] for seed in range(30)}) > 10


# k_center


def distances(vectors: np.ndarray) -> np.ndarray:
    vectors = vectors.astype(np.float64)
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors = vectors / np.where(length > 0, length, 1)
    return np.linalg.norm(vectors[:, None] - vectors[None], axis=2)


def farthest_first_by_hand(vectors: np.ndarray, first: int, budget: int) -> tuple[list[int], list[float]]:
    between, picks, gains = distances(vectors), [first], [np.nan]
    while len(picks) < budget:
        nearest = between[picks].min(axis=0)
        nearest[picks] = -1
        picks.append(int(nearest.argmax()))
        gains.append(nearest[picks[-1]])
    return picks, gains


def test_k_center_takes_the_farthest_row_every_time():
    for seed in range(5):
        pool = random_pool(150, 6, seed)
        picks = k_center.select(pool, 150)
        expected, gains = farthest_first_by_hand(pool.vectors, picks.index[0], 150)
        assert picks.index.tolist() == expected
        np.testing.assert_allclose(picks.gain, gains, atol=1e-3)


def test_k_center_begins_with_the_row_nearest_to_the_mean():
    vectors = np.array([[1, 0], [0.9, 0.1], [0.8, 0.3], [0, 1]])
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    expected = np.linalg.norm(unit - unit.mean(axis=0), axis=1).argmin()
    assert k_center.select(pool_of(vectors), 1).index.tolist() == [expected]


def test_k_center_is_at_most_twice_the_best_radius():
    for seed in range(5):
        pool = random_pool(12, 3, seed)
        between = distances(pool.vectors)
        best = min(between[list(centres)].min(axis=0).max() for centres in itertools.combinations(range(12), 3))
        radius = between[k_center.select(pool, 3).index].min(axis=0).max()
        assert radius <= 2 * best + 1e-6


def test_k_center_does_not_depend_on_how_many_distances_are_computed_at_a_time(monkeypatch):
    pool = random_pool(200, 5)
    whole = k_center.select(pool, 200).index.tolist()
    for block in (1, 2, 7):
        monkeypatch.setattr(k_center, "_BLOCK", block)
        assert k_center.select(pool, 200).index.tolist() == whole


@pytest.mark.parametrize("where", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_k_center_in_the_memory_of_a_device_makes_the_same_picks(where):
    torch = pytest.importorskip("torch")
    if where == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    pool = random_pool(300, 12)
    order, vectors = unit_by_id(pool, "test")
    whole = k_center.select(pool, 300)
    picks, nearest = k_center._on_device(vectors, 120, where)
    assert order[picks].tolist() == whole.index[:120].tolist()
    assert (nearest[picks] == -np.inf).all()
    assert float(np.sqrt(nearest.max())) == pytest.approx(float(whole.gain[120]), abs=1e-3)


def test_the_radius_of_k_center_and_its_bound_are_true():
    pool = random_pool(12, 3)
    between = distances(pool.vectors)
    picks = k_center.select(pool, 3)
    best = min(between[list(centres)].min(axis=0).max() for centres in itertools.combinations(range(12), 3))
    assert picks.facts["radius"] == pytest.approx(between[picks.index].min(axis=0).max(), abs=1e-3)
    assert picks.facts["radius_at_least"] <= best + 1e-3


def test_k_center_leaves_outliers_for_the_end():
    rng = np.random.default_rng(0)
    vectors = np.concatenate([np.array([1, 0, 0, 0]) + 0.1 * rng.normal(size=(57, 4)), -np.eye(4)[:3]])
    pool = pool_of(vectors)
    assert set(k_center.select(pool, 4).index[1:].tolist()) == {57, 58, 59}
    picks = k_center.select(pool, 60, outliers=0.05)
    assert set(picks.index[-3:].tolist()) == {57, 58, 59}
    few = k_center.select(pool, 5, outliers=0.05)
    left = np.sort(distances(vectors)[few.index].min(axis=0))[:57]
    assert few.facts["radius"] == pytest.approx(left.max(), abs=1e-3) and "radius_at_least" not in few.facts
    with pytest.raises(MethodError, match="outliers is 1; it is a share"):
        k_center.select(pool, 5, outliers=1)


# facility_location


def cosines(vectors: np.ndarray) -> np.ndarray:
    vectors = vectors.astype(np.float64)
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors = vectors / np.where(length > 0, length, 1)
    return vectors @ vectors.T


def value(similarity: np.ndarray, picks: list[int]) -> float:
    return float(np.maximum(similarity[:, picks].max(axis=1), 0).sum())


def greedy_by_hand(vectors: np.ndarray, budget: int) -> tuple[list[int], list[float]]:
    similarity, picks, gains = cosines(vectors), [], []
    covered = np.zeros(len(vectors))
    while len(picks) < budget:
        gain = np.maximum(similarity - covered[:, None], 0).sum(axis=0)
        gain[picks] = -1
        picks.append(int((gain > gain.max() - 1e-5).argmax()))
        gains.append(gain[picks[-1]])
        covered = np.maximum(covered, similarity[:, picks[-1]])
    return picks, gains


@pytest.mark.parametrize(("n", "d"), [(30, 2), (150, 5), (400, 32)])
def test_facility_location_makes_the_picks_of_the_naive_greedy(n, d):
    pool = random_pool(n, d)
    pool = Pool(pool.table, np.abs(pool.vectors) if d == 5 else pool.vectors)
    picks = facility_location.select(pool, n // 2)
    expected, gains = greedy_by_hand(pool.vectors, n // 2)
    assert picks.index.tolist() == expected
    np.testing.assert_allclose(picks.gain, gains, atol=1e-4)


def test_the_gains_of_facility_location_add_up_to_its_objective():
    pool = random_pool(200, 12)
    picks = facility_location.select(pool, 50)
    assert picks.gain.sum() == pytest.approx(value(cosines(pool.vectors), picks.index.tolist()), abs=1e-3)
    assert (np.diff(picks.gain) <= 1e-4).all()


def test_facility_location_reaches_the_guaranteed_part_of_the_best_value():
    for seed in range(5):
        pool = random_pool(11, 3, seed)
        similarity = cosines(pool.vectors)
        best = max(value(similarity, list(picks)) for picks in itertools.combinations(range(11), 4))
        mine = value(similarity, facility_location.select(pool, 4).index.tolist())
        assert (1 - 1 / np.e) * best <= mine <= best + 1e-6


def test_facility_location_is_the_same_with_little_room_for_what_it_keeps(monkeypatch):
    pool = random_pool(300, 6)
    whole = facility_location.select(pool, 150)
    monkeypatch.setattr(coverage, "_KEPT_BYTES", 8 * 1000)
    monkeypatch.setattr(coverage, "_LOOK", 16)
    monkeypatch.setattr(greedy, "_BLOCK", 8)
    monkeypatch.setattr(greedy, "_FRONT", 16)
    tight = facility_location.select(pool, 150)
    assert tight.index.tolist() == whole.index.tolist()
    np.testing.assert_allclose(tight.gain, whole.gain, atol=1e-4)


def test_the_quick_bound_of_facility_location_is_never_below_a_gain():
    for seed in range(5):
        vectors = cosines(random_pool(80, 4, seed).vectors)[:, :7].astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        covered = np.zeros(80, dtype=np.float32)
        for pick in (None, 3, 40, 41, 7):
            covered = covered if pick is None else np.maximum(covered, vectors @ vectors[pick])
            bound = np.full(80, np.inf)
            coverage.Moments(vectors, vectors).lower(bound, covered)
            gain = np.maximum(vectors @ vectors.T - covered, 0).sum(axis=1)
            assert (bound >= gain).all()


# copies and zeros


@pytest.mark.parametrize("method", [k_center, facility_location])
def test_copies_of_a_pick_and_rows_of_zeros_are_defined(method):
    rng = np.random.default_rng(1)
    vectors = np.repeat(rng.normal(size=(10, 4)), 3, axis=0)
    vectors[[0, 15]] = 0
    pool = pool_of(vectors)
    picks = method.select(pool, 30)
    kinds = [f"{vectors[row].tolist()}" for row in picks.index]
    different = len(set(kinds)) - (method is facility_location)  # zeros add nothing to coverage
    assert len(set(kinds[:different])) == different
    tail = picks.index[different:].tolist()
    assert tail == sorted(tail)
    np.testing.assert_allclose(picks.gain[different:], 0, atol=1e-3)


@given(st.lists(st.tuples(st.integers(-2, 2), st.integers(-2, 2)), min_size=1, max_size=12), st.integers(0, 2**20))
@settings(max_examples=60, deadline=None)
def test_facility_location_breaks_exact_ties_by_id_whatever_the_order(points, seed):
    pool = pool_of(np.array(points, dtype=np.float64))
    budget = len(points)
    expected, _ = greedy_by_hand(pool.vectors, budget)
    order = np.random.default_rng(seed).permutation(budget)
    assert picked(facility_location, pool.take(order), budget) == [pool.ids[row] for row in expected]
