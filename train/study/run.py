"""A study: every arm at every budget on every draw trains the same base model, and all are scored on the same held-out rows.

    facts = study(out, arms=Path("work/demo/arms"), train={"model": "tiny", …})
    print(facts["headline"])

What it reads in ARMS (curate/stages/arms.py writes it):

    conditions.json             the arms, under each level of each factor: their rows, subsets, budgets and training options
    <rows>.parquet              id, messages, task
    <subsets>/<draw>.parquet    id, rank: what each picked on each draw, nested by rank
    holdout.parquet             id, messages, task, and in.NAME for each evaluation set: the group of a row, null outside it

What it leaves in OUT:

    plan.json                   what will be trained and asked, written before anything is
    results.parquet             tidy: arm, budget, draw, seed, item, task, value (bits per byte), bits, bytes, and more
    runs.parquet                what each run was given: key, examples, steps, tokens, targets, response bytes, losses
    analysis.json  report.html  plot.png

The runs themselves are kept in the store that all works share (kind ``runs``), each under a key of all that decides its
result. So a stopped study goes on where it was, a new arm, budget or draw trains its own runs only, and what the analysis
makes of them trains nothing. Runs are paired: on one draw, all arms share the pool, the seed (hashed from the draw and the
seed's number), the order keys and the items.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pyarrow.compute as pc

from curate.contract.errors import RequestError
from curate.contract.files import digest, read_json, write_json
from train.run import versions
from train.study.analysis import Analysis, analyse, half_width
from train.study.bench import Result
from train.study.facts import facts as summarise
from train.study.inputs import model_of, read_conditions
from train.study.moments import ENOUGH
from train.study.outcome import arms_given, write_results
from train.study.plan import EQUAL, Plan, plan
from train.study.queue import train_all
from train.study.report import write_report


def study(
    out: Path,
    *,
    arms: Path,
    train: dict[str, Any],
    draws: int = 5,
    seeds: int = 1,
    equal: Literal["examples", "tokens", "supervised_tokens", "steps"] = "examples",
    items: int = 400,
    stop_at: float | None = None,
    reference: str = "random",
    delta: float | str = "10%",
    compare: list = [],  # noqa: B006  # read, never written; a recipe's defaults are literals
    population: Literal["this pool", "pools like it"] = "this pool",
    tasks: Literal["these tasks", "new tasks"] = "these tasks",
    base_texts: list[str] | None = None,
    name: str = "study",
    seed: int = 0,
    workers: int = 1,
    folder: Path | None = None,
    plan_file: Path | None = None,
) -> dict[str, Any]:
    """Trains, scores, analyses and reports; returns the facts (headline, sentences, table, design).

    arms: the folder of what the arms picked. train: the options of `train.run.train`. draws: parts of the pool that every arm
    picks from; five or more for an interval over draws. seeds: runs with seeds of their own on every draw. equal: what arms
    have the same of at a budget: "examples", "tokens" or "supervised_tokens" (those of the reference's first examples, once
    through; an arm then takes as many of its picks as come nearest), or "steps" (all budgets train as long as the largest);
    the others are reported. items: of each evaluation set at most so many held-out rows, drawn by hash, are scored.
    stop_at: after five draws, take further ones only until half the width of every interval asked for (of the questions, or of
    every arm against the reference) is at most this, in bits per byte, and then one more: a rule that looks at the width alone,
    and after which intervals hold the truth as often as they say (`tamis calibrate`). reference: the arm that all others are
    compared with. delta: the difference below which two arms count as equivalent, if
    that is shown: in bits per byte, or as a share of what the reference gains over its budgets. compare: the questions, if
    they are not every arm against the reference: pairs as in [[fl@500, random@2000], [diverse, homogeneous]].
    population: "this pool", other draws of it, or "pools like it". tasks: "these tasks", items of them, or "new tasks".
    base_texts: what ``model: tiny`` is pretrained on. name: what the report calls it. seed: of the runs and of the choice of
    items. workers: processes, of one thread each, spread over the GPUs where there are some. folder: the recipe's, where
    tuning methods and objectives of its own may stand. plan_file: where the plan is kept; OUT/plan.json, if left out.

    Cost: (conditions × budgets × draws × seeds) runs of epochs N / batch steps.
    """
    out = Path(out)
    laid = lay_out(
        arms, train=train, draws=draws, seeds=seeds, equal=equal, items=items, reference=reference,
        base_texts=base_texts, seed=seed, folder=folder,
    )  # fmt: skip
    _check_asked(laid, draws, population, tasks)
    if stop_at is not None and not stop_at > 0:
        raise RequestError(f"study: stop_at is {stop_at}; it is half the width of an interval, above 0")
    before = preregister(
        plan_file or out / "plan.json", laid, equal=equal, reference=reference, delta=delta, compare=compare,
        population=population, tasks=tasks, seed=seed, draws=draws, stop_at=stop_at,
    )  # fmt: skip
    how = {"reference": reference, "delta": delta, "compare": compare, "population": population, "tasks": tasks}
    laid, results, analysis = _measure(out, laid, draws, stop_at, workers, how)
    design = {
        "name": name,
        "equal": equal,
        "stop_at": stop_at,
        "draws": draws,
        "seed": seed,
        **before,
        **_measured(model_of(train), laid, results),
        "versions": versions(),
    }
    facts = {**summarise(analysis), "design": design}
    write_json(out / "analysis.json", facts)
    write_report(out, analysis, design)
    return facts


def _measure(
    out: Path, laid: Plan, draws: int, stop_at: float | None, workers: int, how: dict[str, Any]
) -> tuple[Plan, dict[str, Result], Analysis]:
    """Trains and analyses: all draws, or as many as narrow intervals take."""
    narrow = False
    for n in range(draws if stop_at is None else min(ENOUGH, draws), draws + 1):
        some = replace(laid, runs=[run for run in laid.runs if run.draw < n])
        results = train_all(some.runs, laid.benches, workers)
        analysis = analyse(write_results(out, some, results), **how)
        if narrow or n == draws:
            return some, results, analysis
        narrow = stop_at is not None and half_width(analysis) <= stop_at
    raise AssertionError("a study has a draw")


def _check_asked(laid: Plan, draws: int, population: str, tasks: str) -> None:
    """What the results could not answer is said before anything is trained."""
    if population == "pools like it" and draws < 2:
        raise RequestError("study: one draw says nothing of other pools; ask for five draws, or leave out `population`")
    sets = laid.items.sets or {"all": [""] * len(laid.items)}
    for name, groups in sets.items():
        known = {task for task, group in zip(laid.items.task, groups, strict=True) if group is not None}
        if tasks == "new tasks" and len(known) < 2:
            raise RequestError(
                f"study: the items of {name} are all of one task, so nothing can be said of new ones; leave out `tasks`"
            )


def lay_out(arms: Path, *, reference: str, equal: str, **options: Any) -> Plan:
    """The plan of a study, with all that its runs need loaded."""
    conditions = read_conditions(Path(arms))
    labels = [condition.label for condition in conditions]
    if reference not in labels:
        raise RequestError(f"study: the reference arm `{reference}` is not among the arms {', '.join(labels)}; add it")
    if equal not in EQUAL:
        raise RequestError(f"study: equal is `{equal}`; it is one of {', '.join(EQUAL)}")
    return plan(conditions, holdout=Path(arms) / "holdout.parquet", reference=reference, equal=equal, **options)


def preregister(path: Path, laid: Plan, **asked: Any) -> dict[str, Any]:
    """Writes what will be trained and asked, once: a plan that was changed since is kept beside the first.

    Gives `plan`, the hash of this plan, and `first_plan`, that of the first one that was written there.
    """
    content = {
        **asked,
        "metric": "bits per byte of the held-out responses, lower is better",
        "sets": {name: sum(g is not None for g in groups) for name, groups in laid.items.sets.items()},
        "items": digest([document.id for document in laid.items.documents]),
        "conditions": [{"label": c.label, "levels": c.levels, "budgets": c.budgets} for c in laid.conditions],
        "runs": [run.key for run in laid.runs],
    }
    hashed = digest(content)
    try:
        known = read_json(path)["hash"]
    except FileNotFoundError:
        known = hashed
        write_json(path, {"hash": hashed, **content})
    if known != hashed:
        write_json(path.with_name(f"{path.stem}-changed.json"), {"hash": hashed, **content})
    return {"plan": hashed, "first_plan": known}


def _measured(model: str, laid: Plan, results: dict[str, Result]) -> dict[str, Any]:
    """What was trained and on what, and how the base model does as it is."""
    untuned = results[laid.runs[0].key]
    bits, size = (pc.sum(untuned.items[name]).as_py() for name in ("bits", "bytes"))  # pyright: ignore
    settings = laid.benches[0].settings
    return {
        "base": {"model": model, "parameters": untuned.facts["parameters"], "bits_per_byte": bits / size},
        "train": {"model": model, **settings.facts, "pack_tokens": settings.pack_tokens},
        "arms": arms_given(laid, results),
        "holdout": laid.items.n_rows,
        "items": len(laid.items),
        "truncated": {"rows": laid.settings[0].rows.n_truncated, "items": laid.items.n_truncated},
    }
