"""The conditions of a study: every arm under levels of factors.

    factors: {objective: [response_only, instruction_modelling], tuning: {full: full, lora: {lora: {rank: 8}}}}

A level of a list is called ``factor=value``, one of a mapping by its key. The first level of each factor is the plain one: a
condition is called by its arm, and by the levels that are not the first (``random/lora``). Factors vary one at a time, the
others at their first levels, or all with one another (``cross: all``), or some of them (``cross: [[objective, tuning]]``).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from curate.contract import columns
from curate.contract.draws import draws, shuffled
from curate.contract.errors import DataError

TRAINED = ("objective", "tuning", "learning_rate", "epochs", "model")  # options of the trainer
RENDERED = ("templates", "shots")  # how the training rows are put into messages
POOLED = ("task_clusters", "quality", "mix")  # which rows arms may pick from
FACTORS = (*TRAINED, *RENDERED, *POOLED)


@dataclass(frozen=True)
class Condition:
    """values: of each factor, its level's value; levels: its name."""

    label: str
    arm: str
    levels: dict[str, str]
    values: dict[str, Any]

    def of(self, factors: tuple[str, ...]) -> dict[str, Any]:
        """The values of some of the factors."""
        return {name: value for name, value in self.values.items() if name in factors}


def named(factor: str, given: Any) -> dict[str, Any]:
    """The levels of a factor by name, in their order; empty where they are no levels."""
    if isinstance(given, dict):
        return {str(name): value for name, value in given.items()}
    if isinstance(given, list):
        return {f"{factor}={_plain(value)}": value for value in given}
    return {}


def conditions(arms: list[str], factors: dict[str, dict[str, Any]], cross: str | list[list[str]]) -> list[Condition]:
    """Every arm under every combination of levels that is asked for, the plain ones first."""
    first = {factor: next(iter(levels)) for factor, levels in factors.items()}
    groups = [list(factors)] if cross == "all" else [*map(list, cross or ()), *([factor] for factor in factors)]
    chosen: dict[tuple[str, ...], dict[str, str]] = {tuple(first.values()): first}
    for group in groups:
        for levels in itertools.product(*(factors[factor] for factor in group)):
            combined = {**first, **dict(zip(group, levels, strict=True))}
            chosen[tuple(combined.values())] = combined
    return [
        Condition(
            "/".join([arm, *(level for factor, level in levels.items() if level != first[factor])]),
            arm,
            levels,
            {factor: factors[factor][level] for factor, level in levels.items()},
        )
        for levels in chosen.values()
        for arm in arms
    ]


def restricted(pool: pl.DataFrame, values: dict[str, Any], seed: int) -> np.ndarray:
    """The rows (int64, rising) that the arms of a condition may pick from. values: of the factors in POOLED.

    task_clusters: k, rows of the first k clusters of tasks in the order of a hash, so that fewer are part of more. quality:
    {by: column, share: s}: half as many rows as there are, of which s from the half with the larger values of the column.
    mix: {source: weight}: as many rows as there can be with sources in these shares. Draws are by id.
    """
    kept = np.arange(pool.height)
    if (k := values.get("task_clusters")) is not None:
        kept = kept[_clusters(pool, k, seed)]
    if (quality := values.get("quality")) is not None:
        kept = kept[_quality(pool[kept.tolist()], quality["by"], float(quality["share"]), seed)]
    if (mix := values.get("mix")) is not None:
        kept = kept[_mixed(pool[kept.tolist()], mix, seed)]
    return kept


def _clusters(pool: pl.DataFrame, k: int, seed: int) -> np.ndarray:
    names = pool[columns.TASK_CLUSTER].drop_nulls().unique().sort().to_list()
    if not 1 <= k <= len(names):
        raise DataError(f"study: task_clusters is {k}, and the pool has {len(names)}: {', '.join(names[:12])}")
    chosen = [names[i] for i in shuffled(seed, "study.task_clusters", names)[:k]]
    return np.flatnonzero(pool[columns.TASK_CLUSTER].is_in(chosen).fill_null(False).to_numpy())


def _quality(pool: pl.DataFrame, by: str, share: float, seed: int) -> np.ndarray:
    if by not in pool.columns:
        raise DataError(f"study: quality: by: there is no column {by}; there are {', '.join(sorted(pool.columns))}")
    values = pool.select(pl.col(by).cast(pl.Float64, strict=False)).to_series().fill_null(-np.inf).to_numpy()
    order = np.lexsort((_hash(pool, seed, "study.quality"), values))
    half = len(order) // 2
    low, high = order[:half], order[len(order) - half :]
    n_high = round(share * half)
    mark = _hash(pool, seed, "study.quality.part")
    parts = [high[np.argsort(mark[high])][:n_high], low[np.argsort(mark[low])][: half - n_high]]
    return np.sort(np.concatenate(parts))


def _mixed(pool: pl.DataFrame, weights: dict[str, float], seed: int) -> np.ndarray:
    there = dict(pool[columns.SOURCE].value_counts().iter_rows())
    if missing := [source for source in weights if source not in there]:
        raise DataError(f"study: mix: there is no source {missing[0]}; there are {', '.join(sorted(map(str, there)))}")
    total = sum(weights.values())
    size = min(there[source] * total / weight for source, weight in weights.items() if weight > 0)
    mark, source = _hash(pool, seed, "study.mix"), pool[columns.SOURCE].to_numpy()
    parts = []
    for name, weight in weights.items():
        own = np.flatnonzero(source == name)
        parts.append(own[np.argsort(mark[own])][: int(size * weight / total)])
    return np.sort(np.concatenate(parts))


def _hash(pool: pl.DataFrame, seed: int, stream: str) -> np.ndarray:
    return draws(seed, stream, pool[columns.ID].to_list())


def _plain(value: Any) -> str:
    """A level's value as a name: `lora` of {lora: {rank: 8}}, 0.001 of 1e-3."""
    if isinstance(value, dict) and len(value) == 1:
        return str(next(iter(value)))
    return f"{value:g}" if isinstance(value, float) else str(value)
