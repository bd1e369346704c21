"""Pick the row that is farthest from all picks so far, again and again (k-center greedy, farthest first).

When to use: to cover a pool to its edges, so that no row is far from a pick. It likes outliers: filter noise out first.
Cost: time n x budget x d, memory n x (d + 64) floats. 10,000 rows of 384 with 1,000 picks: well under a second; a million
rows: under a minute. The distances that are told are computed once more in float64, which takes budget x budget x d / 2 more; in
a pool whose rows are all within 0.02 of a pick, n x budget x d.

    - embed: sentence
    - select: {k_center: {budget: 1000}}

Reference: Gonzalez 1985, "Clustering to minimize the maximum intercluster distance": at most twice the best possible radius.
As a selector of training data: Sener and Savarese 2018, arXiv 1708.00489. Leaving the farthest rows out of account, so that
noise is not picked first: in the spirit of Charikar et al. 2001, "Algorithms for facility location problems with outliers".
"""

from __future__ import annotations

import numpy as np

from curate.contract.device import device
from curate.contract.errors import MethodError
from curate.contract.progress import bar
from curate.rows.constraints import Constraints
from curate.rows.pool import Picks, Pool
from curate.select.greedy import greedy
from curate.vectors.product import product
from curate.vectors.unit import unit_by_id

_FARTHEST = 4.0  # the largest squared distance of two unit vectors
_BLOCK = 64  # far rows whose distances are computed in one matrix product; most of them are picked before the next one
_ROWS = 8_192  # rows that are compared again at a time
_TIE = 1e-6  # squared distances closer than this are rounding, and go by id


def select(
    pool: Pool, budget: int, *, seed: int = 0, constraints: Constraints | None = None, outliers: float = 0.0
) -> Picks:
    """Euclidean distance between unit vectors, sqrt(2 - 2 cos). Gain: the distance to the nearest earlier pick.

    The first pick is the row nearest to the mean of all, and its gain is nan. Nothing is drawn; ``seed`` changes
    nothing. Rows with equal vectors are at distance 0 and come last, by id. Squared distances within 1e-6 of each other are
    ties and go by id, so that among rows closer than 0.001 to a pick the farthest need not be next.

    outliers: the share of the pool that need not be near a pick. Each pick is then the farthest row but for that many;
    when there are no rows but those left, they come last.

    Facts: ``radius``, the largest distance of any row (but the outliers) to a pick, and without outliers and
    constraints ``radius_at_least``, below which no choice of as many rows can get: half of the least distance between any two of
    the picks and the row that is farthest from them, since two of these would have the same nearest pick. Both, and the gains, are
    computed from differences in float64: the radius is never less than it is, and that bound never more.
    """
    if not 0 <= outliers < 1:
        raise MethodError(f"select k_center: outliers is {outliers}; it is a share of the pool, from 0 to below 1")
    order, vectors = unit_by_id(pool, "k_center")
    wanted = (constraints or Constraints.none(len(pool), budget)).ordered(order)
    outside = int(outliers * len(vectors))
    bounded = wanted.plain and wanted.quality is None and not outside
    if bounded and len(vectors) and device() == "cuda":
        picks, nearest = _on_device(vectors, wanted.budget, "cuda")
    else:
        far = _Farthest(vectors, outside)
        picks = greedy(lambda: far, wanted, label="k_center", tie=_TIE, scale=_FARTHEST).index
        nearest = far.nearest
    if not len(picks):
        return Picks(order[picks], np.empty(0, np.float32))
    given = pool.need_vectors("k_center")
    centres = _unit(given, order[picks])
    apart = np.append(np.nan, _squared_to_nearest(centres[1:], centres, np.arange(1, len(centres))))
    squared = _squared_radius(given, order, centres, nearest, outside)
    slack = _rounding(np.float64, vectors.shape[1])
    facts = {"radius": float(np.sqrt(squared)) + (slack if squared else 0.0)}
    if bounded:
        least = float(np.fmin.reduce(apart, initial=squared)) - slack
        facts["radius_at_least"] = max(float(np.sqrt(max(least, 0.0))) - slack, 0.0) / 2
    return Picks(order[picks], np.sqrt(apart).astype(np.float32), facts)


class _Farthest:
    """The objective: the squared distance of each row to the nearest pick, which falls as picks are made.

    Exact, though distances come in blocks: a block holds those of the rows that are farthest now, and serves until the
    farthest row is none of them. One pass over the vectors then yields dozens of picks in place of one.
    """

    exact = True

    def __init__(self, vectors: np.ndarray, outliers: int):
        self.vectors, self.outliers = vectors, outliers
        self.squared_norm = np.einsum("ij,ij->i", vectors, vectors)  # 1, or 0 for a row of zeros
        mean = vectors.mean(axis=0, keepdims=True) if len(vectors) else np.zeros((1, vectors.shape[1]), np.float32)
        self.gain = -_squared_distances(vectors, self.squared_norm, mean)[0]
        self.nearest = np.full(len(vectors), np.inf, dtype=np.float32)
        self.begun = False
        self.block: dict[int, np.ndarray] = {}

    def refresh(self, rows: np.ndarray, later: np.ndarray) -> None: ...

    def add(self, row: int) -> None:
        if row not in self.block:
            rows = _farthest(self.gain if self.begun else self.nearest, row)
            distances = _squared_distances(self.vectors, self.squared_norm, self.vectors[rows])
            self.block = dict(zip(rows.tolist(), distances, strict=True))
        self.begun = True
        np.minimum(self.nearest, self.block[row], out=self.nearest)
        self.nearest[row] = -np.inf  # never again
        self.gain = self.nearest
        if self.outliers and self.outliers < len(self.nearest):
            self.gain = self.nearest.copy()
            self.gain[np.argpartition(-self.nearest, self.outliers - 1)[: self.outliers]] = -1e9  # whatever their score


