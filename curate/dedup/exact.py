"""Find texts that are the same but for case, white space and Unicode form.

When to use: always, and first: pools overlap, and the same row in two sources is one row. For texts that differ by a word,
add ``minhash`` after it.
Cost: about ten seconds for a million rows; memory 16 bytes a row, since only hashes are kept.

    - dedup: exact

Two texts are the same if they are equal after NFKC normalisation (full-width letters, ligatures), in lower case, with every
run of white space taken as one blank and none at the ends. Punctuation counts: "2 - 2" is not "2 + 2".
"""

from __future__ import annotations

import numpy as np
import polars as pl

from curate.rows.pool import Duplicates

TEXT = "record"

_SLICE = 65_536  # rows normalised at a time


def duplicates(text: pl.Series) -> Duplicates:
    """Of equal texts the first row stays. Null is taken as empty. Similarity is always 1.

    Texts are compared by two 64-bit hashes; that one pair of a billion rows agrees by accident has a chance below 1e-20.
    """
    slices = [_hashes(text.slice(start, _SLICE)) for start in range(0, len(text), _SLICE)]
    if not slices:
        return Duplicates(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float32))
    first = pl.concat(slices).with_row_index("row").select(pl.col("row").min().over("one", "two")).to_series()
    return Duplicates(first.to_numpy().astype(np.int64), np.ones(len(text), dtype=np.float32))


def _hashes(text: pl.Series) -> pl.DataFrame:
    """Two independent 64-bit hashes of each normalised text."""
    same = text.fill_null("").str.normalize("NFKC").str.to_lowercase().str.replace_all(r"\s+", " ").str.strip_chars()
    return pl.DataFrame({"one": same.hash(seed=1), "two": same.hash(seed=2)})
