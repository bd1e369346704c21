"""How many bits a model needs for each document's response.

Bits per byte compares models of different tokenizers; a set's value is Σ bits / Σ bytes, never a mean of means.
The token that ends a turn is not counted: it is format, and learnt within a few steps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow.parquet as pq
import torch
from torch import nn

from curate.contract.columns import ID, MESSAGES, TASK
from curate.contract.errors import ContractError, DataError, RequestError
from curate.contract.progress import track
from train.batches import packs
from train.cross_entropy import token_losses
from train.encode import RESPONSE, Encoded, Encoder
from train.models import check_ready, compute_dtype, head_of, load_model, predicting_states


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

    The value of a document does not depend on its neighbours or on the packing beyond the last bits of a float. Cost: one
    forward pass a document, but none for one whose text before its last token begins another: candidates of one token, and
    the right answer among its candidates, are read off the pass of the longest.
    """
    check_ready(model)
    device = next(model.parameters()).device
    compute = compute_dtype(dtype, device)
    at = [np.flatnonzero(document.role[1:] == RESPONSE) for document in documents]  # what predicts a target
    readers = _readers(documents, at)
    weights = [np.zeros(len(document.input_ids), np.float32) for document in documents]
    guests: dict[int, list[int]] = {}
    for i, reader in enumerate(readers):
        weights[reader][at[i] + 1] = 1
        guests.setdefault(reader, []).append(i)
    bits = np.zeros(len(documents))
    was_training = model.training
    model.eval()
    with torch.no_grad():
        for pack in packs(documents, weights, sorted(guests), pack_tokens, device) if documents else []:
            states = predicting_states(model, pack, compute)
            places = pack.positions[0][pack.predictors].tolist()
            state = {key: i for i, key in enumerate(zip(pack.owners.tolist(), places, strict=True))}
            here = [i for reader in dict.fromkeys(pack.owners.tolist()) for i in guests[reader]]
            wanted = [(i, place) for i in here for place in at[i].tolist()]
            rows = torch.tensor([state[readers[i], place] for i, place in wanted], dtype=torch.int64, device=device)
            targets = torch.tensor([int(documents[i].input_ids[place + 1]) for i, place in wanted], device=device)
            losses = token_losses(states[rows], head_of(model), targets.long()).double().cpu().numpy()
            np.add.at(bits, np.array([i for i, _ in wanted], np.int64), losses / math.log(2))
    model.train(was_training)
    tokens = np.array([len(places) for places in at], np.int64)
    return Scores(bits, tokens, np.array([document.response_bytes for document in documents], np.int64))


def _readers(documents: Sequence[Encoded], at: Sequence[np.ndarray]) -> list[int]:
    """For each document the one whose forward pass reads all that its own would have to: mostly itself. at: the positions
    that predict its targets."""
    read = [
        document.input_ids[: places[-1] + 1].tobytes() if len(places) else b""
        for document, places in zip(documents, at, strict=True)
    ]
    order = sorted(range(len(read)), key=read.__getitem__)
    readers = list(range(len(read)))
    for one, following in zip(order[-2::-1], order[:0:-1], strict=True):  # what begins another stands right before one
        if read[following].startswith(read[one]):
            readers[one] = readers[following]
    return readers


def table(model: str, rows: Path) -> list[dict[str, Any]]:
    """Bits per byte of the responses in a rendered table under a model, in all and by task: what ``tamis eval`` prints.

    rows: a parquet file, or a folder of them (a release), with id, messages and perhaps task. Rows longer than the
    model's context are cut; the column truncated counts them.
    """
    read = read_rows(rows)
    documents, scores = _scored(model, [(row[ID], row[MESSAGES]) for row in read])
    if not documents:
        raise DataError(f"{rows}: none of its {len(read):,} rows has a response to score")
    tasks = {row[ID]: row.get(TASK) for row in read}
    task = np.array([str(tasks[document.id]) for document in documents])
    cut = np.array([document.truncated for document in documents])
    groups = [("all", np.ones(len(documents), bool))]
    groups += [(name, task == name) for name in sorted(set(task.tolist()))] if TASK in read[0] else []
    return [
        {
            "task": name,
            "rows": int(of.sum()),
            "truncated": int(cut[of].sum()),
            "tokens": int(scores.tokens[of].sum()),
            "bytes": int(scores.bytes[of].sum()),
            "bits_per_byte": float(scores.bits[of].sum() / scores.bytes[of].sum()),
        }
        for name, of in groups
    ]


def score(model: str, rows: Sequence[tuple[str, list[dict[str, Any]]]]) -> tuple[list[str], Scores]:
    """(id, messages) each -> the ids of those that have a response within the model's context, and their scores."""
    documents, scores = _scored(model, rows)
    return [document.id for document in documents], scores


def read_rows(rows: Path) -> list[dict[str, Any]]:
    """The rows of a parquet file, or of a folder of them. Raises RequestError, ContractError."""
    rows = Path(rows) / "kept" if (Path(rows) / "kept").is_dir() else Path(rows)  # a stage's folder
    paths = sorted(rows.rglob("*.parquet")) if rows.is_dir() else [rows]
    if not paths or not paths[0].is_file() or paths[0].suffix != ".parquet":
        raise RequestError(f"{rows}: no parquet file there; give a rendered table or a release folder")
    read = [row for path in paths for row in pq.read_table(path).to_pylist()]
    if not read or ID not in read[0] or MESSAGES not in read[0]:
        raise ContractError(f"{rows}: needs rows with the columns id and messages; render the table first")
    return read


def _scored(model: str, rows: Sequence[tuple[str, list[dict[str, Any]]]]) -> tuple[list[Encoded], Scores]:
    loaded, tokenizer = load_model(model)
    context = getattr(loaded.config.get_text_config(), "max_position_embeddings", None) or 4096
    documents, _ = Encoder(tokenizer, max_length=context, over_length="keep").encode_all(rows)
    parts = [evaluate(loaded, documents[at : at + 256]) for at in track(range(0, len(documents), 256), "score")]
    columns = ([getattr(part, name) for part in parts] for name in ("bits", "tokens", "bytes"))
    return documents, Scores(*(np.concatenate(column) if parts else np.zeros(0) for column in columns))
