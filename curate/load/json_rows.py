"""Rows of JSON Lines and of a JSON array, with nothing changed on the way: integers keep all their digits, and an object in
which a key stands twice is refused, since only one of its values could be kept.

orjson reads a row in less than a microsecond and tells neither; so what it read is written again, and where the row has more
quotation marks than that, or a float that may have been a longer integer, the standard library reads it a second time.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import orjson

from curate.contract.errors import SourceError
from curate.load.found import Fault, Found
from curate.rows.fields import has_long_number

BOM = b"\xef\xbb\xbf"
_BLANKS = re.compile(r"[ \t\n\r]*")
_TOO_DEEP = "nested more than 254 levels deep"


def lines(stream: IO[bytes], file: Path, header: list[str] | None) -> Iterator[Found]:
    """One JSON object a line; blank lines are passed over."""
    del file, header
    for number, line in enumerate(stream, start=1):
        if number == 1:
            line = line.removeprefix(BOM)
        if line and not line.isspace():
            columns, fault, text = _object(line)
            yield number, len(line), columns, fault, text


def array(stream: IO[bytes], file: Path, header: list[str] | None) -> Iterator[Found]:
    """The objects of one array, or a single object, read whole; a file of several objects is read as lines. Raises
    SourceError: the text is broken between the items of the array."""
    del header
    text = stream.read().removeprefix(BOM)
    first = text.lstrip()[:1]
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        if first == b"[":
            yield from _items(text, file)
        elif first == b"{":
            yield from lines(io.BytesIO(text), file, None)
        elif first:
            raise _broken(text, file) from error
        return
    if not isinstance(value, list):
        yield 1, len(text), *_object(text)
    elif _all_sure(text, value):
        yield from ((number, 0, item, None, None) for number, item in enumerate(value, start=1))
    else:
        yield from _items(text, file)


def _items(text: bytes, file: Path) -> Iterator[Found]:
    """Item by item, so that a bad one costs no other."""
    whole = text.decode("utf-8", "surrogateescape")
    scan, number = json.JSONDecoder().raw_decode, 0
    at = _after_blanks(whole, whole.index("[") + 1)
    while number or whole[at : at + 1] != "]":
        try:
            end = scan(whole, at)[1]
        except (ValueError, RecursionError) as error:
            raise _broken(text, file) from error
        item = whole[at:end].encode("utf-8", "surrogateescape")
        number += 1
        yield number, len(item), *_object(item)
        at = _after_blanks(whole, end)
        if whole[at : at + 1] != ",":
            break
        at = _after_blanks(whole, at + 1)
    if whole[at : at + 1] != "]" or _after_blanks(whole, at + 1) < len(whole):
        raise _broken(text, file)


def _after_blanks(text: str, at: int) -> int:
    return _BLANKS.match(text, at).end()  # type: ignore[union-attr]


def _broken(text: bytes, file: Path) -> SourceError:
    line, fault = _syntax(text)
    return SourceError(f"{file}:{line}: the file is {fault}; an array is read whole, so mend it")


# --- one object ------------------------------------------------------------------------------------------------------


def _object(text: bytes) -> tuple[dict[str, Any] | None, Fault | None, str | None]:
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None, Fault(_syntax(text.rstrip(b"\r\n"))[1], text), None
    if type(value) is not dict:
        return None, Fault(_not_a_mapping(value), text), None
    try:
        again = orjson.dumps(value)
        same = text.count(b'"') == again.count(b'"') and (b"\\" not in text or _no_other_marks(text))
        if same and not has_long_number(value):
            return value, None, again.decode()
        twice: list[str] = []
        value = json.loads(text, object_pairs_hook=lambda pairs: _mapping(pairs, twice))
    except (TypeError, RecursionError):
        return None, Fault(f"{_TOO_DEEP}; write the row flatter", text), None
    fault = Fault(f"the key `{twice[0]}` stands twice in one object", text) if twice else None
    return None if twice else value, fault, None


def _all_sure(text: bytes, rows: list[Any]) -> bool:
    """Whether the rows that orjson read of an array are all that it says, as ``_object`` asks of one."""
    marks = text.count(b'"') if _no_other_marks(text) else -1
    try:
        for row in rows:
            marks -= orjson.dumps(row).count(b'"')
            if type(row) is not dict or has_long_number(row):
                return False
    except TypeError:  # nested too deep to be written again
        return False
    return marks == 0


def _no_other_marks(text: bytes) -> bool:
    """Whether no quotation mark is written in another way than orjson's."""
    return b"\\u0022" not in text


def _mapping(pairs: list[tuple[str, Any]], twice: list[str]) -> dict[str, Any]:
    """The object of these pairs; keys that stand twice are added to the list."""
    made = dict(pairs)
    if len(made) < len(pairs):
        seen: set[str] = set()
        twice += [key for key, _ in pairs if key in seen or seen.add(key)]
    return made


def _syntax(text: bytes) -> tuple[int, str]:
    """The line of what is wrong with a text that is not JSON, and what it is."""
    try:
        orjson.loads(text.decode())
        return 1, _TOO_DEEP
    except UnicodeDecodeError as error:
        line, start = text.count(b"\n", 0, error.start) + 1, text.rfind(b"\n", 0, error.start)
        return line, f"not UTF-8, the byte 0x{text[error.start]:02x} at column {error.start - start}"
    except orjson.JSONDecodeError as error:
        return error.lineno, f"not JSON, {error.msg} at column {error.colno}"


def _not_a_mapping(value: Any) -> str:
    word = {list: "an array", str: "a text", type(None): "null", bool: "true or false"}.get(type(value), "a number")
    return f"{word}, and not an object with columns"
