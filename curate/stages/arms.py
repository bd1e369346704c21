"""Arms: the rows that each arm of a study holds at each draw, chosen from the table that enters the first `select`, under every
level of the study's factors; and the held-out rows, by evaluation set."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

import train as trainer
from curate.contract import columns, methods
from curate.contract.code import missing_packages
from curate.contract.draws import shuffled
from curate.contract.errors import DataError
from curate.contract.files import digest, write_json
from curate.contract.methods import Method
from curate.load.source import template_sets
from curate.render.few_shot import exemplars
from curate.render.rows import render_rows
from curate.rows import arms, conditions, evaluation, selector, training
from curate.rows.arms import Arm, Tokens
from curate.rows.conditions import POOLED, RENDERED, TRAINED, Condition
from curate.rows.holdout import REASON
from curate.rows.pool import Pool
from curate.rows.table import text_of
from curate.run import base_model
from curate.run.ask import name_and_options
from curate.run.job import Job, light
from curate.run.stage import Before, Stage, Step
from curate.template.sets import load_set
from curate.vectors import store
from train.settings import TINY

if TYPE_CHECKING:
    from curate.run.ask import Ask

SECTION = "study"
NEEDS = {
    "train": "a study trains models: say which with a `train:` section, at least `train: {model: …}`",
    "holdout": "a study is measured on held-out records: add `holdout: {fraction: 0.05}`",
    "select": "a study's arms draw from the table that enters the first `select`; add a `select` step",
}
PRODUCT = "arms"
DEV = "dev"  # the column by which a selector's target names the rows that it may see
_FILES = [Path(trainer.__file__).parent / "study/inputs.py"]
_TOKENS = {"tokens": 0, "supervised_tokens": 1}


@dataclass(frozen=True)
class Bound:
    """What the stage remembers of the section: the selector of each arm, what is run, and what is scored."""

    selectors: dict[str, tuple[Method, dict[str, Any]]]
    conditions: list[Condition]
    sets: dict[str, dict[str, Any]]


def bind(given: Any, ask: Ask) -> Step | None:
    """Of the study's section all that decides who picks what."""
    sets = evaluation.bind(given.get("evaluate"), ask)
    if any(one["dev"] for one in sets.values()):
        ask.check.added.setdefault(DEV, "study")  # a target may name it
    chosen = _arms(given, sets, ask)
    for name, asked in sets.items():
        if unknown := [arm for arm in asked["arms"] or () if arm not in chosen]:
            ask.say(
                f"the evaluation set {name} is about {unknown[0]}, which is no arm; there are {', '.join(chosen)}",
                "evaluate",
                name,
                "arms",
            )
    factors = _factors(given.get("factors"), ask)
    cross = given.get("cross") or []
    budgets, draws, equal = given.get("budgets"), given.get("draws", 5), given.get("equal", "examples")
    if not (isinstance(budgets, list) and all(isinstance(b, int) for b in budgets) and isinstance(draws, int)):
        return None  # the study says so
    if not (cross == "all" or (isinstance(cross, list) and all(isinstance(group, list) for group in cross))):
        ask.say("`cross` is `all`, or a list of lists of factors, as in [[objective, tuning]]", "cross")
        return None
    unknown = [name for group in (cross if cross != "all" else []) for name in group if name not in factors]
    if unknown:
        ask.say(
            f"`cross` names {unknown[0]}, which is no factor of this study; it has {', '.join(factors) or 'none'}",
            "cross",
        )
        return None
    extra = given.get("reference_budgets")
    every = conditions.conditions(list(chosen), factors, cross)
    labels = [condition.label for condition in every]
    if twice := sorted({label for label in labels if labels.count(label) > 1}):
        ask.say(f"two conditions are called {twice[0]}; give the levels of `factors` other names", "factors")
    return Step(
        kind="arms",
        name="arms",
        method="arms",
        options={
            "arms": {arm: {method.name: options} for arm, (method, options) in chosen.items()},
            "budgets": sorted(budgets),
            "reference": str(given.get("reference", "random")).split("/")[0],
            "reference_budgets": sorted(extra) if isinstance(extra, list) else [],
            "draws": draws,
            "pools": given.get("pools", "overlapping"),
            "equal": equal,
            "evaluate": sets,
            "conditions": [{"label": c.label, "levels": c.levels, "values": c.values} for c in every],
        },
        written=None,
        methods=tuple(method for method, _ in chosen.values()),
        bound=Bound(chosen, every, sets),
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
        "train": {name: tuned.options[name] for name in ("model", "chat", "max_length", "over_length", "objective")},
        **base_model.reads(tuned, before),
    }


def code(step: Step) -> list[Path]:
    return _FILES


