"""What a study will take and see, before it trains: its runs, their time, and the smallest effect that its design can show."""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from train.scoring.perplexity import evaluate
from train.study.analysis import Analysis
from train.study.bench import Bench, Run, Worker
from train.study.inputs import token_counts
from train.study.plan import Plan
from train.study.power import Components, components, error_of, needed, smallest
from train.study.queue import kept
from train.tuned import tuned

_PROBE_STEPS = 2
_PROBE_ITEMS = 32


@dataclass(frozen=True)
class Expected:
    """arms: a row each. runs: how many there are, and how many of them are to be trained. seconds: of those, in ``workers``
    processes."""

    arms: list[dict[str, Any]]
    runs: int
    to_train: int
    seconds: float
    measured: str  # what the seconds come from


def expected(plan: Plan, workers: int) -> Expected:
    """Trains nothing that is kept: where the store knows no run of the same base and settings, two steps are timed."""
    known = {run.key: kept(plan.benches, run) for run in plan.runs}
    todo = {run.key: run for run in plan.runs if known[run.key] is None}
    tokens = {place: token_counts(b.documents, b.settings) for place, b in enumerate(plan.benches)}
    rate, measured = _rates(plan, known)
    seconds = 0.0
    rows: dict[str, dict[str, Any]] = {}
    for run in plan.runs:
        seen = _seen(run, plan.benches[run.bench], tokens[run.bench])
        took = 0.0 if run.key not in todo else seen * rate[run.bench][0] + rate[run.bench][1]
        seconds += took if todo.pop(run.key, None) is not None else 0.0
        row = rows.setdefault(run.arm, {"arm": run.arm, "runs": 0, "to train": 0, "steps": 0, "tokens": 0})
        row["runs"] += 1
        row["to train"] += int(known[run.key] is None)
        row["steps"] += run.steps
        row["tokens"] += seen
    to_train = sum(one is None for one in known.values())
    return Expected(list(rows.values()), len(plan.runs), to_train, seconds / max(workers, 1), measured)


def _seen(run: Run, bench: Bench, tokens: dict[str, tuple[int, int]]) -> int:
    """The tokens that a run trains on, nearly."""
    if not run.ids:
        return 0
    mean = float(np.mean([tokens[one][0] for one in run.ids]))
    return round(run.steps * bench.settings.examples * mean)


def _rates(plan: Plan, known: dict[str, Any]) -> tuple[dict[int, tuple[float, float]], str]:
    """Of each bench the seconds a token and the seconds to score the items."""
    out: dict[int, tuple[float, float]] = {}
    probed = False
    for place, bench in enumerate(plan.benches):
        runs = [(known[r.key].facts, r) for r in plan.runs if r.bench == place and r.ids and known[r.key] is not None]
        if runs:
            total = sum(facts["seconds"] for facts, _ in runs), sum(facts["tokens"] for facts, _ in runs)
            out[place] = total[0] / max(total[1], 1), 0.0
        else:
            out[place], probed = _probe(plan, place, bench), True
    return out, "two steps, timed" if probed else "runs of the same base and settings"


def _probe(plan: Plan, place: int, bench: Bench) -> tuple[float, float]:
    threads = torch.get_num_threads()
    try:
        worker = Worker.started([bench], lambda n: None)
        run = next(r for r in plan.runs if r.bench == place and r.ids)
        documents = [worker.documents[0][one] for one in run.ids]
        model = copy.deepcopy(worker.loaded(bench.base))
        began = time.perf_counter()
        evaluate(model, bench.items[:_PROBE_ITEMS], dtype=bench.settings.dtype)
        scoring = (time.perf_counter() - began) * len(bench.items) / min(len(bench.items), _PROBE_ITEMS)
        began = time.perf_counter()
        _, report = tuned(model, documents, bench.settings, steps=_PROBE_STEPS, seed=0)
        return (time.perf_counter() - began) / max(report.tokens, 1), scoring
    finally:
        torch.set_num_threads(threads)


# --- what it can see ----------------------------------------------------------------------------------------------------


def noise(analysis: Analysis) -> Components:
    """The variance components of a comparison with the reference: the medians over arms, budgets and evaluation sets."""
    found = [components(view.moments, c.contrast) for view in analysis.views for c in view.comparisons]
    return Components(
        *(float(np.median([getattr(one, name) for one in found])) for name in ("draws", "items", "residual"))
    )


def family(plan: Plan, reference: str, questions: int) -> int:
    """How many comparisons share the level: the questions that are asked, else every arm against the reference."""
    sets = max(len(plan.items.sets), 1)
    if questions:
        return questions * sets
    own = next(c for c in plan.conditions if c.label == reference)
    return sum(
        len(set(c.budgets) & set(own.budgets)) * (len(c.sets) if plan.items.sets else 1)
        for c in plan.conditions
        if c.label != reference
    )


def items_of(plan: Plan) -> int:
    """The items of the smallest evaluation set."""
    sizes = [sum(group is not None for group in groups) for groups in plan.items.sets.values()]
    return min(sizes, default=len(plan.items))


def sees(found: Components, draws: int, items: int, tests: int) -> float:
    """The smallest effect that is shown in 80 % of studies."""
    return smallest(*error_of(found, draws, items), tests)


def takes(effect: float, found: Components, draws: int, items: int, tests: int) -> list[str]:
    """What a smaller effect needs, in words."""
    more_draws, more_items = needed(effect, found, tests, draws=draws, items=items)
    lines = [
        f"{more_draws:,} draws with {items:,} items"
        if more_draws
        else f"no number of draws shows it with {items:,} items",
        f"{more_items:,} items with {draws:,} draws"
        if more_items
        else f"no number of items shows it with {draws:,} draws",
    ]
    for times in (2, 4):
        fewer, _ = needed(effect, found, tests, draws=draws, items=items * times)
        if fewer:
            lines.append(f"{fewer:,} draws with {items * times:,} items")
    return lines
