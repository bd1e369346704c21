"""The training loop.

One optimiser step takes ``examples`` documents from a stream that depends on (seed, epoch, row id) alone, packs them,
sums weight · loss over the packs and divides by the sum of weights once. So the packing, the size of a pack and the
number of packs change nothing but speed, and a step's gradient is that of the mean over its supervised tokens.

Weights, gradients and moments are float32; the large products run in ``dtype``. Every random number of a step is drawn
from (seed, step), so the state of a run is its weights, its moments and its step number.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from curate.contract.draws import draw
from curate.contract.errors import DivergedError, TrainingError
from train.batches import Objective, Pack, Stream, packs
from train.cross_entropy import weighted_loss
from train.encode import Encoded
from train.heap import keep_freed_memory
from train.models import check_ready, compute_dtype, head_of, predicting_states

SCHEDULES: dict[str, Callable[[float], float]] = {  # share of the steps that is left -> share of the learning rate
    "linear": lambda left: left,
    "cosine": lambda left: 0.5 - 0.5 * math.cos(math.pi * left),
    "constant": lambda left: 1.0,
}


@dataclass(frozen=True)
class Step:
    """What one optimiser step did."""

    step: int  # from 1
    epoch: float
    loss: float  # nats a supervised token, weighted
    learning_rate: float
    gradient_norm: float  # before clipping
    tokens: int
    targets: int


@dataclass
class State:
    """All that a run needs to go on: tensors by name, and how far it is."""

    step: int
    tensors: dict[str, Tensor]


@dataclass
class FitReport:
    steps: int
    examples: int
    epochs: float
    dtype: str
    tokens: int = 0  # that went through the model in this call
    targets: int = 0
    losses: list[float] = field(default_factory=list)  # a step of this call
    seconds: float = 0.0


def steps_of(rows: int, *, epochs: float, examples: int, at_least: int | None = None) -> int:
    """Optimiser steps of a run: those that the epochs take, of ``examples`` rows each, and never fewer than ``at_least``."""
    return max(at_least or 1, math.ceil(epochs * rows / examples))


def fit(
    model: nn.Module,
    documents: Sequence[Encoded],
    *,
    weights: Objective,
    steps: int,
    examples: int = 32,
    learning_rate: float = 2e-5,
    schedule: Literal["linear", "cosine", "constant"] = "linear",
    warmup: float = 0.03,
    weight_decay: float = 0.0,
    betas: tuple[float, float] = (0.9, 0.95),
    clip: float = 1.0,
    seed: int = 0,
    dtype: Literal["auto", "float32", "bfloat16"] = "auto",
    pack_tokens: int = 4096,
    start: State | None = None,
    on_step: Callable[[Step, Callable[[], State]], None] | None = None,
) -> FitReport:
    """Trains the parameters of ``model`` that require a gradient, in place, for ``steps`` optimiser steps in all.

    model: prepared (train.models). weights: an objective. warmup: share of the steps. clip: largest gradient norm.
    start: go on from there. on_step: called after every step with what it did and a function that gives the state then.
    Raises TrainingError where nothing is supervised and where no parameter trains, and DivergedError where a loss or gradient
    is not finite; the weights are then those before that step.
    """
    check_ready(model)
    if schedule not in SCHEDULES:
        raise TrainingError(f"schedule {schedule!r} is not one of {', '.join(SCHEDULES)}")
    keep_freed_memory()
    device = next(model.parameters()).device
    compute = compute_dtype(dtype, device)
    document_weights = _target_weights(documents, weights)
    stream = Stream([document.id for document in documents], examples, seed)
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if not trained:
        raise TrainingError("no parameter of the model is set to train; the tuning method must leave some that are")
    optimizer = _optimizer(trained, learning_rate, betas, weight_decay)
    if start is not None:
        _restore(start, trained, optimizer)
    report = FitReport(steps, steps * examples, steps * examples / len(documents), str(compute).removeprefix("torch."))
    began = time.perf_counter()

    with _training(model, device):
        for step in range(start.step if start else 0, steps):
            rows = stream.step(step)
            batch = packs(documents, document_weights, rows, pack_tokens, device)
            torch.manual_seed(draw(seed, "train.dropout", str(step)))
            loss = _backward(model, batch, compute)
            norm = float(nn.utils.clip_grad_norm_(trained.values(), clip))
            if not (math.isfinite(loss) and math.isfinite(norm)):
                _stop(loss, step, steps, [documents[row].id for row in rows])
            rate = learning_rate * _share(step, steps, schedule, warmup)
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()
            optimizer.zero_grad()

            tokens, targets = sum(pack.tokens for pack in batch), sum(len(pack.targets) for pack in batch)
            report.losses.append(loss)
            report.tokens += tokens
            report.targets += targets
            report.seconds = time.perf_counter() - began
            if on_step:
                epoch = (step + 1) * examples / len(documents)
                done = Step(step + 1, epoch, loss, rate, norm, tokens, targets)
                on_step(done, lambda at=step + 1: _state(at, trained, optimizer))
    return report


def _backward(model: nn.Module, batch: list[Pack], compute: torch.dtype) -> float:
    """Gradients of Σ weight · loss / Σ weight over all packs of a step; gives that loss."""
    weight = sum(float(pack.weights.double().sum()) for pack in batch)
    total = 0.0
    for pack in batch:
        if len(pack.targets) == 0:
            continue
        states = predicting_states(model, pack, compute)
        loss = weighted_loss(states, head_of(model), pack.targets, pack.weights) / weight
        loss.backward()
        total += float(loss.detach())
    return total


def _target_weights(documents: Sequence[Encoded], weights: Objective) -> list[np.ndarray]:
    """The objective's weight of every token of every document."""
    if not documents:
        raise TrainingError("there are no documents to train on")
    out = [weights(document.role, document.turn) for document in documents]
    empty = [document.id for document, weight in zip(documents, out, strict=True) if not weight[1:].any()]
    if len(empty) == len(out):
        raise TrainingError(
            f"the objective gives no token of any of the {len(out):,} documents a weight, first row {empty[0]!r}"
        )
    return out


