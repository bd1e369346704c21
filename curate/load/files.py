"""Files on disk: JSON Lines, a JSON array, CSV, TSV, Parquet, each also gzipped; one path, a glob, a folder, or a list.

    - files: {path: alpaca/*.jsonl, license: cc-by-nc-4.0}
    - files: {path: sst2/train.tsv.gz, header: [sentence, label], template: flan/sentiment/sst2}
    - files: {path: piqa/valid.jsonl, labels: piqa/valid-labels.lst, template: flan/commonsense/piqa}

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

import codecs
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

from curate.contract.errors import SourceError
from curate.contract.files import sha256
from curate.load import delimited, json_rows
from curate.load.found import Found
from curate.load.records import Raw

_Reader = Callable[[IO[bytes], Path, list[str] | None], Iterator[Found]]
_OTHERS = {  # what a file may be in place of text, by its first bytes
    codecs.BOM_UTF16_LE: "UTF-16, and only UTF-8 is read; convert it, as with `iconv -f utf-16 -t utf-8`",
    codecs.BOM_UTF16_BE: "UTF-16, and only UTF-8 is read; convert it, as with `iconv -f utf-16 -t utf-8`",
    b"\x1f\x8b": "gzip, which its name does not say; add .gz to it",
    b"PK\x03\x04": "a zip archive; unpack it",
}
_SPLITS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing"),
}


def load(
    *, path: str | list[str], header: list[str] | None = None, labels: str | None = None, data: Path
) -> Iterator[Raw]:
    """Rows of files.

    path: a file, a folder, a glob (``**`` for any depth), or a list of these, relative to the data folder. header: the
    columns' names, for CSV and TSV without a first line of names. labels: a second file, a label a line for each row of the
    one file that `path` names, in the same order; it becomes the column `label`. A row's key is its file's path, relative to the data
    folder, with its line (JSON Lines, CSV, TSV) or its number (JSON array, Parquet). Raises SourceError: nothing matches, an
    unknown ending, an empty file, a file that is broken as a whole.
    """
    files = _files(path, data)
    given = None if labels is None else _labels(labels, files, data)
    for file in files:
        relative = Path(os.path.relpath(file, data)).as_posix()
        reader, unit = _READERS[_ending(file)]
        if header is not None and reader not in (delimited.csv_rows, delimited.tsv_rows):
            raise SourceError(
                f"{file}: `header` names the columns of CSV and TSV files only; remove it from this source"
            )
        name, split, number = str(file), _split(file), 0
        for number, size, fields, fault, text in _guarded(reader, file, header):
            problem, raw = (None, None) if fault is None else fault
            place = f"{relative}{unit}{number}"
            if given is not None:
                if fields is not None and "label" in fields:
                    raise SourceError(
                        f"{place}: the row has a column `label`, so `labels` cannot add one; leave it out"
                    )
                label = next(given, None)
                if label is None:
                    raise SourceError(
                        f"{place}: {data / str(labels)} has no label for this row; it ends before the rows do, so give the "
                        "labels of this very file, one a line"
                    )
                fields, text = None if fields is None else {**fields, "label": label}, None
            yield Raw(f"{relative}#{number}", fields, place, problem, name, split, None, None, None, size, raw, text)
        if not number:
            raise SourceError(f"{file}: the file holds no row; take it out of `path`, or write it again")
    if given is not None and (more := sum(1 for _ in given)):
        raise SourceError(
            f"{data / str(labels)}: there are {more:,} more labels than rows in {files[0]}; give the file of these rows"
        )


def describe(*, path: str | list[str], header: list[str] | None, labels: str | None = None) -> str:
    """The file's stem, or its folder where the stem is a split's name or a pattern: sst2/train.tsv.gz is "sst2"."""
    del header, labels
    parts = [
        part
        for part in Path(path[0] if isinstance(path, list) and path else str(path)).parts
        if part not in ("/", "..")
    ]
    stems = [part.split(".")[0] if number == len(parts) - 1 else part for number, part in enumerate(parts)]
    said = [stem for stem in stems if stem and not glob.has_magic(stem)]
    telling = [stem for stem in said if _split_word(stem) is None]
    return (telling or said or ["files"])[-1]


def fingerprint(
    *, path: str | list[str], header: list[str] | None, labels: str | None = None, data: Path
) -> dict[str, Any]:
    """Each file's path and SHA-256, about a second a gigabyte."""
    del header
    files = [*_files(path, data), *([_labels_file(labels, data)] if labels is not None else [])]
    return {"files": {Path(os.path.relpath(file, data)).as_posix(): sha256(file) for file in files}}


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
    if start.is_dir():
        inside = [file for file in sorted(start.rglob("*")) if _format(file) and not file.is_dir()]
        found = [file for file in inside if not any(part.startswith(".") for part in file.relative_to(start).parts)]
    elif start.exists() or start.is_symlink():
        found = [start]
    else:
        named = map(Path, sorted(glob.glob(str(start), recursive=True)))
        found = [file for file in named if not file.is_dir()]
    for file in found:
        if not file.is_file():
            what = "a pipe or a device, and no file" if file.exists() else "a link to nothing"
            raise SourceError(f"{file}: this is {what}; take it out of `path`, or put the file there")
        _ending(file)
    return found


