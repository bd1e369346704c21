"""A whole study on a model of a few thousand parameters: what it writes, that it resumes, and that its runs are paired."""

from __future__ import annotations

import copy
import hashlib
import shutil
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
from train import tiny
from train.encode import Encoder
from train.fit import fit
from train.models import load_model, prepare, save_model
from train.objectives.response_only import weights
from train.scoring.perplexity import evaluate
from train.study import bench
from train.study.bench import Run, Worker
from train.study.run import study

WORDS = [a + b for a in ("ti", "ri", "bre", "clo") for b in ("me", "vers", "ad", "cks")]
ARMS = ("random", "longest")
TRAIN = {"learning_rate": 1e-3, "batch": {"examples": 2}, "epochs": 1.0, "max_length": 96, "dtype": "float32"}


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


def prepare_folder(folder: Path, arms: tuple[str, ...] = ARMS, draws: int = 2) -> dict[str, Any]:
    """What stands on disk before a study: rows, holdout, subsets."""
    folder.mkdir(parents=True, exist_ok=True)
    pool = rows(30, 0)
    pq.write_table(pool, folder / "rows.parquet")
    pq.write_table(rows(12, 100), folder / "holdout.parquet")
    ids = pool["id"].to_pylist()
    length = {i: len(m[1]["content"]) for i, m in zip(ids, pool["messages"].to_pylist(), strict=True)}
    for arm in arms:
        for draw in range(draws):
            order = [ids[i] for i in shuffled(draw, arm.removeprefix("copy of "), ids)]
            picked = sorted(order[:24], key=lambda i: -length[i])[:8] if arm == "longest" else order[:8]
            path = folder / "subsets" / arm / f"{draw}.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(pa.table({"id": picked, "rank": pa.array(range(8), pa.int32())}), path)
    paths = {"rows_path": folder / "rows.parquet", "holdout_path": folder / "holdout.parquet"}
    return {**paths, "subsets": folder / "subsets", "arms": list(arms)}


def measure(out: Path, base: str, **options: Any) -> dict[str, Any]:
    given = {"budgets": [4, 8], "draws": 2, "items": 10, **options}
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
    names = ("results.parquet", "runs.parquet", "analysis.json", "report.html", "plot.png")
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}


