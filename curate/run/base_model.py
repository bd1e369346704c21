"""The base model that a recipe trains: its options as the trainer takes them, and the text of a tiny one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from curate.contract import columns
from curate.load.source import Source
from curate.rows import training
from curate.rows.table import text_of
from curate.run import sources as recipe_sources
from curate.run.job import Job
from curate.run.stage import Before, Step
from train.settings import TINY

if TYPE_CHECKING:
    from curate.run.ask import Ask


def sources(bound: dict[str, Any], ask: Ask) -> tuple[Source, ...]:
    """The sources of a tiny base model's text; says what is wrong with them."""
    entries = bound["pretrain"] or []
    found = [recipe_sources.read_source(entry, ask, "pretrain", number) for number, entry in enumerate(entries)]
    holdout = ask.before("holdout")
    aside = bool(holdout and holdout.options.get("pretrain"))
    if bound["model"] not in TINY:
        if entries:
            ask.say(
                f"`pretrain` is the text of a tiny base model ({', '.join(TINY)}); {bound['model']} brings its own",
                "pretrain",
            )
    elif entries and aside:
        ask.say(
            "the text of the tiny base is named here and set aside by the holdout; leave out one `pretrain`", "pretrain"
        )
    elif not entries and not aside:
        ask.say(
            f"`model: {bound['model']}` is pretrained on text of its own; name some, as in `pretrain: [{{docstrings: {{packages: "
            "[stdlib]}}]`, or set a share aside, as in `holdout: {fraction: 0.05, pretrain: 0.2}`",
            "model",
        )
    return tuple(source for source in found if source is not None)


def reads(step: Step, before: Before) -> dict[str, Any]:
    """What the base depends on beside its name. step: the recipe's `train`."""
    texts = [{"name": source.name, "content": recipe_sources.content(source, before)} for source in step.bound]
    return {"model": training.model_content(before.recipe.folder, step.options["model"]), "texts": texts}


def settings(step: Step, folder: Path) -> dict[str, Any]:
    """The options as the trainer takes them."""
    own = {name: value for name, value in step.options.items() if name != "pretrain"}
    return {**own, "model": training.model_path(folder, own["model"])}


def study_options(job: Job, step: Step) -> dict[str, Any]:
    """The options of `train.study.run.study` that the recipe gives. step: its `study`."""
    return {
        **step.bound,
        "train": settings(job.before.need("train").step, job.recipe.folder),
        "base_texts": texts(job),
        "seed": job.seed,
        "folder": job.recipe.folder,
        "plan_file": job.work / "study-plan.json",
    }


def texts(job: Job) -> list[str] | None:
    """What a tiny base model is pretrained on, in the order of ids: the records of the sources that `train: pretrain` names,
    or those that the holdout set aside for it; None where there is neither."""
    trained = job.before.nearest("train")
    sources = trained.step.bound if trained is not None else job.stage.step.bound
    if not sources:
        holdout = job.before.nearest("holdout")
        return training.pretraining_texts(job.done(holdout).removed) if holdout else None
    out: list[str] = []
    for source in sources:
        for kept, _ in recipe_sources.rows(source, job):
            out += text_of(kept.sort(columns.ID), "record").to_list()
    return out