def ready(step: Step, before: Before) -> list[str]:
    return missing_packages("a study", _FILES)


def compute(job: Job, step: Step) -> dict[str, Any]:
    bound: Bound = step.bound
    aside, dev = _held_out(job, step)
    rows = {key: _rendered(job, f"rows{key}", values) for key, values in _renderings(bound).items()}
    counts = {key: _lengths(job, path) for key, path in rows.items()}
    whole = job.light([asked for _, asked in bound.selectors.values()])
    vectors = job.vectors(whole[columns.ID]) if _need_vectors(bound) else None
    usable = set.intersection(*(set(one) for one in counts.values()))
    pool = Pool(whole, vectors).take(np.flatnonzero(whole[columns.ID].is_in(sorted(usable)).to_numpy()))
    beside = {name: _beside(job, rows_of, vectors is not None) for name, rows_of in dev.items()}
    for key, values in _poolings(bound).items():
        part = pool.take(conditions.restricted(pool.table, values, job.seed)) if values else pool
        _write_subsets(job, step, f"subsets{key}", part, beside, list(counts.values()))
    write_json(
        job.folder / "conditions.json", {"conditions": [_condition(step, one, rows) for one in bound.conditions]}
    )
    return {"pool": len(pool), "without_response": whole.height - len(pool), "held_out": aside}


def _write_subsets(
    job: Job, step: Step, folder: str, pool: Pool, beside: dict[str, Pool], counts: list[dict[str, tuple[int, int]]]
) -> None:
    options, reference = step.options, step.options["reference"]
    column = _TOKENS.get(options["equal"])
    several = len(options["budgets"]) > 1 or column is not None
    picking: dict[str, Arm] = {}
    for name, (method, asked) in sorted(step.bound.selectors.items(), key=lambda arm: arm[0] != reference):
        target = asked.get("target")
        budgets = [*options["budgets"], *(options["reference_budgets"] if name == reference else [])]
        picking[name] = Arm(
            method,
            asked,
            max(budgets),
            several or len(budgets) > 1,
            beside.get(str(target[DEV])) if isinstance(target, dict) and DEV in target else None,
        )
    tokens = None
    if column is not None:
        tokens = Tokens(
            [{id: both[column] for id, both in one.items()} for one in counts], reference, max(options["budgets"])
        )
    arms.write_subsets(
        job.folder / folder, pool, picking, options["draws"], job.seed, pools=options["pools"], tokens=tokens
    )


def _condition(step: Step, one: Condition, rows: dict[str, Path]) -> dict[str, Any]:
    """As train/study/inputs.py reads it."""
    is_reference = one.arm == step.options["reference"]
    extra = step.options["reference_budgets"] if is_reference else []
    return {
        "label": one.label,
        "arm": one.arm,
        "levels": one.levels,
        "train": one.of(TRAINED),
        "rows": rows[_key(one, RENDERED)].name,
        "subsets": f"subsets{_key(one, POOLED)}/{one.arm}",
        "budgets": sorted({*step.options["budgets"], *extra}),
        "sets": [
            name
            for name, asked in step.bound.sets.items()
            if is_reference or asked["arms"] is None or one.arm in asked["arms"]
        ],
    }


# --- what arms pick from and rows are trained on ----------------------------------------------------------------------


def _key(one: Condition, factors: tuple[str, ...]) -> str:
    """A suffix for what depends on some of the factors: empty where none of them is there."""
    values = one.of(factors)
    return f"-{digest(values)[:8]}" if values else ""


def _renderings(bound: Bound) -> dict[str, dict[str, Any]]:
    return {_key(one, RENDERED): one.of(RENDERED) for one in bound.conditions}


def _poolings(bound: Bound) -> dict[str, dict[str, Any]]:
    return {_key(one, POOLED): one.of(POOLED) for one in bound.conditions}


def _need_vectors(bound: Bound) -> bool:
    return any(method.reads_vectors for method, _ in bound.selectors.values())


def _lengths(job: Job, rows: Path) -> dict[str, tuple[int, int]]:
    from train.study.inputs import lengths

    options = base_model.settings(job.before.need("train").step, job.recipe.folder)
    texts = base_model.texts(job) if options["model"] in TINY else None
    return lengths(rows, train=options, base_texts=texts, seed=job.seed, folder=job.recipe.folder)


def _rendered(job: Job, name: str, values: dict[str, Any]) -> Path:
    """The pool in messages, under a number of templates and of examples shown. A study trains and scores one phrasing a
    record, also where the release has all of them."""
    path = job.folder / f"{name}.parquet"
    if not path.is_file():
        rows = job.rows()
        asked = _asked(job, rows, values)
        examples = exemplars(job.parent.kept, asked, job.seed)
        kept, _ = render_rows(rows, **asked, exemplars=examples, seed=job.seed, folder=job.recipe.folder)
        training.write_rows(path, kept)
    return path


