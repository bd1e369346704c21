from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import huggingface_hub
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from curate.contract.errors import ContractError, MethodError, RequestError, TrainingError
from train import run
from train.models import load_model, save_model
from train.run import train

QUICK = {"epochs": 1, "learning_rate": 1e-3, "batch": {"examples": 4}, "min_steps": 24, "dtype": "float32"}


@pytest.fixture
def world(tmp_path, llama, tokenizer, conversation) -> tuple[Path, Path]:
    """(rows, model): twelve conversations, one of them twice and one not at all, and a small model on disk."""
    rows = [
        {
            "id": f"r{i}",
            "messages": conversation(f"How do bees {i}", "They hum. " * (1 + i % 3)),
            "repeat": {3: 2, 4: 0}.get(i, 1),
        }
        for i in range(12)
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    save_model(llama(), tokenizer, tmp_path / "base")
    return tmp_path / "rows.parquet", tmp_path / "base"


def content(folder: Path) -> dict[str, str]:
    """Hashes of what a run leaves; training.json without the seconds of this call."""
    out = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        data = path.read_bytes()
        if path.name == "training.json":
            data = json.dumps(json.loads(data)["facts"]).encode()
        out[str(path.relative_to(folder))] = hashlib.sha256(data).hexdigest()
    return out


def test_a_run_leaves_a_model_that_anyone_can_load_and_talk_to(world, tmp_path):
    rows, base = world
    facts = train(rows, tmp_path / "out", model=str(base), **QUICK)
    assert facts["steps"] == 24
    assert facts["rows"] == {
        "documents": 12,
        "tokens": facts["rows"]["tokens"],
        "truncated": 0,
        "dropped": 0,
        "without_response": 0,
    }
    assert facts["compute_dtype"] == "float32"
    assert facts["last_loss"] < facts["first_loss"]
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out/model")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out/model")
    ids = tokenizer.apply_chat_template(
        [{"role": "user", "content": "How do bees 5"}], add_generation_prompt=True, return_dict=False
    )
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id
    assert model.generate(torch.tensor([list(ids)]), max_new_tokens=3, do_sample=False).shape[1] > len(ids)
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"model", "metrics.jsonl", "training.json"}
    lines = [json.loads(line) for line in (tmp_path / "out/metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, 25))
    assert facts["tokens"] == sum(line["tokens"] for line in lines)


def test_a_finished_run_returns_at_once_and_another_option_runs_anew(world, tmp_path, monkeypatch):
    rows, base = world
    facts = train(rows, tmp_path / "out", model=str(base), **QUICK)
    before = content(tmp_path / "out")
    monkeypatch.setattr("train.tuned.fit", lambda *a, **k: pytest.fail("it trained again"))
    assert train(rows, tmp_path / "out", model=str(base), **QUICK) == facts
    assert content(tmp_path / "out") == before
    monkeypatch.undo()
    assert train(rows, tmp_path / "out", model=str(base), **{**QUICK, "seed": 1})["last_loss"] != facts["last_loss"]


def test_a_run_cut_short_goes_on_to_the_same_bytes(world, tmp_path, monkeypatch):
    rows, base = world
    lora = {**QUICK, "tuning": {"lora": {"rank": 2, "dropout": 0.1}}}
    train(rows, tmp_path / "whole", model=str(base), **lora)
    monkeypatch.setattr(run, "CHECKPOINT_SECONDS", 0.0)
    save = run.checkpoint.save

    def stop_at_nine(path, state, key):
        save(path, state, key)
        if state.step == 9:
            raise KeyboardInterrupt

    monkeypatch.setattr(run.checkpoint, "save", stop_at_nine)
    with pytest.raises(KeyboardInterrupt):
        train(rows, tmp_path / "cut", model=str(base), **lora)
    assert (tmp_path / "cut/checkpoint.safetensors").is_file()
    assert not (tmp_path / "cut/model").exists()
    monkeypatch.setattr(run.checkpoint, "save", save)
    train(rows, tmp_path / "cut", model=str(base), **lora)
    assert content(tmp_path / "cut") == content(tmp_path / "whole")
    assert "adapter/adapter_model.safetensors" in content(tmp_path / "cut")


@pytest.mark.slow
def test_killed_at_any_moment_it_ends_with_the_same_bytes(world, tmp_path):
    rows, base = world
    script = (
        "import sys, torch; from pathlib import Path; from train import run; torch.set_num_threads(1); run.CHECKPOINT_SECONDS = 0.0;"
        f"run.train(Path({str(rows)!r}), Path(sys.argv[1]), model={str(base)!r}, epochs=1, learning_rate=1e-3,"
        " batch={'examples': 4}, dtype='float32')"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(run.__file__).parent.parent), "OMP_NUM_THREADS": "1"}

    def start(out: str) -> subprocess.Popen:
        return subprocess.Popen([sys.executable, "-c", script, str(tmp_path / out)], env=environment)

    assert start("whole").wait() == 0
    for lines in (3, 15):
        process = start("killed")
        metrics = tmp_path / "killed/metrics.jsonl"
        while process.poll() is None and not (metrics.is_file() and metrics.read_text().count("\n") >= lines):
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert start("killed").wait() == 0
    assert content(tmp_path / "killed") == content(tmp_path / "whole")


def test_repeat_says_how_often_a_row_counts(world):
    ids = [id for id, _ in run._rows(world[0])]
    assert (ids.count("r3"), ids.count("r4"), ids.count("r5")) == (2, 0, 1)


def test_the_size_of_a_pack_is_no_matter_of_the_result(world, tmp_path):
    rows, base = world
    one = train(rows, tmp_path / "a", model=str(base), **QUICK)
    other = train(rows, tmp_path / "b", model=str(base), **{**QUICK, "batch": {"examples": 4, "tokens": 40}})
    assert one["last_loss"] == pytest.approx(other["last_loss"], rel=1e-4)
    assert one["tokens"] == other["tokens"]


def test_the_tuning_brings_its_own_learning_rate(world, tmp_path):
    rows, base = world
    options = {**QUICK, "learning_rate": None}
    assert train(rows, tmp_path / "full", model=str(base), **options)["learning_rate"] == 2e-5
    assert train(rows, tmp_path / "lora", model=str(base), tuning="lora", **options)["learning_rate"] == 2e-4


def test_pickled_weights_are_refused_in_one_sentence(world, tmp_path):
    rows, base = world
    (base / "model.safetensors").unlink()
    torch.save({}, base / "pytorch_model.bin")
    with pytest.raises(
        TrainingError, match=r"base holds pickled weights \(.*pytorch_model\.bin\), which can run code"
    ) as caught:
        train(rows, tmp_path / "out", model=str(base), **QUICK)
    assert "\n" not in str(caught.value)


def test_a_model_that_brings_code_is_refused(world, tmp_path):
    rows, base = world
    (base / "mine.py").write_text("raise SystemExit('ran')")
    config = json.loads((base / "config.json").read_text())
    config |= {"model_type": "mine", "auto_map": {"AutoConfig": "mine.C", "AutoModelForCausalLM": "mine.M"}}
    (base / "config.json").write_text(json.dumps(config))
    with pytest.raises(TrainingError, match="without its own code"):
        train(rows, tmp_path / "out", model=str(base), **QUICK)


def test_a_model_that_is_not_there_is_one_sentence(world, tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(
        TrainingError, match=r"train: model 'nowhere/model' is no folder in .*, and could not be downloaded"
    ) as caught:
        load_model("nowhere/model")
    assert "\n" not in str(caught.value)


def test_wrong_requests_say_what_is_allowed(world, tmp_path):
    rows, base = world
    for options, error, complaint in [
        (
            {"tuning": "lore"},
            MethodError,
            r"unknown tuning method 'lore'\. Did you mean 'lora'\?; there are: full, lora",
        ),
        (
            {"tuning": {"lora": {"rnak": 4}}},
            MethodError,
            r"tuning lora does not take 'rnak'\. Did you mean 'rank'\?; it takes rank",
        ),
        ({"tuning": {"lora": {"rank": "many"}}}, MethodError, "tuning lora: `rank` is 'many'; it should be int"),
        ({"tuning": {"full": {"rank": 4}}}, MethodError, "tuning full does not take 'rank'; it takes no options"),
        ({"objective": "everything"}, MethodError, "there are: instruction_modelling, response_only"),
        ({"batch": {"size": 4}}, RequestError, "batch takes examples and tokens, not size"),
        ({"batch": {"examples": 0}}, RequestError, "whole numbers above 0"),
    ]:
        with pytest.raises(error, match=complaint):
            train(rows, tmp_path / "out", model=str(base), **{**QUICK, **options})
    with pytest.raises(RequestError, match="tiny is pretrained on text of its own and was given none"):
        train(rows, tmp_path / "out", model="tiny", **QUICK)


def test_rows_that_cannot_be_trained_on_are_refused(world, tmp_path, conversation):
    rows, base = world
    pq.write_table(pa.table({"id": ["a"]}), tmp_path / "bare.parquet")
    with pytest.raises(ContractError, match="the column messages is missing"):
        train(tmp_path / "bare.parquet", tmp_path / "out", model=str(base), **QUICK)
    with pytest.raises(TrainingError, match=r"no row has a response within 6 tokens.*without response: 12"):
        train(rows, tmp_path / "out", model=str(base), max_length=6, **QUICK)


def test_transformers_says_nothing_meanwhile(world, tmp_path, capfd):
    rows, base = world
    train(rows, tmp_path / "out", model=str(base), tuning="lora", **QUICK)
    assert capfd.readouterr().err == ""


TUNING = """
from .which import NAMES

def tune(model):
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(any(part in name for part in NAMES))
    return model
"""


def test_methods_beside_the_recipe_are_found_and_a_changed_one_runs_anew(world, tmp_path):
    rows, base = world
    methods = tmp_path / "recipe" / "methods"
    for path, text in (
        ("tuning/some.py", TUNING),
        ("tuning/which.py", 'NAMES = ["mlp"]\n'),
        ("objectives/all.py", "import numpy as np\n\ndef weights(role, turn):\n    return np.ones(len(role), 'f4')\n"),
    ):
        (methods / path).parent.mkdir(parents=True, exist_ok=True)
        (methods / path).write_text(text)

    def go(**options) -> dict:
        given = {**QUICK, "tuning": "some", "objective": "all", **options}
        return train(rows, tmp_path / "out", model=str(base), folder=tmp_path / "recipe", **given)

    first = go()
    assert first["tuning"] == {"some": {}} and first["objective"] == {"all": {}}
    assert 0 < first["trained_parameters"] < first["parameters"]
    assert go() == first
    (methods / "tuning/which.py").write_text('NAMES = ["mlp", "norm"]\n')
    assert go()["trained_parameters"] > first["trained_parameters"]
    with pytest.raises(MethodError, match="'some' brings no learning rate; give one with `learning_rate:`, or write"):
        go(learning_rate=None)
    with pytest.raises(MethodError, match="unknown tuning method 'some'"):
        train(rows, tmp_path / "out", model=str(base), tuning="some", **QUICK)


def test_every_option_says_what_it_means():
    from curate.contract.methods import all_of, signature

    own = (*signature("train/run.py", "train", 2), *signature("train/study/run.py", "study", 1))
    theirs = [p for kind in ("tuning", "objectives") for m in all_of(kind).values() for p in m.parameters]
    assert [parameter.name for parameter in (*own, *theirs) if not parameter.about] == []
