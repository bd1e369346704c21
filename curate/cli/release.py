"""Releases: tamis card, verify."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from curate.cli.arguments import Json, WorkPath
from curate.cli.printing import print_table, say, warn
from curate.contract.errors import RequestError


def card(work: WorkPath) -> None:
    """Print the card of a work's release."""
    from curate.report import funnel
    from curate.run.work import Work

    releases = Work(work).of_role("release")
    if not releases:
        raise RequestError(f"{work} holds no release; add `release: {{}}` to the recipe and run it")
    say((releases[-1].folder / "README.md").read_text("utf-8"))
    warn(funnel.earlier(work))


def verify(
    folder: Annotated[Path, typer.Argument(metavar="WORK|RELEASE", help="A work folder, or a release folder.")],
    as_json: Json = False,
) -> None:
    """Check a release offline: metadata, splits, counts, file hashes; of a work every shard of every stage, and that nothing is
    missing or of an earlier recipe. Exit code 1 if something is wrong."""
    from curate.report import check

    problems = [{"problem": problem} for problem in check.problems(folder)]
    print_table(problems, as_json, empty=f"{folder}: all is as the manifest says.")
    if problems:
        raise typer.Exit(1)
