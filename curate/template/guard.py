"""Templates from outside the library run in a process of their own, with limits on memory and time.

    guard(function, *arguments)          the function's value, of a module-level function; or its TamisError

The sandbox (curate/template/sandbox.py) keeps a template from files and from Python, and counts what a text grows to between
two calls. What one call into C does with a text (``replace`` of nothing, ``join``, ``indent``) it cannot see: that must end
where the system ends it. A row that takes over SECONDS of processor time is ended by a timer, one that needs over MEMORY more
than the process has at its start by the system; either way one sentence names the file and the row. One such process is
started when it is first needed, takes half a second to start, and is used again; it ends when its pipe closes, so with its
parent.
"""

from __future__ import annotations

import atexit
import contextlib
import mmap
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection, Pipe
from typing import Any

from curate.contract.errors import TamisError, TemplateError
from curate.template import sandbox

MEMORY = 2 << 30  # bytes
SECONDS = 5.0  # of processor time for one row, where it cannot be stopped sooner (curate/template/sandbox.py, SLOWEST)
_NAME = 512  # bytes of what is told of the row


def outside(template_set: str) -> bool:
    """Whether a set is a file of its own, and none of the library."""
    return template_set.endswith(".yaml")


def guard(function: Callable[..., Any], *arguments: Any) -> Any:
    """Calls a module-level function with picklable arguments. Raises its TamisError, or TemplateError where it was ended."""
    with _LOCK:
        if _inside():
            return function(*arguments)
        return _started().call(function, *arguments)


def at(what: str) -> None:
    """Says what comes next, a file and a row, so that it is known if it is the last; and starts its time."""
    if _ROW is not None:
        told = what.encode("utf-8", "replace")[: _NAME - 1]
        _ROW[0 : len(told) + 1] = told + b"\0"
        signal.setitimer(signal.ITIMER_PROF, SECONDS)


def rest() -> None:
    """Between rows: no time is counted."""
    if _ROW is not None:
        signal.setitimer(signal.ITIMER_PROF, 0)


# --- the process ------------------------------------------------------------------------------------------------------

_LOCK = threading.RLock()
_ROW: mmap.mmap | None = None  # in the process with limits: shared memory for what it is at
_CURRENT: _Guarded | None = None


class _Guarded:
    """The process, from outside."""

    def __init__(self) -> None:
        self.ours, theirs = Pipe()
        with tempfile.TemporaryFile() as shared:
            shared.truncate(_NAME)
            self.row = mmap.mmap(shared.fileno(), _NAME)
            given = (theirs.fileno(), shared.fileno())
            # not multiprocessing's spawn, which runs the caller's script anew where that has no `if __name__ == "__main__"`
            code = f"import sys; sys.path[:] = {[*map(str, sys.path)]!r}; from curate.template import guard; guard.serve{given}"
            before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # Ctrl-C is for the parent to act on
            null = subprocess.DEVNULL  # what ends it is told by how it ended
            try:
                self.process = subprocess.Popen([sys.executable, "-c", code], pass_fds=given, stdin=null, stderr=null)
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()
        self.pid = os.getpid()

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        try:
            self.row[:1] = b"\0"
            self.ours.send((os.getcwd(), function, arguments))
            good, value = self.ours.recv()
        except (EOFError, OSError):
            self.process.wait()
            raise TemplateError(f"{_told(self.row)}: {self._why()}") from None
        except BaseException:  # Ctrl-C in the middle: the answer that comes would be taken for the next one's
            self.end()
            raise
        if good:
            return value
        raise value

    def _why(self) -> str:
        global _CURRENT
        _CURRENT = None
        mend = "make the template simpler, or leave the row out"
        if self.process.returncode == -signal.SIGPROF:
            return f"was stopped, since it takes over {SECONDS:g} s; {mend}"
        if self.process.returncode == -signal.SIGKILL:
            return "the process that renders it was killed from outside, or for want of memory; run it again"
        return f"the process that renders it broke off; it may need more than {MEMORY >> 30} GiB of memory: {mend}"

    def end(self) -> None:
        global _CURRENT
        if self.pid != os.getpid():  # a fork of the process that it belongs to
            return
        _CURRENT = None
        with contextlib.suppress(OSError):
            self.ours.close()
        self.process.kill()
        self.process.wait()


def _inside() -> bool:
    return _ROW is not None


def _started() -> _Guarded:
    global _CURRENT
    if _CURRENT is None or _CURRENT.pid != os.getpid() or _CURRENT.process.poll() is not None:
        _CURRENT = _Guarded()
        atexit.register(_CURRENT.end)
    return _CURRENT


def serve(pipe_number: int, shared: int) -> None:
    """The process itself, given the numbers of the open files that it talks and tells through."""
    global _ROW
    pipe, _ROW = Connection(pipe_number), mmap.mmap(shared, _NAME)
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    _limit()
    while True:
        try:
            folder, function, arguments = pipe.recv()
        except (EOFError, OSError):
            return
        try:
            if folder != os.getcwd():
                os.chdir(folder)
            with sandbox.watched():
                answer = True, function(*arguments)
        except Exception as error:
            answer = False, _sentence(error)
        finally:
            rest()
        try:
            pipe.send(answer)
        except (TypeError, AttributeError, ValueError) as error:  # what cannot be sent
            pipe.send((False, _sentence(error)))


def _sentence(error: Exception) -> Exception:
    if isinstance(error, TamisError):
        error.__traceback__ = None
        return error
    if not isinstance(error, MemoryError):  # a mistake of ours
        return RuntimeError(f"{type(error).__name__}: {error}")
    return TemplateError(
        f"{_told(_ROW)}: was stopped, since it needs more than "
        f"{MEMORY >> 30} GiB of memory; make the template simpler, or leave the row out"
    )


def _told(row: mmap.mmap | None) -> str:
    return (b"" if row is None else row[:]).split(b"\0")[0].decode("utf-8", "replace") or "a template"


def _limit() -> None:
    if sys.platform != "linux":  # elsewhere the system does not count, and the limits of the sandbox are all there is
        return
    import resource

    with open("/proc/self/status", encoding="ascii") as file:
        now = next(int(line.split()[1]) << 10 for line in file if line.startswith("VmData:"))
    resource.setrlimit(resource.RLIMIT_DATA, (now + MEMORY, now + MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
