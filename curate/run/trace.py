"""Which files a stage opens while it computes: what its bytes depend on, though nobody said so.

    with reading([recipe_folder, data_folder]) as opened: …
    opened                       # the files under those folders that Python opened to read, modules that were imported too

A module already imported is not opened again; the code that a key covers (curate/contract/code.py) knows of it. Files that
polars or another library opens by itself are not seen: kinds and loaders name those (`reads`, `fingerprint`).
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from curate.contract.files import sha256

_opened: set[str] | None = None
_hooked = False


@contextmanager
def reading(folders: Iterable[Path]) -> Iterator[set[Path]]:
    """Gives a set that holds the files once the block is left. Cost: under a microsecond a file that is opened."""
    global _opened, _hooked
    if not _hooked:
        sys.addaudithook(_note)  # stays for the life of the process, silent outside this block
        _hooked = True
    before, _opened = _opened, set()
    files: set[Path] = set()
    try:
        yield files
    finally:
        names, _opened = _opened, before
        if before is not None:
            before |= names
        files |= {path for name in names if (path := _ours(name, list(folders)))}


def stamps(files: Iterable[Path], folders: dict[str, Path]) -> dict[str, list[Any]]:
    """ "data:a.jsonl" -> [size, time of change, sha256], for files that are still there. folders: names that stand for them."""
    noted: dict[str, list[Any]] = {}
    for path in sorted(files):
        for name, folder in folders.items():
            if path.is_relative_to(folder) and path.is_file():
                status = path.stat()
                noted[f"{name}:{path.relative_to(folder)}"] = [status.st_size, status.st_mtime_ns, sha256(path)]
                break
    return noted


def changed(noted: dict[str, list[Any]], folders: dict[str, Path]) -> dict[str, str]:
    """Of files noted before, those that are others now, with their hashes ("" where they are gone). Files whose size and time
    are the same are not read."""
    others: dict[str, str] = {}
    for name, (size, time, content) in noted.items():
        key, _, relative = name.partition(":")
        path = folders[key] / relative if key in folders else Path(relative)
        if not path.is_file():
            others[name] = ""
            continue
        status = path.stat()
        if (status.st_size, status.st_mtime_ns) != (size, time) and (now := sha256(path)) != content:
            others[name] = now
    return others


def _note(event: str, arguments: tuple[Any, ...]) -> None:
    if _opened is None or event != "open":
        return
    name, mode, flags = arguments
    writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR)
    if isinstance(name, str) and not writes and (mode is None or "r" in mode):
        _opened.add(name)


def _ours(name: str, folders: list[Path]) -> Path | None:
    """The file, if it lies under one of the folders, in no hidden folder and in nothing that pip installed."""
    path = Path(os.path.abspath(name))
    if path.suffix == ".pyc":
        try:
            path = Path(importlib.util.source_from_cache(str(path)))
        except ValueError:
            return None
    for folder in folders:
        if path.is_relative_to(folder):
            parts = path.relative_to(folder).parts
            if not any(part.startswith(".") or part in ("site-packages", "__pycache__") for part in parts):
                return path if path.is_file() else None
    return None
