"""A study: every arm at every budget on every draw trains the same base model, and all are scored on the same held-out rows.

    facts = study(folder, rows_path=…, holdout_path=…, train={"model": "tiny", …}, arms=["random", "longest"], budgets=[64, 256])
    print(facts["headline"])

What it finds in FOLDER: subsets/<arm>/<draw>.parquet (id, rank), each nested by rank. What it leaves there:

    runs/<key>.parquet, .json   one run: its items, and its facts with the seconds it took; a run that is there is not run again
    results.parquet             tidy: arm, budget, draw, seed, item, task, value (bits per byte), bits, bytes
    runs.parquet                what each run was given: examples, steps, tokens, targets, response bytes, losses
    analysis.json  report.html  plot.png

Runs are paired: on one draw, all arms share the pool, the seed (hashed from the draw and the seed's number), the order keys
and the items. A run's key is made of all that decides its result, so a stopped study goes on where it was, and a new arm,
budget or draw trains its own runs only.
"""

from __future__ import annotations

import functools
import inspect
import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import peft
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
import transformers

from curate.contract.draws import draw as hashed
from curate.contract.draws import shuffled
from curate.contract.errors import ContractError, DataError, RequestError
from curate.contract.files import digest, read_json, sha256, whole, write_json
from train.encode import Encoded, Encoder
from train.fit import minimum_steps
from train.models import load_model
from train.run import _batch, _content_of, _method, _model_path
from train.run import train as train_alone
from train.study.analysis import analyse
from train.study.analysis import facts as summarise
from train.study.queue import Bench, Run, train_all
from train.study.report import write_report


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
    base_texts: list[str] | None = None,
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
    train = settings(train)
    base = _model_path(train["model"], base_texts, seed)
    _, tokenizer = load_model(base, device="cpu")
    encoder = Encoder(tokenizer, train["chat"], max_length=train["max_length"], over_length=train["over_length"])
    rows = read_rows(rows_path, encoder)
    held_out = read_rows(holdout_path, encoder, at_most=items, seed=seed)
    ladder = {arm: sorted({*budgets, *((reference_budgets or []) if arm == reference else [])}) for arm in arms}
    shared = digest([_content_of(base), {**train, "model": None}, held_out.content, _code()])
    runs = plan(folder, rows, ladder, draws, seeds, train, seed, shared)  # pyright: ignore
    train_all(runs, Bench(base, rows.documents, held_out.documents, train, folder / "runs"), workers)

    untuned, *runs = runs
    found = analyse(gather(folder, runs, held_out.task), reference=reference, delta=delta)
    before = pq.read_table(folder / "runs" / f"{untuned.key}.parquet")
    design = {
        "name": name,
        "base": {
            "model": train["model"],
            "parameters": read_json(folder / "runs" / f"{untuned.key}.json")["parameters"],
            "bits_per_byte": pc.sum(before["bits"]).as_py() / pc.sum(before["bytes"]).as_py(),  # pyright: ignore
        },
        "train": {**train, "model": str(train["model"])},
        "arms": arms_given(folder, runs, train),
        "holdout": held_out.n_rows,
        "items": len(held_out),
        "truncated": {"rows": rows.n_truncated, "items": held_out.n_truncated},
        "equal": equal,
        "seed": seed,
        "versions": _versions(),
    }
    facts = {**summarise(found), "design": design}
    write_json(folder / "analysis.json", facts)
    write_report(folder, found, design)
    return facts


# --- what goes in ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rows:
    """The documents of a file of rows, in the order of their ids, and what is known of each beside them."""

    documents: list[Encoded]
    task: list[str | None]
    n_rows: int
    n_truncated: int
    content: dict[str, str]  # a hash of each id's messages

    def __len__(self) -> int:
        return len(self.documents)


