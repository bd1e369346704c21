"""A model is loaded whole, or one sentence names what of it is missing."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from byte_models import save
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, LlamaModel

from curate.contract.errors import TrainingError
from curate.contract.progress import shown
from train.loading import language_model, quiet
from train.models import load_model

pytestmark = pytest.mark.usefixtures("one_thread")
TINY = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of two layers and 21 weights, whose output layer is its own."""
    return save(tmp_path_factory.mktemp("llama"))


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """A copy of it to damage."""
    return shutil.copytree(saved, tmp_path / "model")


def rewrite(folder: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    save_file(change(load_file(folder / "model.safetensors")), folder / "model.safetensors", {"format": "pt"})


def configure(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))


def without(*parts: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda weights: {name: w for name, w in weights.items() if not any(part in name for part in parts)}


def load(folder: Path, **options: Any) -> Any:
    return language_model("train", folder, torch.float32, TrainingError, **options)[0]


def refused(folder: Path) -> str:
    with pytest.raises(TrainingError) as caught:
        load(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# weights


def test_layers_that_the_file_does_not_hold_are_named_and_counted(folder: Path) -> None:
    rewrite(folder, without("layers.1."))
    assert refused(folder) == (
        f"train: {folder}/model.safetensors lacks 9 of the 21 weights of LlamaForCausalLM (model.layers.1.self_attn.q_proj.weight, "
        "model.layers.1.self_attn.k_proj.weight, model.layers.1.self_attn.v_proj.weight and 6 more), which would be random "
        "numbers; download or save the model again, or mend its config.json where that is of another model"
    )


def test_every_single_weight_is_missed(folder: Path) -> None:
    whole = load_file(folder / "model.safetensors")
    for name in whole:
        save_file({other: w for other, w in whole.items() if other != name}, folder / "model.safetensors")
        assert f"lacks 1 of the 21 weights of LlamaForCausalLM ({name})" in refused(folder)
    save_file(whole, folder / "model.safetensors")
    assert {name: w.tolist() for name, w in load(folder).state_dict().items()} == {
        n: w.tolist() for n, w in whole.items()
    }


def test_a_configuration_of_more_layers_or_of_other_sizes_is_refused(folder: Path) -> None:
    configure(folder, num_hidden_layers=3)
    assert "lacks 9 of the 30 weights of LlamaForCausalLM (model.layers.2.self_attn.q_proj.weight, " in refused(folder)
    configure(folder, num_hidden_layers=2, intermediate_size=50)
    assert refused(folder).startswith(
        f"train: {folder}/model.safetensors holds model.layers.0.mlp.gate_proj.weight in the shape (48, 32) and LlamaForCausalLM "
        "has (50, 32) there, and 5 more do not fit (model.layers.0.mlp.up_proj.weight, model.layers.0.mlp.down_proj.weight, "
        "model.layers.1.mlp.gate_proj.weight and 2 more); download or save the model again, or mend its config.json"
    )


def test_weights_of_another_architecture_are_named_beside_those_that_are_missing(folder: Path, tmp_path: Path) -> None:
    shutil.copy(save(tmp_path / "gpt2", "gpt2") / "model.safetensors", folder)
    sentence = refused(folder)
    assert "lacks 21 of the 21 weights of LlamaForCausalLM (model.embed_tokens.weight, " in sentence
    assert ", and holds 28 that have no place in it (transformer.h.0.attn.c_attn.bias, " in sentence


@pytest.mark.parametrize("kind", ["gpt2", "mamba"])
def test_an_output_layer_that_is_tied_is_not_missed_and_its_source_is(tmp_path: Path, kind: str) -> None:
    whole = load_file(save(tmp_path, kind) / "model.safetensors")
    assert not any("lm_head" in name for name in whole)
    model = load(tmp_path)
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    rewrite(tmp_path, without("wte", "embeddings"))
    assert "lacks 2 of the " in refused(tmp_path) and "lm_head.weight" in refused(tmp_path)


def test_an_output_layer_of_its_own_is_needed_only_where_it_is_used(folder: Path, saved: Path) -> None:
    rewrite(folder, without("lm_head"))
    assert "lacks 1 of the 21 weights of LlamaForCausalLM (lm_head.weight)" in refused(folder)
    body, whole = load(folder, head=False).model, load(saved).model
    assert all(torch.equal(a, b) for a, b in zip(body.parameters(), whole.parameters(), strict=True))
    configure(folder, tie_word_embeddings=True)
    assert torch.equal(load(folder).lm_head.weight, whole.embed_tokens.weight)


def test_a_model_that_was_saved_without_its_head_and_ties_it_is_whole(folder: Path) -> None:
    torch.manual_seed(0)
    body: Any = LlamaModel(LlamaConfig(vocab_size=264, **TINY, tie_word_embeddings=True))
    with quiet():
        body.save_pretrained(folder)
    assert "embed_tokens.weight" in load_file(folder / "model.safetensors")
    assert torch.equal(load(folder).lm_head.weight, body.embed_tokens.weight)


def test_weights_in_several_files_are_those_in_one_and_a_gap_names_their_index(folder: Path, saved: Path) -> None:
    whole: Any = load(saved)
    with quiet():
        whole.save_pretrained(folder, max_shard_size="40KB")
    (folder / "model.safetensors").unlink(missing_ok=True)
    assert len(list(folder.glob("*.safetensors"))) > 1
    split = load_model(str(folder), device="cpu")[0]
    assert all(torch.equal(a, b) for a, b in zip(split.parameters(), whole.parameters(), strict=True))
    configure(folder, num_hidden_layers=3)
    assert f"{folder}/model.safetensors.index.json lacks 9 of the 30 weights" in refused(folder)


def test_layers_that_the_configuration_does_not_count_are_said_and_other_heads_are_not(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    rewrite(
        folder, lambda weights: {**weights, "score.weight": torch.ones(2, 32), "rotary_emb.inv_freq": torch.ones(4)}
    )
    with shown(plain=True):
        load(folder)
        assert capfd.readouterr().err == ""
        configure(folder, num_hidden_layers=1)
        load(folder)
    assert capfd.readouterr().err == (
        f"train: {folder}/model.safetensors also holds 9 weights of layers that config.json does not count "
        "(model.layers.1.input_layernorm.weight, model.layers.1.mlp.down_proj.weight, model.layers.1.mlp.gate_proj.weight and "
        "6 more); the model is loaded without them\n"
    )


def test_a_refusal_is_said_once_and_not_by_transformers_too(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    rewrite(folder, lambda weights: {**without("layers.1.")(weights), "model.norm.weight": torch.ones(7)})
    with shown(plain=True):
        refused(folder)
    assert capfd.readouterr() == ("", "")


def test_a_weight_that_is_not_finite_is_named(folder: Path) -> None:
    rewrite(folder, lambda weights: {**weights, "model.norm.weight": torch.full((32,), float("nan"))})
    with pytest.raises(TrainingError, match=r"model\.norm\.weight is not finite"):
        load_model(str(folder))


# configuration and tokenizer


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"model_type": "llama"', "config.json is no JSON ("),
        ("{}", "cannot be loaded as a causal language model ("),
        ("[1]", "cannot be loaded as a causal language model ("),
        ('{"model_type": "nonesuch"}', "has model type `nonesuch`"),
        ('{"model_type": "llama", "hidden_size": "big"}', "Field 'hidden_size' expected int, got str"),
        ('{"model_type": "llama", "num_attention_heads": 0}', "cannot be loaded as a causal language model ("),
        ('{"model_type": "vit"}', "cannot be loaded as a causal language model ("),
    ],
)
def test_a_configuration_that_is_none_is_one_sentence(folder: Path, text: str, said: str) -> None:
    (folder / "config.json").write_text(text)
    assert said in refused(folder)


def test_a_tokenizer_that_is_none_is_one_sentence(folder: Path) -> None:
    text = (folder / "tokenizer.json").read_text()
    for broken in ("", "{}", text[: len(text) // 2], text.replace('"BPE"', '"BPX"')):
        (folder / "tokenizer.json").write_text(broken)
        assert "/tokenizer.json " in refused(folder) and refused(folder).endswith("; download or save it again")
    (folder / "tokenizer.json").unlink()
    assert "cannot be loaded as a tokenizer, as it has no tokenizer.json (" in refused(folder)


@pytest.mark.parametrize("kind", ["LlamaTokenizer", "GPT2Tokenizer", "Qwen2Tokenizer", "T5Tokenizer", "BertTokenizer"])
def test_a_tokenizer_without_words_is_refused(folder: Path, kind: str) -> None:
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": kind}))
    assert AutoTokenizer.from_pretrained(folder) is not None  # transformers makes one of special tokens
    assert "has no words, only special tokens; put the tokenizer.json of the model there" in refused(folder)


def test_a_tokenizer_of_another_model_is_refused_and_an_added_token_only_where_it_is_used(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens([AddedToken(f"<image {i}>", special=True) for i in range(10)])
    tokenizer.save_pretrained(folder)
    assert len(tokenizer) == 267  # the model has vectors for 264
    model, tokenizer = load_model(str(folder), device="cpu")
    ids = tokenizer("a<image 1><image 6>", return_tensors="pt")["input_ids"]
    assert ids.max() == 263
    model.get_input_embeddings()(ids)
    with pytest.raises(
        TrainingError, match=r"a text holds the token <image 9>, for which the model of .* has no vector"
    ):
        model.get_input_embeddings()(tokenizer("a<image 9>", return_tensors="pt")["input_ids"])
    with quiet():
        LlamaForCausalLM(LlamaConfig(vocab_size=200, **TINY)).save_pretrained(folder)
    sentence = refused(folder)
    assert "has 57 words that the model has no vector for (" in sentence and "since it has 200 vectors" in sentence


def test_the_command_says_it_without_a_traceback(folder: Path, tmp_path: Path) -> None:
    rewrite(folder, without("layers.1."))
    (tmp_path / "rows.jsonl").write_text(
        '{"instruction": "Name a planet", "input": "", "output": "Mars is one of them"}\n' * 3
    )
    (tmp_path / "recipe.yaml").write_text(
        "name: x\nload: [{files: {path: rows.jsonl, name: r, shape: alpaca, license: mit}}]\n"
        "steps: [{embed: {last_hidden: {model: model}}}]\n"
    )
    command = [sys.executable, "-m", "curate.cli", "run", "recipe.yaml", "--work", "work"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    lines = [line for line in done.stderr.splitlines() if "lacks 9 of the 21 weights" in line]
    assert done.returncode == 2 and len(lines) == 1 and "Traceback" not in done.stderr, done.stderr
