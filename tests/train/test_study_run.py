"""A whole study on a model of a few thousand parameters: what it writes, that it resumes, and that its runs are paired."""

from __future__ import annotations

import copy
import hashlib
import re
import shutil
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from curate.contract import store
from curate.contract.draws import shuffled
from curate.contract.errors import ContractError, DataError, RequestError, TrainingError
from curate.contract.files import read_json, write_json
from train import tiny
from train.encode import Encoder
from train.fit import fit
from train.models import load_model, prepare, save_model
from train.objectives.response_only import weights
from train.scoring.perplexity import evaluate
from train.study import bench
from train.study.bench import Run, Worker
from train.study.inputs import lengths
from train.study.queue import device_of, room
from train.study.run import study

WORDS = [a + b for a in ("ti", "ri", "bre", "clo") for b in ("me", "vers", "ad", "cks")]
ARMS = ("random", "longest")
TRAIN = {"learning_rate": 1e-3, "batch": {"examples": 2}, "epochs": 3.0, "max_length": 96, "dtype": "float32"}


def rows(n: int, start: int) -> pa.Table:
    def text(i: int, length: int) -> str:
        return " ".join(WORDS[(i * 7 + j * (1 + i % 5)) % len(WORDS)] for j in range(length))

    return pa.table(
        {
            "id": [f"row-{i:03}" for i in range(start, start + n)],
            "messages": [
                [{"role": "user", "content": text(i, 5)}, {"role": "assistant", "content": text(i + 1, 4 + i % 9)}]
                for i in range(start, start + n)
            ],
            "task": [("odd", "even")[i % 2] for i in range(start, start + n)],
        }
    )


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A random model, 16 wide, and a tokenizer of its own."""
    folder = tmp_path_factory.mktemp("base") / "model"
    alphabet = [f"{a}{b} {c}" for a in WORDS for b in WORDS for c in WORDS]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiny, "VOCABULARY", 400)
        tokenizer = tiny._tokenizer(alphabet)
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=400, **shape, initializer_range=0.2, eos_token_id=2))
    save_model(prepare(model), tokenizer, folder)
    return str(folder)


def prepare_folder(
    folder: Path,
    arms: tuple[str, ...] = ARMS,
    draws: int = 2,
    budgets: tuple[int, ...] = (4, 8),
    **conditions: dict[str, Any],
) -> dict[str, Any]:
    """What stands on disk before a study: rows, holdout, subsets, conditions. conditions: what an arm's differs in."""
    arms_folder = folder / "arms"
    arms_folder.mkdir(parents=True, exist_ok=True)
    pool = rows(30, 0)
    pq.write_table(pool, arms_folder / "rows.parquet")
    pq.write_table(rows(12, 100), arms_folder / "holdout.parquet")
    ids = pool["id"].to_pylist()
    length = {i: len(m[1]["content"]) for i, m in zip(ids, pool["messages"].to_pylist(), strict=True)}
    for arm in arms:
        for draw in range(draws):
            order = [ids[i] for i in shuffled(draw, arm.removeprefix("copy of "), ids)]
            picked = sorted(order[:24], key=lambda i: -length[i])[:8] if arm == "longest" else order[:8]
            path = arms_folder / "subsets" / arm / f"{draw}.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(pa.table({"id": picked, "rank": pa.array(range(8), pa.int32())}), path)
    write_json(
        arms_folder / "conditions.json",
        {
            "conditions": [
                {
                    "label": arm,
                    "arm": arm,
                    "levels": {},
                    "train": {},
                    "rows": "rows.parquet",
                    "subsets": f"subsets/{arm}",
                    "budgets": list(budgets),
                    "sets": ["breadth", "target"],
                    **conditions.get(arm, {}),
                }
                for arm in arms
            ]
        },
    )
    return {"arms": arms_folder}


def measure(out: Path, base: str, **options: Any) -> dict[str, Any]:
    given = {"draws": 2, "items": 10, **options}
    return study(out, train={**TRAIN, "model": base, **given.pop("train", {})}, **given)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store of the test's own."""
    monkeypatch.setenv("TAMIS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def done(base: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A finished study, and beside its files the store that it left its runs in."""
    folder = tmp_path_factory.mktemp("study")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TAMIS_CACHE", str(folder / "cache"))
        return folder, measure(folder, base, **prepare_folder(folder))


@pytest.fixture
def copied(done: tuple[Path, dict[str, Any]], tmp_path: Path, cache: Path) -> tuple[Path, dict[str, Any]]:
    """The finished study in a folder of this test's own, its runs in the test's store, and where its inputs are."""
    folder = tmp_path / "study"
    shutil.copytree(done[0], folder, ignore=shutil.ignore_patterns("cache"))
    shutil.copytree(done[0] / "cache", cache)
    return folder, prepare_folder(folder)


def outputs(folder: Path) -> dict[str, str]:
    names = ("results.parquet", "runs.parquet", "analysis.json", "plan.json", "report.html", "report.md", "plot.png")
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}


