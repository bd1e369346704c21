"""Runs a recipe: plans the stages, skips those whose key is unchanged, and writes what every stage leaves behind.

A stage is computed into a hidden folder named by its key and renamed when it is whole; a run that was stopped goes on there.
stages.json, written first, says which stages the run wants, with their keys: what lies there under another key is old.

    WORK/00-load/{kept,removed}/part-00000.parquet   manifest.json   run.json
    WORK/01-holdout/ … WORK/release/  WORK/model/  WORK/arms/  WORK/study/
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
import yaml
from filelock import FileLock, Timeout

from curate.contract import columns, faults, store
from curate.contract.errors import RequestError, WorkError
from curate.contract.files import ABSENT, digest, discard, mark, put, read_json, sha256, sweep, write_json, write_text
from curate.contract.progress import say
from curate.rows import table
from curate.rows.reasons import folded
from curate.run import trace
from curate.run.job import Job
from curate.run.memory import peak_mb, reset_peak
from curate.run.plan import folders, plan
from curate.run.recipe import Recipe
from curate.run.stage import Before, Stage
from curate.run.work import CONTRACT, HOLDER, MANIFEST, PLAN, data_files, holder_of, run_facts

_LOCK = ".lock"
_UNFINISHED = re.compile(r"\..+\.[0-9a-f]{16}|\.old\..+")  # folders of stages


@dataclass(frozen=True)
class Outcome:
    """What a run did. done and cached: stage titles; funnel: a row a stage, where the caller asked for one."""

    work: Path
    done: list[str]
    cached: list[str]
    funnel: list[dict[str, Any]] = field(default_factory=list)

    def __str__(self) -> str:
        return f"{len(self.done)} stages run, {len(self.cached)} cached, in {self.work}"


@faults.one_sentence()
def run(
    recipe: Recipe,
    work: Path,
    *,
    until: str | None = None,
    workers: int = 1,
    on_stage: Callable[[str], None] | None = None,
) -> Outcome:
    """Runs what is not there yet. Raises TamisError with one sentence; a run that was stopped is taken up by the same call."""
    work = Path(work)
    done: list[str] = []
    cached: list[str] = []
    with held(work), _swept(work):
        _tell_older(work)
        stages = plan(recipe, work)
        wanted = up_to(stages, until)
        if problems := not_ready(recipe, work, wanted):
            raise RequestError("\n".join(problems))
        write_text(work / "recipe.yaml", _yaml(recipe.resolved))
        _write_plan(work, recipe, stages)
        _settle(work, stages)
        for number, stage in enumerate(wanted):
            if state(work, stage) == "cached":
                cached.append(stage.title)
                continue
            if on_stage:
                on_stage(stage.title)
            facts = _compute(stage, Before(recipe, stages[:number], work), work, workers)
            for line in stage.kind.says(stage.step, facts):
                say(f"  {line}")
            done.append(stage.title)
        if until is None:
            _sweep(work, stages)
    return Outcome(work, done, cached)


def state(work: Path, stage: Stage) -> str:
    """ "cached", or why the stage would run: "new", "started", "changed", "incomplete" where a file of its data is gone."""
    folder = work / stage.title
    try:
        manifest = read_json(folder / MANIFEST)
        changed = "changed"
        if (manifest["contract"], manifest["key"]) == (CONTRACT, stage.key):
            if all((folder / name).is_file() for name in manifest.get("files", {})):
                return "cached"
            changed = "incomplete"
    except (*ABSENT, ValueError, KeyError):
        changed = "new"
    return "started" if unfinished(work, stage).is_dir() else changed


def up_to(stages: tuple[Stage, ...], until: str | None) -> tuple[Stage, ...]:
    """The stages up to the one with a title, or to the last with a name; RequestError names them."""
    if until is None:
        return stages
    for number, stage in enumerate(stages):
        if until == stage.title:
            return stages[: number + 1]
    named = [number for number, stage in enumerate(stages) if until == stage.step.name]
    if not named:
        titles = ", ".join(stage.title for stage in stages)
        raise RequestError(f"--until {until}: there is no such stage; the stages are {titles}")
    return stages[: named[-1] + 1]


def not_ready(recipe: Recipe, work: Path, stages: tuple[Stage, ...]) -> list[str]:
    """What would stop stages that have to run, a sentence each: a package that is missing, a budget above what is there."""
    problems = []
    for number, stage in enumerate(stages):
        if state(work, stage) != "cached":
            problems += stage.kind.ready(stage.step, Before(recipe, stages[:number], work))
    return list(dict.fromkeys(problems))


# --- one stage -------------------------------------------------------------------------------------------------------


def _compute(stage: Stage, before: Before, work: Path, workers: int) -> dict[str, Any]:
    folder = unfinished(work, stage)
    _clear(work, stage, folder)
    start = time.monotonic()
    reset_peak()
    places = folders(before.recipe)
    job = Job(stage, before, folder, work, workers)
    with trace.reading(places.values()) as opened:
        facts = stage.kind.compute(job, stage.step)
    finish(stage, folder, work, facts)
    run = {
        "seconds": round(time.monotonic() - start, 3),
        "peak_mb": peak_mb(),
        "workers": workers,
        "python": platform.python_version(),
        "host": platform.node(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "opened": trace.stamps(
            (path for path in opened | job.opened if not path.is_relative_to(work.resolve())), places
        ),
    }
    write_json(run_facts(folder, True) if stage.table else run_facts(work / stage.title, False), run)
    _replace(folder, work / stage.title)
    return facts


def _clear(work: Path, stage: Stage, folder: Path) -> None:
    """Takes away what runs of other keys had begun, and what one that was stopped was writing."""
    for stale in work.glob(f".{stage.title}.*"):
        if stale != folder and stale.is_dir():
            shutil.rmtree(stale)
    folder.mkdir(parents=True, exist_ok=True)
    for half in list(folder.rglob(".*.tmp")):
        shutil.rmtree(half) if half.is_dir() else half.unlink(missing_ok=True)


def finish(stage: Stage, folder: Path, work: Path, facts: dict[str, Any]) -> None:
    """The manifest, which a product takes into its own; last: a folder that has one is whole."""
    manifest = {
        "contract": CONTRACT,
        "stage": stage.title,
        "name": stage.step.name,
        "kind": stage.step.kind,
        "role": stage.kind.role,
        "table": stage.table,
        "method": stage.step.method,
        "options": stage.step.options,
        "seed": stage.seed,
        "key": stage.key,
        "static": stage.static,
        "parent": stage.parent.key if stage.parent else None,
        "code": stage.code,
        "versions": stage.versions,
        "facts": facts,
        "claims": list(stage.kind.claims(stage.step, facts)),
        **_counts(stage, folder, work, facts),
    }
    write_json(folder / MANIFEST, manifest)


def _counts(stage: Stage, folder: Path, work: Path, facts: dict[str, Any]) -> dict[str, Any]:
    """Rows in, out and removed, with the reasons, counted without the numbers inside them; hashes of the files that hold data,
    unless a product's own facts list its files."""
    before = read_json(work / stage.parent.title / MANIFEST)["out"] if stage.parent else None
    listed = "files" in facts and not stage.table
    hashes = {} if listed else {path.relative_to(folder).as_posix(): sha256(path) for path in data_files(folder)}
    files = {"files": hashes} if hashes else {}
    if not stage.table:
        return {"in": before, "out": before, "removed": 0, "reasons": {}, **files}
    out = sum(pl.scan_parquet(part).select(pl.len()).collect().item() for part in table.shards(folder / "kept"))
    reasons: Counter[str] = Counter()
    for part in table.shards(folder / "removed"):
        for reason, count in pl.read_parquet(part, columns=[columns.REASON])[columns.REASON].value_counts().iter_rows():
            reasons[folded(reason)] += count
    removed = sum(reasons.values())
    return {
        "in": out + removed if before is None else before,
        "out": out,
        "removed": removed,
        "reasons": dict(sorted(reasons.items())),
        "hash": digest([content for name, content in hashes.items() if name.startswith("kept/")]),
        **files,
    }


