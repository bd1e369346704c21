"""Select: the rows that a method chooses of a pool, in the order of choosing, with how diverse they are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from curate.contract import columns
from curate.contract.files import read_json
from curate.contract.methods import Parameter
from curate.diversity import against_random as diversity
from curate.diversity import family
from curate.rows import selector, token_counts
from curate.rows.pick import pick
from curate.rows.pool import Picks, Pool
from curate.run.job import Job
from curate.run.stage import Before, Step
from curate.run.work import MANIFEST

if TYPE_CHECKING:
    from curate.run.ask import Ask

METHODS = selector.ROOM
ROLE = "selection"
EXAMPLE = """\
steps:
  - select:
      facility_location:
        budget: 1000
        quotas: {source: {alpaca: 0.5}}"""


def options() -> tuple[Parameter, ...]:
    """What every selector takes beside its own."""
    return selector.shared_options()


def bind(given: Any, ask: Ask) -> Step | None:
    chosen = selector.chosen(given, ask, ask.kind)
    if chosen is None:
        return None
    if chosen.method.reads_vectors:
        ask.need("embed", f"select {chosen.method.name} needs vectors; add an `embed` step before it")
    return ask.step_of(chosen, ask.where())


def reads(step: Step, before: Before) -> dict[str, Any]:
    """The tokenizer of a budget in tokens."""
    budget = step.options.get("budget")
    if not isinstance(budget, dict):
        return {}
    return {"tokenizer": token_counts.fingerprint(budget.get("tokenizer", "words"), before.recipe.folder)}


def code(step: Step) -> list[Path]:
    """The measures of diversity, which are found by name."""
    return sorted(Path(diversity.__file__).parent.glob("*.py"))


def ready(step: Step, before: Before) -> list[str]:
    budget = step.options["budget"]
    if not isinstance(budget, int):
        return []
    for stage in reversed(before.stages):  # rows only leave, so an earlier count is a bound
        if (
            stage.table
            and before.work is not None
            and (rows := _rows(before.work / stage.title, stage.key)) is not None
        ):
            return (
                [
                    f"select {step.method}: the budget of {budget:,} is larger than the {rows:,} rows that {stage.title} kept; "
                    f"ask for at most {rows:,}, or filter less"
                ]
                if budget > rows
                else []
            )
    return []


def compute(job: Job, step: Step) -> dict[str, Any]:
    whole = job.light(step.options)
    pool, mine = _pool(job, step, whole)
    asked = dict(step.options)
    budget = asked.pop("budget")
    picks = pick(step.methods[0], pool, budget, asked, job.seed, job.recipe.folder)
    facts = {"budget": budget, "pool": len(pool), **picks.facts}
    if 0 < len(picks.index) < len(pool):
        vectors = pool.vectors if pool.vectors is not None else job.vectors(pool.table[columns.ID])
        facts["diversity"] = diversity.report(pool.table, vectors, picks.index, seed=job.seed)
    _write(job, whole, mine, picks)
    return facts


def says(step: Step, facts: dict[str, Any]) -> list[str]:
    lines = []
    kinds = (
        ("certificate", "the best"),
        ("graph_certificate", "the best on the graph"),
        ("drawn_certificate", "the best on the drawn rows"),
    )
    for name, of in kinds:
        if name in facts:
            mine = facts[name]
            lines.append(
                f"{step.name}: f(A) = {mine['value']:,.3f}; no choice under the same limits has more than "
                f"{mine['upper_bound']:,.3f}, so this has at least {mine['ratio']:.1%} of {of}"
            )
    if "graph_neighbours" in facts and facts["covered"] < 0.5:
        lines.append(
            f"{step.name}: only {facts['covered']:.0%} of the rows have a pick among their {facts['graph_neighbours']:,} "
            "neighbours, and the choice knows nothing of how near a pick is to the others; leave `neighbours` out, which then "
            "follows the budget, or give 0, which is exact"
        )
    if "diversity" in facts and (whole := family.whole(facts["diversity"])):
        lines.append(f"{step.name}: as a whole {whole}")
    for name, value in facts.items():
        if name not in ("budget", "pool") and isinstance(value, int | float) and not isinstance(value, bool):
            told = f"{value:,.4g}" if isinstance(value, float) else f"{value:,}"
            lines.append(f"{step.name}: {name.replace('_', ' ')}: {told}")
    return lines


def _rows(folder: Path, key: str) -> int | None:
    """How many rows a stage kept, where it is there and unchanged."""
    try:
        manifest = read_json(folder / MANIFEST)
    except (OSError, ValueError):
        return None
    return manifest["out"] if manifest.get("key") == key else None


def _pool(job: Job, step: Step, whole: pl.DataFrame) -> tuple[Pool, np.ndarray]:
    """The rows that the step may choose from, and where they stand in the table."""
    mine = np.flatnonzero(job.touched(whole).to_numpy())
    pool = Pool(whole, job.vectors(whole[columns.ID]) if step.methods[0].reads_vectors else None)
    return pool if mine.size == whole.height else pool.take(mine), mine


def _write(job: Job, whole: pl.DataFrame, mine: np.ndarray, picks: Picks) -> None:
    """Rows of the pool that were not chosen go; chosen ones get rank and gain; those that the step lets pass keep what an
    earlier selection gave them."""
    chosen = mine[picks.index]
    rank, gain = _earlier(whole, columns.RANK, -1), _earlier(whole, columns.GAIN, np.nan)
    rank[mine], gain[mine] = -1, np.nan
    rank[chosen], gain[chosen] = np.arange(len(chosen)), picks.gain
    left = np.zeros(whole.height, bool)
    left[mine] = True
    left[chosen] = False
    reason = pl.select(pl.when(pl.Series(left)).then(pl.lit("not selected")).otherwise(None)).to_series()
    job.order(reason.cast(pl.String), rank, gain)


def _earlier(rows: pl.DataFrame, column: str, none: float) -> np.ndarray:
    """What an earlier selection gave the rows that this one lets pass: float64 (n,)."""
    if column not in rows.columns:
        return np.full(rows.height, none, np.float64)
    return rows[column].cast(pl.Float64).fill_null(none).to_numpy().copy()
