"""The plan of a study: every condition at every budget on every draw and seed, and what each run's result depends on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from curate.contract.code import source_and_versions
from curate.contract.draws import draw as hashed
from curate.contract.errors import DataError
from curate.contract.files import digest
from curate.contract.model_files import contents
from train.fit import steps_of
from train.models import MODEL_FILES, compute_dtype
from train.run import versions
from train.settings import Settings, base_model
from train.study import bench
from train.study.asked import UNTUNED
from train.study.bench import Bench, Run
from train.study.inputs import Condition, Rows, encoder_of, model_of, read_rows, read_subset, settings, token_counts

EQUAL = ("examples", "tokens", "supervised_tokens", "steps")
_DECIDING = ("tuning", "objective", "learning_rate", "examples", "pack_tokens", "schedule", "warmup", "weight_decay")


@dataclass(frozen=True)
class Setting:
    """What the runs of one condition have in common. untuned: what the results call the model that they start from."""

    bench: int
    untuned: str
    rows: Rows


@dataclass(frozen=True)
class Plan:
    """runs: first the untuned models, then by condition, draw, budget and seed. settings: of each condition, in their order."""

    conditions: list[Condition]
    settings: list[Setting]
    benches: list[Bench]
    items: Rows
    runs: list[Run]

    def base_of(self, label: str) -> str:
        """What the results call the untuned model of a condition."""
        return next(s.untuned for c, s in zip(self.conditions, self.settings, strict=True) if c.label == label)


def plan(
    conditions: list[Condition],
    *,
    holdout: Path,
    train: dict[str, Any],
    reference: str,
    draws: int,
    seeds: int,
    equal: str,
    items: int,
    base_texts: list[str] | None,
    seed: int,
    folder: Path | None,
) -> Plan:
    """Loads what the runs need, once each, and lays them out."""
    benches, settings, held_out = _benches(conditions, holdout, train, items, base_texts, seed, folder)
    runs = _untuned(settings, benches, held_out)
    arm = next(c.arm for c in conditions if c.label == reference)
    wanted = _Wanted(conditions, settings, benches, arm, equal)
    most = max(budget for condition in conditions for budget in condition.budgets)
    for condition, setting in zip(conditions, settings, strict=True):
        given = benches[setting.bench]
        content = setting.rows.content()  # a row without a response has no document
        deciding = {**scoring_facts(given, held_out), **training_facts(given.settings)}
        for draw in range(draws):
            picked = read_subset(condition.subsets, draw, set(content))
            for budget in condition.budgets:
                ids = wanted.of(condition, setting.bench, picked, draw, budget)
                steps = steps_of(
                    most if equal == "steps" else len(ids),
                    epochs=given.settings.epochs,
                    examples=given.settings.examples,
                    at_least=given.settings.min_steps,
                )
                documents = digest({id: content[id] for id in ids})
                for number in range(seeds):
                    # Seeds are nested in draws: the first seed of one draw is not the first of another.
                    run_seed = hashed(seed, "study.run", f"{draw}/{number}") % 2**31
                    about = {**deciding, "documents": documents, "seed": run_seed, "steps": steps}
                    runs.append(Run(condition.label, budget, draw, number, ids, run_seed, steps, setting.bench, about))
    return Plan(conditions, settings, benches, held_out, runs)


def _benches(
    conditions: list[Condition],
    holdout: Path,
    train: dict[str, Any],
    items: int,
    base_texts: list[str] | None,
    seed: int,
    folder: Path | None,
) -> tuple[list[Bench], list[Setting], Rows]:
    """A bench for each base, rows and settings that differ, and each condition's own."""
    bases: dict[str, Path] = {}
    read: dict[str, Rows] = {}
    places: dict[str, int] = {}
    benches: list[Bench] = []
    out: list[Setting] = []
    first: Rows | None = None
    for condition in conditions:
        options = {**train, **condition.train}
        asked, model = settings(options, folder), model_of(options)
        if model not in bases:
            bases[model] = base_model(model, base_texts, seed)
        base = bases[model]
        key = digest([model, asked.chat, asked.max_length, asked.over_length])
        rows_key, items_key = f"{key} {condition.rows}", f"{key} items"
        if rows_key not in read or items_key not in read:
            encoder = encoder_of(base, asked)
            read.setdefault(rows_key, read_rows(condition.rows, encoder))
            read.setdefault(items_key, read_rows(holdout, encoder, at_most=items, seed=seed))
        rows, held_out = read[rows_key], read[items_key]
        first = _same_items(first, held_out)
        whole = digest([rows_key, training_facts(asked)])
        if whole not in places:
            places[whole] = len(benches)
            benches.append(Bench(base, rows.documents, held_out.documents, asked))
        untuned = UNTUNED if model == model_of(train) else f"{UNTUNED}/{condition.levels.get('model', model)}"
        out.append(Setting(places[whole], untuned, rows))
    assert first is not None
    return benches, out, first


