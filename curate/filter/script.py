"""Drop texts whose letters are mostly of another script than those expected.

When to use: to keep a set in one writing system. It is no language identification: French passes for English, Ukrainian for
Russian. Digits, punctuation, symbols and emoji count neither way, so formulas and code do not fall out.
Cost: text that is all ASCII is counted at once; other text at about 50 MB a second on one core.

    - filter: {script: {scripts: [Latin, Greek], min_share: 0.8}}
"""

from __future__ import annotations

import polars as pl

from curate.contract.errors import MethodError
from curate.filter.bounds import crossed

TEXT = "record"


def reject(text: pl.Series, *, scripts: list[str] = ["Latin"], min_share: float = 0.8) -> pl.Series:  # noqa: B006
    """String (n,): "share of letters in Latin 0.12 < 0.80", or null for the rows that stay.

    scripts: Unicode script names (Latin, Cyrillic, Greek, Arabic, Hebrew, Devanagari, Han, Hiragana, Katakana, Hangul, Thai …).
    min_share: the least share of all letters (Unicode category L, less those that belong to every script) that is in them.

    A text without any letter stays.
    """
    expected = "[\\p{L}&&[" + "".join(f"\\p{{{name}}}" for name in scripts) + "]]"
    _check(scripts, expected)
    rows = text.fill_null("").alias("text").to_frame().with_row_index("row")
    suspects = rows
    if "Latin" in scripts:  # ASCII letters are Latin, so only other text needs counting
        suspects = rows.filter(pl.col("text").str.len_bytes() != pl.col("text").str.len_chars())
    letters = pl.col("text").str.count_matches(r"[\p{L}--\p{Common}]")
    share = pl.col("text").str.count_matches(expected) / letters
    rejected = suspects.filter((letters > 0) & (share < min_share)).select("row", share=share)
    what = f"share of letters in {' or '.join(scripts)}"
    reason = [crossed(what, value, "<", min_share) for value in rejected["share"].to_list()]
    rejected = rejected.with_columns(pl.Series("reason", reason, dtype=pl.String))
    return rows.join(rejected, on="row", how="left", maintain_order="left")["reason"]


def _check(scripts: list[str], expected: str) -> None:
    """One sentence where a name is none of Unicode's, or there is no name."""
    try:
        pl.Series([""]).str.contains(expected)
    except pl.exceptions.ComputeError as error:
        raise MethodError(
            f"filter script: one of {scripts} is no Unicode script; write names such as Latin, Cyrillic, Greek, Arabic, Hebrew, "
            "Devanagari, Bengali, Han, Hiragana, Katakana, Hangul, Thai"
        ) from error
