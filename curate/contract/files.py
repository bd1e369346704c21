"""Files that are either whole or absent: written under a temporary name, synced, renamed. Shared by ``curate`` and ``train``.

The temporary name tells which process writes there, so that `sweep` can take away what killed ones left and nothing else.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import platform
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

from curate.contract import faults
from curate.contract.errors import MachineError

ABSENT = (FileNotFoundError, NotADirectoryError)  # of a file that is asked for and is not there
_A_DAY = 86_400.0  # seconds; what a process of another machine has not touched for so long is rubbish
_MARK = re.compile(r"(\d+)-(\d+)-([0-9a-f]{6})")
_OURS = re.compile(r"\..+\.\d+(-\d+-[0-9a-f]{6})?\.(tmp|gone)")  # those of older versions told a number alone


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Gives a temporary path beside ``path``; on a clean exit that file (or folder) is synced and takes its name.

    A crash leaves ``path`` as it was. MachineError, one sentence, where the disk says no and the error would not tell where.
    """
    path = Path(path)
    _make(path.parent)
    temporary = hidden(path, "tmp")
    try:
        yield temporary
        put(temporary, path)
    except BaseException as error:
        discard(temporary)
        if faults.where(error) is None and (said := faults.sentence(error, path)):
            raise MachineError(said) from error
        raise


def put(temporary: Path, path: Path) -> None:
    """Gives a file or a folder its name once all of it is on the disk, and sees the name onto the disk too."""
    for one in (*(temporary.rglob("*") if temporary.is_dir() else ()), temporary):
        _sync(one)
    os.replace(temporary, path)
    _sync(path.parent)


def hidden(path: Path, ending: str) -> Path:
    """A name beside ``path`` that nobody reads, and that tells whose it is. ending: "tmp", "gone"."""
    return path.with_name(f".{path.name}.{mark()}.{ending}")


def discard(path: Path) -> None:
    """Deletes a file or a folder as far as the disk allows; `sweep` comes again."""
    with suppress(OSError):
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)


def sweep(folder: Path) -> None:
    """Deletes what processes that have ended were writing or deleting in a folder. What is another machine's, on a disk that
    both share, goes once it is a day old."""
    try:
        names = [name for name in os.listdir(folder) if name.startswith(".") and _OURS.fullmatch(name)]
    except OSError:
        return
    for path in (folder / name for name in names):
        if _is_rubbish(path):
            discard(path)


def write_bytes(path: Path, content: bytes) -> None:
    with whole(path) as temporary, open(temporary, "wb") as handle:
        handle.write(content)


def write_text(path: Path, content: str) -> None:
    write_bytes(path, content.encode("utf-8"))


def write_json(path: Path, content: Any) -> None:
    """Sorted keys, two spaces, a final newline: the same content gives the same bytes."""
    write_text(path, json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    return json.loads(Path(path).read_text("utf-8"))


def sha256(path: Path) -> str:
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def digest(content: Any) -> str:
    """A hash of anything JSON can say: 32 hex digits."""
    text = json.dumps(content, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def cache_folder() -> Path:
    """Where features and tiny base models are kept between works: $TAMIS_CACHE, else ~/.cache/tamis."""
    return Path(os.environ.get("TAMIS_CACHE") or Path.home() / ".cache" / "tamis")


def _make(folder: Path) -> None:
    """A folder and those above it, their names on the disk."""
    if not folder.is_dir():
        _make(folder.parent)
        folder.mkdir(exist_ok=True)
        _sync(folder.parent)


def _sync(path: Path) -> None:
    """Sees a file's bytes, or the names in a folder, onto the disk. Some network disks cannot do that for folders."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EACCES) or not path.is_dir():
            raise OSError(error.errno, error.strerror, str(path)) from error


# --- whose a temporary is --------------------------------------------------------------------------------------------


def mark() -> str:
    """This process in all the world: its number, when it began, and its machine (or container, which counts its own)."""
    return _mark(os.getpid())


def has_ended(mark: str) -> bool | None:
    """Whether a process has; None where it is another machine's, or the mark is none."""
    told = _MARK.fullmatch(mark)
    if told is None or told[3] != _machine():
        return None
    return _born(int(told[1])) != int(told[2])


@cache
def _mark(process: int) -> str:
    return f"{process}-{_born(process) or 0}-{_machine()}"


@cache
def _machine() -> str:
    try:
        numbers = os.readlink("/proc/self/ns/pid")
    except OSError:  # not Linux
        numbers = ""
    return digest([platform.node(), numbers])[:6]


def _born(process: int) -> int | None:
    """When a process began, in ticks since the machine did (0 where the system does not tell); None where there is none."""
    try:
        return int(Path(f"/proc/{process}/stat").read_text("utf-8").rpartition(")")[2].split()[19])
    except OSError:
        pass
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return None
    except OSError:
        return 0  # another user's
    return 0


def _is_rubbish(hidden: Path) -> bool:
    ended = has_ended(hidden.name.split(".")[-2])
    if ended is not None:
        return ended
    try:
        return time.time() - hidden.stat().st_mtime > _A_DAY
    except OSError:
        return False