def test_it_leaves_a_tidy_table_of_every_arm_budget_draw_and_item(done):
    folder, _ = done
    table = pq.read_table(folder / "results.parquet")
    assert table.column_names[:9] == ["arm", "budget", "draw", "seed", "item", "task", "value", "bits", "bytes"]
    assert table.num_rows == (1 + 2 * 2 * 2) * 10  # the untuned model too
    assert table["value"].to_numpy() == pytest.approx(table["bits"].to_numpy() / table["bytes"].to_numpy())
    held_out = rows(12, 100)
    size = {
        i: len(m[1]["content"])
        for i, m in zip(held_out["id"].to_pylist(), held_out["messages"].to_pylist(), strict=True)
    }
    assert all(size[item] == n for item, n in zip(table["item"].to_pylist(), table["bytes"].to_pylist(), strict=True))


def test_its_facts_hold_headline_table_and_design(done):
    facts = done[1]
    assert facts["headline"].endswith(".")
    assert {(row["arm"], row["budget"]) for row in facts["table"]} == {(arm, n) for arm in ARMS for n in (4, 8)} | {
        ("untuned", 0)
    }
    given = {(row["arm"], row["budget"]): row for row in facts["design"]["arms"]}
    assert given["random", 8]["steps"] == 12  # three epochs of 8 rows, 2 a step
    assert given["random", 8]["epochs"] == 3.0
    assert given["longest", 4]["response_bytes"] > given["random", 4]["response_bytes"]
    assert 0 <= given["longest", 8]["overlap"] <= 1
    assert facts["design"]["base"]["parameters"] == sum(
        p.numel() for p in load_model(facts["design"]["train"]["model"])[0].parameters()
    )


def test_a_run_is_what_the_trainer_does_alone(done, base):
    folder, _ = done
    run = next(
        r
        for r in pq.read_table(folder / "runs.parquet").to_pylist()
        if (r["arm"], r["budget"], r["draw"]) == ("longest", 8, 1)
    )
    model, tokenizer = load_model(base)
    encoder = Encoder(tokenizer, max_length=96)
    pool = {row["id"]: row["messages"] for row in rows(30, 0).to_pylist()}
    picked = pq.read_table(folder / "arms/subsets/longest/1.parquet")["id"].to_pylist()
    documents, _ = encoder.encode_all([(i, pool[i]) for i in picked])
    fit(
        model,
        documents,
        weights=weights,
        steps=12,
        examples=2,
        learning_rate=1e-3,
        dtype="float32",
        seed=run["run_seed"],
    )
    table = pq.read_table(folder / "results.parquet").to_pylist()
    scored = [row for row in table if (row["arm"], row["budget"], row["draw"]) == ("longest", 8, 1)]
    held_out = {row["id"]: row["messages"] for row in rows(12, 100).to_pylist()}
    items, _ = encoder.encode_all([(row["item"], held_out[row["item"]]) for row in scored])
    assert evaluate(model, items, dtype="float32").bits == pytest.approx([row["bits"] for row in scored], rel=1e-5)


def test_arms_of_one_draw_share_its_seed_and_draws_do_not(done):
    runs = pq.read_table(done[0] / "runs.parquet").to_pylist()
    seeds = {draw: {r["run_seed"] for r in runs if r["draw"] == draw} for draw in (0, 1)}
    assert [len(s) for s in seeds.values()] == [1, 1]
    assert seeds[0] != seeds[1]


def watch(monkeypatch: pytest.MonkeyPatch) -> list[Run]:
    """The runs that are trained from now on."""
    trained: list[Run] = []
    original = Worker.train
    monkeypatch.setattr(Worker, "train", lambda self, run: (trained.append(run), original(self, run))[1])
    return trained


def test_a_second_time_nothing_is_trained_and_the_bytes_are_the_same(copied, base, monkeypatch):
    folder, inputs = copied
    before, trained = outputs(folder), watch(monkeypatch)
    measure(folder, base, **inputs)
    assert trained == []
    assert outputs(folder) == before


