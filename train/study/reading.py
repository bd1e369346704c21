"""Anybody's table of results as ours: CSV, JSON Lines or Parquet, columns by other names, several files at once.

    table = read([Path("a/budget.csv"), Path("b/budget.csv")], {"arm": "method", "value": "accuracy", "model": "@folder"})

`@folder` is the name of the folder that a file stands in, `@file` its own name without suffix. The sample logs of lm-eval
(``samples_<task>_<time>.jsonl``, an item a line) are known by their fields: the item is doc_id, the task is in the file's name.
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from curate.contract.errors import DataError, RequestError
from curate.contract.methods import nearest

NAMES = ("arm", "budget", "draw", "seed", "item", "task", "model", "value", "bits", "bytes")
_NUMBERS = {"budget": int, "draw": int, "seed": int, "value": float, "bits": float, "bytes": float}
_PLACES = ("@folder", "@file")
_SAMPLES = re.compile(r"samples_(?P<task>.+?)_\d{4}-\d{2}-\d{2}T")


def mapping(text: str) -> dict[str, str]:
    """`arm=method,budget=num_samples` as a dictionary. RequestError names a key that is none of ours."""
    out: dict[str, str] = {}
    for part in filter(None, text.split(",")):
        ours, _, theirs = (piece.strip() for piece in part.partition("="))
        if ours not in NAMES or not theirs:
            raise RequestError(
                f"--map {part}: write ours=theirs, where ours is one of {', '.join(NAMES)}{nearest(ours, NAMES)}"
            )
        out[ours] = theirs
    return out


def read(paths: Sequence[Path], named: Mapping[str, str]) -> pa.Table:
    """The rows of all files in our columns, those that the map names or that are there by our names, and `where` (file:line).

    Raises DataError: a file that is none of these kinds, a value that is no number. RequestError: a map that names no column.
    """
    columns: dict[str, list[Any]] = {}
    for path in paths:
        rows = list(_rows(path))
        if not rows:
            raise DataError(f"{path}: holds no row")
        there = [name for name in rows[0][1] if isinstance(name, str)]
        own = _named(path, there, named)
        for line, row in rows:
            for ours, theirs in own.items():
                columns.setdefault(ours, []).append(_value(path, line, ours, theirs, row))
            columns.setdefault("where", []).append(f"{path}:{line}")
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        short = min(lengths, key=lambda name: lengths[name])
        raise DataError(
            f"{', '.join(map(str, paths))}: the column {short} is not in every file; files that are read together have the same"
        )
    return pa.table(columns)


def _named(path: Path, there: list[str], named: Mapping[str, str]) -> dict[str, str]:
    for ours, theirs in named.items():
        if theirs not in (*there, *_PLACES):
            raise RequestError(
                f"{path}: --map {ours}={theirs}: there is no column {theirs}{nearest(theirs, there)}; there are {', '.join(there)}, and "
                f"{' and '.join(_PLACES)}"
            )
    return {**{name: name for name in NAMES if name in there and name not in named}, **named}


def _value(path: Path, line: int, ours: str, theirs: str, row: dict[str, Any]) -> Any:
    value = {"@folder": path.resolve().parent.name, "@file": path.name.split(".")[0]}.get(theirs, row.get(theirs))
    kind = _NUMBERS.get(ours)
    if kind is None:
        return None if value is None else str(value)
    try:
        number = float(value)  # pyright: ignore
        if kind is int and number != int(number):
            raise ValueError
        return kind(number)
    except (TypeError, ValueError, OverflowError):
        what = "a whole number" if kind is int else "a number"
        raise DataError(f"{path}:{line}: {theirs} is {value!r:.60}, and {ours} is {what}") from None


def _rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line, row) of a file."""
    if not path.is_file():
        raise RequestError(f"{path}: no such file")
    kind = next((s for s in reversed(path.suffixes) if s != ".gz"), "")
    if kind == ".parquet":
        try:
            yield from enumerate(pq.read_table(path).to_pylist(), start=1)
        except pa.ArrowInvalid as error:
            raise DataError(f"{path}: is no Parquet file ({str(error).splitlines()[0]})") from None
    elif kind in (".csv", ".tsv"):
        yield from _csv(path, "\t" if kind == ".tsv" else ",")
    elif kind in (".jsonl", ".ndjson", ".json"):
        yield from _jsonl(path)
    else:
        raise DataError(f"{path}: results are read from .csv, .tsv, .jsonl and .parquet files, .gz too")


def _text(path: Path) -> str:
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        return data.decode("utf-8-sig")
    except (UnicodeDecodeError, gzip.BadGzipFile, EOFError) as error:
        raise DataError(f"{path}: is no text in UTF-8 ({error})") from None


def _csv(path: Path, separator: str) -> Iterator[tuple[int, dict[str, Any]]]:
    import csv
    import io

    reader = csv.reader(io.StringIO(_text(path), newline=""), delimiter=separator, strict=True)
    try:
        header = next(reader, [])
        if len(header) < 2 or len(set(header)) < len(header):
            raise DataError(f"{path}: its first line names no table of columns ({', '.join(header)!r:.60})")
        for cells in reader:
            if not cells:
                continue
            if len(cells) != len(header):
                raise DataError(
                    f"{path}:{reader.line_num}: has {len(cells)} values under {len(header)} columns; this is no CSV, or a value with a "
                    "comma lacks its quotes"
                )
            yield reader.line_num, dict(zip(header, cells, strict=True))
    except csv.Error as error:
        raise DataError(f"{path}:{reader.line_num}: is no CSV ({error})") from None


def _jsonl(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    log = _SAMPLES.match(path.name)
    for number, line in enumerate(_text(path).splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise DataError(f"{path}:{number}: is no JSON ({error}); JSON Lines have an object a line") from None
        if not isinstance(row, dict):
            raise DataError(f"{path}:{number}: is no object; JSON Lines have one a line")
        if "doc_id" in row and ("resps" in row or "filtered_resps" in row):  # a sample log of lm-eval
            task = log["task"] if log else path.name.split(".")[0]
            row = {**row, "task": task, "item": f"{task}/{row['doc_id']}"}
        yield number, row
