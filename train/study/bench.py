"""One training run of a study: what decides its result, and how it is computed.

A run uses one thread and its bytes depend on nothing but its key, so two cores train two runs at once and any number of
workers gives the same results. Training several runs in one program could not be worth it: of the 160 ms of a step of 3,000
tokens on one core, 13 ms do not depend on the tokens, which is all that runs could share.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import torch

from curate.contract.errors import TrainingError
from curate.contract.files import digest
from train.encode import Encoded
from train.models import load_model
from train.scoring.perplexity import evaluate
from train.tuned import tuned

if TYPE_CHECKING:
    from train.settings import Settings


@dataclass(frozen=True)
class Run:
    """One training run. about: all that decides its result, so that runs that agree in it have the same."""

    arm: str
    budget: int
    draw: int
    seed: int
    ids: tuple[str, ...]  # in the order of picking; none: the base model as it is
    run_seed: int
    steps: int
    about: dict[str, Any]

    @property
    def key(self) -> str:
        return digest(self.about)

    def __str__(self) -> str:
        return f"arm {self.arm}, budget {self.budget}, draw {self.draw}, seed {self.seed}"


@dataclass(frozen=True)
class Bench:
    """All that a process needs to train any run of the study. base: the folder of the base model."""

    base: Path
    documents: list[Encoded]
    items: list[Encoded]
    settings: Settings


@dataclass(frozen=True)
class Result:
    """facts: what the run was given and took, the same every time but for its `seconds`. items: item, bits, bytes, tokens."""

    facts: dict[str, Any]
    items: pa.Table


class Worker:
    """One process's base model and documents. `count` is told of every step."""

    def __init__(self, bench: Bench, model: Any, count: Callable[[int], None]):
        self.bench, self.model, self.count = bench, model, count
        self.documents = {document.id: document for document in bench.documents}

    @classmethod
    def started(cls, bench: Bench, count: Callable[[int], None]) -> Worker:
        """Loads the base model. From here on the process uses one thread, so that no bytes depend on the number of cores."""
        torch.set_num_threads(1)
        model, _ = load_model(str(bench.base))
        return cls(bench, model, count)

    def train(self, run: Run) -> Result:
        """Trains a copy of the base model on the run's rows and scores it; without rows it scores the base model itself."""
        began = time.perf_counter()
        model = copy.deepcopy(self.model)
        facts: dict[str, Any] = {"examples": len(run.ids), "seed": run.run_seed}
        if run.ids:
            model, trained = self._tuned(model, run)
            facts |= trained
        scores = evaluate(model, self.bench.items, dtype=self.bench.settings.dtype)
        facts |= {"parameters": sum(p.numel() for p in model.parameters()), "seconds": time.perf_counter() - began}
        names = [document.id for document in self.bench.items]
        columns = {"item": names, "bits": scores.bits, "bytes": scores.bytes, "tokens": scores.tokens}
        return Result(facts, pa.table(columns))

    def _tuned(self, model: Any, run: Run) -> tuple[Any, dict[str, Any]]:
        documents = [self.documents[id] for id in run.ids]
        settings = self.bench.settings
        try:
            model, report = tuned(
                model,
                documents,
                settings,
                steps=run.steps,
                seed=run.run_seed,
                on_step=lambda step, state: self.count(1),
            )
        except TrainingError as error:
            raise TrainingError(f"study, {run}: {error}") from error
        return model, {
            "steps": report.steps,
            "tokens": report.tokens,
            "targets": report.targets,
            "dtype": report.dtype,
            "first_loss": report.losses[0],
            "last_loss": report.losses[-1],
            "response_bytes": sum(document.response_bytes for document in documents) / len(documents),
        }
