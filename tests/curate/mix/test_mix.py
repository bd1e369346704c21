"""Quotas are exact, draws are stable."""

from __future__ import annotations

import json
import math
from fractions import Fraction
from pathlib import Path

import polars as pl
import pytest
from conftest import alpaca_rows, write_jsonl
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from curate import cli
from curate.contract.errors import ContractError, RecipeError, RequestError
from curate.contract.files import read_json
from curate.mix import presets
from curate.mix.quotas import WAYS, apply, arrange, equal, explicit, problems, proportional, rates, realised, weighted
from curate.rows import token_counts
from curate.rows.table import read as read_table
from curate.run import recipe, runner
from curate.template.sets import load_set, names

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
    assert set(removed.filter(pl.col("source") == "a")["reason"]) == {"mix: a gives 3 rows, and this row was not drawn"}
    assert set(removed.filter(pl.col("source") == "b")["reason"]) == {"mix: the mixture takes nothing of b"}
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
        (lambda: proportional({"a": 7}, temperature=0), "temperature is 0; it must be above 0"),
        (lambda: proportional({"a": 7}, temperature=math.nan), "must be above 0"),
        (lambda: explicit({"a": 7}), "no row is asked of any source"),
        (lambda: weighted({"a": 7, "b": 1}, weights={"a": 0, "b": 0.0}, rows=5), "at least one above 0"),
        (lambda: weighted({"a": 7}, weights={"a": -1}, rows=5), "0 or more"),
        (lambda: weighted({"a": 7, "b": 0}, weights={"a": 1, "b": 2}, rows=5), "'b' has the weight 2 and no row"),
        (lambda: weighted({"alpaca": 7}, weights={"alpca": 1}, rows=5), "did you mean 'alpaca'"),
    ],
)
def test_what_cannot_be_mixed_is_refused_in_a_sentence(call, says):
    with pytest.raises(RequestError, match=says):
        call()


# --- quotas ----------------------------------------------------------------------------------------------------------


@LAW
@given(COUNTS, st.integers(1, 2000), st.floats(0.2, 20), st.one_of(st.none(), st.integers(1, 300)))
def test_quotas_at_a_temperature_sum_and_follow_the_capped_rows(counts, rows, temperature, cap):
    quotas = proportional(counts, rows=rows, cap=cap, temperature=temperature)
    assert sum(quotas.values()) == rows
    filled = {source: min(count, cap or count) for source, count in counts.items() if count}
    exact = {source: rate ** (1 / temperature) for source, rate in filled.items()}
    for source, quota in quotas.items():
        assert abs(quota - rows * exact.get(source, 0) / sum(exact.values())) < 1.0001
    for one in filled:
        for other in filled:
            if filled[one] < filled[other]:
                assert quotas[one] <= quotas[other]  # more rows never give a smaller quota


def test_the_cap_comes_before_the_temperature_as_in_seqio():
    """min(n, cap) ** (1/T): 100 and 10,000 capped at 400 are 10 and 20 at T = 2, so 1 to 2; the other way round 1 to 10."""
    assert proportional({"a": 100, "b": 10_000}, cap=400, temperature=2, rows=300) == {"a": 100, "b": 200}
    assert proportional({"a": 100, "b": 10_000}, temperature=2, rows=1100) == {"a": 100, "b": 1000}
    assert rates({"a": 100, "b": 10_000}, cap=400, temperature=2) == {"a": Fraction(1, 2), "b": 1}
    assert proportional({"a": 7, "b": 3, "c": 0}, temperature=1e9, rows=10) == {"a": 5, "b": 5, "c": 0}
    assert proportional({"a": 700, "b": 3}, temperature=0.001, rows=10) == {"a": 10, "b": 0}


@LAW
@given(COUNTS, st.integers(1, 2000), st.integers(1, 50))
def test_a_larger_mixture_costs_no_source_more_than_one_row(counts, rows, more):
    """Largest remainders are not monotone in the size (the Alabama paradox); this is as far as it goes."""
    before, after = proportional(counts, rows=rows), proportional(counts, rows=rows + more)
    assert all(after[source] >= before[source] - 1 for source in counts)


