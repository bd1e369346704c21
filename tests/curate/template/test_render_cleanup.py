"""The named clean-up filters."""

from __future__ import annotations

import inspect

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.contract.errors import RowSkipped
from curate.template import cleanup, sandbox


@pytest.mark.parametrize(
    ("filter_", "arguments", "result"),
    [
        ("squeeze", (" a\n\n b\t",), "a b"),
        ("before", ("six times #### 42", "####"), "six times"),
        ("before", ("no mark", "####"), "no mark"),
        ("after", ("a #### b #### 42", "####"), "42"),
        ("without", ("48/2=<<48/2=24>>24 and <<1\n2>>3", "<<", ">>"), "48/2=24 and 3"),
        ("question", ("who wrote emma ??",), "Who wrote emma?"),
        ("sentence", ("a film of ideas",), "A film of ideas."),
        ("sentence", ('he said "no"',), 'He said "no"'),
        ("untokenized", ("it 's good , is n't it ? -lrb- yes -rrb- `` so ''",), "it's good, isn't it? (yes) \"so\""),
        ("untokenized", ("the 1790 's cost $ 5 , i 'm told",), "the 1790's cost $5, i'm told"),
        ("first_words", ("a film of ideas", 2), "a film"),
        ("last_words", ("a film of ideas", 2), "of ideas"),
        ("skip_words", ("a film of ideas", 2), "of ideas"),
        ("blank_if", ("<No input.>", "no input"), ""),
        ("blank_if", ("No input device was found.", "no input"), "No input device was found."),
        ("label_index", ("not_entailment", "entailment", "not_entailment"), 1),
        ("label_index", ("1", "negative", "positive"), 1),
        ("label_index", (0, "negative", "positive"), 0),
        ("label_index", (-1, "negative", "positive"), None),
        ("label_index", ("", "negative", "positive"), None),
        ("slots", ("name[The Mill], eatType[pub]",), [("name", "The Mill"), ("eatType", "pub")]),
        ("slots", ("customer rating[1 out of 5, or so]",), [("customer rating", "1 out of 5, or so")]),
        ("words", ("familyFriendly",), "family friendly"),
        ("words", ("price_range",), "price range"),
        ("zip", (["a", "b", "c"], [1, 2]), [("a", 1), ("b", 2)]),
        ("zip", ("ab",), [("a",), ("b",)]),
        ("range", (3,), range(3)),
        ("range", (1, 7, 2), range(1, 7, 2)),
        ("most_frequent", (["q", "r", "r", "q", "s"],), ["q", "r"]),
        ("most_frequent", ([],), []),
    ],
)
def test_filters_do_what_their_names_say(filter_, arguments, result):
    assert cleanup.FILTERS[filter_](*arguments) == result


@pytest.mark.parametrize(
    ("filter_", "arguments", "reason"),
    [
        ("label_index", ("perhaps", "yes", "no"), "the label 'perhaps' is none of: yes, no"),
        ("label_index", (2, "yes", "no"), "the label '2' is none of: yes, no"),
        ("slots", ("The Mill is a pub",), "is not a list of name"),
        ("slots", ("name[The Mill], and so on",), "is not a list of name"),
        ("range", (100_001,), "`range` gives 100,001 numbers, more than 100,000"),
        ("pick", ([], "a"), "there is nothing to pick from"),
        ("put", ([1], 2), "`put` adds to what is made with `growing`"),
        ("take", ({"a": 1}, "a"), "`take` takes from what is made with `growing`"),
        ("take", (cleanup.growing([1]), 5), "`take` finds nothing at 5"),
        ("turns", ("hello",), "not a list of messages"),
        ("turns", ([],), "not a list of messages"),
        ("turns", ([{"role": "user", "content": "a"}],), "no user message with an assistant's after it"),
        (
            "turns",
            ([{"from": "gpt", "value": "a"}, {"from": "human", "value": "b"}],),
            "no user message with an assistant's",
        ),
        ("turns", ([{"role": "tool", "content": "a"}],), "message 1 has the role 'tool'"),
        ("turns", ([{"role": "user", "content": " "}],), "message 1, the user's, is empty"),
        ("turns", ([{"role": "user", "content": None}],), "message 1 has no plain text"),
        ("turns", ([{"role": "user", "content": [{"type": "image_url"}]}],), "message 1 has no plain text"),
        ("turns", (["a"],), "message 1 is not a mapping"),
    ],
)
def test_what_makes_no_sense_skips_the_row_with_a_reason(filter_, arguments, reason):
    with pytest.raises(RowSkipped, match=reason):
        cleanup.FILTERS[filter_](*arguments)


