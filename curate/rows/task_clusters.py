"""Clusters of tasks found from their records, for data that nobody has sorted: `task_cluster: auto` of a source.

FLAN's twelve clusters were made by hand, and leaving one out needs to know what is alike (arXiv 2109.01652, section 2.2). Here
a task is the mean embedding of some of its prompts and responses (drawn by a hash of the id), and tasks are put together by
Ward's criterion; their number is the one with the largest mean silhouette. Where tasks of the table belong to clusters of
FLAN's, the agreement is reported as the adjusted Rand index (1: the same, 0: chance). On FLAN's own tasks it is low: surface
text tells the format of a task better than its kind. So look at the clusters before a holdout rests on them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import polars as pl

from curate.contract import columns
from curate.contract.draws import draws
from curate.contract.errors import ContractError, MissingExtra

AUTO = "auto"
RECORDS = 32  # of a task that are embedded
MOST_CLUSTERS = 30
_CUT = 1_000  # characters of a record
_FEWEST_TASKS = 3


@dataclass(frozen=True)
class TaskClusters:
    """cluster: of each task. silhouette: mean over the tasks, cosine. agreement: with FLAN's clusters, over the tasks that
    have one; None with fewer than three of them."""

    cluster: dict[str, str]
    silhouette: float
    agreement: float | None

    def lines(self) -> list[str]:
        groups: dict[str, list[str]] = {}
        for task, cluster in sorted(self.cluster.items()):
            groups.setdefault(cluster, []).append(task)
        agrees = (
            ""
            if self.agreement is None
            else f"; agreement with FLAN's clusters (adjusted Rand index): {self.agreement:.2f}"
        )
        first = f"task clusters: {len(groups)} of {len(self.cluster)} tasks, silhouette {self.silhouette:.2f}{agrees}"
        return [first, *(f"{cluster}: {', '.join(tasks)}" for cluster, tasks in groups.items())]


def task_of(table: pl.DataFrame) -> pl.Series:
    """A record's task, or its source where it has none."""
    return table.select(pl.coalesce(columns.TASK, columns.SOURCE).alias("task")).to_series()


def find(table: pl.DataFrame, embed: Callable[[list[str]], np.ndarray], seed: int) -> TaskClusters:
    """table: id, task, source, task_cluster, prompt, response. embed: texts -> float32 (n, d), rows of unit length.

    A cluster is called auto_<task>, after the task nearest to its mean. Raises ContractError with fewer than three tasks,
    MissingExtra without scikit-learn. Cost: the embedding of 32 records a task; n² for n tasks.
    """
    try:
        from sklearn.cluster import AgglomerativeClustering
        from sklearn.metrics import adjusted_rand_score, silhouette_score
    except ImportError as error:
        raise MissingExtra("task_cluster: auto needs scikit-learn; run `pip install 'tamis[embed]'`") from error
    drawn = _drawn(table, seed)
    tasks = sorted(set(drawn["task"]))
    if len(tasks) < _FEWEST_TASKS:
        raise ContractError(
            f"task_cluster: auto needs three tasks or more, and there are: {', '.join(tasks) or 'none'}; name the cluster of each "
            "source, as in `task_cluster: sentiment`"
        )
    vectors = embed(drawn["text"].to_list())
    of = np.array(drawn["task"].to_list())
    means = np.stack([_unit(vectors[of == task].astype(np.float64).mean(0)) for task in tasks])
    best, score = np.zeros(len(tasks), int), -np.inf
    for number in range(2, min(len(tasks) - 1, MOST_CLUSTERS) + 1):
        label = AgglomerativeClustering(number, linkage="ward").fit_predict(means)
        silhouette = float(silhouette_score(means, label, metric="cosine"))
        if silhouette > score + 1e-9:
            best, score = label, silhouette
    names = {label: f"auto_{tasks[_central(means, best == label)]}" for label in set(best.tolist())}
    flan = dict(table.select(task_of(table), columns.TASK_CLUSTER).drop_nulls().unique(maintain_order=True).iter_rows())
    known = [i for i, task in enumerate(tasks) if task in flan]
    agreement = None
    if len(known) >= _FEWEST_TASKS:
        agreement = float(adjusted_rand_score([flan[tasks[i]] for i in known], best[known]))
    return TaskClusters(
        {task: names[label] for task, label in zip(tasks, best.tolist(), strict=True)}, score, agreement
    )


def _drawn(table: pl.DataFrame, seed: int) -> pl.DataFrame:
    """task and text of the records of each task with the smallest draws, in the order of ids."""
    text = pl.concat_str(pl.col(columns.PROMPT).fill_null(""), pl.col(columns.RESPONSE).fill_null(""), separator="\n")
    rows = table.select(
        columns.ID,
        task_of(table),
        text.str.slice(0, _CUT).alias("text"),
        pl.Series("draw", draws(seed, "task_clusters", table[columns.ID])),
    )
    nth = pl.struct("draw", columns.ID).rank("ordinal").over("task")
    return rows.filter(nth <= RECORDS).sort(columns.ID)


def _central(means: np.ndarray, members: np.ndarray) -> int:
    """The member nearest to the mean of its cluster."""
    at = np.flatnonzero(members)
    return int(at[np.argmax(means[at] @ means[at].mean(0))])


def _unit(vector: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(vector)
    return vector / length if length else vector
