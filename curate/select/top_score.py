"""Take the rows with the largest values of a column.

When to use: with a score that you trust, and as the arm that shows what diversity adds: a selector that weighs score
against diversity must beat the score alone.
Cost: one sort; a million rows take about a second.

    - select: {top_score: {budget: 1000, by: score_ifd}}

Reference: the "top-q" baseline of Bukharin and Zhao 2023, "Data Diversity Matters for Robust Instruction Tuning", arXiv
2311.14736.
"""

from __future__ import annotations

import numpy as np

from curate.contract import columns
from curate.rows.constraints import Constraints, numbers
from curate.rows.pool import Picks, Pool


def select(pool: Pool, budget: int, *, seed: int = 0, constraints: Constraints | None = None, by: str) -> Picks:
    """Rows by falling value of the column ``by``, ties by id. Gain: the value. Every prefix is the smaller selection.

    Nothing is drawn; ``seed`` changes nothing. A row without a number is an error.
    """
    values = numbers("top_score", pool, by)
    index = (constraints or Constraints.none(len(pool), budget)).walk(by_falling(pool, values))
    return Picks(index, values[index].astype(np.float32))


def by_falling(pool: Pool, values: np.ndarray) -> np.ndarray:
    """The rows of the pool by falling value, ties by id: int64 (n,)."""
    order = pool.table[columns.ID].arg_sort().to_numpy().astype(np.int64)
    return order[np.argsort(-values[order], kind="stable")]
