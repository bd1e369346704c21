"""What comes out of a study's runs: a tidy table of every item under every run, and what each run was given."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curate.contract.files import whole
from train.study.bench import Result, Run


def write_results(out: Path, runs: list[Run], results: dict[str, Result], task: list[str | None]) -> pa.Table:
    """Writes results.parquet and runs.parquet, in the order of the plan; gives the first. task: of each item."""
    parts, rows = [], []
    for run in runs:
        result = results[run.key]
        which = {"arm": run.arm, "budget": run.budget, "draw": run.draw, "seed": run.seed}
        parts.append(_tidy(which, result.items, task))
        given = {name: value for name, value in sorted(result.facts.items()) if name not in ("seed", "seconds")}
        rows.append({**which, "key": run.key, "run_seed": result.facts["seed"], **given})
    tidy = pa.concat_tables(parts)
    for name, table in (("results", tidy), ("runs", pa.Table.from_pylist(rows))):
        with whole(out / f"{name}.parquet") as temporary:
            pq.write_table(table, temporary)
    return tidy


def _tidy(which: dict[str, Any], items: pa.Table, task: list[str | None]) -> pa.Table:
    value = pc.divide(items["bits"], pc.cast(items["bytes"], pa.float64()))  # pyright: ignore
    columns = {name: pa.array([of_all] * items.num_rows) for name, of_all in which.items()}
    columns |= {"item": items["item"], "task": task, "value": value, "bits": items["bits"], "bytes": items["bytes"]}
    return pa.table(columns)


def arms_given(runs: list[Run], results: dict[str, Result], examples: int) -> list[dict[str, Any]]:
    """What each arm was given at each budget, as means over draws and seeds, and how alike its draws are. examples: of a step."""
    groups: dict[tuple[str, int], list[Run]] = {}
    for run in runs:
        groups.setdefault((run.arm, run.budget), []).append(run)
    return [
        {
            "arm": arm,
            "budget": budget,
            "examples": budget,
            "steps": group[0].steps,
            "epochs": group[0].steps * examples / budget,
            **{
                name: float(np.mean([results[run.key].facts[name] for run in group]))
                for name in ("tokens", "targets", "response_bytes")
            },
            "overlap": _overlap(group, budget),
        }
        for (arm, budget), group in groups.items()
    ]


def _overlap(group: list[Run], budget: int) -> float | None:
    """The share of rows that two draws have in common, in the mean; None for one draw."""
    picked = [set(ids) for ids in {run.draw: run.ids for run in group}.values()]
    shared = [len(a & b) / budget for a, b in itertools.combinations(picked, 2)]
    return float(np.mean(shared)) if shared else None
