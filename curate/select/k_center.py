"""Pick the row that is farthest from all picks so far, again and again (k-center greedy, farthest first).

When to use: to cover a pool to its edges, so that no row is far from a pick. It likes outliers: filter noise out first.
Cost: time n x budget x d, memory n x (d + 64) floats. 10,000 rows of 384 with 1,000 picks: well under a second; a million
rows: under a minute.

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

_BLOCK = 64  # far rows whose distances are computed in one matrix product; most of them are picked before the next one
_TIE = 1e-6  # squared distances closer than this are rounding, and go by id


def select(
    pool: Pool, budget: int, *, seed: int = 0, constraints: Constraints | None = None, outliers: float = 0.0
) -> Picks:
    """Euclidean distance between unit vectors, sqrt(2 - 2 cos). Gain: the distance to the nearest earlier pick.

    The first pick is the row nearest to the mean of all, and its gain is nan. Nothing is drawn; ``seed`` changes
    nothing. Rows with equal vectors are at distance 0 and come last, by id.

    outliers: the share of the pool that need not be near a pick. Each pick is then the farthest row but for that many;
    when there are no rows but those left, they come last.

    Facts: ``radius``, the largest distance of any row (but the outliers) to a pick, and without outliers and
    constraints ``radius_at_least``, below which no choice of as many rows can get: half of the distance at which the
    next pick would stand, since all those rows lie that far apart.
    """
    if not 0 <= outliers < 1:
        raise MethodError(f"select k_center: outliers is {outliers}; it is a share of the pool, from 0 to below 1")
    order, vectors = unit_by_id(pool, "k_center")
    wanted = (constraints or Constraints.none(len(pool), budget)).ordered(order)
    far = _Farthest(vectors, int(outliers * len(vectors)))
    if wanted.plain and wanted.quality is None and not far.outliers and len(vectors) and device() == "cuda":
        picks, gains, radius = _on_device(vectors, wanted.budget, "cuda")
        return Picks(order[picks], gains, {"radius": radius, "radius_at_least": radius / 2} if len(picks) else {})
    chosen = greedy(lambda: far, wanted, label="k_center", tie=_TIE, scale=2.0)
    gain = np.sqrt(np.maximum(np.array(far.gains, dtype=np.float32), 0))
    return Picks(order[chosen.index], gain, far.radius(bounded=wanted.plain and wanted.quality is None))


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
        self.gains: list[float] = []
        self.block: dict[int, np.ndarray] = {}

    def refresh(self, rows: np.ndarray, later: np.ndarray) -> None: ...

    def add(self, row: int) -> None:
        self.gains.append(float(self.nearest[row]) if self.gains else np.nan)
        if row not in self.block:
            rows = _farthest(self.gain if self.gains[1:] else self.nearest, row)
            distances = _squared_distances(self.vectors, self.squared_norm, self.vectors[rows])
            self.block = dict(zip(rows.tolist(), distances, strict=True))
        np.minimum(self.nearest, self.block[row], out=self.nearest)
        self.nearest[row] = -np.inf  # never again
        self.gain = self.nearest
        if self.outliers and self.outliers < len(self.nearest):
            self.gain = self.nearest.copy()
            self.gain[np.argpartition(-self.nearest, self.outliers - 1)[: self.outliers]] = -1.0

    def radius(self, bounded: bool) -> dict[str, float]:
        """The facts of a finished choice."""
        if not self.gains or not len(self.nearest):
            return {}
        left = np.partition(self.nearest, len(self.nearest) - 1 - self.outliers)[len(self.nearest) - 1 - self.outliers]
        radius = float(np.sqrt(max(float(left), 0.0)))
        return {"radius": radius, **({"radius_at_least": radius / 2} if bounded and not self.outliers else {})}


def _on_device(vectors: np.ndarray, budget: int, device: str) -> tuple[np.ndarray, np.ndarray, float]:
    """(picks, gains, radius) as ``_Farthest`` gives them, all in the memory of a device: one pass over the vectors a pick, which
    no result leaves. The same picks where no two distances are within rounding of each other."""
    import torch

    with torch.inference_mode():
        points = torch.from_numpy(vectors).to(device)
        squared_norm = (points * points).sum(dim=1)
        mean = points.mean(dim=0)
        score = -(squared_norm - 2 * (points @ mean) + mean @ mean)
        nearest = torch.full_like(score, torch.inf)
        picks = torch.empty(budget, dtype=torch.int64, device=device)
        gains = torch.empty(budget, dtype=torch.float32, device=device)
        with bar(budget, "k_center") as advance:
            for number in range(budget):
                pick = (score >= score.max() - _TIE).to(torch.uint8).argmax()  # the lowest index among the largest
                picks[number], gains[number] = pick, nearest[pick]
                distance = squared_norm - 2 * (points @ points[pick]) + squared_norm[pick]
                nearest = torch.minimum(nearest, distance).index_fill_(0, pick[None], -torch.inf)
                score = nearest
                advance(1)
        gain = gains.clamp(min=0).sqrt().cpu().numpy()
        radius = float(nearest.max().clamp(min=0).sqrt()) if budget else 0.0
    gain[:1] = np.nan
    return picks.cpu().numpy(), gain, radius


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
