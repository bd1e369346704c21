"""Take the rows with the longest responses.

When to use: as a baseline. The thousand longest responses of Alpaca beat the hand-picked thousand of LIMA when judges
compare them, so a selector that claims to find quality must beat length first.
Cost: linear; a million rows take under a second.

    - select: {longest: {budget: 1000}}

Reference: Zhao et al. 2024, "Long Is More for Alignment", arXiv 2402.04833, section 2. They count tokens; characters rank
nearly alike and need no tokenizer.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from curate.contract import columns
from curate.rows.constraints import Constraints
from curate.rows.pool import Picks, Pool


def select(pool: Pool, budget: int, *, seed: int = 0, constraints: Constraints | None = None) -> Picks:
    """Rows by falling number of characters (Unicode code points) of the response, ties by id. Gain: that number.

    Nothing is drawn; ``seed`` changes nothing. A missing response counts as empty.
    """
    count = pl.col(columns.RESPONSE).fill_null("").str.len_chars().alias("characters")
    pool.need(columns.RESPONSE, "longest")
    counted = pool.table.select(pl.col(columns.ID), count).with_row_index("row")
    ranking = counted.sort(["characters", columns.ID], descending=[True, False])["row"].to_numpy().astype(np.int64)
    index = (constraints or Constraints.none(len(pool), budget)).walk(ranking)
    return Picks(index, counted["characters"].to_numpy()[index].astype(np.float32))