def _labels_file(labels: str, data: Path) -> Path:
    file = data / Path(labels).expanduser()
    if not file.is_file():
        raise SourceError(f"there is no file of labels '{labels}' in {data}{_near(file)}")
    return file


def _labels(labels: str, files: list[Path], data: Path) -> Iterator[str]:
    """A label a line, without the white space around it. Raises SourceError with file:line."""
    file = _labels_file(labels, data)
    if len(files) != 1:
        raise SourceError(
            f"`labels` are those of one file, and `path` names {len(files):,}; give each file a source of its own"
        )
    content = file.read_bytes()
    try:
        lines = (gzip.decompress(content) if file.suffix == ".gz" else content).decode("utf-8-sig").splitlines()
    except (UnicodeDecodeError, OSError, EOFError, zlib.error) as error:
        raise SourceError(f"{file}: the labels cannot be read as UTF-8 text: {error}") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            raise SourceError(f"{file}:{number}: this line holds no label; write one a row, or take the line out")
    return map(str.strip, lines)


def _near(path: Path) -> str:
    if path.is_dir():
        return f": the folder holds no file whose ending is one of {', '.join(_READERS)}"
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


def _guarded(reader: _Reader, file: Path, header: list[str] | None) -> Iterator[Found]:
    """The reader's rows; a file that is broken as a whole becomes one sentence."""
    try:
        with open(file, "rb") as raw:
            if file.suffix == ".gz":
                with gzip.open(raw) as unzipped:
                    yield from _read(reader, io.BufferedReader(unzipped, 1 << 20), file, header)  # type: ignore[arg-type]
            else:
                yield from _read(reader, raw, file, header)
    except (OSError, EOFError, zlib.error) as error:
        raise SourceError(f"{file}: the file cannot be read ({_in_one_line(error)}); get it again") from error


def _read(reader: _Reader, stream: io.BufferedReader, file: Path, header: list[str] | None) -> Iterator[Found]:
    start = stream.peek(4)[:4]
    other = next((what for mark, what in _OTHERS.items() if start.startswith(mark)), None)
    if other is None and b"\0" in start:
        other = "UTF-16 or no text at all, and only UTF-8 is read; convert it, as with `iconv -f utf-16 -t utf-8`"
    if other is not None:
        raise SourceError(f"{file}: the file is {other}")
    yield from reader(stream, file, header)


def _parquet(stream: IO[bytes], file: Path, header: list[str] | None) -> Iterator[Found]:
    del header
    import pyarrow as pa
    import pyarrow.parquet as pq

    from curate.load import arrow

    try:
        table = pq.ParquetFile(pa.BufferReader(stream.read()) if file.suffix == ".gz" else stream)
        arrow.checked(table.schema_arrow, str(file))
        found = arrow.rows(table.iter_batches(batch_size=10_000))
        yield from ((number, 0, *row, None) for number, row in enumerate(found, start=1))
    except pa.ArrowException as error:
        raise SourceError(
            f"{file}: the file is not Parquet that can be read ({_in_one_line(error)}); get it again"
        ) from error


def _in_one_line(error: BaseException) -> str:
    return " ".join(str(error).split())


_READERS: dict[str, tuple[_Reader, str]] = {
    ".jsonl": (json_rows.lines, ":"),
    ".ndjson": (json_rows.lines, ":"),
    ".json": (json_rows.array, ":row:"),
    ".csv": (delimited.csv_rows, ":"),
    ".tsv": (delimited.tsv_rows, ":"),
    ".parquet": (_parquet, ":row:"),
}
