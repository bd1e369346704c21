from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.cluster import agglomerative, centres, hdbscan, hierarchical, kmeans, mini_batch
from curate.contract.errors import ContractError, DataError, MethodError
from curate.vectors import unit as vectors_module

EVERY = [
    pytest.param(kmeans, {"k": 3}, id="kmeans"),
    pytest.param(mini_batch, {"k": 3}, id="mini_batch"),
    pytest.param(agglomerative, {"k": 3}, id="agglomerative-ward"),
    pytest.param(agglomerative, {"k": 3, "linkage": "average"}, id="agglomerative-average"),
    pytest.param(hierarchical, {"k": 3, "leaves": 12}, id="hierarchical"),
    pytest.param(hdbscan, {"min_cluster_size": 6}, id="hdbscan"),
    pytest.param(hdbscan, {"min_cluster_size": 6, "noise": "nearest", "dimensions": None}, id="hdbscan-nearest"),
]
OF_K = [kmeans, mini_batch, agglomerative, hierarchical]


def blobs(sizes: tuple[int, ...] = (40, 25, 10), seed: int = 0, spread: float = 0.05) -> tuple[np.ndarray, np.ndarray]:
    """Groups of directions, well separated by default, of vectors of any length: (vectors, true group)."""
    rng = np.random.default_rng(seed)
    group = np.repeat(np.arange(len(sizes)), sizes)
    vectors = np.eye(len(sizes), 6)[group] + rng.normal(0, spread, (len(group), 6))
    return (vectors * rng.uniform(0.5, 20, (len(group), 1))).astype(np.float32), group


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def partition(label: np.ndarray) -> set[frozenset[int]]:
    return {frozenset(np.flatnonzero(label == one).tolist()) for one in np.unique(label)}


def is_union_of(coarse: np.ndarray, fine: np.ndarray) -> bool:
    """Whether every group of ``fine`` lies within one of ``coarse``."""
    return len(np.unique(np.stack([coarse, fine]), axis=1).T) == len(np.unique(fine))


# every method


@pytest.mark.parametrize(("method", "options"), EVERY)
def test_every_method_finds_groups_apart_and_numbers_them_by_size(method, options):
    vectors, group = blobs()
    shuffle = np.random.default_rng(1).permutation(len(vectors))
    clusters = method.cluster(vectors[shuffle], **options)
    assert clusters.label.dtype == np.int32 and clusters.distance.dtype == np.float32
    kept = clusters.label >= 0
    assert clusters.label[kept].tolist() == group[shuffle][kept].tolist() and kept.mean() > 0.7


@pytest.mark.parametrize(("method", "options"), EVERY)
def test_the_order_of_the_rows_changes_no_label_and_no_distance(method, options):
    vectors, _ = blobs((60, 50, 40, 30), spread=0.3)
    vectors = np.concatenate([vectors, vectors[::7], np.zeros((2, 6), np.float32)])  # copies, and rows of zeros
    first = method.cluster(vectors, **options)
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(len(vectors))
        again = method.cluster(vectors[order], **options)
        np.testing.assert_array_equal(again.label, first.label[order])
        np.testing.assert_array_equal(again.distance, first.distance[order])


@pytest.mark.parametrize(("method", "options"), EVERY)
def test_a_row_of_zeros_is_noise_at_distance_one_and_copies_share_a_label(method, options):
    vectors, _ = blobs((30, 30, 30), spread=0.2)
    vectors = np.concatenate([np.zeros((2, 6), np.float32), vectors, vectors])
    clusters = method.cluster(vectors, **options)
    assert clusters.label[:2].tolist() == [-1, -1] and clusters.distance[:2].tolist() == [1, 1]
    np.testing.assert_array_equal(clusters.label[2:92], clusters.label[92:])
    assert np.isfinite(clusters.distance).all()


