"""Share the budget over the groups of a column by size to the power 1 / temperature, at random inside each group.

When to use: to keep large sources or clusters from crowding out small ones without making all equal. Temperature 1
keeps the sizes as they are, 3 is what LIMA took, a very large one (``.inf``) gives every group the same.
Cost: one hash a row and one sort; a million rows take about 3 seconds.

    - select: {temperature: {budget: 1000, by: task_cluster, temperature: 3}}

Reference: Zhou et al. 2023, "LIMA", arXiv 2305.11206, section 2.1 (temperature 3); with ``temperature: 1`` and
``cap: 3000`` the mixture of FLAN, Wei et al. 2021, arXiv 2109.01652, section 2.4. They draw groups at random; here each
gets the rounded number of rows that it would get on average. The rounding is that of Sainte-Laguë (Webster), under which no
group loses a row when the budget grows: Balinski and Young 1982, "Fair Representation".
"""

from __future__ import annotations

import numpy as np

from curate.contract.draws import shuffled
from curate.contract.errors import MethodError
from curate.rows.constraints import Constraints
from curate.rows.pool import Picks, Pool
from curate.select.rankings import interleaved


def select(
    pool: Pool,
    budget: int,
    *,
    seed: int = 0,
    constraints: Constraints | None = None,
    by: str = "cluster",
    temperature: float = 3.0,
    cap: int | None = None,
) -> Picks:
    """min(rows of group c, round(lambda p_c)) rows of each group, with the lambda that makes the budget. Gain: nan.

    by: the column that names the groups. temperature: p_c is the number of the group's rows to the power 1 /
    ``temperature``, so that 1 keeps the sizes and .inf makes all groups equal. cap: rows of a group beyond so many do
    not count in p_c.

    A group that has no more rows stops, and the others go on in their proportions (water-filling). Every prefix is the
    smaller selection. Ties between groups go to the first name. Rows without a value are a group of their own, and so
    is noise (cluster -1). Facts: groups, and refilled, the rows of the budget that small groups could not give and
    others gave.
    """
    if not temperature > 0:
        raise MethodError(
            f"select temperature: temperature is {temperature}; it is a number above 0, or .inf for equal"
        )
    if cap is not None and cap < 1:
        raise MethodError(f"select temperature: cap is {cap}; it is a number of rows, 1 or more, or null for none")
    name = pool.labels(by, "temperature").fill_null("\0none").to_numpy()
    names, group = np.unique(name.astype(str), return_inverse=True)
    size = np.bincount(group, minlength=len(names))
    weight = np.minimum(size, cap or len(pool))
    weight = (weight / weight.max(initial=1)) ** (1 / temperature)
    ranking = interleaved(shuffled(seed, "select.temperature", pool.ids), group, weight)
    index = (constraints or Constraints.none(len(pool), budget)).walk(ranking)
    asked = len(index) * weight / max(weight.sum(), 1)
    facts = {"groups": len(names), "refilled": round(float(np.maximum(asked - size, 0).sum()))}
    return Picks(index, np.full(len(index), np.nan, dtype=np.float32), facts)