@LAW
@given(COUNTS, st.integers(1, 2000), st.randoms(use_true_random=False))
def test_the_order_of_sources_does_not_matter_to_a_quota(counts, rows, random):
    other = list(counts.items())
    random.shuffle(other)
    for way in (proportional, equal):
        assert way(dict(other), rows=rows) == way(counts, rows=rows)
    weights = {source: 0.1 * (i + 1) for i, (source, count) in enumerate(sorted(counts.items())) if count}
    assert weighted(dict(other), weights=dict(reversed(weights.items())), rows=rows) == weighted(
        counts, weights=weights, rows=rows
    )


def test_weights_share_exactly_and_without_a_size_repeat_nothing():
    assert weighted({"a": 10, "b": 10}, weights={"a": 0.1, "b": 0.2}, rows=9) == {"a": 3, "b": 6}
    assert weighted({"a": 10, "b": 10, "c": 5}, weights={"a": 1, "b": 4}) == {"a": 2, "b": 10, "c": 0}


@LAW
@given(COUNTS, st.data())
def test_weights_without_a_size_fit_into_the_rows(counts, data):
    weights = {source: data.draw(st.integers(1, 9)) / 7 for source, count in counts.items() if count}
    try:
        quotas = weighted(counts, weights=weights)
    except RequestError:  # not one row fits
        return
    assert all(quota <= counts[source] for source, quota in quotas.items())


# --- over a table ----------------------------------------------------------------------------------------------------


def tasks(*rows: tuple[str, str | None, str | None, int], words: int = 3) -> pl.DataFrame:
    """source, task, template set and how many rows of them; each prompt has `words` words and each response one."""
    lines = [
        (f"{source}-{task}-{i}", source, task, template_set, None, "w " * words, "r")
        for source, task, template_set, count in rows
        for i in range(count)
    ]
    columns = ("id", "source", "task", "template_set", "task_cluster", "prompt", "response")
    return pl.DataFrame(lines, schema=dict.fromkeys(columns, pl.String), orient="row")


def counted(rows: pl.DataFrame, way: str, options: dict, seed: int = 0) -> dict[str, dict[str, int]]:
    arranged = arrange(rows, way, options, seed=seed)
    kept, gone = arranged.apply(rows, seed)
    assert sorted([*kept["id"], *gone["id"]]) == sorted(rows["id"])
    came = realised(arranged, rows, kept)
    if arranged.plan.unit == "rows":  # what was realised is what was planned, to the row
        assert {name: line["counted"] for name, line in came.items()} == {
            n: q for n, q in arranged.plan.quotas.items() if q
        }
    return came


def test_a_mixture_of_clusters_takes_rows_without_one_as_one_of_their_own():
    rows = tasks(("a", "t", None, 6), ("b", "u", None, 3)).with_columns(
        task_cluster=pl.when(pl.col("source") == "a").then(pl.lit("nli"))
    )
    came = counted(rows, "equal", {"by": "task_cluster", "rows": 4})
    assert {name: line["rows"] for name, line in came.items()} == {"nli": 2, "(no task_cluster)": 2}


def test_by_task_over_sources():
    rows = tasks(("a", "t", None, 6), ("b", "t", None, 3), ("b", "u", None, 9))
    assert counted(rows, "explicit", {"by": "task", "rows": {"t": 9, "u": 1}})["t"] == {"rows": 9, "counted": 9}
    with pytest.raises(RequestError, match="nothing is called 'v'"):
        arrange(rows, "explicit", {"by": "task", "rows": {"v": 9}})


def test_the_example_cap_says_which_rows_count_and_the_cap_how_much():
    rows = tasks(("a", "t", None, 100), ("b", "u", None, 10))
    options = {"example_cap": 20, "cap": 10, "rows": 100}
    plan = arrange(rows, "proportional", options).plan
    assert (plan.counts, plan.quotas) == ({"a": 20, "b": 10}, {"a": 50, "b": 50})
    came = counted(rows, "proportional", options)
    assert came == {"a": {"rows": 20, "counted": 50}, "b": {"rows": 10, "counted": 50}}  # 20 rows, two or three times


def test_the_plan_names_rows_weights_quotas_and_shares():
    rows = tasks(("a", "t", None, 100), ("b", "u", None, 10))
    plan = arrange(rows, "proportional", {"cap": 30}).plan
    assert plan.lines() == [
        {"name": "a", "there": 100, "weight": 30.0, "quota": 30, "share": 0.75},
        {"name": "b", "there": 10, "weight": 10.0, "quota": 10, "share": 0.25},
    ]
    assert plan.summary() == "40 rows from 2 of 2 by source"


