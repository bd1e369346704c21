"""What a selection kept of its pool, in numbers and texts: all that its page tells, as JSON can say it."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from curate.contract import columns
from curate.contract.draws import draws
from curate.contract.progress import say
from curate.report.selection import Selection
from curate.report.words import cut, plain
from curate.rows import table

_GROUPS = (columns.SOURCE, columns.TASK, columns.TASK_CLUSTER, columns.LICENSE)
_TEXTS, _TEXT = 10, 220  # texts shown of each kind; characters of each
_BINS = 20
_CURVE = 400  # points of the curve of gains


def numbers(selection: Selection, seed: int) -> dict[str, Any]:
    """groups: the table's rows by each column, largest first. lengths: characters, `edges` of the bins and the rows in each.
    gains: [rank, gain] of at most 400 picks. first: the first ten picks; not_kept: ten other rows, drawn by hash. old: whether
    the selection is of an earlier recipe. seed: of the random subsets and of the rows not kept.
    """
    manifest = selection.manifest
    facts = {name: value for name, value in manifest["facts"].items() if name not in ("budget", "pool")}
    gains = selection.pool[columns.GAIN].gather(selection.chosen)
    return {
        "recipe": selection.recipe,
        "stage": manifest["stage"],
        "method": manifest["method"],
        "options": manifest["options"],
        "seed": manifest["seed"],
        "pool": selection.pool.height,
        "kept": len(selection.chosen),
        "outside": selection.outside,
        "old": selection.old,
        "certificate": facts.pop("certificate", None),
        "diversity": _diversity(selection, facts.pop("diversity", None), seed),
        "facts": facts,
        "groups": {by: _groups(selection, by) for by in (*_GROUPS, *selection.names) if by in selection.pool.columns},
        "lengths": {name: _lengths(selection, name) for name in (columns.PROMPT, columns.RESPONSE)},
        "gains": _thinned(gains),
        "first": _texts(selection, selection.chosen[:_TEXTS]),
        "not_kept": _texts(selection, _not_kept(selection, seed)),
    }


def _diversity(selection: Selection, told: Any, seed: int) -> dict[str, Any] | None:
    """What the stage told of it, or what is measured now; None where nothing was kept."""
    from curate.diversity.against_random import report

    if isinstance(told, dict):  # an earlier version told a list
        return told
    if not len(selection.chosen):
        return None
    say("  report: measures of diversity")
    return report(selection.pool, selection.vectors, selection.chosen, seed=seed)


def _groups(selection: Selection, by: str) -> list[dict[str, Any]]:
    names = selection.names.get(by)
    picked = pl.col(columns.RANK).is_not_null()
    counted = selection.pool.group_by(by).agg(pl.len().alias("pool"), picked.sum().alias("kept"))
    rows, kept = selection.pool.height, len(selection.chosen)
    groups = []
    for value, in_pool, in_kept in counted.iter_rows():
        pool_share, kept_share = in_pool / rows, in_kept / kept if kept else None
        groups.append(
            {
                "name": "none" if value is None else str(value) if names is None else names.get(value, f"{by} {value}"),
                "value": value,
                "pool": in_pool,
                "kept": in_kept,
                "pool_share": pool_share,
                "kept_share": kept_share,
                "ratio": None if kept_share is None else kept_share / pool_share,
            }
        )
    return sorted(groups, key=lambda group: (-group["pool"], group["name"], str(group["value"])))


def _lengths(selection: Selection, column: str) -> dict[str, Any]:
    """Characters of a column over the pool and over what was kept, in bins that grow by a constant factor."""
    pool = table.text_of(selection.pool, column).str.len_chars().to_numpy()
    kept = pool[selection.chosen]
    filled = pool[pool > 0]
    low, high = int(filled.min()) if len(filled) else 1, int(pool.max(initial=1))
    edges = np.unique(np.rint(np.geomspace(low, high + 1, _BINS + 1)))
    edges = np.insert(edges, 0, 0) if len(filled) < len(pool) else edges
    return {
        "edges": edges.astype(int).tolist(),
        "pool": np.histogram(pool, edges)[0].tolist(),
        "kept": np.histogram(kept, edges)[0].tolist(),
        "pool_median": float(np.median(pool)) if len(pool) else None,
        "kept_median": float(np.median(kept)) if len(kept) else None,
    }


def _thinned(gains: pl.Series) -> list[list[Any]]:
    """[rank, gain] of the first picks and of fewer and fewer later ones; nothing where the method tells no gain."""
    if gains.null_count() == gains.len():
        return []
    ranks = np.unique(np.rint(np.geomspace(1, gains.len(), _CURVE))).astype(int) - 1
    return [[int(rank), plain(gains[int(rank)])] for rank in ranks]


def _not_kept(selection: Selection, seed: int) -> np.ndarray:
    rest = np.setdiff1d(np.arange(selection.pool.height), selection.chosen)
    drawn = draws(seed, "selection_report.not_kept", selection.pool[columns.ID].gather(rest))
    return rest[np.argsort(drawn, kind="stable")[:_TEXTS]]


def _texts(selection: Selection, rows: np.ndarray) -> list[dict[str, Any]]:
    wanted = [columns.ID, columns.RANK, columns.GAIN, columns.SOURCE, columns.TASK, columns.PROMPT, columns.RESPONSE]
    part = selection.pool[rows.tolist()].select(name for name in wanted if name in selection.pool.columns)
    texts = []
    for row in part.iter_rows(named=True):
        row[columns.GAIN] = plain(row[columns.GAIN])
        for column in (columns.PROMPT, columns.RESPONSE):
            row[column] = cut(row[column] or "", _TEXT)
        texts.append(row)
    return texts
