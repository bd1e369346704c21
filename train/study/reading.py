"""Anybody's table of results as ours: CSV, JSON Lines or Parquet, columns by other names, several files at once.

    table = read([Path("a/budget.csv"), Path("b/budget.csv")], {"arm": "method", "value": "accuracy", "model": "@folder"})

`@folder` is the name of the folder that a file stands in, `@file` its own name without suffix. Where such a name says several
things, `@folder={arm}-{budget}-s{seed}` takes it to pieces; a pattern that begins with a text of its own, as in `me__{arm}`, may
leave out what stands before it.

The sample logs of lm-eval (``samples_<task>_<time>.jsonl``, an item a line) are known by their fields: the item is doc_id, the
task is in the file's name, and each file is one run, so that folders tell arm, budget and seed:

    tamis analyse runs/*/samples_*.jsonl --map "@folder={arm}-{budget}-s{seed},value=acc" --higher-is-better

Where answers were filtered in several ways, a metric's column is called by both, as in `exact_match:strict-match`.
"""

from __future__ import annotations

import gzip
import json
import math
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
PLACES = ("@folder", "@file")
_WHOLE = 2**53  # a whole number below it is one as a float, too
_SAMPLES = re.compile(r"samples_(?P<task>.+?)_\d{4}-\d{2}-\d{2}T")


def mapping(text: str) -> dict[str, str]:
    """`arm=method,budget=num_samples` as a dictionary. RequestError names a key that is none of ours, or a pattern's."""
    out: dict[str, str] = {}
    for part in filter(None, text.split(",")):
        ours, _, theirs = (piece.strip() for piece in part.partition("="))
        if ours not in (*NAMES, *PLACES) or not theirs:
            raise RequestError(
                f"--map {part}: write ours=theirs, where ours is one of {', '.join(NAMES)}{nearest(ours, NAMES)}"
            )
        if ours in PLACES:
            _pattern(theirs)
        if ours in out:
            raise RequestError(f"--map {part}: {ours} is {out[ours]} already")
        out[ours] = theirs
    return out


def _pattern(text: str) -> re.Pattern[str]:
    """`{arm}-{budget}` as an expression with a group a column."""
    pieces = re.split(r"\{(\w+)\}", text)
    inside = pieces[1::2]
    if not inside or not set(inside) <= set(NAMES) or len(set(inside)) < len(inside):
        raise RequestError(
            f"--map …={text}: write columns in braces, as in {{arm}}-{{budget}}-s{{seed}}; there are {', '.join(NAMES)}"
        )
    groups = [
        f"(?P<{piece}>{'[0-9]+' if _NUMBERS.get(piece) is int else '.+'})" if i % 2 else re.escape(piece)
        for i, piece in enumerate(pieces)
    ]
    return re.compile((".*" if pieces[0] else "") + "".join(groups))


def read(paths: Sequence[Path], named: Mapping[str, str]) -> pa.Table:
    """The rows of all files in our columns, those that the map names or that are there by our names, and `where` (file:line).

    Raises DataError: a file that is none of these kinds, a value that is no number. RequestError: a map that names no column.
    """
    columns: dict[str, list[Any]] = {}
    for path in paths:
        rows = list(_rows(path))
        if not rows:
            raise DataError(f"{path}: holds no row")
        own = _named(path, list(rows[0][1]), {k: v for k, v in named.items() if k not in PLACES})
        told = _told(path, named)
        for line, row in rows:
            for ours, text in told.items():
                columns.setdefault(ours, []).append(_value(path, line, ours, ours, {ours: text}))
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


def _told(path: Path, named: Mapping[str, str]) -> dict[str, str]:
    """What the names of a file and its folder say by the map's patterns."""
    told: dict[str, str] = {}
    for place in set(named) & set(PLACES):
        found = _pattern(named[place]).fullmatch(_place(path, place))
        if found is None:
            raise DataError(f"{path}: {place} is {_place(path, place)}, which is not of the kind {named[place]}")
        told |= found.groupdict()
    return told


def _place(path: Path, place: str) -> str:
    return path.resolve().parent.name if place == "@folder" else path.name.split(".")[0]


def _named(path: Path, there: list[str], named: Mapping[str, str]) -> dict[str, str]:
    for ours, theirs in named.items():
        if theirs not in (*there, *PLACES):
            raise RequestError(
                f"{path}: --map {ours}={theirs}: there is no column {theirs}{nearest(theirs, there)}; there are {', '.join(there)}, and "
                f"{' and '.join(PLACES)}"
            )
    return {**{name: name for name in NAMES if name in there and name not in named}, **named}


def _value(path: Path, line: int, ours: str, theirs: str, row: dict[str, Any]) -> Any:
    value = _place(path, theirs) if theirs in PLACES else row.get(theirs)
    kind = _NUMBERS.get(ours)
    if kind is None:
        if value in (None, "") and ours != "task":
            raise DataError(f"{path}:{line}: {theirs} is empty, and every row has its {ours}")
        return None if value is None else str(value)
    try:
        number = float(value)  # pyright: ignore
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number) or (kind is int and (number != int(number) or abs(number) > _WHOLE)):
        what = "a whole number" if kind is int else "a finite number"
        raise DataError(f"{path}:{line}: {theirs} is {value!r:.60}, and {ours} is {what}")
    return kind(number)


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
    rows = list(_objects(path))
    is_log = all("doc_id" in row and ("resps" in row or "filtered_resps" in row) for _, row in rows)
    return _samples(path, rows) if is_log else iter(rows)


def _samples(path: Path, rows: list[tuple[int, dict[str, Any]]]) -> Iterator[tuple[int, dict[str, Any]]]:
    """The items of lm-eval's log. Where it has a row an item and filter, these are one, and metrics have the filter's name too."""
    log = _SAMPLES.match(path.name)
    task = log["task"] if log else path.name.split(".")[0]
    several = len({row.get("filter") for _, row in rows}) > 1
    items: dict[Any, tuple[int, dict[str, Any]]] = {}
    for line, row in rows:
        if several:
            metrics = {f"{name}:{row['filter']}": row.get(name) for name in row.get("metrics", ())}
            items.setdefault(row["doc_id"], (line, {}))[1].update(metrics)
        else:
            items[line] = line, row
        items[row["doc_id"] if several else line][1].update(task=task, item=f"{task}/{row['doc_id']}")
    yield from items.values()


def _objects(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line, object). Lines end with a newline and nothing else: texts in JSON may hold U+2028 and its like as they are."""
    for number, line in enumerate(_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise DataError(f"{path}:{number}: is no JSON ({error}); JSON Lines have an object a line") from None
        if not isinstance(row, dict):
            raise DataError(f"{path}:{number}: is no object; JSON Lines have one a line")
        yield number, row
