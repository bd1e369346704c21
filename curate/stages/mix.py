"""Mix: how many rows each source, task or cluster of tasks gives, and which."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import polars as pl

from curate.contract import columns, methods
from curate.contract.errors import RequestError
from curate.contract.files import read_json, sha256
from curate.contract.methods import Parameter, nearest
from curate.load.source import template_sets
from curate.mix import presets, quotas
from curate.render import few_shot
from curate.rows import token_counts
from curate.run.ask import name_and_options
from curate.run.job import Job
from curate.run.stage import Before, Stage, Step
from curate.run.work import MANIFEST, Done

if TYPE_CHECKING:
    from curate.run.ask import Ask

SECTION = "mix"
FORM = "str | dict"
EXAMPLE = "mix: {proportional: {cap: 3000}}"
_FILE = "curate/mix/quotas.py"
_LINES = 100  # of a mixture's plan that a run prints


def options() -> tuple[Parameter, ...]:
    """What every way takes beside its own."""
    return methods.signature(_FILE, "common")


def words() -> dict[str, tuple[str, tuple[Parameter, ...]]]:
    """The ways, and the presets."""
    ways = {way: (methods.summary_of(_FILE, way), methods.signature(_FILE, way, 1)) for way in quotas.WAYS}
    return ways | {name: (f"The preset of templates/mixtures/{name}.yaml.", _of_presets()) for name in presets.names()}


def bind(given: Any, ask: Ask) -> Step | None:
    if isinstance(given, dict) and len(given) != 1:
        ask.say(f"mix is one way, and here are {len(given)}: {', '.join(map(str, given)) or 'none'}")
        return None
    way, asked = name_and_options(given)
    try:
        names = [*quotas.WAYS, *presets.names(ask.folder)]
        if way not in names:
            ask.say(f"unknown mix '{way}'{nearest(way, names)}; there are: {', '.join(names)}")
            return None
        parameters = _parameters(way, ask)
    except RequestError as error:  # a preset's own file is wrong
        ask.check.problems.append(str(error))
        return None
    before = ask.count
    bound = ask.bind(f"mix {way}", parameters, asked, way)
    for option, problem in quotas.problems(way, bound, ask.folder) if ask.count == before else ():
        ask.say(f"mix {way}: {problem}", way, option)
    _check_sources(way, bound, ask)
    return Step(kind="mix", name="mix", method=way, options=bound, written={way: bound})


def reads(step: Step, before: Before) -> dict[str, Any]:
    """The files of a preset and of a tokenizer; the template sets, where a preset counts their templates."""
    folder, facts = before.recipe.folder, dict[str, Any]()
    if step.method not in quotas.WAYS:
        files = [presets.path_of(name, folder) for name in presets.files_of(step.method, folder)]
        facts["preset"] = {path.stem: sha256(path) for path in files}
        if presets.load(step.method, folder).counts_templates:
            facts["sets"] = template_sets(before.need("load").step.bound, folder, "source_hash")
    if (asked := _few_shot(before)) is not None:
        facts["few_shot"] = asked
    if step.options.get("tokens") is not None:
        facts["tokenizer"] = token_counts.fingerprint(step.options["tokenizer"], folder)
    return facts


def preview(stage: Stage, before: Before) -> dict[str, Any]:
    """The plan of the mixture, where the counts are known: if it has run, or the table before it has; not where tokens would
    have to be counted first."""
    step, parent = stage.step, stage.parent
    if before.work is None or parent is None:
        return {}
    if (done := _cached(before.work, stage)) is not None:
        return {"mixture": done.facts["mixture"]}
    table = _cached(before.work, parent)
    if table is None or step.options.get("tokens") is not None:
        return {}
    rows = table.read(only=sorted({*quotas.needs(step.method, step.options), columns.TEMPLATE_SET}))
    rows = rows.filter(~_exemplars(rows, before, stage.seed))
    arranged = quotas.arrange(rows, step.method, step.options, seed=stage.seed, folder=before.recipe.folder)
    return {"mixture": arranged.plan.lines()}


def compute(job: Job, step: Step) -> dict[str, Any]:
    every = job.rows()
    aside = _exemplars(every, job.before, job.seed)
    whole = every.filter(~aside)
    arranged = quotas.arrange(whole, step.method, step.options, seed=job.seed, folder=job.recipe.folder)
    kept, gone = arranged.apply(whole, job.seed)
    job.write(kept, pl.concat([gone, every.filter(aside).with_columns(pl.lit(few_shot.REASON).alias(columns.REASON))]))
    plan, came = arranged.plan, quotas.realised(arranged, whole, kept)
    nothing = {"rows": 0, "counted": 0, **({"tokens": 0} if plan.unit == "tokens" else {})}
    lines = [{**line, **came.get(line["name"], nothing)} for line in plan.lines()]
    return {"by": plan.by, "unit": plan.unit, "summary": plan.summary(), "mixture": lines, "short": plan.short}


def says(step: Step, facts: dict[str, Any]) -> list[str]:
    lines = [f"mix: {facts['summary']}"]
    lines += [quotas.sentence(line, facts["unit"]) for line in facts["mixture"][:_LINES]]
    if len(facts["mixture"]) > _LINES:
        lines.append(f"… and {len(facts['mixture']) - _LINES:,} more in the stage's manifest.json")
    return lines


def _few_shot(before: Before) -> dict[str, Any] | None:
    """What the recipe's few-shot prompts ask for: their examples are taken before the mixture, so that it comes out as asked."""
    return next((step.options["few_shot"] for step in before.recipe.steps if step.kind == "render"), None)


