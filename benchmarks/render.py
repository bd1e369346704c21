"""Rendering SST-2 through its twelve templates, messages built, on one core: against a bare loop over compiled Jinja.

The bare loop is given its roles, its template and its options, and renders two texts with plain ``jinja2.Template.render``.
Ours starts from the raw row: columns cleaned up, `where` checked, template, options style and order drawn, the candidates
and references written beside the messages. Compiling for every row is what promptsource's ``apply`` does.
"""

from __future__ import annotations

import gzip
import os
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jinja2
import orjson
import polars as pl

from curate.render.cleanup import FILTERS
from curate.render.engine import Engine
from curate.render.rows import render_rows
from curate.render.template import load_set
from curate.table import MESSAGES_TYPE

SET = "flan/sentiment/sst2"
REPEATS = 10


def raw_rows(n: int = 20_000) -> list[dict[str, str]]:
    """Rows of SST-2 from $TAMIS_DATA, gone through again where there are fewer; without it made-up ones of its length."""
    data = os.environ.get("TAMIS_DATA")
    if not data:
        words = "a slow , tender portrait that does n't waste a single one of its ninety minutes , give or take"
        return [{"sentence": f"{i} {words}", "label": str(i % 2)} for i in range(n)]
    with gzip.open(Path(data) / "sst2" / "train.tsv.gz", "rt", encoding="utf-8") as lines:
        pairs = [line.rstrip("\n").split("\t") for line in lines]
    rows = [{"sentence": sentence, "label": label} for sentence, label in pairs]
    return [rows[i % len(rows)] for i in range(n)]


def as_table(rows: list[dict[str, str]]) -> pl.DataFrame:
    """The rows as the load stage leaves them, as far as rendering reads them."""
    fields = [orjson.dumps(row).decode() for row in rows]
    table = pl.DataFrame({"id": [f"{i:032x}" for i in range(len(rows))], "fields": fields})
    return table.with_columns(pl.lit(SET).alias("template_set"), pl.lit(None, MESSAGES_TYPE).alias("messages"))


def bare(compiled: list[list[jinja2.Template]], roles: list[dict[str, Any]]) -> list[Any]:
    messages = []
    for i, names in enumerate(roles):
        asked, target = compiled[i % len(compiled)]
        user = {"role": "user", "content": asked.render(names)}
        messages = [user, {"role": "assistant", "content": target.render(names)}]
    return messages


def compiled_each_time(
    sources: list[list[str]], roles: list[dict[str, Any]], environment: jinja2.Environment
) -> list[Any]:
    return [
        [environment.from_string(source).render(names) for source in sources[i % len(sources)]]
        for i, names in enumerate(roles)
    ]


def seconds_a_row(jobs: dict[str, tuple[int, Callable[[], Any]]]) -> dict[str, float]:
    """The fastest of several runs of each job, taken in turns, in processor time of one core."""
    best = dict.fromkeys(jobs, float("inf"))
    for _ in range(REPEATS):
        for name, (rows, job) in jobs.items():
            start = time.process_time()
            job()
            best[name] = min(best[name], (time.process_time() - start) / rows)
    return best


def main() -> None:
    rows = raw_rows()
    template_set = load_set(SET)
    engine, table, environment = Engine(template_set), as_table(rows), jinja2.Environment()
    ids = table["id"].to_list()
    sources = [[source for _, source in template.messages] for template in template_set.templates]
    environment.filters.update(FILTERS)
    compiled = [[environment.from_string(source) for source in texts] for texts in sources]
    roles = [{**engine.roles(row), "answer": "positive", "options": "- negative\n- positive"} for row in rows]
    few = 500
    jobs = {
        "bare loop, compiled once": (len(rows), lambda: bare(compiled, roles)),
        "bare loop, compiled for every row": (few, lambda: compiled_each_time(sources, roles[:few], environment)),
        "engine.render, raw row to messages": (
            len(rows),
            lambda: deque((engine.render(id, row) for id, row in zip(ids, rows, strict=True)), maxlen=1),
        ),
        "render_rows, table to table": (len(rows), lambda: render_rows(table)),
    }
    best = seconds_a_row(jobs)
    floor = best["bare loop, compiled once"]
    for name, seconds in best.items():
        print(f"{name:<36} {1 / seconds:>9,.0f} rows/s {floor / seconds:>7.2f} of the bare loop")


if __name__ == "__main__":
    main()
