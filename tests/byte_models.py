"""A small random language model and texts for it, which the tests of embedders share."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    PreTrainedTokenizerFast,
)

TEXTS = [
    "",
    "a",
    "bees find flowers",
    "x" * 40,
    "rivers carry hills to the sea " * 3,
    "ab" * 70,
    "salt is a crystal " * 8,
]


def save(folder: Path, kind: str = "llama", positions: int = 256) -> Path:
    """Saves a random language model that reads bytes, one token each, and gives the folder back."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = {"<end>": 0, **{letter: number for number, letter in enumerate(alphabet, 1)}}
    bytes_only = Tokenizer(models.BPE(words, []))
    bytes_only.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bytes_only.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=bytes_only, eos_token="<end>").save_pretrained(folder)
    torch.manual_seed(3)
    if kind == "gpt2":
        config = GPT2Config(vocab_size=264, n_embd=32, n_layer=2, n_head=4, n_positions=positions)
        GPT2LMHeadModel(config).save_pretrained(folder)
    elif kind == "mamba":
        MambaForCausalLM(MambaConfig(vocab_size=264, hidden_size=16, num_hidden_layers=1)).save_pretrained(folder)
    else:
        config = LlamaConfig(
            vocab_size=264, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, max_position_embeddings=positions, eos_token_id=0, initializer_range=0.2,
        )  # fmt: skip
        LlamaForCausalLM(config).save_pretrained(folder)
    return folder
