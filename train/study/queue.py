"""The training runs of a study: each one written as it ends, several at once, none of them twice.

A run uses one thread and its bytes depend on nothing but its key, so two cores train two runs at once and any number of
workers gives the same files. Training several runs in one program could not be worth it: of the 160 ms of a step of 3,000
tokens on one core, 13 ms do not depend on the tokens, which is all that runs could share.
"""

from __future__ import annotations

import copy
import functools
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from curate.contract.errors import TrainingError
from curate.contract.files import whole, write_json
from curate.contract.progress import bar
from train.encode import Encoded
from train.fit import FitReport, fit
from train.models import load_model
from train.run import _method
from train.scoring.perplexity import evaluate


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


@dataclass(frozen=True)
class Bench:
    """All that a process needs to train any run of the study."""

    base: str
    documents: list[Encoded]
    items: list[Encoded]
    train: dict[str, Any]
    folder: Path  # of the runs


class Worker:
    """One process's base model and documents. `count` is told of every step."""

    def __init__(self, bench: Bench, count: Callable[[int], None]):
        torch.set_num_threads(1)  # so that the bytes do not depend on the number of cores
        self.bench, self.count = bench, count
        self.model, _ = load_model(bench.base)
        self.documents = {document.id: document for document in bench.documents}

    def train(self, run: Run) -> None:
        """Trains and scores one run, and leaves runs/<key>.parquet and, last, .json."""
        model = copy.deepcopy(self.model)
        facts: dict[str, Any] = {"examples": len(run.ids), "seed": run.run_seed}
        began = time.perf_counter()
        if run.ids:
            documents = [self.documents[i] for i in run.ids]
            try:
                model, report = tuned(model, documents, self.bench.train, run.steps, run.run_seed, self.count)
            except TrainingError as error:
                raise TrainingError(f"study, {run}: {error}") from error
            losses = {"first_loss": report.losses[0], "last_loss": report.losses[-1]}
            facts |= {
                "steps": report.steps,
                "tokens": report.tokens,
                "targets": report.targets,
                "dtype": report.dtype,
                **losses,
            }
            facts["response_bytes"] = sum(d.response_bytes for d in documents) / len(documents)
        scores = evaluate(model, self.bench.items, dtype=self.bench.train["dtype"])
        table = {
            "item": [d.id for d in self.bench.items],
            "bits": scores.bits,
            "bytes": scores.bytes,
            "tokens": scores.tokens,
        }
        with whole(self.bench.folder / f"{run.key}.parquet") as temporary:
            pq.write_table(pa.table(table), temporary)
        facts |= {"parameters": sum(p.numel() for p in model.parameters()), "seconds": time.perf_counter() - began}
        write_json(self.bench.folder / f"{run.key}.json", facts)


def tuned(
    model: Any, documents: list[Encoded], train: dict[str, Any], steps: int, seed: int, count: Callable[[int], None]
) -> tuple[Any, FitReport]:
    """The model after one run of the trainer, as `train.run.train` would tune it, without files."""
    tuner, tuning = _method("tuning", train["tuning"])
    loss, objective = _method("objectives", train["objective"])
    model = tuner.tune(model, seed=seed, **tuning)
    same = ("examples", "learning_rate", "schedule", "warmup", "weight_decay", "dtype", "pack_tokens")
    report = fit(
        model,
        documents,
        weights=functools.partial(loss.weights, **objective),
        steps=steps,
        seed=seed,
        on_step=lambda step, state: count(1),
        **{name: train[name] for name in same},
    )
    return model, report


def train_all(runs: list[Run], bench: Bench, workers: int) -> None:
    """Trains the runs that are not there yet, the longest first, in `workers` processes of one thread each.

    Every run is written as it ends, so a study that is stopped goes on with the next.
    """
    todo = {run.key: run for run in sorted(runs, key=lambda run: -run.steps) if not _is_done(bench, run)}
    if not todo:
        return
    bench.folder.mkdir(parents=True, exist_ok=True)
    total = sum(run.steps for run in todo.values())
    workers = 1 if torch.cuda.is_available() else min(workers, len(todo))
    with bar(total, f"study: {len(todo)} training runs, steps") as advance:
        if workers == 1:
            threads = torch.get_num_threads()
            try:
                worker = Worker(bench, advance)
                for run in todo.values():
                    worker.train(run)
            finally:
                torch.set_num_threads(threads)
        else:
            _train_in_processes(list(todo.values()), bench, workers, advance)


def _is_done(bench: Bench, run: Run) -> bool:
    return (bench.folder / f"{run.key}.json").is_file()


_worker: Worker | None = None  # of a worker process


def _train_in_processes(runs: list[Run], bench: Bench, workers: int, advance: Callable[[int], None]) -> None:
    context = multiprocessing.get_context("spawn")  # fork would copy torch's thread pools in a broken state
    steps, stop = context.Value("q", 0), context.Event()
    shown = 0
    with ProcessPoolExecutor(workers, context, _start_worker, (bench, steps, stop)) as pool:
        try:
            waiting = {pool.submit(_train_here, run) for run in runs}
            while waiting:
                done, waiting = wait(waiting, timeout=0.5, return_when=FIRST_EXCEPTION)
                for future in done:
                    future.result()
                advance(steps.value - shown)
                shown = steps.value
        except BrokenProcessPool as error:
            raise TrainingError(
                f"study: one of {workers} training processes was killed, perhaps for memory; what was done is kept: run the "
                "same command again, with fewer --workers if it happens twice"
            ) from error
        except BaseException:
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _start_worker(bench: Bench, steps: Any, stop: Any) -> None:
    """Runs once in every worker process."""
    global _worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # at Ctrl-C the parent sets `stop`
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(
        target=lambda: (parent.join(), os._exit(1)), daemon=True
    ).start()  # it does not outlive a killed parent

    def count(n: int) -> None:
        if stop.is_set():  # Ctrl-C, or another run failed
            os._exit(1)
        with steps.get_lock():
            steps.value += n

    _worker = Worker(bench, count)


def _train_here(run: Run) -> None:
    assert _worker is not None
    _worker.train(run)
