"""Workers end with the process that started them: after an error, after Ctrl-C, and when it was killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from curate.contract.processes import pool

PARENT = """
import os, sys, time
from pathlib import Path
sys.path.insert(0, {here!r})
import test_processes as told
from curate.contract.processes import pool

if __name__ == "__main__":
    with pool(2, {begin}) as processes:
        futures = [processes.submit(told.{work}, {folder!r}) for _ in range(2)]
        [future.result() for future in futures]
"""


def sleep(folder: str) -> None:
    (Path(folder) / str(os.getpid())).touch()
    time.sleep(60)


def compute(folder: str) -> None:
    """Holds the interpreter's lock, so that no other thread of the worker runs."""
    (Path(folder) / str(os.getpid())).touch()
    sum(range(10**11))


def _slowly(folder: str) -> Slow:
    sleep(folder)
    return Slow(folder)


class Slow:
    """Takes a minute to arrive in a worker, as a module that is slow to import."""

    def __init__(self, folder: str):
        self.folder = folder

    def __call__(self) -> None: ...

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return _slowly, (self.folder,)


def fail(folder: str) -> None:
    while len(list(Path(folder).iterdir())) < 1:
        time.sleep(0.01)
    raise ValueError("no")


def number() -> int:
    return os.getpid()


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def ended(processes: list[int], seconds: float = 5) -> bool:
    end = time.monotonic() + seconds
    while any(map(alive, processes)) and time.monotonic() < end:
        time.sleep(0.02)
    return not any(map(alive, processes))


def started(folder: Path, count: int = 2) -> list[int]:
    end = time.monotonic() + 60
    while len(list(folder.iterdir())) < count and time.monotonic() < end:
        time.sleep(0.02)
    return [int(path.name) for path in folder.iterdir()]


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks into /proc")
@pytest.mark.parametrize("work", ["sleep", "compute", "slow"])
def test_no_worker_outlives_a_parent_that_was_killed(work: str, tmp_path: Path) -> None:
    begin = f"told.Slow({str(tmp_path)!r})" if work == "slow" else "None"
    works = "sleep" if work == "slow" else work
    source = PARENT.format(here=str(Path(__file__).parent), work=works, folder=str(tmp_path), begin=begin)
    script = tmp_path.parent / f"{work}.py"
    script.write_text(source)
    with subprocess.Popen([sys.executable, script], stdin=subprocess.DEVNULL) as parent:
        workers = started(tmp_path)
        assert len(workers) == 2 and all(map(alive, workers))
        parent.send_signal(signal.SIGKILL)
    assert ended(workers), "a worker is still alive five seconds later"


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks into /proc")
def test_an_error_ends_workers_that_are_in_the_middle_of_their_work(tmp_path: Path) -> None:
    begun = time.monotonic()

    def work() -> None:
        with pool(2) as processes:
            futures = [processes.submit(sleep, str(tmp_path)), processes.submit(fail, str(tmp_path))]
            futures[1].result()

    with pytest.raises(ValueError, match="no"):
        work()
    assert ended(started(tmp_path, 1)) and time.monotonic() - begun < 50


@pytest.mark.parametrize("seconds", [0.3, 0.6])
def test_ctrl_c_while_workers_start_is_said_by_nobody_but_the_parent(seconds: float, tmp_path: Path) -> None:
    source = PARENT.format(here=str(Path(__file__).parent), work="sleep", folder=str(tmp_path), begin="None").replace(
        "pool(2, None) as processes:", "pool(2, None) as processes:\n        print('go', flush=True)"
    )
    script = tmp_path.parent / f"stopped{seconds}.py"
    script.write_text(source)
    with subprocess.Popen(
        [sys.executable, script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as parent:
        assert parent.stdout is not None
        parent.stdout.readline()
        time.sleep(seconds)
        os.killpg(parent.pid, signal.SIGINT)  # as a terminal does
        errors = parent.communicate(timeout=60)[1]
    assert errors.count("Traceback") == 1 and errors.strip().endswith("KeyboardInterrupt")


def test_workers_answer_and_are_gone_afterwards() -> None:
    with pool(1) as processes:
        worker = processes.submit(number).result()
        assert worker != os.getpid()
    assert not alive(worker)
