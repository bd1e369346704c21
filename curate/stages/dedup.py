"""Dedup: of rows that say the same, the first stays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from curate.contract import columns
from curate.rows.table import text_of
from curate.run.job import Job
from curate.run.stage import Step

if TYPE_CHECKING:
    from curate.run.ask import Ask

METHODS = "dedup"
EXAMPLE = """\
steps:
  - dedup: exact"""


def bind(given: Any, ask: Ask) -> Step | None:
    return ask.step(METHODS, given)


def compute(job: Job, step: Step) -> dict[str, Any]:
    whole = job.light()
    mine = np.flatnonzero(job.touched(whole).to_numpy())
    texts = text_of(whole[mine.tolist()], step.text or "record")
    duplicates = step.methods[0].function()(texts, **job.call_options(step.options))
    of, similarity = np.arange(whole.height), np.ones(whole.height, np.float32)
    of[mine], similarity[mine] = mine[duplicates.of], duplicates.similarity
    repeated = of != np.arange(whole.height)
    reason = pl.lit(f"{step.method}: repeats another row")
    job.remove(
        pl.select(pl.when(pl.Series("repeated", repeated)).then(reason).otherwise(None)).to_series(),
        **{
            columns.DUPLICATE_OF: whole[columns.ID].gather(of.tolist()),
            columns.SIMILARITY: pl.Series(similarity),
        },
    )
    return {"groups": int(np.unique(of[repeated]).size)}


def claims(step: Step, facts: dict[str, Any]) -> list[str]:
    return ["exact duplicates removed" if step.method == "exact" else "near duplicates removed"]
