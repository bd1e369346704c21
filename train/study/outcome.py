"""What comes out of a study's runs: a tidy table of every item under every run, and what each run was given."""

from __future__ import annotations

import itertools
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curate.contract.files import whole
from train.study.bench import Result, Run
from train.study.plan import Plan

_WORSE = 2.0  # times the untuned model's bits: a run that ends there diverged, though its loss was finite


def write_results(out: Path, plan: Plan, results: dict[str, Result]) -> pa.Table:
    """Writes results.parquet (train/study/results.py reads it) and runs.parquet, in the order of the plan; gives the first."""
    bits = {run.arm: _bits(results[run.key]) for run in plan.runs if not run.ids}
    overlap = _overlaps(plan.runs)
    leaked = _leaked(plan)
    compared = {c.label: c.sets for c in plan.conditions}
    levels = {c.label: {"arm": c.arm, **c.levels} for c in plan.conditions}
    parts, rows = [], []
    for run in plan.runs:
        result = results[run.key]
        which = {"arm": run.arm, "budget": run.budget, "draw": run.draw, "seed": run.seed}
        base = plan.base_of(run.arm) if run.ids else None
        diverged = bool(run.ids) and (
            result.facts["diverged"] is not None or _bits(result) > _WORSE * bits[base or run.arm]
        )
        given = {
            "base": pa.scalar(base, pa.string()),
            "overlap": pa.scalar(overlap.get((run.arm, run.budget)), pa.float64()),
            "tokens": pa.scalar(result.facts.get("tokens", 0), pa.int64()),
            "targets": pa.scalar(result.facts.get("targets", 0), pa.int64()),
            "diverged": pa.scalar(diverged, pa.bool_()),
        }
        own = levels.get(run.arm, {})
        factors = {f"factor.{name}": pa.scalar(own.get(name), pa.string()) for name in levels[plan.conditions[0].label]}
        sets = compared.get(run.arm, plan.items.sets.keys())
        parts.append(_tidy(which, given, factors, result.items, plan, leaked, sets))
        if run.ids:
            known = {k: v for k, v in sorted(result.facts.items()) if k not in ("seed", "seconds", "diverged")}
            why = {"diverged": diverged, "why": result.facts["diverged"] or ""}
            rows.append({**which, "key": run.key, "run_seed": result.facts["seed"], **known, **why})
    tidy = pa.concat_tables(parts)
    for name, table in (("results", tidy), ("runs", pa.Table.from_pylist(rows))):
        with whole(out / f"{name}.parquet") as temporary:
            pq.write_table(table, temporary)
    return tidy


def _tidy(
    which: dict[str, Any],
    given: dict[str, pa.Scalar],
    factors: dict[str, pa.Scalar],
    items: pa.Table,
    plan: Plan,
    leaked: list[bool],
    sets: Collection[str],
) -> pa.Table:
    n = items.num_rows
    value = pc.divide(items["bits"], pc.cast(items["bytes"], pa.float64()))  # pyright: ignore
    columns: dict[str, Any] = {name: pa.array([of_all] * n) for name, of_all in which.items()}
    columns |= {"item": items["item"], "task": pa.array(plan.items.task, pa.string()), "value": value}
    columns |= {"bits": items["bits"], "bytes": items["bytes"]}
    columns |= {name: pa.repeat(scalar, n) for name, scalar in given.items()}
    columns |= {"leaked": pa.array(leaked, pa.bool_())}
    columns |= {
        f"in.{name}": pa.array(groups if name in sets else [None] * n, pa.string())
        for name, groups in plan.items.sets.items()
    }
    columns |= {name: pa.repeat(scalar, n) for name, scalar in factors.items()}
    return pa.table(columns)


def _bits(result: Result) -> float:
    return float(np.sum(result.items["bits"].to_numpy()))


def _leaked(plan: Plan) -> list[bool]:
    """Which items say what a row that was trained on says."""
    trained: set[str] = set()
    known: dict[int, dict[str, str]] = {}
    of_bench = {setting.bench: setting.rows for setting in plan.settings}
    for run in plan.runs:
        if run.ids:
            if run.bench not in known:
                rows = of_bench[run.bench]
                known[run.bench] = {d.id: said for d, said in zip(rows.documents, rows.said, strict=True)}
            trained.update(known[run.bench][id] for id in run.ids)
    return [said in trained for said in plan.items.said]


def arms_given(plan: Plan, results: dict[str, Result]) -> list[dict[str, Any]]:
    """What each arm was given at each budget, as means over draws and seeds, and how alike its draws are."""
    overlap = _overlaps(plan.runs)
    groups: dict[tuple[str, int], list[Run]] = {}
    for run in plan.runs:
        if run.ids:
            groups.setdefault((run.arm, run.budget), []).append(run)
    out = []
    for (arm, budget), group in groups.items():
        examples = float(np.mean([len(run.ids) for run in group]))
        steps = float(np.mean([run.steps for run in group]))
        row = {"arm": arm, "budget": budget, "examples": examples, "steps": steps}
        row["epochs"] = steps * plan.benches[group[0].bench].settings.examples / examples
        for name in ("tokens", "targets", "response_bytes"):
            row[name] = float(np.mean([results[run.key].facts[name] for run in group]))
        row["diverged"] = sum(results[run.key].facts["diverged"] is not None for run in group)
        out.append({**row, "overlap": overlap[arm, budget]})
    return out


def _overlaps(runs: list[Run]) -> dict[tuple[str, int], float | None]:
    """Of each arm at each budget the share of rows that two draws have in common, in the mean; None for one draw."""
    picked: dict[tuple[str, int], dict[int, set[str]]] = {}
    for run in runs:
        if run.ids:
            picked.setdefault((run.arm, run.budget), {})[run.draw] = set(run.ids)
    out: dict[tuple[str, int], float | None] = {}
    for cell, of_draw in picked.items():
        shared = [len(a & b) / min(len(a), len(b)) for a, b in itertools.combinations(of_draw.values(), 2)]
        out[cell] = float(np.mean(shared)) if shared else None
    return out
