from __future__ import annotations

import pytest
import torch

from curate.contract.errors import TrainingError
from train import checkpoint
from train.fit import State, fit
from train.objectives import response_only
from train.tuning import lora

EXACT = {
    "weights": response_only.weights,
    "dtype": "float32",
    "examples": 7,
    "steps": 9,
    "learning_rate": 1e-3,
    "pack_tokens": 120,
}


@pytest.mark.parametrize("stop", [1, 5, 6, 9])
@pytest.mark.parametrize("tuning", ["full", "lora"])
def test_a_run_that_goes_on_ends_with_the_same_bits(llama, documents, tmp_path, stop, tuning):
    """Stopped in the middle of an epoch, at its edge (40 documents, 7 a step), at the first step and after the last."""

    def fresh():
        model = llama(attention_dropout=0.2)
        return lora.tune(model, seed=1, rank=4, dropout=0.2) if tuning == "lora" else model

    def keep(step, state):
        if step.step == stop:
            checkpoint.save(tmp_path / "c.safetensors", state(), "key")

    whole = fresh()
    losses = fit(whole, documents, on_step=keep, **EXACT).losses
    resumed = fresh()
    start = checkpoint.load(tmp_path / "c.safetensors", "key")
    states = []
    rest = fit(resumed, documents, start=start, on_step=lambda step, state: states.append(state()), **EXACT).losses
    assert rest == losses[stop:]
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name


def test_moments_are_the_same_after_going_on(llama, documents, tmp_path):
    kept: dict[str, State] = {}

    def keep(name):
        def on_step(step, state):
            if step.step == 4:
                checkpoint.save(tmp_path / "c.safetensors", state(), "key")
            if step.step == 9:
                kept[name] = state()

        return on_step

    fit(llama(), documents, on_step=keep("whole"), **EXACT)
    start = checkpoint.load(tmp_path / "c.safetensors", "key")
    fit(llama(), documents, start=start, on_step=keep("resumed"), **EXACT)
    assert kept["whole"].tensors.keys() == kept["resumed"].tensors.keys()
    for name, tensor in kept["whole"].tensors.items():
        assert torch.equal(tensor, kept["resumed"].tensors[name]), name
    assert any(name.startswith("exp_avg_sq.") for name in kept["whole"].tensors)


def test_the_checkpoint_of_another_run_is_not_taken(tmp_path):
    checkpoint.save(tmp_path / "c.safetensors", State(3, {"weight.w": torch.ones(2)}), "mine")
    assert checkpoint.load(tmp_path / "c.safetensors", "yours") is None
    assert checkpoint.load(tmp_path / "none.safetensors", "mine") is None
    found = checkpoint.load(tmp_path / "c.safetensors", "mine")
    assert found is not None
    assert found.step == 3
    assert found.tensors["weight.w"].tolist() == [1, 1]


def test_a_crash_while_saving_leaves_the_checkpoint_before(tmp_path, monkeypatch):
    path = tmp_path / "c.safetensors"
    checkpoint.save(path, State(3, {"weight.w": torch.ones(2)}), "k")

    def crash(tensors, target, metadata):
        target.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "save_file", crash)
    with pytest.raises(KeyboardInterrupt):
        checkpoint.save(path, State(4, {"weight.w": torch.zeros(2)}), "k")
    found = checkpoint.load(path, "k")
    assert found is not None
    assert found.step == 3
    assert [p.name for p in tmp_path.iterdir()] == ["c.safetensors"]


def test_a_checkpoint_that_is_not_whole_is_named(tmp_path):
    path = tmp_path / "c.safetensors"
    checkpoint.save(path, State(3, {"weight.w": torch.ones(5)}), "k")
    whole = path.read_bytes()
    for damaged in (*(whole[:at] for at in range(len(whole))), whole + b"x", b"\x08\0\0\0\0\0\0\0{}"):
        path.write_bytes(damaged)
        with pytest.raises(TrainingError, match=r"c\.safetensors is not a whole checkpoint .*; delete it to start"):
            checkpoint.load(path, "k")
