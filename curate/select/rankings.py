"""Orders of a pool's rows that several selectors go by."""

from __future__ import annotations

import numpy as np

from curate.contract import columns
from curate.rows.pool import Pool


def by_falling(pool: Pool, values: np.ndarray) -> np.ndarray:
    """The rows of the pool by falling value, ties by id: int64 (n,)."""
    order = pool.table[columns.ID].arg_sort().to_numpy().astype(np.int64)
    return order[np.argsort(-values[order], kind="stable")]


def interleaved(rows: np.ndarray, group: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """All rows, so that any first k hold the groups in proportion to their weights while these have rows: int64 (n,).

    rows: a permutation; each group gives its rows in this order. group: int (n,), of each row. weight: float (g,). The
    j-th row of a group stands where (j - 1/2) / weight puts it, ties by group.
    """
    by_group = rows[np.argsort(group[rows], kind="stable")]
    own = group[by_group]
    size = np.bincount(own, minlength=len(weight))
    before = np.arange(len(rows)) - np.repeat(np.cumsum(size) - size, size)
    with np.errstate(divide="ignore"):  # a weight so small that it is 0: that group comes last
        return by_group[np.lexsort((own, (before + 0.5) / weight[own]))].astype(np.int64)
