"""Progress bars that a method can use without knowing who watches: silent unless the command switched them on.

for batch in track(batches, "embedding"): ...
with bar(n, "picking") as advance: advance(1)
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")
_display: Any = None  # a rich Progress on a terminal, "plain" for lines, None for silence
_PLAIN_EVERY = 10.0  # seconds between two plain lines of one bar


@contextmanager
def shown(plain: bool | None = None) -> Iterator[None]:
    """Shows bars while inside: moving ones on a terminal, else plain lines on stderr."""
    global _display
    before = _display
    if plain is None:
        plain = not sys.stderr.isatty()
    if plain:
        _display = "plain"
        try:
            yield
        finally:
            _display = before
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as display:
        _display = display
        try:
            yield
        finally:
            _display = before


def say(line: str) -> None:
    """A line for the person who waits; nothing where nobody watches."""
    if _display is None:
        return
    if _display == "plain":
        print(line, file=sys.stderr, flush=True)
    else:
        _display.console.print(line, highlight=False, markup=False)


@contextmanager
def bar(total: int | None, label: str) -> Iterator[Callable[[int], None]]:
    """A bar over ``total`` things; call what it gives with how many more are done."""
    if _display is None:
        yield lambda n: None
    elif _display == "plain":
        done, start = 0, time.monotonic()
        last = start

        def advance(n: int) -> None:
            nonlocal done, last
            done += n
            now = time.monotonic()
            if now - last >= _PLAIN_EVERY:
                last = now
                print(
                    f"  {label}: {done:,}" + (f" of {total:,}" if total else "") + f", {now - start:.0f} s",
                    file=sys.stderr,
                    flush=True,
                )

        yield advance
    else:
        task = _display.add_task(label, total=total)
        try:
            yield lambda n: _display.advance(task, n) if _display not in (None, "plain") else None
        finally:
            if _display not in (None, "plain"):
                _display.remove_task(task)


def track(items: Iterable[T], label: str, total: int | None = None) -> Iterator[T]:
    """The items, with a bar."""
    if total is None and isinstance(items, Sized):
        total = len(items)
    with bar(total, label) as advance:
        for item in items:
            yield item
            advance(1)
