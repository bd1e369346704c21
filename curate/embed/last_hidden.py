"""Embed records by the weighted mean of a language model's last hidden states (RDS+).

When to use: to select for a target: rows whose vectors are near to those of a few examples of the task, with the model that
will be trained. On pools of up to 5.8 million rows this did better than more complex methods, many of which fell short of
random choice.
Cost: one forward pass of the model, about 2 x parameters x tokens operations: a model of SmolLM2-135M's shape reads about 500
tokens a second on one core, 1,000 in bfloat16 where the processor multiplies it itself. Memory: the model without gradients,
one batch of 1,024 tokens (four rows where a row is longer).

    - embed: {last_hidden: {model: HuggingFaceTB/SmolLM2-135M}}

Token i of L weighs i / (1 + 2 + … + L), so that the late tokens, which have seen the most, count the most; the mean is then
scaled to length one. The text goes in as it is, in no chat format; one without a token is read as the end-of-text token.
A vector depends on its text and the model alone: batches have fixed shapes, as in ``sentence``.

Reference: Ivison et al. 2025, "Large-Scale Data Selection for Instruction Tuning", arXiv 2503.01807; its code cuts at 2,048
tokens. The weights: Muennighoff 2022, "SGPT", arXiv 2202.08904.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np

from curate.contract.device import device as _device
from curate.contract.errors import MethodError, MissingExtra
from curate.contract.files import digest, sha256
from curate.contract.progress import bar
from curate.embed.sentence import _batches, _dtype

TEXT = "record"

_PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt")
_WANTED = ("*.safetensors", "*.json", "*.txt", "*.model")  # what is downloaded: no pickle, no code
_SHORTEST = 8  # tokens, so that a dummy row is always shorter than its batch


def identity(
    *,
    model: str,
    revision: str | None = None,
    max_length: int = 2048,
    dtype: Literal["auto", "bfloat16", "float32"] = "auto",
    base: Path | None = None,
) -> dict[str, Any]:
    """What the vectors depend on. Reads the weights once to hash them (a second per gigabyte); loads no model."""
    facts = model_facts("embed last_hidden", model, revision, max_length, dtype, base)
    return {"method": "last_hidden", **facts, "pooling": "position-weighted mean", "normalized": True}


def embed(
    texts: list[str],
    *,
    model: str,
    revision: str | None = None,
    max_length: int = 2048,
    dtype: Literal["auto", "bfloat16", "float32"] = "auto",
    base: Path | None = None,
) -> np.ndarray:
    """float32 (n, d) of length one, where d is the model's hidden size.

    model: a folder, or a name on the Hub, of a causal language model; weights are read from safetensors alone and no code of
    the model's is run. revision: of a model on the Hub. max_length: tokens after which a text is cut, at most what the model
    can read. dtype: of the model; ``auto`` is bfloat16 where the processor multiplies it natively, else float32; the mean is
    taken in float32 always. base: the folder that the path of a local model hangs from.
    """
    check_length("embed last_hidden", max_length)
    import torch

    folder = model_folder("embed last_hidden", model, revision, base)
    language_model, tokenizer = load(folder, dtype, "embed last_hidden")
    vectors = np.empty((len(texts), language_model.config.get_text_config().hidden_size), dtype=np.float32)
    with bar(len(texts), "last hidden states") as advance, torch.inference_mode():
        for index, ids, mask in token_batches(texts, tokenizer, token_limit(max_length, language_model.config)):
            ids, mask = ids.to(language_model.device), mask.to(language_model.device)
            states = language_model.base_model(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
            weights = mask.float() * torch.arange(1, mask.shape[1] + 1, device=mask.device)
            weights /= weights.sum(dim=1, keepdim=True)
            means = torch.nn.functional.normalize((states.float() * weights[:, :, None]).sum(dim=1))
            vectors[index] = means[: len(index)].cpu().numpy()
            advance(len(index))
    return vectors


def model_facts(
    method: str, model: str, revision: str | None, max_length: int, dtype: str, base: Path | None
) -> dict[str, Any]:
    """What the output of a language model depends on."""
    check_length(method, max_length)
    folder, device = model_folder(method, model, revision, base), _device()
    return {
        "model": model,
        "revision": folder.name if folder.parent.name == "snapshots" else None,
        "weights_sha256": contents(folder, "*.safetensors"),
        "configuration": contents(folder, "*.json", "*.txt", "*.model"),
        "max_length": max_length,
        "dtype": _dtype(dtype, device),
        "device": device,
        "versions": {name: version(name) for name in ("tokenizers", "torch", "transformers")},
    }


def contents(folder: Path, *patterns: str) -> str:
    """One hash over the names and bytes of files."""
    files = sorted(path for pattern in patterns for path in folder.glob(pattern))
    return digest([[str(path.relative_to(folder)), sha256(path)] for path in files])


def check_length(method: str, max_length: int) -> None:
    if max_length < _SHORTEST:
        raise MethodError(f"{method}: max_length {max_length} should be {_SHORTEST} tokens or more; 2048 is usual")


def token_limit(max_length: int, config: Any) -> int:
    """Tokens after which a text is cut."""
    return min(max_length, getattr(config.get_text_config(), "max_position_embeddings", None) or max_length)


def model_folder(
    method: str, model: str, revision: str | None, base: Path | None, must_have: str = "config.json"
) -> Path:
    """Where a model's files are: the folder named, the Hub's cache, else a download. Its weights are safetensors."""
    if not find_spec("transformers"):
        raise MissingExtra(f"{method} needs transformers; run: pip install 'tamis[embed]'")
    folder = (base or Path()) / Path(model).expanduser()
    if not folder.is_dir():
        found = next((f for f in _snapshots(model, revision) if (f / must_have).is_file()), None)
        if found is None:
            raise MethodError(
                f"{method}: model {model!r} is no folder in {base or Path.cwd()}, is not in the Hub's cache, and could not be "
                f"downloaded; check the name, revision and network, or give a folder that holds {must_have}"
            )
        folder = found
    elif not (folder / must_have).is_file():
        raise MethodError(
            f"{method}: the folder {folder} has no {must_have}, so it holds no model of the kind needed here"
        )
    modules = [path for path in sorted(folder.iterdir()) if path.is_dir()] if must_have == "modules.json" else []
    for place in (folder, *modules):
        pickled = sorted(path.name for pattern in _PICKLED for path in place.glob(pattern))
        if pickled and not any(place.glob("*.safetensors")):
            raise MethodError(
                f"{method}: {model} holds pickled weights ({place / pickled[0]}), which can run code when they are loaded; "
                "Tamis loads safetensors alone, so choose a revision that has them or convert the model"
            )
    if not any(any(place.glob("*.safetensors")) for place in (folder, *modules)):
        raise MethodError(f"{method}: {model} holds no weights; {folder} should hold model.safetensors")
    return folder.resolve()


def _snapshots(name: str, revision: str | None) -> Iterator[Path]:
    """The cached copy of a model of the Hub, then a fresh one; neither where it cannot be had."""
    from huggingface_hub import snapshot_download

    for cached in (True, False):
        try:
            yield Path(snapshot_download(name, revision=revision, allow_patterns=[*_WANTED], local_files_only=cached))
        except (OSError, ValueError):
            continue


def load(folder: Path, dtype: str, method: str) -> tuple[Any, Any]:
    """(causal language model, tokenizer), ready to infer; the last one loaded is kept for the next slice of a table."""
    device = _device()
    changed = tuple(path.stat().st_mtime_ns for path in sorted(folder.iterdir()) if path.is_file())
    return _load(folder, changed, _dtype(dtype, device), device, method)


@lru_cache(maxsize=1)
def _load(folder: Path, changed: tuple[int, ...], dtype: str, device: str, method: str) -> tuple[Any, Any]:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from train.models import quiet

    try:
        with quiet():
            tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
            model = AutoModelForCausalLM.from_pretrained(
                folder, dtype=getattr(torch, dtype), use_safetensors=True, trust_remote_code=False
            )
    except (OSError, ValueError, ImportError, KeyError) as error:
        first = str(error).strip().split("\n")[0]
        raise MethodError(
            f"{method}: {folder} cannot be loaded as a causal language model without its own code ({first})"
        ) from error
    torch.nn.Module.to(model, device)
    return model.requires_grad_(False).eval(), tokenizer


def token_batches(texts: list[str], tokenizer: Any, limit: int) -> Iterator[tuple[np.ndarray, Any, Any]]:
    """(rows, ids, mask): int64 (k,) into ``texts``, and int64 (rows, tokens) tensors padded on the right, with dummy rows below
    the first k. Every length has one shape, and every batch at least one padded place, so that all take the same kernels."""
    import torch

    end = next((i for i in (tokenizer.eos_token_id, tokenizer.pad_token_id) if i is not None), 0)
    rows = [] if not texts else tokenizer(texts, truncation=True, max_length=limit, verbose=False)["input_ids"]
    rows = [row or [end] for row in rows]
    for index, length, height in _batches(np.array([len(row) for row in rows], dtype=np.int64), limit):
        ids, mask = torch.full((height, length), end), torch.zeros((height, length), dtype=torch.int64)
        for place in range(height):
            row = rows[index[place]] if place < len(index) else [end]
            ids[place, : len(row)], mask[place, : len(row)] = torch.tensor(row), 1
        yield index, ids, mask
