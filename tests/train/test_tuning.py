from __future__ import annotations

import copy

import pytest
import torch
from transformers import AutoModelForCausalLM

from train.batches import packs
from train.fit import fit
from train.models import head_of, load_model, merge, predicting_states, save_model
from train.objectives import response_only
from train.scoring.perplexity import evaluate
from train.tuning import full, lora

EXACT = {"weights": response_only.weights, "dtype": "float32", "examples": 8, "steps": 4, "learning_rate": 1e-3}
LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def logits(model, documents) -> torch.Tensor:
    weights = [response_only.weights(d.role, d.turn) for d in documents]
    with torch.no_grad():
        (pack,) = packs(documents, weights, range(len(documents)), 10_000)
        return head_of(model).logits(predicting_states(model, pack, torch.float32))


def test_full_trains_every_parameter(llama, documents):
    model = llama().requires_grad_(False)
    before = copy.deepcopy(model)
    fit(full.tune(model, seed=0), documents, **EXACT)
    assert all(not torch.equal(a, b) for a, b in zip(model.parameters(), before.parameters(), strict=True))


def test_lora_trains_its_matrices_and_nothing_else(llama):
    tuned = lora.tune(llama(), seed=0, rank=4)
    trained = {name.split("base_model.model.")[1]: p for name, p in tuned.named_parameters() if p.requires_grad}
    expected = {
        f"model.layers.{layer}.{'mlp' if 'proj' in part and part in LINEAR[4:] else 'self_attn'}.{part}.lora_{side}.default.weight"
        for layer in range(2)
        for part in LINEAR
        for side in "AB"
    }
    assert trained.keys() == expected
    sizes = {"q_proj": 64, "k_proj": 48, "v_proj": 48, "o_proj": 64, "gate_proj": 80, "up_proj": 80, "down_proj": 80}
    assert sum(p.numel() for p in trained.values()) == 2 * 4 * sum(sizes.values())
    assert {p.dtype for p in trained.values()} == {torch.float32}


def test_lora_starts_as_its_base_to_the_bit(llama, documents):
    base = llama()
    assert torch.equal(logits(base, documents), logits(lora.tune(copy.deepcopy(base), seed=0), documents))


def test_the_adapter_depends_on_its_seed_alone(llama):
    torch.manual_seed(1)
    one = lora.tune(llama(), seed=3).state_dict()
    torch.manual_seed(2)
    two, other = lora.tune(llama(), seed=3).state_dict(), lora.tune(llama(), seed=4).state_dict()
    name = next(name for name in one if "lora_A" in name)
    assert torch.equal(one[name], two[name])
    assert not torch.equal(one[name], other[name])


def test_targets_and_alpha_are_heeded(llama):
    tuned = lora.tune(llama(), seed=0, rank=8, alpha=4, targets=["q_proj", "v_proj"])
    trained = [name for name, p in tuned.named_parameters() if p.requires_grad]
    assert len(trained) == 2 * 2 * 2
    assert tuned.get_base_model().model.layers[0].self_attn.q_proj.scaling["default"] == 0.5


@pytest.mark.parametrize("tuning", ["full", "lora"])
@pytest.mark.parametrize("tied", [True, False])
def test_merged_saved_and_loaded_it_is_the_same_model(llama, documents, tokenizer, tmp_path, tuning, tied):
    tuned = {"full": full, "lora": lora}[tuning].tune(llama(tie_word_embeddings=tied), seed=0)
    fit(tuned, documents, **EXACT)
    before = logits(tuned, documents)
    save_model(merge(tuned), tokenizer, tmp_path / "model")
    loaded, again = load_model(str(tmp_path / "model"), device="cpu")
    assert (logits(loaded, documents) - before).abs().max() < 1e-5
    assert again.get_vocab() == tokenizer.get_vocab()
    names = {path.name for path in (tmp_path / "model").iterdir()}
    assert "model.safetensors" in names
    assert not any(name.endswith((".bin", ".pt")) for name in names)
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    assert theirs.config._attn_implementation == "sdpa"  # whoever loads it gets an ordinary model
    assert evaluate(loaded, documents).tokens.sum() > 0
