"""Draw rows at random, each with the same chance.

When to use: always, as the arm that everything else has to beat. Most selectors do not, on large pools.
Cost: one hash a row, about a second for a million rows.

    - select: {random: {budget: 1000}}
"""

from __future__ import annotations

import numpy as np

from curate.contract.draws import shuffled
from curate.rows.constraints import Constraints
from curate.rows.pool import Picks, Pool


def select(pool: Pool, budget: int, *, seed: int = 0, constraints: Constraints | None = None) -> Picks:
    """Rows in the order of a hash of (seed, id), so that what is drawn does not depend on what else is in the pool's order.

    Gain: nan, there is no objective.
    """
    wanted = constraints or Constraints.none(len(pool), budget)
    index = wanted.walk(shuffled(seed, "select.random", pool.ids))
    return Picks(index, np.full(len(index), np.nan, dtype=np.float32))
