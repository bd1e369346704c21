"""The split keeps duplicates on one side and does not depend on the order of rows or on other groups."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from conftest import write_jsonl
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from curate.contract.errors import ContractError, RecipeError
from curate.rows import ngrams
from curate.rows.holdout import EXCLUDED, hold_out, split
from curate.rows.table import read as read_table
from curate.run import recipe, runner

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


# --- a held-out cluster ----------------------------------------------------------------------------------------------


def clusters(*names: str, texts: dict[int, str] | None = None) -> pl.DataFrame:
    rows = table(
        [(f"id{i}", f"prompt {i} {(texts or {}).get(i, '')}", f"response {i}") for i in range(len(names))], list(names)
    )
    return rows.with_columns(pl.format("source of {}", pl.col("task_cluster")).alias("source"))


def sides(rows: pl.DataFrame, **options) -> dict[str, set[str]]:
    sides_of = rows.select("id").hstack(split(rows, seed=0, **options))
    return {
        "aside": set(sides_of.filter("aside")["id"]),
        "gone": set(sides_of.filter(pl.col("reason").is_not_null())["id"]),
        "train": set(sides_of.filter(~pl.col("aside") & pl.col("reason").is_null())["id"]),
    }


def test_flans_pairs_leave_with_one_another_and_the_halves_of_reading_train_with_one_another():
    """flan/task_splits.py, generate_inter_cluster_splits, in the paper's names of the clusters."""
    pairs = {frozenset((held, gone)) for held, others in EXCLUDED.items() for gone in others}
    both = "reading_comprehension_with_commonsense"
    assert pairs == {
        frozenset(("natural_language_inference", "paraphrase")),
        frozenset(("reading_comprehension", both)),
        frozenset(("commonsense", both)),
    }
    assert all(
        held in EXCLUDED[gone] for held, others in EXCLUDED.items() for gone in others
    )  # and the other way round


@pytest.mark.parametrize("held", [*EXCLUDED, "sentiment"])
def test_an_excluded_cluster_is_neither_trained_nor_evaluated_on(held):
    names = [*EXCLUDED, "sentiment", "translation"]
    ids = sides(clusters(*names), task_cluster=held)
    of = {f"id{i}": name for i, name in enumerate(names)}
    assert {of[row] for row in ids["aside"]} == {held}
    assert {of[row] for row in ids["gone"]} == set(EXCLUDED.get(held, ()))
    assert ids["aside"] | ids["gone"] | ids["train"] == set(of)
    assert not ids["aside"] & ids["gone"]


def test_an_excluded_row_that_repeats_a_held_out_one_is_not_evaluated_on():
    rows = table(
        [("a", "one", "x"), ("b", "One!", "y"), ("c", "two", "z")], ["paraphrase", "natural_language_inference", "t"]
    )
    rows = rows.with_columns(source=pl.lit("s"))
    assert sides(rows, task_cluster="natural_language_inference") == {"aside": {"b"}, "gone": {"a"}, "train": {"c"}}


def test_nothing_left_to_train_on_is_an_error():
    with pytest.raises(ContractError, match="nothing is left to train on, since paraphrase is held out and natural"):
        split(clusters("paraphrase", "natural_language_inference"), task_cluster="paraphrase", seed=0)


RUN = " ".join(f"word{i}" for i in range(13))


def test_thirteen_words_in_common_fail_and_twelve_do_not():
    rows = clusters("held", "train", "train", texts={0: f"so: {RUN}", 2: f"see {RUN.upper().replace(' ', ', ')}!"})
    with pytest.raises(ContractError) as error:
        split(rows, task_cluster="held", seed=0)
    for part in (
        "1 training row shares",
        "id2 of source of train",
        f'"{RUN}"',
        "id0 of source of held",
        "`overlap: remove`",
    ):
        assert part in str(error.value)
    twelve = clusters("held", "train", texts={0: f"x {RUN}", 1: RUN.rsplit(" ", 1)[0]})
    assert sides(twelve, task_cluster="held") == {"aside": {"id0"}, "gone": set(), "train": {"id1"}}


def test_remove_takes_the_training_row_and_says_what_it_shares():
    rows = clusters("held", "train", "train", texts={0: f"so: {RUN}", 2: RUN})
    row = split(rows, task_cluster="held", overlap="remove", seed=0).row(2, named=True)
    assert row["reason"] == "overlap: shares 13 words in a row with a held-out record"
    assert (row["duplicate_of"], row["matched"]) == ("id0", RUN)
    assert sides(rows, task_cluster="held", overlap="remove")["train"] == {"id1"}
    rows = clusters("held", "train", texts={0: RUN, 1: RUN})
    with pytest.raises(ContractError, match="every training row shares 13 words"):
        split(rows, task_cluster="held", overlap="remove", seed=0)


def test_a_fraction_looks_for_shared_words_only_if_asked():
    rows = pl.concat([clusters(*["t"] * 8, texts=dict.fromkeys(range(8), RUN))])
    assert split(rows, rows=2, seed=0)["reason"].null_count() == 8
    with pytest.raises(ContractError, match="share 13 words"):
        split(rows, rows=2, overlap="fail", seed=0)


# --- n-grams ---------------------------------------------------------------------------------------------------------


