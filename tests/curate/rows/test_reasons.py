"""Reasons that differ in a row's value alone are counted together."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.rows.reasons import folded


@pytest.mark.parametrize(
    ("reason", "counted_as"),
    [
        ("length: words 2 < 3", "length: words < 3"),
        ("length: characters 12,345 > 9,000", "length: characters > 9,000"),
        ("repetition: share of repeated lines 0.42 > 0.30", "repetition: share of repeated lines > 0.30"),
        (
            "repetition: share of characters in the most frequent 2-gram 0.27 > 0.20",
            "repetition: share of characters in the most frequent 2-gram > 0.20",
        ),
        ("dedup: repeats another row", "dedup: repeats another row"),
        ("not selected", "not selected"),
        ("a.jsonl:7: not JSON", "not JSON"),
        ("b/a.json.gz:row:1860: the response is empty", "the response is empty"),
        ("a.jsonl:7: keep: category is 'x'", "keep: category is 'x'"),
        ("length: 2 words < 3", "length: N words < 3"),
        ("mix: not drawn for the 3000 rows of sst2", "mix: not drawn for the N rows of sst2"),
        ('refusal: begins with "as an ai"', 'refusal: begins with "as an ai"'),
    ],
)
def test_a_reason_is_counted_without_its_place_and_value(reason: str, counted_as: str) -> None:
    assert folded(reason) == counted_as


@given(st.floats(-1e4, 1e4).map(lambda value: f"{value:.2f}"), st.integers(-9, 9))
def test_the_value_never_shows_and_the_limit_always_does(value: str, limit: int) -> None:
    assert folded(f"quality: score {value} < {limit}") == f"quality: score < {limit}"


@given(st.text(), st.integers(0, 9))
def test_a_reason_that_is_folded_keeps_its_limit_when_it_is_folded_again(what: str, limit: int) -> None:
    assert folded(folded(f"length: words 2 < {limit}")) == f"length: words < {limit}"
    assert isinstance(folded(what), str)
