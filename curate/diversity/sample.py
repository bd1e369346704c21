"""What a diversity measure is given: one subset of a pool, and what was computed for all subsets of that pool at once.

A measure is a file with ``measure(sample, *, ...) -> dict[str, float]``. ``ABOUT`` says of each name that it gives in one plain
line what it is, and whether "higher" or "lower" is more diverse (None where neither is). ``FACTS`` names the functions of a
table that give one fact a row and are computed once a row, not once a subset. A measure that does not apply gives nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl

from curate.contract import columns
from curate.contract.draws import draws

_PAIRS = 20_000_000  # distances held at once: 80 MB


@dataclass(frozen=True)
class Sample:
    """A subset of k rows. What is not there is None, and a measure that needs it gives nothing.

    table: the contract's columns, k rows sorted by id. vectors: float32 (k, d) of unit length, row i for row i of the table; a
    row of zeros is like nothing. nearest: float32 (m,), for each of m rows of the pool its largest cosine to the subset.
    density: float32 (k,), how crowded the pool is around each row. facts: k rows, a column a fact. ``curate.vectors.density``
    computes ``nearest`` and ``density``.
    """

    table: pl.DataFrame
    vectors: np.ndarray | None = None
    nearest: np.ndarray | None = None
    density: np.ndarray | None = None
    facts: pl.DataFrame | None = None

    def __len__(self) -> int:
        return self.table.height

    def fact(self, of_rows: Callable[[pl.DataFrame], pl.Series | None]) -> pl.Series | None:
        """One fact a row, from ``facts`` or computed now; None where the table lacks what it is told from."""
        if self.facts is not None and of_rows.__name__ in self.facts.columns:
            return self.facts[of_rows.__name__]
        return of_rows(self.table)

    @cached_property
    def spectrum(self) -> np.ndarray | None:
        """The eigenvalues of the k x k matrix of cosines, all but zeros: float64, none below 0.

        They are those of the smaller of vectors @ vectors.T (k x k) and vectors.T @ vectors (d x d). A row of zeros is like
        itself and like no other: an eigenvalue of 1.
        """
        if self.vectors is None:
            return None
        vectors = self.vectors.astype(np.float64)
        gram = vectors @ vectors.T if len(vectors) < vectors.shape[1] else vectors.T @ vectors
        zeros = int((~vectors.any(axis=1)).sum())
        return np.concatenate([np.maximum(np.linalg.eigvalsh(gram), 0), np.ones(zeros)])

    @cached_property
    def distances(self) -> tuple[np.ndarray, np.ndarray] | None:
        """(rows, distances): int64 (r,) and float32 (r, k - 1), 1 - cosine of each of r rows to all others, nearest first.

        All rows where k x k is at most 20 million (k up to 4,472), else as many as that allows, drawn by a hash of the id.
        """
        if self.vectors is None:
            return None
        k = len(self)
        rows = np.arange(k)
        if k * k > _PAIRS:
            drawn = draws(0, "diversity.pairs", self.table[columns.ID])
            rows = np.sort(np.argsort(drawn, kind="stable")[: max(1, _PAIRS // k)])
        of = self.vectors if len(rows) == k else self.vectors[rows]
        distances = of @ self.vectors.T
        np.subtract(1, distances, out=distances)
        distances[np.arange(len(rows)), rows] = np.inf  # the row itself is last
        distances.sort(axis=1)
        return rows, distances[:, : k - 1]