@pytest.mark.parametrize(("method", "options"), EVERY)
def test_the_length_of_a_vector_does_not_count(method, options):
    vectors, _ = blobs(spread=0.3)
    doubled = vectors * np.float32(2.0) ** np.arange(-37, 38)[:, None].astype(np.float32)
    np.testing.assert_array_equal(method.cluster(doubled, **options).label, method.cluster(vectors, **options).label)


@pytest.mark.parametrize("method", [agglomerative, hierarchical, hdbscan])
def test_distances_are_to_the_unit_mean_of_the_own_group(method):
    vectors, _ = blobs(spread=0.3)
    clusters = method.cluster(vectors, **({"min_cluster_size": 6} if method is hdbscan else {"k": 4}))
    rows = unit(vectors)
    means = unit(np.stack([rows[clusters.label == one].mean(axis=0) for one in range(clusters.label.max() + 1)]))
    away = np.linalg.norm(rows[:, None] - means, axis=2)
    own = np.where(clusters.label < 0, away.min(axis=1), away[np.arange(len(rows)), clusters.label])
    np.testing.assert_allclose(clusters.distance, own, atol=1e-5)


@pytest.mark.parametrize("method", OF_K)
def test_with_fewer_distinct_rows_than_k_no_label_is_skipped(method):
    vectors = np.repeat(np.eye(3, dtype=np.float32), [5, 3, 1], axis=0)
    for k in (4, 9):
        clusters = method.cluster(vectors, k=k)
        sizes = np.bincount(clusters.label)
        assert (np.diff(sizes) <= 0).all() and sizes.min() > 0
        if method is not agglomerative:  # a tree of rows goes on to split copies
            assert clusters.label.tolist() == [0] * 5 + [1] * 3 + [2]
            np.testing.assert_allclose(clusters.distance, 0, atol=1e-6)


@pytest.mark.parametrize("method", OF_K)
def test_one_group_one_row_and_nothing_but_zeros_are_defined(method):
    vectors, _ = blobs()
    assert set(method.cluster(vectors, k=1).label.tolist()) == {0}
    assert method.cluster(vectors[:1], k=1).label.tolist() == [0]
    nothing = method.cluster(np.zeros((3, 4), np.float32), k=2)
    assert nothing.label.tolist() == [-1] * 3 and nothing.distance.tolist() == [1] * 3


@pytest.mark.parametrize("method", OF_K)
def test_a_k_that_does_not_fit_is_one_sentence(method):
    for k in (0, 5):
        with pytest.raises(MethodError, match=rf"k {k} should be between 1 and .*3"):
            method.cluster(np.ones((3, 2), dtype=np.float32), k=k)


@pytest.mark.parametrize(("method", "options"), EVERY)
def test_vectors_that_are_not_finite_are_one_sentence(method, options):
    vectors, _ = blobs()
    vectors[7, 1] = np.nan
    with pytest.raises(ContractError, match="row 7 of 75 holds NaN"):
        method.cluster(vectors, **options)


# k-means


@pytest.mark.parametrize("method", [kmeans, mini_batch])
def test_labels_depend_on_the_seed_and_not_on_blocks_or_threads(method, monkeypatch):
    from threadpoolctl import threadpool_limits

    vectors = np.random.default_rng(0).normal(size=(800, 16)).astype(np.float32)
    with threadpool_limits(1):
        first = method.cluster(vectors, seed=1, k=20)
    monkeypatch.setattr(centres, "_ROWS", 53)
    with threadpool_limits(2):
        again = method.cluster(vectors, seed=1, k=20)
    np.testing.assert_array_equal(again.label, first.label)
    np.testing.assert_array_equal(again.distance, first.distance)
    assert (method.cluster(vectors, seed=2, k=20).label != first.label).any()


