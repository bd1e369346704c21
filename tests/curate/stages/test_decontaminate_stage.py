"""Decontamination as a stage of a recipe."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from conftest import write_jsonl

import tamis
from curate.contract.errors import RecipeError
from curate.contract.files import read_json
from curate.run import recipe as recipes

DEDUP = "  - dedup: exact\n"
WORDS = [f"w{i}" for i in range(40)]


def run_of(first: int, many: int = 13) -> str:
    return " ".join(WORDS[first : first + many])


def leaky(folder: Path) -> list[dict[str, str]]:
    """Six rows in the place of the first source: 0 quotes the first run in its response, 1 another in its prompt, across
    punctuation, 2 twelve words of the first, the others nothing."""
    responses = [f"so {run_of(0)} then", "nothing of it at all but these ten words here", f"but {run_of(0, 12)} ends"]
    rows = [
        {
            "instruction": f"Question {i}",
            "input": "",
            "output": responses[i] if i < 3 else f"plain answer number {i} of six",
        }
        for i in range(6)
    ]
    rows[1]["instruction"] = run_of(20).upper().replace(" ", ", ")
    write_jsonl(folder / "a.jsonl", rows)
    return rows


def recipe(path: Path, options: str, *, where: str = "") -> Path:
    """The small recipe with such a step before its dedup, and nothing held out or filtered."""
    text = (
        path.read_text("utf-8")
        .replace("holdout: {rows: 6}\n", "")
        .replace("  - filter: {length: {min_words: 8}}\n", "")
    )
    step = f"  - decontaminate: {{ngram: {options}}}\n" + (f"    where: {where}\n" if where else "")
    path.write_text(text.replace(DEDUP, step + DEDUP), "utf-8")
    return path


def removed(path: Path) -> pl.DataFrame:
    tamis.run(path, work=path.parent / "w", until="decontaminate")
    return tamis.load(path.parent / "w", "decontaminate", removed=True)


def manifest(path: Path) -> dict[str, Any]:
    return read_json(path.parent / "w" / "01-decontaminate" / "manifest.json")


def benchmark(folder: Path) -> None:
    """An item that row 0 quotes is the second of one, an item that row 1 quotes the first of the other."""
    write_jsonl(
        folder / "eval" / "gsm8k.jsonl", [{"question": "How many?"}, {"question": f"If {run_of(0, 15)} how many?"}]
    )
    write_jsonl(folder / "eval" / "mmlu.jsonl", [{"id": 3, "question": "Which?", "choices": ["none", run_of(18, 20)]}])


BOTH = "{against: {gsm8k: eval/gsm8k.jsonl, mmlu: eval/mmlu.jsonl}}"


def test_a_row_that_stands_in_a_benchmark_goes_with_the_words_and_the_item(small: Path) -> None:
    leaky(small.parent)
    benchmark(small.parent)
    gone = removed(recipe(small, BOTH)).sort("duplicate_of")
    assert gone.select("reason", "duplicate_of", "matched", "stage").rows() == [
        ("ngram: shares 13 words in a row with gsm8k", "gsm8k:2", run_of(0), "01-decontaminate"),
        ("ngram: shares 13 words in a row with mmlu", "mmlu:1", run_of(20), "01-decontaminate"),
    ]
    assert tamis.load(small.parent / "w", "decontaminate").height == tamis.load(small.parent / "w", "load").height - 2
    assert manifest(small)["facts"] == {
        "benchmarks": {"gsm8k": {"items": 2, "removed": 1}, "mmlu": {"items": 1, "removed": 1}}
    }
    assert manifest(small)["claims"] == ["decontaminated"]


def test_rows_outside_where_pass(small: Path) -> None:
    leaky(small.parent)
    benchmark(small.parent)
    assert removed(recipe(small, BOTH, where="{source: [second]}")).is_empty()


def test_text_and_n_are_options_as_everywhere(small: Path) -> None:
    leaky(small.parent)
    benchmark(small.parent)
    gone = removed(recipe(small, BOTH.replace("}}", "}, text: response, n: 12}")))
    assert sorted(gone["matched"]) == [run_of(0, 12), run_of(0, 12)]
    assert set(gone["reason"]) == {"ngram: shares 12 words in a row with gsm8k"}


def write_as(path: Path, items: list[dict[str, str]]) -> None:
    """The items in the format that the path's ending says."""
    table = pl.DataFrame(items)
    plain = path.name.removesuffix(".gz")
    if plain.endswith(".parquet"):
        table.write_parquet(path)
        return
    content = {
        "jsonl": "".join(json.dumps(item) + "\n" for item in items),
        "json": json.dumps(items),
        "csv": table.write_csv(),
        "txt": "".join(f"{item['question']}\n\n" for item in items),
    }[plain.rpartition(".")[2]].encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


