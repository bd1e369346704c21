"""Decontaminate: rows that stand in a benchmark go, each with the words that it shares and the item that it shares them with:
`gsm8k:17` is the 17th item of gsm8k."""

from __future__ import annotations

import gzip
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from curate.contract import columns
from curate.contract.errors import SourceError
from curate.contract.files import sha256
from curate.contract.methods import REQUIRED, Parameter, nearest
from curate.load import files
from curate.rows.table import text_of
from curate.run.job import Job
from curate.run.stage import Before, Step

if TYPE_CHECKING:
    from curate.run.ask import Ask

METHODS = "decontaminate"
EXAMPLE = """\
steps:
  - decontaminate: {ngram: {against: {gsm8k: eval/gsm8k.jsonl}, n: 13}}
  - decontaminate: {ngram: {against: [eval/boolq.csv, eval/trivia.parquet], fields: [question]}}
    where: {source: [alpaca]}"""


def options() -> tuple[Parameter, ...]:
    """What every method takes beside its own."""
    against = (
        "the benchmarks: files (.jsonl, .json, .csv, .tsv, .parquet, or .txt with an item a line; each also with .gz), relative "
        "to the data folder, as a mapping from names to paths, or a list, where each is called as its file is"
    )
    fields = "the columns of the benchmarks whose text counts; all text where it is not said"
    return (
        Parameter("against", "dict[str, str] | list[str]", REQUIRED, against),
        Parameter("fields", "list[str] | None", None, fields),
    )


def bind(given: Any, ask: Ask) -> Step | None:
    chosen = ask.method(METHODS, given, ask.kind, parameters=lambda method: (*method.parameters, *options()))
    if chosen is None:
        return None
    if chosen.options["against"] is not None:
        chosen.options["against"] = _named(chosen.options["against"], ask, chosen.method.name)
    return ask.step_of(chosen, ask.where())


def reads(step: Step, before: Before) -> dict[str, Any]:
    """The files' content; what is wrong with one of them is said by `ready`."""
    paths = {name: _file(path, before.recipe.data) for name, path in step.options["against"].items()}
    return {"against": {name: sha256(path) if path.is_file() else None for name, path in paths.items()}}


def ready(step: Step, before: Before) -> list[str]:
    problems = []
    for name, path in step.options["against"].items():
        try:
            _texts(name, path, step.options["fields"], before.recipe.data)
        except SourceError as error:
            problems.append(f"decontaminate {step.method}: {error}")
    return problems


def compute(job: Job, step: Step) -> dict[str, Any]:
    against, fields = step.options["against"], step.options["fields"]
    benchmarks = pl.concat([_texts(name, path, fields, job.recipe.data) for name, path in against.items()])
    whole = job.light()
    mine = np.flatnonzero(job.touched(whole).to_numpy())
    texts = text_of(whole[mine.tolist()], step.text or "record")
    shared = step.methods[0].function()(texts, benchmarks["text"], **job.call_options(step.options))
    items = benchmarks[shared["other"]]
    _remove(job, step.method, mine[shared["row"].to_numpy()], shared, items)
    removed = Counter(items["benchmark"])
    sizes = dict(benchmarks.group_by("benchmark").agg(pl.col("number").n_unique()).iter_rows())
    return {"benchmarks": {name: {"items": sizes[name], "removed": removed[name]} for name in against}}


def says(step: Step, facts: dict[str, Any]) -> list[str]:
    return [
        f"{step.name}: rows removed for {name} ({counts['items']:,} items): {counts['removed']:,}"
        for name, counts in facts["benchmarks"].items()
    ]


def claims(step: Step, facts: dict[str, Any]) -> list[str]:
    return ["decontaminated"]


