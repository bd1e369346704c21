"""Files on disk: JSON Lines, a JSON array, CSV, TSV, Parquet, each also gzipped; one path, a glob, a folder, or a list.

    - files: {path: alpaca/*.jsonl, license: cc-by-nc-4.0}
    - files: {path: sst2/train.tsv.gz, header: [sentence, label], template: flan/sentiment/sst2}

The ending says the format:

    .jsonl .ndjson   one JSON object a line; blank lines are passed over
    .json            an array of objects; else read as JSON Lines
    .csv             RFC 4180, comma, double quotes, line breaks inside quotes; the first line names the columns
    .tsv             text/tab-separated-values of IANA: no quoting, so that a quotation mark is a letter
    .parquet         any column that JSON can say; binary ones only where they hold UTF-8

All text is UTF-8, with or without a byte order mark. A folder is read with all that is in it; files go by their path in
alphabetical order. Cost: one pass, in memory one row at a time, except a JSON array, which is read whole.
"""

from __future__ import annotations

import csv
import difflib
import glob
import gzip
import io
import os
import re
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import orjson

from curate.contract.errors import SourceError
from curate.contract.files import sha256
from curate.load.records import Raw, plain

_Row = tuple[int, dict[str, Any] | None, str | None]  # number, columns, problem
_Reader = Callable[[IO[bytes], Path, list[str] | None], Iterator[_Row]]
_BOM = b"\xef\xbb\xbf"
_SPLITS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing"),
}


def load(*, path: str | list[str], header: list[str] | None = None, data: Path) -> Iterator[Raw]:
    """Rows of files.

    path: a file, a folder, a glob (``**`` for any depth), or a list of these, relative to the data folder. header: the
    columns' names, for CSV and TSV without a first line of names. A row's key is its file's path, relative to the data
    folder, with its line (JSON Lines, CSV, TSV) or its number (JSON array, Parquet). Raises SourceError: nothing matches, an
    unknown ending, an empty file, a file that is broken as a whole.
    """
    for file in _files(path, data):
        relative = Path(os.path.relpath(file, data)).as_posix()
        reader, unit = _READERS[_ending(file)]
        if header is not None and reader not in (_csv, _tsv):
            raise SourceError(
                f"{file}: `header` names the columns of CSV and TSV files only; remove it from this source"
            )
        split, number = _split(file), 0
        for number, fields, problem in _guarded(reader, file, header):
            yield Raw(f"{relative}#{number}", fields, f"{relative}{unit}{number}", problem, str(file), split)
        if not number:
            raise SourceError(f"{file}: the file holds no row; take it out of `path`, or write it again")


def describe(*, path: str | list[str], header: list[str] | None) -> str:
    """The file's stem, or its folder where the stem is a split's name or a pattern: sst2/train.tsv.gz is "sst2"."""
    del header
    parts = [
        part
        for part in Path(path[0] if isinstance(path, list) and path else str(path)).parts
        if part not in ("/", "..")
    ]
    stems = [part.split(".")[0] if number == len(parts) - 1 else part for number, part in enumerate(parts)]
    said = [stem for stem in stems if stem and not glob.has_magic(stem)]
    telling = [stem for stem in said if _split_word(stem) is None]
    return (telling or said or ["files"])[-1]


def fingerprint(*, path: str | list[str], header: list[str] | None, data: Path) -> dict[str, Any]:
    """Each file's path and SHA-256, about a second a gigabyte."""
    del header
    return {"files": {Path(os.path.relpath(file, data)).as_posix(): sha256(file) for file in _files(path, data)}}


# --- which files -----------------------------------------------------------------------------------------------------


def _files(path: str | list[str], data: Path) -> list[Path]:
    files: dict[Path, None] = {}
    for one in [path] if isinstance(path, str) else path:
        matches = _matches(one, data)
        if not matches:
            raise SourceError(f"nothing matches the path '{one}' in {data}{_near(data / Path(one).expanduser())}")
        files |= dict.fromkeys(matches)
    return list(files)


