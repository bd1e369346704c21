"""Score texts by how long they are: words, characters or tokens.

When to use: for the longest responses, a plain baseline that many a learned score does not beat, and as a column to look at
beside any other score, since most of them favour long texts.
Cost: words at about 80 MB of text a second on one core, characters in passing; tokens as the tokenizer needs.

    - score: {length: {unit: tokens, tokenizer: models/tokenizer.json}}
    - select: {top_score: {score: score_length, budget: 1000}}

Reference: Zhao et al. 2024, "Long Is More for Alignment", arXiv 2402.04833.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl

from curate.contract.errors import MethodError, RequestError
from curate.rows import token_counts

TEXT = "response"

# A run of anything but white space; in scripts that write no spaces between words each character counts as one.
_WORD = r"[\p{Han}\p{Hiragana}\p{Katakana}]|[^\s\p{Han}\p{Hiragana}\p{Katakana}]+"


def score(
    text: pl.Series,
    *,
    unit: Literal["words", "characters", "tokens"] = "words",
    tokenizer: str = "words",
    folder: Path | None = None,
) -> np.ndarray:
    """float32 (n,): how long each text is; higher is longer. Null counts as empty, and an empty text has length 0.

    unit: words, counted as `filter: length` counts them (runs without white space; in Han, Hiragana and Katakana single
    characters), characters (Unicode code points), or tokens. tokenizer: what makes the tokens, a tokenizer.json or a folder
    that holds one, relative to the recipe, or a Hub id; "words" parts at white space alone.
    """
    if unit == "tokens":
        return token_counts.count(text, tokenizer, folder).astype(np.float32)
    whole = text.fill_null("").str
    lengths = whole.count_matches(_WORD) if unit == "words" else whole.len_chars()
    return lengths.to_numpy().astype(np.float32)


def identity(*, unit: str, tokenizer: str, folder: Path | None = None) -> dict[str, Any]:
    """The content of the tokenizer. Raises MethodError and RequestError where there is no such tokenizer, or no use for it."""
    if unit != "tokens":
        if tokenizer != token_counts.WORDS:
            raise MethodError(f"score length: nothing asks for the tokenizer while unit is {unit}; say `unit: tokens`")
        return {}
    if problem := token_counts.problem(tokenizer, folder):
        raise RequestError(f"score length: {problem}")
    return {"tokenizer": token_counts.fingerprint(tokenizer, folder)}