def test_kmeans_ends_where_no_row_is_nearer_to_the_unit_mean_of_another_group(monkeypatch):
    """Plain k-means does not: the mean of a wide group is short, which draws rows to it."""
    from sklearn.cluster import KMeans

    monkeypatch.setattr(kmeans, "_GAIN", 0)
    rng = np.random.default_rng(0)
    wide, narrow = rng.normal(size=(200, 8)), np.eye(1, 8) + rng.normal(0, 0.1, (100, 8))
    rows = unit(np.concatenate([wide, narrow]))

    def means(label: np.ndarray) -> np.ndarray:
        return unit(np.stack([rows[label == one].mean(axis=0) for one in range(3)]))

    clusters = kmeans.cluster(rows.astype(np.float32), k=3)
    np.testing.assert_array_equal(clusters.label, (rows @ means(clusters.label).T).argmax(axis=1))
    np.testing.assert_allclose(
        clusters.distance, np.linalg.norm(rows - means(clusters.label)[clusters.label], axis=1), atol=1e-5
    )
    plain = KMeans(3, random_state=0).fit_predict(rows)
    assert ((rows @ means(plain).T).argmax(axis=1) != plain).any()


def test_a_large_pool_is_trained_on_a_part_of_it(monkeypatch):
    vectors, group = blobs((300, 200, 100))
    monkeypatch.setattr(kmeans, "_TRAINING_ROWS", 10)
    assert kmeans.cluster(vectors, k=3).label.tolist() == group.tolist()


def test_mini_batches_come_close_to_kmeans():
    vectors = np.random.default_rng(0).normal(size=(5_000, 8)).astype(np.float32)
    whole, batches = (np.square(method.cluster(vectors, k=30).distance).mean() for method in (kmeans, mini_batch))
    assert batches < 1.05 * whole


def test_mini_batch_needs_a_pass():
    with pytest.raises(MethodError, match="passes 0 should be 1 or more"):
        mini_batch.cluster(np.ones((3, 2), dtype=np.float32), k=1, passes=0)


@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(1, 40))
@settings(max_examples=40, deadline=None)
def test_a_row_joins_the_centre_with_the_largest_cosine(seed, count, n):
    rng = np.random.default_rng(seed)
    rows, middles = (unit(rng.normal(size=(m, 4))).astype(np.float32) for m in (n, count))
    label, distance = centres.nearest(rows, middles)
    away = np.linalg.norm(rows[:, None].astype(np.float64) - middles, axis=2)
    np.testing.assert_allclose(away[np.arange(n), label], away.min(axis=1), atol=1e-6)
    np.testing.assert_allclose(distance, away.min(axis=1), atol=1e-6)


def test_a_tie_between_centres_goes_to_the_lower_one():
    middles = np.eye(3, dtype=np.float32)
    rows = unit(np.array([[0, 1, 1], [1, 0, 1], [1, 1, 1]])).astype(np.float32)
    assert centres.nearest(rows, middles)[0].tolist() == [1, 0, 0]


def test_a_row_joins_the_same_centre_alone_and_among_others_however_close_the_centres_are():
    """A matrix product rounds a row otherwise at another place of a block."""
    rng = np.random.default_rng(0)
    rows = unit(rng.normal(size=(200, 64))).astype(np.float32)
    middles = (unit(rng.normal(size=(1, 64))) + rng.normal(0, 3e-8, (30, 64))).astype(np.float32)
    label, distance = centres.nearest(rows, middles)
    alone = [centres.nearest(row[None], middles) for row in rows]
    np.testing.assert_array_equal(label, np.concatenate([each[0] for each in alone]))
    np.testing.assert_array_equal(distance, np.concatenate([each[1] for each in alone]))


# trees


@given(st.integers(0, 2**32 - 1), st.integers(2, 30))
@settings(max_examples=30, deadline=None)
def test_cuts_of_a_tree_have_the_asked_number_of_groups_and_are_nested(seed, leaves):
    rng = np.random.default_rng(seed)
    alive, merges = list(range(leaves)), []
    for step in range(leaves - 1):
        pair = rng.choice(len(alive), 2, replace=False)
        merges.append([alive[i] for i in pair])
        alive = [node for i, node in enumerate(alive) if i not in pair] + [leaves + step]
    cuts = [centres.cut(np.array(merges), leaves, count) for count in range(1, leaves + 1)]
    for count, label in enumerate(cuts, 1):
        assert sorted(set(label.tolist())) == list(range(count))
    assert all(is_union_of(coarse, fine) for coarse, fine in pairwise(cuts))