def test_a_lost_run_alone_is_trained_again_to_the_same_bytes(copied, base, cache, monkeypatch):
    folder, inputs = copied
    before = outputs(folder)
    lost = next(r for r in pq.read_table(folder / "runs.parquet").to_pylist() if r["arm"] == "longest")
    (cache / "runs" / f"full-{lost['key']}" / "facts.json").unlink()
    trained = watch(monkeypatch)
    measure(folder, base, **inputs)
    assert [run.key for run in trained] == [lost["key"]]
    assert outputs(folder) == before


def test_a_damaged_run_is_trained_again_to_the_same_bytes(copied, base, cache, monkeypatch):
    folder, inputs = copied
    before = outputs(folder)
    items = sorted((cache / "runs").glob("full-*/items.parquet"))[3]
    items.write_bytes(items.read_bytes()[:-9])
    trained = watch(monkeypatch)
    measure(folder, base, **inputs)
    assert [f"full-{run.key}" for run in trained] == [items.parent.name]
    assert outputs(folder) == before


def test_another_analysis_trains_nothing(copied, base, monkeypatch):
    folder, inputs = copied
    before, trained = outputs(folder), watch(monkeypatch)
    measure(folder, base, **inputs, name="again")
    assert trained == []
    after = outputs(folder)
    assert after["results.parquet"] == before["results.parquet"] and after["report.html"] != before["report.html"]


def test_a_new_arm_budget_or_draw_trains_its_own_runs_only(copied, base, monkeypatch):
    folder, _ = copied
    trained = watch(monkeypatch)
    measure(folder, base, **prepare_folder(folder, (*ARMS, "third")))
    assert {run.arm for run in trained} == {"third"} and len(trained) == 4
    trained.clear()
    measure(folder, base, **prepare_folder(folder, budgets=(4, 6, 8)))
    assert {run.budget for run in trained} == {6} and len(trained) == 4
    trained.clear()
    measure(folder, base, **prepare_folder(folder, draws=3), draws=3)
    assert {run.draw for run in trained} == {2} and len(trained) == 4


def test_another_folder_with_the_same_base_and_rows_trains_nothing(copied, base, tmp_path, monkeypatch):
    """Nor do an arm's name, or the place of the base model."""
    shutil.copytree(base, tmp_path / "elsewhere" / "model")
    trained = watch(monkeypatch)
    inputs = prepare_folder(tmp_path / "other", random={"label": "chance"}, longest={"label": "wordy"})
    measure(tmp_path / "other", str(tmp_path / "elsewhere" / "model"), **inputs, reference="chance")
    assert trained == []


def test_rows_that_say_something_else_are_trained_anew(copied, base, monkeypatch):
    folder, inputs = copied
    changed = rows(30, 0).to_pylist()
    run = next(r for r in pq.read_table(folder / "runs.parquet").to_pylist() if r["arm"] == "longest")
    picked = pq.read_table(folder / "arms" / "subsets" / "longest" / f"{run['draw']}.parquet")["id"].to_pylist()
    for row in changed:
        if row["id"] == picked[-1]:
            row["messages"][1]["content"] += " ti"
    pq.write_table(pa.Table.from_pylist(changed), folder / "arms" / "rows.parquet")
    trained = watch(monkeypatch)
    measure(folder, base, **inputs)
    assert trained and all(picked[-1] in run.ids for run in trained)
    assert ("longest", 8, run["draw"]) in {(one.arm, one.budget, one.draw) for one in trained}


def test_an_option_of_the_trainer_trains_all_again_but_the_untuned_model(copied, base, monkeypatch):
    folder, inputs = copied
    trained = watch(monkeypatch)
    measure(folder, base, **inputs, train={"weight_decay": 0.1})
    assert len(trained) == 8  # 2 arms × 2 budgets × 2 draws
    trained.clear()
    measure(folder, base, **inputs, train={"chat": "plain", "max_length": 48})
    assert "untuned" in {run.arm for run in trained}


def test_another_base_model_is_another_study(copied, base, tmp_path, monkeypatch):
    folder, inputs = copied
    model, tokenizer = load_model(base)
    model.model.layers[0].mlp.up_proj.weight.data.mul_(1.01)
    save_model(model, tokenizer, tmp_path / "other_model")
    trained = watch(monkeypatch)
    measure(folder, str(tmp_path / "other_model"), **inputs)
    assert len(trained) == 9


def test_arms_that_picked_the_same_rows_are_trained_once(base, tmp_path, monkeypatch):
    trained = watch(monkeypatch)
    facts = measure(
        tmp_path, base, **prepare_folder(tmp_path, ("random", "copy of random"), draws=1, budgets=(4,)), draws=1
    )
    assert len(trained) == 2  # one, and the untuned model
    assert facts["table"][1]["difference"] == 0.0


