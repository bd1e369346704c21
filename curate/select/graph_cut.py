"""Pick rows that are like the whole pool and, as far as asked, unlike each other (graph cut).

When to use: for rows that stand for the bulk of a pool. The first term counts all rows and the second the picks alone,
so with ``lambda`` at most 1/2 and a budget far below the pool the picks crowd around its mean; for spread take
``facility_location``, or a lambda near rows / (2 x budget), where both terms weigh the same and the guarantee is gone.
Cost: time n x budget x d, memory n x (d + 4) floats; no n x n matrix. 10,000 rows of 384 with 1,000 picks: two seconds
of one core; each pick reads all vectors once, so a million rows take about a quarter of a second a pick.

    - embed: sentence
    - select: {graph_cut: {budget: 1000, lambda: 0.5}}

Objective: the sum over rows v and picks a of s(v, a), less lambda times the sum over pairs of picks a, b (each pair in
both orders, and a with itself) of s(a, b), where s = (1 + cos) / 2 is never negative. That kernel is a product of
vectors with one more dimension, so sums over rows are one vector each.

Reference: Kaushal et al. 2022, "Submodlib", arXiv 2202.10680, section 2 (graph cut). For lambda at most 1/2 it is
monotone and submodular, and greedy picks reach at least 63 % of the best value (Nemhauser, Wolsey and Fisher 1978).
"""

from __future__ import annotations

import math

import numpy as np

from curate.contract.errors import MethodError
from curate.rows.constraints import Constraints
from curate.rows.pool import Picks, Pool
from curate.select.greedy import greedy
from curate.vectors.product import product
from curate.vectors.unit import unit_by_id

_BLOCK = 16_384  # rows whose sums are computed in double precision at a time
_TIE = 1e-5  # gains closer than this are rounding, and go by id


def select(
    pool: Pool, budget: int, *, seed: int = 0, constraints: Constraints | None = None, lambda_: float = 0.5
) -> Picks:
    """The exact greedy picks. Gain: what the pick adds to the objective, in units of rows; it falls from pick to pick,
    and below zero where lambda is large: the budget is then still filled.

    lambda: how much likeness among the picks costs, 0 or more.

    Every prefix is the smaller selection (not with a budget of tokens). Nothing is drawn; ``seed`` changes nothing. A
    row of zeros is half alike to every row and to itself.
    """
    if not (math.isfinite(lambda_) and lambda_ >= 0):
        raise MethodError(f"select graph_cut: lambda is {lambda_}; it is 0 or more, and at most 0.5 for the guarantee")
    order, vectors = unit_by_id(pool, "graph_cut")
    wanted = (constraints or Constraints.none(len(pool), budget)).ordered(order)
    tie = _TIE * max(1.0, 2 * lambda_)
    certify = lambda_ <= 0.5
    picks = greedy(lambda: _Cut(vectors, lambda_), wanted, label="graph_cut", tie=tie, certify=certify)
    return Picks(order[picks.index], picks.gain, picks.facts)


class _Cut:
    """The objective. gain: the sum of a row's likenesses to all rows, less lambda times those to itself and, twice, to
    the picks."""

    exact = True

    def __init__(self, vectors: np.ndarray, weight: float):
        self.vectors, self.weight = vectors, weight
        self.gain = _alone(vectors, weight)

    def refresh(self, rows: np.ndarray, later: np.ndarray) -> None: ...

    def add(self, row: int) -> None:
        self.gain -= self.weight * (1 + product(self.vectors, self.vectors[row]))


def _alone(vectors: np.ndarray, weight: float) -> np.ndarray:
    """What each row adds as the first pick: float64 (n,)."""
    total = vectors.sum(axis=0, dtype=np.float64)
    gain = np.empty(len(vectors))
    for start in range(0, len(vectors), _BLOCK):
        block = vectors[start : start + _BLOCK].astype(np.float64)
        itself = (1 + np.einsum("ij,ij->i", block, block)) / 2
        gain[start : start + _BLOCK] = (len(vectors) + block @ total) / 2 - weight * itself
    return gain
