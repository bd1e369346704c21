from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from byte_models import TEXTS, save
from transformers import (
    AutoModelForCausalLM,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from curate.contract.errors import MethodError
from curate.embed import gradient

QUICK: dict[str, Any] = {"dim": 256, "rank": 2, "dtype": "float32"}


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Saves a random language model in a folder of its own."""
    return lambda kind="llama", **options: save(tmp_path_factory.mktemp(kind), kind, **options)


@pytest.fixture(scope="module")
def llama(build: Callable[..., str]) -> str:
    return str(build())


def weight_gradients(folder: str, text: str) -> dict[str, torch.Tensor]:
    """The whole gradient of each attention weight, (out, in), by one backward pass of transformers' own loss."""
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64).eval()
    ids = torch.tensor([PreTrainedTokenizerFast.from_pretrained(folder)(text)["input_ids"]])
    model(input_ids=ids, labels=ids).loss.backward()
    kept = {
        name: weight.grad for name, weight in model.named_parameters() if "attn" in name and name.endswith("weight")
    }
    return {name.removesuffix(".weight"): grad.T if "gpt2" in folder else grad for name, grad in kept.items()}


def by_hand(folder: str, text: str, seed: int, rank: int, dim: int) -> np.ndarray:
    """Every gradient x its columns of signs, all of them x one matrix of signs, scaled."""
    cpu = torch.device("cpu")
    parts = [
        (grad @ gradient._signs(seed, name, grad.shape[1], rank, cpu).double()).flatten()
        for name, grad in weight_gradients(folder, text).items()
    ]
    whole = torch.cat(parts)
    starts = range(0, len(whole), gradient._BLOCK)
    signs = [
        gradient._signs(seed, f"block {start}", min(gradient._BLOCK, len(whole) - start), dim, cpu) for start in starts
    ]
    projected = whole @ torch.cat(signs).double()
    return (projected / projected.norm()).numpy()


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_a_vector_is_the_projected_gradient_of_the_attention_weights(build: Any, kind: str) -> None:
    folder = str(build(kind))
    found = gradient.embed(TEXTS, model=folder, dtype="float32", rank=3, dim=64, seed=5)
    assert found.dtype == np.float32 and found.shape == (len(TEXTS), 64)
    for number in (2, 3, 4, 6):
        np.testing.assert_allclose(found[number], by_hand(folder, TEXTS[number], 5, 3, 64), atol=2e-5)


def test_blocks_of_the_signs_do_not_show_but_in_the_draws(llama: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gradient, "_BLOCK", 100)
    found = gradient.embed(TEXTS[3:4], model=llama, dtype="float32", rank=3, dim=64)
    np.testing.assert_allclose(found[0], by_hand(llama, TEXTS[3], 0, 3, 64), atol=2e-5)


def test_a_text_that_predicts_nothing_is_a_row_of_zeros_and_all_others_have_length_one(llama: str) -> None:
    length = np.linalg.norm(gradient.embed(TEXTS, model=llama, **QUICK), axis=1)
    np.testing.assert_allclose(length, [0, 0, 1, 1, 1, 1, 1], atol=1e-6)


def test_cosines_estimate_cosines_of_the_whole_gradients(llama: str) -> None:
    texts = [TEXTS[2], TEXTS[2] + "!", TEXTS[3], TEXTS[5]]
    whole = torch.stack([torch.cat([g.flatten() for g in weight_gradients(llama, t).values()]) for t in texts]).numpy()
    whole /= np.linalg.norm(whole, axis=1, keepdims=True)
    for rank, wrong in ((16, 0.2), (32, 0.15)):
        found = gradient.embed(texts, model=llama, dtype="float32", rank=rank, dim=4096)
        assert np.abs(found @ found.T - whole @ whole.T).max() < wrong


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_a_vector_is_bitwise_the_same_whatever_its_neighbours_and_its_place(build: Any, kind: str, dtype: Any) -> None:
    options: dict[str, Any] = {**QUICK, "dtype": dtype, "model": str(build(kind))}
    texts = [*TEXTS, *("z" * 16 for _ in range(3))]
    whole = gradient.embed(texts, **options)
    order = np.random.default_rng(1).permutation(len(texts))
    np.testing.assert_array_equal(gradient.embed([texts[i] for i in order], **options), whole[order])
    for number in (2, 4, 8):
        np.testing.assert_array_equal(gradient.embed([texts[number]], **options)[0], whole[number])
    many = gradient.embed(["y" * 16, *["z" * 16] * 130], **options)
    np.testing.assert_array_equal(many[1:], np.tile(whole[-1], (130, 1)))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_number_of_threads_does_not_show(llama: str, dtype: Any) -> None:
    one = gradient.embed(TEXTS, model=llama, **{**QUICK, "dtype": dtype})
    torch.set_num_threads(2)
    np.testing.assert_array_equal(gradient.embed(TEXTS[::-1], model=llama, **{**QUICK, "dtype": dtype})[::-1], one)