def test_it_leaves_a_tidy_table_of_every_arm_budget_draw_and_item(done):
    folder, _ = done
    table = pq.read_table(folder / "results.parquet")
    assert table.column_names == ["arm", "budget", "draw", "seed", "item", "task", "value", "bits", "bytes"]
    assert table.num_rows == 2 * 2 * 2 * 10
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
    assert {(row["arm"], row["budget"]) for row in facts["table"]} == {(arm, n) for arm in ARMS for n in (4, 8)}
    given = {(row["arm"], row["budget"]): row for row in facts["design"]["arms"]}
    assert given["random", 8]["steps"] == 24
    assert given["random", 8]["epochs"] == 6.0
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
    picked = pq.read_table(folder / "subsets/longest/1.parquet")["id"].to_pylist()
    documents, _ = encoder.encode_all([(i, pool[i]) for i in picked])
    fit(
        model,
        documents,
        weights=weights,
        steps=24,
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
    measure(folder, base, **inputs, delta=0.5, name="again")
    assert trained == []
    after = outputs(folder)
    assert after["results.parquet"] == before["results.parquet"] and after["report.html"] != before["report.html"]


def test_a_new_arm_budget_or_draw_trains_its_own_runs_only(copied, base, monkeypatch):
    folder, _ = copied
    trained = watch(monkeypatch)
    measure(folder, base, **prepare_folder(folder, (*ARMS, "third")))
    assert {run.arm for run in trained} == {"third"} and len(trained) == 4
    trained.clear()
    measure(folder, base, **prepare_folder(folder), budgets=[4, 6, 8])
    assert {run.budget for run in trained} == {6} and len(trained) == 4
    trained.clear()
    measure(folder, base, **prepare_folder(folder, draws=3), draws=3)
    assert {run.draw for run in trained} == {2} and len(trained) == 4


def test_another_folder_with_the_same_base_and_rows_trains_nothing(copied, base, tmp_path, monkeypatch):
    """Nor do an arm's name, the place of the base model, or epochs that come to the same number of steps."""
    shutil.copytree(base, tmp_path / "elsewhere" / "model")
    trained = watch(monkeypatch)
    inputs = prepare_folder(tmp_path / "other", ("random", "longest"))
    for arm, name in (("random", "chance"), ("longest", "wordy")):
        (tmp_path / "other" / "subsets" / arm).rename(tmp_path / "other" / "subsets" / name)
    inputs["arms"] = ["chance", "wordy"]
    model = str(tmp_path / "elsewhere" / "model")
    measure(tmp_path / "other", model, **inputs, reference="chance", train={"epochs": 1.5})
    assert trained == []


def test_rows_that_say_something_else_are_trained_anew(copied, base, monkeypatch):
    folder, inputs = copied
    changed = rows(30, 0).to_pylist()
    run = next(r for r in pq.read_table(folder / "runs.parquet").to_pylist() if r["arm"] == "longest")
    picked = pq.read_table(folder / "subsets" / "longest" / f"{run['draw']}.parquet")["id"].to_pylist()
    for row in changed:
        if row["id"] == picked[-1]:
            row["messages"][1]["content"] += " ti"
    pq.write_table(pa.Table.from_pylist(changed), folder / "rows.parquet")
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
        tmp_path, base, **prepare_folder(tmp_path, ("random", "copy of random"), draws=1), draws=1, budgets=[4]
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
        measure(tmp_path, base, **prepare_folder(tmp_path), draws=1, budgets=[4])
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


TUNING = """
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
    inputs = {**prepare_folder(tmp_path, draws=1), "draws": 1, "budgets": [4], "train": options, "folder": recipe}
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


def test_reference_budgets_are_trained_for_the_reference_alone(copied, base):
    folder, inputs = copied
    facts = measure(folder, base, **inputs, reference_budgets=[2, 6])
    assert [(row["arm"], row["budget"]) for row in facts["table"]] == [
        *(("random", n) for n in (2, 4, 6, 8)),
        *(("longest", n) for n in (4, 8)),
    ]


def test_seeds_are_runs_of_their_own(base, tmp_path):
    measure(tmp_path, base, **prepare_folder(tmp_path, draws=1), draws=1, budgets=[4], seeds=2)
    runs = pq.read_table(tmp_path / "runs.parquet").to_pylist()
    assert [(r["arm"], r["seed"]) for r in runs] == [("random", 0), ("random", 1), ("longest", 0), ("longest", 1)]
    assert len({r["run_seed"] for r in runs}) == 2


def test_a_lora_study_leaves_the_base_as_it_is(base, tmp_path):
    before = hashlib.sha256((Path(base) / "model.safetensors").read_bytes()).hexdigest()
    options = {"tuning": {"lora": {"rank": 2}}, "learning_rate": 1e-2}
    facts = measure(tmp_path, base, **prepare_folder(tmp_path, draws=1), draws=1, budgets=[4], train=options)
    scores = {row["bits_per_byte"] for row in facts["table"]}
    assert len(scores) == 2
    assert round(facts["design"]["base"]["bits_per_byte"], 4) not in scores
    assert hashlib.sha256((Path(base) / "model.safetensors").read_bytes()).hexdigest() == before


def test_a_loss_that_is_not_finite_names_arm_step_and_rows(base, tmp_path):
    with pytest.raises(TrainingError, match=r"study, arm \w+, budget \d, draw \d, seed 0: .*step 2 of 24.*row-\d{3}"):
        measure(tmp_path, base, **prepare_folder(tmp_path), train={"learning_rate": float("inf")})


def test_a_failed_run_in_a_worker_stops_the_study_with_the_same_sentence(base, tmp_path):
    with pytest.raises(TrainingError, match=r"study, arm \w+, budget \d, draw \d, seed 0: .*row-\d{3}"):
        measure(tmp_path, base, **prepare_folder(tmp_path), train={"learning_rate": float("inf")}, workers=2)


def test_a_study_without_its_reference_arm_is_refused(base, tmp_path):
    with pytest.raises(RequestError, match="the reference arm `random` is not among the arms longest"):
        measure(tmp_path, base, **prepare_folder(tmp_path, ("longest",)))


def test_a_subset_shorter_than_the_budget_is_named(base, tmp_path):
    with pytest.raises(DataError, match=r"subsets/random/0.parquet: holds 8 rows, fewer than the largest budget of 16"):
        measure(tmp_path, base, **prepare_folder(tmp_path), budgets=[16])


def test_a_missing_subset_is_named(base, tmp_path):
    with pytest.raises(ContractError, match=r"subsets/random/2.parquet is missing"):
        measure(tmp_path, base, **prepare_folder(tmp_path), draws=3)


def test_a_picked_row_that_was_not_rendered_is_named(base, tmp_path):
    inputs = prepare_folder(tmp_path)
    pq.write_table(rows(8, 22), tmp_path / "rows.parquet")
    with pytest.raises(ContractError, match=r"of its rows are not among the rendered rows, first row-0"):
        measure(tmp_path, base, **inputs)


def test_rows_without_messages_are_refused(base, tmp_path):
    inputs = prepare_folder(tmp_path)
    pq.write_table(rows(4, 0).drop_columns("messages"), tmp_path / "holdout.parquet")
    with pytest.raises(ContractError, match=r"holdout.parquet: the column\(s\) messages are missing"):
        measure(tmp_path, base, **inputs)


def test_a_holdout_without_a_response_is_refused(base, tmp_path):
    inputs = prepare_folder(tmp_path)
    silent = copy.deepcopy(rows(3, 0).to_pylist())
    for row in silent:
        row["messages"][1]["content"] = ""
    pq.write_table(pa.Table.from_pylist(silent), tmp_path / "holdout.parquet")
    with pytest.raises(DataError, match=r"holdout.parquet: none of its 3 rows has a response"):
        measure(tmp_path, base, **inputs)


def test_an_unknown_option_of_the_trainer_is_named(base, tmp_path):
    with pytest.raises(RequestError, match="train does not take learning_rte; it takes batch, chat"):
        measure(tmp_path, base, **prepare_folder(tmp_path), train={"learning_rte": 1.0})


def test_the_report_is_one_file_that_fetches_nothing_and_names_every_arm(done):
    folder, facts = done
    page = (folder / "report.html").read_text("utf-8")
    assert facts["headline"] in page
    assert "fewer than 5 draws nothing is claimed" in page
    for arm in ARMS:
        assert arm in page
    assert "src=" not in page.replace('src="data:', "")
    assert "<script" not in page
    assert page.count("<svg") == 2


def test_the_pictures_take_their_colours_from_the_page(done):
    page = (done[0] / "report.html").read_text("utf-8")
    pictures = [part.split("</svg>")[0] for part in page.split("<svg")[1:]]
    assert all("#0072b2" not in picture and "var(--plot-" in picture for picture in pictures)
    assert "prefers-color-scheme:dark" in page


def test_a_study_of_the_reference_alone_has_a_report_without_comparisons(base, tmp_path):
    facts = measure(tmp_path, base, **prepare_folder(tmp_path, ("random",), draws=1), draws=1, budgets=[4])
    assert facts["headline"] == "Only random was measured: there is nothing to compare it with."
    assert "By task" not in (tmp_path / "report.html").read_text("utf-8")


def test_scores_fall_where_the_model_learns(done):
    facts = done[1]
    assert all(row["bits_per_byte"] < facts["design"]["base"]["bits_per_byte"] for row in facts["table"])
    assert np.isfinite([row["bits_per_byte"] for row in facts["table"]]).all()
