from __future__ import annotations

import unicodedata

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from curate.dedup import exact


def repeats(texts: list[str | None]) -> list[int]:
    return exact.duplicates(pl.Series("text", texts, dtype=pl.String)).of.tolist()


def test_the_first_of_equal_texts_stays():
    assert repeats(["a", "b", "a", "b", "c"]) == [0, 1, 0, 1, 4]


def test_case_white_space_and_unicode_form_do_not_count_but_punctuation_does():
    assert repeats(["Hello  World", "hello\n world ", "ｈｅｌｌｏ world", "hello, world"]) == [0, 0, 0, 3]
    assert repeats(["2 - 2", "2 + 2", "2 * 2"]) == [0, 1, 2]


def test_a_missing_text_is_an_empty_one():
    assert repeats([None, "", " \n"]) == [0, 0, 0]
    assert repeats([]) == []


def test_similarity_is_one_and_of_the_right_type():
    duplicates = exact.duplicates(pl.Series(["a", "a"]))
    assert (
        duplicates.of.dtype == "int64"
        and duplicates.similarity.dtype == "float32"
        and duplicates.similarity.tolist() == [1, 1]
    )


def test_slices_do_not_show(monkeypatch):
    texts = [str(i % 7) for i in range(50)]
    whole = repeats(texts)
    monkeypatch.setattr(exact, "_SLICE", 8)
    assert repeats(texts) == whole == [i % 7 for i in range(50)]


@given(st.lists(st.text(alphabet="aAbB éÉ\u00a0\n.", max_size=4), max_size=30))
def test_two_rows_are_one_if_and_only_if_their_normal_forms_are_equal(texts):
    def normal(text: str) -> str:
        return " ".join(unicodedata.normalize("NFKC", text).lower().split())

    first: dict[str, int] = {}
    expected = [first.setdefault(normal(text), row) for row, text in enumerate(texts)]
    assert repeats(texts) == expected
