"""Rendering, row by row and by column.

Row by row: SST-2 through its twelve templates, messages built, on one core, against a bare loop over compiled Jinja.
The bare loop is given its roles, its template and its options, and renders two texts with plain ``jinja2.Template.render``.
Ours starts from the raw row: columns cleaned up, `when` checked, template, options style and order drawn, the candidates
and references written beside the messages. Compiling for every row is what promptsource's ``apply`` does.

By column: AG News through P3's seven templates for it (imported; without $TAMIS_DATA seven like them), from Parquet shards to
Parquet shards with messages, in two processes, as the render stage does it; against a polars when-chain over the same
shards, which takes the template by the row's number, adds ``messages`` alone, and checks nothing.

The library: how many of its sets are rendered by column, and what the first call on 200 rows costs, in which a set is compiled.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import os
import tempfile
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any

import jinja2
import orjson
import polars as pl

from curate.render.readers import ByColumn, ByRow
from curate.render.rows import render_rows
from curate.render.vector import compile_set
from curate.rows.table import LOAD_SCHEMA, MESSAGES_TYPE, write_shard
from curate.template.cleanup import FILTERS
from curate.template.engine import Engine
from curate.template.sets import TemplateSet, load_set
from curate.template.sets import names as set_names

SET = "flan/sentiment/sst2"
REPEATS = 10
FEW = 200


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


AG_NEWS = """\
dataset: ag_news
about: Sections of a newspaper.
columns: {text: text, label: label}
record: {prompt: "{{ text }}", response: "{{ answer }}"}
choices: ["World politics", "Sports", "Business", "Science and technology"]
answer: label
example: {text: one two, label: 0}
templates:
"""
ASKED = (
    "Which of its pages would a paper print this on?\\n{{ text }}", "{{ text }}\\nIs this politics, sport, business or science?",
    "{{ text }}\\n\\nWho should read it, a minister, an athlete, a banker or an engineer?", "Desk for this story? {{ text }}",
    "{{ text }}\\n\\nWorld, Sports, Business or Science: which is it?", "{{ text }}\\nTopic:", "File under one word: {{ text }}",
)  # fmt: skip
SHARD = 100_000
SHARDS = 8


def ag_news(folder: Path) -> tuple[Path, list[dict[str, Any]]]:
    """A template file with seven templates, and rows of AG News, or made-up ones of their length."""
    from curate.importers import p3_sets, promptsource

    data = os.environ.get("TAMIS_DATA")
    path = folder / "ag_news.yaml"
    if data is None:
        lines = (
            f'  - {{name: t{i}, kind: forward, style: plain, input: "{a}", target: "{{{{ answer }}}}"}}\n'
            for i, a in enumerate(ASKED)
        )
        path.write_text(AG_NEWS + "".join(lines), "utf-8")
        words = "Reuters - Short-sellers, Wall Street's dwindling band of ultra-cynics, are seeing green again. " * 2
        return path, [{"text": f"{i} {words}", "label": i % 4} for i in range(7_600)]
    converted = p3_sets.convert(
        promptsource.read(Path(data) / "promptsource" / "ag_news" / "templates.yaml"), compat="raw"
    )
    path.write_text(converted.sets[0].yaml, "utf-8")
    with gzip.open(Path(data) / "ag_news_test" / "test.csv.gz", "rt", encoding="utf-8") as lines:
        return path, [{"text": f"{title} {text}", "label": int(label) - 1} for label, title, text in csv.reader(lines)]


def main() -> None:
    library()
    by_row()
    by_column()


def library() -> None:
    sets = [one for one in map(load_set, set_names()) if one.templates]
    readers = [None if (vector := compile_set(Engine(one))) is None else type(vector.reader) for one in sets]
    print(
        f"{len(sets)} sets: {readers.count(ByColumn)} read and put together by column, {readers.count(ByRow)} read by row"
    )
    seconds = {one.name: min(first_call(one, seed) for seed in range(3)) for one in sets}
    slowest = max(seconds, key=seconds.__getitem__)
    print(
        f"first call on {FEW} rows: {1e3 * median(seconds.values()):.0f} ms of processor time in the middle, "
        f"{sum(took < 0.05 for took in seconds.values())} sets under 50 ms; the slowest is {slowest}, {1e3 * seconds[slowest]:.0f} ms"
    )


def first_call(template_set: TemplateSet, seed: int) -> float:
    """Seconds of processor time; with a seed that was not yet used the set is compiled anew."""
    rows = [template_set.examples[i % len(template_set.examples)] for i in range(FEW)]
    table = as_table(rows).with_columns(pl.lit(template_set.name).alias("template_set"))
    start = time.process_time()
    render_rows(table, seed=100 + seed)
    return time.process_time() - start


def by_row() -> None:
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


def loaded(rows: list[dict[str, Any]], template_set: Path, number: int) -> pl.DataFrame:
    """A shard as the load stage leaves it."""
    many = [rows[i % len(rows)] for i in range(number * SHARD, (number + 1) * SHARD)]
    given = {
        "id": [hashlib.blake2b(f"{number}/{i}".encode(), digest_size=16).hexdigest() for i in range(SHARD)],
        "prompt": [row["text"] for row in many],
        "fields": [orjson.dumps(row).decode() for row in many],
    }
    same = {"source": "ag_news", "response": "World politics", "task": "ag_news", "origin": "source"}
    table = pl.DataFrame(given).with_columns(pl.lit(value).alias(name) for name, value in same.items())
    table = table.with_columns(pl.lit(str(template_set)).alias("template_set"))
    empty = [name for name in LOAD_SCHEMA if name not in table.columns]
    return table.with_columns(pl.lit(None, LOAD_SCHEMA[name]).alias(name) for name in empty).select(list(LOAD_SCHEMA))


def render_shard(path: Path, out: Path, number: int) -> None:
    """A shard as the render stage takes and leaves it."""
    kept, removed = render_rows(pl.read_parquet(path))
    write_shard(out / "removed", number, removed)
    write_shard(out / "kept", number, kept)


def when_chain(shards: list[Path], out: Path) -> None:
    """Plain polars: the literal texts of seven templates around the text, the label's word, and messages."""
    fields = pl.col("fields").str.json_decode(pl.Struct({"text": pl.String, "label": pl.Int64}))
    text, number = fields.struct.field("text"), pl.int_range(pl.len()) % len(ASKED)
    asked = pl.lit(None, pl.String)
    for i, source in enumerate(ASKED):
        before, after = source.replace("\\n", "\n").split("{{ text }}")
        asked = pl.when(number == i).then(pl.concat_str(pl.lit(before), text, pl.lit(after))).otherwise(asked)
    words = pl.Series(["World politics", "Sports", "Business", "Science and technology"])
    label = pl.lit(words).gather(fields.struct.field("label"))
    turns = [
        pl.struct(pl.lit(role).alias("role"), content.alias("content"))
        for role, content in (("user", asked), ("assistant", label))
    ]
    for shard in shards:
        rendered = pl.read_parquet(shard).with_columns(pl.concat_list(turns).alias("messages"))
        rendered.write_parquet(out / shard.name, compression="zstd", compression_level=1)


def by_column() -> None:
    with tempfile.TemporaryDirectory() as name, ProcessPoolExecutor(2, get_context("spawn")) as pool:
        folder = Path(name)
        template_set, rows = ag_news(folder)
        shards = [write_shard(folder / "in", i, loaded(rows, template_set, i)) for i in range(SHARDS)]

        def stage() -> None:
            for job in [pool.submit(render_shard, path, folder / "out", i) for i, path in enumerate(shards)]:
                job.result()

        def chain() -> None:
            (folder / "plain").mkdir(exist_ok=True)
            for job in [pool.submit(when_chain, shards[i::2], folder / "plain") for i in (0, 1)]:
                job.result()

        best: dict[str, float] = {}
        for _ in range(4):  # the first also starts the processes
            for what, job in (("render stage", stage), ("when-chain", chain)):
                start = time.perf_counter()
                job()
                best[what] = min(best.get(what, float("inf")), time.perf_counter() - start)
        total = SHARD * SHARDS
        for what, seconds in best.items():
            print(
                f"{what + ', Parquet to Parquet':<36} {total / seconds:>9,.0f} rows/s {best['when-chain'] / seconds:>7.2f} of the when-chain"
            )


if __name__ == "__main__":
    main()
