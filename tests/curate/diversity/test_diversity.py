from __future__ import annotations

import ast
import gzip
import importlib
import itertools
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import curate.diversity
from curate.contract.errors import MethodError
from curate.diversity import (
    compression,
    coverage,
    distinct_n,
    group_entropy,
    lengths,
    log_det,
    novelsum,
    remote_clique,
    remote_edge,
    vendi,
    verb_noun,
    vocabulary,
)
from curate.diversity import sample as samples
from curate.diversity.sample import Sample
from curate.vectors import density as densities
from curate.vectors.density import around

FILES = [path for path in sorted(Path(curate.diversity.__path__[0]).glob("*.py")) if "def measure(" in path.read_text()]
EVERY = [importlib.import_module(f"curate.diversity.{path.stem}") for path in FILES]
OF_VECTORS = [coverage, log_det, novelsum, remote_clique, remote_edge, vendi]


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def random_unit(k: int, d: int, seed: int = 0) -> np.ndarray:
    return unit(np.random.default_rng(seed).normal(size=(k, d)) + 0.5)


def of(vectors: np.ndarray, **more) -> Sample:
    table = pl.DataFrame({"id": [f"id{i:04d}" for i in range(len(vectors))]})
    return Sample(table, vectors.astype(np.float32), **more)


def texts(prompts: Sequence[str | None], responses: Sequence[str | None] | None = None) -> Sample:
    table = pl.DataFrame(
        {"id": [str(i) for i in range(len(prompts))], "prompt": prompts}, {"id": pl.String, "prompt": pl.String}
    )
    return Sample(table if responses is None else table.with_columns(response=pl.Series(responses, dtype=pl.String)))


def whole(seed: int = 0) -> Sample:
    """A sample to which every measure applies."""
    rng = np.random.default_rng(seed)
    vectors, words = random_unit(40, 8, seed), ["red", "green", "blue", "stone", "river", "cloud"]
    table = pl.DataFrame(
        {
            "id": [f"id{i:04d}" for i in range(40)],
            "prompt": [f"Write a {rng.choice(words)} about {rng.choice(words)}" for _ in range(40)],
            "response": [" ".join(rng.choice(words, 1 + i % 5)) for i in range(40)],
            "source": rng.choice(["a", "b"], 40),
            "task": rng.choice(["x", "y", "z"], 40),
            "cluster": rng.integers(0, 5, 40),
            "template": rng.choice(["s", "t"], 40),
        }
    )
    nearest, density = around(vectors, np.arange(40), [np.arange(0, 40, 2), np.arange(40)], neighbours=3)
    return Sample(table, vectors, nearest[0], density)


# every measure


@pytest.mark.parametrize("metric", EVERY)
def test_every_measure_says_what_it_gives_and_gives_what_it_says(metric):
    values = metric.measure(whole())
    assert set(values) == set(metric.ABOUT)
    assert all(type(value) is float and math.isfinite(value) for value in values.values())
    assert all(better in ("higher", "lower", None) and len(about) < 100 for about, better in metric.ABOUT.values())


def test_no_two_measures_have_the_same_name():
    names = [name for metric in EVERY for name in metric.ABOUT]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_measure_is_documented_and_its_options_are_keywords_with_defaults(path):
    tree = ast.parse(path.read_text())
    said = ast.get_docstring(tree) or ""
    first = said.split("\n")[0]
    assert first.endswith(".") and len(first) < 200
    assert "For a reader:" in said and "Cost:" in said and "Reference:" in said and "more diverse" in said
    function = next(node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "measure")
    assert [argument.arg for argument in function.args.args] == ["sample"]
    assert all(default is not None for default in function.args.kw_defaults)


@pytest.mark.parametrize("metric", EVERY)
def test_the_order_of_the_rows_changes_nothing(metric):
    sample = whole()
    assert sample.vectors is not None and sample.density is not None
    order = np.random.default_rng(3).permutation(40)
    again = Sample(sample.table[order], sample.vectors[order], sample.nearest, sample.density[order])
    assert metric.measure(again) == pytest.approx(metric.measure(sample), rel=1e-5)


