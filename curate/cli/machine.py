"""What is installed and kept on this machine: tamis methods, doctor."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from curate.cli.arguments import Json
from curate.cli.printing import print_table, say
from curate.contract.errors import RequestError


def methods(
    kind: Annotated[str | None, typer.Argument(help="A folder of methods: filter, select, tuning …")] = None,
    as_json: Json = False,
) -> None:
    """Every method with its options and the first line of its documentation."""
    from curate.contract.methods import all_of, nearest, rooms
    from curate.run.kinds import kinds

    there = rooms(Path.cwd())
    if kind is not None and kind not in there:
        raise RequestError(f"there is no kind '{kind}'{nearest(kind, there)}; the kinds are {', '.join(there)}")
    rows = [
        {"kind": room, "name": method.name, "options": ", ".join(map(str, method.parameters)), "what": method.summary}
        for room in ([kind] if kind else there)
        for method in all_of(room, Path.cwd()).values()
    ]
    print_table(rows, as_json)
    for room in () if as_json else ([kind] if kind else there):
        for each in kinds(Path.cwd()).values():
            if each.methods == room and each.options():
                shared = ", ".join(option.word for option in each.options())
                say(f"Every {room} method takes these too: {shared}.")


def doctor(as_json: Json = False) -> None:
    """What this machine and this installation can do."""
    from curate.report import doctor as looking

    print_table(looking.report(), as_json)