@pytest.mark.parametrize("linkage", ["ward", "average"])
def test_agglomerative_is_what_scikit_learn_gives(linkage, monkeypatch):
    from sklearn.cluster import AgglomerativeClustering

    monkeypatch.setattr(agglomerative, "_BLOCK", 17)
    vectors = np.random.default_rng(0).normal(size=(120, 7)).astype(np.float32)
    oracle = AgglomerativeClustering(9, linkage=linkage, metric="euclidean" if linkage == "ward" else "cosine")
    expected = oracle.fit_predict(unit(vectors))
    assert partition(agglomerative.cluster(vectors, k=9, linkage=linkage).label) == partition(expected)


def test_agglomerative_says_how_large_a_pool_may_be(monkeypatch):
    monkeypatch.setattr(agglomerative, "_MOST_ROWS", 10)
    with pytest.raises(MethodError, match=r"11 rows need .* at most 10 rows. Take `hierarchical`"):
        agglomerative.cluster(np.ones((11, 2), np.float32), k=2)


def test_a_tree_whose_leaves_are_rows_is_ward():
    vectors = np.random.default_rng(0).normal(size=(60, 5)).astype(np.float32)
    clusters = hierarchical.cluster(vectors, k=7, levels=[2, 30], leaves=60)
    for count, label in {7: clusters.label, **clusters.levels}.items():
        assert partition(label) == partition(agglomerative.cluster(vectors, k=count).label)


def test_ward_of_weighted_leaves_is_ward_of_their_rows():
    """Groups of equal rows join at no cost, so the tree above them is that of all rows."""
    rng = np.random.default_rng(3)
    distinct, copies = unit(rng.normal(size=(15, 4))).astype(np.float32), rng.integers(1, 9, 15)
    merges = hierarchical._ward(distinct.astype(np.float64) * copies[:, None], copies)
    for count in (2, 5, 11):
        label = np.repeat(centres.cut(merges, 15, count), copies)
        assert partition(label) == partition(agglomerative.cluster(np.repeat(distinct, copies, axis=0), k=count).label)


def test_each_step_of_ward_is_the_cheapest_of_all():
    rng = np.random.default_rng(4)
    sums, sizes = rng.normal(size=(25, 3)), rng.integers(1, 20, 25)
    groups = {leaf: [leaf] for leaf in range(25)}

    def inertia(leaves: list[int]) -> float:
        means = sums[leaves] / sizes[leaves, None]
        middle = np.average(means, axis=0, weights=sizes[leaves])
        return float((sizes[leaves, None] * (means - middle) ** 2).sum())

    for step, (one, other) in enumerate(hierarchical._ward(sums, sizes).tolist()):
        costs = {
            (a, b): inertia(groups[a] + groups[b]) - inertia(groups[a]) - inertia(groups[b])
            for a in groups
            for b in groups
            if a < b
        }
        assert costs[min(one, other), max(one, other)] == pytest.approx(min(costs.values()), rel=1e-9)
        groups[25 + step] = groups.pop(one) + groups.pop(other)


def test_levels_of_a_hierarchy_are_nested_and_numbered_by_size():
    vectors = np.random.default_rng(0).normal(size=(900, 6)).astype(np.float32)
    clusters = hierarchical.cluster(vectors, k=10, levels=[40, 3, 20, 10], leaves=60)
    assert list(clusters.levels) == [40, 3, 20, 10]
    np.testing.assert_array_equal(clusters.levels[10], clusters.label)
    cuts = [clusters.levels[count] for count in (3, 10, 20, 40)]
    assert all(is_union_of(coarse, fine) for coarse, fine in pairwise(cuts))
    for count, label in clusters.levels.items():
        assert label.dtype == np.int32 and label.shape == (900,)
        sizes = np.bincount(label)
        assert len(sizes) == count and (np.diff(sizes) <= 0).all()


