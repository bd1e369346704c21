"""How many bits a model needs for each document's response.

Bits per byte compares models of different tokenizers; a set's value is Σ bits / Σ bytes, never a mean of means.
The token that ends a turn is not counted: it is format, and learnt within a few steps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import nn

from train.batches import packs
from train.cross_entropy import token_losses
from train.encode import RESPONSE, Encoded
from train.models import check_ready, compute_dtype, head_of, predicting_states


@dataclass(frozen=True)
class Scores:
    """Row-aligned with the documents."""

    bits: np.ndarray  # float64 (n,)
    tokens: np.ndarray  # int64 (n,): RESPONSE tokens
    bytes: np.ndarray  # int64 (n,): UTF-8 bytes of their text


def evaluate(
    model: nn.Module,
    documents: Sequence[Encoded],
    *,
    dtype: Literal["auto", "float32", "bfloat16"] = "auto",
    pack_tokens: int = 8192,
) -> Scores:
    """Bits of each document's RESPONSE tokens given all before them; dropout off, the model left as it was.

    The value of a document does not depend on its neighbours or on the packing beyond the last bits of a float.
    """
    check_ready(model)
    device = next(model.parameters()).device
    compute = compute_dtype(dtype, device)
    weights = [(document.role == RESPONSE).astype(np.float32) for document in documents]
    bits = np.zeros(len(documents))
    was_training = model.training
    model.eval()
    with torch.no_grad():
        for pack in packs(documents, weights, range(len(documents)), pack_tokens, device) if documents else []:
            with torch.autocast(device.type, dtype=torch.bfloat16, enabled=compute == torch.bfloat16):
                states = predicting_states(model, pack)
            states = states.to(compute) if compute == torch.bfloat16 else states
            losses = token_losses(states, head_of(model), pack.targets).double().cpu().numpy()
            np.add.at(bits, pack.owners, losses / math.log(2))
    model.train(was_training)
    tokens = np.array([int(weight[1:].sum()) for weight in weights], np.int64)
    return Scores(bits, tokens, np.array([document.response_bytes for document in documents], np.int64))
