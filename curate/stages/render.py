"""Render: every record put into messages by a template of its set."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import polars as pl

from curate.contract import columns, methods
from curate.contract.errors import RequestError
from curate.contract.methods import Parameter
from curate.load.source import template_sets
from curate.render import few_shot
from curate.render.rows import render_rows, styles_problem, without
from curate.rows import token_counts
from curate.run.job import Job
from curate.run.stage import Before, Step
from curate.run.work import Done
from curate.template.sets import load_set

if TYPE_CHECKING:
    from curate.run.ask import Ask

SECTION = "render"
IMPLIED: dict[str, Any] = {}
ROLE = "phrasing"
EXAMPLE = """\
render: {templates: one, few_shot: {share: 0.5, shots: [1, 4]}}"""
_OPTIONS = ("templates", "no_options", "inversions", "styles", "leave_out", "few_shot")


def options() -> tuple[Parameter, ...]:
    return tuple(p for p in methods.signature("curate/render/rows.py", "render_rows", 1) if p.name in _OPTIONS)


def words() -> dict[str, tuple[str, tuple[Parameter, ...]]]:
    few = methods.signature("curate/render/few_shot.py", "few_shot")
    return {
        "render": ("Every record put into messages.", options()),
        "few_shot": ("Solved examples before the question: an option of render.", few),
    }


def bind(given: Any, ask: Ask) -> Step | None:
    bound = ask.bind("render", options(), given)
    for option in ("no_options", "inversions"):
        share = bound[option]
        if share is not None and not 0 <= share <= 1:
            ask.say(f"render: {option} is {share}; it is a share and lies between 0 and 1", option)
    if bound["styles"] is not None and (problem := styles_problem(bound["styles"])):
        ask.say(f"render: {problem}", "styles")
    for name, some in (bound["leave_out"] or {}).items():
        if not isinstance(some, list) or not all(isinstance(one, str) for one in some):
            ask.say(
                f"render: leave_out: {name} is {some!r:.60}; write a list of its templates, as in [{name}: [gist, recap]]",
                "leave_out",
            )
    if bound["few_shot"] is not None:
        bound["few_shot"] = _few_shot(bound["few_shot"], ask)
    return Step(kind="render", name="render", method="templates", options=bound, written=bound)


def reads(step: Step, before: Before) -> dict[str, Any]:
    folder = before.recipe.folder
    named = {str(one.options["template"]) for one in before.need("load").step.bound if one.options.get("template")}
    leave_out = step.options["leave_out"] or {}
    sets = [without(load_set(name, folder), leave_out) for name in sorted({*named, *leave_out})]
    if problem := step.options["styles"] and styles_problem(step.options["styles"], sets):
        raise RequestError(f"render: {problem}")
    facts: dict[str, Any] = {"sets": template_sets(before.need("load").step.bound, folder, "source_hash")}
    if step.options["few_shot"] is not None:
        facts["tokenizer"] = token_counts.fingerprint(step.options["few_shot"]["tokenizer"], folder)
    return facts


def compute(job: Job, step: Step) -> dict[str, Any]:
    mixed = job.before.nearest("mix")
    exemplars = (
        few_shot.exemplars(job.parent.kept, step.options, job.seed, job.recipe.folder)
        if mixed is None
        else few_shot.set_aside_before(job.done(mixed).removed, step.options)
    )
    job.by_shard(_rendered, step.options, exemplars, job.seed, job.recipe.folder)
    counts: Counter[str] = Counter()
    here = Done(job.folder, {}, old=False)
    for part in here.kept:
        counts.update(
            dict(pl.read_parquet(part, columns=[columns.TEMPLATE])[columns.TEMPLATE].value_counts().iter_rows())
        )
    facts: dict[str, Any] = {"templates": dict(sorted(counts.items()))}
    if exemplars is not None:
        facts["few_shot"] = few_shot.given(here.read(only=[columns.RECORD, columns.SHOTS]), step.options, job.seed)
    return facts


def says(step: Step, facts: dict[str, Any]) -> list[str]:
    """Where few-shot prompts got less than was asked for."""
    if "few_shot" not in facts:
        return []
    drawn, having, full = (facts["few_shot"][name] for name in ("drawn", "with_examples", "with_the_least_asked"))
    if full == drawn:
        return []
    asked = few_shot.few_shot(**step.options["few_shot"])
    return [
        f"few-shot: of {drawn:,} records drawn, {drawn - having:,} have no example and {having - full:,} fewer than "
        f"{asked.shots[0]}: more do not fit in {asked.max_tokens:,} tokens, or their set has too few rows"
    ]


def _few_shot(given: Any, ask: Ask) -> dict[str, Any]:
    before = ask.count
    schema = methods.signature("curate/render/few_shot.py", "few_shot")
    bound = ask.bind("few_shot", schema, given, "few_shot")
    if ask.count == before:
        try:
            few_shot.few_shot(**bound)
        except RequestError as error:
            ask.say(str(error), "few_shot")
        if problem := token_counts.problem(bound["tokenizer"], ask.folder):
            ask.say(f"few_shot: {problem}", "few_shot", "tokenizer")
    return bound


def _rendered(
    rows: pl.DataFrame, asked: dict[str, Any], exemplars: pl.DataFrame | None, seed: int, folder: Any
) -> tuple[pl.DataFrame, pl.DataFrame]:
    return render_rows(rows, **asked, exemplars=exemplars, seed=seed, folder=folder)
