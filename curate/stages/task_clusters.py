"""Task clusters: rows of sources whose `task_cluster` is "auto" get the one that was found for their task."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl

from curate.contract import columns
from curate.contract.methods import find
from curate.rows import task_clusters
from curate.run.job import Job
from curate.run.stage import Step

if TYPE_CHECKING:
    from curate.run.ask import Ask

SECTION = "load"
FORM = "list"
NEEDS = {"load": "`task_cluster: auto` finds clusters for the tasks of sources; add a `load:` section"}
_READ = (columns.ID, columns.TASK, columns.SOURCE, columns.TASK_CLUSTER, columns.PROMPT, columns.RESPONSE)


def bind(given: Any, ask: Ask) -> Step | None:
    load = ask.before("load")
    sources = [s.name for s in load.bound if s.options.get("task_cluster") == task_clusters.AUTO] if load else []
    if not sources:
        return None
    embedder = find("embed", "sentence")
    return Step(
        kind="task_clusters",
        name="task_clusters",
        method=task_clusters.AUTO,
        options={},
        written=None,
        methods=(embedder,),
        bound=sources,
    )


def compute(job: Job, step: Step) -> dict[str, Any]:
    clusters = task_clusters.find(job.rows(*_READ), step.methods[0].function(), job.seed)
    for number, rows in job.shards():
        mine = task_clusters.task_of(rows).replace_strict(clusters.cluster, return_dtype=pl.String)
        cluster = pl.when(pl.col(columns.SOURCE).is_in(step.bound)).then(mine).otherwise(columns.TASK_CLUSTER)
        job.put(number, rows.with_columns(cluster.alias(columns.TASK_CLUSTER)), None)
    return {
        "clusters": clusters.cluster,
        "silhouette": round(clusters.silhouette, 4),
        "agreement_with_flan": clusters.agreement,
    }


def says(step: Step, facts: dict[str, Any]) -> list[str]:
    return task_clusters.TaskClusters(facts["clusters"], facts["silhouette"], facts["agreement_with_flan"]).lines()
