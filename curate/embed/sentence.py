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

from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np

from curate.contract.device import device as device_here
from curate.contract.errors import MethodError
from curate.contract.files import digest, sha256
from curate.contract.model_files import find_model, need, revision_of, stamps, weights_sha256
from curate.contract.progress import bar
from curate.embed.batches import TOKENS, batches
from curate.embed.encoders import normalizes, sentence_transformer
from curate.embed.precision import precision

TEXT = "prompt"

_WHO = "embed sentence"
_CONFIGURATION = (
    "modules.json", "config.json", "*/config.json", "sentence_bert_config.json", "config_sentence_transformers.json",
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt",
)  # fmt: skip


def identity(
    *,
    model: str = "sentence-transformers/all-MiniLM-L6-v2",
    revision: str | None = None,
    prompt: str | None = None,
    max_length: int | None = None,
    dtype: Literal["auto", "bfloat16", "float32"] = "auto",
    data: Path | None = None,
) -> dict[str, Any]:
    """What the vectors depend on. Reads the weights once to hash them (a second per gigabyte); loads no model."""
    folder = _folder(model, revision, data)
    device = device_here()
    return {
        "method": "sentence",
        "model": model,
        "revision": revision_of(folder),
        "weights_sha256": weights_sha256(folder),
        "configuration": digest(
            [[path.name, sha256(path)] for glob in _CONFIGURATION for path in sorted(folder.glob(glob))]
        ),
        "prompt": prompt,
        "max_length": max_length,
        "dtype": precision(dtype, device),
        "device": device,
        "normalized": normalizes(_WHO, folder),
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
    data: Path | None = None,
) -> np.ndarray:
    """float32 (n, d), pooled and normalised as the model's own modules say.

    model: a folder, or a name on the Hub; weights are read from safetensors alone and no code of the model's is run.
    revision: of a model on the Hub. prompt: put before every text ("query: "); null is the model's own default.
    max_length: tokens after which a text is cut, at most the model's own, which null means. dtype: of the transformer; ``auto``
    is bfloat16 where the processor multiplies it natively (avx512_bf16 or amx_bf16 in /proc/cpuinfo, or a CUDA device that has
    it), else float32; pooling is float32 always. data: the folder that the path of a local model hangs from.
    """
    folder, device = _folder(model, revision, data), device_here()
    import torch

    encoder = _load(folder, stamps(folder), precision(dtype, device), device)
    transformer, tokenizer = encoder[0], encoder[0].tokenizer
    limit = _limit(max_length, transformer, model)
    texts = [_prompt(encoder, prompt, model) + text for text in texts]
    rows = _token_ids(tokenizer, texts, limit)
    filler = _token_ids(tokenizer, [""], limit)[0]
    vectors = np.empty((len(texts), encoder.get_embedding_dimension()), dtype=np.float32)
    with bar(len(texts), "embedding") as advance, torch.inference_mode():
        for index, length, height in batches(np.array([len(row) for row in rows], dtype=np.int64), limit):
            batch = [rows[i] for i in index] + [filler] * (height - len(index))
            features = dict(tokenizer.pad({"input_ids": batch}, "max_length", max_length=length, return_tensors="pt"))
            features = transformer({name: values.to(device) for name, values in features.items()})
            if "token_embeddings" in features:  # else the transformer gives the vector itself
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
        raise MethodError(f"{_WHO}: max_length {max_length} should be between 8 and {own}, what {model} can read")
    return max_length or own


def _token_ids(tokenizer: Any, texts: list[str], limit: int) -> list[list[int]]:
    """The ids of each text with the tokenizer's special tokens, cut at ``limit``; never empty."""
    if not texts:
        return []
    ids = tokenizer(texts, truncation=True, max_length=limit, return_attention_mask=False)["input_ids"]
    return [row or [tokenizer.pad_token_id] for row in ids]


@lru_cache(maxsize=1)
def _load(folder: Path, _changed: tuple[int, ...], dtype: str, device: str) -> Any:
    """The SentenceTransformer, its transformer in ``dtype``, the rest in float32; kept for the next slice of a table."""
    import torch

    from train.loading import check_tokenizer

    weights_sha256(folder)  # checks the bundled weights before they are read
    encoder = sentence_transformer(_WHO, folder, device, "a text")
    if "text" not in getattr(encoder[0], "modality_config", ()) or not hasattr(encoder[0], "auto_model"):
        raise MethodError(
            f"{_WHO}: {folder} does not begin with a text transformer; "
            "choose a sentence-transformers model whose modules.json starts with a Transformer"
        )
    tokenizer = encoder[0].tokenizer
    check_tokenizer(_WHO, folder, tokenizer, encoder[0].auto_model.get_input_embeddings(), MethodError)
    if tokenizer.pad_token_id is None:
        raise MethodError(
            f"{_WHO}: the tokenizer of {folder} has no padding token; name one as pad_token in its tokenizer_config.json"
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
        weight, bias = ops._reorder_linear_weight(linear.weight.detach(), TOKENS), linear.bias
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
            f"{_WHO}: {model} leaves its prompt out of the pooling, which is not supported; set prompt: ''"
        )
    return str(prompt)


def _folder(model: str, revision: str | None, data: Path | None = None) -> Path:
    need(_WHO, "sentence_transformers", "sentence-transformers", "'tamis[embed]'")
    return find_model(_WHO, model, revision=revision, data=data, owner="sentence-transformers", subfolders=True)
