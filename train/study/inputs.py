"""What goes into a study: the trainer's settings, the rows it may train on, the held-out rows, the subset of every arm."""

from __future__ import annotations

import hashlib
import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from curate.contract.draws import shuffled
from curate.contract.errors import ContractError, DataError, RequestError
from train.encode import Encoded, Encoder
from train.models import load_model
from train.run import train as train_alone
from train.settings import Settings, base_model, resolve

_NOT_SETTINGS = ("model", "seed", "base_texts", "folder")  # what else `train.run.train` takes


@dataclass(frozen=True)
class Rows:
    """The documents of a file of rows, in the order of their ids, and what is known of each beside them."""

    documents: list[Encoded]
    task: list[str | None]
    n_rows: int
    n_truncated: int

    def __len__(self) -> int:
        return len(self.documents)

    def content(self) -> dict[str, str]:
        """For each id a hash of its document, as the model meets it."""
        return {document.id: _content(document) for document in self.documents}


def trainable(
    rows_path: Path,
    *,
    train: dict[str, Any],
    base_texts: list[str] | None = None,
    seed: int = 0,
    folder: Path | None = None,
) -> set[str]:
    """The ids of the rows that have a response within ``max_length`` tokens. An arm's budget counts examples that train,
    so its subsets are drawn from these. folder: the recipe's. Cost: tokenising the rows once."""
    encoder = encoder_of(base_model(model_of(train), base_texts, seed), settings(train, folder))
    return {document.id for document in read_rows(rows_path, encoder).documents}


def settings(train: dict[str, Any], folder: Path | None) -> Settings:
    """The options of `train.run.train` with its defaults, checked."""
    parameters = inspect.signature(train_alone).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.kind == p.KEYWORD_ONLY and p.name not in _NOT_SETTINGS}
    if unknown := sorted(set(train) - {"model", *defaults}):
        takes = ", ".join(sorted([*defaults, "model"]))
        raise RequestError(f"study: train does not take {', '.join(unknown)}; it takes {takes}")
    given = {name: value for name, value in train.items() if name != "model"}
    return resolve(**{**defaults, **given}, folder=folder)


def model_of(train: dict[str, Any]) -> str:
    if "model" not in train:
        raise RequestError("study: train needs a model: a local folder, a Hub id, or tiny")
    return str(train["model"])


def encoder_of(base: Path, settings: Settings) -> Encoder:
    """Messages to tokens, as the trainer does it for a base model."""
    _, tokenizer = load_model(str(base), device="cpu")
    return Encoder(tokenizer, settings.chat, max_length=settings.max_length, over_length=settings.over_length)


def read_rows(path: Path, encoder: Encoder, *, at_most: int | None = None, seed: int = 0) -> Rows:
    """The rows of a parquet file that have a response; `at_most` of them, drawn by hash."""
    table = pq.read_table(path)
    missing = [column for column in ("id", "messages") if column not in table.column_names]
    if missing:
        raise ContractError(
            f"{path}: the column(s) {', '.join(missing)} are missing; a study reads id, messages and task"
        )
    ids = table["id"].to_pylist()
    order = sorted(range(len(ids)), key=lambda i: ids[i])
    if at_most is not None and at_most < len(ids):
        order = sorted(shuffled(seed, "study.items", ids)[:at_most].tolist(), key=lambda i: ids[i])
    chosen = table.take(order)
    names = chosen["id"].to_pylist()
    documents, counts = encoder.encode_all(zip(names, chosen["messages"].to_pylist(), strict=True))
    if not documents:
        raise DataError(f"{path}: none of its {len(ids):,} rows has a response to learn from or to be scored on")
    tasks = chosen["task"].to_pylist() if "task" in chosen.column_names else [None] * len(order)
    task = dict(zip(names, tasks, strict=True))
    return Rows(documents, [task[document.id] for document in documents], len(ids), counts["truncated"])


def read_subset(subsets: Path, arm: str, draw: int, rows: int, known: set[str]) -> tuple[str, ...]:
    """The ids that an arm picked on a draw, in the order of picking. known: those that have a document."""
    path = subsets / arm / f"{draw}.parquet"
    if not path.is_file():
        raise ContractError(f"{path} is missing; a study needs what every arm picked on every draw")
    table = pq.read_table(path, columns=["id", "rank"]).sort_by("rank")
    ids = tuple(table["id"].to_pylist()[:rows])
    if len(ids) < rows:
        raise DataError(f"{path}: holds {len(ids):,} rows, fewer than the largest budget of {rows:,}")
    if unknown := [i for i in ids if i not in known]:
        raise ContractError(f"{path}: {len(unknown):,} of its rows are not among the rendered rows, first {unknown[0]}")
    return ids


def _content(document: Encoded) -> str:
    total = hashlib.blake2b(digest_size=16)
    for array, dtype in ((document.input_ids, "<i4"), (document.role, "u1"), (document.turn, "<i4")):
        total.update(np.ascontiguousarray(array, dtype).tobytes())
    total.update(str(document.response_bytes).encode())
    return total.hexdigest()
