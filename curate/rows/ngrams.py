"""Which texts share a run of words with other texts: exact, by sets of 64-bit hashes.

    shared(training, held_out)      one line a training text that shares 13 words in a row with a held-out one

Words are letters and digits in lower case; punctuation and white space only part them. A run of 13 is OPT-IML's filter
against leakage (Iyer et al. 2022, arXiv 2212.12017; `reference/templates.md`, section 3).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl

from curate.contract.progress import track

_BYTES = 32_000_000  # of text at a time: about 5 million words
_TABLE_BITS = 27  # at most 128 MB for the first look
SCHEMA = {"row": pl.Int64, "other": pl.Int64, "ngram": pl.String}


def normalised(text: pl.Series) -> pl.Series:
    """Letters and digits in lower case, one space between; nothing else. Null counts as empty."""
    return text.fill_null("").str.to_lowercase().str.replace_all(r"[\W_]+", " ").str.strip_chars()


def shared(texts: pl.Series, others: pl.Series, n: int = 13, *, seed: int = 0) -> pl.DataFrame:
    """row, other, ngram: a line for each row of ``texts`` that shares a run of n words with a row of ``others``, by row.

    ngram: the first such run in the row; other: the first row of ``others`` that holds it. n: 2 or more; a text of fewer
    words shares nothing. Hashes only find candidates; what is reported was compared word by word, and a row whose
    candidate fails (a collision) is looked at again with other hashes. seed: of the hashes; the result does not depend
    on it. Cost: about 35 microseconds a text of 100 words (36 s for a million against 50,000, on 2 cores); memory: 8 bytes
    an n-gram of ``others``, 128 MB for the first look at most, and the words of one slice of 32 MB of text (about 300 MB).
    """
    known = _known(others, n, seed)
    if not len(known):
        return pl.DataFrame(schema=SCHEMA)
    look = _Look(known)
    parts = []
    for start, words in _slices(texts, "n-grams: texts"):
        row, place, value = _grams(words, n, seed)
        there = look.up(value)
        row, place, value = row[there], place[there], value[there]
        first = np.flatnonzero(np.diff(row, prepend=-1))  # rows come in order, so that each one's first hit is kept
        parts.append(_lines(words, start, row[first], place[first], value[first], n))
    hits = pl.concat(parts) if parts else pl.DataFrame(schema=_LINES)
    if hits.is_empty():
        return pl.DataFrame(schema=SCHEMA)
    wanted = _first(others, hits["value"].unique().sort().to_numpy(), n, seed)
    both = hits.join(wanted, on="value", how="left", suffix="_other", maintain_order="left")
    same = both.filter(pl.col("ngram") == pl.col("ngram_other")).select(
        "row", pl.col("row_other").alias("other"), "ngram"
    )
    again = both.filter((pl.col("ngram") != pl.col("ngram_other")).fill_null(True))["row"]
    if again.len():
        more = shared(texts.gather(again), others, n, seed=seed + 1)
        more = more.with_columns(again.gather(more["row"]).alias("row"))
        same = pl.concat([same, more]).sort("row")
    return same


_LINES = {"row": pl.Int64, "value": pl.UInt64, "ngram": pl.String}


def _slices(texts: pl.Series, label: str) -> Iterator[tuple[int, pl.Series]]:
    """(first row, the words of each text as a list), a slice of the texts at a time."""
    if texts.is_empty():
        return
    part = texts.fill_null("").str.len_bytes().cast(pl.Int64).cum_sum().to_numpy() // _BYTES
    starts = np.flatnonzero(np.diff(part, prepend=-1)).tolist()
    for start, end in track(list(zip(starts, [*starts[1:], len(texts)], strict=True)), label):
        yield start, normalised(texts.slice(start, end - start)).str.split(" ")


def _grams(words: pl.Series, n: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Row (int64), place of the first word in it (int64) and hash (uint64) of every run of n words, in order."""
    length = words.list.len().to_numpy().astype(np.int64)
    flat = words.explode().hash(seed).to_numpy()
    if len(flat) < n:
        return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.uint64)
    end = len(flat) - n + 1
    value = flat[:end].copy()
    for shift in range(1, n):
        value *= np.uint64(0x9E3779B97F4A7C15)
        value += flat[shift : shift + end]
    value ^= value >> np.uint64(32)
    value *= np.uint64(0xD6E8FEB86659FD93)
    value ^= value >> np.uint64(32)
    row = np.repeat(np.arange(len(length)), length)
    inside = np.flatnonzero(row[:end] == row[n - 1 :])
    place = inside - (np.cumsum(length) - length)[row[inside]]
    return row[inside], place, value[inside]


def _known(texts: pl.Series, n: int, seed: int) -> np.ndarray:
    """The hashes of all runs, sorted, each once."""
    parts = [np.unique(_grams(words, n, seed)[2]) for _, words in _slices(texts, "n-grams: others")]
    return np.unique(np.concatenate(parts)) if parts else np.empty(0, np.uint64)


class _Look:
    """Is a hash among the known ones? A table of their first bits says no to most without a search."""

    def __init__(self, known: np.ndarray):
        self.known = known
        bits = int(np.clip(np.ceil(np.log2(len(known))) + 3, 10, _TABLE_BITS))
        self.shift = np.uint64(64 - bits)
        self.table = np.zeros(2**bits, dtype=bool)
        self.table[(known >> self.shift).astype(np.int64)] = True

    def up(self, value: np.ndarray) -> np.ndarray:
        """The places of the values that are known, in order: int64."""
        maybe = np.flatnonzero(self.table[(value >> self.shift).astype(np.int64)])
        at = np.searchsorted(self.known, value[maybe])
        at[at == len(self.known)] = 0
        return maybe[self.known[at] == value[maybe]]


def _lines(words: pl.Series, start: int, row: np.ndarray, place: np.ndarray, value: np.ndarray, n: int) -> pl.DataFrame:
    runs = pl.DataFrame({"words": words.gather(row), "place": place}).select(
        pl.col("words").list.slice("place", n).list.join(" ")
    )
    return pl.DataFrame({"row": row + start, "value": value, "ngram": runs.to_series()}, schema=_LINES)


def _first(texts: pl.Series, wanted: np.ndarray, n: int, seed: int) -> pl.DataFrame:
    """The first place of each wanted hash."""
    lines = []
    look = _Look(wanted)
    for start, words in _slices(texts, "n-grams: where they stand"):
        row, place, value = _grams(words, n, seed)
        at = look.up(value)
        _, first = np.unique(value[at], return_index=True)
        at = at[np.sort(first)]
        lines.append(_lines(words, start, row[at], place[at], value[at], n))
    return pl.concat(lines).unique("value", keep="first", maintain_order=True)
