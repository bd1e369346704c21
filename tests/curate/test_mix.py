"""Quotas are exact, draws are stable."""

from __future__ import annotations

from fractions import Fraction

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.errors import RequestError
from curate.mix import apply, equal, explicit, proportional

LAW = settings(max_examples=40, deadline=None)
COUNTS = st.dictionaries(st.sampled_from("abcdefgh"), st.integers(0, 500), min_size=1).filter(
    lambda c: sum(c.values()) > 0
)


def table(counts: dict[str, int]) -> pl.DataFrame:
    rows = [(f"{source}{i}", source) for source, count in counts.items() for i in range(count)]
    return pl.DataFrame(rows, schema={"id": pl.String, "source": pl.String}, orient="row")


def mixed(rows: pl.DataFrame, quotas: dict[str, int], seed: int = 0) -> dict[str, int]:
    return dict(apply(rows, quotas, seed)[0].select("id", "repeat").iter_rows())


@LAW
@given(COUNTS, st.integers(1, 2000), st.one_of(st.none(), st.integers(1, 300)))
def test_proportional_quotas_sum_exactly_and_are_within_one_of_the_true_share(counts, rows, cap):
    quotas = proportional(counts, rows=rows, cap=cap)
    weights = {source: min(count, cap or count) for source, count in counts.items()}
    assert sum(quotas.values()) == rows
    for source, quota in quotas.items():
        assert abs(quota - Fraction(rows * weights[source], sum(weights.values()))) < 1
        assert quota == 0 or counts[source] > 0
    if rows <= sum(weights.values()):
        assert all(quota <= weights[source] for source, quota in quotas.items())


@LAW
@given(COUNTS, st.integers(1, 2000))
def test_equal_quotas_sum_exactly_and_differ_by_one_at_most(counts, rows):
    quotas = equal(counts, rows=rows)
    filled = [quotas[source] for source, count in counts.items() if count]
    assert sum(quotas.values()) == sum(filled) == rows
    assert max(filled) - min(filled) <= 1


def test_without_a_size_proportional_takes_all_up_to_the_cap_and_equal_what_the_smallest_has():
    assert proportional({"a": 7, "b": 3}) == {"a": 7, "b": 3}
    assert proportional({"a": 7, "b": 3}, cap=5) == {"a": 5, "b": 3}
    assert equal({"a": 7, "b": 3, "c": 0}) == {"a": 3, "b": 3, "c": 0}


def test_remainders_go_to_the_largest_and_ties_to_the_first_name():
    assert proportional({"b": 1, "a": 1, "c": 1}, rows=4) == {"a": 2, "b": 1, "c": 1}
    assert proportional({"a": 10, "b": 15}, rows=3) == {"a": 1, "b": 2}


def test_explicit_takes_what_is_named_and_nothing_else():
    assert explicit({"a": 7, "b": 3}, rows={"b": 2}) == {"a": 0, "b": 2}


@LAW
@given(COUNTS, st.data(), st.integers(0, 3))
def test_every_source_gives_its_quota_and_no_row_is_lost(counts, data, seed):
    rows = table(counts)
    quotas = {source: data.draw(st.integers(0, 1200)) if count else 0 for source, count in counts.items()}
    kept, removed = apply(rows, quotas, seed)
    given_rows = dict(kept.group_by("source").agg(pl.col("repeat").sum()).iter_rows())
    assert given_rows == {source: quota for source, quota in quotas.items() if quota}
    assert sorted([*kept["id"], *removed["id"]]) == sorted(rows["id"])
    for source, times in kept.group_by("source").agg(pl.col("repeat").max() - pl.col("repeat").min()).iter_rows():
        assert times <= 1, source


@LAW
@given(COUNTS, st.randoms(use_true_random=False), st.integers(1, 400))
def test_the_order_of_rows_and_sources_does_not_matter(counts, random, size):
    rows, quotas = table(counts), proportional(counts, rows=size)
    order = list(range(rows.height))
    random.shuffle(order)
    assert mixed(rows[order], dict(reversed(quotas.items()))) == mixed(rows, quotas)


@LAW
@given(COUNTS, st.integers(0, 300))
def test_a_smaller_quota_takes_a_subset(counts, less):
    rows = table(counts)
    quotas = {source: min(count, 200) for source, count in counts.items()}
    fewer = {source: min(quota, less) for source, quota in quotas.items()}
    assert mixed(rows, fewer).keys() <= mixed(rows, quotas).keys()


def test_what_other_sources_hold_changes_nothing():
    alone, among = table({"a": 40}), table({"a": 40, "b": 9})
    assert mixed(alone, {"a": 10}) == {k: v for k, v in mixed(among, {"a": 10, "b": 3}).items() if k[0] == "a"}


def test_another_seed_draws_other_rows():
    assert mixed(table({"a": 40}), {"a": 10}, 1) != mixed(table({"a": 40}), {"a": 10}, 2)


def test_rows_keep_their_order_and_say_why_they_went():
    kept, removed = apply(table({"a": 5, "b": 2}), {"a": 3}, seed=0)
    assert kept["id"].to_list() == sorted(kept["id"])
    assert kept.schema["repeat"] == pl.Int32
    assert set(removed.filter(pl.col("source") == "a")["reason"]) == {"mix: not drawn for the 3 rows of a"}
    assert set(removed.filter(pl.col("source") == "b")["reason"]) == {"mix: not drawn for the 0 rows of b"}
    assert "repeat" not in removed.columns


def test_a_source_with_too_few_rows_repeats_them_evenly():
    assert sorted(mixed(table({"a": 3}), {"a": 7}).values()) == [2, 2, 3]


def test_an_empty_table_stays_empty():
    kept, removed = apply(table({}), {}, seed=0)
    assert kept.height == removed.height == 0


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: explicit({"alpaca": 7}, rows={"alpca": 2}), "did you mean 'alpaca'"),
        (lambda: explicit({"a": 7}, rows={"a": -1}), "-1 rows"),
        (lambda: explicit({"a": 0}, rows={"a": 1}), "which has 0"),
        (lambda: proportional({"a": 7}, rows=0), "0 rows are asked"),
        (lambda: proportional({"a": 0}, rows=5), "hold 0"),
        (lambda: proportional({"a": 7}, cap=0), "cap is 0"),
        (lambda: equal({"a": 0}), "hold 0"),
    ],
)
def test_what_cannot_be_mixed_is_refused_in_a_sentence(call, says):
    with pytest.raises(RequestError, match=says):
        call()
