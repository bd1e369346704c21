"""Study: every arm at every budget and draw trained, measured and compared. Runs are kept in the store that works share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import train as trainer
from curate.contract import methods
from curate.contract.code import missing_packages
from curate.contract.errors import RequestError
from curate.contract.methods import REQUIRED, Parameter
from curate.rows import evaluation
from curate.rows.arms import BASELINES
from curate.rows.conditions import FACTORS
from curate.run import base_model
from curate.run.job import Job
from curate.run.stage import Before, Stage, Step
from train.study.asked import UNTUNED, share_of, sides

if TYPE_CHECKING:
    from curate.run.ask import Ask

SECTION = "study"
NEEDS = {"arms": "a study compares arms; name some with `arms:`"}
PRODUCT = "study"
PLACES = {"report": "report.html"}
EXAMPLE = """\
study:
  arms: {random: random, fl: {facility_location: {}}, longest: longest}
  budgets: [64, 128, 256, 512]
  draws: 5"""
_TRAIN = Path(trainer.__file__).parent
_FILLED = ("out", "arms", "folder", "train", "seed", "workers", "base_texts", "name", "plan_file")
_PICKING = (  # what curate/stages/arms.py makes of the section
    Parameter("arms", "dict", REQUIRED, "a name and a selector, without its budget, for each arm"),
    Parameter("budgets", "list[int]", REQUIRED, "how many examples each arm is trained on, smallest first; factors of two serve m best"),
    Parameter("reference_budgets", "list[int]", [], "budgets of the reference alone, so that more of m(N) lies between measured points"),
    Parameter("baselines", "list[str]", list(BASELINES), "selectors that are arms though `arms` does not name them"),
    Parameter("pools", "Literal['overlapping', 'disjoint']", "overlapping", "whether each draw is a hash-drawn 80 % of the pool, or a part of its own"),
    Parameter("evaluate", "dict | None", None, "evaluation sets by name: where, over, dev; one of all held-out rows if left out"),
    Parameter("factors", "dict | None", None, f"what else is varied, with its levels: {', '.join(FACTORS)}"),
    Parameter("cross", "list | str | None", None, "factors that are varied together, as lists, or `all`; the others one at a time"),
)  # fmt: skip


def options() -> tuple[Parameter, ...]:
    return *_PICKING, *methods.signature("train/study/run.py", "study", without=_FILLED)


def words() -> dict[str, tuple[str, tuple[Parameter, ...]]]:
    return {
        "study": ("Every arm trained and measured, at every budget and draw.", options()),
        "evaluate": ("An evaluation set of a study.", evaluation.options()),
    }


def bind(given: Any, ask: Ask) -> Step | None:
    bound = ask.bind("study", options(), given)
    picking = {parameter.word: bound.pop(parameter.word) for parameter in _PICKING}
    draws = bound["draws"]
    for word in ("budgets", "reference_budgets"):
        some = picking[word]
        if isinstance(some, list) and (
            sorted(set(some)) != some or (word == "budgets" and not some) or min(some, default=1) < 1
        ):
            ask.say(f"`{word}` are whole numbers above 0 that grow, as in [64, 128, 256]", word)
    if isinstance(draws, int) and draws < 1:
        ask.say("`draws` is at least 1 (5 for an interval over draws)", "draws")
    arms, tuned = ask.before("arms"), ask.before("train")
    if arms is not None:
        _check(bound, arms, ask)
    return Step(
        kind="study",
        name="study",
        method="study",
        options=bound,
        written={**{word: value for word, value in picking.items() if value is not None}, **bound}
        | ({"arms": arms.options["arms"]} if arms else {}),
        methods=tuned.methods if tuned else (),
        bound=bound,
    )


def _check(bound: dict[str, Any], arms: Step, ask: Ask) -> None:
    """Says what the section asks of arms, budgets or a margin that are not there."""
    there: dict[str, set[int]] = {}
    for condition in arms.options["conditions"]:
        own = condition["label"].split("/")[0] == bound["reference"]
        more = arms.options["reference_budgets"] if own else []
        there[condition["label"]] = {*arms.options["budgets"], *more}
    if bound["reference"] not in there:
        ask.say(f"the reference `{bound['reference']}` is no arm; there are {', '.join(there)}", "reference")
    for number, question in enumerate(bound["compare"] or []):
        try:
            sides(question, {**there, UNTUNED: {0}})
        except RequestError as error:
            ask.say(str(error), "compare", number)
    try:
        share_of(bound["delta"])
    except RequestError as error:
        ask.say(str(error), "delta")


def parent(step: Step, before: Before) -> Stage | None:
    return before.need("arms").parent


def reads(step: Step, before: Before) -> dict[str, Any]:
    tuned = before.need("train").step
    return {
        "arms": before.need("arms").key,
        "train": tuned.options,
        **base_model.reads(tuned, before),
        "called": before.recipe.name,
    }


def code(step: Step) -> list[Path]:
    return [_TRAIN / "run.py", *sorted((_TRAIN / "study").glob("*.py")), *sorted((_TRAIN / "scoring").glob("*.py"))]


def ready(step: Step, before: Before) -> list[str]:
    return missing_packages("a study", sorted((_TRAIN / "study").glob("*.py")))


def compute(job: Job, step: Step) -> dict[str, Any]:
    from train.study.run import study

    arms = job.done(job.before.need("arms"))
    facts = study(
        job.folder, arms=arms.folder, name=job.recipe.name, workers=job.workers, **base_model.study_options(job, step)
    )
    return {**facts, **arms.facts}


def shows(facts: dict[str, Any]) -> list[Any]:
    """The table of arms, what the data say against it, and the headline."""
    several = len({row["view"] for row in facts["table"]}) > 1
    tables = [
        (
            f"{facts['unit'][0].upper()}{facts['unit'][1:]} of held-out responses{f' on {view}' if several else ''}",
            [_line(row) for row in facts["table"] if row["view"] == view and row["budget"]],
        )
        for view in dict.fromkeys(row["view"] for row in facts["table"])
    ]
    return [*tables, *facts["caveats"], facts["headline"]]


def _line(row: dict[str, Any]) -> dict[str, str]:
    """An arm at a budget as people read it, intervals in brackets."""
    return {
        "arm": row["arm"],
        "examples": f"{row['budget']:,}",
        "score": _span(row, "score", ".3f"),
        "against the reference": _span(row, "difference", "+.3f"),
        "verdict": row.get("verdict") or "",
        "m(N)": str(row.get("worth") or ""),
        "untuned": row.get("untuned_verdict") or "",
    }


def _span(row: dict[str, Any], name: str, form: str) -> str:
    value, low, high = (row.get(part) for part in (name, f"{name}_low", f"{name}_high"))
    if value is None:
        return ""
    return f"{value:{form}}" if low is None or high is None else f"{value:{form}} [{low:{form}}, {high:{form}}]"
