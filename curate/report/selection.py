"""One select stage, as a work folder holds it: the pool that it chose from, its picks, and what was known of the rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from curate.contract import columns
from curate.contract.errors import RequestError, WorkError
from curate.rows import table
from curate.run.work import Done, Work

_HEAVY = (columns.MESSAGES, columns.FIELDS, columns.EXTRA)  # not read: large, and no report shows them


@dataclass(frozen=True)
class Selection:
    """pool: the rows it chose from, `rank` and `gain` null where not kept. chosen: int64 (k,), the kept ones, by rank.
    outside: rows that `where` let pass by. old: whether it is of an earlier recipe. text: what the vectors were made of. names:
    of the clusters, by the column that holds them, the last one first."""

    recipe: str
    manifest: dict[str, Any]
    old: bool
    pool: pl.DataFrame
    chosen: np.ndarray
    outside: int
    vectors: np.ndarray | None
    text: str
    names: dict[str, dict[int, str]]


def read(work: Work, stage: str | None = None) -> Selection:
    """A select stage by its title or name; the last one if not given."""
    done = _select(work, stage)
    kept, pool = _picked_and_pool(done)
    embedded = work.embedded(done)
    text = embedded.facts.get("text") if embedded else None
    text = text if text in (columns.PROMPT, columns.RESPONSE, columns.RECORD) else columns.PROMPT
    pool, vectors = _with_vectors(pool, embedded)
    clusters = [other.name for other in work.before(done) if other.role == "labels"]
    return Selection(
        recipe=work.recipe or done.title,
        manifest=done.manifest,
        old=done.old,
        pool=pool,
        chosen=_by_rank(pool[columns.RANK].to_numpy()),
        outside=kept.height - kept[columns.RANK].count(),
        vectors=vectors,
        text=text,
        names={name: names(pool, text, pool[name].to_numpy()) for name in clusters if name in pool.columns},
    )


def names(rows: pl.DataFrame, text: str, label: np.ndarray) -> dict[int, str]:
    """The most typical words of each cluster. text: of the rows, the one to take words from."""
    from curate.rows import cluster_names

    told = cluster_names.names(table.text_of(rows, text), label)
    return {int(cluster): name for cluster, name in told.items()}


def _select(work: Work, stage: str | None) -> Done:
    if not work.of_role("selection"):
        raise RequestError(
            f"{work.folder} has no selection to report on; it has "
            f"{', '.join(done.title for done in work.tables) or 'no stage at all'}; "
            "add `- select: {facility_location: {budget: 1000}}` to the recipe's steps and run it"
        )
    return work.stage(stage, role="selection")


def _picked_and_pool(done: Done) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(the kept rows, those outside `where` among them; picks and the rows that were not selected, by id)."""
    kept, gone = done.read(without=_HEAVY), done.read("removed", without=_HEAVY)
    if columns.RANK not in kept.columns:
        raise WorkError(f"{done.folder} holds no picks: its table has no column `rank`; run the recipe again")
    gone = gone.drop(columns.RANK, columns.GAIN, columns.STAGE, columns.REASON, strict=False)  # of an earlier stage
    none = {columns.RANK: pl.Int32, columns.GAIN: pl.Float32}
    gone = gone.with_columns(pl.lit(None, dtype=kind).alias(name) for name, kind in none.items())
    picked = kept.filter(pl.col(columns.RANK).is_not_null())
    return kept, pl.concat([picked, gone], how="diagonal").sort(columns.ID)


def _with_vectors(pool: pl.DataFrame, embedded: Done | None) -> tuple[pl.DataFrame, np.ndarray | None]:
    """The pool in the order of its vectors, and these: the file itself, memory-mapped, where all that was embedded is here."""
    if embedded is None:
        return pool, None
    place = embedded.ids.to_frame().with_row_index("at")
    pool = pool.join(place, on=columns.ID, how="left").sort("at", columns.ID).drop("at")
    return pool, embedded.vectors_of(pool[columns.ID])


def _by_rank(rank: np.ndarray) -> np.ndarray:
    """The rows that have a rank, the first pick first: int64 (k,)."""
    chosen = np.flatnonzero(~np.isnan(rank.astype(float)))
    return chosen[np.argsort(rank[chosen], kind="stable")].astype(np.int64)
