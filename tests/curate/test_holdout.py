"""The split keeps duplicates on one side and does not depend on the order of rows or on other groups."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from curate.errors import ContractError
from curate.holdout import hold_out

LAW = settings(max_examples=40, deadline=None)
LONG = "a response that is long enough to count as evidence that two rows are the same one, whatever the prompt says. "
SCHEMA = {"id": pl.String, "prompt": pl.String, "response": pl.String, "task_cluster": pl.String}


def table(rows: list[tuple[str, str, str]], clusters: list[str | None] | None = None) -> pl.DataFrame:
    columns = [list(column) for column in zip(*rows, strict=True)]
    return pl.DataFrame([*columns, clusters or [None] * len(rows)], schema=SCHEMA)


def plain(n: int) -> pl.DataFrame:
    return table([(f"id{i}", f"prompt {i}", f"response {i}") for i in range(n)])


def aside(rows: pl.DataFrame, /, **options) -> set[str]:
    mask = hold_out(rows, **{"seed": 0, **options})
    assert mask.dtype == bool
    assert mask.shape == (rows.height,)
    return set(rows["id"].to_numpy()[mask])


@st.composite
def tables(draw) -> pl.DataFrame:
    """Up to 25 rows over few prompts and few responses, some of them long: chains of duplicates are common."""
    n = draw(st.integers(2, 25))
    prompts = draw(
        st.lists(st.sampled_from(["", "Why?", "why", "Who?", "x" * 9, *map(str, range(25))]), min_size=n, max_size=n)
    )
    words = st.sampled_from(["yes", "no", LONG, LONG.upper(), LONG + "1", LONG + "2", LONG + "3"])
    responses = draw(st.lists(words, min_size=n, max_size=n))
    ids = draw(st.permutations([f"id{i}" for i in range(n)]))
    return table(list(zip(ids, prompts, responses, strict=True)))


def linked(a: dict, b: dict) -> bool:
    """Brute force: the same prompt but for case and punctuation, or the same long response."""

    def words(text):
        return "".join(c if c.isalnum() else " " for c in text.lower()).split()

    long = len(" ".join(words(a["response"]))) >= 100 and words(a["response"]) == words(b["response"])
    return long or (bool(a["prompt"]) and words(a["prompt"]) == words(b["prompt"]))


@LAW
@given(tables(), st.integers(0, 5), st.floats(0.05, 0.9))
def test_no_two_duplicates_stand_on_different_sides(rows, seed, fraction):
    try:
        kept_aside = aside(rows, fraction=fraction, seed=seed)
    except ContractError:
        assume(False)
    data = rows.to_dicts()
    for a in data:
        for b in data:
            if linked(a, b):
                assert (a["id"] in kept_aside) == (b["id"] in kept_aside)
    assert 0 < len(kept_aside) < rows.height


@LAW
@given(tables(), st.randoms(use_true_random=False), st.sampled_from([{"fraction": 0.4}, {"rows": 1}, {"rows": 4}]))
def test_the_order_of_the_rows_does_not_matter(rows, random, way):
    order = list(range(rows.height))
    random.shuffle(order)
    try:
        expected = aside(rows, **way)
    except ContractError:
        assume(False)
    assert aside(rows[order], **way) == expected


@LAW
@given(st.integers(2, 60), st.integers(1, 59), st.integers(0, 9))
def test_without_duplicates_the_number_of_rows_is_exact(n, rows, seed):
    assume(rows < n)
    assert len(aside(plain(n), rows=rows, seed=seed)) == rows


@LAW
@given(tables(), st.integers(1, 24))
def test_with_duplicates_the_number_of_rows_is_never_exceeded(rows, wanted):
    assume(wanted < rows.height)
    try:
        kept_aside = aside(rows, rows=wanted)
    except ContractError:
        assume(False)
    assert 0 < len(kept_aside) <= wanted


@LAW
@given(st.integers(10, 60), st.integers(0, 9), st.data())
def test_a_row_keeps_its_side_when_other_rows_go(n, seed, data):
    rows = plain(n)
    some = data.draw(st.lists(st.sampled_from(range(n)), min_size=2, unique=True))
    whole, part = aside(rows, fraction=0.5, seed=seed), rows[some]
    expected = {row for row in part["id"] if row in whole}
    assume(0 < len(expected) < len(some))
    assert aside(part, fraction=0.5, seed=seed) == expected


def test_more_rows_keep_the_smaller_holdout():
    assert aside(plain(50), rows=5) < aside(plain(50), rows=10)
    assert aside(plain(50), fraction=0.1) < aside(plain(50), fraction=0.5)


def test_the_share_is_about_the_fraction_and_large_groups_are_as_likely_as_small_ones():
    rows = table([(f"g{i}r{j}", f"prompt {i}", "short") for i in range(2000) for j in range(1 + 4 * (i % 2))])
    kept_aside = hold_out(rows, fraction=0.3, seed=0)
    large = (rows["id"].str.extract(r"g(\d+)").cast(pl.Int64) % 2 == 1).to_numpy()
    # Standard deviations of a share of 1,000 groups: 0.0145.
    assert abs(kept_aside[large].mean() - 0.3) < 0.05
    assert abs(kept_aside[~large].mean() - 0.3) < 0.05


def test_another_seed_gives_another_split_and_the_same_seed_the_same():
    assert aside(plain(50), rows=10, seed=1) != aside(plain(50), rows=10, seed=2)
    assert aside(plain(50), rows=10, seed=1) == aside(plain(50), rows=10, seed=1)


def test_a_chain_of_duplicates_is_one_group():
    chain = table(
        [(f"id{i}", f"prompt {i // 2}", f"{LONG} {(i + 1) // 2}") for i in range(30)] + [("z", "other", "no")]
    )
    assert aside(chain, fraction=0.5, seed=3) in ({"z"}, {f"id{i}" for i in range(30)})


def test_case_and_punctuation_do_not_make_a_prompt_another_one_and_its_words_do():
    rows = table(
        [("a", "What is IT?", "x"), ("b", "what is it", "y"), ("c", "«what» is  it", "z"), ("d", "what is he", "w")]
    )
    for seed in range(20):
        assert aside(rows, fraction=0.5, seed=seed) in ({"d"}, {"a", "b", "c"})


def test_prompts_without_words_are_compared_as_they_are_and_empty_ones_not_at_all():
    rows = table([("a", "++", "x"), ("b", "++", "y"), ("c", "--", "z"), ("d", "", "w"), ("e", "", "v")])
    splits = {frozenset(aside(rows, rows=2, seed=seed)) for seed in range(60)}
    assert not any(len({"a", "b"} & split) == 1 for split in splits)
    assert {"c", "d"} in splits
    assert {"d", "e"} in splits


def test_short_responses_do_not_link_rows():
    rows = table([(f"id{i}", f"prompt {i}", "yes") for i in range(20)])
    assert len(aside(rows, rows=7)) == 7


def test_a_task_cluster_is_kept_aside_whole_with_its_duplicates_elsewhere():
    rows = table(
        [("a", "one", "x"), ("b", "two", "y"), ("c", "ONE", "z"), ("d", "four", "w")], ["nli", "nli", "sentiment", None]
    )
    assert aside(rows, task_cluster="nli") == {"a", "b", "c"}


@pytest.mark.parametrize(
    ("rows", "options", "says"),
    [
        (plain(5), {}, "exactly one of"),
        (plain(5), {"rows": 2, "fraction": 0.1}, "exactly one of"),
        (plain(5), {"fraction": 1.0}, "between 0 and 1"),
        (plain(5), {"fraction": 0.0}, "between 0 and 1"),
        (plain(5), {"rows": 5}, "between 1 and 4"),
        (plain(5), {"rows": 0}, "between 1 and 4"),
        (plain(0 + 1).clear(), {"rows": 1}, "empty"),
        (table([("a", "p", "x"), ("b", "p", "y")]), {"fraction": 0.5}, "all 2 rows"),
        (table([("a", "p", "x"), ("b", "p", "y")]), {"rows": 1}, "the smallest has 2"),
        (
            table([("a", "p", "x"), ("b", "q", "y")], ["sentiment", None]),
            {"task_cluster": "sentment"},
            "did you mean 'sentiment'",
        ),
        (table([("a", "p", "x"), ("b", "q", "y")], ["nli", "nli"]), {"task_cluster": "nli"}, "all 2 rows"),
    ],
)
def test_what_cannot_be_held_out_is_refused_in_a_sentence(rows, options, says):
    with pytest.raises(ContractError, match=says):
        hold_out(rows, seed=0, **options)


def test_columns_that_are_null_count_as_empty():
    rows = table([("a", "p", "x"), ("b", None, None), ("c", None, None)])  # type: ignore[list-item]
    assert len(aside(rows, rows=1)) == 1
    assert np.count_nonzero(hold_out(rows, rows=2, seed=0)) == 2