def test_a_quota_above_the_rows_is_repeated_refused_or_lowered_and_said_by_name():
    rows = tasks(("a", "t", None, 5), ("b", "u", None, 100))
    wanted = {"rows": {"a": 8, "b": 50}}
    assert counted(rows, "explicit", wanted)["a"] == {"rows": 5, "counted": 8}
    assert counted(rows, "explicit", {**wanted, "shortfall": "less"})["a"] == {"rows": 5, "counted": 5}
    for policy in ("repeat", "less"):
        plan = arrange(rows, "explicit", {**wanted, "shortfall": policy}).plan
        assert plan.short == {"a": 3}
        assert "above what is there: a by 3" in plan.summary()
    with pytest.raises(ContractError, match="a has 5 of 8 rows; ask for less"):
        arrange(rows, "explicit", {**wanted, "shortfall": "fail"})
    assert not arrange(rows, "explicit", {"rows": {"a": 5}, "shortfall": "fail"}).plan.short


# --- tokens ----------------------------------------------------------------------------------------------------------


@st.composite
def texts(draw) -> pl.DataFrame:
    """Rows of three sources with 0 to 9 words."""
    lengths = draw(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 9)), min_size=1, max_size=60))
    lines = [(f"id{i}", source, "w " * words, None) for i, (source, words) in enumerate(lengths)]
    schema = {"id": pl.String, "source": pl.String, "prompt": pl.String, "response": pl.String}
    return pl.DataFrame(lines, schema=schema, orient="row")


@LAW
@given(texts(), st.integers(1, 400), st.integers(0, 3))
def test_tokens_come_in_whole_rows_up_to_the_quota(rows, tokens, seed):
    words = token_counts.count(rows["prompt"])
    if not words.sum():
        return
    arranged = arrange(rows, "proportional", {"tokens": tokens}, seed=seed)
    assert sum(arranged.plan.quotas.values()) == tokens
    assert sum(arranged.plan.counts.values()) == words.sum()
    kept, _ = arranged.apply(rows, seed)
    came = realised(arranged, rows, kept)
    for source, quota in arranged.plan.quotas.items():
        if not arranged.plan.counts[source]:
            continue
        mine = rows.filter(pl.col("source") == source)
        longest = max(token_counts.count(mine["prompt"]))
        realised_tokens = came.get(source, {"tokens": 0})["tokens"]
        assert quota - longest < realised_tokens <= quota
    more = arrange(rows, "proportional", {"tokens": tokens}, seed=seed)
    larger = apply(rows, {s: q + 5 for s, q in more.plan.quotas.items()}, seed, size=more.size)[0]
    assert set(kept["id"]) <= set(larger["id"])  # a smaller quota takes a subset


def test_a_named_tokenizer_counts_and_its_own_limits_do_not(tmp_path):
    tokenizers = pytest.importorskip("tokenizers")
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0, "b": 1, "?": 2}, unk_token="?"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.CharDelimiterSplit(" ")
    tokenizer.enable_truncation(2)
    tokenizer.enable_padding(length=7)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    series = pl.Series(["a b a b", None, "", "x"])
    for name in ("tokenizer.json", str(tmp_path / "tokenizer.json"), "."):
        assert token_counts.count(series, name, tmp_path).tolist() == [4, 0, 0, 1]
        assert token_counts.fingerprint(name, tmp_path) != name
        one = token_counts.counter(name, tmp_path)
        assert [one(text or "") for text in series] == [4, 0, 0, 1]
    assert token_counts.count(pl.Series([" a  b\n", None])).tolist() == [2, 0]
    assert [token_counts.counter()(text) for text in (" a  b\n", "")] == [2, 0]
    (tmp_path / "bad.json").write_text("{}", "utf-8")
    with pytest.raises(RequestError, match=r"the tokenizer 'bad.json' cannot be read"):
        token_counts.count(series, "bad.json", tmp_path)
    with pytest.raises(RequestError, match=r"there is no tokenizer at 'none.json'"):
        token_counts.count(series, "none.json", tmp_path)


