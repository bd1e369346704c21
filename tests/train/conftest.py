"""A tokenizer and small random models that the trainer's tests share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from train.encode import Encoded, Encoder

_SENTENCES = [
    "Name the largest planet. It is Jupiter, which is a ball of gas.",
    "How do bees find flowers? They follow scent and colour, and they remember where they were.",
    "Write a line about rivers. A river carries the hills to the sea, grain by grain.",
    "What is seven times eight? Seven times eight is fifty-six.",
    "User Assistant system instruct: salt is a crystal; glass is not.\n\n",
]
MARKERS = ["<|bos|>", "<|end|>", "<|im_start|>", "<|im_end|>"]


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE of 400 tokens, with a start, an end and ChatML's markers; no chat format of its own."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=MARKERS, initial_alphabet=alphabet, show_progress=False
    )
    bpe.train_from_iterator(_SENTENCES * 4, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token="<|bos|>", eos_token="<|end|>")
    fast.add_special_tokens({"additional_special_tokens": MARKERS[2:]})
    return fast


@pytest.fixture(scope="session")
def conversation() -> Callable[..., list[dict[str, str]]]:
    def build(*texts: str, system: str | None = None) -> list[dict[str, str]]:
        """User and assistant by turns, after a system message where there is one."""
        messages = [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts)]
        return [{"role": "system", "content": system}, *messages] if system is not None else messages

    return build


@pytest.fixture(scope="session")
def documents(tokenizer: PreTrainedTokenizerFast, conversation: Any) -> list[Encoded]:
    """Forty conversations of different lengths, from 1 turn to 3."""
    rows = []
    for i in range(40):
        texts = [_SENTENCES[(i + j) % 4][: 20 + (7 * i + 11 * j) % 45] + f" {i}" for j in range(2 + 2 * (i % 5 == 0))]
        rows.append((f"row-{i:02d}", conversation(*texts)))
    return Encoder(tokenizer, "plain").encode_all(rows)[0]


@pytest.fixture
def llama(tokenizer: PreTrainedTokenizerFast) -> Callable[..., Any]:
    """A random Llama with grouped heads; the same one every time. Prepared unless told otherwise."""
    from train.models import prepare

    def build(*, prepared: bool = True, dtype: torch.dtype = torch.float32, **changes: Any) -> Any:
        shape: dict[str, Any] = {
            "vocab_size": len(tokenizer),
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 512,
            "tie_word_embeddings": True,
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
        }
        torch.manual_seed(7)
        model = LlamaForCausalLM(LlamaConfig(**{**shape, **changes}))
        model = prepare(model) if prepared else model
        return model.to(dtype)

    return build
