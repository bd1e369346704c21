"""Filter: rows that a method gives a reason to remove."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl

from curate.contract import columns
from curate.contract.methods import Method
from curate.rows.table import text_of
from curate.run.job import Job, touched
from curate.run.stage import Step

if TYPE_CHECKING:
    from curate.run.ask import Ask

METHODS = "filter"
EXAMPLE = """\
steps:
  - filter: {length: {min_words: 3}}
  - filter: refusal
    where: {source: [alpaca]}"""


def bind(given: Any, ask: Ask) -> Step | None:
    return ask.step(METHODS, given)


def compute(job: Job, step: Step) -> dict[str, Any]:
    job.by_shard(_rejected, step.methods[0], job.call_options(step.options), step.text or "record", step.where)
    return {}


def claims(step: Step, facts: dict[str, Any]) -> list[str]:
    return ["language checked"] if step.method == "script" else []


def _rejected(
    rows: pl.DataFrame, method: Method, call: dict[str, Any], text: str, where: dict[str, list[str]]
) -> tuple[pl.DataFrame, pl.DataFrame]:
    detail = method.function()(text_of(rows, text), **call)
    named = pl.select(pl.lit(f"{method.name}: ") + detail).to_series()
    reason = pl.select(pl.when(touched(rows, where)).then(named).otherwise(None)).to_series().cast(pl.String)
    gone = rows.with_columns(pl.lit("").alias(columns.STAGE), reason.alias(columns.REASON))  # the job names the stage
    return rows.filter(reason.is_null()), gone.filter(pl.col(columns.REASON).is_not_null())