def settings(train: dict[str, Any]) -> dict[str, Any]:
    """The options of `train.run.train`, its defaults filled in, methods and batch resolved and checked."""
    parameters = inspect.signature(train_alone).parameters.values()
    defaults = {
        p.name: p.default for p in parameters if p.kind == p.KEYWORD_ONLY and p.name not in ("seed", "base_texts")
    }
    if unknown := sorted(set(train) - set(defaults)):
        raise RequestError(f"study: train does not take {', '.join(unknown)}; it takes {', '.join(sorted(defaults))}")
    if "model" not in train:
        raise RequestError("study: train needs a model: a local folder, a Hub id, or tiny")
    found = {**defaults, **train}
    tuner, tuning = _method("tuning", found["tuning"])
    loss, objective = _method("objectives", found["objective"])
    examples, pack_tokens = _batch(found.pop("batch"))
    rate = tuner.LEARNING_RATE if found["learning_rate"] is None else found["learning_rate"]
    methods = {
        "tuning": {tuner.__name__.rpartition(".")[2]: tuning},
        "objective": {loss.__name__.rpartition(".")[2]: objective},
    }
    return {**found, **methods, "learning_rate": rate, "examples": examples, "pack_tokens": pack_tokens}


def read_rows(path: Path, encoder: Encoder, *, at_most: int | None = None, seed: int = 0) -> Rows:
    """The rows of a parquet file that have a response; `at_most` of them, drawn by hash."""
    table = pq.read_table(path)
    missing = [column for column in ("id", "messages") if column not in table.column_names]
    if missing:
        raise ContractError(
            f"{path}: the column(s) {', '.join(missing)} are missing; a study reads id, messages and task"
        )
    ids = table["id"].to_pylist()
    order = sorted(range(len(ids)), key=lambda i: ids[i])
    if at_most is not None and at_most < len(ids):
        order = sorted(shuffled(seed, "study.items", ids)[:at_most].tolist(), key=lambda i: ids[i])
    chosen = table.take(order)
    messages = chosen["messages"].to_pylist()
    documents, counts = encoder.encode_all(zip(chosen["id"].to_pylist(), messages, strict=True))
    if not documents:
        raise DataError(f"{path}: none of its {len(ids):,} rows has a response to learn from or to be scored on")
    tasks = chosen["task"].to_pylist() if "task" in chosen.column_names else [None] * len(order)
    task = dict(zip(chosen["id"].to_pylist(), tasks, strict=True))
    content = {id: digest(conversation) for id, conversation in zip(chosen["id"].to_pylist(), messages, strict=True)}
    return Rows(documents, [task[d.id] for d in documents], len(ids), counts["truncated"], content)


def read_subset(folder: Path, arm: str, draw: int, rows: int, known: set[str]) -> tuple[str, ...]:
    """The ids that an arm picked on a draw, in the order of picking."""
    path = folder / "subsets" / arm / f"{draw}.parquet"
    if not path.is_file():
        raise ContractError(f"{path} is missing; a study needs what every arm picked on every draw")
    table = pq.read_table(path, columns=["id", "rank"]).sort_by("rank")
    ids = tuple(table["id"].to_pylist()[:rows])
    if len(ids) < rows:
        raise DataError(f"{path}: holds {len(ids):,} rows, fewer than the largest budget of {rows:,}")
    if unknown := [i for i in ids if i not in known]:
        raise ContractError(f"{path}: {len(unknown):,} of its rows are not among the rendered rows, first {unknown[0]}")
    return ids


def plan(
    folder: Path,
    rows: Rows,
    ladder: dict[str, list[int]],
    draws: int,
    seeds: int,
    train: dict[str, Any],
    seed: int,
    shared: str,
) -> list[Run]:
    """Every run of the study, its key made of all that decides its result; first the base model as it is."""
    known = {document.id for document in rows.documents}  # a row without a response has no document
    runs = [Run("untuned", 0, 0, 0, (), 0, 0, digest([shared, "untuned"]))]
    for arm, budgets in ladder.items():
        for draw in range(draws):
            picked = read_subset(folder, arm, draw, max(budgets), known)
            for budget in budgets:
                ids = picked[:budget]
                steps = minimum_steps(budget, epochs=train["epochs"], examples=train["examples"])
                for number in range(seeds):
                    # Seeds are nested in draws: the first seed of one draw is not the first of another.
                    run_seed = hashed(seed, "study.run", f"{draw}/{number}") % 2**31
                    key = digest([shared, {i: rows.content[i] for i in ids}, run_seed, steps])
                    runs.append(Run(arm, budget, draw, number, ids, run_seed, steps, key))
    return runs


