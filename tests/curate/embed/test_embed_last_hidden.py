from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from byte_models import TEXTS, save
from safetensors.torch import load_file, save_file
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from curate.contract.errors import MethodError
from curate.embed import gradient, last_hidden

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Saves a random language model in a folder of its own."""
    return lambda kind="llama", **options: save(tmp_path_factory.mktemp(kind), kind, **options)


@pytest.fixture(scope="module")
def llama(build: Callable[..., Path]) -> Path:
    return build()


def by_hand(folder: Path, text: str, limit: int = 256) -> np.ndarray:
    """The formula, token by token, in float64, of a text that is alone."""
    model: Any = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float64)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    ids = tokenizer(text)["input_ids"][:limit] or [0]
    with torch.no_grad():
        states = model.model(input_ids=torch.tensor([ids])).last_hidden_state[0].numpy()
    total = np.zeros(states.shape[1])
    for i, state in enumerate(states, start=1):
        total += i / sum(range(1, len(ids) + 1)) * state
    return total / np.linalg.norm(total)


def test_a_vector_is_the_position_weighted_mean_of_the_last_hidden_states(llama: Path) -> None:
    found = last_hidden.embed(TEXTS, model=str(llama), dtype="float32")
    assert found.dtype == np.float32 and found.shape == (len(TEXTS), 32)
    np.testing.assert_allclose(found, [by_hand(llama, text) for text in TEXTS], atol=1e-5)
    plain = last_hidden.embed(["ab", "ba"], model=str(llama), dtype="float32")
    assert np.abs(plain[0] - plain[1]).max() > 0.01  # the mean is not of a bag of words


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_a_vector_is_bitwise_the_same_whatever_its_neighbours_and_its_place(build: Any, kind: str, dtype: Any) -> None:
    folder = str(build(kind))
    texts = [*TEXTS, *("z" * 16 for _ in range(3))]
    whole = last_hidden.embed(texts, model=folder, dtype=dtype)
    order = np.random.default_rng(1).permutation(len(texts))
    np.testing.assert_array_equal(last_hidden.embed([texts[i] for i in order], model=folder, dtype=dtype), whole[order])
    for number in (1, 4, 8):
        np.testing.assert_array_equal(last_hidden.embed([texts[number]], model=folder, dtype=dtype)[0], whole[number])
    many = last_hidden.embed(["y" * 16, *["z" * 16] * 80], model=folder, dtype=dtype)
    np.testing.assert_array_equal(many[1:], np.tile(whole[-1], (80, 1)))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_number_of_threads_does_not_show(llama: Path, dtype: Any) -> None:
    one = last_hidden.embed(TEXTS, model=str(llama), dtype=dtype)
    torch.set_num_threads(2)
    np.testing.assert_array_equal(last_hidden.embed(TEXTS[::-1], model=str(llama), dtype=dtype)[::-1], one)


def test_a_text_is_cut_at_max_length_and_at_what_the_model_can_read(llama: Path, build: Any) -> None:
    text = "rivers carry hills to the sea"
    cut = last_hidden.embed([text, text[:10]], model=str(llama), max_length=10, dtype="float32")
    np.testing.assert_array_equal(cut[0], cut[1])
    np.testing.assert_allclose(cut[0], by_hand(llama, text, 10), atol=1e-5)
    short = str(build(positions=16))
    cut = last_hidden.embed([text, text[:16]], model=short, dtype="float32")
    np.testing.assert_array_equal(cut[0], cut[1])


def test_bfloat16_is_near_to_float32_and_nothing_gives_no_rows(llama: Path) -> None:
    half, whole = (last_hidden.embed(TEXTS, model=str(llama), dtype=dtype) for dtype in ("bfloat16", "float32"))
    assert (half * whole).sum(axis=1).min() > 0.999
    assert last_hidden.embed([], model=str(llama)).shape == (0, 32)


def test_the_identity_follows_the_model_and_the_options(llama: Path, tmp_path: Path) -> None:
    facts = last_hidden.identity(model=str(llama))
    assert facts["dtype"] in ("float32", "bfloat16") and facts["normalized"] is True
    assert last_hidden.identity(model=str(llama), max_length=64) != facts
    for path in llama.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    copy = last_hidden.identity(model=tmp_path.name, data=tmp_path.parent)
    assert {**copy, "model": ""} == {**facts, "model": ""}
    weights = bytearray((tmp_path / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (tmp_path / "model.safetensors").write_bytes(weights)
    assert last_hidden.identity(model=str(tmp_path))["weights_sha256"] != facts["weights_sha256"]


def test_a_model_that_is_written_anew_is_loaded_anew(build: Any) -> None:
    folder = build()
    before = last_hidden.embed(["bees"], model=str(folder), dtype="float32")
    model: Any = LlamaForCausalLM.from_pretrained(folder)
    model.model.layers[0].self_attn.q_proj.weight.data.mul_(-3)
    model.save_pretrained(folder)
    after = last_hidden.embed(["bees"], model=str(folder), dtype="float32")
    np.testing.assert_allclose(after[0], by_hand(folder, "bees"), atol=1e-5)
    assert np.abs(after - before).max() > 1e-4


def test_a_model_that_is_nowhere_or_not_safe_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)

    def refused(match: str, **options: Any) -> None:
        for call in (lambda: last_hidden.identity(**options), lambda: last_hidden.embed(["a"], **options)):
            with pytest.raises(MethodError, match=match) as caught:
                call()
            assert "\n" not in str(caught.value)

    for name in ("nobody/no-such-model", "not a name"):
        refused(f"embed last_hidden: model '{name}' is no folder .* could not be downloaded", model=name)
    refused(r"has no config\.json", model=str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    refused("holds no weights", model=str(tmp_path))
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickle")
    refused(r"pickled weights .*pytorch_model\.bin.*Tamis loads safetensors alone", model=str(tmp_path))
    (tmp_path / "model.safetensors").write_bytes(b"")
    refused(r"model\.safetensors is cut short or no safetensors file", model=str(tmp_path))


def test_a_model_without_an_output_layer_has_states_and_no_gradients(llama: Path, tmp_path: Path) -> None:
    shutil.copytree(llama, tmp_path, dirs_exist_ok=True)
    weights = load_file(llama / "model.safetensors")
    del weights["lm_head.weight"]
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    found = last_hidden.embed(TEXTS, model=str(tmp_path), dtype="float32")
    np.testing.assert_allclose(found, last_hidden.embed(TEXTS, model=str(llama), dtype="float32"), atol=1e-5)
    with pytest.raises(MethodError, match=r"^embed gradient: .* lacks 1 of the 21 weights .*\(lm_head\.weight\)"):
        gradient.embed(["a"], model=str(tmp_path), dim=8)
    del weights["model.norm.weight"]
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(
        MethodError, match=r"^embed last_hidden: .* lacks 1 of the 21 weights .*\(model\.norm\.weight\)"
    ):
        last_hidden.embed(["a"], model=str(tmp_path))


def test_numbers_that_are_not_finite_are_named(llama: Path, tmp_path: Path) -> None:
    shutil.copytree(llama, tmp_path, dirs_exist_ok=True)
    weights = load_file(llama / "model.safetensors")
    weights["model.layers.1.mlp.up_proj.weight"][3, 4] = float("nan")
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(MethodError, match=r"model\.layers\.1\.mlp\.up_proj\.weight of .* is not finite"):
        gradient.embed(["a"], model=str(tmp_path), dim=8)


def test_a_length_of_next_to_nothing_is_one_sentence(llama: Path) -> None:
    for call in (last_hidden.identity, lambda **options: last_hidden.embed(["a"], **options)):
        with pytest.raises(MethodError, match="max_length 4 should be 8 tokens or more; 2048 is usual"):
            call(model=str(llama), max_length=4)
