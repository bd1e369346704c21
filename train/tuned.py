"""A model tuned on documents as settings say: what a run of the trainer and a run of a study have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from train.encode import Encoded
from train.fit import FitReport, fit

if TYPE_CHECKING:
    from train.settings import Settings


def tuned(
    model: Any, documents: Sequence[Encoded], settings: Settings, *, steps: int, seed: int, **watch: Any
) -> tuple[Any, FitReport]:
    """(the tuned model, what was done). model: prepared; its weights change. watch: ``start`` and ``on_step`` of train.fit."""
    model = settings.tuning.function(seed)(model)
    report = fit(
        model,
        documents,
        weights=settings.objective.function(seed),
        steps=steps,
        seed=seed,
        examples=settings.examples,
        learning_rate=settings.learning_rate,
        schedule=settings.schedule,
        warmup=settings.warmup,
        weight_decay=settings.weight_decay,
        dtype=settings.dtype,
        pack_tokens=settings.pack_tokens,
        **watch,
    )
    return model, report
