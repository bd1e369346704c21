"""A study: every arm at every budget on every draw trains the same base model, and all are scored on the same held-out rows.

    facts = study(folder, rows_path=…, holdout_path=…, train={"model": "tiny", …}, arms=["random", "longest"], budgets=[64, 256])
    print(facts["headline"])

What it finds in FOLDER: subsets/<arm>/<draw>.parquet (id, rank), each nested by rank. What it leaves there:

    runs/<key>.parquet, .json   one run: its items, and its facts with the seconds it took; a run that is there is not run again
    results.parquet             tidy: arm, budget, draw, seed, item, task, value (bits per byte), bits, bytes
    runs.parquet                what each run was given: examples, steps, tokens, targets, response bytes, losses
    analysis.json  report.html  plot.png

Runs are paired: on one draw, all arms share the pool, the seed (hashed from the draw and the seed's number), the order keys
and the items. A run uses one thread and stands in a process of its own kind, so its bytes do not depend on `workers`, and
two cores train two runs at once. Training several in one program was tried and not kept: at 4,096 tokens a step, a step
takes 250 ms of which 7 ms is the overhead that batching could share.
"""

from __future__ import annotations

import copy
import functools
import importlib
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import peft
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import transformers

from curate.draws import draw as hashed
from curate.draws import shuffled
from curate.errors import ContractError, DataError, RequestError, TrainingError
from curate.files import digest, read_json, sha256, whole, write_json
from curate.progress import bar
from train.encode import Encoded, Encoder
from train.fit import fit, minimum_steps
from train.models import load_model
from train.scoring.perplexity import evaluate
from train.study import analysis
from train.study.report import write_report


@dataclass(frozen=True)
class Run:
    """One training run. Runs of one key have the same rows, seed and options, and so the same result."""

    arm: str
    budget: int
    draw: int
    seed: int
    ids: tuple[str, ...]  # in the order of picking; none: the base model as it is
    run_seed: int
    steps: int
    key: str

    def __str__(self) -> str:
        return f"arm {self.arm}, budget {self.budget}, draw {self.draw}, seed {self.seed}"


def study(
    folder: Path,
    *,
    rows_path: Path,
    holdout_path: Path,
    train: dict[str, Any],
    arms: list[str],
    budgets: list[int],
    draws: int = 5,
    seeds: int = 1,
    equal: Literal["examples"] = "examples",
    items: int = 400,
    reference: str = "random",
    reference_budgets: list[int] | None = None,
    delta: float = 0.02,
    base_texts: Iterable[str] | None = None,
    name: str = "study",
    seed: int = 0,
    workers: int = 1,
) -> dict[str, Any]:
    """Trains, scores, analyses and reports; returns the facts (headline, sentences, table, design).

    rows_path, holdout_path: parquet with id, messages and task. train: the options of `train.run.train`. items: at most
    so many held-out rows, drawn by hash, are scored. reference_budgets: budgets at which the reference alone is trained,
    so that more of m(N) lies between measured points. delta: the difference in bits per byte below which two arms count as
    equivalent, if that is shown. Cost: (arms × budgets × draws × seeds) runs of max(24, epochs N / batch) steps.
    """
    folder = Path(folder)
    if reference not in arms:
        raise RequestError(f"study: the reference arm `{reference}` is not among the arms {', '.join(arms)}; add it")
    base = base_model(train["model"], base_texts, seed)
    documents, kept = read_documents(rows_path, base, train["max_length"])
    held_out, scored = read_documents(holdout_path, base, train["max_length"], at_most=items, seed=seed)
    ladder = {arm: sorted({*budgets, *((reference_budgets or []) if arm == reference else [])}) for arm in arms}
    shared = digest([_model_facts(base), train, kept.digest, scored.digest, _code()])
    subsets = {(arm, d): _subset(folder, arm, d, max(ladder[arm]), documents) for arm in arms for d in range(draws)}
    runs = [Run("untuned", 0, 0, 0, (), 0, 0, digest([shared, "untuned"]))]
    for arm in arms:
        for budget in ladder[arm]:
            for d in range(draws):
                for s in range(seeds):
                    runs.append(_run(arm, budget, d, s, subsets[arm, d][:budget], train, seed, shared))
    bench = Bench(base, documents, held_out, train, folder / "runs")
    train_all(runs, bench, workers)
    results = _gather(folder, runs[1:], scored)
    found = analysis.analyse(results, reference=reference, delta=delta)
    design = _design(folder, runs, scored, train, base, name=name, budgets=budgets, draws=draws, seeds=seeds, seed=seed)
    facts = {**analysis.facts(found), "design": design}
    write_json(folder / "analysis.json", facts)
    write_report(folder, found, design)
    return facts


# --- what goes in ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rows:
    """What is known of a file of rows beside its documents, in the order of the documents."""

    ids: list[str]
    task: list[str | None]
    counts: dict[str, int]
    digest: str  # of ids and messages


def base_model(model: str, texts: Iterable[str] | None, seed: int) -> str:
    """The path or Hub id to load; `tiny` is made, or found in the cache."""
    if model != "tiny":
        return model
    if texts is None:
        raise RequestError(
            "model: tiny is pretrained on text that neither the pool nor the evaluation holds; set some aside with "
            "`holdout: {base: …}`, or name a model"
        )
    from train.tiny import tiny_model

    return str(tiny_model(texts, seed=seed))


def read_documents(
    path: Path, base: str, max_length: int, *, at_most: int | None = None, seed: int = 0
) -> tuple[list[Encoded], Rows]:
    """The rows of a parquet file as documents with a response, in the order of their ids; `at_most` of them, by hash."""
    table = pq.read_table(path)
    missing = [column for column in ("id", "messages") if column not in table.column_names]
    if missing:
        raise ContractError(f"{path}: the column(s) {', '.join(missing)} are missing; a study reads id, messages and task")
    ids = table["id"].to_pylist()
    tasks = table["task"].to_pylist() if "task" in table.column_names else [None] * len(ids)
    order = sorted(range(len(ids)), key=lambda i: ids[i])
    if at_most is not None and at_most < len(ids):
        order = sorted(shuffled(seed, "study.items", ids)[:at_most].tolist(), key=lambda i: ids[i])
    messages = table["messages"].take(order).to_pylist()
    chosen = [ids[i] for i in order]
    _, tokenizer = load_model(base)
    documents, counts = Encoder(tokenizer, max_length=max_length).encode_all(zip(chosen, messages, strict=True))
    documents = [document for document in documents if document.response_bytes > 0]
    if not documents:
        raise DataError(f"{path}: none of its {len(ids):,} rows has a response to learn from or to be scored on")
    task = dict(zip(ids, tasks, strict=True))
    facts = Rows([d.id for d in documents], [task[d.id] for d in documents], counts, digest([chosen, messages]))
    return documents, facts
