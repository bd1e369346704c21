"""The whole thread on a tiny random model: sources in, a curated set, a tuned model and a measurement out."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
import torch
from conftest import RECIPE, alpaca_rows, bytes_of, write_jsonl
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

import tamis
from curate.contract.errors import TrainingError
from curate.contract.files import read_json

TRAINING = """\
train: {model: base, epochs: 1, learning_rate: 1e-2, batch: {examples: 4}, max_length: 128}
study:
  arms: {random: random, fl: facility_location}
  budgets: [4, 8]
  draws: 2
  delta: 0.05
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two sources, a random Llama of 20,000 parameters, and a recipe that trains and measures."""
    folder = tmp_path_factory.mktemp("thread")
    rows = alpaca_rows()
    write_jsonl(folder / "a.jsonl", rows[:30])
    write_jsonl(folder / "b.jsonl", rows[20:])
    (folder / "recipe.yaml").write_text(RECIPE + TRAINING)
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<s>", "</s>"], initial_alphabet=alphabet, show_progress=False
    )
    bpe.train_from_iterator((row["output"] for row in rows), trainer)
    PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token="<s>", eos_token="</s>").save_pretrained(folder / "base")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=300,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=256,
    )
    LlamaForCausalLM(config).save_pretrained(folder / "base")
    return folder


@pytest.fixture(scope="module")
def done(home: Path) -> Path:
    tamis.run(home / "recipe.yaml", work=home / "work")
    return home / "work"


def test_the_study_leaves_results_subsets_and_a_report(done: Path) -> None:
    results = pl.read_parquet(done / "study" / "results.parquet")
    assert {"arm", "budget", "draw", "seed", "item", "value"} <= set(results.columns)
    assert set(results["arm"]) == {"random", "fl", "longest", "stratified", "untuned"}
    assert results.group_by("arm", "budget", "draw").len().height == 4 * 2 * 2 + 1
    held_out = set(tamis.load(done, "holdout", removed=True)["id"])
    assert set(results["item"]) <= held_out
    page = (done / "study" / "report.html").read_text()
    assert page.startswith("<!") and "<svg" in page and 'src="http' not in page
    subset = pl.read_parquet(done / "arms" / "subsets" / "fl" / "1.parquet")
    assert subset["rank"].to_list() == list(range(8)) and not set(subset["id"]) & held_out


def test_the_model_is_safetensors_and_can_be_scored(done: Path) -> None:
    files = {path.name for path in (done / "model" / "model").iterdir()}
    assert "model.safetensors" in files and not any(name.endswith((".bin", ".pt")) for name in files)
    command = [
        sys.executable,
        "-m",
        "curate.cli",
        "eval",
        str(done / "model" / "model"),
        str(done / "release"),
        "--json",
    ]
    scored = subprocess.run(command, capture_output=True, text=True)
    assert scored.returncode == 0 and '"bits_per_byte"' in scored.stdout, scored.stderr


def test_the_command_ends_with_the_studys_table_its_headline_and_where_things_are(home: Path, done: Path) -> None:
    command = [sys.executable, "-m", "curate.cli", "run", str(home / "recipe.yaml"), "--work", str(done)]
    printed = subprocess.run(command, capture_output=True, text=True).stdout
    headline = read_json(done / "study" / "analysis.json")["headline"]
    assert -1 < printed.index("The funnel") < printed.index("m(N)") < printed.index(headline)
    assert printed.index(headline) < printed.index("Nothing to do") < printed.index("study/report.html")


def test_a_second_run_trains_nothing(home: Path, done: Path) -> None:
    assert tamis.run(home / "recipe.yaml", work=done).done == []


def test_a_changed_study_option_reruns_the_study_alone(home: Path, done: Path, tmp_path: Path) -> None:
    shutil.copytree(done, tmp_path / "work")
    assert tamis.run(home / "recipe.yaml", work=tmp_path / "work", sets={"study.delta": 0.1}).done == ["study"]


QUESTIONS = """\
train: {model: base, epochs: 1, learning_rate: 1e-2, batch: {examples: 4}, max_length: 128}
study:
  evaluate:
    breadth: {over: [source], arms: [fl]}
    aim: {where: {source: second}, dev: 1, arms: [targeted]}
  arms: {random: random, fl: facility_location, targeted: {rds: {target: {dev: aim}}}}
  baselines: [random]
  factors: {learning_rate: {fast: 1e-2, slow: 1e-3}, templates: [1, all]}
  budgets: [2, 4]
  reference_budgets: [8]
  draws: 2
  equal: tokens
  delta: 0.05
