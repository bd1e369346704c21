"""Running recipes: tamis run, train, study, demo."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from curate.cli.arguments import Json, RecipePath, Sets
from curate.cli.printing import print_funnel, print_json, print_table, say, warn

if TYPE_CHECKING:
    from curate.run.recipe import Recipe

CORES = os.cpu_count() or 1


def run(
    recipe: RecipePath,
    work: Annotated[
        Path | None, typer.Option(help="Where everything is written; work/<recipe's name> if not given.")
    ] = None,
    sets: Sets = None,
    until: Annotated[str | None, typer.Option(metavar="STAGE", help="Stop after this stage.")] = None,
    workers: Annotated[int, typer.Option(help="Processes; the output is the same for any number.")] = CORES,
    plan: Annotated[bool, typer.Option("--plan", help="Only say what would run and what is cached.")] = False,
    as_json: Json = False,
) -> None:
    """Run all that a recipe holds. What is unchanged is not run again; a killed run is taken up where it was."""
    from curate.contract import progress
    from curate.report import outcome
    from curate.run import recipe as recipes
    from curate.run import runner

    checked = recipes.read(recipe, sets)
    work = work or Path("work") / checked.name
    if plan:
        return _plan(checked, work, as_json)
    with progress.shown():
        ran = runner.run(checked, work, until=until, workers=workers, on_stage=progress.say)
    print_funnel(work, as_json)
    if as_json:
        return None
    for shown in outcome.shown(checked, work, [*ran.done, *ran.cached]):
        say(f"{shown}\n") if isinstance(shown, str) else print_table(shown[1], title=shown[0])
    say(f"{ran}." if ran.done else f"Nothing to do: all {len(ran.cached)} stages are cached in {work}.")
    for word, path in outcome.places(checked, work):
        say(f"  {word:<8} {path}")


def train(recipe: RecipePath, work: Annotated[Path | None, typer.Option()] = None, sets: Sets = None) -> None:
    """Fine-tune as the recipe's `train:` says, running what comes before it where needed."""
    run(recipe, work=work, sets=sets, until="model")


def demo(
    work: Annotated[Path, typer.Option(help="Where everything is written.")] = Path("work/demo"),
    sets: Sets = None,
    workers: Annotated[int, typer.Option(help="Processes.")] = CORES,
) -> None:
    """The whole of the mission on the docstrings of the installed packages: no download, under ten minutes on 2 cores."""
    from curate.contract.paths import library

    run(library("examples") / "demo" / "recipe.yaml", work=work, sets=sets, workers=workers)


def _plan(recipe: Recipe, work: Path, as_json: bool) -> None:
    """What a run would do, with what kinds can tell beforehand; exit code 1 where something would stop it."""
    from curate.report import outcome

    lines, problems = outcome.planned(recipe, work)
    if as_json:
        print_json(lines)
    else:
        tables = {name: value for line in lines for name, value in line.items() if isinstance(value, list)}
        plain = [{name: value for name, value in line.items() if not isinstance(value, list)} for line in lines]
        print_table(plain, title=f"{recipe.name}: what `tamis run` would do in {work}")
        for name, rows in tables.items():
            print_table(_quotas(rows), title=f"The {name}", right=("there", "weight", "quota", "share %"))
    for problem in problems:
        warn(problem)
    if problems:
        raise typer.Exit(1)


def _quotas(mixture: list[dict[str, Any]]) -> list[dict[str, str]]:
    """A mixture's plan as people read it."""
    return [
        {
            "name": line["name"],
            "there": f"{line['there']:,}",
            "weight": f"{line['weight']:g}",
            "quota": f"{line['quota']:,}",
            "share %": f"{100 * line['share']:.2f}",
        }
        for line in mixture
    ]
