from __future__ import annotations

import math
import zlib
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.contract.errors import MethodError, RequestError
from curate.score import compression, length


def scores(method, texts: list[str | None], **options) -> list[float]:
    values = method.score(pl.Series("text", texts, dtype=pl.String), **options)
    assert values.dtype == np.float32 and values.shape == (len(texts),)
    return values.tolist()


# length


def test_the_length_of_a_text_is_its_words_or_its_characters():
    texts = ["a b  c", "it's, well", "éé\n", "", None]
    assert scores(length, texts) == [3, 2, 1, 0, 0]
    assert scores(length, texts, unit="characters") == [6, 10, 3, 0, 0]


def test_words_are_those_that_filter_length_counts_and_words_as_tokens_part_at_white_space_alone():
    assert scores(length, ["我爱你 yes"]) == [4]
    assert scores(length, ["我爱你 yes"], unit="tokens") == [2]


@given(st.lists(st.text(alphabet="ab \n\t.,é", max_size=20), max_size=8))
def test_words_are_the_runs_between_white_space(texts):
    assert scores(length, texts) == [len(text.split()) for text in texts]


def test_tokens_are_those_of_the_tokenizer_beside_the_recipe(tmp_path: Path):
    tokenizers = pytest.importorskip("tokenizers")
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel({"?": 0}, unk_token="?"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.save(str(tmp_path / "t.json"))
    assert scores(length, ["so, well", ""], unit="tokens", tokenizer="t.json", folder=tmp_path) == [3, 0]


def test_the_content_of_the_tokenizer_is_what_the_length_depends_on(tmp_path: Path):
    (tmp_path / "t.json").write_text("one")
    before = length.identity(unit="tokens", tokenizer="t.json", folder=tmp_path)
    (tmp_path / "t.json").write_text("two")
    assert before != length.identity(unit="tokens", tokenizer="t.json", folder=tmp_path)
    assert length.identity(unit="words", tokenizer="words") == {}


def test_a_tokenizer_that_is_not_there_or_that_nothing_asks_for_is_one_sentence():
    with pytest.raises(RequestError, match=r"^score length: there is no tokenizer at 'no/t.json'; give "):
        length.identity(unit="tokens", tokenizer="no/t.json")
    with pytest.raises(MethodError, match="nothing asks for the tokenizer while unit is words; say `unit: tokens`"):
        length.identity(unit="words", tokenizer="gpt2")


# compression


def test_a_text_that_repeats_itself_scores_high_and_an_empty_one_has_no_score():
    plain = "The tide turned before the boats were loaded, so nobody sailed that night."
    varied, looped, empty, missing = scores(compression, [plain, "over and over " * 40, "", None])
    assert varied < 1.2 < 10 < looped
    assert math.isnan(empty) and math.isnan(missing)


@given(st.lists(st.text(min_size=1, max_size=200), max_size=5))
def test_compression_is_bytes_over_zlib_bytes_of_each_text_alone(texts):
    expected = [len(text.encode()) / len(zlib.compress(text.encode(), 6)) for text in texts]
    assert scores(compression, texts) == pytest.approx(expected)


@given(st.text(alphabet=st.characters(codec="ascii"), min_size=20, max_size=60))
def test_a_text_said_many_times_is_more_repetitive_than_said_once(text):
    once, often = scores(compression, [text, text * 20])
    assert often > once
