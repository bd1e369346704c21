"""Arms: the rows that each arm of a study holds at each draw, chosen from the table that enters the first `select`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

import train as trainer
from curate.contract import columns, methods
from curate.contract.code import missing_packages
from curate.contract.methods import Method
from curate.load.source import template_sets
from curate.render.few_shot import exemplars
from curate.render.rows import render_rows
from curate.rows import arms, selector, training
from curate.rows.holdout import REASON
from curate.rows.pool import Pool
from curate.run.ask import name_and_options
from curate.run.job import Job
from curate.run.stage import Before, Stage, Step

if TYPE_CHECKING:
    from curate.run.ask import Ask

SECTION = "study"
NEEDS = {
    "train": "a study trains models: say which with a `train:` section, at least `train: {model: …}`",
    "holdout": "a study is measured on held-out records: add `holdout: {fraction: 0.05}`",
    "select": "a study's arms draw from the table that enters the first `select`; add a `select` step",
}
PRODUCT = "arms"
BASELINES = ("random", "longest", "stratified")  # always among the arms
_FILES = [Path(trainer.__file__).parent / "study/inputs.py"]


def bind(given: Any, ask: Ask) -> Step | None:
    """Of the study's section, the arms, budgets and draws."""
    chosen: dict[str, tuple[Method, dict[str, Any]]] = {}
    named = given.get("arms")
    for arm, choice in named.items() if isinstance(named, dict) else ():
        if (selected := _arm(arm, choice, ask)) is not None:
            chosen[str(arm)] = selected
    for baseline in BASELINES:
        if not any(method.name == baseline for method, _ in chosen.values()):
            method = methods.find(selector.ROOM, baseline, ask.folder)
            chosen[baseline] = method, {p.word: p.default for p in method.parameters if p.word != "budget"}
    budgets, draws = given.get("budgets"), given.get("draws", 5)
    if not (isinstance(budgets, list) and all(isinstance(b, int) for b in budgets) and isinstance(draws, int)):
        return None  # the study says so
    extra = given.get("reference_budgets")
    return Step(
        kind="arms",
        name="arms",
        method="arms",
        options={
            "arms": {arm: {method.name: options} for arm, (method, options) in chosen.items()},
            "budgets": sorted({*budgets, *(extra if isinstance(extra, list) else ())}),
            "draws": draws,
        },
        written=None,
        methods=tuple(method for method, _ in chosen.values()),
        bound=chosen,
    )


def parent(step: Step, before: Before) -> Stage | None:
    first = before.first("select")
    return first.parent if first else before.table


def reads(step: Step, before: Before) -> dict[str, Any]:
    """Which rows train, which is told by the model's tokenizer, and in which phrasing."""
    recipe, tuned = before.recipe, before.need("train").step
    return {
        "holdout": before.need("holdout").key,
        "render": before.need("render").step.options,
        "sets": template_sets(before.need("load").step.bound, recipe.folder, "source_hash"),
        "train": {name: tuned.options[name] for name in ("model", "chat", "max_length", "over_length")},
        "model": training.model_content(recipe.folder, tuned.options["model"]),
    }


def code(step: Step) -> list[Path]:
    return _FILES


def ready(step: Step, before: Before) -> list[str]:
    return missing_packages("a study", _FILES)


def compute(job: Job, step: Step) -> dict[str, Any]:
    from train.study.inputs import trainable

    holdout = job.done(job.before.need("holdout"))
    aside = holdout.read("removed").filter(pl.col(columns.REASON) == REASON)
    rows = job.folder / "rows.parquet"
    _render_once(job, rows, job.rows())
    _render_once(job, job.folder / "holdout.parquet", aside)
    options = job.before.need("train").step.options
    usable = trainable(
        rows,
        train={**options, "model": training.model_path(job.recipe.folder, options["model"])},
        base_texts=training.pretraining_texts(holdout.removed),
        seed=job.seed,
        folder=job.recipe.folder,
    )
    whole = job.light([asked for _, asked in step.bound.values()])
    vectors = job.vectors(whole[columns.ID]) if any(method.reads_vectors for method, _ in step.bound.values()) else None
    pool = Pool(whole, vectors).take(np.flatnonzero(whole[columns.ID].is_in(sorted(usable)).to_numpy()))
    arms.write_subsets(
        job.folder / "subsets", pool, step.bound, step.options["budgets"], step.options["draws"], job.seed
    )
    return {"pool": len(pool), "without_response": whole.height - len(pool)}


def _arm(arm: str, choice: Any, ask: Ask) -> tuple[Method, dict[str, Any]] | None:
    name, options = name_and_options(choice)
    if "budget" in options:
        ask.say(f"the arm '{arm}' takes its budgets from `study.budgets`; remove its `budget`", "arms", arm)
    chosen = selector.chosen({name: {**options, "budget": 1}}, ask, "arms", arm)
    if chosen is None:
        return None
    if chosen.method.reads_vectors:
        ask.need("embed", f"the arm '{arm}' needs vectors; add an `embed` step before the select", "arms", arm)
    return chosen.method, {word: value for word, value in chosen.options.items() if word != "budget"}


def _render_once(job: Job, path: Path, rows: pl.DataFrame) -> None:
    """A study trains and scores one phrasing a record, also where the release has all of them."""
    if path.is_file():
        return
    asked = job.before.need("render").step.options
    asked = {**asked, "templates": "one"} if asked["templates"] == "all" else asked
    examples = exemplars(job.parent.kept, asked, job.seed)
    kept, _ = render_rows(rows, **asked, exemplars=examples, seed=job.seed, folder=job.recipe.folder)
    training.write_rows(path, kept)