def test_counts_of_tokens_with_an_example_cap_are_those_of_the_rows_that_count():
    rows = tasks(("a", "t", None, 10), ("b", "u", None, 10), words=3)
    plan = arrange(rows, "proportional", {"tokens": 8, "example_cap": 1}).plan
    assert plan.counts == {"a": 4, "b": 4}
    assert counted(rows, "proportional", {"tokens": 80, "example_cap": 1})["a"] == {
        "rows": 1,
        "counted": 10,
        "tokens": 40,
    }


# --- presets ---------------------------------------------------------------------------------------------------------

# Of FLAN's table (templates.md, section 2): the tasks below the cap of 3,000, and how many tasks there are.
BELOW = {
    "rte": 2290,
    "arc_easy": 2040,
    "story_cloze": 1670,
    "opinion_abstracts_idebate": 1650,
    "definite_pronoun_resolution": 1120,
    "arc_challenge": 910,
    "wnli": 600,
    "wsc": 500,
    "copa": 350,
    "cb": 200,
}


def test_flan2021_is_flans_table():
    (part,) = presets.load("flan2021").submixes
    assert (part.cap, part.example_cap, part.weight) == (3_000, 30_000, 1)
    assert sum(task.times for task in part.tasks.values()) == 70
    trained = {name: task for name, task in part.tasks.items() if task.rows}
    assert sum(task.times for task in trained.values()) == 69
    rate = {name: part.rate(task.rows or 0, task.times) for name, task in trained.items()}
    assert {name: weight for name, weight in rate.items() if weight < 3_000} == BELOW
    assert sum(task.times for name, task in trained.items() if name not in BELOW) == 59
    assert sum(rate.values()) == 188_330
    assert round(100 * 3_000 / sum(rate.values()), 2) == 1.59
    clusters = {str(task.set).split("/")[1] for task in part.tasks.values()}
    assert len(clusters) == 12


def of_table() -> pl.DataFrame:
    """Rows as the table of FLAN has them, no more than 3,100 a task, through our sets."""
    (part,) = presets.load("flan2021").submixes
    return tasks(*((name, name, task.set, min(task.rows or 0, 3_100)) for name, task in part.tasks.items()))


def test_a_full_task_of_flan2021_has_one_and_a_half_percent_of_the_mixture():
    rows = of_table()
    plan = arrange(rows, "flan2021", {}).plan
    lines = {line["name"]: line for line in plan.lines()}
    assert sum(plan.quotas.values()) == 188_330
    assert round(100 * lines["sst2"]["share"], 2) == 1.59
    assert {name: plan.quotas[name] for name in BELOW} == BELOW
    assert plan.quotas["mnli"] == 6_000  # two tasks over the same rows
    assert plan.short == {"mnli": 2_900}  # 3,100 rows here
    sized = arrange(rows, "flan2021", {"rows": 100_000}).plan
    assert sum(sized.quotas.values()) == 100_000
    assert sized.quotas["sst2"] in (1592, 1593)


def test_every_preset_can_be_read_and_its_sets_are_there():
    assert presets.names() == ["flan2021", "flan2022_code", "flan2022_paper", "superni_64", "t0"]
    for name in presets.names():
        for part in presets.load(name).submixes:
            assert {task.set for task in part.tasks.values()} <= set(names())


def test_the_two_published_weights_of_flan_2022_and_its_caps():
    code, paper = ({s.name: s for s in presets.load(f"flan2022_{which}").submixes} for which in ("code", "paper"))
    weights = {"flan2021": 40, "t0": 32, "niv2": 20, "cot": 5, "dialog": 3}
    assert {name: 100 * part.weight for name, part in code.items()} == weights
    assert {name: float(part.weight) for name, part in paper.items()} == {
        "flan2021": 46,
        "t0": 27.9,
        "niv2": 24.2,
        "cot": 1.8,
    }
    caps = {"flan2021": 30_000, "t0": 20_000, "niv2": 5_000, "cot": 100_000, "dialog": 200_000}
    assert {name: part.cap for name, part in code.items()} == caps
    assert {name: part.cap for name, part in paper.items()} == {name: caps[name] for name in paper}
    cot = {name: task.rows for name, task in code["cot"].tasks.items()}
    assert sum(cot.values()) == 7_473 + 2_061 + 6_915 + 1_084 + 36_174 + 7_112 + 6_070 + 2_728 + 5_154
    assert len(code["flan2021"].tasks) == len(presets.load("flan2021").submixes[0].tasks)
    assert len(paper["cot"].tasks) == len(cot) == 9