def test_the_seed_draws_other_signs_and_bfloat16_is_near(llama: str) -> None:
    found = gradient.embed(TEXTS[2:], model=llama, **QUICK)
    other = gradient.embed(TEXTS[2:], model=llama, **QUICK, seed=1)
    assert np.abs((found * other).sum(axis=1)).max() < 0.5
    half = gradient.embed(TEXTS[2:], model=llama, **{**QUICK, "dtype": "bfloat16"})
    assert (found * half).sum(axis=1).min() > 0.98
    assert gradient.embed([], model=llama, **QUICK).shape == (0, 256)


def test_signs_are_balanced_and_differ_from_stream_to_stream() -> None:
    first, second = (gradient._signs(0, stream, 300, 64, torch.device("cpu")).numpy() for stream in ("a", "b"))
    assert set(np.unique(first)) == {-1.0, 1.0}
    assert abs(first.mean()) < 0.03 and np.abs(first.mean(axis=0)).max() < 0.25
    assert np.abs(first.T @ first / 300 - np.eye(64)).max() < 0.3
    assert abs((first * second).mean()) < 0.03
    np.testing.assert_array_equal(gradient._signs(0, "a", 3, 5, torch.device("cpu")).shape, (3, 5))


def test_the_model_is_left_as_it_was(llama: str) -> None:
    from curate.embed import language_model

    model, _ = language_model.load("embed gradient", Path(llama).resolve(), "float32")
    gradient.embed(TEXTS[2:4], model=llama, **QUICK)
    assert language_model.load("embed gradient", Path(llama).resolve(), "float32")[0] is model
    assert not any(module._forward_hooks for module in model.modules())
    assert all(weight.grad is None and not weight.requires_grad for weight in model.parameters())


def test_the_identity_follows_the_projection(llama: str) -> None:
    facts = gradient.identity(model=llama)
    assert facts["projection"] == {"rank": 8, "dim": 8192, "signs": "Rademacher", "seed": 0}
    changes: list[dict[str, Any]] = [{"rank": 4}, {"dim": 64}, {"seed": 1}, {"max_length": 99}]
    for change in changes:
        assert gradient.identity(model=llama, **change) != facts


def test_what_does_not_fit_is_one_sentence(llama: str, build: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for options, match in (
        ({"rank": 0}, "embed gradient: rank 0 should be 1 or more"),
        ({"dim": 12}, "embed gradient: dim 12 should be a multiple of 8; 8192 is usual"),
        ({"dim": 0}, "dim 0 should be a multiple of 8"),
        ({"max_length": 1}, "embed gradient: max_length 1 should be 8 tokens or more"),
    ):
        calls: list[Any] = [gradient.identity, lambda **options: gradient.embed(["ab"], **options)]
        for call in calls:
            with pytest.raises(MethodError, match=match):
                call(model=llama, **options)
    with pytest.raises(MethodError, match=r"MambaForCausalLM of .* has no linear layers in attention"):
        gradient.embed(["ab"], model=str(build("mamba")), **QUICK)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(MethodError, match="embed gradient: model 'nobody/nothing' is no folder"):
        gradient.embed(["ab"], model="nobody/nothing")


def test_a_model_whose_logits_are_made_otherwise_is_refused(llama: str, monkeypatch: pytest.MonkeyPatch) -> None:
    own: Any = LlamaForCausalLM.forward

    def forward(self: Any, *args: Any, **options: Any) -> Any:
        out = own(self, *args, **options)
        out.logits = out.logits.tanh()
        return out

    monkeypatch.setattr(LlamaForCausalLM, "forward", forward)
    with pytest.raises(MethodError, match="the logits of LlamaForCausalLM are no linear layer of its hidden states"):
        gradient.embed(["ab"], model=llama, **QUICK)
