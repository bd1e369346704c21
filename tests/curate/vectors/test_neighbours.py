from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.contract.errors import ContractError, MethodError
from curate.vectors import neighbours
from curate.vectors.neighbours import graph, recall
from curate.vectors.unit import unit

LISTS_ALONE = {"exact_below": 0}  # the approximate search, however small the pool


def clustered(n: int = 900, d: int = 24, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(30, d))
    return unit(centres[rng.integers(30, size=n)] + rng.normal(0, 0.3, (n, d)), "test")


def with_exact_cosines(n: int, seed: int, d: int = 6) -> np.ndarray:
    """Rows of four entries of a half, or of one of one, or of zeros: every cosine is a multiple of a quarter in any
    order of summing, and most are ties."""
    rng = np.random.default_rng(seed)
    vectors = np.zeros((n, d), dtype=np.float32)
    for row, kind in zip(vectors, rng.integers(5, size=n), strict=True):
        if kind == 1:
            row[rng.integers(d)] = rng.choice([-1, 1])
        elif kind > 1:
            row[rng.choice(d, 4, replace=False)] = rng.choice([-0.5, 0.5], 4)
    return vectors


def by_brute_force(vectors: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    cosine = vectors @ vectors.T
    index = np.empty((len(vectors), k), dtype=np.int64)
    for row in range(len(vectors)):
        order = sorted(range(len(vectors)), key=lambda other: (other != row, -cosine[row, other], other))
        index[row] = order[:k]
    return index, np.take_along_axis(cosine, index, axis=1)


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 60), st.integers(0, 10**6), st.data())
def test_the_exact_graph_is_the_one_of_brute_force_with_copies_ties_and_zeros(n, seed, data):
    k = data.draw(st.integers(1, n))
    vectors = with_exact_cosines(n, seed)
    block = data.draw(st.sampled_from([5, 16, 1024]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(neighbours, "_BLOCK", block)
        index, cosine = graph(vectors, k)
    assert index.dtype == np.int32 and cosine.dtype == np.float32
    expected_index, expected_cosine = by_brute_force(vectors, k)
    np.testing.assert_array_equal(index, expected_index)
    np.testing.assert_array_equal(cosine, expected_cosine)


def test_a_pool_of_several_blocks_has_the_cosines_of_brute_force():
    vectors = clustered(2_500)
    index, cosine = graph(vectors, 16)
    all_cosines = vectors @ vectors.T
    np.testing.assert_allclose(cosine, -np.sort(-all_cosines, axis=1)[:, :16], atol=1e-6)
    np.testing.assert_allclose(cosine, np.take_along_axis(all_cosines, index, axis=1), atol=1e-6)
    assert index[:, 0].tolist() == list(range(2_500)) and (np.diff(cosine, axis=1) <= 0).all()
    assert all(len(set(row)) == 16 for row in index.tolist())


def test_no_cosine_is_above_one_and_copies_go_by_index_after_the_row_itself():
    vectors = np.repeat(clustered(7), 5, axis=0)
    index, cosine = graph(vectors, 5)
    assert cosine.max() <= 1
    for row, nearest in enumerate(index.tolist()):
        copies = [5 * (row // 5) + i for i in range(5)]
        assert nearest == [row, *(copy for copy in copies if copy != row)]


@settings(deadline=None, max_examples=30)
@given(st.integers(2, 80), st.integers(0, 10**6))
def test_a_permutation_of_the_rows_permutes_the_exact_graph(n, seed):
    rng = np.random.default_rng(seed)
    vectors, order, k = unit(rng.normal(size=(n, 8)), "test"), rng.permutation(n), min(n, 6)
    index, cosine = graph(vectors, k)
    permuted, permuted_cosine = graph(vectors[order], k)
    np.testing.assert_allclose(permuted_cosine, cosine[order], atol=1e-6)
    gaps = -np.diff(graph(vectors, min(n, k + 1))[1], axis=1)[order]
    untied = np.min(gaps, axis=1) > 1e-5
    np.testing.assert_array_equal(order[permuted][untied], index[order][untied])


def test_lists_find_most_neighbours_of_clustered_rows_and_more_probes_find_more():
    vectors = clustered(2_000)
    shares = [recall(vectors, graph(vectors, 10, **LISTS_ALONE, probes=probes)[0]) for probes in (1, 4, 16)]
    assert shares[0] < shares[1] < shares[2] and shares[2] > 0.95


@pytest.mark.parametrize("seed", [0, 1])
def test_with_all_lists_probed_the_graph_is_exact(seed):
    vectors = clustered(700)
    index, cosine = graph(vectors, 12, seed=seed, **LISTS_ALONE, probes=10**6)
    exact_index, exact_cosine = graph(vectors, 12)
    np.testing.assert_array_equal(index, exact_index)
    np.testing.assert_allclose(cosine, exact_cosine, atol=1e-6)


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 60), st.integers(0, 10**6), st.integers(1, 8), st.data())
def test_lists_give_different_rows_with_their_own_cosines_falling_whatever_the_pool(n, seed, probes, data):
    k = data.draw(st.integers(1, n))
    vectors = with_exact_cosines(n, seed)
    index, cosine = graph(vectors, k, seed=seed, **LISTS_ALONE, probes=probes)
    assert all(len(set(row)) == k for row in index.tolist())
    assert index[:, 0].tolist() == list(range(n)) and 0 <= index.min() and index.max() < n
    np.testing.assert_array_equal(cosine, np.take_along_axis(vectors @ vectors.T, index.astype(np.int64), axis=1))
    assert (np.diff(cosine[:, 1:], axis=1) <= 0).all()


def test_a_row_meets_the_rows_that_look_into_its_list_and_not_only_those_whose_list_it_looks_into():
    """The lists are those of the search; with two probes a pair meets if either looks into the list of the other."""
    vectors = clustered(1_500)
    two, expected = graph(vectors, 10, **LISTS_ALONE, probes=2)[0], []
    rows = np.arange(len(vectors))
    lists = neighbours._nearest_lists(vectors, rows, neighbours._centres(vectors, rows, 77, 0), 2)
    cosine = vectors @ vectors.T
    for row in range(len(vectors)):
        met = np.isin(lists[:, 0], lists[row]) | (lists == lists[row, 0]).any(axis=1)
        expected.append(set(np.argsort(np.where(met, -cosine[row], 9), kind="stable")[:10].tolist()))
    assert [set(row) for row in two.tolist()] == expected


def test_the_graph_of_lists_depends_on_the_seed_alone_and_not_on_blocks_or_threads(tmp_path):
    vectors = clustered(1_200)
    np.save(tmp_path / "vectors.npy", vectors)
    program = (
        "import sys, numpy as np; from curate.vectors import neighbours as n; n._BLOCK = int(sys.argv[2])\n"
        "v = np.load(sys.argv[1] + '/vectors.npy'); e = {'exact_below': 0, 'probes': 3}\n"
        "graphs = [n.graph(v, 8, seed=1, **e)[0], n.graph(v, 8, seed=2, **e)[0], n.graph(v, 8)[0]]\n"
        "np.savez(sys.argv[1] + '/' + sys.argv[3], *graphs)"
    )
    graphs = []
    for threads, block in ((1, 1024), (2, 1024), (2, 100)):
        environment = {**os.environ} | {f"{name}_NUM_THREADS": str(threads) for name in ("OMP", "OPENBLAS", "MKL")}
        command = [sys.executable, "-c", program, str(tmp_path), str(block), f"{threads}-{block}.npz"]
        subprocess.run(command, env=environment, check=True)
        with np.load(tmp_path / f"{threads}-{block}.npz") as arrays:
            graphs.append([arrays[name] for name in arrays.files])
    for other in graphs[1:]:
        for first, again in zip(graphs[0], other, strict=True):
            np.testing.assert_array_equal(first, again)
    assert (graphs[0][0] != graphs[0][1]).any()


def test_rows_of_zeros_are_like_nothing():
    vectors = clustered(300)
    vectors[[0, 5, 250]] = 0
    for options in ({}, LISTS_ALONE):
        index, cosine = graph(vectors, 4, **options)
        assert index[[0, 5, 250]].tolist() == [[0, 1, 2, 3], [5, 0, 1, 2], [250, 0, 1, 2]]
        assert (cosine[[0, 5, 250]] == 0).all()
        assert not np.isin(np.delete(index, [0, 5, 250], axis=0), [0, 5, 250]).any()
    nothing = np.zeros((3, 2), dtype=np.float32)
    assert (
        graph(nothing, 3, **LISTS_ALONE)[0].tolist()
        == graph(nothing, 3)[0].tolist()
        == [[0, 1, 2], [1, 0, 2], [2, 0, 1]]
    )


def test_recall_is_the_share_of_true_neighbours_and_copies_of_one_are_as_good():
    vectors = clustered(400)
    index, _ = graph(vectors, 6)
    assert recall(vectors, index) == 1
    spoilt = index.copy()
    spoilt[:, 5] = graph(-vectors, 400)[0][:, -1]  # the farthest row in place of the last neighbour
    assert recall(vectors, spoilt) == pytest.approx(4 / 5)
    assert recall(vectors, spoilt, rows=40) == pytest.approx(4 / 5)
    assert recall(vectors, index[:, :1]) == 1
    half = index.copy()
    half[::2, 1:] = spoilt[::2, 5:]
    assert 0.3 < recall(vectors, half, rows=100, seed=3) < 0.7

    twice = np.concatenate([vectors, vectors])
    of_copies = graph(twice, 6)[0]
    of_copies[:, 2:] = (of_copies[:, 2:] + 400) % 800
    assert recall(twice, of_copies) == 1


def test_a_request_that_does_not_fit_is_one_sentence():
    vectors = clustered(10)
    for k in (0, 11):
        with pytest.raises(
            MethodError, match=rf"^neighbour graph: k {k} should be between 1 and the number of rows, 10$"
        ):
            graph(vectors, k)
    with pytest.raises(MethodError, match="probes 0 should be at least 1"):
        graph(vectors, 3, probes=0)


@pytest.mark.parametrize(
    "search", [lambda vectors: graph(vectors, 3), lambda vectors: recall(vectors, np.zeros((10, 3), np.int32))]
)
def test_vectors_that_are_not_finite_of_unit_length_and_float32_are_one_sentence(search):
    for value, says in ((np.nan, "nan"), (np.inf, "inf"), (3.0, "9")):
        vectors = clustered(10)
        vectors[4, 2] = value
        with pytest.raises(
            ContractError, match=rf"length one or zero, and the square of that of row 4 of 10 is {says}"
        ):
            search(vectors)
    for wrong in (clustered(10).astype(np.float64), clustered(10)[0]):
        with pytest.raises(ContractError, match=r"needs float32 vectors of shape \(rows, dimensions\)"):
            search(wrong)


def test_all_pairs_in_the_memory_of_a_device_find_the_same_neighbours():
    pytest.importorskip("torch")
    vectors = np.random.default_rng(0).normal(size=(150, 16)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    index, cosine = neighbours.graph(vectors, 9)
    keys = neighbours._on_device(vectors, 8, "cpu", block=64)
    assert (neighbours._index(keys) == index[:, 1:]).all()
    np.testing.assert_allclose(neighbours._cosine(keys), cosine[:, 1:], atol=1e-5)