def _same_items(first: Rows | None, held_out: Rows) -> Rows:
    """Every condition is scored on the same items; a tokenizer may cut or drop one that another keeps."""
    if first is None:
        return held_out
    ids = [d.id for d in first.documents]
    if other := {d.id for d in held_out.documents} ^ set(ids):
        raise DataError(
            f"study: the models do not score the same held-out rows ({len(other):,} are too long for one of them, first "
            f"{min(other)}); raise max_length, or hold out shorter rows"
        )
    return first


def _untuned(settings: list[Setting], benches: list[Bench], items: Rows) -> list[Run]:
    runs = []
    for name in dict.fromkeys(setting.untuned for setting in settings):
        place = next(setting.bench for setting in settings if setting.untuned == name)
        runs.append(Run(name, 0, 0, 0, (), 0, 0, place, scoring_facts(benches[place], items)))
    return runs


class _Wanted:
    """How many of its picks a condition trains on: as many examples as the budget, or as many as come nearest to the tokens of
    the reference's first ones under the same levels of the factors."""

    def __init__(
        self, conditions: list[Condition], settings: list[Setting], benches: list[Bench], arm: str, equal: str
    ):
        self.column = {"tokens": 0, "supervised_tokens": 1}.get(equal)
        self.benches = benches
        self.reference = {
            digest(c.levels): (c, s.bench) for c, s in zip(conditions, settings, strict=True) if c.arm == arm
        }
        self.counts: dict[int, dict[str, int]] = {}  # of each bench, the tokens of its rows
        self.picked: dict[tuple[str, int], tuple[str, ...]] = {}  # what the reference picked, by levels and draw

    def of(self, condition: Condition, bench: int, picked: tuple[str, ...], draw: int, budget: int) -> tuple[str, ...]:
        reference, its_bench = self.reference[digest(condition.levels)]
        if self.column is None or condition.label == reference.label:
            return _first(condition, picked, draw, budget)
        key = reference.label, draw
        if key not in self.picked:
            self.picked[key] = read_subset(reference.subsets, draw, set(self._tokens(its_bench)))
        target = sum(self._tokens(its_bench)[one] for one in _first(reference, self.picked[key], draw, budget))
        total = np.cumsum([self._tokens(bench)[one] for one in picked])
        if total[-1] < target:
            raise DataError(
                f"{condition.subsets / f'{draw}.parquet'}: its {len(picked):,} rows hold {total[-1]:,} tokens, fewer than the "
                f"{target:,} of {budget:,} rows of {reference.label}; ask for smaller budgets"
            )
        return picked[: int(np.abs(total - target).argmin()) + 1]

    def _tokens(self, bench: int) -> dict[str, int]:
        if bench not in self.counts:
            given = self.benches[bench]
            counts = token_counts(given.documents, given.settings)
            self.counts[bench] = {one: both[self.column or 0] for one, both in counts.items()}
        return self.counts[bench]


def _first(condition: Condition, picked: tuple[str, ...], draw: int, budget: int) -> tuple[str, ...]:
    if len(picked) < budget:
        raise DataError(
            f"{condition.subsets / f'{draw}.parquet'}: holds {len(picked):,} rows, fewer than the largest budget of {budget:,}"
        )
    return picked[:budget]


def scoring_facts(given: Bench, items: Rows) -> dict[str, Any]:
    """What the scores of a model depend on, tuned or not."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    scored = replace(items, documents=given.items)  # as this model's tokenizer reads them
    return {
        "base": contents(given.base, *MODEL_FILES),
        "items": digest(scored.content()),
        "dtype": str(compute_dtype(given.settings.dtype, device)).removeprefix("torch."),
        "device": device.type,
        "code": source_and_versions([Path(bench.__file__)])[0],
        "versions": versions(),
    }


def training_facts(settings: Settings) -> dict[str, Any]:
    """What a tuned model depends on beside its base, its rows, its seed and its number of steps."""
    named = {**settings.facts, "pack_tokens": settings.pack_tokens}
    return {**{name: named[name] for name in _DECIDING}, "methods": settings.code}
