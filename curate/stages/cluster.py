"""Cluster: a label and a distance a row, in columns that have the step's name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from curate.contract import columns
from curate.contract.methods import TEXTS
from curate.contract.threads import one_thread
from curate.rows.cluster_names import names
from curate.run.job import Job
from curate.run.stage import Step

if TYPE_CHECKING:
    from curate.run.ask import Ask

METHODS = "cluster"
NEEDS = {"embed": "cluster needs vectors; add an `embed` step before it"}
ROLE = "labels"
EXAMPLE = """\
steps:
  - cluster: {kmeans: {k: 64}}
    as: topic"""
_NAMED = 1_000  # clusters at most; more names than that nobody reads


def bind(given: Any, ask: Ask) -> Step | None:
    return ask.step(METHODS, given, no_where="later steps need every row's vector")


def adds(step: Step) -> tuple[str, ...]:
    return step.name, f"{step.name}_distance"


def compute(job: Job, step: Step) -> dict[str, Any]:
    vectors = job.vectors(job.rows(columns.ID)[columns.ID])
    assert vectors is not None, "the recipe check lets no cluster step through without an embed step"
    with one_thread():  # a clustering beside a recipe too gives the same bytes on any number of threads
        clusters = step.methods[0].function()(vectors, **job.call_options(step.options))
    label = pl.Series(step.name, clusters.label, dtype=pl.Int32)
    distance = pl.Series(f"{step.name}_distance", clusters.distance, dtype=pl.Float32)
    levels = [pl.Series(f"{step.name}_{k}", cut, dtype=pl.Int32) for k, cut in sorted(clusters.levels.items())]
    job.add(label, distance, *levels)
    sizes = np.bincount(clusters.label[clusters.label >= 0])
    named = _names(job, clusters.label) if len(sizes) <= _NAMED else {}
    return {
        **({"names": named} if named else {}),
        "clusters": int((sizes > 0).sum()),
        "largest": int(sizes.max(initial=0)),
        "noise": int((clusters.label < 0).sum()),
    }


def says(step: Step, facts: dict[str, Any]) -> list[str]:
    return [
        f"{step.name}: {facts['clusters']:,} clusters, the largest of {facts['largest']:,} rows; {facts['noise']:,} rows of noise"
    ]


def _names(job: Job, label: np.ndarray) -> dict[str, str]:
    """The words that tell the clusters apart, in the text that was embedded."""
    embedded = job.before.need("embed").step.text
    text = embedded if embedded in TEXTS else "record"
    return {str(number): name for number, name in sorted(names(job.text(text), label).items())}
