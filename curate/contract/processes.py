"""Worker processes that end with the process that started them, however that one ends.

    with pool(2) as processes:
        futures = [processes.submit(function_of_a_module, argument) for argument in arguments]

Every worker holds one end of a pipe. It ends at once when the other end closes: after an error or Ctrl-C in the block, and when
the system closes it for a process that was killed. On Linux the system kills it too, for a worker that is deep in C code.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


@contextmanager
def pool(workers: int, begin: Callable[..., None] | None = None, *shared: Any) -> Iterator[ProcessPoolExecutor]:
    """begin: a function of a module, or a partial of one, called once in each process with what it shares with this one
    (values and locks of multiprocessing's `spawn` context)."""
    context = get_context("spawn")  # fork would copy the thread pools of polars and torch in a broken state
    theirs, ours = context.Pipe(duplex=False)
    processes = _Pool(workers, context, _begin, (_Watch(theirs), begin, shared))
    try:
        yield processes
    except BaseException:
        ours.close()
        processes.shutdown(wait=False, cancel_futures=True)
        raise
    finally:
        processes.shutdown()
        ours.close()
        theirs.close()


class _Pool(ProcessPoolExecutor):
    """Starts its workers deaf to Ctrl-C, which a terminal sends to all: the parent decides. A worker that were to ignore it
    once it runs would show a traceback when it comes before."""

    def submit(self, *call: Any, **options: Any) -> Future[Any]:
        # A process that is started has the mask of the one that starts it.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            return super().submit(*call, **options)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _Watch:
    """Arrives in a worker before all that stands behind it, whose modules may take seconds to import, and watches from then."""

    def __init__(self, pipe: Connection):
        self.pipe = pipe

    def __reduce__(self) -> tuple[Callable[[Connection], None], tuple[Connection]]:
        return _watch, (self.pipe,)


def _watch(pipe: Connection) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    threading.Thread(target=_end_with_the_parent, args=(pipe,), daemon=True).start()


def _begin(watching: object, begin: Callable[..., None] | None, shared: tuple[Any, ...]) -> None:
    """Runs once in every worker."""
    del watching
    if begin is not None:
        begin(*shared)


def _end_with_the_parent(pipe: Connection) -> None:
    try:
        pipe.recv_bytes()
    except (EOFError, OSError):
        os._exit(1)