def test_submixes_have_their_weights_and_tasks_their_share_in_them():
    rows = tasks(
        ("sst2", "sst2", "flan/sentiment/sst2", 300),
        ("cb", "cb", "flan/natural_language_inference/cb", 100),
        ("p3", "imdb", "templates/p3/imdb.yaml", 400),
        ("ni", "task1", "pools/superni", 90),
        ("gsm8k", "gsm8k", "cot/gsm8k", 50),
        ("talk", None, "pools/messages", 60),
        ("other", None, "pools/alpaca", 70),
    )
    plan = arrange(rows, "flan2022_code", {"missing": "skip", "rows": 200}).plan
    assert plan.quotas == {
        "flan2021/sst2": 60,
        "flan2021/cb": 20,
        "t0/imdb": 64,
        "niv2/task1": 40,
        "cot/gsm8k": 10,
        "dialog/talk": 6,
    }
    assert sum(arrange(rows, "flan2022_code", {"missing": "skip"}).plan.quotas.values()) == 450  # niv2: 90 are 20 %
    moved = arrange(rows, "flan2022_code", {"missing": "skip", "rows": 200, "sources": {"t0": ["other", "p3"]}}).plan
    assert {name for name in moved.quotas if name.startswith("t0/")} == {"t0/imdb", "t0/other"}
    came = counted(rows, "flan2022_code", {"missing": "skip", "rows": 200})
    assert sum(line["counted"] for line in came.values()) == 200
    _, gone = arrange(rows, "flan2022_code", {"missing": "skip", "rows": 200}).apply(rows, 0)
    assert set(gone.filter(pl.col("source") == "other")["reason"]) == {"mix: belongs to no part of the mixture"}
    tokens = arrange(rows, "flan2022_code", {"missing": "skip", "tokens": 800}).plan
    assert (tokens.unit, tokens.quotas["t0/imdb"]) == ("tokens", 256)


def test_tasks_that_share_a_set_are_told_apart_by_task_or_source():
    arc = "flan/closed_book_qa/arc"
    rows = tasks(("x", "arc_easy", arc, 5), ("arc_challenge", "arc", arc, 4))
    assert arrange(rows, "flan2021", {"missing": "skip"}).plan.quotas == {"arc_easy": 5, "arc_challenge": 4}
    with pytest.raises(ContractError, match="arc_challenge, arc_easy share; say which they are with `task:`"):
        arrange(tasks(("x", "arc", arc, 5)), "flan2021", {"missing": "skip"})
    own = tasks(("x", "squad", "mine.yaml", 5))  # a set of one's own, by the task's name
    assert arrange(own, "flan2021", {"missing": "skip"}).plan.quotas == {"squad_v1": 5}


def test_a_task_without_rows_is_named_unless_skipped():
    rows = of_table().filter(~pl.col("task").is_in(["qnli", "wsc"]))
    with pytest.raises(ContractError, match="no row belongs to qnli, wsc; load them, or say `missing: skip`"):
        arrange(rows, "flan2021", {})
    assert "qnli" not in arrange(rows, "flan2021", {"missing": "skip"}).plan.quotas
    cot = tasks(*((name, name, f"cot/{name}", 3) for name in presets.load("flan2022_code").submixes[3].tasks))
    with pytest.raises(ContractError, match="no row belongs to t0, niv2, dialog"):
        arrange(pl.concat([of_table(), cot]), "flan2022_code", {})
    with pytest.raises(ContractError, match="no row belongs to any of its tasks"):
        arrange(tasks(("x", "y", "pools/alpaca", 5)), "flan2021", {"missing": "skip"})
    with pytest.raises(RequestError, match=r"no submixture 'cott'. Did you mean 'cot'\?"):
        arrange(of_table(), "flan2022_code", {"sources": {"cott": ["sst2"]}})
    with pytest.raises(RequestError, match=r"there is no source 'sst'. Did you mean 'sst2'"):
        arrange(of_table(), "flan2022_code", {"sources": {"t0": ["sst"]}})
    with pytest.raises(RequestError, match=r"there is no preset 'flan2020'. Did you mean 'flan2021'"):
        arrange(of_table(), "flan2020", {})