def _asked(job: Job, rows: pl.DataFrame, values: dict[str, Any]) -> dict[str, Any]:
    asked = dict(job.before.need("render").step.options)
    if asked["templates"] == "all":
        asked["templates"] = "one"
    if (k := values.get("templates")) is not None and k != "all":
        asked["leave_out"] = _beyond(rows, k, asked["leave_out"] or {}, job)
    if (shots := values.get("shots")) is not None:
        few = asked["few_shot"] or {}
        asked["few_shot"] = {**few, "share": 1.0, "shots": [shots, shots]} if shots else None
    return asked


def _beyond(rows: pl.DataFrame, k: int, leave_out: dict[str, list[str]], job: Job) -> dict[str, list[str]]:
    """The templates of each set beyond k in the order of a hash, so that fewer are part of more."""
    out = {}
    for name in rows[columns.TEMPLATE_SET].unique().sort().to_list():
        gone = leave_out.get(name, [])
        there = [t.name for t in load_set(name, job.recipe.folder).templates if t.name not in gone]
        order = [there[i] for i in shuffled(job.seed, f"study.templates/{name}", there)]
        out[name] = [*gone, *order[k:]]
    return {name: some for name, some in out.items() if some}


def _held_out(job: Job, step: Step) -> tuple[dict[str, int], dict[str, pl.DataFrame]]:
    """Writes holdout.parquet; gives the size of each evaluation set and its dev rows."""
    holdout = job.done(job.before.need("holdout"))
    sets = step.bound.sets
    aside = holdout.read("removed").filter(pl.col(columns.REASON) == REASON)
    told = light(holdout.removed, list(sets.values())).filter(pl.col(columns.REASON) == REASON)
    groups, dev = evaluation.groups(told, sets, job.seed)
    seen = {id for ids in dev.values() for id in ids}
    test = aside.filter(~pl.col(columns.ID).is_in(sorted(seen)))
    path = job.folder / "holdout.parquet"
    asked = _asked(job, test, {})
    kept, _ = render_rows(
        test, **asked, exemplars=exemplars(job.parent.kept, asked, job.seed), seed=job.seed, folder=job.recipe.folder
    )
    of_id = {name: dict(zip(told[columns.ID], column, strict=True)) for name, column in groups.items()}
    more = {
        f"in.{name}": pl.Series([of.get(id) for id in kept[columns.ID]], dtype=pl.String) for name, of in of_id.items()
    }
    training.write_rows(path, kept, **more)
    sizes = {name: int(column.is_not_null().sum()) for name, column in more.items()}
    if empty := [name for name, n in sizes.items() if n == 0]:
        raise DataError(
            f"study: no held-out row of {empty[0].removeprefix('in.')} is left to score; hold out more, or take fewer dev rows"
        )
    return (
        {name.removeprefix("in."): n for name, n in sizes.items()},
        {
            name: aside.filter(pl.col(columns.ID).is_in(ids)).with_columns(pl.lit(name).alias(DEV))
            for name, ids in dev.items()
        },
    )


def _beside(job: Job, rows: pl.DataFrame, with_vectors: bool) -> Pool:
    """Dev rows as a selector sees them, with vectors of the recipe's own embed step."""
    vectors = None
    if with_vectors:
        step = job.before.need("embed").step
        path = job.folder / f"dev-{digest(rows[DEV][0])[:8]}.npy"
        filled = {"seed": job.seed, "data": job.recipe.data, "folder": job.recipe.folder}
        store.vectors(text_of(rows, step.text or columns.PROMPT), step.methods[0], step.options, path, **filled)
        vectors = np.load(path)
    return Pool(rows.drop(columns.REASON, columns.STAGE, columns.FIELDS, strict=False), vectors)


# --- the section ------------------------------------------------------------------------------------------------------


def _arms(given: dict[str, Any], sets: dict[str, dict[str, Any]], ask: Ask) -> dict[str, tuple[Method, dict[str, Any]]]:
    chosen: dict[str, tuple[Method, dict[str, Any]]] = {}
    named = given.get("arms")
    for arm, choice in named.items() if isinstance(named, dict) else ():
        if (selected := _arm(str(arm), choice, sets, ask)) is not None:
            chosen[str(arm)] = selected
    wanted = given.get("baselines", list(arms.BASELINES))
    if not (isinstance(wanted, list) and all(one in arms.BASELINES for one in wanted)):
        ask.say(f"`baselines` is a list of some of {', '.join(arms.BASELINES)}", "baselines")
        return chosen
    for baseline in wanted:
        if not any(method.name == baseline for method, _ in chosen.values()):
            method = methods.find(selector.ROOM, baseline, ask.folder)
            chosen[baseline] = method, {p.word: p.default for p in method.parameters if p.word != "budget"}
    return chosen


