"""Embed: a vector a row, each computed once for a text, a method and a model, and shared by all works."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from curate.contract import columns
from curate.contract.code import missing_packages
from curate.run.job import Job
from curate.run.stage import Before, Step
from curate.run.work import VECTORS
from curate.vectors import store

if TYPE_CHECKING:
    from curate.run.ask import Ask

METHODS = "embed"
EXAMPLE = """\
steps:
  - embed: {sentence: {model: sentence-transformers/all-MiniLM-L6-v2}}"""


def bind(given: Any, ask: Ask) -> Step | None:
    return ask.step(METHODS, given, no_where="later steps need every row's vector")


def reads(step: Step, before: Before) -> dict[str, Any]:
    """The files of vectors of `embed: file`, which reads ids and no text."""
    if step.text != columns.ID:
        return {}
    method = step.methods[0]
    call = method.call_options(step.options, data=before.recipe.data, folder=before.recipe.folder)
    return {"files": method.function("identity")(**call)}


def ready(step: Step, before: Before) -> list[str]:
    return missing_packages(f"embed {step.method}", [step.methods[0].path])


def compute(job: Job, step: Step) -> dict[str, Any]:
    texts = job.text(step.text or columns.PROMPT)
    filled = {"seed": job.seed, "data": job.recipe.data, "folder": job.recipe.folder}
    facts = store.vectors(texts, step.methods[0], step.options, job.folder / VECTORS, **filled)
    facts.pop("embedded_now", None)  # how much of it the store already knew is no property of the output
    job.link()
    return {**facts, "text": step.text}
