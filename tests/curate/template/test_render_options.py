"""Options and answer as one value: no style, order or draw can make prompt and target disagree."""

from __future__ import annotations

import re
from collections import Counter

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from curate.contract.draws import draws
from curate.contract.errors import RowSkipped
from curate.template.options import (
    MARKS,
    STYLES,
    Style,
    draw_options,
    lay_out,
    permutation,
    unshown,
    without_options,
)

option = st.text(st.characters(codec="utf-8", exclude_categories=("Cs",)), min_size=1, max_size=30).filter(str.strip)
option_lists = st.lists(option, min_size=2, max_size=30, unique=True).map(tuple)
seeds = st.integers(0, 2**64 - 1)


def test_there_are_at_least_24_styles_with_names_of_their_own():
    assert len({style.name for style in STYLES}) == len(STYLES) >= 24


@given(option_lists, seeds)
def test_the_answer_can_be_read_off_the_block_for_every_label(texts, number):
    value = draw_options(texts, number)
    assert sorted(value.order) == list(range(len(texts)))
    assert len(set(value.answers)) == len(texts)
    style = next((style for style in STYLES if style.name == value.style), None)
    for label, text in enumerate(texts):
        place = value.place(label)
        said = value.answers[place]
        if style is None:  # options of several lines: numbered blocks
            assert f"{place + 1}. {text}" in value.block
            assert said == str(place + 1)
            continue
        mark = MARKS[style.marks][place] if style.marks else ""
        assert style.item.format(mark=mark, text=text) in value.block
        assert said == style.answer.format(mark=mark, text=text)
        assert text in said or mark in said


@given(option_lists, seeds)
def test_items_stand_in_the_block_in_the_order_of_the_answers(texts, number):
    value = draw_options(texts, number)
    style = next((style for style in STYLES if style.name == value.style), None)
    if style is not None:
        assume(not any(style.between in text for text in texts))  # only a row of marked options may hold three spaces
        body = value.block[len(style.before) : len(value.block) - len(style.after)]
        items = body.split(style.between)
        assert len(items) == len(texts)
        assert all(texts[label].strip() in item for label, item in zip(value.order, items, strict=True))


def test_the_same_draw_gives_the_same_value_and_all_styles_and_orders_occur():
    numbers = [int(number) for number in draws(0, "render.options", map(str, range(2_000)))]
    values = [draw_options(("yes", "no"), number) for number in numbers]
    assert values == [draw_options(("yes", "no"), number) for number in numbers]
    assert Counter((value.style, value.order) for value in values).keys() == {
        (style.name, order) for style in STYLES for order in ((0, 1), (1, 0))
    }


@pytest.mark.parametrize("n", [2, 3, 5, 6, 8])
def test_the_right_option_stands_at_every_place_equally_often(n):
    numbers = [int(number) for number in draws(1, "render.options", map(str, range(6_000)))]
    texts = tuple(f"option {i}" for i in range(n))
    places = Counter(draw_options(texts, number).place(0) for number in numbers)
    chi_square = sum((places[place] - 6_000 / n) ** 2 / (6_000 / n) for place in range(n))
    assert (
        chi_square < 3 * n + 12
    )  # beyond the 0.999 quantile of chi-square with n - 1 degrees of freedom, for n up to 8


@pytest.mark.parametrize("n", [3, 4])
def test_all_orders_of_few_things_are_equally_likely(n):
    counts = Counter(permutation(n, int(number)) for number in draws(2, "x", map(str, range(12_000))))
    orders = len(counts)
    assert orders == {3: 6, 4: 24}[n]
    assert sum((count - 12_000 / orders) ** 2 / (12_000 / orders) for count in counts.values()) < 56


@given(st.integers(0, 40), seeds)
def test_a_permutation_holds_everything_once(n, number):
    assert sorted(permutation(n, number)) == list(range(n))


def test_a_letter_is_never_named_without_being_shown():
    for style in STYLES:
        value = lay_out(("alpha", "beta"), style, (1, 0))
        for answer in value.answers:
            for word in re.findall(r"\w+", answer):
                assert re.search(rf"\b{word}\b", value.block)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"item": "- {text}", "answer": "{mark}"}, "names a mark that the prompt does not show"),
        ({"item": "{mark}) {text}", "answer": "{mark}"}, "a mark if and only if marks are counted"),
        ({"item": "- {text}", "answer": "{mark}", "marks": "upper"}, "a mark if and only if marks are counted"),
        ({"item": "{mark})", "answer": "{mark}", "marks": "upper"}, "an item shows its text"),
        ({"item": "- {text}", "answer": "this one"}, "says neither mark nor text"),
    ],
)
def test_a_style_that_could_disagree_with_itself_cannot_be_made(fields, says):
    with pytest.raises(ValueError, match=says):
        Style("wrong", **fields)


def test_a_style_is_not_drawn_where_options_could_not_be_told_apart():
    inline = {"slash", "quoted"}
    long = ("x" * 100, "y" * 100)
    for texts in (('a "b"/[c]', "d"), long):
        styles = {draw_options(texts, number).style for number in range(100)}
        assert not styles & inline
    assert {draw_options(tuple(map(str, range(27))), n).style for n in range(99)}.isdisjoint({"upper_bracket", "roman"})
    assert draw_options(("if a:\n  b", "if c:\n  d"), 3).style == "number_block"


@pytest.mark.parametrize("texts", [("a",), ("a", " "), ("a", "b", "a")])
def test_options_that_are_none_skip_the_row(texts):
    with pytest.raises(RowSkipped):
        draw_options(texts, 0)
    with pytest.raises(RowSkipped):
        unshown(texts)


@pytest.mark.parametrize(
    ("source", "bare"),
    [
        ("Right?\n{{ options }}", "Right?"),
        ("Right?\n\n{{ options }}", "Right?"),
        ("{{ options }}\nRight?", "Right?"),
        ("A\n\n  {{options}}  \n\nB", "A\n\nB"),
        ("A\n{{ options }}\nB", "A\nB"),
        ("A\n{% if options %}Pick one:{% endif %}\n{{ options }}", "A"),
        ("A {% if options %}Pick one:{% endif %}\n{{ options }}\nB", "A {% if options %}Pick one:{% endif %}\nB"),
        ("Is it {{ options }}?", "Is it {{ options }}?"),
    ],
)
def test_without_options_the_lines_that_are_about_them_alone_go(source, bare):
    assert without_options(source) == bare
