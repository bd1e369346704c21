"""Batches of fixed shapes: a text's vector is the same to the last bit, whatever stands beside it.

Every matrix product has one of a few shapes (length bucket x rows), texts go to the bucket of their own length, and what is
missing in a batch is filled with dummy rows. In batches of other shapes the same text would get other last bits, since the
libraries then sum in another order.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

TOKENS = 1_024  # of a batch, about: more leaves more dummy rows in the last batch of a bucket, less has the interpreter waited for


def batches(lengths: np.ndarray, limit: int) -> Iterator[tuple[np.ndarray, int, int]]:
    """(rows, tokens to pad to, rows to fill up to), the longest first. Every bucket of lengths has one shape.

    A batch always holds at least one padded position: where there is none, transformers drops the attention mask, and
    attention without a mask is another kernel with other last bits.
    """
    width = padded(lengths, limit)
    for length in np.unique(width)[::-1].tolist():
        rows, height = np.flatnonzero(width == length), max(4, TOKENS // length // 4 * 4)
        start = 0
        while start < len(rows):
            batch = rows[start : start + height]
            if len(batch) == height and (lengths[batch] == length).all():
                batch = batch[:-1]
            start += len(batch)
            yield batch, length, height


def padded(lengths: np.ndarray, limit: int) -> np.ndarray:
    """Each length rounded up to a multiple of 8 (to 128), 16 (to 256), 64 (to 512) or 128, and at most ``limit``."""
    step = np.select([lengths <= 128, lengths <= 256, lengths <= 512], [8, 16, 64], 128)
    return np.minimum(-(-lengths // step) * step, limit)