def _remove(job: Job, method: str, places: np.ndarray, shared: pl.DataFrame, items: pl.DataFrame) -> None:
    """Rows of the table go, each with what it shares, and with which item. places: of the rows, a line of `shared` each."""
    gone = shared.select(
        pl.Series("row", places),
        pl.format(f"{method}: {{}} with {{}}", "reason", items["benchmark"]).alias(columns.REASON),
        pl.format("{}:{}", items["benchmark"], items["number"]).alias(columns.DUPLICATE_OF),
        columns.MATCHED,
    )
    every = pl.DataFrame({"row": np.arange(job.parent.manifest["out"])})
    told = every.join(gone, on="row", how="left", maintain_order="left")
    job.remove(told[columns.REASON], **told.select(columns.DUPLICATE_OF, columns.MATCHED).to_dict())


# --- benchmarks ------------------------------------------------------------------------------------------------------


def _named(against: dict[str, str] | list[str], ask: Ask, method: str) -> dict[str, str]:
    """Names and paths. A file of a list is called as a source of it would be: eval/gsm8k.jsonl is "gsm8k"."""
    pairs = (
        list(against.items())
        if isinstance(against, dict)
        else [(files.describe(path=path, header=None), path) for path in against]
    )
    named = dict(pairs)
    at = (ask.kind, method, "against")
    if not named:
        ask.say(f"decontaminate {method}: `against` names no file, as in `against: {{gsm8k: eval/gsm8k.jsonl}}`", *at)
    for name in named:
        paths = [path for other, path in pairs if other == name]
        if len(paths) > 1:
            there = " and ".join(paths)
            ask.say(f"decontaminate {method}: {there} are both called '{name}'; write `{{name: path}}` instead", *at)
    return named


def _texts(name: str, path: str, fields: list[str] | None, data: Path) -> pl.DataFrame:
    """benchmark, number, text: a line for each text of each item of a file, items numbered from 1. SourceError where the file
    cannot be read as a whole, or holds no text."""
    seen, lines = dict[str, None](), list[tuple[str, int, str]]()
    for number, item in enumerate(_items(name, path, data), start=1):
        seen |= dict.fromkeys(item)
        wanted = item if fields is None else fields
        lines += [(name, number, text) for word in wanted for text in _strings(item.get(word))]
    for word in fields or ():
        if word not in seen:
            raise SourceError(
                f"{name}: no item has a field '{word}'{nearest(word, seen)}; there are: {', '.join(seen)}"
            )
    if not lines:
        raise SourceError(f"{name}: {_file(path, data)} holds no text to look for; take it out of `against`")
    return pl.DataFrame(lines, {"benchmark": pl.String, "number": pl.Int64, "text": pl.String}, orient="row")


def _items(name: str, path: str, data: Path) -> Iterator[dict[str, Any]]:
    file = _file(path, data)
    if not file.is_file():
        beside = [other.name for other in file.parent.iterdir()] if file.parent.is_dir() else []
        near = nearest(file.name, beside)
        raise SourceError(f"{name}: there is no file {file}{near or '; paths hang from the data folder of the recipe'}")
    if file.name.removesuffix(".gz").endswith(".txt"):
        yield from _lines(name, file)
        return
    for row in files.load(path=str(file), data=data):
        if row.fields is None:
            raise SourceError(f"{name}: {row.where}: {row.problem}; mend it, since every item must be looked for")
        yield row.fields


def _lines(name: str, file: Path) -> Iterator[dict[str, Any]]:
    """The lines of a text file that are not blank, each an item."""
    try:
        with gzip.open(file, "rt", encoding="utf-8") if file.suffix == ".gz" else file.open(encoding="utf-8") as lines:
            yield from ({"text": line} for line in lines if not line.isspace())
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
        raise SourceError(f"{name}: {file} cannot be read ({error}); get it again") from error


def _strings(value: Any) -> Iterator[str]:
    """Every text in a value, however deep: questions, lists of choices, turns of a conversation."""
    if isinstance(value, str):
        if value:
            yield value
    elif isinstance(value, list | dict):
        for inside in value.values() if isinstance(value, dict) else value:
            yield from _strings(inside)


def _file(path: str, data: Path) -> Path:
    return data / Path(path).expanduser()
