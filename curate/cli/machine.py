"""What is installed and kept on this machine: tamis methods, doctor."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from curate.cli.arguments import Json
from curate.cli.printing import print_table, say
from curate.contract.errors import RequestError


def methods(
    kind: Annotated[
        str | None, typer.Argument(help="A folder of methods: filter, select, tuning …")
    ] = None,
    as_json: Json = False,
) -> None:
    """Every method with its options and the first line of its documentation."""
    from curate.contract.methods import all_of, nearest, rooms, signature

    there = rooms(Path.cwd())
    if kind is not None and kind not in there:
        raise RequestError(f"there is no kind '{kind}'{nearest(kind, there)}; the kinds are {', '.join(there)}")
    rows = [
        {"kind": room, "name": method.name, "options": ", ".join(map(str, method.parameters)), "what": method.summary}
        for room in ([kind] if kind else there)
        for method in all_of(room, Path.cwd()).values()
    ]
    print_table(rows, as_json)
    if kind in (None, "select") and not as_json:
        shared = ", ".join(parameter.word for parameter in signature("curate/rows/constraints.py", "common"))
        say(f"A selector takes these too: {shared}; and its budget in tokens, as {{tokens: 200000, tokenizer: words}}.")


def doctor(as_json: Json = False) -> None:
    """What this machine and this installation can do."""
    from curate.report import doctor as looking

    print_table(looking.report(), as_json)