def _arm(arm: str, choice: Any, sets: dict[str, dict[str, Any]], ask: Ask) -> tuple[Method, dict[str, Any]] | None:
    name, options = name_and_options(choice)
    if "/" in arm or "@" in arm:
        ask.say(
            f"the arm '{arm}' has a / or @ in its name, which part levels and budgets; name it otherwise", "arms", arm
        )
    if "budget" in options:
        ask.say(f"the arm '{arm}' takes its budgets from `study.budgets`; remove its `budget`", "arms", arm)
    target = options.get("target")
    if isinstance(target, dict) and DEV in target:
        with_dev = [one for one, asked in sets.items() if asked["dev"]]
        if target[DEV] not in with_dev:
            there = ", ".join(with_dev) or "none"
            ask.say(
                f"the arm '{arm}' aims at the dev rows of '{target[DEV]}'; evaluation sets with `dev` rows: {there}",
                "arms",
                arm,
            )
            return None
    chosen = selector.chosen({name: {**options, "budget": 1}}, ask, "arms", arm)
    if chosen is None:
        return None
    if chosen.method.reads_vectors:
        ask.need("embed", f"the arm '{arm}' needs vectors; add an `embed` step before the select", "arms", arm)
    return chosen.method, {word: value for word, value in chosen.options.items() if word != "budget"}


def _factors(given: Any, ask: Ask) -> dict[str, dict[str, Any]]:
    """The levels of each factor by name, checked; {} where something is wrong."""
    if given is None:
        return {}
    if not isinstance(given, dict):
        ask.say(
            "`factors` is a mapping of factors to levels, as in `factors: {learning_rate: [1e-4, 1e-3]}`", "factors"
        )
        return {}
    out: dict[str, dict[str, Any]] = {}
    for factor, levels in given.items():
        if factor not in conditions.FACTORS:
            near = methods.nearest(str(factor), conditions.FACTORS)
            ask.say(
                f"there is no factor '{factor}'{near}; there are {', '.join(conditions.FACTORS)}", "factors", factor
            )
            continue
        named = conditions.named(factor, levels)
        if factor == "quality" and isinstance(levels, dict) and {"by", "shares"} <= set(levels):
            shares = levels["shares"] if isinstance(levels["shares"], list) else []
            named = {f"quality={share:g}": {"by": levels["by"], "share": share} for share in shares}
        if len(named) < 2:
            ask.say(
                f"the factor {factor} needs two levels or more, as a list or as names: {_FORMS[factor]}",
                "factors",
                factor,
            )
            continue
        wrong = [value for value in named.values() if not _fits(factor, value, ask)]
        if wrong:
            if factor not in _METHODS:  # of a method what is wrong has been said
                ask.say(
                    f"the factor {factor} has the level {wrong[0]!r}; levels are as in {_FORMS[factor]}",
                    "factors",
                    factor,
                )
            continue
        out[factor] = named
    return out


_METHODS = {"objective": "objectives", "tuning": "tuning"}  # factors whose levels are methods, and their rooms
_FORMS = {
    "objective": "[response_only, instruction_modelling]",
    "tuning": "{full: full, lora: {lora: {rank: 8}}}",
    "learning_rate": "[1e-4, 1e-3]",
    "epochs": "[1, 3]",
    "model": "{small: tiny, large: tiny-10m}",
    "templates": "[1, 4, all]",
    "shots": "[0, 2]",
    "task_clusters": "[4, 8]",
    "quality": "{by: score_x, shares: [1.0, 0.5, 0.0]}",
    "mix": "{even: {a: 1, b: 1}, mostly_a: {a: 3, b: 1}}",
}


def _fits(factor: str, value: Any, ask: Ask) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if factor in _METHODS:
        return ask.method(_METHODS[factor], value, "factors", factor) is not None
    if factor == "model":
        return isinstance(value, str)
    if factor == "quality":
        return isinstance(value, dict) and isinstance(value.get("share"), int | float) and 0 <= value["share"] <= 1
    if factor == "mix":
        return isinstance(value, dict) and all(isinstance(w, int | float) and w >= 0 for w in value.values())
    if factor == "templates":
        return value == "all" or (isinstance(value, int) and value > 0)
    if factor in ("shots", "task_clusters"):
        return isinstance(value, int) and not isinstance(value, bool) and value >= (0 if factor == "shots" else 1)
    return number and value > 0