def test_two_workers_give_the_same_bytes_as_one(copied, base, cache):
    folder, inputs = copied
    before, runs = outputs(folder), sorted(path.name for path in (cache / "runs").iterdir())
    shutil.rmtree(cache)
    measure(folder, base, **inputs, workers=2)
    assert outputs(folder) == before
    assert sorted(path.name for path in (cache / "runs").iterdir()) == runs


def test_a_store_that_is_emptied_meanwhile_takes_nothing_from_the_study(copied, base, cache, monkeypatch):
    folder, inputs = copied
    before, original = outputs(folder), Worker.train
    for path in sorted((cache / "runs").iterdir())[:2]:
        shutil.rmtree(path)
    monkeypatch.setattr(Worker, "train", lambda self, run: (store.gc(), original(self, run))[1])
    measure(folder, base, **inputs)
    assert outputs(folder) == before


def test_the_caller_keeps_its_number_of_threads(base, tmp_path):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        measure(tmp_path, base, **prepare_folder(tmp_path, budgets=(4,)), draws=1)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


TUNING = """
from html import escape
from pathlib import Path
from .how_much import SCALE

LEARNING_RATE = 1e-3

def tune(model, *, layers: int = 1):
    model.requires_grad_(False)
    for layer in model.model.layers[:layers]:
        layer.mlp.requires_grad_(True)
        layer.mlp.down_proj.weight.data.mul_(SCALE)
    return model
"""
OBJECTIVE = """
import numpy as np

def weights(role, turn, *, prompt: float = 0.5):
    return np.where(role >= 3, 1.0, prompt).astype(np.float32)
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """A recipe's folder with a tuning method, its helper, and an objective of its own."""
    for kind, name, text in (
        ("tuning", "middle", TUNING),
        ("tuning", "how_much", "SCALE = 1.0\n"),
        ("objectives", "half", OBJECTIVE),
    ):
        path = tmp_path / "recipe" / "methods" / kind / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "recipe"


@pytest.mark.parametrize("workers", [1, 2])
def test_methods_beside_the_recipe_train_and_a_changed_helper_trains_anew(base, tmp_path, recipe, monkeypatch, workers):
    options = {"tuning": {"middle": {"layers": 1}}, "objective": {"half": {"prompt": 0.25}}, "learning_rate": None}
    inputs = {**prepare_folder(tmp_path, draws=1, budgets=(4,)), "draws": 1, "train": options, "folder": recipe}
    facts = measure(tmp_path, base, **inputs, workers=workers)
    assert facts["design"]["train"]["learning_rate"] == 1e-3
    assert facts["design"]["train"]["tuning"] == {"middle": {"layers": 1}}
    before, trained = outputs(tmp_path), watch(monkeypatch)
    measure(tmp_path, base, **inputs)
    assert trained == [] and outputs(tmp_path) == before
    (recipe / "methods" / "tuning" / "how_much.py").write_text("SCALE = 1.5\n")
    measure(tmp_path, base, **inputs)
    assert [run.arm for run in trained] == ["random", "longest"]
    assert outputs(tmp_path)["results.parquet"] != before["results.parquet"]


def test_the_key_of_a_run_does_not_hang_on_the_analysis_or_the_report(base):
    from curate.contract.code import source_and_versions
    from train.study import analysis, report

    before = source_and_versions([Path(bench.__file__)])[0]
    for module in (analysis, report):
        assert source_and_versions([Path(bench.__file__), Path(module.__file__)])[0] != before


def test_an_arm_may_have_budgets_of_its_own(copied, base):
    folder, _ = copied
    facts = measure(folder, base, **prepare_folder(folder, random={"budgets": [2, 4, 6, 8]}))
    assert [(row["arm"], row["budget"]) for row in facts["table"]] == [
        *(("random", n) for n in (2, 4, 6, 8)),
        *(("longest", n) for n in (4, 8)),
        ("untuned", 0),
    ]


def test_seeds_are_runs_of_their_own(base, tmp_path):
    measure(tmp_path, base, **prepare_folder(tmp_path, draws=1, budgets=(4,)), draws=1, seeds=2)
    runs = pq.read_table(tmp_path / "runs.parquet").to_pylist()
    assert [(r["arm"], r["seed"]) for r in runs] == [("random", 0), ("random", 1), ("longest", 0), ("longest", 1)]
    assert len({r["run_seed"] for r in runs}) == 2


