"""What is installed and kept on this machine: tamis methods, cache, doctor."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from curate.cli.arguments import Json
from curate.cli.printing import print_table, say
from curate.contract.errors import RequestError


def methods(
    kind: Annotated[
        str | None, typer.Argument(help="load, filter, dedup, embed, cluster, select, tuning, objectives")
    ] = None,
    as_json: Json = False,
) -> None:
    """Every method with its options and the first line of its documentation."""
    from curate.contract.methods import all_of, nearest, rooms, signature

    if kind is not None and kind not in rooms():
        raise RequestError(f"there is no kind '{kind}'{nearest(kind, rooms())}; the kinds are {', '.join(rooms())}")
    rows = [
        {"kind": room, "name": method.name, "options": ", ".join(map(str, method.parameters)), "what": method.summary}
        for room in ([kind] if kind else rooms())
        for method in all_of(room, Path.cwd()).values()
    ]
    print_table(rows, as_json)
    if kind in (None, "select") and not as_json:
        shared = ", ".join(parameter.word for parameter in signature("curate/rows/constraints.py", "common"))
        say(f"A selector takes these too: {shared}; and its budget in tokens, as {{tokens: 200000, tokenizer: words}}.")


def cache(
    clear: Annotated[bool, typer.Option("--clear", help="Delete all cached features and tiny models.")] = False,
    as_json: Json = False,
) -> None:
    """What the shared cache holds (vectors, tiny base models), and how large it is."""
    import shutil

    from curate.contract.files import cache_folder

    rows = []
    for folder in sorted(path for path in cache_folder().glob("*/*") if path.is_dir()):
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        rows.append({"kind": folder.parent.name, "name": folder.name, "MB": round(size / 1e6, 1)})
        if clear:
            shutil.rmtree(folder)
    title = f"{'Deleted from' if clear else 'In'} {cache_folder()}"
    print_table(rows, as_json, title=title, empty=f"{cache_folder()} is empty.")


def doctor(as_json: Json = False) -> None:
    """What this machine and this installation can do."""
    from curate.report import doctor as looking

    print_table(looking.report(), as_json)
