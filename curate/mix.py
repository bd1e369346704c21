"""How many rows each source gives to the mixture, and which.

    quotas = proportional({"flan": 40_000, "chat": 2_000}, rows=10_000, cap=5_000)
    kept, removed = apply(table, quotas, seed=0)

Quotas are whole numbers that sum to what was asked for. A source whose quota is above its rows repeats them: the column
`repeat` says how often a row counts. Which rows stay is drawn by a hash of the id, so that a smaller quota takes a subset
of a larger one's rows, whatever the other sources hold.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping

import numpy as np
import polars as pl

from curate import columns
from curate.draws import draws
from curate.errors import RequestError


def proportional(counts: dict[str, int], *, rows: int | None = None, cap: int | None = None) -> dict[str, int]:
    """Each source in proportion to its rows, counted up to `cap` (T5, arXiv 1910.10683, section 3.5.2; FLAN, arXiv
    2109.01652, section 2.4, took 3,000).

    rows: the size of the mixture; if left out, every row up to the cap. A size above what the sources hold repeats rows.
    """
    if cap is not None and cap < 1:
        raise RequestError(f"mix: cap is {cap}; it must be 1 or more")
    weights = {source: count if cap is None else min(count, cap) for source, count in counts.items()}
    return weights if rows is None else _largest_remainder(weights, rows)


def equal(counts: dict[str, int], *, rows: int | None = None) -> dict[str, int]:
    """The same number from every source that has rows.

    rows: the size of the mixture; a source with fewer rows than its share repeats them. If left out, each gives as many as
    the smallest has.
    """
    filled = {source: 1 for source, count in counts.items() if count}
    if rows is None:
        rows = len(filled) * min((counts[source] for source in filled), default=0)
    return dict.fromkeys(counts, 0) | _largest_remainder(filled, rows)


def explicit(counts: dict[str, int], *, rows: dict[str, int]) -> dict[str, int]:
    """As many as you say, by source; a source that you do not name gives none. More than a source has repeats its rows."""
    for source, wanted in rows.items():
        if source not in counts:
            near = difflib.get_close_matches(source, list(counts), 1)
            meant = f", did you mean '{near[0]}'?" if near else ";"
            raise RequestError(f"mix: there is no source '{source}'{meant} there are: {', '.join(sorted(counts))}")
        if wanted < 0 or (wanted and not counts[source]):
            raise RequestError(
                f"mix: {wanted} rows are asked of '{source}', which has {counts[source]}; give a number that it can fill"
            )
    return dict.fromkeys(counts, 0) | rows


def apply(table: pl.DataFrame, quotas: Mapping[str, int], seed: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(rows that stay, with `repeat`; rows that go, with a reason), both in the order of the table.

    A source with a quota of q and n rows counts each row q // n times, and q % n of them, those with the smallest draws,
    once more.
    """
    draw = pl.Series("draw", draws(seed, "mix", table[columns.ID]))
    quota = table[columns.SOURCE].replace_strict(dict(quotas), default=0, return_dtype=pl.Int64).alias("quota")
    place = table.select(columns.ID, columns.SOURCE).with_columns(draw, quota)
    # The place of a row among its source's rows, by draw and then by id.
    ordered = place.with_row_index("row").sort("draw", columns.ID)
    nth = np.empty(table.height, dtype=np.int64)
    nth[ordered["row"].to_numpy()] = ordered.select(pl.int_range(pl.len()).over(columns.SOURCE)).to_series().to_numpy()
    size = pl.len().over(columns.SOURCE)
    repeat = place.with_columns(pl.Series("nth", nth)).select(
        (pl.col("quota") // size + (pl.col("nth") < pl.col("quota") % size)).cast(pl.Int32).alias(columns.REPEAT)
    )
    mixed = table.hstack(repeat)
    reason = pl.format("mix: not drawn for the {} rows of {}", quota, columns.SOURCE)
    kept = mixed.filter(pl.col(columns.REPEAT) > 0)
    removed = mixed.with_columns(reason.alias(columns.REASON)).filter(pl.col(columns.REPEAT) == 0).drop(columns.REPEAT)
    return kept, removed


def _largest_remainder(weights: Mapping[str, int], rows: int) -> dict[str, int]:
    """Whole numbers in proportion to the weights that sum to `rows` (Hamilton's method); ties go by name."""
    total = sum(weights.values())
    if rows < 1 or not total:
        raise RequestError(
            f"mix: {rows} rows are asked of sources that hold {total}; ask for 1 or more, of sources with rows"
        )
    quotas = {source: rows * weight // total for source, weight in weights.items()}
    by_remainder = sorted(weights, key=lambda source: (-(rows * weights[source] % total), source))
    for source in by_remainder[: rows - sum(quotas.values())]:
        quotas[source] += 1
    return quotas
