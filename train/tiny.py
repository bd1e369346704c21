"""A small Llama and its tokenizer, made from any text in about a minute: what `model: tiny` names.

    folder = tiny_model(texts, seed=0)
    model, tokenizer = load_model(str(folder))

0.9 million parameters, 128 wide, and a byte-level BPE of 2,048 tokens of its own, so that a study of 60 runs takes minutes
on two cores and needs no download. It knows words and a little syntax, and no fact: what it measures is how the choice of
examples changes a model, not how good the model is. `tiny-3m` and `tiny-10m` are larger ones of the same text and
vocabulary, for the question whether a verdict holds at another size; they have 3 and 12 times the parameters.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from curate.contract import store
from curate.contract.draws import draw, shuffled
from curate.contract.errors import TrainingError
from curate.contract.files import digest, sha256, write_json
from curate.contract.progress import bar
from train.encode import RESPONSE, Encoded
from train.fit import fit
from train.models import compute_dtype, prepare, save_model

VOCABULARY = 2048
MARKERS = ("<|pad|>", "<|bos|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>")  # a token each
CHAT = (
    "{{ bos_token }}{% for message in messages %}<|{{ message.role }}|>{{ message.content }}"
    "{% if message.role == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SHAPES: dict[str, tuple[int, int, int, int]] = {  # width, inner width, layers, heads
    "tiny": (128, 640, 2, 2),
    "tiny-3m": (192, 768, 4, 3),
    "tiny-10m": (320, 1280, 6, 5),
}
WINDOW = 256  # tokens a training document
WINDOWS = 4  # documents a step: 16 ended 0.5 nats higher after the same 1.6 million tokens
LEARNING_RATE = 3e-3  # at 128 wide; it falls as 1/sqrt(width)
THREADS = 1  # the bytes depend on it
SAMPLE = 4_000_000  # characters that the tokenizer is trained on


def tiny_model(texts: Iterable[str], *, size: str = "tiny", seed: int = 0, steps: int = 1200) -> Path:
    """Trains the tokenizer and the model on ``texts`` and returns their folder in the cache, or finds it there.

    size: a name in SHAPES. The same set of texts, size, seed, steps and versions give the same folder; the order of the texts does not matter. It takes
    ``steps`` times 1,024 tokens, more than once over where the texts are fewer. Raises TrainingError where the texts are
    too few for a vocabulary of 2,048 tokens (about 100 kB).
    """
    unique = sorted({text for text in texts if text.strip()})
    recipe = _recipe(unique, size, seed, steps)
    if (folder := store.folder("tiny", "llama", recipe)) is not None:
        return folder
    ordered = [unique[i] for i in shuffled(seed, "tiny.order", map(digest, unique))]
    tokenizer = _tokenizer(ordered)
    windows = _windows(tokenizer, ordered, steps * WINDOWS)
    torch.manual_seed(draw(seed, "tiny.init", "") % 2**63)
    model = prepare(LlamaForCausalLM(_config(tokenizer, size)))
    with _threads(THREADS), bar(steps, "tiny: pretraining the base model") as advance:
        report = fit(
            model,
            windows,
            weights=lambda role, turn: np.ones(len(role), np.float32),
            steps=steps,
            examples=WINDOWS,
            learning_rate=LEARNING_RATE * math.sqrt(SHAPES["tiny"][0] / SHAPES[size][0]),
            warmup=0.04,
            seed=seed,
            pack_tokens=WINDOW * WINDOWS,
            on_step=lambda step, state: advance(1),
        )
    with store.writing("tiny", "llama", recipe) as new:
        save_model(model, tokenizer, new)
        facts = {"texts": len(unique), "tokens": report.tokens, "epochs": report.epochs, "last_loss": report.losses[-1]}
        write_json(new / "tiny.json", {"seed": seed, "steps": steps, "dtype": report.dtype, **facts})
    folder = store.folder("tiny", "llama", recipe)
    if folder is None:
        raise TrainingError(
            "the tiny model was deleted from the cache as soon as it was made; run the same command again"
        )
    return folder


@contextmanager
def _threads(n: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _recipe(unique: list[str], size: str, seed: int, steps: int) -> dict[str, Any]:
    """All that decides the weights."""
    here = Path(__file__).parent
    sources = ("tiny", "fit", "batches", "packing", "attention", "cross_entropy", "models")
    return {
        "texts": digest(unique),
        "size": size,
        "seed": seed,
        "steps": steps,
        "dtype": str(compute_dtype("auto", torch.device("cpu"))),
        "source": [sha256(here / f"{name}.py") for name in sources],
        "versions": [package.__version__ for package in (torch, transformers, tokenizers)],
    }


def _tokenizer(texts: list[str]) -> PreTrainedTokenizerFast:
    """Byte-level BPE: every text has tokens, and they decode to the same text."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(MARKERS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(_first(texts, SAMPLE), trainer)
    if bpe.get_vocab_size() < VOCABULARY:
        raise TrainingError(
            f"model: tiny was given {len(texts):,} texts of {sum(map(len, texts)):,} characters, which make a vocabulary of "
            f"{bpe.get_vocab_size():,} tokens; it needs {VOCABULARY:,}: give it 100,000 characters of varied text or more"
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        pad_token="<|pad|>",
        bos_token="<|bos|>",
        eos_token="<|end|>",
        additional_special_tokens=["<|system|>", "<|user|>", "<|assistant|>"],
        chat_template=CHAT,
        clean_up_tokenization_spaces=False,
    )


def _first(texts: list[str], characters: int) -> Iterator[str]:
    for text in texts:
        if characters <= 0:
            return
        yield text[:characters]
        characters -= len(text)


def _windows(tokenizer: PreTrainedTokenizerFast, texts: list[str], wanted: int) -> list[Encoded]:
    """At most ``wanted`` windows of 256 tokens, cut from the texts one behind another: <|bos|> text <|end|> <|bos|> …"""
    stream: list[int] = []
    backend = tokenizer.backend_tokenizer
    for start in range(0, len(texts), 512):
        for encoding in backend.encode_batch(texts[start : start + 512], add_special_tokens=False):
            stream += [tokenizer.bos_token_id, *encoding.ids, tokenizer.eos_token_id]
        if len(stream) >= wanted * WINDOW:
            break
    ids = np.array(stream[: wanted * WINDOW], np.int32)
    cut = [ids[start : start + WINDOW] for start in range(0, len(ids), WINDOW)]
    role, turn = np.full(WINDOW, RESPONSE, np.uint8), np.zeros(WINDOW, np.int32)
    return [
        Encoded(f"{number:08}", window, role[: len(window)], turn[: len(window)], response_bytes=0, truncated=False)
        for number, window in enumerate(cut)
        if len(window) > 1
    ]


def _config(tokenizer: PreTrainedTokenizerFast, size: str) -> LlamaConfig:
    width, inner, layers, heads = SHAPES[size]
    ids = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("pad", "bos", "eos")}
    return LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=width,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        initializer_range=0.9 / math.sqrt(width),  # the usual 0.02 was 0.5 nats behind after 300 steps at 128 wide
        **ids,
    )
