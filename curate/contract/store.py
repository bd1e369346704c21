"""One store for what is dear to compute: vectors, scores, signatures, completions, training runs. All works share it.

    <cache>/<kind>/<name>-<key>/    an entry; its key is a hash of all that its content depends on
        about.json                  what that is; the file's time of change is when the entry was used last
        <hash>.npz                  of arrays: a shard of keys and values
        …                           of a folder: its files, whose hashes stand in about.json

**Arrays** hold a value of one type and shape for each key of 16 bytes, such as the hash of a text:

    vectors = store.arrays("vectors", "sentence", {"model": …}).values(store.keys(texts), compute)

**Folders** are written once and then only read:

    with store.writing("runs", "lora", about) as folder: ...
    folder = store.folder("runs", "lora", about)      # None where there is none

What stands here is whole or absent: shards and folders are written under another name and renamed. Works and processes may
use one entry at once; what two of them compute at the same time is the same, and stands there twice at worst. What was
damaged since (cut short, changed) is noticed when it is read, said, deleted, and computed anew. Entries may be deleted
at any time: who is reading one computes again what is gone.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from curate.contract import files
from curate.contract.errors import DataError
from curate.contract.files import cache_folder, digest, discard, hidden, read_json, sha256, whole, write_json
from curate.contract.progress import bar, say

ABOUT = "about.json"
ROWS_PER_SHARD = 4096  # computed together and written together: what a killed run loses at most
_ATTEMPTS = 3  # passes over an entry that others delete or damage meanwhile
_DAMAGED = (ValueError, TypeError, LookupError, AttributeError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)


def keys(texts: Sequence[str]) -> np.ndarray:
    """A key for each text, its hash: S16 (n,)."""
    digests = (hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest() for text in texts)
    return np.frombuffer(b"".join(digests), dtype="S16")


# --- arrays by key ---------------------------------------------------------------------------------------------------


def arrays(kind: str, name: str, about: dict[str, Any], dtype: str = "<f4") -> Arrays:
    """The entry of arrays that depend on ``about``, which is made where there is none."""
    entry = Arrays(_place(kind, name, about), about, np.dtype(dtype))
    entry.touch()
    return entry


@dataclass(frozen=True)
class Arrays:
    """A value of one type and shape for each key."""

    folder: Path
    about: dict[str, Any]
    dtype: np.dtype

    def touch(self) -> None:
        """Makes this the time of its last use, and makes the entry where there is none."""
        try:
            os.utime(self.folder / ABOUT)
        except FileNotFoundError:
            with suppress(FileNotFoundError):  # deleted at this moment: the next use makes it
                write_json(self.folder / ABOUT, {"about": self.about})

    def values(
        self,
        keys: np.ndarray,
        compute: Callable[[np.ndarray], np.ndarray],
        *,
        sizes: np.ndarray | None = None,
        out: Path | None = None,
        label: str = "computing",
    ) -> np.ndarray:
        """The values of keys S16 (n,), in their order: dtype (n, …).

        compute: called with the positions of keys that are not known yet, each key once, at most ROWS_PER_SHARD at a time;
        gives their values. sizes: positions of like sizes are computed together. out: a .npy file that then holds the
        values, given back as a memory map. label: of the bar.
        """
        for _ in range(_ATTEMPTS):
            self._compute(self.missing(keys), keys, compute, sizes, label)
            try:
                return self._gather(keys, out)
            except _Lost:
                continue
        raise DataError(
            f"{self.folder} loses again and again what is written into it; look after the disk, or set TAMIS_CACHE to a "
            "folder on another"
        )

    def missing(self, keys: np.ndarray) -> np.ndarray:
        """The first position of each key that is not known."""
        unique, first = np.unique(keys, return_index=True)
        return first[~np.isin(unique, self._known().keys)]

    def add(self, keys: np.ndarray, values: np.ndarray) -> None:
        """Writes the values of keys, as one shard; they are lost where the entry is deleted at this moment."""
        if len(values) != len(keys):
            raise DataError(f"{self.folder.name}: {len(values):,} values were computed for {len(keys):,} rows")
        path = self.folder / f"{hashlib.blake2b(keys.tobytes(), digest_size=16).hexdigest()}.npz"
        with suppress(FileNotFoundError), whole(path) as temporary, open(temporary, "wb") as handle:
            np.savez(handle, keys=keys, values=np.asarray(values, self.dtype))
        self.touch()

    def _compute(
        self,
        rows: np.ndarray,
        keys: np.ndarray,
        compute: Callable[[np.ndarray], np.ndarray],
        sizes: np.ndarray | None,
        label: str,
    ) -> None:
        rows = rows[np.lexsort((keys[rows], np.zeros(len(rows)) if sizes is None else sizes[rows]))]
        shapes: set[tuple[int, ...]] = set()
        with bar(len(rows), label) as advance:
            for start in range(0, len(rows), ROWS_PER_SHARD):
                part = rows[start : start + ROWS_PER_SHARD]
                values = compute(part)
                shapes.add(values.shape[1:])
                if len(shapes) > 1:
                    raise DataError(f"{label}: gave values of different shapes, {' and '.join(map(str, shapes))}")
                self.add(keys[part], values)
                advance(len(part))

    def _known(self) -> _Known:
        """Where every value stands. A shard that cannot be read is deleted."""
        paths, parts = [], [np.empty(0, "S16")]
        for path in self._shards():
            try:
                parts.append(_member(path, "keys"))
                paths.append(path)
            except _Lost:
                continue
        counts = [len(part) for part in parts[1:]]
        numbers = np.repeat(np.arange(len(paths)), counts)
        positions = np.concatenate([np.arange(count) for count in (0, *counts)])
        return _Known(paths, np.concatenate(parts), numbers, positions)

    def _shards(self) -> list[Path]:
        try:
            return sorted(self.folder / name for name in os.listdir(self.folder) if name.endswith(".npz"))
        except FileNotFoundError:  # deleted at this moment
            return []

    def _gather(self, keys: np.ndarray, out: Path | None) -> np.ndarray:
        if out is None:
            return self._fill(keys, lambda shape: np.empty(shape, self.dtype))
        with whole(out) as temporary:

            def target(shape: tuple[int, ...]) -> np.ndarray:
                mapped = np.lib.format.open_memmap(temporary, mode="w+", dtype=self.dtype, shape=shape)
                _reserve(temporary)
                return mapped

            self._fill(keys, target).flush()  # type: ignore[attr-defined]
        return np.load(out, mmap_mode="r")

    def _fill(self, keys: np.ndarray, target: Callable[[tuple[int, ...]], np.ndarray]) -> np.ndarray:
        """The values of keys in an array that ``target`` makes for their shape. _Lost where one of them is gone."""
        known = self._known()
        at = known.find(keys)
        order = np.argsort(known.shard[at], kind="stable")
        starts = np.flatnonzero(np.diff(known.shard[at][order], prepend=-1))
        filled: np.ndarray | None = None
        for rows in np.split(order, starts[1:]) if len(starts) else []:
            values = _member(known.paths[known.shard[at[rows[0]]]], "values")
            if filled is None:
                filled = target((len(keys), *values.shape[1:]))
            if values.shape[1:] != filled.shape[1:] or values.dtype != self.dtype:
                self._forget(known.paths)
            filled[rows] = values[known.position[at[rows]]]
        if filled is None:
            shape = _member(known.paths[0], "values").shape[1:] if known.paths else (0,)
            filled = target((len(keys), *shape))
        return filled

    def _forget(self, paths: list[Path]) -> None:
        """Deletes shards that do not fit each other: which of them is wrong cannot be told."""
        for path in paths:
            path.unlink(missing_ok=True)
        say(f"{self.folder}: its values differ in shape, so it is damaged; what is needed of it is computed anew")
        raise _Lost


@dataclass(frozen=True)
class _Known:
    """keys: S16 (m,). shard, position: int64 (m,), where the value of each stands: in which of the paths, and at what place."""

    paths: list[Path]
    keys: np.ndarray
    shard: np.ndarray
    position: np.ndarray

    def find(self, keys: np.ndarray) -> np.ndarray:
        """Where each key stands among these: int64 (n,). _Lost where one does not."""
        order = np.argsort(self.keys, kind="stable")
        places = np.searchsorted(self.keys[order], keys)
        if len(keys) and (len(order) == 0 or (places == len(order)).any()):
            raise _Lost
        at = order[places]
        if (self.keys[at] != keys).any():
            raise _Lost
        return at


class _Lost(Exception):
    """Something that stood in the store is gone, or was damaged and has been deleted."""


def _member(path: Path, name: str) -> np.ndarray:
    """The keys or the values of a shard. zipfile compares what it reads with its checksum."""
    try:
        with open(path, "rb") as file, np.load(file) as archive:  # np.load leaves open a file that it cannot read
            return archive[name]
    except FileNotFoundError as error:
        raise _Lost from error
    except Exception as error:
        if not _is_damage(error):
            raise
        path.unlink(missing_ok=True)
        say(f"{path} is damaged ({_line(error)}); it is deleted, and what is needed of it is computed anew")
        raise _Lost from error


# --- folders by key --------------------------------------------------------------------------------------------------


def folder(kind: str, name: str, about: dict[str, Any]) -> Path | None:
    """The folder that depends on ``about``, or None where there is none that is whole. Reads it once to check it."""
    place = _place(kind, name, about)
    try:
        hashes = read_json(place / ABOUT)["files"]
        changed = [file for file, content in hashes.items() if sha256(place / file) != content]
        os.utime(place / ABOUT)
    except FileNotFoundError as error:
        if not place.is_dir():
            return None
        changed = [Path(error.filename).name]
    except Exception as error:
        if not _is_damage(error):
            raise
        changed = [f"{ABOUT} ({_line(error)})"]
    if changed:
        say(f"{place} is damaged: {changed[0]} is not as it was written; it is deleted and computed anew")
        _delete(place)
        return None
    return place


@contextmanager
def writing(kind: str, name: str, about: dict[str, Any]) -> Iterator[Path]:
    """A folder to write into, which becomes that of ``about`` on a clean exit. Where another process was first, its folder
    stays."""
    place = _place(kind, name, about)
    try:
        with whole(place) as temporary:
            temporary.mkdir()
            yield temporary
            files = sorted(path for path in temporary.rglob("*") if path.is_file())
            hashes = {path.relative_to(temporary).as_posix(): sha256(path) for path in files}
            write_json(temporary / ABOUT, {"about": about, "files": hashes})
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST) or not place.is_dir():
            raise


# --- the store as a whole --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Entry:
    """What stands in the store under one key. values: of arrays, how many; a folder is one. last_used: seconds since 1970."""

    kind: str
    name: str
    folder: Path
    bytes: int
    values: int
    last_used: float


def entries() -> list[Entry]:
    """All that stands in the store, by kind and name. Reads the keys of all arrays to count them."""
    places = sorted(place for place in cache_folder().glob("[!.]*/[!.]*") if place.is_dir())
    return [entry for place in places if (entry := _entry(place))]


def gc(older_than_days: float | None = None) -> list[Entry]:
    """Deletes entries that were last used longer ago, or all; returns them. Others may go on using the store meanwhile."""
    now = time.time()
    gone = [e for e in entries() if older_than_days is None or now - e.last_used > older_than_days * 86_400]
    for entry in gone:
        _delete(entry.folder)
    sweep()
    return gone


def sweep() -> None:
    """Takes away what killed processes left half-written or half-deleted. Cost: 10 µs an entry."""
    for kind in cache_folder().glob("[!.]*/"):
        files.sweep(kind)
        for entry in kind.glob("[!.]*/"):
            files.sweep(entry)


def _entry(place: Path) -> Entry | None:
    try:
        used = (place / ABOUT if (place / ABOUT).is_file() else place).stat().st_mtime
        size = sum(path.stat().st_size for path in place.rglob("*") if path.is_file())
        shards = list(place.glob("*.npz"))
        values = sum(len(_member(shard, "keys")) for shard in shards) if shards else 1
    except (FileNotFoundError, _Lost):
        return _entry(place) if place.is_dir() else None  # something was deleted meanwhile: look again
    return Entry(place.parent.name, place.name.rpartition("-")[0] or place.name, place, size, values, used)


def _reserve(path: Path) -> None:
    """Takes the room of a file that is written through memory: without it a full disk is no error but ends the process."""
    if not hasattr(os, "posix_fallocate"):  # macOS
        return
    try:
        with open(path, "r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):  # a disk that cannot
            raise


def _delete(place: Path) -> None:
    """First renamed, so that nobody finds half of it."""
    gone = hidden(place, "gone")
    try:
        os.replace(place, gone)  # not synced: after a crash it stands here again, whole
    except FileNotFoundError:
        return
    discard(gone)


def _place(kind: str, name: str, about: dict[str, Any]) -> Path:
    return cache_folder() / kind / f"{re.sub(r'[^A-Za-z0-9_.]+', '_', name)}-{digest(about)}"


def _is_damage(error: Exception) -> bool:
    """Whether content that was changed raises this. What the machine refuses (too many open files, a permission) says nothing
    of the content, and nothing may be deleted for it."""
    if isinstance(error, OSError):
        return error.errno in (None, errno.EINVAL)  # numpy's own; a seek to a place before the file
    return isinstance(error, _DAMAGED)


def _line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0] or type(error).__name__
