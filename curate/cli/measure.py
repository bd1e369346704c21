"""Measuring models and studies: tamis analyse, eval."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from curate.cli.arguments import Json
from curate.cli.printing import print_table, say
from curate.contract.errors import RequestError


def analyse(
    results: Annotated[Path, typer.Argument(help="A study's results.parquet, or any table with the same columns.")],
    as_json: Json = False,
) -> None:
    """The study's statistics from a results table: means, intervals, m(N), the headline."""
    import pyarrow.parquet as pq

    from curate.stages import study
    from train.study.analysis import analyse
    from train.study.facts import facts as summarise

    if not results.is_file():
        raise RequestError(f"{results}: no such file; a study writes its results.parquet into WORK/study")
    facts = summarise(analyse(pq.read_table(results)))
    if as_json:
        return print_table(facts["table"], True)
    for shown in study.shows(facts):
        say(shown) if isinstance(shown, str) else print_table(shown[1])


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
