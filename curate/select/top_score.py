"""Take the rows with the largest values of a column.

When to use: with a score that you trust, and as the arm that shows what diversity adds: a selector that weighs score
against diversity must beat the score alone.
Cost: one sort; a million rows take about a second.

    - select: {top_score: {budget: 1000, score: score_ifd}}

Reference: the "top-q" baseline of Bukharin and Zhao 2023, "Data Diversity Matters for Robust Instruction Tuning", arXiv
2311.14736.
"""

from __future__ import annotations

import numpy as np

from curate.rows.constraints import Constraints, numbers
from curate.rows.pool import Picks, Pool
from curate.select.rankings import by_falling

RENAMED = {"by": "score"}


def select(pool: Pool, budget: int, *, seed: int = 0, constraints: Constraints | None = None, score: str) -> Picks:
    """Rows by falling score, ties by id. Gain: the score. Every prefix is the smaller selection.

    score: a column of numbers, higher is better; a row without a number is an error.

    Nothing is drawn; ``seed`` changes nothing.
    """
    values = numbers("top_score", pool, score)
    index = (constraints or Constraints.none(len(pool), budget)).walk(by_falling(pool, values))
    return Picks(index, values[index].astype(np.float32))
