"""Running selectors for a comparison: which, with what options, and each in a process of its own."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from curate.contract import columns, methods, processes
from curate.contract.errors import RequestError, TamisError
from curate.contract.progress import say
from curate.rows.pick import pick
from curate.rows.pool import Picks, Pool
from curate.run.memory import peak_mb, reset_peak

LENGTH = "response_characters"  # stands in for a score

_WARM = 64  # rows that a selector tries first
_CUTS = (0.5, 1, 2)  # times the number of clusters


@dataclass(frozen=True)
class Wanted:
    """How one selector is run. clusters: the option that names a cluster column, "k" where it makes its own, or None."""

    name: str
    options: dict[str, Any]
    clusters: str | None = None


@dataclass(frozen=True)
class Ran:
    """What a selector did. mb: how far the process grew during the call. seeds, cuts: its picks by seed and by number of
    clusters, int64 (budget,) each; those of seed 0 are the picks proper. draws: whether seed 1 gave others; None where there was
    one seed."""

    seconds: float
    mb: int
    seeds: dict[int, np.ndarray]
    draws: bool | None = None
    cuts: dict[int, np.ndarray] = field(default_factory=dict)

    @property
    def picks(self) -> np.ndarray:
        return self.seeds[0]


# --- which selectors, and how ----------------------------------------------------------------------------------------


def score_of(pool: pl.DataFrame) -> str:
    """The first score column without gaps, else the stand-in."""
    whole = (name for name in pool.columns if name.startswith("score_") and pool[name].dtype.is_numeric())
    return next((name for name in whole if pool[name].cast(pl.Float64).is_finite().fill_null(False).all()), LENGTH)


def plan(
    pool: pl.DataFrame, score: str, cluster: str | None, only: Sequence[str]
) -> tuple[list[Wanted], dict[str, str]]:
    """(the selectors to run, why others are left out)."""
    asked = {name: methods.find("select", name) for name in only} or methods.all_of("select")
    groups = [
        name
        for name in (columns.TASK, columns.SOURCE, cluster, columns.TASK_CLUSTER)
        if name in pool.columns and pool[name].n_unique() > 1
    ]
    wanted, left_out = [], {}
    for name, method in sorted(asked.items()):
        try:
            wanted.append(_wanted(method, pool, score, cluster, groups))
        except RequestError as error:
            left_out[name] = str(error)
    return wanted, left_out


def _wanted(method: methods.Method, pool: pl.DataFrame, score: str, cluster: str | None, groups: list[str]) -> Wanted:
    options: dict[str, Any] = {}
    clusters = None
    for parameter in method.parameters:
        word, needed = parameter.word, parameter.default is methods.REQUIRED
        if word == "budget":
            continue
        if word == "k":
            clusters = "k"
        elif word == "labels" or (word == "by" and not needed):
            default = cluster if parameter.default == "cluster" else parameter.default
            if not groups:
                raise RequestError(f"needs a column for `{word}` that parts the pool into groups, and it has none")
            options[word] = default if default in groups else groups[0]
            clusters = word if options[word] == cluster else clusters
        elif word == "target" and needed:
            if columns.SOURCE not in groups:
                raise RequestError(
                    "needs a target, for which a source of its own would do, and the pool has one source"
                )
            sizes = pool[columns.SOURCE].drop_nulls().value_counts().sort("count", columns.SOURCE)
            options[word] = {columns.SOURCE: sizes[columns.SOURCE][0]}
        elif word in ("by", "score") and needed:
            options[word] = score
        elif needed:
            raise RequestError(f"needs the option `{word}`, for which nothing in a pool can stand")
    return Wanted(method.name, options, clusters)


# --- running them ----------------------------------------------------------------------------------------------------


def run_all(
    pool: pl.DataFrame, vectors: np.ndarray, cluster: str | None, wanted: list[Wanted], budget: int, seeds: int
) -> tuple[dict[str, Ran], dict[str, str]]:
    ran: dict[str, Ran] = {}
    failed: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        cuts = {}
        if cluster and any(one.clusters not in (None, "k") for one in wanted):
            cuts = _cuts(vectors, pool[cluster])
        anew = {_cut_name(k): pl.Series(label, dtype=pl.Int32) for k, label in cuts.items()}
        pool.with_columns(**anew).write_parquet(Path(folder) / "pool.parquet")
        np.save(Path(folder) / "vectors.npy", vectors)
        for one in wanted:
            say(f"  {one.name}")
            try:
                with processes.pool(1) as process:
                    ran[one.name] = process.submit(_run_one, folder, one, budget, seeds, tuple(cuts)).result()
            except TamisError as error:
                failed[one.name] = str(error)
            except BrokenProcessPool:
                failed[one.name] = "its process was ended by the system, most likely for want of memory"
            except Exception as error:
                failed[one.name] = f"{type(error).__name__}: {error}"
    return ran, failed


def _cuts(vectors: np.ndarray, label: pl.Series) -> dict[int, np.ndarray]:
    """The pool cut anew by k-means into half, once and twice as many clusters as it has: labels by their number."""
    from curate.cluster.kmeans import cluster

    k = label.filter(label >= 0).n_unique()
    ks = sorted({min(max(1, int(k * times)), len(vectors)) for times in _CUTS})
    return {k: cluster(vectors, seed=0, k=k).label for k in ks}


def _cut_name(k: int) -> str:
    return f"cut_into_{k}"


def _run_one(folder: str, wanted: Wanted, budget: int, seeds: int, cuts: tuple[int, ...]) -> Ran:
    """One selector, in a process of its own."""
    method = methods.find("select", wanted.name)
    vectors = np.load(Path(folder) / "vectors.npy", mmap_mode="r") if method.reads_vectors else None
    pool = Pool(pl.read_parquet(Path(folder) / "pool.parquet"), vectors)
    few = pool.take(np.arange(min(_WARM, len(pool))))
    with suppress(Exception):  # what is wrong shows again below
        pick(method, few, min(budget, max(1, len(few) // 8)), wanted.options, 0)
    reset_peak()
    before, start = peak_mb(), time.perf_counter()
    picks = pick(method, pool, budget, wanted.options, 0)
    seconds, mb = time.perf_counter() - start, max(peak_mb() - before, 0)

    by_seed = _by_seed(method, pool, budget, wanted.options, seeds, picks.index)
    draws = None if len(by_seed) < 2 else not np.array_equal(by_seed[1], picks.index)
    return Ran(seconds, mb, by_seed, draws, _by_cut(method, pool, budget, wanted, cuts, picks))


def _by_seed(
    method: methods.Method, pool: Pool, budget: int, options: dict[str, Any], seeds: int, first: np.ndarray
) -> dict[int, np.ndarray]:
    """The picks of each seed; where seed 1 gives those of seed 0, no other is tried."""
    by_seed = {0: first}
    for seed in range(1, seeds):
        by_seed[seed] = pick(method, pool, budget, options, seed).index
        if seed == 1 and np.array_equal(by_seed[1], first):
            break
    return by_seed


def _by_cut(
    method: methods.Method, pool: Pool, budget: int, wanted: Wanted, cuts: tuple[int, ...], picks: Picks
) -> dict[int, np.ndarray]:
    """The picks of half, once and twice as many clusters, where the selector makes or reads some."""
    if not wanted.clusters:
        return {}
    if wanted.clusters != "k":
        named = {k: wanted.options | {wanted.clusters: _cut_name(k)} for k in cuts}
        return {k: pick(method, pool, budget, options, 0).index for k, options in named.items()}
    default = next(parameter.default for parameter in method.parameters if parameter.word == "k")
    k = min(int(picks.facts.get("clusters") or default or math.isqrt(len(pool))), len(pool))
    by_k: dict[int, np.ndarray] = {}
    for times in _CUTS:
        other = min(max(1, int(k * times)), len(pool))
        if times == 1:
            by_k[other] = picks.index
        elif other not in by_k:
            by_k[other] = pick(method, pool, budget, wanted.options | {"k": other}, 0).index
    return by_k
