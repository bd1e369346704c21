"""Looking into a work folder: tamis show, funnel, report."""

from __future__ import annotations

from typing import Annotated

import typer

from curate.cli.arguments import Json, WorkPath
from curate.cli.printing import print_blocks, print_funnel, print_json, print_table, say, warn


def show(
    work: WorkPath,
    stage: Annotated[str | None, typer.Option(help="Stage folder or name; the last table if not given.")] = None,
    removed: Annotated[
        bool, typer.Option("--removed", help="Rows that left at this stage (at any stage, without --stage).")
    ] = False,
    reason: Annotated[str | None, typer.Option(help="Only removed rows whose reason holds this text.")] = None,
    grep: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT",
            help="Only rows whose prompt, response or messages hold this text (no pattern; with an upper-case letter in it, "
            "case counts). Without --stage and --removed: rows of the last table, then rows that left.",
        ),
    ] = None,
    id: Annotated[
        str | None,
        typer.Option(
            "--id",
            help="Everything that happened to one row, by its id or the beginning of it, and why it was not selected.",
        ),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many rows.")] = 10,
    as_json: Json = False,
) -> None:
    """Look at rows: kept or removed, at any stage, by what they say, or one row through all stages."""
    from curate.contract.errors import RequestError
    from curate.report import funnel, why_not
    from curate.report import show as showing

    if id is not None and grep is not None:
        raise RequestError("--id tells of one row and --grep looks for rows; give one of them")
    if id is None:
        gone = removed or reason is not None
        found = showing.rows(work, stage=stage, removed=gone, reason=reason, grep=grep, limit=limit)
    else:
        found = showing.history(work, id)
    if as_json:
        print_json(found)
    elif id is None:
        print_blocks(found)
    else:
        whys = [event.pop("why") for event in found if "why" in event]
        print_table(found)
        for why in whys:
            print_table(why_not.lines(why))
    warn(funnel.earlier(work))


def funnel(work: WorkPath, as_json: Json = False) -> None:
    """The funnel of a work folder: rows in and out of every stage, and why rows left."""
    print_funnel(work, as_json)


def report(
    work: WorkPath,
    stage: Annotated[str | None, typer.Option(help="A select stage; the last one if not given.")] = None,
    clusters: Annotated[
        str | None, typer.Option(metavar="K,K,…", help="Instead: how many clusters the pool falls into, as 8,16,32,64.")
    ] = None,
    as_json: Json = False,
) -> None:
    """What a selection kept of its pool: diversity against random subsets, shares, lengths, a map, on one page."""
    from curate.contract import progress
    from curate.diversity import family
    from curate.report import funnel, selection_report

    with progress.shown():
        if clusters is not None:
            lines, sentence = selection_report.clusters(work, stage, clusters)
            print_table(lines, as_json, title="How many clusters")
            if not as_json:
                say(sentence)
        elif as_json:
            print_json(selection_report.data(work, stage))
        else:
            path, numbers = selection_report.write(work, stage)
            if diversity := numbers["diversity"]:
                title = f"Diversity, against {diversity['subsets']} random subsets of the same size"
                print_table(family.rows(diversity), title=title)
                if whole := family.whole(diversity):
                    say(f"As a whole: {whole}.")
            say(f"{path}")
    warn(funnel.earlier(work))
