from __future__ import annotations

import re

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.contract.errors import MethodError
from curate.decontaminate import ngram

ITEM = "Natalia sold clips to 48 of her friends in April, and then she sold half as many in May."


def overlaps(texts: list[str | None], benchmark: list[str | None], **options) -> list[tuple[int, int, str, str]]:
    shared = ngram.overlaps(pl.Series(texts, dtype=pl.String), pl.Series(benchmark, dtype=pl.String), **options)
    return shared.select("row", "other", "matched", "reason").rows()


def runs(text: str | None, n: int) -> list[str]:
    words = re.findall(r"[^\W_]+", (text or "").lower())
    return [" ".join(words[start : start + n]) for start in range(len(words) - n + 1)]


def brute_force(texts: list[str | None], benchmark: list[str | None], n: int) -> list[tuple[int, int, str]]:
    lines = []
    for row, text in enumerate(texts):
        held = ((run, [other for other, item in enumerate(benchmark) if run in runs(item, n)]) for run in runs(text, n))
        run, others = next(((run, others) for run, others in held if others), ("", []))
        if others:
            lines.append((row, others[0], run))
    return lines


def test_a_text_that_quotes_an_item_is_found_whatever_its_case_and_punctuation():
    quoting = f"Solve: {ITEM.upper().replace(',', ' -')} How many in all?"
    run = "natalia sold clips to 48 of her friends in april and then she"
    assert overlaps(["something else", quoting], ["another item", ITEM]) == [(1, 1, run, "shares 13 words in a row")]


def test_one_word_fewer_in_a_row_is_not_found():
    twelve = " ".join(ITEM.split()[:12])
    assert overlaps([twelve], [ITEM]) == []
    assert [line[3] for line in overlaps([twelve], [ITEM], n=12)] == ["shares 12 words in a row"]


def test_no_text_and_no_item_share_nothing():
    assert overlaps([], [ITEM]) == overlaps([ITEM], []) == overlaps([None, ""], [ITEM, None, ""]) == []


def test_a_run_of_one_word_is_one_sentence():
    with pytest.raises(MethodError, match="decontaminate ngram: n is 1; it must be 2 or more"):
        overlaps([ITEM], [ITEM], n=1)


WORDS = st.lists(st.sampled_from(["a", "b", "C", "d.", "é", "_"]), max_size=9).map(" ".join)


@given(st.lists(WORDS | st.none(), max_size=6), st.lists(WORDS | st.none(), max_size=6), st.integers(2, 5))
def test_what_is_found_is_what_comparing_all_runs_finds(texts, benchmark, n):
    assert [line[:3] for line in overlaps(texts, benchmark, n=n)] == brute_force(texts, benchmark, n)
