"""Reasons why rows left, counted together: the value of each row is left out, the limit that it missed stays."""

from __future__ import annotations

import re

_NUMBER = r"[-+−]?[0-9][0-9_,.]*"
_PLACE = re.compile(r"^\S+:\d+: ")  # "a.jsonl:7: ", before what is wrong there
_LIMIT = re.compile(rf" (?:<|>|<=|>=|≤|≥|=|≠) {_NUMBER}")
_VALUE = re.compile(rf" {_NUMBER}$")


def folded(reason: str) -> str:
    """A reason without its place and without the value before a limit; another first number becomes N.

    >>> folded("length: words 2 < 3"), folded("a.jsonl:7: not JSON")
    ('length: words < 3', 'not JSON')
    >>> folded("mix: not drawn for the 3,000 rows of sst2")
    'mix: not drawn for the N rows of sst2'
    """
    reason = _PLACE.sub("", reason)
    name, colon, detail = reason.partition(": ")
    if not colon:
        return reason
    limit = _LIMIT.search(detail)
    said, rest = (detail[: limit.start()], detail[limit.start() :]) if limit else (detail, "")
    without = _VALUE.sub("", said) if limit else said
    return f"{name}: {without if without != said else re.sub(_NUMBER, 'N', said, count=1)}{rest}"