def _matches(path: str, data: Path) -> list[Path]:
    start = data / Path(path).expanduser()
    if start.is_file():
        _ending(start)
        return [start]
    if start.is_dir():
        inside = sorted(start.rglob("*"))
        return [
            file
            for file in inside
            if file.is_file()
            and _format(file)
            and not any(part.startswith(".") for part in file.relative_to(start).parts)
        ]
    return [
        file
        for name in sorted(glob.glob(str(start), recursive=True))
        if (file := Path(name)).is_file() and _ending(file)
    ]


def _near(path: Path) -> str:
    beside = sorted(entry.name for entry in path.parent.iterdir()) if path.parent.is_dir() else []
    close = difflib.get_close_matches(path.name, beside, n=1, cutoff=0.5)
    return (
        f". Did you mean '{close[0]}'?" if close else "; paths hang from the recipe's `data:` folder (or --set data=…)"
    )


def _format(file: Path) -> str | None:
    ending = Path(file.name.removesuffix(".gz")).suffix.lower()
    return ending if ending in _READERS else None


def _ending(file: Path) -> str:
    ending = _format(file)
    if ending is None:
        raise SourceError(f"{file}: the ending says no format; it may be {', '.join(_READERS)}, each also with .gz")
    return ending


def _split(file: Path) -> str | None:
    """The split that the file's name says, or None: "train.tsv.gz" and "lima_test_set.jsonl" do."""
    words = re.split(r"[^a-z]+", file.name.split(".")[0].lower())
    return next((split for word in words if (split := _split_word(word))), None)


def _split_word(word: str) -> str | None:
    return next((split for split, words in _SPLITS.items() if word.lower() in words), None)


# --- formats ---------------------------------------------------------------------------------------------------------


def _guarded(reader: _Reader, file: Path, header: list[str] | None) -> Iterator[_Row]:
    """The reader's rows; a file that is broken as a whole becomes one sentence."""
    try:
        with open(file, "rb") as raw:
            if file.suffix == ".gz":
                with gzip.open(raw) as unzipped:
                    yield from reader(io.BufferedReader(unzipped, 1 << 20), file, header)  # type: ignore[arg-type]
            else:
                yield from reader(raw, file, header)
    except (OSError, EOFError, zlib.error) as error:
        raise SourceError(f"{file}: the file cannot be read ({error}); get it again") from error


def _jsonl(stream: IO[bytes], file: Path, header: list[str] | None) -> Iterator[_Row]:
    del file, header
    for number, line in enumerate(stream, start=1):
        if number == 1:
            line = line.removeprefix(_BOM)
        if not line.isspace() and line:
            yield number, *_object(line)


def _object(line: bytes) -> tuple[dict[str, Any] | None, str | None]:
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None, _fault(line.rstrip(b"\r\n"))[1]
    return (value, None) if isinstance(value, dict) else (None, _not_a_mapping(value))


def _fault(text: bytes) -> tuple[int, str]:
    """The line of what is wrong with a text that is not JSON, and what it is."""
    try:
        orjson.loads(text.decode())
        return 1, "not JSON"
    except UnicodeDecodeError as error:
        line, start = text.count(b"\n", 0, error.start) + 1, text.rfind(b"\n", 0, error.start)
        return line, f"not UTF-8, the byte 0x{text[error.start]:02x} at column {error.start - start}"
    except orjson.JSONDecodeError as error:
        return error.lineno, f"not JSON, {error.msg} at column {error.colno}"


def _not_a_mapping(value: Any) -> str:
    word = {list: "an array", str: "a text", type(None): "null", bool: "true or false"}.get(type(value), "a number")
    return f"{word}, and not an object with columns"


