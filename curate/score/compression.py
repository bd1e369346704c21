"""Score texts by how repetitive they are: how many times smaller zlib makes each.

When to use: to find responses that go round in loops or fill up with boilerplate, which score high; `filter: repetition` removes
the worst of them. Compare texts of like length: a short one holds little to repeat, and zlib's own 8 bytes weigh more.
Cost: about 13 MB of text a second on one core.

    - score: {compression: {text: record}}

Reference: Shaib et al. 2024, "Standardizing the Measurement of Text Diversity", arXiv 2403.00553, section 3, of single texts.
"""

from __future__ import annotations

import math
import zlib

import numpy as np
import polars as pl

TEXT = "response"


def score(text: pl.Series) -> np.ndarray:
    """float32 (n,): bytes of the text in UTF-8 / bytes after zlib at level 6. Higher is more repetitive; prose of a few
    hundred words has about 1.5 to 2. An empty text has no score (NaN)."""
    ratios = (_ratio(one.encode()) for one in text.fill_null(""))
    return np.fromiter(ratios, np.float32, len(text))


def _ratio(raw: bytes) -> float:
    return len(raw) / len(zlib.compress(raw, 6)) if raw else math.nan