def test_a_lora_study_leaves_the_base_as_it_is(base, tmp_path):
    before = hashlib.sha256((Path(base) / "model.safetensors").read_bytes()).hexdigest()
    options = {"tuning": {"lora": {"rank": 2}}, "learning_rate": 1e-2}
    facts = measure(tmp_path, base, **prepare_folder(tmp_path, draws=1, budgets=(4,)), draws=1, train=options)
    scores = {row["arm"]: row["score"] for row in facts["table"]}
    assert scores["untuned"] == round(facts["design"]["base"]["bits_per_byte"], 4)
    assert len(set(scores.values())) == 3
    assert hashlib.sha256((Path(base) / "model.safetensors").read_bytes()).hexdigest() == before


@pytest.mark.parametrize("workers", [1, 2])
def test_where_every_run_diverges_the_study_stops_and_names_arm_step_and_rows(base, tmp_path, workers):
    said = r"study: every run diverged; arm \w+, budget \d, draw \d, seed 0: .*step 2 of \d+.*row-\d{3}"
    with pytest.raises(TrainingError, match=said):
        measure(tmp_path, base, **prepare_folder(tmp_path), train={"learning_rate": float("inf")}, workers=workers)


def test_a_run_that_diverges_is_kept_and_marked_and_counts_as_a_guess(base, tmp_path):
    inputs = prepare_folder(tmp_path, longest={"train": {"learning_rate": float("inf")}})
    facts = measure(tmp_path, base, **inputs)
    table = pq.read_table(tmp_path / "results.parquet").to_pylist()
    assert {row["arm"] for row in table if row["diverged"]} == {"longest"}
    row = next(row for row in table if row["diverged"])
    tokens = next(row["tokens"] for row in items_of_the_store(tmp_path) if row["item"] == table[0]["item"])
    assert row["bits"] == pytest.approx(tokens * np.log2(400))
    assert any("4 runs diverged (longest at 4, draw 0; longest at 4, draw 1" in said for said in facts["caveats"])
    why = {r["why"] for r in pq.read_table(tmp_path / "runs.parquet").to_pylist() if r["arm"] == "longest"}
    assert len(why) == 4 and all("the loss is" in one for one in why)


def items_of_the_store(folder: Path) -> list[dict[str, Any]]:
    return pq.read_table(next((folder / "cache" / "runs").glob("untuned-*/items.parquet"))).to_pylist()


def test_a_study_without_its_reference_arm_is_refused(base, tmp_path):
    with pytest.raises(RequestError, match="the reference arm `random` is not among the arms longest"):
        measure(tmp_path, base, **prepare_folder(tmp_path, ("longest",)))


def test_a_subset_shorter_than_the_budget_is_named(base, tmp_path):
    with pytest.raises(DataError, match=r"subsets/random/0.parquet: holds 8 rows, fewer than the largest budget of 16"):
        measure(tmp_path, base, **prepare_folder(tmp_path, budgets=(4, 16)))


def test_a_missing_subset_is_named(base, tmp_path):
    with pytest.raises(ContractError, match=r"subsets/random/2.parquet is missing"):
        measure(tmp_path, base, **prepare_folder(tmp_path), draws=3)


def test_a_picked_row_that_was_not_rendered_is_named(base, tmp_path):
    inputs = prepare_folder(tmp_path)
    pq.write_table(rows(8, 22), tmp_path / "arms" / "rows.parquet")
    with pytest.raises(ContractError, match=r"of its rows are not among the rendered rows, first row-0"):
        measure(tmp_path, base, **inputs)


def test_rows_without_messages_are_refused(base, tmp_path):
    inputs = prepare_folder(tmp_path)
    pq.write_table(rows(4, 0).drop_columns("messages"), tmp_path / "arms" / "holdout.parquet")
    with pytest.raises(ContractError, match=r"holdout.parquet: the column\(s\) messages are missing"):
        measure(tmp_path, base, **inputs)


def test_a_holdout_without_a_response_is_refused(base, tmp_path):
    inputs = prepare_folder(tmp_path)
    silent = copy.deepcopy(rows(3, 0).to_pylist())
    for row in silent:
        row["messages"][1]["content"] = ""
    pq.write_table(pa.Table.from_pylist(silent), tmp_path / "arms" / "holdout.parquet")
    with pytest.raises(DataError, match=r"holdout.parquet: none of its 3 rows has a response"):
        measure(tmp_path, base, **inputs)


def test_an_unknown_option_of_the_trainer_is_named(base, tmp_path):
    with pytest.raises(RequestError, match="train does not take learning_rte; it takes batch, chat"):
        measure(tmp_path, base, **prepare_folder(tmp_path), train={"learning_rte": 1.0})