@functools.cache
def _code() -> dict[str, str]:
    """The trainer's own source and the versions that its results depend on, as they are when first asked for."""
    top = Path(__file__).resolve().parent.parent
    files = [
        p
        for folder in (top, top / "objectives", top / "tuning", top / "scoring", top / "study")
        for p in folder.glob("*.py")
    ]
    source = digest({str(p.relative_to(top)): sha256(p) for p in files if p.stem not in ("analysis", "report")})
    return {"source": source, **_versions()}


def _versions() -> dict[str, str]:
    return {package.__name__: package.__version__ for package in (torch, transformers, peft)}


# --- what comes out --------------------------------------------------------------------------------------------------


def gather(folder: Path, runs: list[Run], task: list[str | None]) -> pa.Table:
    """results.parquet and runs.parquet, from the runs in the order of the plan."""
    parts, rows = [], []
    for run in runs:
        items = pq.read_table(folder / "runs" / f"{run.key}.parquet")
        n = items.num_rows
        which = {"arm": run.arm, "budget": run.budget, "draw": run.draw, "seed": run.seed}
        value = pc.divide(items["bits"], pc.cast(items["bytes"], pa.float64()))  # pyright: ignore
        columns = {name: pa.array([value] * n) for name, value in which.items()} | {"item": items["item"], "task": task}
        parts.append(pa.table({**columns, "value": value, "bits": items["bits"], "bytes": items["bytes"]}))
        facts = read_json(folder / "runs" / f"{run.key}.json")
        facts.pop("seconds")
        rows.append({**which, "key": run.key, "run_seed": facts.pop("seed"), **facts})
    results = pa.concat_tables(parts)
    for name, table in (("results", results), ("runs", pa.Table.from_pylist(rows))):
        with whole(folder / f"{name}.parquet") as temporary:
            pq.write_table(table, temporary)
    return results


def arms_given(folder: Path, runs: list[Run], train: dict[str, Any]) -> list[dict[str, Any]]:
    """What each arm was given at each budget, as means over draws and seeds, and how alike its draws are."""
    groups: dict[tuple[str, int], list[Run]] = {}
    for run in runs:
        groups.setdefault((run.arm, run.budget), []).append(run)
    given = []
    for (arm, budget), group in groups.items():
        facts = [read_json(folder / "runs" / f"{run.key}.json") for run in group]
        mean = {name: float(np.mean([f[name] for f in facts])) for name in ("tokens", "targets", "response_bytes")}
        steps = group[0].steps
        epochs = steps * train["examples"] / budget
        picked = [set(ids) for ids in {run.draw: run.ids for run in group}.values()]
        shared = [len(a & b) / budget for a, b in itertools.combinations(picked, 2)]
        overlap = float(np.mean(shared)) if shared else None
        given.append(
            {
                "arm": arm,
                "budget": budget,
                "examples": budget,
                "steps": steps,
                "epochs": epochs,
                **mean,
                "overlap": overlap,
            }
        )
    return given


def trainable(
    rows_path: Path, *, train: dict[str, Any], base_texts: list[str] | None = None, seed: int = 0
) -> set[str]:
    """The ids of the rows that have a response within ``max_length`` tokens. An arm's budget counts examples that train,
    so its subsets are drawn from these. Cost: tokenising the rows once."""
    train = settings(train)
    _, tokenizer = load_model(_model_path(train["model"], base_texts, seed), device="cpu")
    encoder = Encoder(tokenizer, train["chat"], max_length=train["max_length"], over_length=train["over_length"])
    return {document.id for document in read_rows(rows_path, encoder).documents}