def test_levels_and_leaves_that_do_not_fit_are_one_sentence():
    vectors, _ = blobs()
    with pytest.raises(MethodError, match="a level of 33 should be between 1 and 32"):
        hierarchical.cluster(vectors, k=4, levels=[2, 33], leaves=32)
    with pytest.raises(MethodError, match="leaves 5000 should be between 1 and 4,096"):
        hierarchical.cluster(vectors, k=4, leaves=5000)


# HDBSCAN


def two_groups_and_outliers() -> np.ndarray:
    vectors, _ = blobs((40, 25))
    return np.concatenate([vectors, -np.eye(6, dtype=np.float32)[:5]])


def test_noise_keeps_label_minus_one_and_its_distance_is_to_the_nearest_centre():
    vectors = two_groups_and_outliers()
    clusters = hdbscan.cluster(vectors, min_cluster_size=8, dimensions=None)
    assert clusters.label[-5:].tolist() == [-1] * 5
    assert set(clusters.label.tolist()) == {-1, 0, 1}
    np.testing.assert_allclose(clusters.distance[-1], 2**0.5, atol=0.1)


def test_noise_can_join_the_group_with_the_nearest_centre_without_moving_it():
    vectors = two_groups_and_outliers()
    kept = hdbscan.cluster(vectors, min_cluster_size=8)
    joined = hdbscan.cluster(vectors, min_cluster_size=8, noise="nearest")
    core = kept.label >= 0
    assert joined.label.min() == 0
    np.testing.assert_array_equal(joined.label[core], kept.label[core])
    np.testing.assert_array_equal(joined.distance, kept.distance)
    middles = unit(np.stack([unit(vectors)[kept.label == one].mean(axis=0) for one in range(2)]))
    np.testing.assert_array_equal(joined.label[~core], (unit(vectors)[~core] @ middles.T).argmax(axis=1))


def test_hdbscan_is_what_scikit_learn_gives_on_the_principal_components():
    from sklearn.cluster import HDBSCAN
    from sklearn.decomposition import PCA

    vectors, _ = blobs((80, 60, 40), spread=0.2)
    rows = vectors_module.unit(vectors, "test")
    order = centres.drawn(rows, centres.keys(rows), 0, "cluster.hdbscan")  # its trees depend on the order of the rows
    points = PCA(3).fit_transform(rows[order].astype(np.float64))
    for selection in ("eom", "leaf"):
        oracle = HDBSCAN(7, cluster_selection_method=selection, copy=True)  # pyright: ignore
        expected = oracle.fit_predict(points)
        clusters = hdbscan.cluster(vectors, min_cluster_size=7, dimensions=3, selection=selection)
        assert partition(clusters.label[order]) == partition(expected)


def test_a_pool_that_is_all_noise_is_one_sentence():
    with pytest.raises(DataError, match="all 6 rows are noise"):
        hdbscan.cluster(np.eye(6, dtype=np.float32))


def test_hdbscan_says_how_large_a_pool_may_be_and_which_options_are_allowed(monkeypatch):
    monkeypatch.setattr(hdbscan, "_MOST_WORK", 10**2 * 4)
    with pytest.raises(MethodError, match="11 rows in 4 dimensions take hours; it takes at most 10 rows"):
        hdbscan.cluster(np.ones((11, 6), np.float32), dimensions=4)
    refused: list[dict[str, Any]] = [{"min_cluster_size": 1}, {"min_samples": 0}, {"dimensions": 0}]
    for options in refused:
        with pytest.raises(MethodError, match=f"{next(iter(options))} . should be"):
            hdbscan.cluster(np.ones((3, 2), np.float32), **options)
