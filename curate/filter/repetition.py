"""Drop texts that repeat themselves: the same line again and again, or the same few words.

When to use: on responses written by models, which fall into loops, and on scraped text with menus and boilerplate.
Cost: about 3 million words a second on one core; memory for 4 million words at a time.

    - filter: {repetition: {duplicate_lines: 0.3}}

The rules and thresholds are those of Gopher (Rae et al. 2021, arXiv 2112.11446, appendix A1.1, table A1), with three
departures, since they were made for web pages and these texts are short:

- the paragraph rules are left out: a paragraph that comes again is lines that come again;
- lines without a letter or digit (a closing brace, a rule of dashes) are not counted, so code is not taken for a loop;
- the word rules need ``min_words`` words, the line rules ``min_lines`` lines, and a top n-gram must come three times: in
  fifty words a phrase of four that is said twice is a sixth. Songs with refrains still go; raise ``duplicate_lines`` to keep them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl

from curate.filter.bounds import crossed

TEXT = "response"

_CHUNK = 2**24  # bytes of text at a time
_POSITION_BITS = 24
_FACTOR = np.uint64(0x9E3779B97F4A7C15)


def reject(
    text: pl.Series,
    *,
    duplicate_lines: float = 0.30,
    duplicate_line_characters: float = 0.20,
    top_2gram: float = 0.20,
    top_3gram: float = 0.18,
    top_4gram: float = 0.16,
    repeated_5grams: float = 0.15,
    repeated_6grams: float = 0.14,
    repeated_7grams: float = 0.13,
    repeated_8grams: float = 0.12,
    repeated_9grams: float = 0.11,
    repeated_10grams: float = 0.10,
    min_words: int = 100,
    min_lines: int = 5,
) -> pl.Series:
    """String (n,): "share of characters in repeated 5-grams 0.45 > 0.15", or null for the rows that stay. 1 turns a
    rule off.

    duplicate_lines: the largest share of lines that stood before. duplicate_line_characters: the largest share of
    characters in such lines. top_2gram, top_3gram and top_4gram: the largest share of characters in the most frequent
    n-gram of words, if it comes three times or more. repeated_5grams, repeated_6grams, repeated_7grams,
    repeated_8grams, repeated_9grams and repeated_10grams: the largest share of characters in n-grams that stood before,
    overlaps counted once. min_words: texts with fewer words are not held to the rules on n-grams. min_lines: texts with
    fewer lines are not held to the rules on lines.

    Words are runs of letters and digits, whatever their case; characters are those of words, or of lines.
    """
    tops = {2: top_2gram, 3: top_3gram, 4: top_4gram}
    repeats = {
        5: repeated_5grams, 6: repeated_6grams, 7: repeated_7grams,
        8: repeated_8grams, 9: repeated_9grams, 10: repeated_10grams,
    }  # fmt: skip
    reasons = np.full(len(text), None, dtype=object)
    for start, stop in _chunks(text.fill_null("")):
        part, mine = text[start:stop].fill_null(""), reasons[start:stop]
        lines = _Pieces.of(part.str.split("\n"), at_least=min_lines)
        for _, at, same in lines.equal(longest=1):
            again = lines.covered(at[same], 1)
            _blame(mine, lines.share(again, by_characters=False), duplicate_lines, "repeated lines")
            _blame(mine, lines.share(again), duplicate_line_characters, "characters in repeated lines")
        words = _Pieces.of(part.str.to_lowercase().str.extract_all(r"[\p{L}\p{N}]+"), at_least=min_words)
        for n, at, same in words.equal(longest=10):
            if n in tops:
                _blame(mine, words.top_share(at, same, n), tops[n], f"characters in the most frequent {n}-gram")
            if n in repeats:
                _blame(mine, words.share(words.covered(at[same], n)), repeats[n], f"characters in repeated {n}-grams")
    return pl.Series(text.name, reasons.tolist(), dtype=pl.String)


def _blame(reasons: np.ndarray, share: np.ndarray, limit: float, what: str) -> None:
    """Writes the reason of each row over the limit that has none yet."""
    for row in np.flatnonzero(share > limit):
        if reasons[row] is None:
            reasons[row] = crossed(f"share of {what}", share[row], ">", limit)


def _chunks(text: pl.Series) -> Iterator[tuple[int, int]]:
    """Ranges of rows with about ``_CHUNK`` bytes; a single row may have more."""
    total, start = 0, 0
    for row, size in enumerate(text.str.len_bytes().to_list()):
        if total + size > _CHUNK and row > start:
            yield start, row
            total, start = 0, row
        total += size
    yield start, len(text)


@dataclass(frozen=True)
class _Pieces:
    """The words, or the lines, of ``rows`` texts in flat arrays, each of length m: the row of each piece, its hash and its
    characters."""

    rows: int
    row: np.ndarray
    code: np.ndarray
    characters: np.ndarray

    @staticmethod
    def of(lists: pl.Series, at_least: int) -> _Pieces:
        """lists: List(String) (n,). Pieces without a letter or digit are dropped; rows with too few pieces have none."""
        flat = lists.alias("piece").to_frame().with_row_index("row").explode("piece").lazy()
        flat = flat.with_columns(pl.col("piece").str.strip_chars()).filter(
            pl.col("piece").str.contains(r"[\p{L}\p{N}]")
        )
        flat = flat.filter(pl.len().over("row") >= at_least)
        flat = flat.select("row", code=pl.col("piece").hash(), characters=pl.col("piece").str.len_chars()).collect()
        row, characters = (flat[name].to_numpy().astype(np.int64) for name in ("row", "characters"))
        return _Pieces(len(lists), row, flat["code"].to_numpy(), characters)

    def equal(self, longest: int) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """(n, at, same) for n = 1 to longest: where an n-gram begins, equal ones of a row brought together and in order,
        and which of them equals the one before it.

        An n-gram that comes twice begins with a shorter one that comes twice, so each n looks only where n - 1 found some.
        """
        at, code = np.arange(len(self.row)), np.zeros(len(self.row), dtype=np.uint64)
        for n in range(1, longest + 1):
            code = code[: len(self.row) - n + 1] * _FACTOR + self.code[n - 1 :]
            at = at[at < len(code)]
            at = at[self.row[at] == self.row[at + n - 1]]
            at, same = self._grouped(code, at)
            yield n, at, same
            twice = same.copy()
            twice[:-1] |= same[1:]
            at = np.sort(at[twice])

    def _grouped(self, code: np.ndarray, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Hash and position share one integer, so that a plain sort does it. Inside one row 40 bits of hash are compared."""
        bits = np.uint64(max(_POSITION_BITS, len(code).bit_length()))
        keys = np.sort((code[at] >> bits << bits) | at.astype(np.uint64))
        at, high = (keys & ((np.uint64(1) << bits) - np.uint64(1))).astype(np.int64), keys >> bits
        same = np.zeros(len(at), dtype=bool)
        same[1:] = (high[1:] == high[:-1]) & (self.row[at[1:]] == self.row[at[:-1]])
        return at, same

    def covered(self, starts: np.ndarray, n: int) -> np.ndarray:
        """bool (pieces,): the pieces inside an n-gram that begins at one of ``starts``."""
        covered = np.zeros(len(self.row), dtype=bool)
        for shift in range(n):
            covered[starts + shift] = True
        return covered

    def share(self, chosen: np.ndarray, by_characters: bool = True) -> np.ndarray:
        """float64 (n,): the chosen part of each row, of its characters or of its pieces; 0 for rows without pieces."""
        weight = self.characters if by_characters else np.ones(len(self.row))
        total = np.bincount(self.row, weight, minlength=self.rows)
        return np.bincount(self.row, weight * chosen, minlength=self.rows) / np.maximum(total, 1)

    def top_share(self, at: np.ndarray, same: np.ndarray, n: int) -> np.ndarray:
        """float64 (n,): the part of each row's characters in its most frequent n-gram (the longest of several), where that
        comes three times or more; else 0."""
        first = np.flatnonzero(~same)
        count = np.diff(first, append=len(at))
        first, count = at[first[count > 2]], count[count > 2]
        ends = np.concatenate([[0], np.cumsum(self.characters)])
        best = np.zeros(self.rows, dtype=np.int64)
        np.maximum.at(best, self.row[first], (count << 32) + ends[first + n] - ends[first])
        total = np.bincount(self.row, self.characters, minlength=self.rows)
        return np.minimum((best >> 32) * (best & 0xFFFFFFFF) / np.maximum(total, 1), 1.0)