def brute_force(texts: list[str], others: list[str], n: int) -> list[tuple[int, int, str]]:
    def words(text: str) -> list[str]:
        return re.sub(r"[\W_]+", " ", text.lower()).split()

    def runs(text: str) -> list[str]:
        all_words = words(text)
        return [" ".join(all_words[i : i + n]) for i in range(len(all_words) - n + 1)]

    first: dict[str, int] = {}
    for at, text in enumerate(others):
        for run in runs(text):
            first.setdefault(run, at)
    lines = []
    for at, text in enumerate(texts):
        hit = next((run for run in runs(text) if run in first), None)
        if hit is not None:
            lines.append((at, first[hit], hit))
    return lines


TEXTS = st.lists(
    st.lists(st.sampled_from(["a", "B", "c!", "ä_b", "-", "７", "a"]), max_size=12).map(" ".join), max_size=8
)


@LAW
@given(TEXTS, TEXTS, st.integers(2, 5))
def test_shared_runs_are_those_of_brute_force(texts, others, n):
    shared = ngrams.shared(pl.Series(texts, dtype=pl.String), pl.Series(others, dtype=pl.String), n)
    assert shared.rows() == brute_force(texts, others, n)


@pytest.mark.parametrize("size", [1, 40, 1_000])
def test_slices_and_colliding_hashes_change_nothing(size, monkeypatch):
    rng = np.random.default_rng(0)
    make = lambda n: [" ".join(f"w{i}" for i in rng.integers(0, 12, rng.integers(0, 40))) for _ in range(n)]  # noqa: E731
    texts, others = make(60), make(30)
    expected = brute_force(texts, others, 4)
    honest = ngrams._grams

    def weak(words, n, seed):
        row, place, value = honest(words, n, seed)
        return row, place, (value >> np.uint64(59)) << np.uint64(59) if seed == 0 else value

    monkeypatch.setattr(ngrams, "_BYTES", size)
    assert ngrams.shared(pl.Series(texts), pl.Series(others), 4).rows() == expected
    monkeypatch.setattr(ngrams, "_grams", weak)
    shared = ngrams.shared(pl.Series(texts), pl.Series(others), 4)
    assert shared["row"].to_list() == [row for row, _, _ in expected]
    for row, other, run in shared.iter_rows():
        assert f" {run} " in f" {texts[row]} " and f" {run} " in f" {others[other]} "


def test_no_text_and_nulls_share_nothing():
    empty = pl.Series([], dtype=pl.String)
    assert ngrams.shared(empty, empty).rows() == []
    assert ngrams.shared(pl.Series([RUN, None]), empty).rows() == []
    assert ngrams.shared(pl.Series([None, RUN]), pl.Series([None, "", RUN])).rows() == [(1, 2, RUN)]


# --- in a recipe -----------------------------------------------------------------------------------------------------

NLI = """\
name: held
load:
  - files: {path: rte.jsonl, name: rte, template: flan/natural_language_inference/rte, license: mit}
  - files: {path: mrpc.jsonl, name: mrpc, template: flan/paraphrase/mrpc, license: mit}
  - files: {path: a.jsonl, name: chat, shape: alpaca, license: mit}
holdout: {task_cluster: natural_language_inference}
"""


def leaky(folder: Path) -> Path:
    pair = {"sentence1": "The bridge over the river was closed to lorries until the autumn of that year.", "label": 1}
    write_jsonl(
        folder / "rte.jsonl", [{**pair, "sentence2": f"Lorry {i} could not cross.", "idx": i} for i in range(4)]
    )
    write_jsonl(folder / "mrpc.jsonl", [{**pair, "sentence2": f"It reopened {i}.", "idx": i} for i in range(3)])
    chat = [{"instruction": f"Say {i} in another language", "input": "", "output": f"Number {i}"} for i in range(5)]
    chat.append({"instruction": "Translate", "input": pair["sentence1"], "output": "Die Brücke war zu."})
    write_jsonl(folder / "a.jsonl", chat)
    path = folder / "recipe.yaml"
    path.write_text(NLI, "utf-8")
    return path


def test_a_held_out_cluster_in_a_recipe(tmp_path):
    path = leaky(tmp_path)
    with pytest.raises(
        ContractError, match=r"1 training row shares 13 words in a row with a held-out record; the first is .* of chat"
    ):
        runner.run(recipe.read(path), tmp_path / "work")
    runner.run(recipe.read(path, ["holdout.overlap=remove"]), tmp_path / "work")
    kept, gone = (read_table(tmp_path / "work" / "01-holdout" / side) for side in ("kept", "removed"))
    assert kept["source"].to_list() == ["chat"] * 5
    reasons = dict(gone.group_by("source").agg(pl.col("reason").unique().sort()).iter_rows())
    assert reasons["rte"] == ["holdout: set aside for evaluation"]
    assert reasons["mrpc"] == ["holdout: paraphrase is too close to natural_language_inference, which is held out"]
    assert reasons["chat"] == ["overlap: shares 13 words in a row with a held-out record"]
    (line,) = gone.filter(pl.col("source") == "chat").to_dicts()
    assert line["duplicate_of"] in set(gone.filter(pl.col("source") == "rte")["id"])
    assert line["matched"].startswith("the bridge over the river")


def test_a_wrong_overlap_is_said_with_its_line(tmp_path):
    path = leaky(tmp_path)
    path.write_text(NLI.replace("inference}", "inference, overlap: removed}"), "utf-8")
    with pytest.raises(RecipeError, match=r"recipe.yaml:6: holdout: overlap is 'removed'; it is"):
        recipe.read(path)
