"""SmolLM2-135M-Instruct as its package carries it: the model that comes out is the one that went in, and speaks."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from smollm2 import needs_smollm2
from torch.nn.functional import cross_entropy

from curate.contract import packaged
from curate.contract.files import sha256
from train.encode import Encoder
from train.loading import language_model, not_finite
from train.models import prepare

pytestmark = [needs_smollm2, pytest.mark.slow, pytest.mark.usefixtures("one_thread")]

SYSTEM = "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
SENTENCES = (
    "The Eiffel Tower is a wrought-iron lattice tower in Paris, France.",
    "Photosynthesis is the process by which plants turn sunlight, water and carbon dioxide into sugar and oxygen.",
    "In 1969, Neil Armstrong became the first person to walk on the Moon.",
)
TEXTS = (
    "  two  spaces, a tab\t, \r\n and 1,234.5 % of 2 ** 10\n\n\n3. naïve café ✓ 日本語 ½ ²",
    "def f(x):\n    return x - 10\n\n# I'm sure they'll don't",
    "\N{FAMILY}\N{ZERO WIDTH JOINER} <|im_start|>user <|endoftext|><|im_end|>\n",
)


@pytest.fixture(scope="module")
def folder() -> Path:
    found = packaged.find(packaged.SMOLLM2, "test")
    assert found is not None
    return found


@pytest.fixture(scope="module")
def loaded(folder: Path) -> tuple[Any, Any]:
    return language_model("test", folder, torch.float32)


def test_the_same_file_gives_the_same_bytes(folder: Path) -> None:
    assert {path.name: sha256(path)[:16] for path in folder.iterdir()} == {
        "chat_template.jinja": "872be49dbb638044",
        "config.json": "53cba98cd3cc4317",
        "generation_config.json": "8025b6679dcf077f",
        "model.safetensors": "a672150fb4f99d7c",  # bit for bit what transformers 5.23 with gguf 0.19 reads from the file
        "tokenizer.json": "7e817b447ffba8db",
        "tokenizer_config.json": "3fd1facc661d1459",
    }


def test_its_tokenizer_gives_every_text_back_and_parts_digits(loaded: tuple[Any, Any]) -> None:
    tokenizer = loaded[1]
    for text in (*TEXTS, *SENTENCES):
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert tokenizer.convert_ids_to_tokens(tokenizer("x\n\n10  7")["input_ids"]) == ["x", "ĊĊ", "1", "0", "ĠĠ", "7"]
    assert tokenizer("<|im_end|>")["input_ids"] == [2] == [tokenizer.eos_token_id] == [tokenizer.pad_token_id]


def test_its_chat_format_is_chatml_with_its_own_system_message_where_none_is_given(loaded: tuple[Any, Any]) -> None:
    asked = [{"role": "user", "content": "Hi"}]
    render = loaded[1].apply_chat_template
    begun = f"{SYSTEM}<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    assert render(asked, tokenize=False, add_generation_prompt=True) == begun
    own = [{"role": "system", "content": "Be."}, *asked, {"role": "assistant", "content": "Yes."}]
    assert render(own, tokenize=False) == (
        "<|im_start|>system\nBe.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nYes.<|im_end|>\n"
    )


def test_the_trainer_encodes_conversations_in_its_own_format(loaded: tuple[Any, Any]) -> None:
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes, 42."}]
    documents, counts = Encoder(loaded[1]).encode_all([("a", messages)])
    assert len(documents) == 1, counts
    text = loaded[1].decode(documents[0].input_ids)
    assert text.startswith(SYSTEM) and "<|im_start|>assistant\nYes, 42.<|im_end|>" in text
    assert documents[0].response_bytes == len("Yes, 42.")


def test_it_knows_the_capital_of_france(loaded: tuple[Any, Any]) -> None:
    model, tokenizer = loaded
    ids = tokenizer("The capital of France is", return_tensors="pt")
    assert "Paris" in tokenizer.decode(model.generate(**ids, max_new_tokens=3, do_sample=False)[0])
    chat = tokenizer.apply_chat_template(
        [{"role": "user", "content": "What is the capital of France?"}], tokenize=False, add_generation_prompt=True
    )
    ids = tokenizer(chat, return_tensors="pt")
    said = model.generate(**ids, max_new_tokens=12, do_sample=False)[0]
    assert tokenizer.decode(said).endswith("assistant\nThe capital of France is Paris.<|im_end|>")


def test_english_costs_it_less_than_a_bit_a_byte_in_float32_and_in_bfloat16(loaded: tuple[Any, Any]) -> None:
    bits = [_bits_per_byte(loaded, text) for text in SENTENCES]
    assert all(0.4 < one < 1.0 for one in bits)
    assert abs(_bits_per_byte(loaded, SENTENCES[2], half=True) / bits[2] - 1) < 0.05
    assert _bits_per_byte(loaded, "qzx vfl ooq prtm gnn wyk") > 4


def test_it_can_be_trained_on_packs(loaded: tuple[Any, Any]) -> None:
    assert not_finite(loaded[0]) is None
    prepare(loaded[0])


def _bits_per_byte(loaded: tuple[Any, Any], text: str, *, half: bool = False) -> float:
    model, tokenizer = loaded
    ids = torch.tensor([[0, *tokenizer(text)["input_ids"]]])
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=half):
        logits = model(input_ids=ids).logits[0].float()
    return float(cross_entropy(logits[:-1], ids[0, 1:], reduction="sum")) / math.log(2) / len(text.encode())
