"""Causal language models that embed: found, loaded, and fed in batches of fixed shapes."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from curate.contract.device import device as device_here
from curate.contract.errors import MethodError
from curate.contract.model_files import contents, find_model, need, revision_of, stamps, weights_sha256
from curate.embed.batches import batches
from curate.embed.precision import precision

_SHORTEST = 8  # tokens, so that a dummy row is always shorter than its batch


def language_model_folder(who: str, model: str, revision: str | None, data: Path | None) -> Path:
    """Where the model's files are."""
    need(who, "transformers", "transformers", "'tamis[embed]'")
    return find_model(who, model, revision=revision, data=data)


def model_facts(
    who: str, model: str, revision: str | None, max_length: int, dtype: str, data: Path | None
) -> dict[str, Any]:
    """What the output of a language model depends on."""
    check_length(who, max_length)
    folder, device = language_model_folder(who, model, revision, data), device_here()
    return {
        "model": model,
        "revision": revision_of(folder),
        "weights_sha256": weights_sha256(folder),
        "configuration": contents(folder, "*.json", "*.txt", "*.model"),
        "max_length": max_length,
        "dtype": precision(dtype, device),
        "device": device,
        "versions": {name: version(name) for name in ("tokenizers", "torch", "transformers")},
    }


def check_length(who: str, max_length: int) -> None:
    if max_length < _SHORTEST:
        raise MethodError(f"{who}: max_length {max_length} should be {_SHORTEST} tokens or more; 2048 is usual")


def token_limit(max_length: int, config: Any) -> int:
    """Tokens after which a text is cut."""
    return min(max_length, getattr(config.get_text_config(), "max_position_embeddings", None) or max_length)


def load(who: str, folder: Path, dtype: str, *, head: bool = True) -> tuple[Any, Any]:
    """(causal language model, tokenizer), ready to infer; the last one loaded is kept for the next slice of a table. head: its
    output layer is needed."""
    device = device_here()
    return _load(who, folder, stamps(folder), precision(dtype, device), device, head)


@lru_cache(maxsize=1)
def _load(who: str, folder: Path, _changed: tuple[int, ...], dtype: str, device: str, head: bool) -> tuple[Any, Any]:
    import torch

    from train.loading import language_model

    model, tokenizer = language_model(who, folder, getattr(torch, dtype), head=head)
    torch.nn.Module.to(model, device)
    return model.requires_grad_(False).eval(), tokenizer


def token_batches(texts: list[str], tokenizer: Any, limit: int) -> Iterator[tuple[np.ndarray, Any, Any]]:
    """(rows, ids, mask): int64 (k,) into ``texts``, and int64 (rows, tokens) tensors padded on the right, with dummy rows below
    the first k. Every length has one shape, and every batch at least one padded place, so that all take the same kernels."""
    import torch

    end = next((i for i in (tokenizer.eos_token_id, tokenizer.pad_token_id) if i is not None), 0)
    rows = [] if not texts else tokenizer(texts, truncation=True, max_length=limit, verbose=False)["input_ids"]
    rows = [row or [end] for row in rows]
    for index, length, height in batches(np.array([len(row) for row in rows], dtype=np.int64), limit):
        ids, mask = torch.full((height, length), end), torch.zeros((height, length), dtype=torch.int64)
        for place in range(height):
            row = rows[index[place]] if place < len(index) else [end]
            ids[place, : len(row)], mask[place, : len(row)] = torch.tensor(row), 1
        yield index, ids, mask
