from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.contract.errors import ContractError, MethodError
from curate.rows import cluster_names
from curate.rows.cluster_names import names

TEXTS = [
    "Write a poem about the sea and the waves",
    "The sea, the sea: a poem of waves",
    "Waves are in this poem",
    "Solve the equation for x",
    "An equation with a fraction: solve it",
    "Which fraction solves the equation?",
]
LABEL = np.array([0, 0, 0, 1, 1, 1])


def test_a_name_is_the_most_typical_words_without_function_words():
    assert names(TEXTS, LABEL) == {0: "poem, sea, waves", 1: "equation, fraction, solve"}
    assert names(TEXTS, LABEL, words=1) == {0: "poem", 1: "equation"}


def test_the_weight_of_a_word_is_class_based_tf_idf():
    """Counts: cluster 0 shared 6, rare 4; cluster 1 shared 9, apple 1. A = 10, so rare beats shared in cluster 0 with
    4 log(1 + 10/4) = 5.0 over 6 log(1 + 10/15) = 3.1, and shared beats apple in cluster 1 with 4.6 over 2.4."""
    texts = ["shared " * 6 + "rare " * 4, "shared " * 9 + "apple"]
    assert names(texts, np.array([0, 1]), words=2) == {0: "rare, shared", 1: "shared, apple"}


def test_noise_is_called_noise_and_counts_nowhere():
    with_noise = names([*TEXTS, "poem " * 500], np.append(LABEL, -1))
    assert with_noise == {**names(TEXTS, LABEL), -1: "noise"}
    assert names(["anything"], np.array([-1])) == {-1: "noise"}


def test_names_differ_and_the_larger_label_gets_more_words():
    most = "cat " * 20 + "dog " * 15
    texts = [most + "bird", most + "fish", most]
    assert names(texts, np.arange(3), words=2) == {0: "cat, dog", 1: "cat, dog, fish", 2: "cluster 2"}


def test_a_cluster_without_a_word_is_called_by_its_number():
    assert names(["12 + 3", "the of and", "", "one apple"], np.arange(4)) == {
        0: "cluster 0",
        1: "cluster 1",
        2: "cluster 2",
        3: "apple",
    }


def test_a_plural_does_not_stand_beside_its_singular():
    assert names(["array array arrays arrays box boxes shape"], np.array([0])) == {0: "array, box, shape"}


def test_words_that_are_frequent_in_most_clusters_name_none_of_them():
    topics = ["chat chien", "pomme poire", "table chaise", "rouge bleu", "train avion"]
    texts = [f"le {topic.split()[0]} et le {topic.split()[1]} dans le pays" for topic in topics for _ in range(5)]
    named = names(texts, np.repeat(np.arange(5), 5))
    assert named == {i: ", ".join(sorted(topic.split())) for i, topic in enumerate(topics)}


def test_letters_of_every_script_make_words_and_digits_do_not():
    assert names(["Straße straße ÉCOLE école слово v2 3d x"], np.array([0])) == {0: "straße, école, слово"}


def test_null_texts_are_empty_and_a_series_is_taken():
    series = pl.Series([None, *TEXTS], dtype=pl.String)
    assert names(series, np.append(0, LABEL)) == names(TEXTS, LABEL)


def test_no_rows_have_no_names():
    assert names([], np.array([], dtype=np.int32)) == {}


def test_of_a_large_cluster_a_part_is_read_whatever_the_order(monkeypatch):
    monkeypatch.setattr(cluster_names, "_ROWS_OF_CLUSTER", 20)
    monkeypatch.setattr(cluster_names, "_SLICE", 7)
    rng = np.random.default_rng(0)
    texts = [f"common word{'abcdefghij'[i % 10]}q text" for i in range(300)]
    label = np.arange(300) // 150
    assert cluster_names._drawn(pl.Series(texts), label).height == 40
    first = names(texts, label, words=6)
    for _ in range(3):
        order = rng.permutation(300)
        assert names([texts[i] for i in order], label[order], words=6) == first


@given(st.lists(st.tuples(st.text("ab c", max_size=12), st.integers(-1, 6)), max_size=30), st.integers(1, 4))
@settings(max_examples=60, deadline=None)
def test_every_label_has_one_name_and_no_two_are_the_same(rows, words):
    label = np.array([label for _, label in rows], dtype=np.int32)
    named = names([text for text, _ in rows], label, words=words)
    assert set(named) == set(label.tolist())
    assert len(set(named.values())) == len(named)


def test_bad_input_is_one_sentence():
    with pytest.raises(ContractError, match="2 texts and 1 labels"):
        names(["a", "b"], np.array([0]))
    with pytest.raises(MethodError, match="words 0 should be 1 or more"):
        names(["a"], np.array([0]), words=0)
