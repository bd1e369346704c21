"""The metrics, by hand."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.lint.metrics import METRICS, bleu
from curate.template import sets as template


@pytest.mark.parametrize(
    ("metric", "prediction", "references", "score"),
    [
        ("accuracy", " yes\n", ["yes"], 1),
        ("accuracy", "Yes", ["yes"], 0),
        ("exact_match", "The Bell Rock!", ["bell  rock"], 1),
        ("exact_match", "Bell Rock lighthouse", ["bell rock"], 0),
        ("f1", "the Bell Rock", ["Bell Rock lighthouse", "Rock"], 0.8),  # 2 of 2 and 2 of 3
        ("f1", "the", ["a"], 1),
        ("f1", "the", ["rock"], 0),
        ("rouge_l", "police kill the gunman", ["police killed the gunman"], 0.75),  # Lin 2004, section 3.1
        ("rouge_l", "the gunman kill police", ["police killed the gunman"], 0.5),
        ("rouge_l", "Дом у моря", ["дом у реки", "Дом у моря."], 1),
        ("rouge_l", ":-)", [":-)"], 0),
        ("bleu", "a b c d", ["a b c d"], 1),
        ("bleu", "oui", ["oui"], 1),
        ("bleu", "a b c d", ["x y z w"], 0),
        ("bleu", "", [""], 0),
        ("bleu", "a b c d", ["a b c d e f g h"], math.exp(-1)),
    ],
)
def test_a_score_is_the_one_by_hand(metric, prediction, references, score):
    assert METRICS[metric](prediction, references) == pytest.approx(score)


def test_bleu_clips_by_the_most_that_one_reference_has():
    """The example of Papineni et al. 2002, section 2.1: "the" seven times has the precision 2/7."""
    one, two = "the cat is on the mat", "there is a cat on the mat"
    assert bleu("the", [one, two]) == pytest.approx(math.exp(1 - 6))
    assert bleu("the the the the the the the", [one, two]) == 0  # no bigram
    assert bleu("the cat the cat on the mat", [one, two]) < 1


@given(st.text(alphabet="abcdefg hij\n", min_size=1).filter(str.strip), st.text(alphabet="abcdefg hij"))
def test_a_text_scores_one_against_itself_and_no_metric_leaves_its_range(text, other):
    for metric in METRICS.values():
        assert metric(text, [text]) == pytest.approx(1)
        assert 0 <= metric(other, [text]) <= 1


def test_every_metric_that_a_set_may_name_is_here_but_that_of_a_model():
    assert {*METRICS, "bits_per_byte"} == set(template.METRICS)
