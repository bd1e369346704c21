from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from curate.cluster import kmeans
from curate.contract.errors import ContractError, MethodError
from curate.report.how_many_clusters import report, silhouette, suggest


def blobs(groups: int = 4, each: int = 40, spread: float = 0.05) -> np.ndarray:
    rng = np.random.default_rng(0)
    return (np.repeat(np.eye(groups, 6), each, axis=0) + rng.normal(0, spread, (groups * each, 6))).astype(np.float32)


def test_the_number_of_groups_that_there_are_is_suggested():
    lines = report(blobs(), [6, 2, 3, 4, 5], seeds=3)
    assert [line["k"] for line in lines] == [2, 3, 4, 5, 6]
    at = {line["k"]: line for line in lines}
    assert at[4]["stability"] == 1 and at[4]["silhouette"] > 0.9
    assert at[4]["smallest"] == at[4]["largest"] == 40
    assert at[6]["stability"] < 1 and at[6]["silhouette"] < at[4]["silhouette"]
    assert suggest(lines) == 4


def test_figures_are_those_of_kmeans_with_the_same_seeds():
    from sklearn.metrics import adjusted_rand_score, silhouette_score

    vectors = np.random.default_rng(0).normal(size=(200, 5)).astype(np.float32)
    line = report(vectors, [7], seeds=3, rows=200, seed=5)[0]
    labels = [kmeans.cluster(vectors, seed=seed, k=7).label for seed in (5, 6, 7)]
    sizes = np.bincount(labels[0])
    assert (line["clusters"], line["smallest"], line["largest"]) == (7, sizes.min(), sizes.max())
    scores = [silhouette_score(vectors.astype(np.float64), label, metric="cosine") for label in labels]
    assert line["silhouette"] == pytest.approx(np.mean(scores), abs=1e-6)
    agreement = [adjusted_rand_score(one, other) for one, other in combinations(labels, 2)]
    assert line["stability"] == pytest.approx(np.mean(agreement), abs=1e-12)


@given(st.integers(0, 2**32 - 1), st.integers(3, 40), st.integers(2, 8))
@settings(max_examples=40, deadline=None)
def test_the_silhouette_is_that_of_its_definition(seed, n, groups):
    rng = np.random.default_rng(seed)
    vectors, label = rng.normal(size=(n, 3)), rng.integers(0, groups, n) * 3
    assume(1 < len(set(label.tolist())) < n)
    vectors[rng.integers(0, n, n // 3)] = vectors[0]  # copies
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    distances = np.maximum(1 - vectors @ vectors.T, 0)
    np.fill_diagonal(distances, 0)
    expected = []
    for row, own in enumerate(label):
        others = (label == own) & (np.arange(n) != row)
        inside = distances[row, others].mean() if others.any() else None
        outside = min(distances[row, label == other].mean() for other in set(label.tolist()) - {own})
        larger = max(inside or 0, outside)
        expected.append(0.0 if inside is None or larger < 1e-12 else (outside - inside) / larger)
    assert silhouette(distances, label) == pytest.approx(np.mean(expected), abs=1e-9)


def test_a_silhouette_of_one_cluster_or_of_single_rows_is_none():
    distances = 1 - np.eye(3)
    assert silhouette(distances, np.zeros(3)) is None and silhouette(distances, np.arange(3)) is None
    lines = report(blobs(), [1], seeds=2)
    assert lines[0]["silhouette"] is None and lines[0]["stability"] == 1
    assert suggest(lines) is None


def test_neither_the_order_of_the_rows_nor_rows_of_zeros_change_a_figure():
    vectors = np.random.default_rng(0).normal(size=(150, 4)).astype(np.float32)
    first = report(vectors, [3, 9], seeds=2, rows=60)
    mixed = np.concatenate([vectors, np.zeros((3, 4), np.float32)])[np.random.default_rng(1).permutation(153)]
    assert report(mixed, [9, 3, 3], seeds=2, rows=60) == first
    assert report(vectors, [3, 9], seeds=2, rows=60, seed=1) != first


def test_the_rule_takes_the_largest_silhouette_among_the_stable_and_the_smaller_of_equals():
    def line(k: int, silhouette: float | None, stability: float) -> dict:
        return {"k": k, "silhouette": silhouette, "stability": stability}

    assert suggest([line(1, None, 1.0), line(4, 0.2, 0.6), line(8, 0.3, 0.52), line(16, 0.9, 0.4)]) == 8
    assert suggest([line(8, 0.3, 0.7), line(4, 0.3, 0.7)]) == 4


def test_bad_input_is_one_sentence():
    vectors = blobs()
    with pytest.raises(MethodError, match="k 161 should be between 1 and the number of rows, 160"):
        report(vectors, [4, 161])
    with pytest.raises(MethodError, match="seeds 1 should be 2 or more"):
        report(vectors, [4], seeds=1)
    with pytest.raises(MethodError, match="rows 1 should be 2 or more"):
        report(vectors, [4], rows=1)
    with pytest.raises(MethodError, match="ks should name"):
        report(vectors, [])
    with pytest.raises(ContractError, match="two rows that are not zero, and there are 0"):
        report(np.zeros((5, 3), np.float32), [2])
