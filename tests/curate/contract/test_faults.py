"""What the machine says no to is one sentence, whoever raised it; what is a mistake of the program stays one."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
import pytest

from curate.contract import faults
from curate.contract.errors import DataError, MachineError

NUMBERS = (
    "ENOSPC",
    "EDQUOT",
    "EIO",
    "EACCES",
    "EPERM",
    "EROFS",
    "ENOENT",
    "EMFILE",
    "ENFILE",
    "ESTALE",
    "ENAMETOOLONG",
)


def said(error: BaseException) -> str:
    with pytest.raises(MachineError) as caught, faults.one_sentence():
        raise error
    assert caught.value.__cause__ is error and caught.value.exit_code == 1
    return str(caught.value)


@pytest.mark.parametrize("name", [*NUMBERS, "EXDEV", "ELOOP"])
def test_every_error_of_the_system_is_one_sentence_with_its_path(name: str) -> None:
    number = getattr(errno, name)
    sentence = said(OSError(number, os.strerror(number), "/somewhere/07-render/kept"))
    assert sentence.startswith("/somewhere/07-render/kept: ") and sentence.endswith(" and run the same command again")
    assert "\n" not in sentence and "Errno" not in sentence


@pytest.mark.parametrize("name", NUMBERS)
def test_libraries_that_lose_the_number_or_the_type_are_understood(name: str) -> None:
    number = getattr(errno, name)
    text = f"{os.strerror(number)} (os error {number})"
    own = said(OSError(number, os.strerror(number), "/a/b")).removeprefix("/a/b: ")
    assert said(pl.exceptions.ComputeError(f"parquet: underlying IO error: {text}")) == own
    assert said(pl.exceptions.ComputeError(f"underlying IO error: {os.strerror(number)}")) == own
    assert said(OSError(f"{text}: /a/b")) == f"/a/b: {own}"
    assert said(OSError(number, f"Error writing bytes to file. Detail: [errno {number}] {os.strerror(number)}")) == own
    assert said(Exception(text)) == own  # tokenizers


def test_what_the_libraries_themselves_raise_is_understood(tmp_path: Path) -> None:
    rows = pl.DataFrame({"a": range(100_000)})
    full = tmp_path / "full"
    for write in (rows.write_parquet, lambda path: pq.write_table(rows.to_arrow(), path)):
        full.unlink(missing_ok=True)
        full.symlink_to("/dev/full")  # never the device itself: pyarrow deletes what it could not write
        with pytest.raises(MachineError, match="the disk is full"), faults.one_sentence():
            write(full)
    for read in (pl.read_parquet, pq.read_table, Path.read_bytes):
        with pytest.raises(MachineError, match=f"{tmp_path}/none: it is not there"), faults.one_sentence():
            read(tmp_path / "none")


def test_a_temporary_is_called_by_the_name_that_it_would_have_taken() -> None:
    held = "/w/.02-filter.0123456789abcdef/kept/.part-00000.parquet.77-1234-0a1b2c.tmp"
    assert said(OSError(errno.EIO, "x", held)).startswith("/w/.02-filter.0123456789abcdef/kept/part-00000.parquet: ")
    assert said(OSError(errno.EIO, "x", "/w/.lock.json.1-2-aaaaaa.tmp", None, "/w/.lock.json")).startswith(
        "/w/.lock.json: "
    )


def test_errors_that_say_something_else_are_told_as_they_are() -> None:
    assert said(OSError("the moon is full.\nmore")) == "the moon is full; see to that and run the same command again"
    assert "no memory left" in said(MemoryError())


@pytest.mark.parametrize(
    "error",
    [
        DataError("the data says no"),
        ValueError("No space left on device (os error 28)"),
        KeyError("x"),
        pl.exceptions.ComputeError("the file must end with PAR1"),
        Exception("a mistake"),
    ],
)
def test_all_else_passes_as_it_is(error: Exception) -> None:
    with pytest.raises(type(error)) as caught, faults.one_sentence():
        raise error
    assert caught.value is error


def test_who_answers_an_error_itself_gets_it() -> None:
    with pytest.raises(BrokenPipeError), faults.one_sentence(but=(BrokenPipeError,)):
        raise BrokenPipeError