# --- the work folder -------------------------------------------------------------------------------------------------


def unfinished(work: Path, stage: Stage) -> Path:
    """The folder that a stage is computed in before it takes its place."""
    return work / f".{stage.title}.{stage.key[:16]}"


def _replace(folder: Path, final: Path) -> None:
    """Puts a whole folder in its place. A crash in between is mended by `_settle`."""
    old = final.with_name(f".old.{final.name}")
    if old.exists():
        shutil.rmtree(old)
    if final.exists():
        os.replace(final, old)
    try:
        put(folder, final)
    except OSError:
        if old.exists() and not final.exists():
            os.replace(old, final)
        raise
    discard(old)


def _write_plan(work: Path, recipe: Recipe, stages: tuple[Stage, ...]) -> None:
    planned = [
        {
            "title": stage.title,
            "name": stage.step.name,
            "kind": stage.step.kind,
            "key": stage.key,
            "table": stage.table,
        }
        for stage in stages
    ]
    write_json(work / PLAN, {"contract": CONTRACT, "recipe": recipe.name, "stages": planned})


def _tell_older(work: Path) -> None:
    """Says what happens to a folder that another version of Tamis wrote."""
    try:
        version = read_json(work / PLAN).get("contract", 1)
    except (*ABSENT, ValueError):
        return
    if version != CONTRACT:
        say(
            f"  {work} was written by {'an older' if version < CONTRACT else 'a newer'} version of Tamis; its stages are "
            "computed anew, each taking the place of the old one"
        )


