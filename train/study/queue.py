"""The training runs of a study: several at once, each kept in the store as it ends, none of them trained twice."""

from __future__ import annotations

import functools
import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, Future, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import pyarrow.parquet as pq
import torch

from curate.contract import processes, store
from curate.contract.errors import TrainingError
from curate.contract.files import read_json, write_json
from curate.contract.progress import bar
from train.study.bench import Bench, Result, Run, Worker

_KIND = "runs"  # in the store


def train_all(runs: list[Run], benches: list[Bench], workers: int) -> dict[str, Result]:
    """The result of every run by its key. Trains those that the store does not have, those of one base together and the longest
    first, in ``workers`` processes: of one thread each on a processor, and spread evenly over the GPUs where there are some.
    A study that is stopped goes on with the runs that it did not finish."""
    results = {run.key: result for run in runs if (result := kept(benches, run)) is not None}
    bases = list(dict.fromkeys(bench.base for bench in benches))
    order = sorted(runs, key=lambda run: (bases.index(benches[run.bench].base), -run.steps))
    todo = {run.key: run for run in order if run.key not in results}
    if not todo:
        return results
    workers = min(workers, len(todo), _fitting(workers, benches))
    train = _train_here if workers == 1 else _train_in_processes
    with bar(sum(run.steps for run in todo.values()), f"study: {len(todo)} training runs, steps") as advance:
        results |= train(list(todo.values()), benches, workers, advance)
    trained = [run for run in runs if run.ids]
    diverged = [run for run in trained if results[run.key].facts["diverged"]]
    if trained and len(diverged) == len(trained):
        first = diverged[0]
        raise TrainingError(f"study: every run diverged; {first}: {results[first.key].facts['diverged']}")
    return results


def _fitting(workers: int, benches: list[Bench]) -> int:
    """How many of the processes asked for the GPUs have room for; all of them where there is no GPU."""
    gpus = torch.cuda.device_count()
    if gpus == 0:
        return workers
    free = min(torch.cuda.mem_get_info(device)[0] for device in range(gpus))
    weights = max(sum(file.stat().st_size for file in bench.base.glob("*.safetensors")) for bench in benches)
    return min(workers, gpus * room(free, weights))


def room(free: int, weights: int) -> int:
    """How many processes of a model have room on a GPU, at least one. free, weights: bytes. A process takes 1 GiB for itself, and
    in float32 the base, its copy, gradients and two moments, 20 bytes a parameter: ten times the file of weights in half
    precision. Two more are left for what passes through the model."""
    return max(free // (2**30 + 12 * weights), 1)


def kept(benches: list[Bench], run: Run) -> Result | None:
    """The result of a run that the store has."""
    folder = store.folder(_KIND, _name(benches, run), run.about)
    if folder is None:
        return None
    try:
        return Result(read_json(folder / "facts.json"), pq.read_table(folder / "items.parquet"))
    except FileNotFoundError:  # deleted at this moment
        return None


def _trained(worker: Worker, run: Run) -> Result:
    """The result of a run, which the store then has."""
    result = worker.train(run)
    with store.writing(_KIND, _name(worker.benches, run), run.about) as folder:
        pq.write_table(result.items, folder / "items.parquet")
        write_json(folder / "facts.json", result.facts)
    return result


def _name(benches: list[Bench], run: Run) -> str:
    return benches[run.bench].settings.tuning.name if run.ids else "untuned"


def _train_here(
    runs: list[Run], benches: list[Bench], workers: int, advance: Callable[[int], None]
) -> dict[str, Result]:
    del workers
    threads = torch.get_num_threads()
    try:
        worker = Worker.started(benches, advance)
        return {run.key: _trained(worker, run) for run in runs}
    finally:
        torch.set_num_threads(threads)


# --- several processes -----------------------------------------------------------------------------------------------

_worker: Worker | None = None  # of a worker process


def _train_in_processes(
    runs: list[Run], benches: list[Bench], workers: int, advance: Callable[[int], None]
) -> dict[str, Result]:
    context = multiprocessing.get_context("spawn")
    steps, started = context.Value("q", 0), context.Value("q", 0)
    gpus = torch.cuda.device_count()
    with processes.pool(workers, functools.partial(_start_worker, benches, gpus), steps, started) as pool:
        try:
            futures = {run.key: pool.submit(_train_in_worker, run) for run in runs}
            _wait(list(futures.values()), steps, advance)
            return {key: future.result() for key, future in futures.items()}
        except BrokenProcessPool as error:
            raise TrainingError(
                f"study: one of {workers} training processes was killed, perhaps for memory; what was done is kept: run the "
                "same command again, with fewer --workers if it happens twice"
            ) from error


def _wait(futures: list[Future[Result]], steps: Any, advance: Callable[[int], None]) -> None:
    """Until all are done or one has failed; meanwhile moves the bar."""
    waiting, shown = set(futures), 0
    while waiting:
        done, waiting = wait(waiting, timeout=0.5, return_when=FIRST_EXCEPTION)
        for future in done:
            future.result()
        advance(steps.value - shown)
        shown = steps.value


def device_of(worker: int, gpus: int, visible: str | None) -> str | None:
    """The one GPU that a worker sees, as CUDA_VISIBLE_DEVICES says it; None where there is none. worker: its number, from 0.
    visible: what this process was shown, which may be a part of the machine's."""
    if gpus == 0:
        return None
    names = [name.strip() for name in visible.split(",")] if visible else [str(number) for number in range(gpus)]
    return names[worker % gpus]


def _start_worker(benches: list[Bench], gpus: int, steps: Any, started: Any) -> None:
    """Runs once in every worker process, before anything has asked for a GPU."""
    global _worker
    with started.get_lock():
        number, started.value = started.value, started.value + 1
    if (device := device_of(number, gpus, os.environ.get("CUDA_VISIBLE_DEVICES"))) is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = device

    def count(n: int) -> None:
        with steps.get_lock():
            steps.value += n

    _worker = Worker.started(benches, count)


def _train_in_worker(run: Run) -> Result:
    assert _worker is not None
    return _trained(_worker, run)
