"""What a disk, a permission or the network says no to becomes one sentence, whoever raised it.

    with one_sentence(): ...       # or @one_sentence()

Python raises an OSError with a number and a path. Libraries in Rust and C++ lose the number, the path or the type: polars
raises ComputeError("… (os error 28)"), pyarrow an OSError without a path, tokenizers a bare Exception.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from curate.contract.errors import MachineError, TamisError

_LIBRARIES = ("polars", "pyarrow", "safetensors")  # that wrap the system's errors in types of their own
_NUMBER = re.compile(r"\(os error (\d+)\)|\[errno (\d+)\]", re.IGNORECASE)
_PATH = re.compile(r"\(os error \d+\): (/.+)|at path \"(/[^\"]+)\"|^(/[^:]+)$")  # of polars, safetensors, pyarrow
_TEMPORARY = re.compile(
    r"(^|/)\.([^/]+)\.[^/.]+\.tmp(?=/|$)"
)  # as curate/contract/files.py names what is not whole yet

_NOTHING_HALF = "nothing half-written was left"
_FREE = "free some space"
_ALLOW = "change who may read and write it, or give another folder (--work; TAMIS_CACHE for the store)"
_FEWER = "raise the limit (ulimit -n) or give fewer --workers"
_NETWORK = "look after the network"
_SAID = {  # what is wrong, and what to do
    errno.ENOSPC: (f"the disk is full; {_NOTHING_HALF}", _FREE),
    errno.EDQUOT: (f"your share of the disk is used up; {_NOTHING_HALF}", _FREE),
    errno.EFBIG: (f"the file is larger than this disk or `ulimit -f` allows; {_NOTHING_HALF}", "raise the limit"),
    errno.EROFS: ("its disk can only be read", "give a folder on another one (--work; TAMIS_CACHE for the store)"),
    errno.EIO: ("the disk cannot read or write it (an input/output error)", "look after the disk"),
    errno.EACCES: ("you are not allowed to read or write it", _ALLOW),
    errno.EPERM: ("the system does not permit this to be done with it", _ALLOW),
    errno.ENOENT: ("it is not there, or no longer", "put it back, and let no other program delete or move it"),
    errno.ESTALE: ("the network disk that holds it was lost", "mount it again"),
    errno.EEXIST: ("something else has this name", "move it away"),
    errno.ENOTDIR: ("a part of its path is a file and should be a folder", "move that file away"),
    errno.EISDIR: ("this is a folder and should be a file", "move it away"),
    errno.ENAMETOOLONG: ("the name is longer than this disk allows", "give shorter names"),
    errno.EMFILE: ("too many files are open", _FEWER),
    errno.ENFILE: ("too many files are open on this machine", "close other programs"),
    errno.ENOMEM: ("the machine has no memory left", "close other programs or give fewer --workers"),
    errno.EAGAIN: ("the machine starts no more processes or threads", "give fewer --workers"),
    errno.ECONNREFUSED: ("nobody answers there", _NETWORK),
    errno.ECONNRESET: ("the other side ended the connection", _NETWORK),
    errno.ENETUNREACH: ("the network cannot be reached", _NETWORK),
    errno.ETIMEDOUT: ("the answer took too long", _NETWORK),
}
_KINDS = (  # of an OSError without a number
    (FileNotFoundError, errno.ENOENT),
    (PermissionError, errno.EACCES),
    (IsADirectoryError, errno.EISDIR),
    (NotADirectoryError, errno.ENOTDIR),
    (TimeoutError, errno.ETIMEDOUT),
)


@contextmanager
def one_sentence(*, but: tuple[type[OSError], ...] = ()) -> Iterator[None]:
    """Raises MachineError instead of an OSError and of what libraries make of one; all else passes. but: who asks answers these
    itself."""
    try:
        yield
    except Exception as error:
        said = None if isinstance(error, but) else sentence(error)
        if said is None:
            raise
        raise MachineError(said) from error


def sentence(error: BaseException, path: Path | None = None) -> str | None:
    """What a person is told of an error: what, where, what to do. None where the machine had no part in it.

    path: what was being read or written, for errors that do not say it.
    """
    if isinstance(error, TamisError) or not _from_the_machine(error):
        return None
    number = _number(error)
    what, remedy = _SAID.get(number or 0, (_first_line(error), "see to that"))
    place = where(error) or path
    return f"{f'{_final(place)}: ' if place else ''}{what}; {remedy} and run the same command again"


def where(error: BaseException) -> Path | None:
    """The path that an error tells."""
    named = getattr(error, "filename2", None) or getattr(error, "filename", None)
    if isinstance(named, str | bytes | os.PathLike):
        return Path(os.fsdecode(named))
    found = _PATH.search(str(error).split("\n")[0])
    return Path(next(filter(None, found.groups()))) if found else None


def _from_the_machine(error: BaseException) -> bool:
    if isinstance(error, OSError | MemoryError):
        return True
    wraps = type(error) is Exception or type(error).__module__.partition(".")[0] in _LIBRARIES
    return wraps and _number(error) is not None


def _number(error: BaseException) -> int | None:
    """The system's number of an error: its own, or the one that its text tells."""
    if isinstance(error, MemoryError):
        return errno.ENOMEM
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    text = str(error)
    if found := _NUMBER.search(text):
        return int(found[1] or found[2])
    if told := [number for number in _SAID if os.strerror(number) in text]:
        return max(told, key=lambda number: len(os.strerror(number)))  # one text begins as another does
    return next((number for kind, number in _KINDS if isinstance(error, kind)), None)


def _first_line(error: BaseException) -> str:
    text = getattr(error, "strerror", None) or str(error).strip().split("\n")[0]
    return text.rstrip(".") or type(error).__name__


def _final(path: Path) -> str:
    """The name that what is written there would have taken."""
    return _TEMPORARY.sub(r"\1\2", str(path))
