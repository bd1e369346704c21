from __future__ import annotations

import re

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.contract.errors import MethodError
from curate.filter import length, refusal, repetition, script
from curate.filter.bounds import crossed


def reasons(method, texts: list[str | None], **options) -> list[str | None]:
    return method.reject(pl.Series("text", texts, dtype=pl.String), **options).to_list()


# length


def test_length_says_how_many_words_there_are_and_how_many_there_should_be():
    assert reasons(length, ["a b c", "a b", "", None]) == [None, "words 2 < 3", "words 0 < 3", "words 0 < 3"]


def test_length_bounds_are_inclusive():
    assert reasons(length, ["a b", "a b c"], min_words=2, max_words=2) == [None, "words 3 > 2"]
    assert reasons(length, ["éé", "ééé"], min_words=None, min_characters=2, max_characters=2) == [
        None,
        "characters 3 > 2",
    ]


def test_a_han_character_is_a_word_and_punctuation_beside_a_word_is_not():
    assert reasons(length, ["我爱你", "well , yes", "it's"], min_words=3) == [None, None, "words 1 < 3"]


def test_length_bounds_that_no_row_can_meet_are_one_sentence():
    with pytest.raises(MethodError, match="min_words 5 is larger than max_words 2"):
        reasons(length, ["a"], min_words=5, max_words=2)


@given(st.lists(st.text(max_size=30), max_size=8))
def test_length_without_bounds_keeps_every_row(texts):
    assert reasons(length, texts, min_words=None) == [None] * len(texts)


def test_a_reason_has_two_decimals_and_more_where_value_and_limit_would_look_alike():
    assert crossed("share", 0.42, ">", 0.3) == "share 0.42 > 0.30"
    assert crossed("share", 0.3004, ">", 0.3) == "share 0.3004 > 0.30"
    assert crossed("share", 0.1251, ">", 0.125) == "share 0.1251 > 0.125"
    assert crossed("share", 0.0, "<", 1 / 3).startswith("share 0.000000000000 < 0.33333333333")


# script


def test_script_counts_letters_and_nothing_else():
    texts = ["plain text", "это по-русски", "x = 3.14 * 2 // 😀", "2 + 2 = 4", "", "word слово", None]
    assert reasons(script, texts) == [
        None,
        "share of letters in Latin 0.00 < 0.80",
        None,
        None,
        None,
        "share of letters in Latin 0.44 < 0.80",
        None,
    ]


def test_several_scripts_may_be_expected_together():
    assert reasons(script, ["日本語とカナ", "κόσμε", "abc"], scripts=["Han", "Hiragana", "Katakana"]) == [
        None,
        "share of letters in Han or Hiragana or Katakana 0.00 < 0.80",
        "share of letters in Han or Hiragana or Katakana 0.00 < 0.80",
    ]


def test_an_unknown_script_is_one_sentence_that_names_known_ones():
    with pytest.raises(MethodError, match=r"Klingon.*no Unicode script.*Latin, Cyrillic"):
        reasons(script, ["плохо"], scripts=["Latin", "Klingon"])
    with pytest.raises(MethodError, match="no Unicode script"):
        reasons(script, ["only ascii here"], scripts=["Latin", "Klingon"])


# refusal


@pytest.mark.parametrize(
    "text",
    [
        "As an AI language model, I have no opinion.",
        "I'm sorry, but as an AI I can’t do that.",
        "Unfortunately, I cannot provide medical advice.",
        "I apologize for the confusion, but I am not able to help with that.",
        "  I CAN'T ASSIST with that request",
        "Sorry, the task involves audio output.",
        "<no output>",
        "I do not have the ability to browse the internet.",
    ],
)
def test_a_response_that_begins_with_a_refusal_goes(text):
    (reason,) = reasons(refusal, [text])
    assert reason is not None and reason.startswith('begins with "')


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry for your loss. Losing a pet is hard.",
        "I cannot emphasize enough how much this helps.",
        'The robot said: "As an AI language model, I feel nothing."',
        "A language model predicts the next word.",
        "Sorry, Monopoly and Scrabble are board games.",
        "I could not make it to the meeting.",
        "",
    ],
)
def test_a_response_that_only_mentions_one_stays(text):
    assert reasons(refusal, [text]) == [None]


def test_a_refusal_later_in_the_response_stays():
    assert reasons(refusal, ["Here is the plan. " * 30 + "As an AI language model, I cannot provide more."]) == [None]


def test_phrases_are_plain_text_added_to_the_list():
    texts = ["No comment (sorry).", "No commentary was given", "Sorry, I can't say #1"]
    assert reasons(refusal, texts) == [None, None, None]
    assert reasons(refusal, texts, phrases=["no comment (", "I can't say #1"]) == [
        'begins with "no comment ("',
        None,
        'begins with "i cannot say #1"',
    ]
    with pytest.raises(MethodError, match="empty phrase"):
        reasons(refusal, texts, phrases=[" "])


