"""Pick the rows that together are most like all rows: each row of the pool should have a pick near it.

When to use: as the first choice for a small, diverse subset; it covers the dense regions first and is not drawn to outliers.
Cost: exact, time is a few n x n x d matrix products, memory n x d floats and at most 320 MB of cosines. On a graph of
neighbours (above 60,000 rows), time is that of the graph, a minute or a few for a million rows of 384, and memory n x d floats and
about 40 bytes a neighbour, which is at most 1.3 KB a row of the pool.

    - embed: sentence
    - select: {facility_location: {budget: 1000}}

Objective: the sum over all rows v of max(0, max over picks a of cos(v, a)). Greedy picks reach at least 63 % of the best
possible value (Nemhauser, Wolsey and Fisher 1978), which the certificate of a run mostly shows to be far more; lazy evaluation
(Minoux 1978) gives the same picks sooner. On a graph, a row counts only its own nearest neighbours: Lindgren, Wu and Dimakis
2016, "Leveraging Sparsity for Efficient Submodular Data Summarization". With too few neighbours for the budget most rows have no
pick among theirs, and the choice goes by dense spots alone; so each row counts a quarter of n / budget of them, with which two rows
in three have one. That many of every row do not fit where the budget is small, and need not: then 100 rows for each pick are drawn,
and the objective is what these count. `python -m benchmarks graph` prints what that is worth beside the exact choice. On
samples of the candidates: Mirzasoleiman et al. 2015, arXiv 1409.7938.
In parts: RandGreeDi, Barbosa et al. 2015, arXiv 1502.02606; its bound is for parts that see the whole pool, and here each sees
its own rows, so that it holds one part at a time.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from curate.contract import columns
from curate.contract.draws import draws, shuffled
from curate.contract.errors import MethodError
from curate.rows.constraints import Constraints
from curate.rows.pool import Picks, Pool
from curate.select.coverage import Coverage, GraphCoverage
from curate.select.greedy import Objective, greedy
from curate.vectors.neighbours import graph, recall
from curate.vectors.product import product
from curate.vectors.unit import unit_by_id

RENAMED = {"neighbors": "neighbours"}

EXACT = 60_000  # rows up to which all pairs are looked at, if not told otherwise
_NEIGHBOURS = 16  # of each row, above that, at least
_PER_PICK = (
    100  # rows that are counted for each pick, above that: with half as many 4 % of the gain over random is lost
)
_FEW, _FEW_ROWS = 20, 5_000  # picks below which so many rows are compared with all, above that
_SAMPLE = 20_000  # rows on which the full objective is measured where the choice was made on less
_LAST_ROUND = 50_000  # rows that the last round of a choice in parts is made for


def select(
    pool: Pool,
    budget: int,
    *,
    seed: int = 0,
    constraints: Constraints | None = None,
    neighbours: int | None = None,
    epsilon: float | None = None,
    partitions: int = 1,
) -> Picks:
    """The greedy picks. Gain: what the pick adds to the objective, in units of rows. Gains within rounding of each other
    (1e-6 + 3e-8 n) are ties and go by id; so do rows that add nothing, such as copies of a pick, which come last.

    neighbours: how many neighbours of its own each row counts (itself one of them), and gain is then counted above what a row has
    without a neighbour picked; 0 for all rows, which is exact. If not given, 0 up to 60,000 rows, and above what the budget asks
    for: n / (4 budget), at least 16; for less than n / 100 picks, n / (2 budget) of 100 rows a pick, drawn by hash; for less
    than 20 picks, all pairs with 5,000 drawn rows. Gains are then as if all rows were counted. epsilon: look only at
    (n / budget) ln(1 / epsilon) rows, drawn by hash, for each pick: at least 1 - 1/e - epsilon of the best in expectation.
    partitions: choose in so many random parts of the pool first and then among what was chosen there.

    Prefixes are smaller selections but with epsilon or partitions, or above 60,000 rows where ``neighbours`` is not given and so
    depends on the budget (``nested`` is then False).

    Facts: ``certificate`` (value, upper_bound, ratio), but in parts; on a graph it is called ``graph_certificate`` and on drawn
    rows ``drawn_certificate``, since it speaks of their objective. In all three cases ``full_objective``, the mean over 20,000 drawn
    rows of the cosine to the nearest pick, and the ``full_objective_of_random`` picks; ``counted_rows``, if they are not all.
    On a graph ``graph_neighbours`` of each row and their ``recall`` of the true ones; ``covered``, the share of the rows
    that have a pick among their neighbours, without which the graph cannot tell how near a pick is; and ``sparse_ratio``, between 0
    and 1, the share of the full objective that the graph sees: over at most 20,000 of the rows, the sum of the cosines to
    the nearest pick of those that have it among their neighbours, beside the sum for all.
    """
    if neighbours is not None and (neighbours < 0 or neighbours == 1):
        raise MethodError(
            f"select facility_location: neighbours is {neighbours}; it is 2 or more (16 is usual), or 0 for all rows"
        )
    if epsilon is not None and not 0 < epsilon < 1:
        raise MethodError(f"select facility_location: epsilon is {epsilon}; it lies between 0 and 1, as 0.01")
    if partitions < 1:
        raise MethodError(f"select facility_location: partitions is {partitions}; it is 1 or more")
    order, vectors = unit_by_id(pool, "facility_location")
    ids = pool.table[columns.ID][order.tolist()].to_list()
    wanted = (constraints or Constraints.none(len(pool), budget)).ordered(order)
    way = _Way(seed, neighbours, epsilon)
    if partitions == 1:
        picks, facts = way.choose(vectors, ids, wanted)
    else:
        picks, facts = way.in_parts(vectors, ids, wanted, partitions), {}
    if facts or partitions > 1:
        facts |= _full(vectors, ids, picks.index, seed)
    by_budget = neighbours is None and len(pool) > EXACT
    nested = {"nested": False} if epsilon is not None or partitions > 1 or by_budget else {}
    return Picks(order[picks.index], picks.gain, {**picks.facts, **facts, **nested})


@dataclass(frozen=True)
class _Way:
    """One way to choose, for the pool or for a part of it."""

    seed: int
    neighbours: int | None
    epsilon: float | None

    def choose(self, vectors: np.ndarray, ids: list[str], wanted: Constraints) -> tuple[Picks, dict[str, Any]]:
        """The picks, and what there is to say of the graph, if they were made on one."""
        n = len(vectors)
        many, counted = self._size(n, _expected(wanted))
        rows = np.arange(n) if counted >= n else _drawn(ids, counted, self.seed, "select.counted")
        facts: dict[str, Any] = {} if len(rows) == n else {"counted_rows": counted}
        if not many or many >= n:
            some = vectors if len(rows) == n else vectors[rows]
            picks = self.greedy(lambda: Coverage(some, vectors), len(rows), ids, wanted, "drawn_" if facts else "")
        else:
            index, cosine = graph(vectors, many, rows=rows if facts else None, seed=self.seed)
            facts |= {"graph_neighbours": many, "recall": recall(vectors, index, seed=self.seed)}
            objective = GraphCoverage(index, cosine, n)
            picks = self.greedy(objective.fresh, len(rows), ids, wanted, "graph_")
            covered = objective.fresh()
            for row in picks.index.tolist():
                covered.add(row)
            seen = np.where(covered.covered > 0, covered.background + covered.covered, 0)
            facts |= {"covered": float((covered.covered > 0).mean())}
            facts |= {"sparse_ratio": self._seen(vectors, ids, picks, rows, seen)}
        return picks if wanted.quality is not None else _times(picks, n / max(len(rows), 1)), facts

    def _size(self, rows: int, picks: int) -> tuple[int, int]:
        """(how many neighbours a row counts, 0 for all; how many rows are counted)."""
        if self.neighbours is not None:
            return self.neighbours, rows
        if rows <= EXACT:
            return 0, rows
        if picks < _FEW:
            return 0, _FEW_ROWS
        share = rows / picks
        if share <= _PER_PICK:
            return max(_NEIGHBOURS, math.ceil(share / 4)), rows
        return math.ceil(share / 2), _PER_PICK * picks

    def _seen(self, vectors: np.ndarray, ids: list[str], picks: Picks, rows: np.ndarray, seen: np.ndarray) -> float:
        """The share of the full objective that ``seen`` is, float32 (m,): of each of ``rows``, how near a picked neighbour is."""
        some = _drawn([ids[row] for row in rows.tolist()], _SAMPLE, self.seed)
        full = _nearest(vectors, rows[some], picks.index)
        return float(np.minimum(seen[some], full).sum(dtype=np.float64) / max(full.sum(dtype=np.float64), 1e-12))

    def greedy(
        self, make: Callable[[], Objective], rows: int, ids: list[str], wanted: Constraints, of: str = ""
    ) -> Picks:
        """of: what its certificate is called, where it does not speak of the full objective."""
        samples = None if self.epsilon is None else shuffled(self.seed, "select.facility_location", ids)
        picks = greedy(
            make,
            wanted,
            label="facility_location",
            tie=1e-6 + 3e-8 * rows,
            samples=samples,
            epsilon=self.epsilon or 0.1,
            certify=True,
        )
        return replace(picks, facts={of + name: proof for name, proof in picks.facts.items()})

    def in_parts(self, vectors: np.ndarray, ids: list[str], wanted: Constraints, partitions: int) -> Picks:
        """RandGreeDi. What was chosen in the parts meets again over the pool (a drawn part of it where it is large); the better
        of that choice and of the best part's own is given."""
        part = draws(self.seed, "select.partition", ids) % np.uint64(partitions)
        local = []
        for number in range(partitions):
            rows = np.flatnonzero(part == number)
            picks, _ = self.choose(vectors[rows], [ids[row] for row in rows], wanted.ordered(rows))
            local.append(rows[picks.index])
        seen = _drawn(ids, _LAST_ROUND, self.seed)

        def last_round(candidates: np.ndarray) -> Picks:
            candidates = np.unique(np.concatenate([candidates, wanted.must, wanted.whole()]))
            tie = 1e-6 + 3e-8 * len(seen)
            make = lambda: Coverage(vectors[seen], vectors[candidates])  # noqa: E731
            picks = greedy(make, wanted.ordered(candidates), label="facility_location: last round", tie=tie)
            return replace(picks, index=candidates[picks.index])

        joined = last_round(np.concatenate(local))
        best = max(local, key=lambda rows: _mean(vectors, seen, rows))
        return joined if _mean(vectors, seen, joined.index) >= _mean(vectors, seen, best) else last_round(best)


