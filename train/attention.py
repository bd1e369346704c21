"""Attention over a pack: documents stand behind one another in one row of tokens, and none sees another.

All the linear layers run on the flat row, without a pad token; only attention knows where documents end. transformers
hands every call of a model to the function registered under ``NAME``, and our ``documents`` travel with it as a keyword:

    decoder(input_ids=ids, position_ids=positions, documents=Documents.of(lengths, device))      # both (1, T)

Two ways, the same result:

- CUDA in half precision: ``torch.nn.attention.varlen`` (FlashAttention over cumulative lengths), where this torch has it;
- elsewhere: ``scaled_dot_product_attention`` document by document. A dense block-diagonal mask would cost T² in time and
  memory. On the CPU it runs in float32 at least: torch's kernel is faster there than in bfloat16, and exact.

Whatever would let documents see each other raises: a mask, a call without ``documents``, an architecture that drops
keywords on their way. ``train.models.prepare`` moreover tries each model: a neighbour's tokens must not change a bit.
"""

from __future__ import annotations

import functools
import inspect
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface

from curate.contract.errors import TrainingError

NAME = "tamis_packed"
_UNKNOWN_TO_US = (
    "softcap",
    "s_aux",
    "position_bias",
)  # what some architectures add to the scores: Gemma 2, gpt-oss, T5


@dataclass(frozen=True)
class Documents:
    """Where the documents of a pack end: their lengths, and the same as cumulative starts int32 (n + 1,) on the device."""

    lengths: list[int]
    starts: Tensor

    @classmethod
    def of(cls, lengths: list[int], device: torch.device | str) -> Documents:
        starts = torch.tensor([0, *accumulate(lengths)], dtype=torch.int32)
        return cls(list(lengths), starts.to(device, non_blocking=True))


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    documents: Documents | None = None,
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """Causal attention within each document; query (1, H, T, D), key and value (1, H or fewer, T, D) -> (1, T, H, D)."""
    _check(module, query, attention_mask, documents, others)
    assert documents is not None
    if sliding_window is not None and max(documents.lengths) <= sliding_window:
        sliding_window = None
    if query.is_cuda and dropout == 0 and _half(query) is not None and _varlen() is not None:
        return _attend_varlen(query, key, value, documents, scaling, sliding_window), None
    return _attend_each(query, key, value, documents, dropout, scaling, sliding_window), None


def _check(
    module: nn.Module, query: Tensor, mask: Tensor | None, documents: Documents | None, others: dict[str, Any]
) -> None:
    kind = type(module).__name__
    if documents is None:
        raise TrainingError(
            f"{kind} was called without the document lengths of its pack: either this architecture drops keywords on the "
            "way to its attention, or the model was called directly; train it through train.fit, or load the saved model anew"
        )
    if mask is not None:
        raise TrainingError(
            f"{kind} was given an attention mask beside packed documents; pass none: the lengths say it all"
        )
    if query.shape[0] != 1 or query.shape[2] != sum(documents.lengths):
        raise TrainingError(
            f"{kind} was given {tuple(query.shape)} (batch, heads, tokens, size) for one row of {sum(documents.lengths)} packed tokens"
        )
    added = [name for name in _UNKNOWN_TO_US if others.get(name) is not None]
    if added or not getattr(module, "is_causal", True) or others.get("is_causal") is False:
        what = f"adds {added[0]} to its scores" if added else "is not causal"
        raise TrainingError(f"{kind} {what}, which packed attention does not do; choose another model")


def _attend_each(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    documents: Documents,
    dropout: float,
    scaling: float | None,
    window: int | None,
) -> Tensor:
    """Document by document, on views of the flat row. On the CPU half precision is lifted to float32: faster and exact."""
    given = value.dtype
    wanted = torch.promote_types(query.dtype, torch.float32) if query.device.type == "cpu" else query.dtype
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    parts = []
    with torch.autocast(query.device.type, enabled=False):
        rows = (x.to(wanted).split(documents.lengths, dim=2) for x in (query, key, value))
        for q, k, v in zip(*rows, strict=True):
            band = _band(q.shape[2], window, q.device) if window is not None else None
            parts.append(
                F.scaled_dot_product_attention(
                    q, k, v, attn_mask=band, dropout_p=dropout, is_causal=band is None, scale=scaling
                )
            )
    return torch.cat(parts, dim=2).transpose(1, 2).to(given)


def _band(length: int, window: int, device: torch.device) -> Tensor:
    """bool (length, length): a token sees itself and the ``window`` - 1 before it."""
    age = torch.arange(length, device=device)[:, None] - torch.arange(length, device=device)
    return (age >= 0) & (age < window)


def _attend_varlen(
    query: Tensor, key: Tensor, value: Tensor, documents: Documents, scaling: float | None, window: int | None
) -> Tensor:
    """FlashAttention over cumulative lengths; the keywords that this version of torch knows."""
    varlen, known = _varlen() or (None, frozenset())
    half = _half(query)
    assert varlen is not None and half is not None
    groups = query.shape[1] // key.shape[1]
    if groups > 1 and "enable_gqa" not in known:
        key, value, groups = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1), 1
    q, k, v = (x[0].transpose(0, 1).to(half).contiguous() for x in (query, key, value))
    options: dict[str, Any] = {"enable_gqa": True} if groups > 1 else {}
    options |= {"window_size": (window - 1 if window else -1, 0)} if "window_size" in known else {"is_causal": True}
    if "scale" in known:
        options["scale"] = scaling
    elif scaling is not None:
        q = q * (scaling * q.shape[-1] ** 0.5)
    if window and "window_size" not in known:
        raise TrainingError("this version of torch has no sliding window in varlen_attn; install torch 2.12 or newer")
    longest = max(documents.lengths)
    return varlen(q, k, v, documents.starts, documents.starts, longest, longest, **options)[None]


def _half(query: Tensor) -> torch.dtype | None:
    """The half precision that attention would run in, if any: autocast's, or the tensor's own."""
    dtype = torch.get_autocast_dtype("cuda") if torch.is_autocast_enabled("cuda") else query.dtype
    return dtype if dtype in (torch.bfloat16, torch.float16) else None


@functools.cache
def _varlen() -> tuple[Any, frozenset[str]] | None:
    """torch's varlen attention and the keywords it takes, or None: not in this version, or not on this card."""
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return None
    if not torch.cuda.is_available() or torch.cuda.get_device_capability() < (8, 0):
        return None
    return varlen_attn, frozenset(inspect.signature(varlen_attn).parameters)


def _no_mask(*args: Any, attention_mask: Tensor | None = None, **kwargs: Any) -> None:
    """transformers asks for a mask before the layers run. There is none; and one that was given must not be lost silently."""
    if attention_mask is not None:
        raise TrainingError("a packed row takes no attention mask; pass attention_mask=None and the documents' lengths")


AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, _no_mask)