# repetition


def test_a_line_said_again_and_again_goes():
    text = "first line here\n" + "the same line\n" * 4 + "last line here"
    assert reasons(repetition, [text]) == ["share of repeated lines 0.50 > 0.30"]


def test_braces_and_blank_lines_are_not_lines():
    text = "\n".join(f"if (x == {i}) {{\n  run({i});\n}}\n" for i in range(10))
    assert reasons(repetition, [text]) == [None]


def test_a_loop_of_words_goes_and_so_do_repeated_passages():
    words = [f"word{i}" for i in range(300)]
    loop = " ".join(words[:100] + ["again", "and"] * 30)
    passage = " ".join(words[:40] + words[100:160] + words[:40])
    plain = " ".join(words)
    of_loop, of_plain, of_passage = reasons(repetition, [loop, plain, passage])
    assert re.fullmatch(r"share of characters in the most frequent 2-gram 0\.\d\d > 0\.20", of_loop)
    assert of_plain is None
    assert re.fullmatch(r"share of characters in repeated 5-grams 0\.\d\d > 0\.15", of_passage)


def test_short_texts_are_not_judged_by_their_words():
    assert reasons(repetition, ["no no no no no no no no", "", None]) == [None, None, None]
    assert reasons(repetition, ["no no no no no no no no"], min_words=5) == [
        "share of characters in the most frequent 2-gram 1.00 > 0.20"
    ]


def test_one_turns_a_rule_off():
    text = "first line here\n" + "the same line\n" * 4 + "last line here"
    assert reasons(repetition, [text], duplicate_lines=1, duplicate_line_characters=1) == [None]


def shares_by_hand(text: str) -> dict[int, float]:
    """The share of characters in n-grams that stood before, straight from the definition."""
    words = text.split()
    total = sum(map(len, words))
    shares = {}
    for n in range(5, 11):
        seen, inside = set(), set()
        for i in range(len(words) - n + 1):
            gram = tuple(words[i : i + n])
            if gram in seen:
                inside.update(range(i, i + n))
            seen.add(gram)
        shares[n] = sum(len(words[i]) for i in inside) / total if total else 0.0
    return shares


@given(st.lists(st.lists(st.sampled_from(["a", "bb", "ccc"]), max_size=25).map(" ".join), min_size=1, max_size=4))
def test_repeated_ngrams_agree_with_the_definition_whatever_the_neighbours(texts):
    off = dict.fromkeys(
        ["duplicate_lines", "duplicate_line_characters", "top_2gram", "top_3gram", "top_4gram"]
        + [f"repeated_{n}grams" for n in range(5, 11)],
        1.0,
    )
    for n in range(5, 11):
        limits = off | {f"repeated_{n}grams": 0.3}
        said = reasons(repetition, texts, min_words=1, **limits)
        expected = [shares_by_hand(text)[n] for text in texts]
        for reason, share in zip(said, expected, strict=True):
            assert (reason is not None) == (share > 0.3)
            if reason:
                assert reason == crossed(f"share of characters in repeated {n}-grams", share, ">", 0.3)


@given(st.lists(st.sampled_from(["a", "bb", "ccc"]), min_size=3, max_size=25))
def test_the_top_ngram_agrees_with_the_definition(words):
    total = sum(map(len, words))
    for n in (2, 3, 4):
        counts: dict[tuple[str, ...], int] = {}
        for i in range(len(words) - n + 1):
            gram = tuple(words[i : i + n])
            counts[gram] = counts.get(gram, 0) + 1
        most = max(counts.values(), default=0)
        size = max((sum(map(len, gram)) for gram, count in counts.items() if count == most), default=0)
        share = min(most * size / total, 1.0) if most > 2 else 0.0
        limits = {"top_2gram": 1.0, "top_3gram": 1.0, "top_4gram": 1.0} | {
            f"repeated_{m}grams": 1.0 for m in range(5, 11)
        }
        (reason,) = reasons(repetition, [" ".join(words)], min_words=1, **(limits | {f"top_{n}gram": 0.5}))
        expected = crossed(f"share of characters in the most frequent {n}-gram", share, ">", 0.5)
        assert reason == (expected if share > 0.5 else None)


def test_rows_are_judged_alike_in_one_chunk_and_in_many(monkeypatch):
    texts = [" ".join(f"w{j % (i + 1)}" for j in range(120)) for i in range(0, 120, 3)]
    whole = reasons(repetition, texts)
    monkeypatch.setattr(repetition, "_CHUNK", 500)
    assert reasons(repetition, texts) == whole
    assert any(whole) and not all(whole)
