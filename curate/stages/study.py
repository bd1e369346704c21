"""Study: every arm at every budget and draw trained, measured and compared. Runs are kept in the store that works share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import train as trainer
from curate.contract import methods
from curate.contract.code import missing_packages
from curate.contract.methods import REQUIRED, Parameter
from curate.rows import training
from curate.run.job import Job
from curate.run.stage import Before, Stage, Step

if TYPE_CHECKING:
    from curate.run.ask import Ask

SECTION = "study"
NEEDS = {"arms": "a study compares arms; name some with `arms:`"}
PRODUCT = "study"
PLACES = {"report": "report.html"}
EXAMPLE = """\
study:
  arms: {random: random, fl: {facility_location: {}}, longest: longest}
  budgets: [64, 256, 1024]
  draws: 5"""
_TRAIN = Path(trainer.__file__).parent
_FILLED = (
    "out",
    "folder",
    "rows_path",
    "holdout_path",
    "subsets",
    "train",
    "seed",
    "workers",
    "base_texts",
    "arms",
    "name",
)


def options() -> tuple[Parameter, ...]:
    arms = Parameter("arms", "dict", REQUIRED, "a name and a selector, without its budget, for each arm")
    return arms, *methods.signature("train/study/run.py", "study", without=_FILLED)


def bind(given: Any, ask: Ask) -> Step | None:
    bound = ask.bind("study", options(), given)
    bound.pop("arms")
    budgets, draws = bound["budgets"], bound["draws"]
    if isinstance(budgets, list) and (sorted(set(budgets)) != budgets or not budgets or budgets[0] < 1):
        ask.say("`budgets` are whole numbers above 0 that grow, as in [64, 256, 1024]", "budgets")
    if isinstance(draws, int) and draws < 1:
        ask.say("`draws` is at least 1 (5 for an interval over draws)", "draws")
    arms, tuned = ask.before("arms"), ask.before("train")
    return Step(
        kind="study",
        name="study",
        method="study",
        options={**bound, "arms": list(arms.options["arms"]) if arms else []},
        written={"arms": arms.options["arms"] if arms else {}, **bound},
        methods=tuned.methods if tuned else (),
        bound=bound,
    )


def parent(step: Step, before: Before) -> Stage | None:
    return before.need("arms").parent


def reads(step: Step, before: Before) -> dict[str, Any]:
    tuned = before.need("train").step
    return {
        "arms": before.need("arms").key,
        "train": tuned.options,
        "model": training.model_content(before.recipe.folder, tuned.options["model"]),
        "called": before.recipe.name,
    }


def code(step: Step) -> list[Path]:
    return [_TRAIN / "run.py", *sorted((_TRAIN / "study").glob("*.py")), *sorted((_TRAIN / "scoring").glob("*.py"))]


def ready(step: Step, before: Before) -> list[str]:
    return missing_packages("a study", sorted((_TRAIN / "study").glob("*.py")))


def compute(job: Job, step: Step) -> dict[str, Any]:
    from train.study.run import study

    arms, tuned = job.done(job.before.need("arms")), job.before.need("train").step.options
    facts = study(
        job.folder,
        rows_path=arms.folder / "rows.parquet",
        holdout_path=arms.folder / "holdout.parquet",
        subsets=arms.folder / "subsets",
        train={**tuned, "model": training.model_path(job.recipe.folder, tuned["model"])},
        arms=step.options["arms"],
        base_texts=training.pretraining_texts(job.done(job.before.need("holdout")).removed),
        name=job.recipe.name,
        seed=job.seed,
        workers=job.workers,
        folder=job.recipe.folder,
        **step.bound,
    )
    return {**facts, **arms.facts}


def shows(facts: dict[str, Any]) -> list[Any]:
    """The table of arms and the headline."""
    title = "Bits per byte of held-out responses: lower is better"
    return [(title, [_line(row) for row in facts["table"]]), facts["headline"]]


def _line(row: dict[str, Any]) -> dict[str, str]:
    """An arm at a budget as people read it, intervals in brackets."""
    return {
        "arm": row["arm"],
        "examples": f"{row['budget']:,}",
        "bits per byte": _span(row, "bits_per_byte", ".3f"),
        "against the reference": _span(row, "difference", "+.3f"),
        "verdict": row.get("verdict") or "reference",
        "m(N)": str(row.get("worth") or ""),
    }


def _span(row: dict[str, Any], name: str, form: str) -> str:
    value, low, high = (row.get(part) for part in (name, f"{name}_low", f"{name}_high"))
    if value is None:
        return ""
    return f"{value:{form}}" if low is None or high is None else f"{value:{form}} [{low:{form}}, {high:{form}}]"