"""


@pytest.fixture(scope="module")
def asked(home: Path) -> Path:
    (home / "questions.yaml").write_text(
        RECIPE.replace("name: small", "name: questions").replace("{rows: 6}", "{rows: 10}") + QUESTIONS
    )
    tamis.run(home / "questions.yaml", work=home / "questions")
    return home / "questions"


def test_a_study_of_questions_has_its_sets_conditions_and_effects(asked: Path) -> None:
    results = pl.read_parquet(asked / "study" / "results.parquet")
    plain = {"random", "fl", "targeted"}
    levels = {f"{arm}/{level}" for arm in plain for level in ("slow", "templates=all")}
    assert set(results["arm"]) == {*plain, *levels, "untuned"}
    assert set(results.filter(pl.col("arm") == "random")["budget"]) == {2, 4, 8}
    inside = {name: set(results.filter(pl.col(f"in.{name}").is_not_null())["arm"]) for name in ("breadth", "aim")}
    assert inside["aim"] == {name for name in results["arm"] if not name.startswith("fl")}
    assert inside["breadth"] == {name for name in results["arm"] if not name.startswith("targeted")}
    assert set(results["in.breadth"].drop_nulls()) == {"first", "second"}
    assert set(results["factor.learning_rate"].drop_nulls()) == {"fast", "slow"}
    facts = read_json(asked / "study" / "analysis.json")
    assert {(e["factor"], e["level"]) for e in facts["effects"]} == {
        ("learning_rate", "slow"),
        ("templates", "templates=all"),
    }


def test_dev_rows_are_shown_to_the_selector_and_neither_picked_nor_scored(asked: Path) -> None:
    held_out = set(tamis.load(asked, "holdout", removed=True)["id"])
    scored = set(pl.read_parquet(asked / "arms" / "holdout.parquet")["id"])
    assert len(held_out - scored) == 1  # the dev row
    for path in (asked / "arms").rglob("subsets*/*/*.parquet"):
        assert not set(pl.read_parquet(path)["id"]) & held_out


def test_arms_of_equal_tokens_are_given_about_as_much(asked: Path) -> None:
    runs = pl.read_parquet(asked / "study" / "runs.parquet").filter(pl.col("budget") == 4)
    tokens = dict(runs.group_by("arm").agg(pl.col("tokens").sum()).iter_rows())
    assert tokens["fl"] == pytest.approx(tokens["random"], rel=0.35)


def test_what_a_study_takes_and_can_show_is_said_before_it_trains(home: Path, asked: Path, tmp_path: Path) -> None:
    def said(*command: str) -> str:
        done = subprocess.run([sys.executable, "-m", "curate.cli", *command], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return " ".join(done.stdout.split())

    recipe, work = str(home / "questions.yaml"), str(tmp_path / "work")
    first = said("study", recipe, "--work", work, "--plan", "--prereg")
    plan = read_json(tmp_path / "work" / "study-plan.json")
    assert f"The plan {plan['hash']} is written down" in first
    assert "runs, 0 of them to be trained" in first  # the store has them from the study of the fixture
    assert "`tamis floor questions.yaml` measures it" in first
    assert not (tmp_path / "work" / "study").exists()
    noise = said("floor", recipe, "--work", work, "--budget", "4")
    assert noise.startswith("A difference below 0.") and "one comparison of two arms of 4 examples, 2 draws" in noise
    then = said("study", recipe, "--work", work, "--power", "0.5")
    assert "(noise: of tamis floor)" in then and "To show 0.5 it takes" in then


@pytest.mark.slow
def test_the_same_recipe_gives_the_same_bytes_with_two_workers(
    home: Path, done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAMIS_CACHE", str(tmp_path / "cache"))  # else no run would be trained again
    tamis.run(home / "recipe.yaml", work=tmp_path / "work", workers=2)
    one, two = bytes_of(done), bytes_of(tmp_path / "work")
    timed = {"model/training.json"}
    assert one.keys() == two.keys() and "study/report.html" in one
    assert [name for name in one if one[name] != two[name] and name not in timed] == []


def test_a_model_with_pickled_weights_is_refused(home: Path, done: Path, tmp_path: Path) -> None:
    shutil.copytree(home, tmp_path / "home", ignore=shutil.ignore_patterns("work"))
    base = tmp_path / "home" / "base"
    (base / "model.safetensors").unlink()
    torch.save({}, base / "pytorch_model.bin")
    shutil.copytree(done, tmp_path / "work")
    with pytest.raises(TrainingError, match="safetensors"):
        tamis.run(tmp_path / "home" / "recipe.yaml", work=tmp_path / "work")
