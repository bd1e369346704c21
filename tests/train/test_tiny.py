"""The tiny base model, made from the source of Python's own library."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import LlamaForCausalLM

from curate.contract.errors import TrainingError
from train import tiny
from train.encode import END_OF_TURN, RESPONSE, TEMPLATE, Encoder
from train.models import load_model
from train.settings import TINY
from train.tiny import tiny_model

STEPS = 16


def texts() -> list[str]:
    paths = sorted(Path(os.__file__).parent.glob("*.py"))[:40]
    return [part for path in paths for part in path.read_text("utf-8").split("\n\n") if len(part) > 80]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def folder(cache: Path) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TAMIS_CACHE", str(cache))
        return tiny_model(texts(), seed=0, steps=STEPS)


def hashes(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def test_it_has_about_nine_hundred_thousand_parameters_and_2048_tokens(folder):
    model, tokenizer = load_model(str(folder))
    assert 850_000 < sum(p.numel() for p in model.parameters()) < 950_000
    assert len(tokenizer) == 2048 == model.config.vocab_size


@pytest.mark.parametrize(("size", "millions"), [("tiny-3m", 2.8), ("tiny-10m", 10.5)])
def test_the_larger_sizes_have_about_as_many_parameters_as_their_names_say(folder, size, millions):
    _, tokenizer = load_model(str(folder))
    with torch.device("meta"):
        model = LlamaForCausalLM(tiny._config(tokenizer, size))
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(millions * 1e6, rel=0.05)
    assert set(tiny.SHAPES) == set(TINY)


def test_it_learns_something_in_a_few_steps(folder):
    assert json.loads((folder / "tiny.json").read_text())["last_loss"] < np.log(2048) - 0.5


def test_the_same_texts_in_another_order_are_found_in_the_cache(folder, cache, monkeypatch):
    monkeypatch.setenv("TAMIS_CACHE", str(cache))
    monkeypatch.setattr(tiny, "fit", lambda *args, **options: pytest.fail("it was trained again"))
    assert tiny_model(reversed(texts()), seed=0, steps=STEPS) == folder


def test_made_again_elsewhere_with_other_threads_it_has_the_same_bytes(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("TAMIS_CACHE", str(tmp_path))
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        again = tiny_model(texts(), seed=0, steps=STEPS)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    assert again != folder
    assert hashes(again) == hashes(folder)


def test_another_seed_text_size_or_length_is_another_model(folder):
    some = sorted(texts())
    recipe = tiny._recipe(some, "tiny", 0, STEPS)
    assert recipe == tiny._recipe(list(some), "tiny", 0, STEPS)
    assert recipe not in (
        tiny._recipe(some, "tiny", 1, STEPS),
        tiny._recipe(some, "tiny", 0, STEPS + 1),
        tiny._recipe(some, "tiny-3m", 0, STEPS),
        tiny._recipe(some[1:], "tiny", 0, STEPS),
    )


def test_a_run_that_is_stopped_leaves_no_model_behind(tmp_path, monkeypatch):
    monkeypatch.setenv("TAMIS_CACHE", str(tmp_path))

    def stopped(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(tiny, "fit", stopped)
    with pytest.raises(KeyboardInterrupt):
        tiny_model(texts(), seed=0, steps=STEPS)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_too_little_text_is_refused_with_what_it_needs(tmp_path, monkeypatch):
    monkeypatch.setenv("TAMIS_CACHE", str(tmp_path))
    with pytest.raises(TrainingError, match=r"2 texts of 21 characters.*needs 2,048: give it 100,000 characters"):
        tiny_model(["a few words", "and a few "], seed=0, steps=STEPS)


@pytest.mark.parametrize(
    "text", ["plain words", "  leading, and\n\n    four spaces", "naïve — 日本語 🙂", "a\tb\r\nc", "1e-4"]
)
def test_every_text_comes_back_from_its_tokens(folder, text):
    _, tokenizer = load_model(str(folder))
    assert tokenizer.decode(tokenizer(text, add_special_tokens=False).input_ids) == text


def test_its_chat_format_costs_a_token_a_turn_and_one_at_each_end(folder):
    _, tokenizer = load_model(str(folder))
    messages = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "Because."}]
    document = Encoder(tokenizer).encode(messages)
    template = [tokenizer.convert_ids_to_tokens(int(i)) for i in document.input_ids[document.role == TEMPLATE]]
    assert template == ["<|bos|>", "<|user|>", "<|assistant|>"]
    assert tokenizer.decode(document.input_ids[document.role == RESPONSE]) == "Because."
    assert document.input_ids[document.role == END_OF_TURN].tolist() == [tokenizer.eos_token_id]


def test_windows_hold_the_texts_one_behind_another(folder):
    _, tokenizer = load_model(str(folder))
    windows = tiny._windows(tokenizer, ["one text", "another", "x " * 600], wanted=2)
    assert [len(window.input_ids) for window in windows] == [256, 256]
    assert tokenizer.decode(windows[0].input_ids).startswith("<|bos|>one text<|end|><|bos|>another<|end|><|bos|>x x x")