def _settle(work: Path, stages: tuple[Stage, ...]) -> None:
    """After a crash: a stage that was whole but not yet renamed takes its place; a stage whose number changed moves."""
    for stage in stages:
        folder = unfinished(work, stage)
        if (folder / MANIFEST).is_file():
            _replace(folder, work / stage.title)
    by_key = {}
    for path in sorted(work.glob(f"*/{MANIFEST}")):
        try:
            manifest = read_json(path)
            if manifest["contract"] == CONTRACT:
                by_key[manifest["key"]] = path.parent
        except (ValueError, KeyError):
            continue
    wrong = [
        stage for stage in stages if stage.table and by_key.get(stage.key, work / stage.title) != work / stage.title
    ]
    for stage in wrong:
        put(by_key[stage.key], unfinished(work, stage))
    for stage in wrong:
        manifest = read_json(unfinished(work, stage) / MANIFEST)
        write_json(unfinished(work, stage) / MANIFEST, {**manifest, "stage": stage.title})
        _replace(unfinished(work, stage), work / stage.title)


def _sweep(work: Path, stages: tuple[Stage, ...]) -> None:
    """After a whole run, nothing stays of stages that the recipe no longer has."""
    keep = {stage.title for stage in stages}
    for path in list(work.iterdir()):
        if _UNFINISHED.fullmatch(path.name):
            shutil.rmtree(path)
        elif path.name not in keep and _was_a_stage(path):
            shutil.rmtree(path)
            run_facts(path, False).unlink(missing_ok=True)


@contextmanager
def _swept(work: Path) -> Iterator[None]:
    """Nothing stays of what killed runs were writing, nor of what the processes of this one were when it failed."""
    _sweep_temporaries(work)
    try:
        yield
    except BaseException:
        _sweep_temporaries(work)
        raise


def _sweep_temporaries(work: Path) -> None:
    for folder in (work, *(path for path in work.rglob("*") if path.is_dir())):
        sweep(folder)
    store.sweep()


def _was_a_stage(path: Path) -> bool:
    try:
        return {"key", "kind", "stage"} <= read_json(path / MANIFEST).keys()
    except (*ABSENT, ValueError, AttributeError):
        return False


@contextmanager
def held(work: Path) -> Iterator[None]:
    """The work folder belongs to one run at a time; the lock goes with the process, however it ends."""
    if work.exists() and not work.is_dir():
        raise WorkError(f"{work} is a file; give a folder with --work")
    strangers = [p.name for p in work.iterdir() if not p.name.startswith(".")][:3] if work.is_dir() else []
    if strangers and not any((work / name).exists() for name in ("recipe.yaml", PLAN, _LOCK)):
        raise WorkError(f"{work} holds other files ({', '.join(strangers)}); give an empty or a new folder with --work")
    work.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(work / _LOCK, timeout=0):
            command = " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])
            since = time.strftime("%Y-%m-%d %H:%M:%S")
            holder = {"pid": os.getpid(), "host": platform.node(), "command": command, "since": since, "mark": mark()}
            write_text(work / HOLDER, json.dumps(holder))
            try:
                yield
            finally:
                discard(work / HOLDER)
    except Timeout as error:
        raise WorkError(
            f"{work} is held by {(holder_of(work) or ('another process',))[0]}; wait for it, stop it, or give another folder with --work"
        ) from error


def _yaml(resolved: dict[str, Any]) -> str:
    return yaml.safe_dump(resolved, sort_keys=False, allow_unicode=True, width=120)