def test_t0_counts_templates_and_shares_the_cap_above_half_a_million():
    (part,) = presets.load("t0").submixes
    assert part.rate(500_000, templates=10) == 5_000_000
    assert part.rate(500_001, templates=10) == 500_000
    assert part.rate(600_000, templates=7) == 7 * (500_000 // 7)
    rows = tasks(("sst2", "sst2", "flan/sentiment/sst2", 30), ("plain", None, None, 20))
    templates = len(load_set("flan/sentiment/sst2").templates)
    assert arrange(rows, "t0", {}).plan.quotas == {"sst2": 30 * templates, "plain": 20}


def test_superni_takes_64_instances_of_every_task():
    rows = tasks(
        ("ni", "task1", "pools/superni", 100), ("ni", "task2", "pools/superni", 70), ("b", None, "pools/superni", 9)
    )
    assert arrange(rows, "superni_64", {}).plan.quotas == {"task1": 64, "task2": 64, "b": 9}


def test_a_preset_of_ones_own_stands_beside_the_recipe_and_its_mistakes_are_said_with_lines(tmp_path):
    folder = tmp_path / "templates" / "mixtures"
    folder.mkdir(parents=True)
    mine = folder / "mine.yaml"
    mine.write_text("submixes:\n  a: {weight: 2, sets: [pools/alpaca]}\n  b: {sets: [cot/*]}\n", "utf-8")
    rows = tasks(("x", "t", "pools/alpaca", 50), ("y", "u", "cot/gsm8k", 50))
    assert arrange(rows, "mine", {"rows": 30}, folder=tmp_path).plan.quotas == {"a/t": 20, "b/u": 10}
    for text, says in (
        ("submixes:\n  a: {wight: 2, sets: [x]}\n", r"mine.yaml:2: there is no key 'wight'. Did you mean 'weight'"),
        ("submixes:\n  a: {sets: [x],\n    cap: 0}\n", r"mine.yaml:3: `cap` is 0; it must be 1 or more"),
        ("submixes:\n  a: {weight: -1, sets: [x]}\n", r"`weight` is -1; it must be 0 or more"),
        ("submixes:\n  a: {weight: 0, sets: [x]}\n", r"mine.yaml:1: all weights are 0"),
        ("submixes:\n  a: {weight: 1}\n", r"mine.yaml:2: the submixture a holds nothing"),
        ("submixes: {}\n", "all weights are 0"),
        ("about: x\n", "a mapping with the keys"),
        ("submixes:\n  a: {tasks: {t: {set: 3}}}\n", r"`set` is 3, and should be str"),
        ("submixes:\n  a: {tasks: nope}\n", r"there is no preset 'nope'"),
        ("submixes:\n  a: {tasks: mine}\n", r"the submixture a holds nothing"),
    ):
        mine.write_text(text, "utf-8")
        with pytest.raises(RequestError, match=says):
            presets.load("mine", tmp_path)


# --- in a recipe -----------------------------------------------------------------------------------------------------

TWO = """\
name: two
load:
  - files: {path: a.jsonl, name: first, shape: alpaca, license: mit}
  - files: {path: b.jsonl, name: second, shape: alpaca, license: mit}
mix: proportional
"""


def two(folder: Path, mix: str) -> Path:
    rows = alpaca_rows()
    write_jsonl(folder / "a.jsonl", rows[:30])
    write_jsonl(folder / "b.jsonl", rows[30:40])
    (folder / "recipe.yaml").write_text(TWO.replace("mix: proportional", f"mix: {mix}"), "utf-8")
    return folder / "recipe.yaml"


@pytest.mark.parametrize(
    ("mix", "says"),
    [
        ("flan2012", r":5: unknown mix 'flan2012'. Did you mean 'flan2021'\?; there are: proportional"),
        ("{proportional: {cap: 0}}", r":5: mix proportional: `cap` is 0; it must be 1 or more"),
        ("{equal: {example_cap: 0}}", r":5: mix equal: `example_cap` is 0"),
        ("{equal: {rows: 0}}", r":5: mix equal: `rows` is 0"),
        ("{proportional: {temperature: -1}}", r":5: mix proportional: `temperature` is -1; it must be above 0"),
        (
            "{proportional: {tokens: 9, tokenizer: no.json}}",
            r":5: mix proportional: there is no tokenizer at 'no.json'",
        ),
        ("{proportional: {tokens: 9, rows: 9}}", r"give one of the two"),
        ("{proportional: {tokens: {first: 9}}}", r"numbers by source are for `explicit`"),
        ("{weighted: {weights: {first: 0}}}", r":5: mix weighted: give weights of 0 or more, at least one above 0"),
        ("{weighted: {}}", r":5: mix weighted needs 'weights'"),
        ("{explicit: {}}", r":5: mix explicit: say how many of each"),
        ("{explicit: {rows: {first: 0}}}", r":5: mix explicit: give numbers of 0 or more, at least one above 0"),
        ("{explicit: {rows: {frist: 1}}}", r":5: mix explicit: there is no source 'frist'. Did you mean 'first'"),
        ("{flan2022_code: {sources: {t0: [frist]}}}", r":5: mix flan2022_code: there is no source 'frist'"),
        ("{flan2021: {missing: no}}", r":5: mix flan2021: 'missing' is 'no'"),
        ("{equal: {by: cluster}}", r":5: mix equal: 'by' is 'cluster'"),
    ],
)
def test_a_wrong_mix_is_said_with_its_line(tmp_path, mix, says):
    with pytest.raises(RecipeError, match=says):
        recipe.read(two(tmp_path, mix))


def test_every_way_and_preset_has_no_problem_as_it_comes():
    assert set(WAYS) == {"proportional", "equal", "weighted", "explicit"}
    for way in ("proportional", "equal", *presets.names()):
        assert problems(way, {}) == []


def test_a_preset_with_a_mistake_is_said_in_the_recipe_check(tmp_path):
    (tmp_path / "templates" / "mixtures").mkdir(parents=True)
    (tmp_path / "templates" / "mixtures" / "mine.yaml").write_text("submixes:\n  a: {cap: 0, sets: [x]}\n", "utf-8")
    with pytest.raises(RecipeError, match=r"mine.yaml:2: `cap` is 0"):
        recipe.read(two(tmp_path, "mine"))


def test_the_plan_stands_in_the_manifest_and_is_printed_where_counts_are_known(tmp_path):
    path = two(tmp_path, "{explicit: {rows: {first: 12, second: 15}}}")
    work = tmp_path / "work"
    plan = [*("run", str(path), "--work", str(work), "--plan")]
    assert "The mixture" not in CliRunner().invoke(cli.app, plan).output
    runner.run(recipe.read(path), work, until="load")
    known = CliRunner().invoke(cli.app, plan).output
    assert "The mixture" in known
    assert known.split("The mixture")[1].split()[-10:] == [
        "first",
        "30",
        "12",
        "12",
        "44.44",
        "second",
        "10",
        "15",
        "15",
        "55.56",
    ]
    runner.run(recipe.read(path), work)
    facts = read_json(work / "01-mix" / "manifest.json")["facts"]
    assert (facts["by"], facts["unit"], facts["short"]) == ("source", "rows", {"second": 5})
    assert facts["mixture"][1] == {
        "name": "second",
        "there": 10,
        "weight": 15.0,
        "quota": 15,
        "share": 0.555556,
        "rows": 10,
        "counted": 15,
    }
    kept = read_table(work / "01-mix" / "kept")
    assert dict(kept.group_by("source").agg(pl.col("repeat").sum()).iter_rows()) == {"first": 12, "second": 15}
    printed = json.loads(CliRunner().invoke(cli.app, [*plan, "--json"]).output)
    assert printed[1]["mixture"] == facts["mixture"]


def test_a_changed_preset_or_tokenizer_runs_the_mixture_again(tmp_path):
    folder = tmp_path / "templates" / "mixtures"
    folder.mkdir(parents=True)
    (folder / "mine.yaml").write_text("submixes:\n  a: {cap: 5, sets: [pools/*]}\n", "utf-8")
    path = two(tmp_path, "mine")
    runner.run(recipe.read(path), tmp_path / "work")
    assert runner.run(recipe.read(path), tmp_path / "work").done == []
    (folder / "mine.yaml").write_text("submixes:\n  a: {cap: 6, sets: [pools/*]}\n", "utf-8")
    assert runner.run(recipe.read(path), tmp_path / "work").done == ["01-mix"]
    quotas = read_json(tmp_path / "work" / "01-mix" / "manifest.json")["facts"]["mixture"]
    assert [(line["name"], line["quota"]) for line in quotas] == [("first", 6), ("second", 6)]
