"""A source of a recipe: one entry of ``load:``, its loader found and its options bound."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curate.contract.methods import Method
from curate.template.sets import load_set, names


@dataclass(frozen=True)
class Source:
    """name: in the column `source`. method: its loader. options: the loader's own and those of every source."""

    name: str
    method: Method
    options: dict[str, Any]


def template_sets(sources: Sequence[Source], folder: Path, which: str) -> dict[str, str]:
    """The template sets that sources may use, with a hash of each, "record_hash" (of what becomes a record) or "source_hash"
    (of the whole set), so that a changed set reruns what reads it. folder: the recipe's."""
    used: set[str] = set()
    for source in sources:
        named = source.options.get("template") or source.method.beside("TEMPLATE")
        if source.options.get("shape"):
            used.add(f"pools/{source.options['shape']}")
        elif named:
            used.add(str(named))
        else:
            used |= {name for name in names() if name.startswith("pools/")}
    return {name: getattr(load_set(name, folder), which) for name in sorted(used)}