def test_scores_fall_where_the_model_learns(done):
    facts = done[1]
    scores = {(row["arm"], row["budget"]): row["score"] for row in facts["table"]}
    assert all(score < scores["untuned", 0] for (_, budget), score in scores.items() if budget)


# --- what is held equal -----------------------------------------------------------------------------------------------


def given(folder: Path) -> dict[tuple[str, int, int], dict[str, Any]]:
    return {(r["arm"], r["budget"], r["draw"]): r for r in pq.read_table(folder / "runs.parquet").to_pylist()}


@pytest.mark.parametrize(("equal", "column"), [("tokens", "tokens"), ("supervised_tokens", "targets")])
def test_arms_of_equal_tokens_take_as_many_picks_as_come_nearest_to_the_reference(base, tmp_path, equal, column):
    inputs = prepare_folder(tmp_path, budgets=(4,))
    measure(tmp_path, base, **inputs, equal=equal)
    lengths_of = lengths(tmp_path / "arms" / "rows.parquet", train={**TRAIN, "model": base})
    which = {"tokens": 0, "targets": 1}[column]
    for draw in range(2):
        picked = {
            arm: pq.read_table(tmp_path / "arms" / "subsets" / arm / f"{draw}.parquet")["id"].to_pylist()
            for arm in ARMS
        }
        target = sum(lengths_of[i][which] for i in picked["random"][:4])
        totals = np.cumsum([lengths_of[i][which] for i in picked["longest"]])
        expected = 1 + min(range(8), key=lambda k: abs(totals[k] - target))
        assert given(tmp_path)["longest", 4, draw]["examples"] == expected < 4
        assert given(tmp_path)["random", 4, draw]["examples"] == 4


def test_subsets_with_too_few_tokens_are_named(base, tmp_path):
    inputs = prepare_folder(tmp_path, ("longest", "random"))  # eight random rows hold less than eight long ones
    with pytest.raises(
        DataError, match=r"random/\d.parquet: its 8 rows hold \d+ tokens, fewer than the \d+ of 8 rows of longest"
    ):
        measure(tmp_path, base, **inputs, equal="tokens", reference="longest")


def test_with_equal_steps_every_budget_trains_as_long_as_the_largest(base, tmp_path):
    measure(tmp_path, base, **prepare_folder(tmp_path), equal="steps")
    assert {row["steps"] for row in given(tmp_path).values()} == {12}


def test_steps_follow_the_epochs_and_never_fall_below_min_steps(base, tmp_path):
    measure(tmp_path, base, **prepare_folder(tmp_path), train={"min_steps": 9})
    assert {key[1]: row["steps"] for key, row in given(tmp_path).items()} == {4: 9, 8: 12}
    with pytest.raises(RequestError, match="min_steps is 0; it is a whole number above 0"):
        measure(tmp_path, base, **prepare_folder(tmp_path), train={"min_steps": 0})


# --- conditions, evaluation sets, the plan ----------------------------------------------------------------------------


def test_a_condition_trains_with_options_of_its_own_and_is_compared_as_a_level(base, tmp_path):
    label, levels = "random/lora", {"tuning": "lora"}
    lora = {
        "label": label,
        "arm": "random",
        "levels": levels,
        "train": {"tuning": {"lora": {"rank": 2}}, "learning_rate": 1e-2},
    }
    inputs = prepare_folder(
        tmp_path, ("random", "again"), budgets=(4,), random={"levels": {"tuning": "full"}},
        again={**lora, "subsets": "subsets/random"},
    )  # fmt: skip
    facts = measure(tmp_path, base, **inputs)
    assert [row["arm"] for row in facts["table"]] == ["random", label, "untuned"]
    (effect,) = facts["effects"]
    assert (effect["factor"], effect["level"], effect["against"]) == ("tuning", "lora", "full")
    assert effect["difference"] == next(row["difference"] for row in facts["table"] if row["arm"] == label)
    assert {row["base"] for row in pq.read_table(tmp_path / "results.parquet").to_pylist() if row["budget"]} == {
        "untuned"
    }


