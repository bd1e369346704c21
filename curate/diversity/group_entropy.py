"""Entropy of clusters, tasks, sources and templates: how evenly the subset spreads over the groups of its rows.

For a reader: in bits. 0 where all rows are of one group; log2 of the number of groups where all are equally filled, so 2 to
the power of it is the effective number of groups. Higher is more diverse.
Cost: counting k rows. A column that the table lacks is left out: clusters need a ``cluster`` step, templates a rendered
table. A row without a value is of a group of its own kind.

- sum p log2 p over the shares p of the groups; no correction for small k, which random subsets need as much.

Reference: Shannon 1948. Cluster entropy as a measure of instruction data: Yang et al. 2025, arXiv 2502.17184, section 2.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from curate.contract import columns
from curate.diversity.sample import Sample

_GROUPS = ("cluster", columns.TASK, columns.SOURCE, columns.TEMPLATE)
ABOUT = {f"{name}_entropy": (f"how evenly rows spread over {name}s, in bits", "higher") for name in _GROUPS}


def measure(sample: Sample) -> dict[str, float]:
    there = [name for name in _GROUPS if name in sample.table.columns and len(sample)]
    return {f"{name}_entropy": bits(sample.table[name]) for name in there}


def bits(values: pl.Series) -> float:
    """The entropy of the shares of equal values."""
    share = np.sort(values.value_counts()["count"].to_numpy()) / len(
        values
    )  # sorted, so that sums are the same every time
    return float(-(share * np.log2(share)).sum()) + 0.0