def _squared_radius(
    given: np.ndarray, order: np.ndarray, centres: np.ndarray, nearest: np.ndarray, outliers: int
) -> float:
    """The squared distance of the row that is farthest from all of ``centres``, but for so many outliers.

    given: the vectors of the pool, and ``order``, in which ``nearest`` has their squared distances with the rounding of float32,
    float32 (n,), -inf for picks. Only rows that could be that one, whatever the rounding, are compared again.
    """
    place = len(nearest) - 1 - outliers
    about = float(np.partition(nearest, place)[place])
    if about == -np.inf:
        return 0.0
    slack = 2 * _rounding(np.float32, given.shape[1])
    could_be = order[(nearest >= about - slack) & (nearest <= about + slack)]
    squared = [
        _squared_to_nearest(_unit(given, could_be[at : at + _ROWS]), centres) for at in range(0, len(could_be), _ROWS)
    ]
    place = len(could_be) - 1 - (outliers - int((nearest > about + slack).sum()))
    return float(np.partition(np.concatenate(squared), place)[place])


def _rounding(kind: type[np.floating], d: int) -> float:
    """The most by which a squared distance of unit vectors computed from their products may be wrong, their own rounding
    included: each of the three sums of d products by d / 2 units in the last place of 1, each of the vectors by as much."""
    return 4 * (d + 8) * float(np.finfo(kind).eps)


def _unit(vectors: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Those rows, of length one or zero: float64 (m, d)."""
    some = np.asarray(vectors[rows], dtype=np.float64)
    largest = np.abs(some).max(axis=1, initial=0, keepdims=True)
    some = some / np.where(largest > 0, largest, 1)
    length = np.linalg.norm(some, axis=1, keepdims=True)
    return some / np.where(length > 0, length, 1)


def _squared_to_nearest(rows: np.ndarray, centres: np.ndarray, first: np.ndarray | None = None) -> np.ndarray:
    """float64 (m,): the squared distance of each of ``rows`` to the nearest of ``centres``, or of the ``first`` (m,) of them.
    Products say which is the nearest, within ``_rounding``, and the difference how far it is."""
    out = np.empty(len(rows))
    block = max(1, 2**22 // len(centres))
    for at in range(0, len(rows), block):
        some = rows[at : at + block]
        there = centres if first is None else centres[: first[at : at + block].max()]
        squared = np.einsum("ij,ij->i", there, there) - 2 * product(some, there)
        if first is not None:
            squared[np.arange(len(there)) >= first[at : at + block, None]] = np.inf
        apart = some - there[squared.argmin(axis=1)]
        out[at : at + block] = np.einsum("ij,ij->i", apart, apart)
    return out


def _on_device(vectors: np.ndarray, budget: int, device: str) -> tuple[np.ndarray, np.ndarray]:
    """(picks, nearest) as ``_Farthest`` gives them, all in the memory of a device: one pass over the vectors a pick, which no
    result leaves. The same picks where no two distances are within rounding of each other."""
    import torch

    with torch.inference_mode():
        points = torch.from_numpy(vectors).to(device)
        squared_norm = (points * points).sum(dim=1)
        mean = points.mean(dim=0)
        score = -(squared_norm - 2 * (points @ mean) + mean @ mean)
        nearest = torch.full_like(score, torch.inf)
        picks = torch.empty(budget, dtype=torch.int64, device=device)
        with bar(budget, "k_center") as advance:
            for number in range(budget):
                pick = (score >= score.max() - _TIE).to(torch.uint8).argmax()  # the lowest index among the largest
                picks[number] = pick
                distance = squared_norm - 2 * (points @ points[pick]) + squared_norm[pick]
                nearest = torch.minimum(nearest, distance).index_fill_(0, pick[None], -torch.inf)
                score = nearest
                advance(1)
    return picks.cpu().numpy(), nearest.cpu().numpy()


def _farthest(nearest: np.ndarray, pick: int) -> np.ndarray:
    """``pick`` and the rows that are farthest from all picks: int64, at most ``_BLOCK``."""
    far = np.argpartition(-nearest, min(_BLOCK, len(nearest) - 1))[:_BLOCK]
    return np.concatenate([[pick], far[far != pick][: _BLOCK - 1]])


def _squared_distances(vectors: np.ndarray, squared_norm: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """float32 (m, n), from each of m centres to each of n rows."""
    squared = product(centres, vectors)
    squared *= -2
    squared += squared_norm
    squared += np.einsum("ij,ij->i", centres, centres)[:, None]
    return squared