def _exemplars(table: pl.DataFrame, before: Before, seed: int) -> pl.Series:
    """Which rows are set aside for few-shot prompts: Boolean (n,)."""
    asked = _few_shot(before)
    ids = (
        few_shot.set_aside(table, few_shot.few_shot(**asked), seed, before.recipe.folder)
        if asked
        else pl.Series([], dtype=pl.String)
    )
    return table[columns.ID].is_in(ids.implode())


def _parameters(way: str, ask: Ask) -> tuple[Parameter, ...]:
    if way in quotas.WAYS:
        return methods.signature(_FILE, way, 1) + options()
    presets.load(way, ask.folder)
    return _of_presets() + methods.signature(_FILE, "common", without=("by", "example_cap"))


def _of_presets() -> tuple[Parameter, ...]:
    rows = Parameter("rows", "int | None", None, "the size of the mixture; if left out, what the preset gives")
    return rows, *methods.signature("curate/mix/presets.py", "bind", 3)


def _check_sources(way: str, bound: dict[str, Any], ask: Ask) -> None:
    """Sources that options name are sources of the recipe."""
    known = ask.values(columns.SOURCE)
    for option, one, source in _named(bound):
        if known and source not in known:
            there = ", ".join(sorted(known))
            ask.say(
                f"mix {way}: there is no source '{source}'{nearest(source, known)}; there are: {there}",
                way,
                option,
                one,
            )


def _named(bound: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """(option, key, source) of each source that the options name."""
    if bound.get("by") == columns.SOURCE:
        for option in ("rows", "tokens", "weights"):
            if isinstance(bound.get(option), dict):
                yield from ((option, one, one) for one in bound[option])
    else:
        named = bound.get("sources")
        for one, sources in named.items() if isinstance(named, dict) else ():
            yield from (("sources", one, source) for source in sources)


def _cached(work: Any, stage: Stage) -> Done | None:
    """A stage as it lies on disk, if it is there and unchanged."""
    try:
        manifest = read_json(work / stage.title / MANIFEST)
    except (OSError, ValueError):
        return None
    return Done(work / stage.title, manifest, old=False) if manifest.get("key") == stage.key else None