def _expected(wanted: Constraints) -> int:
    """How many picks there will be, about."""
    if wanted.cost is None or not wanted.open.any():
        return wanted.budget
    return int(wanted.tokens / wanted.cost[wanted.open].mean())


def _times(picks: Picks, times: float) -> Picks:
    """Picks whose gains and certificate were counted on one row of the pool in ``times``, counted as if on all."""
    if times == 1:
        return picks
    facts = {
        name: {key: value if key == "ratio" else value * times for key, value in proof.items()}
        for name, proof in picks.facts.items()
    }
    return Picks(picks.index, picks.gain * np.float32(times), facts)


def _full(vectors: np.ndarray, ids: list[str], picks: np.ndarray, seed: int) -> dict[str, Any]:
    """The full objective of picks, a row, over drawn rows, and that of random picks."""
    seen = _drawn(ids, _SAMPLE, seed)
    random = shuffled(seed, "select.random", ids)[: len(picks)]
    return {"full_objective": _mean(vectors, seen, picks), "full_objective_of_random": _mean(vectors, seen, random)}


def _drawn(ids: list[str], rows: int, seed: int, stream: str = "select.sample") -> np.ndarray:
    return np.sort(shuffled(seed, stream, ids)[:rows])


def _mean(vectors: np.ndarray, rows: np.ndarray, picks: np.ndarray) -> float:
    """The mean over ``rows`` of max(0, cosine to the nearest of ``picks``)."""
    return float(_nearest(vectors, rows, picks).mean(dtype=np.float64)) if len(rows) else 0.0


def _nearest(vectors: np.ndarray, rows: np.ndarray, picks: np.ndarray) -> np.ndarray:
    """max(0, cosine to the nearest of ``picks``) of each of ``rows``: float32 (m,)."""
    out = np.zeros(len(rows), np.float32)
    chosen, block = vectors[picks], max(1, 2**26 // max(len(picks), 1))
    for at in range(0, len(rows) if len(picks) else 0, block):
        out[at : at + block] = np.maximum(product(vectors[rows[at : at + block]], chosen).max(axis=1), 0)
    return out
