"""Pick the rows that together are most like all rows: each row of the pool should have a pick near it.

When to use: as the first choice for a small, diverse subset; it covers the dense regions first and is not drawn to outliers.
Cost: exact, time is a few n x n x d matrix products, memory n x d floats and at most 320 MB of cosines. On a
graph of neighbours (above 60,000 rows), time is that of the graph, a few minutes for a million rows of 384, and memory n x d
floats and 24 bytes a neighbour.

    - embed: sentence
    - select: {facility_location: {budget: 1000}}

Objective: the sum over all rows v of max(0, max over picks a of cos(v, a)). Greedy picks reach at least 63 % of the best
possible value (Nemhauser, Wolsey and Fisher 1978), which the certificate of a run mostly shows to be far more; lazy evaluation
(Minoux 1978) gives the same picks sooner. On a graph, a row counts only its own nearest neighbours: Lindgren, Wu and Dimakis
2016, "Leveraging Sparsity for Efficient Submodular Data Summarization". On samples: Mirzasoleiman et al. 2015, arXiv 1409.7938.
In parts: RandGreeDi, Barbosa et al. 2015, arXiv 1502.02606; its bound is for parts that see the whole pool, and here each sees
its own rows, so that it holds one part at a time.
"""

from __future__ import annotations

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
from curate.vectors.unit import unit_by_id

RENAMED = {"neighbors": "neighbours"}

_EXACT = 60_000  # rows up to which all pairs are looked at, if not told otherwise
_NEIGHBOURS = 16  # of each row, above that
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
    without a neighbour picked; 0 for all rows, which is exact. If not given, all up to 60,000 rows and 16 above. epsilon: look
    only at (n / budget) ln(1 / epsilon) rows, drawn by hash, for each pick: at least 1 - 1/e - epsilon of the best in
    expectation. partitions: choose in so many random parts of the pool first and then among what was chosen there.

    Prefixes are smaller selections but with epsilon or partitions (``nested`` is then False).

    Facts: ``certificate`` (value, upper_bound, ratio), but in parts; on a graph it is called ``graph_certificate``, since it speaks
    of the graph's objective. On a graph or in parts ``full_objective``, the mean over 20,000 drawn rows of the cosine to the
    nearest pick, and the ``full_objective_of_random`` picks; on a graph its ``recall`` of true neighbours, ``covered``, the share of rows
    that have a pick among their neighbours, and ``sparse_ratio``, the objective on the graph beside the full one.
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
    certificate = picks.facts
    if "graph" in facts:
        facts["sparse_ratio"] = facts.pop("graph") / max(facts["full_objective"], 1e-12)
        certificate = {f"graph_{name}": value for name, value in picks.facts.items()}
    nested = {} if epsilon is None and partitions == 1 else {"nested": False}
    return Picks(order[picks.index], picks.gain, {**certificate, **facts, **nested})


@dataclass(frozen=True)
class _Way:
    """One way to choose, for the pool or for a part of it."""

    seed: int
    neighbours: int | None
    epsilon: float | None

    def choose(self, vectors: np.ndarray, ids: list[str], wanted: Constraints) -> tuple[Picks, dict[str, float]]:
        """The picks, and what there is to say of the graph, if they were made on one."""
        many = self.neighbours if self.neighbours is not None else (0 if len(vectors) <= _EXACT else _NEIGHBOURS)
        if not many or many >= len(vectors):
            return self.greedy(lambda: Coverage(vectors), len(vectors), ids, wanted), {}
        index, cosine = graph(vectors, many, seed=self.seed)
        of_true, objective = recall(vectors, index, seed=self.seed), GraphCoverage(index, cosine)
        picks = self.greedy(objective.fresh, len(vectors), ids, wanted)
        covered = objective.fresh()
        for row in picks.index.tolist():
            covered.add(row)
        near, seen = float((covered.covered > 0).mean()), covered.background + covered.covered
        return picks, {"recall": of_true, "covered": near, "graph": float(seen.mean(dtype=np.float64))}

    def greedy(self, make: Callable[[], Objective], rows: int, ids: list[str], wanted: Constraints) -> Picks:
        samples = None if self.epsilon is None else shuffled(self.seed, "select.facility_location", ids)
        return greedy(
            make,
            wanted,
            label="facility_location",
            tie=1e-6 + 3e-8 * rows,
            samples=samples,
            epsilon=self.epsilon or 0.1,
            certify=True,
        )

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
            candidates = np.union1d(candidates, wanted.must)
            tie = 1e-6 + 3e-8 * len(seen)
            make = lambda: Coverage(vectors[seen], vectors[candidates])  # noqa: E731
            picks = greedy(make, wanted.ordered(candidates), label="facility_location: last round", tie=tie)
            return replace(picks, index=candidates[picks.index])

        joined = last_round(np.concatenate(local))
        best = max(local, key=lambda rows: _mean(vectors, seen, rows))
        return joined if _mean(vectors, seen, joined.index) >= _mean(vectors, seen, best) else last_round(best)


def _full(vectors: np.ndarray, ids: list[str], picks: np.ndarray, seed: int) -> dict[str, Any]:
    """The full objective of picks, a row, over drawn rows, and that of random picks."""
    if not len(picks):
        return {"full_objective": 0.0, "full_objective_of_random": 0.0}
    seen = _drawn(ids, _SAMPLE, seed)
    random = shuffled(seed, "select.random", ids)[: len(picks)]
    return {"full_objective": _mean(vectors, seen, picks), "full_objective_of_random": _mean(vectors, seen, random)}


def _drawn(ids: list[str], rows: int, seed: int) -> np.ndarray:
    return np.sort(shuffled(seed, "select.sample", ids)[:rows])


def _mean(vectors: np.ndarray, rows: np.ndarray, picks: np.ndarray) -> float:
    """The mean over ``rows`` of max(0, cosine to the nearest of ``picks``)."""
    if not len(picks) or not len(rows):
        return 0.0
    chosen, block = vectors[picks], max(1, 2**26 // max(len(picks), 1))
    parts = [(vectors[rows[at : at + block]] @ chosen.T).max(axis=1) for at in range(0, len(rows), block)]
    return float(np.maximum(np.concatenate(parts), 0).mean(dtype=np.float64))
