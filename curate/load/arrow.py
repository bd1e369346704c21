"""Rows of Arrow tables, as Parquet files and `datasets` hold them, as JSON says them.

Times become ISO 8601, decimals and infinity text, NaN null, and binary columns are read where they hold UTF-8. A row with what
JSON cannot say even so (other bytes, a duration) is refused with the column's name.
"""

from __future__ import annotations

import datetime
import decimal
import math
from collections.abc import Iterable, Iterator
from typing import Any

import orjson
import pyarrow as pa

from curate.contract.errors import SourceError
from curate.load.found import Fault

_UNREADABLE = (UnicodeDecodeError, OverflowError, ValueError, pa.ArrowException)


def checked(schema: pa.Schema, place: str) -> None:
    """Raises SourceError: two columns, or two fields of one, have the same name, so that only one of them could be read."""
    for names, inside in _names(list(schema), ""):
        for name in names:
            if names.count(name) > 1:
                raise SourceError(
                    f"{place}: two columns{inside} are called '{name}'; write it again with different names"
                )


def _names(fields: list[pa.Field], path: str) -> Iterator[tuple[list[str], str]]:
    yield [field.name for field in fields], f" inside `{path}`" if path else ""
    for field in fields:
        inner = [field.type.field(i) for i in range(field.type.num_fields)]
        if inner:
            yield from _names(inner, f"{path}.{field.name}" if path else field.name)


def rows(batches: Iterable[pa.RecordBatch]) -> Iterator[tuple[dict[str, Any] | None, Fault | None]]:
    """Each row's columns, or why it cannot be read; the raw bytes of such a row are an Arrow stream that holds it alone."""
    for batch in batches:
        try:
            values = batch.to_pylist()
        except _UNREADABLE:  # one of them; which one is found row by row
            values = [None] * batch.num_rows
        for number, value in enumerate(values):
            fields, problem = _plain(value) if value is not None else _alone(batch, number)
            yield fields, None if problem is None else Fault(problem, _stream(batch.slice(number, 1)))


def _alone(batch: pa.RecordBatch, number: int) -> tuple[dict[str, Any] | None, str | None]:
    row = {}
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        try:
            row[name] = column[number].as_py()
        except _UNREADABLE as error:
            return None, f"the column `{name}` cannot be read: {' '.join(str(error).split())}"
    return _plain(row)


def _plain(row: dict[str, Any]) -> tuple[dict[str, Any] | None, str | None]:
    """The row as it will be read back from JSON, or what JSON cannot say of it."""
    try:
        text = orjson.dumps(row, default=_said)
        if b"null" in text and _infinite(row):
            text = orjson.dumps(_finite(row), default=_said)
        return orjson.loads(text), None
    except (TypeError, orjson.JSONDecodeError):
        pass
    return None, next(filter(None, (_unsaid(name, value) for name, value in row.items())), "the row is no JSON")


def _unsaid(name: str, value: Any) -> str | None:
    """Why JSON cannot say a column's value, or None where it can."""
    try:
        orjson.loads(orjson.dumps(value, default=_said))
    except (TypeError, orjson.JSONDecodeError) as error:
        if isinstance(error.__cause__, UnicodeDecodeError):
            return f"the column `{name}` holds binary data that is not UTF-8"
        return f"the column `{name}` holds what JSON cannot say: {error.__cause__ or error}"
    return None


def _said(value: Any) -> Any:
    if isinstance(value, decimal.Decimal):
        return str(value)
    if isinstance(value, bytes):
        return value.decode("utf-8")
    if isinstance(value, datetime.datetime):  # with nanoseconds: of pandas
        return value.isoformat()
    raise TypeError(f"a {type(value).__name__}")


def _infinite(value: Any) -> bool:
    if isinstance(value, float):
        return math.isinf(value)
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return any(map(_infinite, inside))


def _finite(value: Any) -> Any:
    """A copy with "Infinity" and "-Infinity" where orjson would write null."""
    if isinstance(value, dict):
        return {name: _finite(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return ("Infinity" if value > 0 else "-Infinity") if _infinite(value) else value


def _stream(batch: pa.RecordBatch) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as stream:
        stream.write_batch(batch)
    return sink.getvalue().to_pybytes()
