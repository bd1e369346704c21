"""What methods are given and give back: plain arrays in small frozen dataclasses.

filter    reject(text, …)        -> pl.Series: null keeps the row, else why it goes ("words 2 < 3")
dedup     duplicates(text, …)    -> Duplicates
embed     embed(texts, …)        -> float32 (n, d)
cluster   cluster(vectors, …)    -> Clusters
select    select(pool, budget…)  -> Picks

Methods beside a recipe import them from `tamis`: from tamis import Picks.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from curate.contract import columns
from curate.contract.errors import ContractError

_BLOCK = 16_384  # rows looked at a time


@dataclass(frozen=True)
class Pool:
    """The rows that a selector chooses from.

    table: the contract's columns, n rows. vectors: float32 (n, d), row i for row i of the table, or None where no
    ``embed`` step came before; they may be memory-mapped and need not have unit length.
    """

    table: pl.DataFrame
    vectors: np.ndarray | None = None

    def __len__(self) -> int:
        return self.table.height

    @property
    def ids(self) -> list[str]:
        return self.table[columns.ID].to_list()

    def need_vectors(self, method: str) -> np.ndarray:
        """The vectors, or one sentence that says which step is missing."""
        if self.vectors is None:
            raise ContractError(f"{method} needs vectors; add an `embed` step before it")
        return self.vectors

    def need(self, column: str, method: str) -> pl.Series:
        """A column, or one sentence that says what there is."""
        if column not in self.table.columns:
            step = "add a `cluster` step before it, or name" if column == "cluster" else "name"
            raise ContractError(
                f"{method} needs the column `{column}`; {step} one of: {', '.join(sorted(self.table.columns))}"
            )
        return self.table[column]

    def labels(self, column: str, method: str) -> pl.Series:
        """A column as text, by which rows can be grouped: null where there is no value. Columns of lists are refused."""
        values = self.need(column, method)
        if values.dtype.is_nested():
            raise ContractError(
                f"{method} groups rows by the values of `{column}`, and that column holds {values.dtype}; name one that holds "
                "text or numbers"
            )
        return values.cast(pl.String)

    def take(self, index: np.ndarray) -> Pool:
        """The rows at ``index`` (int64), in that order."""
        return Pool(self.table[index.tolist()], None if self.vectors is None else self.vectors[index])


def real(vectors: np.ndarray, ids: pl.Series) -> np.ndarray:
    """Vectors (n, d) of finite real numbers: as they are where they are float32 or float64, else a float32 copy. ContractError
    names the first row, with its id, that float32 cannot hold. A pass over them, in blocks: 1 second a million rows of 384."""
    if vectors.dtype.kind not in "fiu":
        raise ContractError(
            f"the vectors of a pool are real numbers, and here they are {vectors.dtype}; give floats, as vectors.astype('float32') "
            "makes of what can be one"
        )
    out = vectors if vectors.dtype in (np.float32, np.float64) else np.empty(vectors.shape, np.float32)
    for start in range(0, len(vectors), _BLOCK):
        with np.errstate(over="ignore"):
            block = np.asarray(vectors[start : start + _BLOCK], dtype=np.float32)
        wrong = ~np.isfinite(block).all(axis=1)
        if wrong.any():
            row = start + int(np.argmax(wrong))
            raise ContractError(
                f"the vectors of a pool are finite, and row {row} of {len(vectors)} (id {ids[row]}) holds NaN, infinity or a number "
                "above 3.4e38; leave that row out, or embed it anew"
            )
        if out is not vectors:
            out[start : start + _BLOCK] = block
    return out


@dataclass(frozen=True)
class Picks:
    """What a selector chose. index: int64 (k,) into the pool, in the order of picking, so every prefix is the smaller
    subset, unless the facts say ``nested: False``. gain: float32 (k,), what each pick added to the method's own objective
    (nan where it has none). facts: what else there is to say of the choice, for the manifest: a certificate, a radius, how
    many rows are covered."""

    index: np.ndarray
    gain: np.ndarray
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Clusters:
    """label: int32 (n,), -1 for noise. distance: float32 (n,), to the centre of the row's own cluster. levels: where the method
    makes a tree, other cuts of it by their number of clusters, int32 (n,) each; a coarse one is a union of finer ones."""

    label: np.ndarray
    distance: np.ndarray
    levels: dict[int, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class Duplicates:
    """of: int64 (n,), the row that row i repeats, or i itself where it is kept. similarity: float32 (n,), 1 where equal."""

    of: np.ndarray
    similarity: np.ndarray
