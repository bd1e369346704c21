"""Files that are either whole or absent: written under a temporary name, synced, renamed. Shared by ``curate`` and ``train``."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from curate.contract.errors import DataError


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Gives a temporary path beside ``path``; on a clean exit that file (or folder) is synced and takes its name.

    A crash leaves ``path`` as it was. A full disk becomes one sentence.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        if temporary.is_file():
            _sync(temporary)
        os.replace(temporary, path)
        _sync(path.parent)
    except OSError as error:
        temporary.unlink(missing_ok=True) if not temporary.is_dir() else None
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DataError(
                f"{path}: the disk is full; nothing half-written was left; free some space and run the same command again"
            ) from error
        raise
    except BaseException:
        if not temporary.is_dir():
            temporary.unlink(missing_ok=True)
        raise


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


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
