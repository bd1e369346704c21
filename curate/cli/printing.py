"""How commands print: tables, blocks, lines, and the same as JSON."""

from __future__ import annotations

import json
import shutil
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

_WIDE = 160  # columns where nobody looks: a file or a pipe


def print_json(data: Any) -> None:
    print(json.dumps(data, ensure_ascii=False, indent=2, default=str))


def print_table(
    rows: list[dict[str, Any]],
    as_json: bool = False,
    *,
    title: str | None = None,
    empty: str = "Nothing.",
    right: tuple[str, ...] = (),
) -> None:
    """A row a line, as JSON where that is asked for. empty: what is said of no rows. right: columns that hold numbers as text."""
    if as_json:
        return print_json(rows)
    if not rows:
        return say(empty)
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    view = Table(title=title, box=SIMPLE_HEAD, title_justify="left", title_style="bold", pad_edge=False)
    names = list(dict.fromkeys(name for row in rows for name in row))
    for name in names:
        numeric = name in right or all(isinstance(row.get(name), int | float) for row in rows)
        view.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        view.add_row(*(_cell(row.get(name)) for name in names))
    _console().print(view)


def print_blocks(rows: list[dict[str, Any]]) -> None:
    """A block a row, a line a column: what a wide table cannot show."""
    from rich.console import Console
    from rich.text import Text

    console = Console(markup=False, highlight=False)
    width = max((len(name) for row in rows for name in row), default=0)
    for row in rows:
        console.print(Text(f"── {row.get('id', '')}", style="bold"))
        for name, value in row.items():
            if name != "id":
                console.print(
                    Text(f"{name:>{width}}  ", style="dim") + Text(str(value)), soft_wrap=not sys.stdout.isatty()
                )
    if not rows:
        say("Nothing.")


def print_funnel(work: Path, as_json: bool) -> None:
    """The lines of curate/report/funnel.py, and which stages are of an earlier recipe."""
    from curate.report import funnel

    rows = funnel.rows(work)
    if as_json:
        print_json(rows)
    else:
        console = _console()
        console.print("The funnel\n", style="bold")
        say("\n".join([*funnel.lines(rows, console.width), ""]))
    warn(funnel.earlier(work))


def say(text: str) -> None:
    print(text, flush=True)


def warn(text: str) -> None:
    """A sentence beside the output, which may be JSON; nothing where there is none."""
    if text and sys.stderr.isatty():
        text = textwrap.fill(text, shutil.get_terminal_size().columns, break_long_words=False)
    if text:
        print(text, file=sys.stderr, flush=True)


def _console() -> Console:
    from rich.console import Console

    console = Console(markup=False, highlight=False)
    console.width = console.width if sys.stdout.isatty() else max(console.width, _WIDE)
    return console


def _cell(value: Any) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
