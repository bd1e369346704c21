"""Studies: tamis study, floor."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from curate.cli.arguments import Json, RecipePath, Sets
from curate.cli.printing import print_json, print_table, say
from curate.cli.run import CORES, run
from curate.contract.errors import RequestError

if TYPE_CHECKING:
    from curate.run.recipe import Recipe

Work = Annotated[Path | None, typer.Option(help="Where everything is written; work/<recipe's name> if not given.")]
Workers = Annotated[int, typer.Option(help="Processes of one thread each, spread over the GPUs where there are some.")]


def study(
    recipe: RecipePath,
    work: Work = None,
    sets: Sets = None,
    workers: Workers = CORES,
    plan: Annotated[
        bool, typer.Option("--plan", help="Only say which runs there are, their time, and what they can show.")
    ] = False,
    prereg: Annotated[bool, typer.Option("--prereg", help="Only write the plan down, and print its hash.")] = False,
    power: Annotated[float | None, typer.Option(help="Only say what it takes to show so small an effect.")] = None,
    stop_at: Annotated[
        str | None, typer.Option(metavar="ci=WIDTH", help="Take draws until intervals are within this, as in ci=0.1.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Measure what one selected example is worth, as the recipe's `study:` says. --plan, --prereg and --power run what comes
    before the study and train no arm."""
    from curate.report import study_plan

    if stop_at is not None:
        word, _, width = stop_at.partition("=")
        if word != "ci" or not width:
            raise RequestError(f"--stop-at {stop_at}: write ci= and half the width of an interval, as in ci=0.1")
        sets = [*(sets or []), f"study.stop_at={width}"]
    if not (plan or prereg or power is not None):
        return run(recipe, work=work, sets=sets, until="study", workers=workers, as_json=as_json)
    checked, place = _up_to_the_arms(recipe, work, sets, workers)
    told = study_plan.planned(checked, place, workers, prereg=prereg, effect=power)
    if as_json:
        return print_json(told.facts)
    if plan:
        print_table(
            told.arms, title=f"{checked.name}: the runs of its study", right=("runs", "to train", "steps", "tokens")
        )
    for line in told.lines:
        say(line)


def floor(
    recipe: RecipePath,
    work: Work = None,
    sets: Sets = None,
    workers: Workers = CORES,
    budget: Annotated[
        int | None, typer.Option(help="Examples of each arm; half the largest budget, if left out.")
    ] = None,
    as_json: Json = False,
) -> None:
    """The smallest difference that is not noise: a few A/A runs of the recipe's own model and data, one arm against itself."""
    from curate.contract import progress
    from curate.report import study_plan

    checked, place = _up_to_the_arms(recipe, work, sets, workers)
    with progress.shown():
        told = study_plan.floored(checked, place, workers, budget)
    if as_json:
        return print_json(told.facts)
    for line in told.lines:
        say(line)


def _up_to_the_arms(recipe: Path, work: Path | None, sets: list[str] | None, workers: int) -> tuple[Recipe, Path]:
    """Runs what comes before a study; gives the recipe and its work folder."""
    from curate.contract import progress
    from curate.run import recipe as recipes
    from curate.run import runner

    checked = recipes.read(recipe, sets)
    place = work or Path("work") / checked.name
    if checked.step("study") is None:
        raise RequestError(f"{recipe}: holds no `study:`; add one")
    with progress.shown():
        runner.run(checked, place, until="arms", workers=workers, on_stage=progress.say)
    return checked, place
