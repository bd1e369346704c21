"""The raw columns of a row as JSON text, as they stand in the column `fields`, and back: an integer of any size stays one.

orjson reads an integer of more than 64 bits as a float and refuses to write one, so such rows take the way of the standard
library. Cost: about a microsecond a row.
"""

from __future__ import annotations

import json
from typing import Any

import orjson

from curate.contract.errors import RowSkipped

_LONG = 2.0**63  # a float from here on may have been an integer
_OTHERS = frozenset({str, int, bool, type(None)})


def dumps(fields: Any) -> str:
    """JSON without spaces. Raises RowSkipped, with the reason, where the columns hold what JSON cannot say."""
    try:
        return orjson.dumps(fields).decode()
    except TypeError as error:
        if "64-bit" not in str(error):
            raise RowSkipped(_reason(error)) from error
    try:
        text = json.dumps(fields, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        orjson.loads(text)  # what cannot be read back is refused: half a surrogate pair, or too deep
        return text
    except (TypeError, ValueError, RecursionError) as error:
        raise RowSkipped(_reason(error)) from error


def loads(text: str) -> dict[str, Any]:
    """What ``dumps`` wrote."""
    fields = orjson.loads(text)
    return json.loads(text) if has_long_number(fields) else fields


def has_long_number(value: Any) -> bool:
    """Whether a float stands anywhere in a JSON object or array that may have been an integer of more than 64 bits."""
    inside = value.values() if type(value) is dict else value
    if _OTHERS.issuperset(map(type, inside)):
        return False
    for one in inside:
        kind = type(one)
        if kind is float:
            if one >= _LONG or one <= -_LONG:
                return True
        elif (kind is dict or kind is list) and has_long_number(one):
            return True
    return False


def _reason(error: Exception) -> str:
    said = str(error)
    if "ecursion" in said:
        return "the columns are nested more than 254 levels deep; write the row flatter"
    if "surrogates" in said:
        return "a text of the columns holds half a surrogate pair, which is no character"
    return f"the columns hold what JSON cannot say: {said}"
