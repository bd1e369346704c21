"""Drop texts that are too short or too long, in words or in characters.

When to use: first, with bounds wide enough that only accidents fall out (an empty answer, a pasted book).
Cost: about 150 MB of text a second on one core.

    - filter: {length: {min_words: 3, max_characters: 20_000}}
"""

from __future__ import annotations

import polars as pl

from curate.contract.errors import MethodError

TEXT = "record"

# A run of anything but white space; in scripts that write no spaces between words each character counts as one.
_WORD = r"[\p{Han}\p{Hiragana}\p{Katakana}]|[^\s\p{Han}\p{Hiragana}\p{Katakana}]+"


def reject(
    text: pl.Series,
    *,
    min_words: int | None = 3,
    max_words: int | None = None,
    min_characters: int | None = None,
    max_characters: int | None = None,
) -> pl.Series:
    """String (n,): "words 2 < 3", or null for the rows that stay.

    min_words: the fewest words of a text that stays. max_words: the most words. min_characters: the fewest characters.
    max_characters: the most characters.

    Bounds are inclusive; null is no bound. A word is a run without white space (a character, in Han, Hiragana and
    Katakana); a character is a Unicode code point.
    """
    for unit, least, most in (("words", min_words, max_words), ("characters", min_characters, max_characters)):
        if least is not None and most is not None and least > most:
            raise MethodError(
                f"filter length: min_{unit} {least} is larger than max_{unit} {most}, so no row could stay"
            )
    words, characters = pl.col("text").str.count_matches(_WORD), pl.col("text").str.len_chars()
    reasons = [
        *_bounds(words, "words", min_words, max_words),
        *_bounds(characters, "characters", min_characters, max_characters),
        pl.lit(None, dtype=pl.String),
    ]
    return text.fill_null("").alias("text").to_frame().with_columns(reason=pl.coalesce(reasons))["reason"]


def _bounds(count: pl.Expr, unit: str, least: int | None, most: int | None) -> list[pl.Expr]:
    """The reasons to go, each null where its bound holds."""
    reasons = []
    if least is not None:
        reasons.append(pl.when(count < least).then(pl.format(f"{unit} {{}} < {least}", count)))
    if most is not None:
        reasons.append(pl.when(count > most).then(pl.format(f"{unit} {{}} > {most}", count)))
    return reasons