def test_share_gpt_names_become_roles_and_an_empty_system_message_is_left_out():
    messages = cleanup.turns(
        [{"from": "system", "value": ""}, {"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]
    )
    assert messages == [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]


def test_a_system_message_beside_the_conversation_goes_first():
    messages = cleanup.turns([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}], "be short")
    assert messages[0] == {"role": "system", "content": "be short"}


def test_parts_that_are_all_text_are_joined():
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    messages = cleanup.turns([{"role": "user", "content": parts}, {"role": "assistant", "content": "c"}])
    assert messages[0]["content"] == "a\nb"


def test_leftover_keeps_what_messages_hold_besides_and_is_empty_where_none_does():
    messages = [
        {"role": "user", "content": "a", "name": "Ada"},
        {"role": "assistant", "content": "b", "tool_calls": None},
    ]
    assert cleanup.leftover(messages) == [{"name": "Ada"}, {}]
    assert cleanup.leftover([{"role": "user", "content": "a"}]) == []


@given(st.text())
def test_text_filters_are_idempotent_and_never_fail(text):
    for name in ("squeeze", "sentence", "question"):
        once = cleanup.FILTERS[name](text)
        assert cleanup.FILTERS[name](once) == once
    cleanup.untokenized(text)


@given(st.lists(st.from_regex(r"\S+", fullmatch=True)), st.integers(0, 5))
def test_first_and_skipped_words_make_up_the_text(words, n):
    text = " ".join(words)
    parts = [cleanup.first_words(text, n), cleanup.skip_words(text, n)]
    assert " ".join(part for part in parts if part).split() == text.split()


def test_every_filter_is_documented():
    for name, function in cleanup.FILTERS.items():
        assert inspect.getdoc(function), name


def test_pick_takes_each_item_as_often_and_the_same_for_the_same_row():
    picked = [cleanup.pick(["a", "b", "c"], 1, f"row {number}") for number in range(3_000)]
    assert picked == [cleanup.pick(["a", "b", "c"], 1, f"row {number}") for number in range(3_000)]
    assert picked != [cleanup.pick(["a", "b", "c"], 2, f"row {number}") for number in range(3_000)]
    assert all(900 < picked.count(item) < 1_100 for item in "abc")


def test_what_grows_is_a_copy_all_the_way_down():
    row = {"names": ["Ada"], "marks": {"Ada": [1]}}
    grown = cleanup.growing(row)
    cleanup.put(grown["names"], "Bo")
    cleanup.put(grown["marks"]["Ada"], 2)
    cleanup.put(grown, {"more": True})
    assert grown == {"names": ["Ada", "Bo"], "marks": {"Ada": [1, 2]}, "more": True}
    assert (cleanup.take(grown["names"]), cleanup.take(grown["names"], 0), cleanup.take(grown, "more")) == (
        "Bo",
        "Ada",
        True,
    )
    assert row == {"names": ["Ada"], "marks": {"Ada": [1]}}


def test_a_list_that_a_template_makes_is_made_anew_for_every_row():
    source = (
        "{% set all = [] | growing %}{% for i in n | range %}{% set _ = all | put(i) %}{% endfor %}{{ all | join }}"
    )
    text = sandbox.Text.of(source)
    assert [text({"n": n}) for n in (2, 3, 2)] == ["01", "012", "01"]
    assert text.reads == {"n"}
