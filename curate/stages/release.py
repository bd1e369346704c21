"""Release: the rendered rows as a data set that anybody can load, with its card."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from curate.contract import methods
from curate.contract.code import missing_packages
from curate.contract.files import sha256
from curate.contract.methods import Parameter
from curate.contract.paths import library
from curate.release import card
from curate.run.job import Job
from curate.run.stage import Before, Step

if TYPE_CHECKING:
    from curate.run.ask import Ask

SECTION = "release"
NEEDS = {"render": "a release holds rendered rows; add `render: {templates: one}`"}
PRODUCT = "release"
PLACES = {"card": "README.md", "data": "data"}
ROLE = "release"
EXAMPLE = "release: {pretty_name: A thousand docstrings, language: [en]}"


def options() -> tuple[Parameter, ...]:
    return methods.signature("curate/release/card.py", "release", 2, without=("recipe", "manifests"))


def bind(given: Any, ask: Ask) -> Step | None:
    bound = ask.bind("release", options(), given)
    return Step(kind="release", name="release", method="card", options=bound, written=bound)


def reads(step: Step, before: Before) -> dict[str, Any]:
    """The recipe as far as the card shows it, and the card's layout."""
    layout = {path.name: sha256(path) for path in sorted((library("templates") / "card").glob("*"))}
    return {"recipe": before.recipe.until(step), "layout": layout}


def ready(step: Step, before: Before) -> list[str]:
    return missing_packages("the plot of a release", [Path(card.__file__).with_name("plot.py")])


def compute(job: Job, step: Step) -> dict[str, Any]:
    manifests = [job.done(stage).manifest for stage in job.before.stages if stage.table]
    return card.release(job.folder, job.rows(), recipe=job.recipe.until(step), manifests=manifests, **step.options)
