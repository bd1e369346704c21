"""What a release must not tell: folders of the machine that made it, and keys."""

from __future__ import annotations

import re
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any


def without_places(value: Any) -> Any:
    """A copy of JSON-like data in which absolute paths keep only their last part, and what looks like a key is starred."""
    if isinstance(value, dict):
        return {key: without_places(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_places(item) for item in value]
    if not isinstance(value, str):
        return value
    if PurePosixPath(value).is_absolute() or PureWindowsPath(value).is_absolute() or value.startswith("~"):
        return f"…/{PureWindowsPath(value).name}"  # takes both kinds of slashes
    value = re.sub(r"(?<![\w.:/…])[~/][^\s'\",:;]*/([^\s'\",:;/]+)", r"…/\1", value)
    value = re.sub(r"(?<=://)[^/@\s]+@", "***@", value)
    return re.sub(r"\b(hf_|sk-|ghp_|AKIA)[A-Za-z0-9_-]{16,}", r"\1***", value)


def printed(recipe: dict[str, Any]) -> dict[str, Any]:
    """The recipe less the places of this machine; whoever runs it again says where the data is."""
    shown = without_places(recipe)
    return shown | {"data": "…"} if shown.get("data") != recipe.get("data") else shown