def _share(step: int, steps: int, schedule: str, warmup: float) -> float:
    """The learning rate of a step as a share of the largest: a linear climb, then the schedule down to 0 at the end."""
    climb = math.ceil(warmup * steps)
    if step < climb:
        return (step + 1) / climb
    left = (steps - step) / max(steps - climb, 1)
    return SCHEDULES[schedule](left)


def _optimizer(
    trained: dict[str, nn.Parameter], learning_rate: float, betas: tuple[float, float], weight_decay: float
) -> torch.optim.AdamW:
    """AdamW (Loshchilov and Hutter 2017); vectors (norms, biases) are not decayed."""
    matrices = [p for p in trained.values() if p.ndim >= 2]
    vectors = [p for p in trained.values() if p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW([g for g in groups if g["params"]], lr=learning_rate, betas=betas, fused=True)


def _state(step: int, trained: dict[str, nn.Parameter], optimizer: torch.optim.AdamW) -> State:
    tensors = {f"weight.{name}": p.detach() for name, p in trained.items()}
    for name, p in trained.items():
        tensors |= {f"{moment}.{name}": value for moment, value in optimizer.state[p].items()}
    return State(step, tensors)


@torch.no_grad()
def _restore(state: State, trained: dict[str, nn.Parameter], optimizer: torch.optim.AdamW) -> None:
    for name, p in trained.items():
        p.copy_(state.tensors[f"weight.{name}"])
        for moment in ("step", "exp_avg", "exp_avg_sq"):
            if (value := state.tensors.get(f"{moment}.{name}")) is not None:  # absent where no gradient has come yet
                optimizer.state[p][moment] = value.to(p.device, copy=True)


@contextmanager
def _training(model: nn.Module, device: torch.device) -> Iterator[None]:
    """Training mode, deterministic kernels, the caller's random state untouched; all as before on the way out."""
    was_training, deterministic = model.training, torch.are_deterministic_algorithms_enabled()
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        model.train()
        if device.type == "cuda":
            torch.use_deterministic_algorithms(True, warn_only=True)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(deterministic)
            model.train(was_training)
            model.zero_grad()


def _stop(loss: float, step: int, steps: int, rows: list[str]) -> None:
    what = f"the loss is {loss}" if not math.isfinite(loss) else "a gradient is not finite"
    raise DivergedError(
        f"training stopped at step {step + 1} of {steps}: {what}; the rows in its batch are {', '.join(rows)}; "
        "look at them with tamis show, or lower learning_rate"
    )
