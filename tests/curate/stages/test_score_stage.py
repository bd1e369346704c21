"""Scores as a stage of a recipe."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

import tamis
from curate.contract.errors import DataError, RecipeError
from curate.contract.files import read_json
from curate.run import recipe as recipes
from curate.run import runner

FILTER = "  - filter: {length: {min_words: 8}}\n"


def with_steps(recipe: Path, steps: str, *, instead: str = FILTER) -> Path:
    """The recipe with steps in the place of one of its own."""
    recipe.write_text(recipe.read_text("utf-8").replace(instead, steps), "utf-8")
    return recipe


def scored(recipe: Path, steps: str, *, until: str = "score") -> pl.DataFrame:
    work = recipe.parent / "w"
    tamis.run(with_steps(recipe, steps), work=work, until=until)
    return tamis.load(work, until)


def facts(work: Path, stage: str) -> dict:
    return read_json(next(work.glob(f"*-{stage}")) / "manifest.json")["facts"]


def test_a_score_is_a_column_named_by_the_method_and_every_row_stays(small: Path) -> None:
    rows = scored(small, "  - score: length\n")
    before = tamis.load(small.parent / "w", "holdout")
    assert_frame_equal(rows.drop("score_length"), before)
    assert rows.schema["score_length"] == pl.Float32
    assert rows["score_length"].to_list() == [len(text.split()) for text in rows["response"]]
    lengths = rows["score_length"]
    assert facts(small.parent / "w", "score") == {
        "mean": pytest.approx(lengths.mean()),
        "min": lengths.min(),
        "max": lengths.max(),
        "missing": 0,
    }


def test_a_step_that_has_a_name_gives_it_to_its_column_and_text_says_what_is_read(small: Path) -> None:
    steps = "  - score: {length: {text: prompt, unit: characters}}\n    as: long\n  - score: length\n"
    rows = scored(small, steps)
    assert rows["score_long"].to_list() == rows["prompt"].str.len_chars().to_list()
    assert rows["score_length"].to_list() == [len(text.split()) for text in rows["response"]]


def test_rows_outside_where_have_no_score(small: Path) -> None:
    rows = scored(small, "  - score: length\n    where: {source: [second]}\n")
    assert set(rows.filter(pl.col("source") == "first")["score_length"]) == {None}
    assert rows.filter(pl.col("source") == "second")["score_length"].null_count() == 0
    assert facts(small.parent / "w", "score")["missing"] == 0


def test_a_row_that_cannot_be_scored_is_null_and_counted(small: Path) -> None:
    (small.parent / "methods" / "score").mkdir(parents=True)
    (small.parent / "methods" / "score" / "third.py").write_text(
        '"""Third."""\nimport numpy as np\nTEXT = "prompt"\n'
        "def score(text, *, one: bool = True):\n"
        "    return np.where(np.arange(len(text)) % 3 == 0, np.nan, 2.5).astype(np.float32)\n"
    )
    rows = scored(small, "  - score: third\n")
    missing = rows["score_third"].null_count()
    assert missing == (rows.height + 2) // 3 and rows["score_third"].is_nan().sum() == 0
    assert facts(small.parent / "w", "score") == {"mean": 2.5, "min": 2.5, "max": 2.5, "missing": missing}


def test_a_method_that_gives_no_number_a_text_is_named(small: Path) -> None:
    (small.parent / "methods" / "score").mkdir(parents=True)
    method = small.parent / "methods" / "score" / "mine.py"
    method.write_text("def score(text): return 3.0\n")
    with pytest.raises(DataError, match=r"score mine gave float, and should give a numpy array of \d+ numbers"):
        scored(small, "  - score: mine\n")
    method.write_text("import numpy\ndef score(text): return numpy.zeros((2, 2))\n")
    with pytest.raises(DataError, match=r"score mine gave an array of shape \(2, 2\)"):
        tamis.run(small, work=small.parent / "w")


def test_a_selector_takes_the_rows_with_the_largest_scores(small: Path) -> None:
    steps = "  - score: length\n  - select: {top_score: {score: score_length, budget: 10}}\n"
    with_steps(small, steps, instead="  - select: {facility_location: {budget: 12}}\n")
    rows = scored(small, FILTER, until="select")
    best = tamis.load(small.parent / "w", "score")["score_length"].sort(descending=True)[:10]
    assert rows["score_length"].to_list() == best.to_list()


def test_a_score_that_no_step_makes_is_said_before_anything_runs(small: Path) -> None:
    steps = "  - select: {top_score: {score: score_length, budget: 10}}\n  - score: length\n"
    with pytest.raises(
        RecipeError, match=r"recipe.yaml:8: select top_score: `score` names the column `score_length`, which"
    ):
        recipes.read(with_steps(small, steps))


def test_two_scores_of_one_name_are_refused(small: Path) -> None:
    with pytest.raises(
        RecipeError, match="would be written to the column 'score_length', which there is; give the step another"
    ):
        recipes.read(with_steps(small, "  - score: length\n  - score: {length: {unit: characters}}\n"))


def test_a_tokenizer_that_is_not_there_stops_the_run_before_it_starts(small: Path) -> None:
    with pytest.raises(tamis.TamisError, match=r"score length: there is no tokenizer at './t.json'"):
        scored(small, "  - score: {length: {unit: tokens, tokenizer: ./t.json}}\n")
    assert not list((small.parent / "w").glob("*-load"))


def test_another_tokenizer_under_the_same_name_is_counted_anew(small: Path) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel({"?": 0}, unk_token="?"))
    tokenizer.save(str(small.parent / "t.json"))  # one token a text
    rows = scored(small, "  - score: {length: {unit: tokens, tokenizer: t.json}}\n")
    assert set(rows["score_length"]) == {1}
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.save(str(small.parent / "t.json"))
    again = tamis.run(small, work=small.parent / "w", until="score")
    assert again.done == ["02-score"] and again.cached == ["00-load", "01-holdout"]
    assert min(tamis.load(small.parent / "w", "score")["score_length"]) > 1


def test_the_person_who_waits_hears_mean_least_and_most(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[str] = []
    monkeypatch.setattr(runner, "say", heard.append)
    scored(small, "  - score: {length: {text: record}}\n    as: long\n", until="long")
    said = facts(small.parent / "w", "long")
    line = f"score_long: {said['mean']:,.4g} on average, {said['min']:,.4g} the least, {said['max']:,.4g} the most"
    assert [each.strip() for each in heard] == [line]


def test_a_score_goes_with_its_rows_into_the_release(small: Path) -> None:
    steps = "  - score: compression\n  - score: length\n    where: {source: [first]}\n" + FILTER
    tamis.run(with_steps(small, steps), work=small.parent / "w")
    released = pl.read_parquet(small.parent / "w" / "release" / "data" / "*.parquet")
    assert {"score_compression", "score_length"} <= set(released.columns)
    assert "the score `compression` of the record" in (small.parent / "w" / "release" / "README.md").read_text("utf-8")