@pytest.mark.parametrize("metric", EVERY)
def test_a_measure_that_lacks_what_it_needs_gives_nothing(metric):
    assert metric.measure(Sample(pl.DataFrame({"id": ["a", "b"]}))) == {}


@pytest.mark.parametrize("metric", EVERY)
def test_one_row_and_no_row_give_numbers_or_nothing(metric):
    sample = whole()
    assert sample.vectors is not None and sample.density is not None
    for k in (0, 1):
        part = Sample(sample.table[:k], sample.vectors[:k], sample.nearest if k else None, sample.density[:k])
        if k or metric not in OF_VECTORS:
            assert all(math.isfinite(value) for value in metric.measure(part).values())


# vendi, log_det


def entropy_number(vectors: np.ndarray, order: float) -> float:
    """The Vendi score from the k x k matrix, as it is defined."""
    share = np.linalg.eigvalsh(vectors.astype(np.float64) @ vectors.T.astype(np.float64) / len(vectors))
    share = share[share > 1e-12]
    if order == 1:
        return float(np.exp(-(share * np.log(share)).sum()))
    return 1 / share.max() if order == np.inf else float((share**order).sum() ** (1 / (1 - order)))


@pytest.mark.parametrize(("k", "d"), [(5, 12), (12, 12), (60, 6)])
def test_vendi_in_its_dual_form_is_the_one_of_the_cosines(k, d):
    vectors = random_unit(k, d)
    values = vendi.measure(of(vectors))
    for name, order in (("0.5", 0.5), ("1", 1), ("2", 2), ("infinity", np.inf)):
        assert values[f"vendi_{name}"] == pytest.approx(entropy_number(vectors, order), rel=1e-4)


def test_vendi_is_one_for_copies_and_k_for_rows_at_right_angles():
    assert vendi.measure(of(np.tile(random_unit(1, 6), (9, 1)))) == pytest.approx(
        dict.fromkeys(vendi.ABOUT, 1), rel=1e-5
    )
    assert vendi.measure(of(np.eye(7))) == pytest.approx(dict.fromkeys(vendi.ABOUT, 7))
    assert vendi.measure(of(np.repeat(np.eye(4, 3), 5, axis=0)[:15])) == pytest.approx(dict.fromkeys(vendi.ABOUT, 3))


@given(
    arrays(np.float64, (9, 4), elements=st.floats(-1, 1, width=32)).filter(
        lambda x: (np.abs(x).max(axis=1) > 0.01).all()
    )
)
@settings(max_examples=60, deadline=None)
def test_vendi_lies_between_one_and_the_rank_and_falls_with_its_order(vectors):
    values = list(vendi.measure(of(unit(vectors))).values())
    assert 1 - 1e-4 <= values[3] and values[0] <= 4 + 1e-4
    assert all(a >= b * (1 - 1e-5) for a, b in itertools.pairwise(values))


def test_a_row_of_zeros_is_like_nothing():
    some = np.vstack([np.eye(3, 5), np.zeros((2, 5))])
    assert vendi.measure(of(some))["vendi_1"] == pytest.approx(5)
    assert log_det.measure(of(some))["log_det_distance"] == pytest.approx(0, abs=1e-9)
    assert remote_clique.measure(of(some))["remote_clique"] == pytest.approx(1)
    assert remote_edge.measure(of(some))["remote_edge"] == pytest.approx(1)


@pytest.mark.parametrize(("k", "d"), [(5, 12), (12, 12), (60, 6)])
def test_log_det_is_the_determinant_of_the_cosines(k, d):
    vectors = random_unit(k, d).astype(np.float64)
    sign, volume = np.linalg.slogdet(vectors @ vectors.T + 0.01 * np.eye(k))
    assert sign == 1
    values = log_det.measure(of(vectors), noise=0.01)["log_det_distance"]
    assert values == pytest.approx(np.log(1.01) - volume / k, rel=1e-4)


