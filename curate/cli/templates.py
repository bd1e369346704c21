"""The template library: tamis templates ls, show, check, import."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from curate.cli.arguments import Json
from curate.cli.printing import print_json, print_table, say
from curate.contract.errors import RequestError

app = typer.Typer(no_args_is_help=True, help="The template library: list, show, check.")

Header = Annotated[
    str | None, typer.Option(metavar="NAMES", help="The columns of a CSV or TSV without names: sentence,label.")
]


def _names(header: str | None) -> list[str] | None:
    return [name.strip() for name in header.split(",")] if header else None


@app.command("ls")
def ls(as_json: Json = False) -> None:
    """Every template set of the library."""
    from curate.lint import check as library

    rows = library.listing()
    print_table(rows, as_json)
    if not as_json:
        say(library.summary(rows))


@app.command("show")
def show(
    name: Annotated[str, typer.Argument(help="As pools/alpaca or flan/sentiment/sst2, or a file.")],
    template: Annotated[str | None, typer.Option(help="Only this one.")] = None,
    derived: Annotated[bool, typer.Option("--derived", help="Also those turned around by rule.")] = False,
    as_json: Json = False,
) -> None:
    """The templates of a set, each rendered on the set's own example."""
    from curate.lint import check as library

    rows = library.rendered_example(name, Path.cwd(), derived=derived)
    if not rows:
        raise RequestError(f"{name}: its example is put in no template; `tamis templates check {name}` says why")
    if template is not None:
        known = {row["template"] for row in rows}
        rows = [row for row in rows if row["template"] == template]
        if not rows:
            from curate.contract.methods import nearest

            raise RequestError(f"{name} has no template '{template}'{nearest(template, known)}")
    if as_json:
        return print_json(rows)
    for row in rows:
        say(f"── {row['template']} ({row['kind']})")
        for message in row["messages"]:
            say(f"[{message['role']}]\n{message['content']}")
        say("")


@app.command("check")
def check(
    paths: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME|PATH]...", help="Sets to check; the whole library if not given."),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Put the rows of this file, folder or glob through the one set named."),
    ] = None,
    header: Header = None,
    limit: Annotated[int, typer.Option(min=1, help="How many of its rows.")] = 1_000,
    hub: Annotated[bool, typer.Option("--hub", help="Compare with the Hub: columns, label names, 100 rows.")] = False,
    as_json: Json = False,
) -> None:
    """Look for mistakes in templates. Exit code 1 if there is one."""
    from curate.contract import progress
    from curate.lint import check as library

    with progress.shown():
        findings = library.findings(paths or [], Path.cwd(), data=data, header=_names(header), limit=limit, hub=hub)
    print_table(findings, as_json, empty="No findings.")
    if findings:
        raise typer.Exit(1)


@app.command("import")
def import_sets(
    format: Annotated[str, typer.Argument(metavar="FORMAT", help="promptsource, superni or flan.")],
    path: Annotated[Path, typer.Argument(metavar="PATH", help="A file of that format, or a folder of them.")],
    out: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Where the files are written; one file goes to the screen without."),
    ] = None,
    compat: Annotated[
        str, typer.Option(help="promptsource: raw cuts nothing; t0 cuts what is printed at 2,048 characters, as P3 is.")
    ] = "raw",
    data: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="promptsource: real rows, on which both must render the same as well."),
    ] = None,
    header: Header = None,
    as_json: Json = False,
) -> None:
    """Another project's templates as sets of ours (SuperNI: as rows). Findings say what is not converted, and why."""
    from curate.contract import progress
    from curate.importers import command

    with progress.shown():
        converted = command.imported(format, path, compat, data=data, header=_names(header))
    if out is not None:
        converted.write(out)
    elif not as_json:
        converted.write_to(sys.stdout)
    report = converted.report(out)
    if as_json:
        print_json(report)
    else:
        for finding in converted.findings:
            print(finding, file=sys.stderr)
        print(report["summary"], file=sys.stderr)
    if not converted.converted:
        raise typer.Exit(1)