def test_a_condition_with_another_model_has_an_untuned_model_of_its_own(base, tmp_path):
    model, tokenizer = load_model(base)
    model.model.layers[0].mlp.up_proj.weight.data.mul_(1.3)
    save_model(model, tokenizer, tmp_path / "other")
    levels = {"label": "random/other", "levels": {"model": "other"}, "train": {"model": str(tmp_path / "other")}}
    inputs = prepare_folder(
        tmp_path, ("random", "longest"), budgets=(4,), random={"levels": {"model": "base"}},
        longest={**levels, "arm": "random", "subsets": "subsets/random"},
    )  # fmt: skip
    facts = measure(tmp_path, base, **inputs, workers=2)
    table = pq.read_table(tmp_path / "results.parquet").to_pylist()
    bases = {row["arm"]: row["base"] for row in table}
    assert bases == {"random": "untuned", "random/other": "untuned/other", "untuned": None, "untuned/other": None}
    scores = {row["arm"]: row["score"] for row in facts["table"]}
    gap = {row["arm"]: row["against_untuned"] for row in facts["table"] if row["budget"]}
    assert gap["random/other"] == pytest.approx(scores["random/other"] - scores["untuned/other"], abs=2e-4)


def test_evaluation_sets_are_scored_at_once_and_each_is_cut_to_the_items_asked_for(base, tmp_path):
    inputs = prepare_folder(tmp_path, budgets=(4,))
    held_out = rows(12, 100)
    held_out = held_out.append_column("in.breadth", pa.array([("a", "b")[i % 2] for i in range(12)]))
    held_out = held_out.append_column("in.target", pa.array(["" if i < 4 else None for i in range(12)]))
    pq.write_table(held_out, tmp_path / "arms" / "holdout.parquet")
    facts = measure(tmp_path, base, **inputs, items=6)
    untuned = [row for row in pq.read_table(tmp_path / "results.parquet").to_pylist() if row["budget"] == 0]
    assert sum(row["in.breadth"] is not None for row in untuned) == 6
    assert sum(row["in.target"] is not None for row in untuned) == 4
    assert all(row["in.breadth"] is not None or row["in.target"] is not None for row in untuned)
    assert {row["view"] for row in facts["table"]} == {"breadth", "target"}


def test_an_item_that_says_what_a_row_of_a_subset_says_is_marked(base, tmp_path):
    inputs = prepare_folder(tmp_path, ("random",), budgets=(8,))
    picked = pq.read_table(tmp_path / "arms" / "subsets" / "random" / "0.parquet")["id"].to_pylist()
    said = {row["id"]: row["messages"] for row in rows(30, 0).to_pylist()}
    held_out = rows(12, 100).to_pylist()
    held_out[3]["messages"] = [{**m, "content": m["content"].upper() + "  "} for m in said[picked[0]]]
    pq.write_table(pa.Table.from_pylist(held_out), tmp_path / "arms" / "holdout.parquet")
    facts = measure(tmp_path, base, **inputs, items=12)
    table = pq.read_table(tmp_path / "results.parquet").to_pylist()
    assert {row["item"] for row in table if row["leaked"]} == {"row-103"}
    assert facts["caveats"][-1].startswith("1 of 12 evaluation items stands in a subset that was trained on (row-103)")


def test_the_plan_is_written_before_the_runs_and_a_changed_one_is_told(base, tmp_path, monkeypatch):
    monkeypatch.setattr(Worker, "train", lambda self, run: pytest.fail("planned first"))
    with pytest.raises(pytest.fail.Exception):
        measure(tmp_path, base, **prepare_folder(tmp_path))
    plan = read_json(tmp_path / "plan.json")
    assert len(plan["runs"]) == 9 and plan["delta"] == "10%" and plan["sets"] == {}
    monkeypatch.undo()
    monkeypatch.setenv("TAMIS_CACHE", str(tmp_path / "cache"))
    design = measure(tmp_path, base, **prepare_folder(tmp_path))["design"]
    assert design["plan"] == design["first_plan"] == plan["hash"]
    design = measure(tmp_path, base, **prepare_folder(tmp_path), delta=0.5)["design"]
    assert design["plan"] != design["first_plan"] == plan["hash"]
    assert "It was changed since the first" in (tmp_path / "report.md").read_text()


@pytest.mark.parametrize(
    ("worker", "gpus", "visible", "device"),
    [
        (0, 0, None, None),
        (0, 1, None, "0"),
        (3, 1, None, "0"),
        (3, 2, None, "1"),
        (1, 2, "5,7", "7"),
        (2, 2, "5,7", "5"),
    ],
)
def test_workers_are_spread_over_the_gpus_that_this_process_may_see(worker, gpus, visible, device):
    assert device_of(worker, gpus, visible) == device


# --- the report -------------------------------------------------------------------------------------------------------


