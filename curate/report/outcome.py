"""What a run would do, and what a run that ended has to show: asked of the kinds of its stages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from curate.run.plan import plan
from curate.run.recipe import Recipe
from curate.run.runner import not_ready, state
from curate.run.stage import Before
from curate.run.work import Work


def planned(recipe: Recipe, work: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """A line a stage (stage, method, options, state, and what its kind can tell beforehand, as `mixture`), and the problems
    that would stop the run, a sentence each."""
    stages = plan(recipe, work)
    lines = []
    for number, stage in enumerate(stages):
        preview = stage.kind.preview(stage, Before(recipe, stages[:number], work))
        line = {"stage": stage.title, "method": stage.step.method, "options": short(stage.step.options)}
        lines.append({**line, "state": state(work, stage), **preview})
    return lines, not_ready(recipe, work, stages)


def shown(recipe: Recipe, work: Path, titles: list[str]) -> list[str | tuple[str, list[dict[str, Any]]]]:
    """Lines and tables (a title, its rows) that the products of a run have to show. titles: of the stages that it came to."""
    products = [done for done in Work(work).products if done.title in titles]
    return [part for done in products for part in recipe.kinds[done.kind].shows(done.facts)]


def places(recipe: Recipe, work: Path) -> list[tuple[str, Path]]:
    """What a person looks for in the products of a run: a word, and where it lies. None that are of an earlier recipe."""
    paths = [
        (word, done.folder / relative)
        for done in Work(work).products
        if not done.old
        for word, relative in recipe.kinds[done.kind].places.items()
    ]
    return [(word, path) for word, path in paths if path.exists()]


def short(options: dict[str, Any]) -> str:
    """Options that say something, on one line."""
    return ", ".join(f"{name}={value}" for name, value in options.items() if value is not None)
