"""The plan of a study: every arm at every budget on every draw and seed, and what each run's result depends on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from curate.contract.code import source_and_versions
from curate.contract.draws import draw as hashed
from curate.contract.files import digest
from curate.contract.model_files import contents
from train.fit import minimum_steps
from train.models import MODEL_FILES, compute_dtype
from train.run import versions
from train.settings import Settings
from train.study import bench
from train.study.bench import Bench, Run
from train.study.inputs import Rows, read_subset

_DECIDING = ("tuning", "objective", "learning_rate", "examples", "pack_tokens", "schedule", "warmup", "weight_decay")


def plan(
    subsets: Path,
    ladder: dict[str, list[int]],
    draws: int,
    seeds: int,
    seed: int,
    given: Bench,
    rows: Rows,
    items: Rows,
) -> list[Run]:
    """Every run of the study; first the base model as it is. ladder: the budgets of each arm."""
    scored, training = scoring_facts(given, items), training_facts(given.settings)
    content = rows.content()  # a row without a response has no document
    runs = [Run("untuned", 0, 0, 0, (), 0, 0, scored)]
    for arm, budgets in ladder.items():
        for draw in range(draws):
            picked = read_subset(subsets, arm, draw, max(budgets), set(content))
            for budget in budgets:
                ids = picked[:budget]
                steps = minimum_steps(budget, epochs=given.settings.epochs, examples=given.settings.examples)
                documents = digest({id: content[id] for id in ids})
                for number in range(seeds):
                    # Seeds are nested in draws: the first seed of one draw is not the first of another.
                    run_seed = hashed(seed, "study.run", f"{draw}/{number}") % 2**31
                    about = {**scored, **training, "documents": documents, "seed": run_seed, "steps": steps}
                    runs.append(Run(arm, budget, draw, number, ids, run_seed, steps, about))
    return runs


def scoring_facts(given: Bench, items: Rows) -> dict[str, Any]:
    """What the scores of a model depend on, tuned or not."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return {
        "base": contents(given.base, *MODEL_FILES),
        "items": digest(items.content()),
        "dtype": str(compute_dtype(given.settings.dtype, device)).removeprefix("torch."),
        "device": device.type,
        "code": source_and_versions([Path(bench.__file__)])[0],
        "versions": versions(),
    }


def training_facts(settings: Settings) -> dict[str, Any]:
    """What a tuned model depends on beside its base, its rows, its seed and its number of steps."""
    named = {**settings.facts, "pack_tokens": settings.pack_tokens}
    return {**{name: named[name] for name in _DECIDING}, "methods": settings.code}
