"""Writes a template set as the YAML that ``templates/README.md`` describes, so that it reads back as the same values."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from curate.contract.strict_yaml import scalar

_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_./ -]*[A-Za-z0-9_]|[A-Za-z]")
_ESCAPED = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")  # what YAML would refuse, or take for a line's end
_BLOCK = re.compile("[^\\s\x00-\x1f][^\x00-\x09\x0b-\x1f]*[^\\s\x00-\x1f]")


def dump(data: Mapping[str, Any]) -> str:
    """A set's keys in the order given; ``templates`` is a list of mappings of texts."""
    lines = []
    for key, value in data.items():
        if key != "templates":
            lines.append(f"{key}: {_value(value, '  ')}")
            continue
        lines.append("templates:")
        for template in value:
            pairs = [f"{name}: {_value(part, ' ' * 6)}" for name, part in template.items()]
            lines += [("  - " if i == 0 else "    ") + pair for i, pair in enumerate(pairs)]
    return "\n".join(lines) + "\n"


def _value(value: Any, indent: str) -> str:
    if not isinstance(value, str):
        return _quoted(value)
    if _PLAIN.fullmatch(value) and scalar(value) == value:
        return value
    if "\n" in value and _BLOCK.fullmatch(value) and not _ESCAPED.search(value):
        return "|-\n" + "\n".join(indent + line if line else "" for line in value.split("\n"))
    return _quoted(value)


def _quoted(value: Any) -> str:
    """JSON, which is YAML as well once the characters that only JSON lets stand are escaped."""
    text = json.dumps(value, ensure_ascii=False)
    return _ESCAPED.sub(lambda match: f"\\u{ord(match[0]):04x}", text)
