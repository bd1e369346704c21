"""Load: the sources of a recipe, read into records. Source by source; one that is unchanged since the last run is not read again."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import polars as pl

from curate.contract import columns, methods
from curate.contract.code import missing_packages, source_and_versions
from curate.contract.errors import DataError, WorkError
from curate.contract.files import digest, read_json, write_json
from curate.contract.progress import bar
from curate.load.source import Source, template_sets
from curate.rows import table
from curate.run import sources
from curate.run.job import Job, link
from curate.run.stage import Before, Step

if TYPE_CHECKING:
    from curate.run.ask import Ask

SECTION = "load"
FORM = "list"
MUST = True
METHODS = "load"
ROLE = "sources"
EXAMPLE = """\
load:
  - docstrings: {packages: [numpy, polars]}
  - files: {path: "alpaca/*.jsonl", shape: alpaca, license: cc-by-nc-4.0}
  - files: {path: sst2/train.tsv, name: sst2, template: flan/sentiment/sst2}"""
_SHARDS = 10_000  # numbers of shards that a source may use


def options() -> tuple[methods.Parameter, ...]:
    """Those that every source may take."""
    return sources.options()


def bind(given: list[Any], ask: Ask) -> Step | None:
    read: list[Source] = []
    for number, entry in enumerate(given):
        source = sources.read_source(entry, ask, number)
        if source is None:
            continue
        if any(other.name == source.name for other in read):
            ask.say(f"two sources are called '{source.name}'; give one of them another `name:`", number)
        read.append(source)
    if not given:
        ask.say("`load` names no source")
    return Step(
        kind="load",
        name="load",
        method="load",
        options={},
        written=[{source.method.name: {"name": source.name, **source.options}} for source in read],
        methods=tuple(source.method for source in read),
        values={columns.SOURCE: frozenset(source.name for source in read)},
        bound=tuple(read),
    )


def reads(step: Step, before: Before) -> dict[str, Any]:
    return {
        "sources": [
            {
                "name": source.name,
                "kind": source.method.name,
                **source.options,
                "content": sources.content(source, before),
            }
            for source in step.bound
        ],
        "sets": template_sets(step.bound, before.recipe.folder, "record_hash"),
    }


def ready(step: Step, before: Before) -> list[str]:
    return [
        problem
        for source in step.bound
        for problem in missing_packages(f"load {source.method.name}", [source.method.path])
    ]


def compute(job: Job, step: Step) -> dict[str, Any]:
    facts = []
    for number, source in enumerate(step.bound):
        marker = job.folder / "sources" / f"{number:03d}.json"
        if not marker.is_file():
            planned = job.stage.known["sources"][number]["content"]
            write_json(marker, _kept_before(job, number, source) or _read(job, number, source, planned))
        facts.append(read_json(marker))
    _fill_up(job)
    if not any(source["rows"] for source in facts):
        raise DataError(
            "load: no source gave a single record; see the reasons above each removed row with `tamis show WORK --removed`"
        )
    return {"sources": facts}


# --- one source ------------------------------------------------------------------------------------------------------


def _key(job: Job, source: Source) -> str:
    """What the records of one source depend on: nothing of the other sources."""
    code, versions = source_and_versions([job.stage.kind.path, source.method.path])
    known = job.stage.known["sources"][job.stage.step.bound.index(source)]["content"]
    sets = template_sets([source], job.recipe.folder, "record_hash")
    named = {"name": source.name, "method": source.method.name, **source.options}
    return digest([named, known, sets, job.seed, code, versions])


def _kept_before(job: Job, number: int, source: Source) -> dict[str, Any] | None:
    """The records of a source that the stage of the run before holds, unchanged: its shards get a second name."""
    folder = job.work / job.stage.title
    for marker in sorted((folder / "sources").glob("*.json")):
        try:
            facts = read_json(marker)
        except ValueError:
            continue
        if facts.get("key") == _key(job, source):
            first = int(marker.stem) * _SHARDS
            for side in ("kept", "removed"):
                for path in table.shards(folder / side):
                    chunk = int(path.stem.removeprefix("part-")) - first
                    if 0 <= chunk < _SHARDS:
                        link(path, job.folder / side / f"part-{number * _SHARDS + chunk:05d}.parquet")
            return facts
    return None


def _read(job: Job, number: int, source: Source, planned: dict[str, Any]) -> dict[str, Any]:
    rows = removed = 0
    licenses: set[str] = set()
    for side in ("kept", "removed"):  # of a run that was stopped here
        for path in table.shards(job.folder / side):
            if int(path.stem.removeprefix("part-")) // _SHARDS == number:
                path.unlink()
    with bar(None, f"load: {source.name}") as advance:
        for chunk, (kept, gone) in enumerate(sources.rows(source, job)):
            job.put(number * _SHARDS + chunk, kept, gone if gone.height else None)
            rows, removed = rows + kept.height, removed + gone.height
            licenses |= set(kept[columns.LICENSE].drop_nulls().unique())
            advance(kept.height)
    found = sources.content(source, job.before)
    if found != planned:
        shutil.rmtree(job.folder)
        raise WorkError(
            f"load: the source '{source.name}' changed while it was read, so its rows are of no one version; nothing of it was "
            "kept: run the same command again once it stands still"
        )
    return {
        "name": source.name,
        "kind": source.method.name,
        "options": source.options,
        "rows": rows,
        "removed": removed,
        "license": sorted(licenses),
        "content": found,
        "key": _key(job, source),
    }


def _fill_up(job: Job) -> None:
    """An empty table on a side that no source has written to."""
    for side, schema in (("kept", table.LOAD_SCHEMA), ("removed", table.REMOVED_SCHEMA)):
        if not table.shards(job.folder / side):
            table.write_shard(job.folder / side, 0, pl.DataFrame(schema=schema))