def _json(stream: IO[bytes], file: Path, header: list[str] | None) -> Iterator[_Row]:
    text = stream.read().removeprefix(_BOM)
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        if not text.strip():
            return
        if text.lstrip()[:1] == b"{":
            yield from _jsonl(io.BytesIO(text), file, header)
            return
        line, fault = _fault(text)
        raise SourceError(f"{file}:{line}: the file is {fault}; an array is read whole, so mend it") from error
    for number, row in enumerate(value if isinstance(value, list) else [value], start=1):
        yield (number, row, None) if isinstance(row, dict) else (number, None, _not_a_mapping(row))


def _csv(stream: IO[bytes], file: Path, header: list[str] | None) -> Iterator[_Row]:
    csv.field_size_limit(2**31 - 1)
    with io.TextIOWrapper(stream, "utf-8-sig", errors="surrogateescape", newline="") as text:
        yield from _csv_rows(csv.reader(text), file, header)


def _csv_rows(reader: Any, file: Path, header: list[str] | None) -> Iterator[_Row]:
    """The rows of a csv.reader, each with the line where it starts."""
    columns = _checked(header, file) if header else None
    while True:
        line = reader.line_num + 1  # of the row's start: a row may span lines
        try:
            cells = next(reader, None)
        except csv.Error as error:
            yield line, None, f"not CSV, {error}"
            continue
        if cells is None:
            return
        if not cells:
            continue
        if columns is None:
            columns = _checked(cells, file)
        else:
            yield line, *_row(columns, cells)


def _tsv(stream: IO[bytes], file: Path, header: list[str] | None) -> Iterator[_Row]:
    columns = _checked(header, file) if header else None
    for number, line in enumerate(stream, start=1):
        text = (line.removeprefix(_BOM) if number == 1 else line).decode("utf-8", "surrogateescape").rstrip("\r\n")
        if not text:
            continue
        if columns is None:
            columns = _checked(text.split("\t"), file)
        else:
            yield number, *_row(columns, text.split("\t"))


def _row(columns: list[str], cells: list[str]) -> tuple[dict[str, Any] | None, str | None]:
    if len(cells) != len(columns):
        quote = " (is a quote never closed?)" if any("\n" in cell for cell in cells) else ""
        return None, f"{len(cells)} cell{'s'[: len(cells) > 1]} for {len(columns)} columns{quote}"
    if _undecoded(cells):
        return None, "not UTF-8"
    return dict(zip(columns, cells, strict=True)), None


def _undecoded(cells: list[str]) -> bool:
    try:
        "".join(cells).encode()
    except UnicodeEncodeError:  # surrogates stand for the bytes that were not UTF-8
        return True
    return False


def _checked(columns: list[str], file: Path) -> list[str]:
    twice = sorted({column for column in columns if columns.count(column) > 1})
    if twice or _undecoded(columns):
        why = f"two columns are called '{twice[0]}'" if twice else "the header is not UTF-8"
        raise SourceError(
            f"{file}: {why}; mend the first line, or name the columns with `header: […]` where it is a row"
        )
    return columns


def _parquet(stream: IO[bytes], file: Path, header: list[str] | None) -> Iterator[_Row]:
    del header
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(pa.BufferReader(stream.read()) if file.suffix == ".gz" else stream)
        number = 0
        for batch in table.iter_batches(batch_size=10_000):
            for row in batch.to_pylist():
                number += 1
                yield number, *_plain(row)
    except pa.ArrowException as error:
        raise SourceError(f"{file}: the file is not Parquet that can be read ({error}); get it again") from error


def _plain(row: dict[str, Any]) -> tuple[dict[str, Any] | None, str | None]:
    try:
        return plain(row), None
    except (TypeError, UnicodeDecodeError):
        return None, f"binary data in one of the columns {', '.join(row)}"


_READERS: dict[str, tuple[_Reader, str]] = {
    ".jsonl": (_jsonl, ":"),
    ".ndjson": (_jsonl, ":"),
    ".json": (_json, ":row:"),
    ".csv": (_csv, ":"),
    ".tsv": (_tsv, ":"),
    ".parquet": (_parquet, ":row:"),
}
