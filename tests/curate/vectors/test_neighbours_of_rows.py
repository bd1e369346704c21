"""The graph of some rows of a pool alone, which is what a large pool has room for where many neighbours are wanted."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.vectors import neighbours
from curate.vectors.neighbours import graph, recall
from curate.vectors.unit import unit

LISTS_ALONE = {"exact_below": 0}  # the approximate search, however small the pool


def clustered(n: int, d: int = 24, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(30, d))
    return unit(centres[rng.integers(30, size=n)] + rng.normal(0, 0.3, (n, d)), "test")


def with_ties_and_zeros(n: int, seed: int, d: int = 6) -> np.ndarray:
    """Every cosine is a multiple of a quarter, in any order of summing."""
    rng = np.random.default_rng(seed)
    vectors = np.zeros((n, d), dtype=np.float32)
    for row in vectors[rng.permutation(n)[: n - n // 8]]:
        row[rng.choice(d, 4, replace=False)] = rng.choice([-0.5, 0.5], 4)
    return vectors


@pytest.mark.parametrize("k", [1, 2, 9, 200])
def test_the_graph_of_some_rows_is_their_part_of_the_whole_graph(k):
    vectors, rows = with_ties_and_zeros(200, 1), np.array([3, 4, 77, 150, 199])
    for some, whole in zip(graph(vectors, k, rows=rows), graph(vectors, k), strict=True):
        np.testing.assert_array_equal(some, whole[rows])
    assert graph(vectors, k, rows=rows[:0])[0].shape == (0, k)


@pytest.mark.parametrize("block", [1, 5_000, 2**25])
def test_with_all_lists_looked_into_it_is_exact_however_many_rows_are_sorted_at_a_time(block, monkeypatch):
    monkeypatch.setattr(neighbours, "_MET", block)
    vectors, rows = clustered(700), np.arange(0, 700, 9)
    index, cosine = graph(vectors, 40, rows=rows, **LISTS_ALONE, probes=10**6)
    whole = graph(vectors, 40)
    np.testing.assert_array_equal(index, whole[0][rows])
    np.testing.assert_allclose(cosine, whole[1][rows], atol=1e-6)


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 60), st.integers(0, 10**6), st.integers(1, 8), st.data())
def test_lists_give_a_row_different_rows_with_their_own_cosines_falling_whatever_the_pool(n, seed, probes, data):
    k = data.draw(st.integers(1, n))
    vectors = with_ties_and_zeros(n, seed)
    rows = np.array(sorted(data.draw(st.sets(st.integers(0, n - 1)))), dtype=np.int64)
    index, cosine = graph(vectors, k, rows=rows, seed=seed, **LISTS_ALONE, probes=probes)
    assert index.shape == (len(rows), k) and all(len(set(row)) == k for row in index.tolist())
    assert index[:, 0].tolist() == rows.tolist()
    own = np.take_along_axis(vectors[rows] @ vectors.T, index.astype(np.int64), axis=1)
    np.testing.assert_array_equal(cosine, own)
    assert (np.diff(cosine[:, 1:], axis=1) <= 0).all()


def test_lists_find_most_neighbours_few_or_many():
    vectors, rows = clustered(4_000), np.arange(0, 4_000, 20)
    for k in (10, 100, 1_000):
        index, _ = graph(vectors, k, rows=rows, **LISTS_ALONE)
        true = graph(vectors, k, rows=rows)[0]
        found = np.mean([len(set(a) & set(b)) - 1 for a, b in zip(index.tolist(), true.tolist(), strict=True)])
        assert found / (k - 1) > 0.85, k
        assert recall(vectors, index) == pytest.approx(found / (k - 1), abs=0.02)


def test_a_device_gives_the_graph_of_some_rows_too():
    pytest.importorskip("torch")
    vectors, rows = clustered(150, d=16), np.array([2, 70, 149])
    keys = neighbours._on_device(vectors, 8, "cpu", block=2, rows=rows)
    assert (neighbours._index(keys) == graph(vectors, 9)[0][rows, 1:]).all()
