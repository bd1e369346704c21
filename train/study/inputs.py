"""What goes into a study: its conditions, the trainer's settings, the rows it may train on, the held-out rows, the subsets.

A *condition* is an arm with one level of every factor: what the results call an arm.
"""

from __future__ import annotations

import hashlib
import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from curate.contract.draws import shuffled
from curate.contract.errors import ContractError, DataError, RequestError
from curate.contract.files import digest, read_json
from train.encode import Encoded, Encoder
from train.models import load_model
from train.run import train as train_alone
from train.settings import Settings, base_model, resolve

LONG = 100  # characters of a response that two rows do not share by chance, as for the holdout
_SET = "in."
_NOT_SETTINGS = ("model", "seed", "base_texts", "folder")  # what else `train.run.train` takes


@dataclass(frozen=True)
class Condition:
    """levels: of each factor. train: options that override the study's. rows: the file of its rendered rows. subsets: the
    folder of what it picked on each draw. sets: the evaluation sets that it is compared in."""

    label: str
    arm: str
    levels: dict[str, str]
    train: dict[str, Any]
    rows: Path
    subsets: Path
    budgets: list[int]
    sets: list[str]


@dataclass(frozen=True)
class Rows:
    """The documents of a file of rows, in the order of their ids, and what is known of each beside them. sets: the group of
    each in every evaluation set, None where it is not in it. said: a hash of its response, where that is long enough not to
    be another's by chance, else of all its messages."""

    documents: list[Encoded]
    task: list[str | None]
    sets: dict[str, list[str | None]]
    said: list[str]
    n_rows: int
    n_truncated: int

    def __len__(self) -> int:
        return len(self.documents)

    def content(self) -> dict[str, str]:
        """For each id a hash of its document, as the model meets it."""
        return {document.id: _content(document) for document in self.documents}


def read_conditions(folder: Path) -> list[Condition]:
    """The conditions of a study, in their order. folder: what the recipe's arms left, with conditions.json."""
    path = folder / "conditions.json"
    if not path.is_file():
        raise ContractError(f"{path} is missing; a study reads there which arms it trains")
    return [
        Condition(**{**one, "rows": folder / one["rows"], "subsets": folder / one["subsets"]})
        for one in read_json(path)["conditions"]
    ]


def lengths(
    rows_path: Path,
    *,
    train: dict[str, Any],
    base_texts: list[str] | None = None,
    seed: int = 0,
    folder: Path | None = None,
) -> dict[str, tuple[int, int]]:
    """For each row that has a response within ``max_length`` tokens: its tokens, and those of them that the objective learns
    from. An arm's budget counts examples that train, so its subsets are drawn from these. folder: the recipe's. Cost:
    tokenising the rows once."""
    asked = settings(train, folder)
    rows = read_rows(rows_path, encoder_of(base_model(model_of(train), base_texts, seed), asked))
    return token_counts(rows.documents, asked)


def token_counts(documents: list[Encoded], settings: Settings) -> dict[str, tuple[int, int]]:
    """For each document its tokens, and those that the objective gives a weight."""
    weights = settings.objective.function(0)
    return {d.id: (len(d.input_ids), int((weights(d.role, d.turn)[1:] > 0).sum())) for d in documents}


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
    """The rows of a parquet file that have a response; of every evaluation set `at_most`, drawn by hash."""
    table = pq.read_table(path)
    missing = [column for column in ("id", "messages") if column not in table.column_names]
    if missing:
        raise ContractError(
            f"{path}: the column(s) {', '.join(missing)} are missing; a study reads id, messages and task"
        )
    table = table.sort_by("id")
    if at_most is not None:
        table = _at_most(table, at_most, seed)
    ids, messages = table["id"].to_pylist(), table["messages"].to_pylist()
    documents, counts = encoder.encode_all(zip(ids, messages, strict=True))
    if not documents:
        raise DataError(f"{path}: none of its {len(ids):,} rows has a response to learn from or to be scored on")
    place = {id: i for i, id in enumerate(ids)}
    chosen = [place[document.id] for document in documents]
    table = table.take(chosen)
    return Rows(
        documents,
        table["task"].to_pylist() if "task" in table.column_names else [None] * len(chosen),
        {name.removeprefix(_SET): table[name].to_pylist() for name in table.column_names if name.startswith(_SET)},
        [_said(messages[i]) for i in chosen],
        len(ids),
        counts["truncated"],
    )


def _at_most(table: pa.Table, at_most: int, seed: int) -> pa.Table:
    """Of each evaluation set so many rows, the same in every set that has them; a row that is then in none is left out."""
    ids = table["id"].to_pylist()
    order = shuffled(seed, "study.items", ids).tolist()
    names = [name for name in table.column_names if name.startswith(_SET)]
    if not names:
        return table.take(sorted(order[:at_most]))
    kept: set[int] = set()
    for name in names:
        groups = table[name].to_pylist()
        chosen = set([i for i in order if groups[i] is not None][:at_most])
        column = pa.array([g if i in chosen else None for i, g in enumerate(groups)], pa.string())
        table = table.set_column(table.column_names.index(name), name, column)
        kept |= chosen
    return table.take(sorted(kept))


def _said(messages: list[dict[str, Any]]) -> str:
    texts = [" ".join(str(message["content"] or "").casefold().split()) for message in messages]
    if not texts:
        return ""
    return digest(texts[-1] if len(texts[-1]) >= LONG else texts)


def read_subset(folder: Path, draw: int, known: set[str]) -> tuple[str, ...]:
    """All ids that an arm picked on a draw, in the order of picking. known: those that have a document."""
    path = folder / f"{draw}.parquet"
    if not path.is_file():
        raise ContractError(f"{path} is missing; a study needs what every arm picked on every draw")
    table = pq.read_table(path, columns=["id", "rank"]).sort_by("rank")
    ids = tuple(table["id"].to_pylist())
    if unknown := [i for i in ids if i not in known]:
        raise ContractError(f"{path}: {len(unknown):,} of its rows are not among the rendered rows, first {unknown[0]}")
    return ids


def _content(document: Encoded) -> str:
    total = hashlib.blake2b(digest_size=16)
    for array, dtype in ((document.input_ids, "<i4"), (document.role, "u1"), (document.turn, "<i4")):
        total.update(np.ascontiguousarray(array, dtype).tobytes())
    total.update(str(document.response_bytes).encode())
    return total.hexdigest()
