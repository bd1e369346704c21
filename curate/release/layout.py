"""How a card says things: its layouts (templates/card) and the words that they share."""

from __future__ import annotations

import functools
import re
from typing import Any

import jinja2
import yaml

from curate.contract.paths import library


def render(name: str, facts: dict[str, Any]) -> str:
    """A layout of templates/card, filled; every name that it uses must be among the facts."""
    return _environment().get_template(name).render(facts)


def counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def line(text: str) -> str:
    """A text on one line."""
    return " ".join(text.split())


def as_yaml(data: Any) -> str:
    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=110)


@functools.cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(library("templates") / "card"),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
    )
    environment.filters |= {"cell": _cell, "number": _number, "percent": _percent, "fenced": _fenced}
    return environment


def _cell(text: object) -> str:
    """Text that cannot leave its cell of a Markdown table."""
    return line(str(text)).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")


def _number(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f} %"


def _fenced(text: str, language: str) -> str:
    """A code block that its own text cannot close."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text.strip()}\n{fence}"