def test_log_det_is_zero_at_right_angles_and_large_for_copies():
    assert log_det.measure(of(np.eye(5)))["log_det_distance"] == pytest.approx(0)
    copies = log_det.measure(of(np.tile(random_unit(1, 6), (9, 1))))["log_det_distance"]
    assert copies == pytest.approx(np.log(1.001) - (np.log(9.001) + 8 * np.log(0.001)) / 9, rel=1e-3)


def test_a_noise_of_zero_is_one_sentence():
    with pytest.raises(MethodError, match=r"noise 0 should be above 0; 0.001 is usual"):
        log_det.measure(of(np.eye(3)), noise=0)


# coverage, density


def brute_around(vectors, sample, subset, neighbours):
    """nearest and density by the definition, row by row."""
    cosine = vectors.astype(np.float64) @ vectors.astype(np.float64).T
    nearest = [max(cosine[row, other] for other in subset) for row in sample]
    density = []
    for row in subset:
        squared = sorted(2 - 2 * cosine[row, other] for other in sample if cosine[row, other] <= 1 - 5e-7)
        density.append(1 / np.mean(squared[:neighbours]))
    return nearest, density


def test_one_pass_gives_every_subset_its_nearness_and_density(monkeypatch):
    monkeypatch.setattr(densities, "_BLOCK", 7)
    vectors = random_unit(80, 5)
    vectors[11] = vectors[40]  # copies do not count as neighbours of each other
    sample = np.arange(0, 80, 3)
    subsets = [np.array([11, 12, 40, 79]), np.arange(3, 60, 4), np.array([0])]
    nearest, density = around(vectors, sample, subsets, neighbours=4)
    for number, subset in enumerate(subsets):
        expected = brute_around(vectors, sample, subset, 4)
        np.testing.assert_allclose(nearest[number], expected[0], atol=1e-6)
        np.testing.assert_allclose(density[subset], expected[1], rtol=1e-4)
    assert np.isnan(density[[1, 2, 5]]).all()


def test_density_is_finite_where_the_pool_is_copies_or_tiny():
    vectors = np.tile(random_unit(1, 4), (6, 1))
    assert np.isfinite(around(vectors, np.arange(6), [np.arange(6)])[1]).all()
    vectors = random_unit(3, 4)
    expected = brute_around(vectors, np.arange(3), np.arange(3), 2)[1]
    np.testing.assert_allclose(around(vectors, np.arange(3), [np.arange(3)])[1], expected, rtol=1e-4)


def test_coverage_is_the_worst_and_the_mean_of_the_pool():
    vectors, subset = random_unit(50, 4), np.array([1, 7, 30])
    away = np.linalg.norm(vectors[:, None].astype(np.float64) - vectors[subset], axis=2).min(axis=1)
    values = coverage.measure(of(vectors[subset], nearest=around(vectors, np.arange(50), [subset])[0][0]))
    assert values["coverage_radius"] == pytest.approx(away.max(), rel=1e-5)
    assert values["pool_similarity"] == pytest.approx((1 - away**2 / 2).mean(), rel=1e-5)


def test_a_subset_that_is_the_pool_covers_it_wholly():
    vectors = random_unit(20, 4)
    values = coverage.measure(of(vectors, nearest=around(vectors, np.arange(20), [np.arange(20)])[0][0]))
    assert values == pytest.approx({"coverage_radius": 0, "pool_similarity": 1}, abs=1e-3)


# remote_clique, remote_edge, novelsum


