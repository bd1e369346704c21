"""What works share on this machine: tamis cache ls, gc."""

from __future__ import annotations

import re
import time
from typing import Annotated, Any

import typer

from curate.cli.arguments import Json
from curate.cli.printing import print_table, say
from curate.contract.errors import RequestError

app = typer.Typer(help="What works share: vectors, scores, training runs, tiny base models. List it, collect it.")
_SECONDS = {"d": 86_400, "h": 3_600, "m": 60}


@app.callback(invoke_without_command=True)
def _without_command(
    context: typer.Context, clear: Annotated[bool, typer.Option("--clear", hidden=True)] = False
) -> None:
    if clear:
        raise RequestError("`tamis cache --clear` is now called `tamis cache gc`; write that")
    if context.invoked_subcommand is None:
        say(context.get_help())


@app.command("ls")
def list_entries(as_json: Json = False) -> None:
    """Every entry of the store: kind, name, size, how many values, and how long ago it was used."""
    from curate.contract import store
    from curate.contract.files import cache_folder

    entries = store.entries()
    print_table([_line(e) for e in entries], as_json, title=f"In {cache_folder()}", empty=f"{cache_folder()} is empty.")
    if entries and not as_json:
        say(f"{sum(entry.bytes for entry in entries) / 1e6:,.1f} MB in {len(entries):,} entries.")


@app.command("gc")
def collect(
    older_than: Annotated[
        str | None, typer.Option(metavar="AGE", help="Only what was not used for so long: 30d, 12h. All, without it.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Delete entries of the store. What a work needs of them is computed again."""
    from curate.contract import store
    from curate.contract.files import cache_folder

    gone = store.gc(None if older_than is None else _days(older_than))
    title = f"Deleted from {cache_folder()}"
    print_table([_line(e) for e in gone], as_json, title=title, empty=f"Nothing in {cache_folder()} is that old.")
    if gone and not as_json:
        say(f"{sum(entry.bytes for entry in gone) / 1e6:,.1f} MB are free again.")


def _days(age: str) -> float:
    told = re.fullmatch(r"(\d+(?:\.\d+)?)([dhm])", age)
    if not told:
        raise RequestError(f"--older-than {age}: write a number and d, h or m, as in 30d")
    return float(told[1]) * _SECONDS[told[2]] / _SECONDS["d"]


def _line(entry: Any) -> dict[str, Any]:
    return {
        "kind": entry.kind,
        "name": entry.name,
        "key": entry.folder.name.rpartition("-")[2][:12],
        "MB": round(entry.bytes / 1e6, 1),
        "values": entry.values,
        "last used": f"{(time.time() - entry.last_used) / 86_400:,.1f} days ago",
    }
