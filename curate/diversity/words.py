"""The words of a row, as numbers."""

from __future__ import annotations

import polars as pl

from curate.contract import columns
from curate.rows.ngrams import normalised

_SLICE = 20_000  # rows at a time, so that the words as text are never all held


def record(table: pl.DataFrame) -> pl.Series | None:
    """Prompt and response as one text, or the one that there is; None without either."""
    there = [name for name in (columns.PROMPT, columns.RESPONSE) if name in table.columns]
    return table.select(pl.concat_str(there, separator="\n\n", ignore_nulls=True)).to_series() if there else None


def words(table: pl.DataFrame) -> pl.Series | None:
    """The words of prompt and response, in order: a list of 64-bit hashes a row; None without texts.

    Words are letters and digits in lower case. Hashes are only good for telling words apart, and only within one run.
    """
    text = record(table)
    if text is None:
        return None
    parts = [_hashed(text.slice(start, _SLICE)) for start in range(0, len(text), _SLICE)]
    return pl.concat(parts) if parts else pl.Series(dtype=pl.List(pl.UInt64))


def _hashed(text: pl.Series) -> pl.Series:
    word = normalised(text).str.split(" ").list.eval(pl.element().filter(pl.element() != ""))
    return word.list.eval(pl.element().hash())