def test_the_report_is_one_file_that_fetches_nothing_and_names_every_arm(done):
    folder, facts = done
    page = (folder / "report.html").read_text("utf-8")
    assert escape(facts["headline"]) in page
    assert "fewer than 5 draws nothing is claimed" in page
    for arm in ARMS:
        assert arm in page
    assert "src=" not in page.replace('src="data:', "")
    assert "<script" not in page
    assert page.count("<svg") == 4  # two pictures, each for wide and for narrow pages


def test_what_the_data_say_against_the_verdicts_stands_before_them(done):
    page = (done[0] / "report.html").read_text("utf-8")
    assert page.index("Arms did not learn from as much text") < page.index("<svg")


def test_the_markdown_says_what_the_page_says_with_pictures_beside_it(done):
    folder, facts = done
    text = (folder / "report.md").read_text("utf-8")
    assert facts["headline"] in text
    pictures = re.findall(r"\]\((figures/[^)]+\.png)\)", text)
    assert pictures == ["figures/curves.png", "figures/worth-0.png"]
    assert all((folder / picture).read_bytes().startswith(b"\x89PNG") for picture in pictures)
    page = (folder / "report.html").read_text("utf-8")
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == re.findall(r'<h2><a href="#[^"]*">([^<]*)</a></h2>', page)


def test_the_pictures_take_their_colours_from_the_page(done):
    page = (done[0] / "report.html").read_text("utf-8")
    pictures = [part.split("</svg>")[0] for part in page.split("<svg")[1:]]
    assert all("#0072b2" not in picture and "var(--plot-" in picture for picture in pictures)
    assert "prefers-color-scheme:dark" in page


def test_no_two_pictures_of_a_page_share_a_name_inside(done):
    page = (done[0] / "report.html").read_text("utf-8")
    pictures = [set(re.findall(r'\bid="([^"]+)"', part.split("</svg>")[0])) for part in page.split("<svg")[1:]]
    assert sum(map(len, pictures)) == len(set().union(*pictures))


def test_a_study_of_the_reference_alone_has_a_report_without_comparisons(base, tmp_path):
    facts = measure(tmp_path, base, **prepare_folder(tmp_path, ("random",), draws=1, budgets=(4,)), draws=1)
    assert facts["headline"].startswith("Only random was measured: there is nothing to compare it with.")
    page = (tmp_path / "report.html").read_text("utf-8")
    assert "By task" not in page and "What one example is worth" not in page


def test_a_gpu_takes_as_many_processes_as_have_room_and_one_at_least():
    assert room(80 * 2**30, 4 * 2**20) == 76  # a tiny model: a gibibyte each for the process itself
    assert room(80 * 2**30, 2 * 2**30) == 3
    assert room(8 * 2**30, 2 * 2**30) == 1


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"population": "pools like it", "draws": 1}, "one draw says nothing of other pools"),
        ({"tasks": "new tasks"}, "all of one task"),
    ],
)
def test_what_results_could_not_answer_is_said_before_anything_is_trained(base, tmp_path, monkeypatch, asked, said):
    monkeypatch.setattr(Worker, "train", lambda self, run: pytest.fail("it trained"))
    inputs = prepare_folder(tmp_path)
    one = pq.read_table(tmp_path / "arms" / "holdout.parquet").drop_columns("task")
    pq.write_table(one.append_column("task", pa.array(["same"] * one.num_rows)), tmp_path / "arms" / "holdout.parquet")
    with pytest.raises(RequestError, match=said):
        measure(tmp_path, base, **inputs, **asked)


def test_draws_are_taken_until_intervals_are_narrow_and_then_one_more(base, tmp_path, monkeypatch):
    inputs = prepare_folder(tmp_path, draws=8, budgets=(4,))
    widths = {n: measure(tmp_path / str(n), base, **inputs, draws=n) for n in (5, 6, 7, 8)}
    half = {n: facts["table"][1]["difference_high"] - facts["table"][1]["difference"] for n, facts in widths.items()}
    first = next(n for n in (5, 6, 7, 8) if half[n] <= half[6] + 1e-9)
    trained = watch(monkeypatch)
    facts = measure(tmp_path / "stopped", base, **inputs, draws=8, stop_at=half[6] + 1e-4)
    assert trained == [] and facts["draws"] == min(first + 1, 8)
    assert "until half the width of every interval was at most" in (tmp_path / "stopped" / "report.md").read_text()
    assert measure(tmp_path / "all", base, **inputs, draws=8, stop_at=1e-9)["draws"] == 8
    with pytest.raises(RequestError, match="stop_at is 0; it is half the width of an interval"):
        measure(tmp_path / "none", base, **inputs, draws=8, stop_at=0)
