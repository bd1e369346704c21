"""Lengths: how long prompts and responses are, and how much that varies.

For a reader: not diversity by itself, but what many other measures are confused by; a selector that likes long texts shows
here first. The mean is in words; the spread is the standard deviation of log(1 + words): 0 where all are equally long, about 1
where a third are less than 0.4 or more than 2.7 times as long as is usual. A larger spread is more diverse.
Cost: one pass over the texts of the pool, each row once.

Words are parted by white space. A missing text counts 0.

Reference: lengths as a confounder of selection: Zhao et al. 2024, "Long Is More for Alignment", arXiv 2402.04833.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from curate.contract import columns
from curate.diversity.sample import Sample

ABOUT = {
    "prompt_words": ("mean words of a prompt", None),
    "prompt_spread": ("how much the length of prompts varies: sd of log(1 + words)", "higher"),
    "response_words": ("mean words of a response", None),
    "response_spread": ("how much the length of responses varies: sd of log(1 + words)", "higher"),
}


def prompt_words(table: pl.DataFrame) -> pl.Series | None:
    return _count(table, columns.PROMPT)


def response_words(table: pl.DataFrame) -> pl.Series | None:
    return _count(table, columns.RESPONSE)


FACTS = (prompt_words, response_words)


def measure(sample: Sample) -> dict[str, float]:
    values = {}
    for name, of_rows in (("prompt", prompt_words), ("response", response_words)):
        count = sample.fact(of_rows)
        if count is not None and len(count):
            words = count.to_numpy().astype(np.float64)
            values |= {f"{name}_words": float(words.mean()), f"{name}_spread": float(np.log1p(words).std())}
    return values


def _count(table: pl.DataFrame, column: str) -> pl.Series | None:
    return table[column].fill_null("").str.count_matches(r"\S+") if column in table.columns else None
