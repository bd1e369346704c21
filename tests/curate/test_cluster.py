from __future__ import annotations

import numpy as np
import pytest

from curate.cluster import kmeans
from curate.errors import ContractError, MethodError


def blobs(sizes: tuple[int, ...] = (40, 25, 10), seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Well-separated groups of directions: (vectors, true group)."""
    rng = np.random.default_rng(seed)
    group = np.repeat(np.arange(len(sizes)), sizes)
    vectors = np.eye(len(sizes), 6)[group] + rng.normal(0, 0.05, (len(group), 6))
    return (vectors * rng.uniform(0.5, 20, (len(group), 1))).astype(np.float32), group


def test_kmeans_finds_groups_and_numbers_them_by_size():
    vectors, group = blobs()
    found = kmeans.cluster(vectors, seed=3, k=3)
    assert found.label.dtype == np.int32 and found.distance.dtype == np.float32
    assert found.label.tolist() == group.tolist()


def test_distances_are_to_the_mean_of_the_own_group_of_unit_vectors():
    vectors, _ = blobs()
    found = kmeans.cluster(vectors, k=3)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    centres = np.stack([unit[found.label == label].mean(axis=0) for label in range(3)])
    np.testing.assert_allclose(found.distance, np.linalg.norm(unit - centres[found.label], axis=1), atol=1e-5)


def test_labels_depend_on_the_seed_alone_and_not_on_order_slices_or_threads(monkeypatch):
    vectors = np.random.default_rng(0).normal(size=(800, 16)).astype(np.float32)
    first = kmeans.cluster(vectors, seed=1, k=20)
    order = np.random.default_rng(1).permutation(800)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    monkeypatch.setattr(kmeans, "_SLICE", 64)
    again = kmeans.cluster(vectors[order], seed=1, k=20)
    np.testing.assert_array_equal(again.label, first.label[order])
    np.testing.assert_array_equal(again.distance, first.distance[order])
    assert (kmeans.cluster(vectors, seed=2, k=20).label != first.label).any()


def test_a_large_pool_is_trained_on_a_part_of_it(monkeypatch):
    vectors, group = blobs((300, 200, 100))
    monkeypatch.setattr(kmeans, "_TRAINING_ROWS", 10)
    assert kmeans.cluster(vectors, k=3).label.tolist() == group.tolist()


def test_copies_and_zeros_are_defined():
    vectors = np.array([[1, 0]] * 5 + [[0, 0]] * 2, dtype=np.float32)
    assert kmeans.cluster(vectors, k=2).label.tolist() == [0] * 5 + [1] * 2
    assert set(kmeans.cluster(vectors, k=4).label[:5].tolist()) == {0}


def test_a_k_that_does_not_fit_and_vectors_that_are_not_finite_are_one_sentence():
    with pytest.raises(MethodError, match="k 5 should be between 1 and the number of rows, 3"):
        kmeans.cluster(np.ones((3, 2), dtype=np.float32), k=5)
    with pytest.raises(ContractError, match="row 1 of 2 holds NaN"):
        kmeans.cluster(np.array([[1.0, 0], [np.nan, 0]], dtype=np.float32), k=1)
