"""Score: a number a row, in a column `score_NAME`; every row stays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from curate.contract.code import missing_packages
from curate.contract.errors import DataError
from curate.rows.table import text_of
from curate.run.job import Job
from curate.run.stage import Before, Step

if TYPE_CHECKING:
    from curate.run.ask import Ask

METHODS = "score"
EXAMPLE = """\
steps:
  - score: length
  - score: {length: {unit: characters, text: prompt}}
    as: question
    where: {source: [alpaca]}
  - select: {top_score: {score: score_length, budget: 1000}}"""


def bind(given: Any, ask: Ask) -> Step | None:
    return ask.step(METHODS, given)


def adds(step: Step) -> tuple[str, ...]:
    return (_column(step),)


def reads(step: Step, before: Before) -> dict[str, Any]:
    """What the method's `identity`, if it has one, says that its scores depend on: a tokenizer, a model."""
    identity = step.methods[0].beside("identity")
    if identity is None:
        return {}
    return identity(**step.methods[0].call_options(step.options, data=before.recipe.data, folder=before.recipe.folder))


def ready(step: Step, before: Before) -> list[str]:
    return missing_packages(f"score {step.method}", [step.methods[0].path])


def compute(job: Job, step: Step) -> dict[str, Any]:
    whole = job.light()
    mine = np.flatnonzero(job.touched(whole).to_numpy())
    scores = np.full(whole.height, np.nan, np.float32)
    scores[mine] = _scores(job, step, text_of(whole[mine.tolist()], step.text or "response"))
    job.add(pl.Series(_column(step), scores).fill_nan(None))  # no score is null on disk, as everywhere
    there = scores[~np.isnan(scores)].astype(np.float64)
    return {
        "mean": float(there.mean()) if there.size else None,
        "min": float(there.min()) if there.size else None,
        "max": float(there.max()) if there.size else None,
        "missing": int(mine.size - there.size),
    }


def says(step: Step, facts: dict[str, Any]) -> list[str]:
    if facts["mean"] is None:
        return [f"{_column(step)}: no row has a score"]
    mean, least, most = (f"{facts[word]:,.4g}" for word in ("mean", "min", "max"))
    without = f"; rows without a score: {facts['missing']:,}" if facts["missing"] else ""
    return [f"{_column(step)}: {mean} on average, {least} the least, {most} the most{without}"]


def _column(step: Step) -> str:
    """Named by the step's `as:`, else by its method."""
    return f"score_{step.method if step.name == step.kind else step.name}"


def _scores(job: Job, step: Step, texts: pl.Series) -> np.ndarray:
    scores = step.methods[0].function()(texts, **job.call_options(step.options))
    if not isinstance(scores, np.ndarray) or scores.shape != (len(texts),):
        there = f"an array of shape {scores.shape}" if isinstance(scores, np.ndarray) else type(scores).__name__
        raise DataError(
            f"score {step.method} gave {there}, and should give a numpy array of {len(texts):,} numbers, one a text"
        )
    return scores
