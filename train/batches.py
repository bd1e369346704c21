"""From encoded documents to the tensors of a step: which documents, in what order, packed how.

The order is a function of (seed, epoch, row id) and nothing else, so the cursor of a run is its step number: nothing is
stored to resume, and a row that joins or leaves does not shuffle the others.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from curate.contract import draws
from train.attention import Documents
from train.encode import Encoded
from train.packing import best_fit

Objective = Callable[[np.ndarray, np.ndarray], np.ndarray]  # (role u8 (T,), turn i32 (T,)) -> weight f32 (T,)


class Stream:
    """Documents without end: epoch after epoch, each in an order of its own; step s takes ``examples`` of them.

    ``ids`` may repeat: the second copy of a row is drawn apart from the first.
    """

    def __init__(self, ids: Sequence[str], examples: int, seed: int):
        self.examples, self.seed = examples, seed
        seen: dict[str, int] = {}
        self.keys = []
        for row in ids:
            copy = seen[row] = seen.get(row, -1) + 1
            self.keys.append(f"{row}\0{copy}" if copy else row)
        self.epoch = functools.lru_cache(maxsize=2)(self._epoch)

    def _epoch(self, number: int) -> np.ndarray:
        """The order of one epoch: int64 (n,)."""
        return draws.shuffled(self.seed, f"train.order/{number}", self.keys)

    def step(self, number: int) -> list[int]:
        """Positions of the documents of step ``number``, counted from 0."""
        n = len(self.keys)
        places = range(number * self.examples, (number + 1) * self.examples)
        return [int(self.epoch(place // n)[place % n]) for place in places]


@dataclass(frozen=True)
class Pack:
    """One row of T tokens: documents behind one another, and the n positions that predict a target of weight > 0."""

    input_ids: Tensor  # int64 (1, T)
    positions: Tensor  # int64 (1, T), from 0 in each document
    documents: Documents
    predictors: Tensor  # int64 (n,): the position before the target, in the same document
    targets: Tensor  # int64 (n,): token ids
    weights: Tensor  # float32 (n,)
    owners: np.ndarray  # int64 (n,): which of the given documents each target belongs to

    @property
    def tokens(self) -> int:
        return self.input_ids.shape[1]


def packs(
    documents: Sequence[Encoded],
    weights: Sequence[np.ndarray],
    rows: Sequence[int],
    capacity: int,
    device: torch.device | str = "cpu",
) -> list[Pack]:
    """The documents at ``rows`` in as few packs of ``capacity`` tokens as best fit finds. A longer one gets its own pack."""
    lengths = [len(documents[row].input_ids) for row in rows]
    plan = best_fit(lengths, max(capacity, *lengths))
    return [_pack(documents, weights, [rows[i] for i in members], device) for members in plan]


def _pack(
    documents: Sequence[Encoded], weights: Sequence[np.ndarray], rows: list[int], device: torch.device | str
) -> Pack:
    lengths = [len(documents[row].input_ids) for row in rows]
    ids = np.concatenate([documents[row].input_ids for row in rows]).astype(np.int64)
    weight = np.concatenate([weights[row] for row in rows])
    starts = np.cumsum([0, *lengths[:-1]])
    weight[starts] = 0  # nothing stands before the first token of a document
    at = np.flatnonzero(weight)

    def tensor(array: np.ndarray) -> Tensor:
        return torch.from_numpy(array).to(device, non_blocking=True)

    return Pack(
        input_ids=tensor(ids[None]),
        positions=tensor((np.arange(len(ids)) - np.repeat(starts, lengths))[None]),
        documents=Documents.of(lengths, device),
        predictors=tensor(at - 1),
        targets=tensor(ids[at]),
        weights=tensor(weight[at]),
        owners=np.repeat(rows, lengths)[at],
    )
