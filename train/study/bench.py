"""One training run of a study: what decides its result, and how it is computed.

A run uses one thread and its bytes depend on nothing but its key, so two cores train two runs at once and any number of
workers gives the same results. Training several runs in one program could not be worth it: of the 160 ms of a step of 3,000
tokens on one core, 13 ms do not depend on the tokens, which is all that runs could share.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import torch

from curate.contract.errors import DivergedError, TrainingError
from curate.contract.files import digest
from train.encode import Encoded
from train.fit import Step
from train.models import load_model
from train.scoring.perplexity import evaluate
from train.tuned import tuned

if TYPE_CHECKING:
    from train.settings import Settings


@dataclass(frozen=True)
class Run:
    """One training run. bench: its place among the study's. about: all that decides its result, so that runs that agree in it
    have the same."""

    arm: str
    budget: int
    draw: int
    seed: int
    ids: tuple[str, ...]  # in the order of picking; none: the base model as it is
    run_seed: int
    steps: int
    bench: int
    about: dict[str, Any]

    @property
    def key(self) -> str:
        return digest(self.about)

    def __str__(self) -> str:
        return f"arm {self.arm}, budget {self.budget}, draw {self.draw}, seed {self.seed}"


@dataclass(frozen=True)
class Bench:
    """All that a process needs to train runs of one setting. base: the folder of the base model."""

    base: Path
    documents: list[Encoded]
    items: list[Encoded]
    settings: Settings


@dataclass(frozen=True)
class Result:
    """facts: what the run was given and took, the same every time but for its `seconds`; `diverged`, where it did, says where.
    items: item, bits, bytes, tokens."""

    facts: dict[str, Any]
    items: pa.Table


class Worker:
    """One process, which holds one base model at a time. `count` is told of every step."""

    def __init__(self, benches: list[Bench], count: Callable[[int], None]):
        self.benches, self.count = benches, count
        self.documents = [{document.id: document for document in bench.documents} for bench in benches]
        self.base: Path | None = None
        self.model: Any = None

    @classmethod
    def started(cls, benches: list[Bench], count: Callable[[int], None]) -> Worker:
        """From here on the process uses one thread, so that no bytes depend on the number of cores."""
        torch.set_num_threads(1)
        return cls(benches, count)

    def train(self, run: Run) -> Result:
        """Trains a copy of the base model on the run's rows and scores it; without rows it scores the base model itself. A run
        that diverges has the scores of a guess among all tokens."""
        began = time.perf_counter()
        bench = self.benches[run.bench]
        model = copy.deepcopy(self.loaded(bench.base))
        facts: dict[str, Any] = {"examples": len(run.ids), "seed": run.run_seed, "diverged": None}
        if run.ids:
            model, trained = self._tuned(model, run, bench)
            facts |= trained
        scores = evaluate(model, bench.items, dtype=bench.settings.dtype)
        bits = np.asarray(scores.bits, dtype=np.float64)
        if facts["diverged"] is None and not np.isfinite(bits).all():
            facts["diverged"] = "the scores are not finite"
        if facts["diverged"] is not None:
            bits = np.asarray(scores.tokens, dtype=np.float64) * math.log2(self.model.config.vocab_size)
        facts |= {"parameters": sum(p.numel() for p in model.parameters()), "seconds": time.perf_counter() - began}
        names = [document.id for document in bench.items]
        columns = {"item": names, "bits": bits, "bytes": scores.bytes, "tokens": scores.tokens}
        return Result(facts, pa.table(columns))

    def loaded(self, base: Path) -> Any:
        """The base model, which the caller copies before it trains."""
        if base != self.base:
            self.model = None  # before the next one is loaded
            self.model, _ = load_model(str(base))
            self.base = base
        return self.model

    def _tuned(self, model: Any, run: Run, bench: Bench) -> tuple[Any, dict[str, Any]]:
        documents = [self.documents[run.bench][id] for id in run.ids]
        losses: list[float] = []
        given = {"tokens": 0, "targets": 0}

        def on_step(step: Step, state: object) -> None:
            losses.append(step.loss)
            given["tokens"] += step.tokens
            given["targets"] += step.targets
            self.count(1)

        facts: dict[str, Any] = {}
        try:
            model, _ = tuned(model, documents, bench.settings, steps=run.steps, seed=run.run_seed, on_step=on_step)
        except DivergedError as error:
            facts["diverged"] = str(error)
            self.count(run.steps - len(losses))
        except TrainingError as error:
            raise TrainingError(f"study, {run}: {error}") from error
        return model, {
            **facts,
            **given,
            "steps": run.steps,
            "first_loss": losses[0] if losses else None,
            "last_loss": losses[-1] if losses else None,
            "response_bytes": sum(document.response_bytes for document in documents) / len(documents),
        }
