"""Rows of CSV (RFC 4180) and of TSV (no quoting), each with the line where it starts.

A quote that is never closed takes the rest of the file for one cell, and one that a later, stray quote closes takes all that
lies between. Neither passes for a row: after a closing quote only a comma or the end of a line may stand; and a row of 1,000
lines of which each alone has as many cells as the table has columns is a quote that should have closed at once.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from curate.contract.errors import SourceError
from curate.load.found import Fault, Found
from curate.load.json_rows import BOM

LONGEST = 2**25  # characters of a cell: behind a quote that never closes lies all of a file
_MANY = 1_000  # lines of one row that are looked at
_QUOTED = re.compile(r'"[^"]*+(?:""[^"]*+)*+')  # a quoted cell, without its closing quote
_BARE = re.compile(r"[^,\r\n]*+")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f]")


def csv_rows(stream: IO[bytes], file: Path, header: list[str] | None) -> Iterator[Found]:
    """Raises SourceError: the header is no list of different names."""
    csv.field_size_limit(LONGEST)
    with io.TextIOWrapper(stream, "utf-8-sig", errors="surrogateescape", newline="") as text:
        lines: list[str] = []  # of the row that is being read
        yield from _csv_rows(csv.reader(_noted(text, lines), strict=True), lines, file, header)


def _noted(text: Iterator[str], lines: list[str]) -> Iterator[str]:
    for line in text:
        lines.append(line)
        yield line


def _csv_rows(reader: Any, lines: list[str], file: Path, header: list[str] | None) -> Iterator[Found]:
    columns = checked(header, file) if header else None
    while True:
        number = reader.line_num + 1
        lines.clear()
        problem, cells = None, None
        try:
            cells = next(reader, None)
        except csv.Error as error:
            problem = _not_csv(lines, number, error)
        if problem is None and cells is None:
            return
        if columns is None:
            if problem is not None:
                raise SourceError(f"{file}:{number}: the line of the columns' names is {problem}; mend it")
            columns = checked(cells, file) if cells else None
        elif problem is not None or cells:
            size = sum(map(_bytes_of, lines))
            problem = problem or _amiss(columns, cells or [], lines, number)
            if problem is None:
                yield number, size, dict(zip(columns, cells or [], strict=True)), None, None
            else:
                yield number, size, None, Fault(problem, "".join(lines).encode("utf-8", "surrogateescape")), None


def tsv_rows(stream: IO[bytes], file: Path, header: list[str] | None) -> Iterator[Found]:
    """Raises SourceError: the header is no list of different names."""
    columns = checked(header, file) if header else None
    for number, line in enumerate(stream, start=1):
        text = (line.removeprefix(BOM) if number == 1 else line).decode("utf-8", "surrogateescape").rstrip("\r\n")
        if not text:
            continue
        cells = text.split("\t")
        if columns is None:
            columns = checked(cells, file)
        elif problem := _amiss(columns, cells):
            yield number, len(line), None, Fault(problem, line), None
        else:
            yield number, len(line), dict(zip(columns, cells, strict=True)), None, None


def checked(columns: list[str], file: Path) -> list[str]:
    """The columns' names. Raises SourceError: two are alike, or they are no text."""
    twice = sorted({column for column in columns if columns.count(column) > 1})
    control = next((found for column in columns if (found := _CONTROL.search(column))), None)
    if twice or control or _undecoded(columns):
        why = "the header is not UTF-8"
        if control:
            why = f"the header holds the byte 0x{ord(control[0]):02x}, so this is no text or its lines end otherwise than in \\n"
        elif twice:
            why = f"two columns are called '{twice[0]}'"
        raise SourceError(
            f"{file}: {why}; mend the first line, or name the columns with `header: […]` where it is a row"
        )
    return columns


# --- what is wrong with a row ----------------------------------------------------------------------------------------


def _amiss(columns: list[str], cells: list[str], lines: Sequence[str] = (), number: int = 0) -> str | None:
    """What is wrong with the cells of a row, or None. lines, number: of a CSV row that spans lines, and its first."""
    if len(cells) != len(columns):
        problem = f"{len(cells)} cell{'s'[: len(cells) > 1]} for {len(columns)} columns"
        if len(lines) > 1:
            opens, _ = _longest_quote(lines)
            problem += f" (is the quote at line {number + opens} closed where it should be?)"
        return problem
    if _undecoded(cells):
        return "not UTF-8"
    if len(lines) > _MANY and _swallowed(lines, len(columns)):
        opens, closes = _longest_quote(lines)
        return (
            f"a quote opens at line {number + opens} and closes at line {number + closes}, and the lines between are rows "
            "themselves; close it where its cell ends"
        )
    return None


def _undecoded(cells: list[str]) -> bool:
    try:
        "".join(cells).encode()
    except UnicodeEncodeError:  # surrogates stand for the bytes that were not UTF-8
        return True
    return False


def _bytes_of(line: str) -> int:
    return len(line) if line.isascii() else len(line.encode("utf-8", "surrogateescape"))


def _swallowed(lines: Sequence[str], columns: int) -> bool:
    """Whether the lines of one row are rows of the table themselves: the first, the last and 95 % of the others have its
    number of cells where a quote is a letter."""
    rows = sum(line.count(",") == columns - 1 for line in lines)
    ends = (lines[0].count(","), lines[-1].count(",")) == (columns - 1, columns - 1)
    return columns > 1 and ends and rows >= 0.95 * len(lines) and not lines[-1].startswith('"')


def _not_csv(lines: Sequence[str], number: int, error: csv.Error) -> str:
    """What the reader stumbled over, with the line of the quote that is to blame."""
    if "field limit" in str(error):
        opens, _ = _longest_quote(lines)
        return f"not CSV: a cell is longer than {LONGEST:,} characters (is the quote at line {number + opens} closed?)"
    *_, (opens, closes) = _quotes(lines)
    where = f"not CSV: a quote opens at line {number + opens}"
    if "end of data" in str(error):
        return f"{where} and is never closed, so that {len(lines) - opens:,} lines stand in one cell"
    return f"{where} and closes at line {number + closes} with more text behind it; inside quotes a quotation mark is written twice"


def _longest_quote(lines: Sequence[str]) -> tuple[int, int]:
    return max(_quotes(lines), key=lambda quote: quote[1] - quote[0], default=(0, 0))


def _quotes(lines: Sequence[str]) -> Iterator[tuple[int, int]]:
    """The quoted cells of a row, each as the places among its lines where it opens and closes. The last one may never close,
    or close before more text; nothing is read after it."""
    text, at, line = "".join(lines), 0, 0
    while at < len(text):
        if text[at] != '"':
            at = _BARE.match(text, at).end() + 1  # type: ignore[union-attr]
            continue
        end = _QUOTED.match(text, at).end()  # type: ignore[union-attr]
        breaks = len(re.findall(r"\r\n|\r|\n", text[at:end]))
        yield line, line + breaks
        if text[end + 1 : end + 2] not in (",", "\r", "\n", ""):
            return
        at, line = end + 2, line + breaks
