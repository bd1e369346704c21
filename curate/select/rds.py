"""Pick the rows most like those of a target, such as examples of the task that the model is tuned for (RDS+).

When to use: where the aim is a known task and a few dozen examples of it are in the pool (load them as a source of
their own). For a model of general use take a selector without a target.
Cost: time n x queries x d, memory n x d floats and half a kilobyte a row; no matrix of all rows by all queries. 64
queries, 1,000 picks from 200,000 rows of 384: a second of one core.

    - embed: {last_hidden: {model: HuggingFaceTB/SmolLM2-135M}}
    - select: {rds: {budget: 1000, target: {source: gsm8k}}}

The rows of the target are the queries and are not picked. ``how: round_robin``: the queries take turns, in the order of
their ids, and each takes the row with the largest cosine to it that is not yet taken. In the authors' code a query
whose best row is taken loses its turn; here it takes its next. ``max`` and ``mean`` rank rows by their largest or mean
cosine to the queries; LESS takes the mean over the examples of a task and the largest over tasks.
The vectors are those of the ``embed`` step: ``last_hidden`` gives the paper's, ``gradient`` those of influence as in
LESS.

Reference: Ivison et al. 2025, "Large-Scale Data Selection for Instruction Tuning", arXiv 2503.01807, section 3; Xia et
al. 2024, "LESS: Selecting Influential Data for Targeted Instruction Tuning", arXiv 2402.04333.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import numpy as np
import polars as pl

from curate.contract.errors import DataError, MethodError
from curate.contract.progress import track
from curate.rows.constraints import Constraints
from curate.rows.pool import Picks, Pool
from curate.vectors.product import product
from curate.vectors.unit import unit_by_id

_BLOCK = 32  # queries compared with all rows at a time
_SPARE = 32  # rows that a query's list holds beyond four times its share of the budget; used up, it is made anew


def select(
    pool: Pool,
    budget: int,
    *,
    target: dict,
    seed: int = 0,
    constraints: Constraints | None = None,
    how: Literal["round_robin", "max", "mean"] = "round_robin",
) -> Picks:
    """Gain: the cosine to the query that took the row, or the largest or mean one; with ``quality``, with the score.
    Cosines are compared to six digits, ties go by id. Rows of must_have come first. Fact: ``queries``.

    target: columns and values, as {source: gsm8k} or {task: [a, b]}; a row is of the target if it has one of the values
    in each column. how: "round_robin" lets the queries take turns, "max" and "mean" rank rows by their largest or their
    mean cosine to the queries.

    Every prefix is the smaller selection. Nothing is drawn; ``seed`` changes nothing. The budget is at most the rows
    outside the target.
    """
    if how not in ("round_robin", "max", "mean"):
        raise MethodError(f"select rds: how is '{how}'; it is one of round_robin, max, mean")
    order, vectors = unit_by_id(pool, "rds")
    wanted = (constraints or Constraints.none(len(pool), budget)).ordered(order)
    asked = closed(pool, target)[order]
    wanted = replace(wanted, open=wanted.open & ~asked)
    queries = vectors[asked]
    near = _Near(vectors, queries, wanted)
    if how == "round_robin":
        index, gain = _in_turn(near, wanted)
    else:
        score = near.overall(how)
        index = replace(wanted, quality=None).walk(np.argsort(-score, kind="stable"))  # the ranking holds it
        gain = score[index]
    return Picks(order[index], gain.astype(np.float32), {"queries": len(queries)})


def closed(pool: Pool, target: dict, **_: Any) -> np.ndarray:
    """bool (n,): the rows that the target names, which are never picked and do not count where constraints are bound."""
    if not target:
        raise MethodError("select rds: target names no column; write it as {source: gsm8k}")
    mask = np.ones(len(pool), dtype=bool)
    for column, values in target.items():
        wanted = [str(value) for value in (values if isinstance(values, list) else [values])]
        mask &= pool.need(column, "select rds").cast(pl.String).is_in(wanted).fill_null(False).to_numpy()
    if len(pool) and not mask.any():
        raise DataError(
            f"select rds: the target {target} names no row of this pool of {len(pool):,}; an earlier step may have removed them"
        )
    return mask


class _Near:
    """Cosines of all rows to the queries, a block of queries at a time."""

    def __init__(self, vectors: np.ndarray, queries: np.ndarray, wanted: Constraints):
        self.vectors, self.queries, self.wanted = vectors, queries, wanted
        self.starts = range(0, len(queries), _BLOCK)

    def block(self, start: int) -> np.ndarray:
        """float32 (q, n): what each of a block of queries goes by."""
        cosine = np.round(product(self.queries[start : start + _BLOCK], self.vectors), 6)
        return np.stack([self.wanted.combined(one, 1.0) for one in cosine]).astype(np.float32, copy=False)

    def overall(self, how: str) -> np.ndarray:
        """float32 (n,): the largest or the mean over all queries."""
        out = np.full(len(self.vectors), -np.inf) if how == "max" else np.zeros(len(self.vectors))
        for start in track(self.starts, "comparing with the target"):
            if how == "max":
                np.maximum(out, self.block(start).max(axis=0), out=out)
            else:
                out += self.block(start).sum(axis=0, dtype=np.float64) / len(self.queries)
        return np.round(out, 6)


def _in_turn(near: _Near, wanted: Constraints) -> tuple[np.ndarray, np.ndarray]:
    """(index, gain): the rows in the order in which the queries take them."""
    remaining, index, gain = wanted.begin(), [], []
    if len(wanted.must):
        score = near.overall("max")
    for row in wanted.must.tolist():
        remaining.take(row)
        index.append(row)
        gain.append(score[row])
    many = 4 * -(-wanted.budget // max(len(near.queries), 1)) + _SPARE
    lists: list[tuple[np.ndarray, np.ndarray]] = []
    for start in track(near.starts, "comparing with the target"):
        lists += [_top(one, remaining.open, many) for one in near.block(start)]
    at = [0] * len(lists)
    query = 0
    while remaining.rows and remaining.open.any():
        rows, score = lists[query]
        while at[query] < len(rows) and not remaining.take(int(rows[at[query]])):
            at[query] += 1
        if at[query] == len(rows):
            start = query - query % _BLOCK
            for other, one in enumerate(near.block(start), start):
                lists[other], at[other] = _top(one, remaining.open, many), 0
            continue
        index.append(int(rows[at[query]]))
        gain.append(score[at[query]])
        query = (query + 1) % len(lists)
    return np.array(index, dtype=np.int64), np.array(gain)


def _top(score: np.ndarray, opened: np.ndarray, many: int) -> tuple[np.ndarray, np.ndarray]:
    """The ``many`` open rows with the largest score, ties to the lowest index: (int64, float32), largest first."""
    rows = np.flatnonzero(opened)
    if len(rows) > many:
        least = np.partition(score[rows], len(rows) - many)[len(rows) - many]
        above, equal = rows[score[rows] > least], rows[score[rows] == least]
        rows = np.sort(np.concatenate([above, equal[: many - len(above)]]))
    rows = rows[np.argsort(-score[rows], kind="stable")]
    return rows, score[rows]