@given(st.integers(2, 30), st.integers(1, 8), st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_remote_clique_and_edge_are_the_mean_and_the_least_of_all_pairs(k, d, seed):
    vectors = random_unit(k, d, seed)
    pairs = [1 - float(vectors[i].astype(float) @ vectors[j]) for i in range(k) for j in range(i)]
    sample = of(vectors)
    assert remote_clique.measure(sample)["remote_clique"] == pytest.approx(np.mean(pairs), abs=1e-6)
    assert remote_edge.measure(sample)["remote_edge"] == pytest.approx(min(pairs), abs=1e-6)


def novel(vectors, density, rows, alpha=1.0, beta=0.5):
    """NovelSum by its formula."""
    total = 0.0
    for i in rows:
        distances = sorted(1 - float(vectors[i].astype(float) @ vectors[j]) for j in range(len(vectors)) if j != i)
        weights = [1 / rank**alpha for rank in range(1, len(vectors))]
        total += density[i] ** beta * sum(w * d for w, d in zip(weights, distances, strict=True)) / sum(weights)
    return total / len(rows)


@pytest.mark.parametrize("powers", [{}, {"density_power": 0.0}, {"density_power": 1.0, "distance_power": 2.0}])
def test_novelsum_is_its_formula(powers):
    vectors, density = random_unit(25, 5), np.random.default_rng(1).uniform(0.5, 9, 25).astype(np.float32)
    expected = novel(vectors, density, range(25), powers.get("distance_power", 1), powers.get("density_power", 0.5))
    assert novelsum.measure(of(vectors, density=density), **powers)["novelsum"] == pytest.approx(expected, rel=1e-5)


def test_without_powers_novelsum_is_the_remote_clique():
    sample = of(random_unit(25, 5), density=np.ones(25, dtype=np.float32))
    values = novelsum.measure(sample, density_power=0.0, distance_power=0.0)["novelsum"]
    assert values == pytest.approx(remote_clique.measure(sample)["remote_clique"], rel=1e-5)


def test_of_a_large_subset_a_part_of_the_pairs_is_looked_at_whatever_the_order(monkeypatch):
    monkeypatch.setattr(samples, "_PAIRS", 300)
    vectors, density = random_unit(30, 5), np.random.default_rng(1).uniform(0.5, 9, 30).astype(np.float32)
    sample = of(vectors, density=density)
    assert sample.distances is not None
    rows, distances = sample.distances
    assert distances.shape == (10, 29) and len(set(rows.tolist())) == 10
    assert novelsum.measure(sample)["novelsum"] == pytest.approx(novel(vectors, density, rows), rel=1e-5)
    order = np.random.default_rng(2).permutation(30)
    again = Sample(sample.table[order], vectors[order], density=density[order])
    assert again.distances is not None
    assert set(again.table["id"][again.distances[0]]) == set(sample.table["id"][rows])
    assert novelsum.measure(again)["novelsum"] == pytest.approx(novelsum.measure(sample)["novelsum"], rel=1e-5)


def test_a_row_that_is_there_twice_makes_the_remote_edge_zero():
    vectors = random_unit(20, 5)
    vectors[3] = vectors[17]
    assert remote_edge.measure(of(vectors))["remote_edge"] == pytest.approx(0, abs=1e-6)


# group_entropy


def test_entropy_is_zero_for_one_group_and_the_log_of_even_groups():
    table = pl.DataFrame(
        {"id": list("abcd"), "task": ["x"] * 4, "cluster": [0, 1, -1, 3], "source": ["a", None, "a", None]}
    )
    values = group_entropy.measure(Sample(table))
    assert values == {"task_entropy": 0, "cluster_entropy": 2, "source_entropy": 1}


@given(st.lists(st.sampled_from("abcdef"), min_size=1, max_size=40))
def test_entropy_is_its_formula(values):
    expected = -sum(c / len(values) * math.log2(c / len(values)) for c in Counter(values).values())
    assert group_entropy.bits(pl.Series(values)) == pytest.approx(expected, abs=1e-12)


# texts


def naive_words(prompt: str | None, response: str | None = None) -> list[str]:
    text = "\n\n".join(part for part in (prompt, response) if part is not None)
    return "".join(char if char.isalnum() else " " for char in text.lower()).split()


@given(st.lists(st.lists(st.sampled_from(["a", "B", "b", "c,", "d-e"]), max_size=6), min_size=1, max_size=6))
@settings(max_examples=60, deadline=None)
def test_distinct_n_and_vocabulary_count_runs_inside_rows(rows):
    prompts = [" ".join(row) for row in rows]
    sample = texts(prompts)
    expected = {}
    for n in (1, 2, 3):
        runs = [tuple(w[i : i + n]) for w in map(naive_words, prompts) for i in range(len(w) - n + 1)]
        if runs:
            expected[f"distinct_{n}"] = len(set(runs)) / len(runs)
    assert distinct_n.measure(sample) == pytest.approx(expected)
    count = Counter(word for prompt in prompts for word in naive_words(prompt))
    if count:
        total = sum(count.values())
        values = vocabulary.measure(sample)
        assert values["word_entropy"] == pytest.approx(-sum(c / total * math.log2(c / total) for c in count.values()))
        assert values["words_used_once"] == pytest.approx(sum(c == 1 for c in count.values()) / len(count))


def test_distinct_n_reads_prompt_and_response_and_is_one_without_repetition():
    assert distinct_n.measure(texts(["a b"], ["b c"])) == pytest.approx(
        {"distinct_1": 3 / 4, "distinct_2": 1, "distinct_3": 1}
    )
    assert distinct_n.measure(texts(["a b c", None], [None, "d e f"])) == dict.fromkeys(distinct_n.ABOUT, 1)
    assert distinct_n.measure(texts(["a a a a"]))["distinct_3"] == 1 / 2
    assert distinct_n.measure(texts(["", None])) == {}


def test_compression_is_gzip_of_the_sorted_texts_and_larger_for_copies():
    rng = np.random.default_rng(0)
    different = ["".join(rng.choice(list("abcdefghijklmnop "), 300)) for _ in range(40)]
    ratio = compression.measure(texts(different))["compression_ratio"]
    whole_text = "\n".join(sorted(different)).encode()
    assert ratio == pytest.approx(len(whole_text) / len(gzip.compress(whole_text, 6)), rel=0.01)
    assert compression.measure(texts(different[:1] * 40))["compression_ratio"] > 10 * ratio
    assert compression.measure(texts([])) == {}


def test_lengths_are_means_and_spreads_of_words():
    values = lengths.measure(texts(["a b", "a  b\nc d", None], ["x", "x", "x"]))
    assert values["prompt_words"] == 2 and values["response_words"] == 1 and values["response_spread"] == 0
    assert values["prompt_spread"] == pytest.approx(np.std(np.log([3, 5, 1])))


@pytest.mark.parametrize(
    ("prompt", "pair"),
    [
        ("Write a short story about a dog.", "write story"),
        ("Give me three tips for staying healthy.", "give tip"),
        ("Rewrite the following sentence to make it passive.\n\nThe dog ate it.", "rewrite sentence"),
        ("Can you please list 5 books by Orwell?", "list book"),
        ("Your task is to classify these animals as mammals or not", "classify animal"),
        ("You are given a table. Please write python code that reads it.", "write code"),
        ('### Instruction:\nGenerate "funny" names', "generate name"),
        ("Identify the main idea of the passage", "identify idea"),
        ("Use the data below to calculate the mean", "calculate mean"),
        ("Describe the city's history", "describe history"),
        ("Name two countries", "name country"),
        ("Explain why the sky is blue", None),
        ("What is the capital of France?", None),
        ("Écris une histoire", None),
        ("", None),
    ],
)
def test_the_verb_and_its_object_are_found_by_rule(prompt, pair):
    assert verb_noun.pair(prompt) == pair


@given(st.text(max_size=200))
@settings(max_examples=100, deadline=None)
def test_any_text_has_a_pair_or_none(text):
    for prompt in (text, "Write " + text, "please " + text):
        pair = verb_noun.pair(prompt)
        assert pair is None or len(pair.split(" ")) == 2


def test_verb_noun_gives_the_entropy_of_what_was_found_and_its_share():
    values = verb_noun.measure(
        texts(["Write a story", "Write the stories", "Write a poem", "Write poems", "Why?", None])
    )
    assert values == {"verb_noun_entropy": pytest.approx(1), "verb_noun_found": 4 / 6}
    assert verb_noun.measure(texts(["Why?"])) == {"verb_noun_found": 0}


def test_a_fact_that_was_computed_before_is_used():
    sample = texts(["Write a story", "Write a poem"])
    facts = pl.DataFrame({"verb_noun": ["sing song", "sing song"]})
    assert verb_noun.measure(Sample(sample.table, facts=facts))["verb_noun_entropy"] == 0
