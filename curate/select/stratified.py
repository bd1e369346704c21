"""Share the budget over the groups of a column in proportion to their sizes, and draw at random inside each group.

When to use: as a baseline that random cannot beat by luck of the draw, and to keep the mixture of sources (or of clusters:
``by: cluster``) as it is.
Cost: one hash a row and one step a pick; 10,000 picks from a million rows take about 2 seconds.

    - select: {stratified: {budget: 1000, by: source}}

Reference: the quota method of Balinski and Young, "The Quota Method of Apportionment", American Mathematical Monthly 82
(1975). Largest remainders alone would not do: a group can lose a seat when the budget grows (the Alabama paradox), and
then the smaller subset is no prefix of the larger one.
"""

from __future__ import annotations

import numpy as np

from curate.contract.draws import shuffled
from curate.rows.constraints import Constraints
from curate.rows.pool import Picks, Pool


def select(
    pool: Pool, budget: int, *, seed: int = 0, constraints: Constraints | None = None, by: str = "source"
) -> Picks:
    """Rows such that of every k picks each group holds its exact share of k, rounded down or up. Gain: nan.

    by: the column that names the groups (``source``, ``task``, ``task_cluster``, ``cluster`` …); rows without a value are a
    group of their own.
    """
    name = pool.labels(by, "stratified").fill_null("\0none").to_numpy()
    names, group = np.unique(name.astype(str), return_inverse=True)
    shuffle = shuffled(seed, "select.stratified", pool.ids)
    by_group = shuffle[np.argsort(group[shuffle], kind="stable")]
    queues = np.split(by_group, np.cumsum(np.bincount(group, minlength=len(names)))[:-1])
    wanted = constraints or Constraints.none(len(pool), budget)
    index = wanted.walk(_interleave(queues, budget if wanted.plain else len(pool)))
    return Picks(index, np.full(len(index), np.nan, dtype=np.float32))


def _interleave(queues: list[np.ndarray], budget: int) -> np.ndarray:
    """The quota method, one pick at a time: int64 (budget,).

    Of the groups that may have one more (fewer picks than their share of the new total, rounded up) that with the most rows
    a pick is next; ties go to the first name.
    """
    size = np.array([len(queue) for queue in queues], dtype=np.int64)
    taken, total = np.zeros_like(size), int(size.sum())
    index = np.empty(budget, dtype=np.int64)
    for pick in range(budget):
        may = taken * total < (pick + 1) * size
        best = int(np.argmax(np.where(may, size / (taken + 1), -1.0)))
        index[pick] = queues[best][taken[best]]
        taken[best] += 1
    return index
