"""Files and folders are whole or absent, on the disk before they have their name, and leave nothing behind."""

from __future__ import annotations

import errno
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from curate.contract import files
from curate.contract.errors import MachineError
from curate.contract.faults import one_sentence


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def write_folder(path: Path, content: bytes) -> None:
    with files.whole(path) as temporary:
        (temporary / "in").mkdir(parents=True)
        (temporary / "in" / "a").write_bytes(content)


@pytest.mark.parametrize("name", ["ENOSPC", "EDQUOT", "EIO", "EROFS", "EACCES"])
@pytest.mark.parametrize("call", ["replace", "fsync"])
@pytest.mark.parametrize("write", [files.write_bytes, write_folder])
def test_a_write_that_fails_leaves_everything_as_it_was(
    write: Callable[[Path, bytes], None], call: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = getattr(errno, name)
    write(tmp_path / "there", b"old")
    before = tree(tmp_path)

    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(MachineError, match=rf"^{tmp_path}/there.* run the same command again$"), one_sentence():
            write(tmp_path / "there", b"new")
    assert tree(tmp_path) == before and not list(tmp_path.rglob("*.tmp"))


def test_a_library_that_finds_the_disk_full_leaves_nothing_half_written(tmp_path: Path) -> None:
    full = pl.exceptions.ComputeError(f"underlying IO error: {os.strerror(errno.ENOSPC)} (os error {errno.ENOSPC})")

    def write() -> None:
        with files.whole(tmp_path / "t") as temporary:
            temporary.write_bytes(b"half")
            raise full

    with pytest.raises(MachineError, match=rf"^{tmp_path}/t: the disk is full; nothing half-written was left; free"):
        write()
    assert not list(tmp_path.iterdir())


def test_all_of_a_folder_is_on_the_disk_before_it_has_its_name_and_then_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[tuple[str, str]] = []
    sync, replace = os.fsync, os.replace

    def synced(descriptor: int) -> None:
        done.append(("sync", os.path.realpath(f"/proc/self/fd/{descriptor}")))
        sync(descriptor)

    def replaced(source: Path, target: Path) -> None:
        done.append(("name", str(target)))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", replaced)
    write_folder(tmp_path / "deep" / "one", b"x")
    at = done.index(("name", str(tmp_path / "deep" / "one")))
    inside = {Path(path).name for what, path in done[:at] if what == "sync" and ".tmp" in path}
    assert {"in", "a"} < inside and any(name.endswith(".tmp") for name in inside)
    assert done[0] == ("sync", str(tmp_path)), "the name of the folder above is on the disk too"
    assert done[at + 1 :] == [("sync", str(tmp_path / "deep"))]


def test_what_killed_processes_left_goes_and_what_a_living_one_writes_stays(tmp_path: Path) -> None:
    source = (
        "import sys; from pathlib import Path; from curate.contract import files; print(files.hidden(Path('x'), 'tmp'))"
    )
    dead = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True).stdout.strip()
    mine = files.hidden(tmp_path / "y", "tmp").name
    number, born, machine = mine.split(".")[-2].split("-")
    another = f".z.{number}-{int(born) - 1}-{machine}.tmp"  # had my number before me
    foreign, ancient = f".f.{number}-{born}-000000.tmp", f".o.{number}-{born}-000000.tmp"
    older, theirs = ".v.4242.tmp", ".theirs.tmp"  # of an older version; of another program
    for name in (dead, mine, another, foreign, ancient, older, theirs):
        (tmp_path / name).write_text("half")
    for name in (ancient, older, theirs):
        os.utime(tmp_path / name, (0, 0))
    (tmp_path / dead.replace(".tmp", ".gone")).mkdir()
    files.sweep(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([mine, foreign, theirs])
    files.sweep(tmp_path / "none")


@pytest.mark.skipif(platform.system() != "Linux", reason="where the system tells when a process began")
def test_the_mark_of_a_process_ends_with_it() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", "from curate.contract import files; print(files.mark(), flush=True); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        mark = process.stdout.readline().strip()
        assert files.has_ended(mark) is False
        process.kill()
    assert files.has_ended(mark) is True
    assert files.has_ended(files.mark()) is False
    assert files.has_ended("1-1-zzzzzz") is None and files.has_ended("4242") is None
