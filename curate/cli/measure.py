"""Measuring models and studies: tamis analyse, eval."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from curate.cli.arguments import Json
from curate.cli.printing import print_json, print_table, say
from curate.contract.errors import RequestError


def analyse(
    results: Annotated[
        list[Path], typer.Argument(help="A study's results.parquet, or tables of anybody's: .csv, .jsonl, .parquet.")
    ],
    named: Annotated[
        str,
        typer.Option("--map", help="Their columns for ours, as in arm=method,budget=n,value=accuracy,model=@folder."),
    ] = "",
    reference: Annotated[str, typer.Option(help="The arm that all others are compared with.")] = "random",
    higher_is_better: Annotated[bool, typer.Option("--higher-is-better")] = False,
    delta: Annotated[
        str, typer.Option(help="What counts as no difference: 0.02, or 10% of the reference's gain.")
    ] = "10%",
    baseline: Annotated[
        list[Path] | None, typer.Option(help="The untuned model's values, by the same map; once a file.")
    ] = None,
    compare: Annotated[list[str] | None, typer.Option(help="A question, as in fl@500,random@2000; once each.")] = None,
    pools: Annotated[
        bool, typer.Option("--pools", help="Intervals over pools like this one, not over other draws of it.")
    ] = False,
    new_tasks: Annotated[bool, typer.Option("--new-tasks", help="Intervals over items of new tasks.")] = False,
    out: Annotated[Path | None, typer.Option(help="A folder for the same as a page, in HTML and Markdown.")] = None,
    as_json: Json = False,
) -> None:
    """What results say, and how surely: a study's own, or a table of anybody's with arms, budgets and seeds."""
    from curate.report import analysed

    how = {
        "population": "pools like it" if pools else "this pool",
        "tasks": "new tasks" if new_tasks else "these tasks",
    }
    asked = {"compare": [question.split(",") for question in compare or []], "delta": _delta(delta), **how}
    shown = analysed.analysed(
        results, named, reference=reference, higher_is_better=higher_is_better, baseline=baseline or [], **asked
    )
    page = analysed.write_page(shown, out) if out else None
    if as_json:
        return print_json(shown.facts)
    for title, rows in shown.tables:
        print_table(rows, title=title)
    for sentence in shown.sentences:
        say(f"{sentence}\n")
    if page:
        say(f"  page     {page}")


def _delta(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def eval(
    model: Annotated[str, typer.Argument(help="A local model folder or a Hub id.")],
    rows: Annotated[Path, typer.Argument(help="A parquet file or a release folder with `messages`.")],
    by: Annotated[
        str, typer.Option(help="task, or template: the phrasings of a set ranked; render with `templates: all` for it.")
    ] = "task",
    as_json: Json = False,
) -> None:
    """Bits per byte of the responses in a rendered table under a model; by template also accuracy, ranks with intervals, and
    the line of a recipe that leaves out what is shown to be worse."""
    from curate.contract import progress
    from train.scoring import by_template, perplexity

    tables = {"task": perplexity.table, "template": by_template.table}
    if by not in tables:
        raise RequestError(f"--by {by}: there are: {', '.join(tables)}")
    with progress.shown():
        scores = tables[by](model, rows)
    if by == "task" or as_json:
        return print_table(scores, as_json)
    print_table(by_template.printed(scores), right=by_template.NUMBERS)
    for sentence in by_template.sentences(scores):
        say(sentence)