@pytest.mark.parametrize(
    "name", ["e.jsonl", "e.json", "e.csv", "e.txt", "e.parquet", "e.txt.gz", "e.jsonl.gz", "e.csv.gz"]
)
def test_benchmarks_are_read_in_every_format(small: Path, name: str) -> None:
    leaky(small.parent)
    write_as(small.parent / name, [{"question": "How many?"}, {"question": f"If {run_of(0)}?"}, {"question": "Why?"}])
    gone = removed(recipe(small, f"{{against: [{name}]}}"))
    assert gone["duplicate_of"].to_list() == ["e:2"]
    assert manifest(small)["facts"] == {"benchmarks": {"e": {"items": 3, "removed": 1}}}


def test_only_the_fields_that_are_named_count(small: Path) -> None:
    leaky(small.parent)
    write_jsonl(small.parent / "e.jsonl", [{"question": run_of(0), "passage": run_of(20)}])
    gone = removed(recipe(small, "{against: [e.jsonl], fields: [question]}"))
    assert gone["matched"].to_list() == [run_of(0)]


def test_a_run_does_not_go_over_the_end_of_a_field(small: Path) -> None:
    leaky(small.parent)
    write_jsonl(small.parent / "e.jsonl", [{"question": run_of(0, 7), "answer": run_of(7, 8)}])
    assert removed(recipe(small, "{against: [e.jsonl]}")).is_empty()


def test_a_benchmark_that_changed_is_looked_for_again(small: Path) -> None:
    leaky(small.parent)
    benchmark(small.parent)
    recipe(small, BOTH)
    assert removed(small).height == 2
    assert tamis.run(small, work=small.parent / "w", until="decontaminate").done == []
    write_jsonl(small.parent / "eval" / "mmlu.jsonl", [{"question": "Which?"}])
    again = tamis.run(small, work=small.parent / "w", until="decontaminate")
    assert again.done == ["01-decontaminate"] and again.cached == ["00-load"]
    assert tamis.load(small.parent / "w", "decontaminate", removed=True).height == 1


def stopped(path: Path) -> str:
    """What is said, by a run that computed nothing."""
    with pytest.raises(tamis.TamisError) as error:
        tamis.run(path, work=path.parent / "w")
    assert not list((path.parent / "w").glob("*-load"))
    return str(error.value)


def test_every_file_that_cannot_be_used_is_said_before_anything_runs(small: Path) -> None:
    benchmark(small.parent)
    (small.parent / "empty.txt").write_text("\n \n")
    (small.parent / "broken.jsonl").write_text('{"question": "a"}\n{"question": \n')
    (small.parent / "numbers.csv").write_text("a,b\n")
    (small.parent / "numbers.jsonl").write_text('{"a": 1}\n')
    (small.parent / "cut.txt.gz").write_bytes(gzip.compress(b"some text")[:-9])
    names = "eval/gsm8.jsonl, empty.txt, broken.jsonl, numbers.jsonl, cut.txt.gz, no/such.txt"
    lines = stopped(recipe(small, f"{{against: [{names}]}}")).splitlines()
    said = [line.replace(f"{small.parent}/", "") for line in lines]
    assert said[0] == "decontaminate ngram: gsm8: there is no file eval/gsm8.jsonl. Did you mean 'gsm8k.jsonl'?"
    assert said[1] == "decontaminate ngram: empty: empty.txt holds no text to look for; take it out of `against`"
    assert said[2].startswith("decontaminate ngram: broken: broken.jsonl:2: not JSON")
    assert said[3] == "decontaminate ngram: numbers: numbers.jsonl holds no text to look for; take it out of `against`"
    assert said[4].startswith("decontaminate ngram: cut: cut.txt.gz cannot be read (")
    assert said[5].endswith("no/such.txt; paths hang from the data folder of the recipe") and len(said) == 6


def test_a_field_that_no_item_has_names_those_that_there_are(small: Path) -> None:
    benchmark(small.parent)
    said = stopped(recipe(small, "{against: {mmlu: eval/mmlu.jsonl}, fields: [question, choice]}"))
    assert "mmlu: no item has a field 'choice'. Did you mean 'choices'?; there are: id, question, choices" in said


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ("{}", r"decontaminate ngram needs 'against' \(a mapping or a list of texts\)"),
        ("{against: []}", "decontaminate ngram: `against` names no file"),
        ("{against: {gsm8k: 3}}", "'against' is {'gsm8k': 3}, and should be"),
        ("{against: [a/e.csv, b/e.jsonl]}", r"a/e.csv and b/e.jsonl are both called 'e'; write `{name: path}` instead"),
        ("{against: [e.csv], field: [a]}", "ngram has no option 'field'. Did you mean 'fields'"),
    ],
)
def test_wrong_options_are_said_with_their_line(small: Path, options: str, sentence: str) -> None:
    with pytest.raises(RecipeError, match=f"recipe.yaml:7: .*{sentence}"):
        recipes.read(recipe(small, options))


def test_the_card_says_that_benchmarks_were_looked_for(small: Path) -> None:
    benchmark(small.parent)
    tamis.run(recipe(small, BOTH), work=small.parent / "w")
    card = (small.parent / "w" / "release" / "README.md").read_text("utf-8")
    assert "No step looked for the test sets of benchmarks" not in card
