"""What a reader of a file gives for each row: its place, its size, and its columns or what is wrong with it."""

from __future__ import annotations

from typing import Any, NamedTuple


class Fault(NamedTuple):
    """Why a row cannot be read, and its bytes as they stand in the file."""

    problem: str
    raw: bytes


Found = tuple[int, int, dict[str, Any] | None, Fault | None, str | None]
"""The line where the row starts, or its place among the rows; its bytes, 0 where rows have none of their own; its columns, or
None and a fault; its columns as JSON text, as ``orjson.dumps`` writes it, where the reader has that already."""
