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
    """Check a release offline: metadata, splits, counts, file hashes; of a work also that nothing is of an earlier recipe.
    Exit code 1 if something is wrong."""
    problems = [{"problem": problem} for problem in _problems(folder)]
    print_table(problems, as_json, empty=f"{folder}: all is as the manifest says.")
    if problems:
        raise typer.Exit(1)


def _problems(folder: Path) -> list[str]:
    from curate.release.verify import verify as problems_of
    from curate.report import funnel
    from curate.run.work import Work, is_work

    if not is_work(folder):
        return problems_of(folder)
    work = Work(folder)
    releases = work.of_role("release")
    if not releases:
        raise RequestError(f"{folder} holds no release; add `release: {{}}` to the recipe and run it")
    earlier = funnel.earlier(folder)
    return ([earlier] if earlier else []) + [problem for done in releases for problem in problems_of(done.folder)]
