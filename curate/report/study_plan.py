"""What a study will take and can show, before any arm is trained; and its floor of noise."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from curate.contract.errors import RequestError
from curate.contract.files import read_json
from curate.run import base_model
from curate.run.job import Job
from curate.run.plan import plan
from curate.run.recipe import Recipe
from curate.run.stage import Before, Stage

_LAID = ("train", "draws", "seeds", "equal", "items", "reference", "base_texts", "seed", "folder")


@dataclass
class Told:
    """A row an arm, sentences, and all of it for JSON."""

    arms: list[dict[str, str]] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)


def planned(recipe: Recipe, work: Path, workers: int, *, prereg: bool, effect: float | None) -> Told:
    """The runs, their time, the smallest visible effect; with prereg the plan is written down; effect: what that would take.
    The arms must stand in the work folder."""
    from train.study import expected as e
    from train.study.run import lay_out, preregister

    if effect is not None and not effect > 0:
        raise RequestError(f"--power {effect}: an effect is a difference above 0")
    job, stage = _job(recipe, work, workers)
    asked = base_model.study_options(job, stage.step)
    laid = lay_out(work / "arms", **{name: asked[name] for name in _LAID})
    told = Told()
    if prereg:
        words = {
            n: asked[n]
            for n in ("equal", "reference", "delta", "compare", "population", "tasks", "seed", "draws", "stop_at")
        }
        written = preregister(asked["plan_file"], laid, **words)
        told.facts |= written
        changed = (
            "" if written["plan"] == written["first_plan"] else f"; the first one there is {written['first_plan']}"
        )
        told.lines.append(f"The plan {written['plan']} is written down in {asked['plan_file']}{changed}.")
    found = e.expected(laid, workers)
    told.arms = [{name: f"{v:,}" if isinstance(v, int) else v for name, v in row.items()} for row in found.arms]
    minutes = found.seconds / 60
    told.lines.append(
        f"{found.runs:,} runs, {found.to_train:,} of them to be trained: about {minutes:.1f} minutes in {workers} "
        f"{'process' if workers == 1 else 'processes'} (by {found.measured})."
    )
    told.facts |= {"runs": found.runs, "to_train": found.to_train, "seconds": found.seconds, "arms": found.arms}
    tests = e.family(laid, asked["reference"], len(asked["compare"]))
    items = e.items_of(laid)
    noise, source = _noise(work, asked["reference"])
    if noise is None:
        told.lines.append(
            f"What it can show is not known before its noise is: `tamis floor {recipe.path.name}` measures it in a few runs."
        )
    else:
        least = e.sees(noise, asked["draws"], items, tests)
        told.facts |= {"visible": least, "family": tests, "noise": vars(noise), "noise_from": source}
        told.lines.append(
            f"With {asked['draws']} draws and {items:,} items it shows a difference of {least:.3f} bits per byte in 80 % of cases, at the level "
            f"that {tests} comparisons leave to each (noise: {source})."
        )
        if effect is not None:
            ways = e.takes(effect, noise, asked["draws"], items, tests)
            told.facts["takes"] = ways
            told.lines.append(f"To show {effect:g} it takes {'; or '.join(ways)}.")
    return told


def floored(recipe: Recipe, work: Path, workers: int, budget: int | None) -> Told:
    """A/A runs of the recipe's model and data. The arms must stand in the work folder."""
    from train.study.floor import floor

    job, stage = _job(recipe, work, workers)
    asked = base_model.study_options(job, stage.step)
    asked |= {"plan_file": None, "stop_at": None}
    draws = asked.pop("draws")
    facts = floor(work / "floor", arms=work / "arms", budget=budget, draws=draws, workers=workers, **asked)
    parts = facts["components"]
    design = f"{facts['draws']} draws and {facts['items']:,} {'item' if facts['items'] == 1 else 'items'}"
    lines = [
        f"A difference below {facts['smallest']:.3f} bits per byte is noise: one comparison of two arms of {facts['budget']:,} examples, {design} "
        "shows it in fewer than 80 % of cases."
        if np.isfinite(facts["smallest"])
        else f"No difference is more than noise with {design}: hold out more rows.",
        f"Standard deviations: {parts['draws'] ** 0.5:.4f} from draw to draw, {parts['items'] ** 0.5:.4f} from item to item, "
        f"{parts['residual'] ** 0.5:.4f} of an item in a draw.",
    ]
    return Told(lines=lines, facts=facts)


def _noise(work: Path, reference: str) -> tuple[Any, str]:
    """Variance components: of the study's own results, else of the floor, else None."""
    from train.study.expected import noise
    from train.study.power import Components

    results, floor = work / "study" / "results.parquet", work / "floor" / "floor.json"
    if results.is_file():
        import pyarrow.parquet as pq

        from train.study.analysis import analyse

        analysis = analyse(pq.read_table(results), reference=reference)
        if analysis.views[0].comparisons:
            return noise(analysis), "of the results that are there"
    if floor.is_file():
        return Components(**read_json(floor)["components"]), "of tamis floor"
    return None, ""


def _job(recipe: Recipe, work: Path, workers: int) -> tuple[Job, Stage]:
    stages = plan(recipe, work)
    number = next(i for i, stage in enumerate(stages) if stage.step.kind == "study")
    return Job(stages[number], Before(recipe, stages[:number], work), work / "study", work, workers), stages[number]
