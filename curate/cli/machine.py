"""What is installed and kept on this machine: tamis methods, doctor."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

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

    every = kinds(Path.cwd())
    alone = {each.name: each for each in every.values() if not each.methods and (each.options() or each.words())}
    there = [*rooms(Path.cwd()), *alone]
    if kind is not None and kind not in there:
        raise RequestError(f"there is no kind '{kind}'{nearest(kind, there)}; the kinds are {', '.join(there)}")
    rows = []
    for room in [kind] if kind else there:
        if room not in alone:
            rows += [_row(room, m.name, m.parameters, m.summary) for m in all_of(room, Path.cwd()).values()]
            continue
        words = alone[room].words() or {room: (alone[room].about, alone[room].options())}
        rows += [_row(room, word, parameters, about) for word, (about, parameters) in words.items()]
    print_table(rows, as_json)
    for each in () if as_json else every.values():
        shared = each.methods or (each.name if each.words() and each.name not in each.words() else None)
        if shared and shared in ([kind] if kind else there) and each.options():
            say(f"Every {shared} method takes these too: {', '.join(option.word for option in each.options())}.")


def _row(kind: str, name: str, options: Iterable[Any], what: str) -> dict[str, str]:
    return {"kind": kind, "name": name, "options": ", ".join(map(str, options)), "what": what}


def doctor(as_json: Json = False) -> None:
    """What this machine and this installation can do."""
    from curate.report import doctor as looking

    print_table(looking.report(), as_json)
