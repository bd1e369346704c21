"""Pick rows that cover the pool and score well, both terms on one scale (QDIT).

When to use: where a score of quality is at hand, to trade it against coverage with one number: 0 is
``facility_location``, 1 takes the top of the score.
Cost: that of ``facility_location``.

    - embed: sentence
    - select: {qdit: {budget: 1000, score: score_ifd, alpha: 0.7}}

Each pick is the row with the largest (1 - alpha) * d + alpha * q. d is what the row adds to the objective of
``facility_location``, as a share of the largest first gain; q is its score, scaled to lie between 0 and 1 over the
pool. The paper adds a sum over the pool to a single score as they are, so its alpha means another thing for each pool;
its rows also count cosines below zero, which here count as zero.

Reference: Bukharin et al. 2024, "Data Diversity Matters for Robust Instruction Tuning", arXiv 2311.14736, section 3.
The default of alpha is ours.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from curate.contract.errors import MethodError
from curate.rows.constraints import Constraints, numbers
from curate.rows.pool import Picks, Pool
from curate.select import facility_location


def select(
    pool: Pool, budget: int, *, score: str, seed: int = 0, constraints: Constraints | None = None, alpha: float = 0.7
) -> Picks:
    """The greedy picks, and facts as ``facility_location`` gives them. Gain: what the pick adds to the sum of both
    terms.

    score: the column, higher is better. alpha: the weight of the score, from 0 to 1.

    Every prefix is the smaller selection (not with a budget of tokens). Ties go by id.
    """
    if not 0 <= alpha <= 1:
        raise MethodError(f"select qdit: alpha is {alpha}; it lies between 0 (only coverage) and 1 (only the score)")
    wanted = constraints or Constraints.none(len(pool), budget)
    if wanted.quality is not None:
        raise MethodError(
            "select qdit: it weighs its own score; write that as `score` and `alpha`, and leave out `quality`"
        )
    pool.need_vectors("qdit")
    values = numbers("qdit", pool, score)
    low, high = values.min(initial=np.inf), values.max(initial=-np.inf)
    quality = (values - low) / (high - low) if high > low else np.zeros(len(values))
    return facility_location.select(
        pool, budget, seed=seed, constraints=replace(wanted, quality=quality, weight=float(alpha))
    )
