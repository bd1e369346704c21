"""Runs a recipe: plans the stages, skips those whose key is unchanged, and writes what every stage leaves behind.

A stage's key is a hash of its parent's key, its method and options, the seed, the source of its method and of the
first-party modules that this imports, the versions of the packages that they import, and what its inputs hold. A stage
is computed into a hidden folder named by its key and renamed when it is whole; a run that was killed goes on there.

    WORK/00-load/{kept,removed}/part-00000.parquet   manifest.json   run.json
    WORK/01-holdout/ … WORK/release/  WORK/model/  WORK/study/
"""

from __future__ import annotations

import fcntl
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

from curate.contract import columns
from curate.contract.errors import RequestError, WorkError
from curate.contract.files import digest, read_json, write_json, write_text
from curate.rows import table
from curate.run.memory import peak_mb, reset_peak
from curate.run.recipe import Recipe

_CONTRACT = 1  # raise when the layout of a stage folder changes


@dataclass(frozen=True)
class Stage:
    """One stage of a plan. key: what its bytes depend on. compute(job) writes kept/ and removed/ (or its own files)
    into ``job.folder`` and returns facts for the manifest, the same every time."""

    title: str
    name: str
    kind: str
    method: str
    options: dict[str, Any]
    seed: int
    key: str
    source: str
    versions: dict[str, str]
    parent: Stage | None
    compute: Callable[[Job], dict[str, Any]]

    @property
    def tabular(self) -> bool:
        return self.title[:2].isdigit()


@dataclass(frozen=True)
class Job:
    """What a stage is given to compute itself."""

    stage: Stage
    folder: Path
    work: Path
    recipe: Recipe
    stages: tuple[Stage, ...]
    workers: int

    @property
    def parent(self) -> Path:
        """The folder of the stage before."""
        assert self.stage.parent is not None
        return self.work / self.stage.parent.title

    def before(self, stage: Stage, kind: str) -> Stage | None:
        """The nearest stage of a kind before a stage."""
        at = stage.parent
        while at is not None and at.kind != kind:
            at = at.parent
        return at


@dataclass(frozen=True)
class Outcome:
    """What a run did. done and cached: stage titles; funnel: a row a stage (see `funnel`)."""

    work: Path
    done: list[str]
    cached: list[str]
    funnel: list[dict[str, Any]] = field(default_factory=list)

    def __str__(self) -> str:
        return f"{len(self.done)} stages run, {len(self.cached)} cached, in {self.work}"


def run(
    recipe: Recipe,
    work: Path,
    *,
    until: str | None = None,
    workers: int = 1,
    on_stage: Callable[[str], None] | None = None,
) -> Outcome:
    """Runs what is not there yet. Raises TamisError with one sentence; a killed run is taken up by the same call."""
    from curate.stages.everything import plan

    work = Path(work)
    stages = _until(plan(recipe), until)
    done: list[str] = []
    cached: list[str] = []
    with _held(work):
        write_text(work / "recipe.yaml", _yaml(recipe.resolved))
        _settle(work, stages)
        for stage in stages:
            if state(work, stage) == "cached":
                cached.append(stage.title)
                continue
            if on_stage:
                on_stage(stage.title)
            _compute(stage, stages, recipe, work, workers)
            done.append(stage.title)
        write_json(work / "stages.json", {"recipe": recipe.name, "stages": [stage.title for stage in stages]})
        if until is None:
            _sweep(work, stages)
    return Outcome(work, done, cached, funnel(work))


def state(work: Path, stage: Stage) -> str:
    """ "cached", or why the stage would run: "new", "started", "changed"."""
    try:
        if read_json(work / stage.title / "manifest.json")["key"] == stage.key:
            return "cached"
        changed = "changed"
    except (OSError, ValueError, KeyError):
        changed = "new"
    return "started" if _partial(work, stage).is_dir() else changed


def funnel(work: Path) -> list[dict[str, Any]]:
    """The funnel of a work folder: stage, method, in, out, kept, seconds, peak_mb, reasons (top ones, by count)."""
    rows = []
    for title in titles(work):
        manifest = read_json(work / title / "manifest.json")
        facts = read_json(_run_facts(work, title))
        rows.append(
            {
                "stage": title,
                "method": manifest["method"],
                "in": manifest["in"],
                "out": manifest["out"],
                "kept": None if not manifest["in"] or manifest["out"] is None else manifest["out"] / manifest["in"],
                "seconds": facts["seconds"],
                "peak_mb": facts["peak_mb"],
                "reasons": sorted(manifest["reasons"].items(), key=lambda item: (-item[1], item[0])),
            }
        )
    return rows


def titles(work: Path) -> list[str]:
    """The stages of the last run in a work folder, in order."""
    try:
        listed = read_json(Path(work) / "stages.json")["stages"]
    except (OSError, ValueError) as error:
        raise WorkError(
            f"{work} is not a work folder: it holds no stages.json; `tamis run RECIPE --work {work}` makes one"
        ) from error
    return [title for title in listed if (Path(work) / title / "manifest.json").is_file()]


def _until(stages: tuple[Stage, ...], until: str | None) -> tuple[Stage, ...]:
    if until is None:
        return stages
    for number, stage in enumerate(stages):
        if until in (stage.title, stage.name):
            last = max(i for i, other in enumerate(stages) if until in (other.title, other.name))
            return stages[: last + 1] if until != stage.title else stages[: number + 1]
    raise RequestError(
        f"--until {until}: there is no such stage; the stages are {', '.join(stage.title for stage in stages)}"
    )


# --- one stage -------------------------------------------------------------------------------------------------------


def _compute(stage: Stage, stages: tuple[Stage, ...], recipe: Recipe, work: Path, workers: int) -> None:
    folder = _partial(work, stage)
    for stale in work.glob(f".{stage.title}.*"):
        if stale != folder and stale.is_dir():
            shutil.rmtree(stale)
    folder.mkdir(parents=True, exist_ok=True)
    for half in list(folder.rglob(".*.tmp")):  # what a killed run was writing
        shutil.rmtree(half) if half.is_dir() else half.unlink(missing_ok=True)
    start = time.monotonic()
    reset_peak()
    facts = stage.compute(Job(stage, folder, work, recipe, stages, workers))
    counts = _counts(stage, folder, work)
    manifest = {
        "stage": stage.title,
        "kind": stage.kind,
        "method": stage.method,
        "options": stage.options,
        "seed": stage.seed,
        "key": stage.key,
        "parent": stage.parent.key if stage.parent else None,
        "source": stage.source,
        "versions": stage.versions,
        "facts": facts,
        **counts,
    }
    run_facts = {
        "seconds": round(time.monotonic() - start, 3),
        "peak_mb": peak_mb(),
        "workers": workers,
        "python": platform.python_version(),
        "host": platform.node(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
    }
    write_json(_run_facts(work, stage.title) if not stage.tabular else folder / "run.json", run_facts)
    write_json(folder / "manifest.json", manifest)  # last: a folder with a manifest is whole
    _replace(folder, work / stage.title)


def _counts(stage: Stage, folder: Path, work: Path) -> dict[str, Any]:
    """Rows in, out and removed, with the reasons. The numbers inside a reason are folded, as in "length: N words < 3"."""
    before = read_json(work / stage.parent.title / "manifest.json")["out"] if stage.parent else None
    if not stage.tabular:
        return {"in": before, "out": before, "removed": 0, "reasons": {}}
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
        "hash": table.content_hash(table.shards(folder / "kept")),
    }


def folded(reason: str) -> str:
    """A reason with its place and the first number left out, so that reasons can be counted.

    >>> folded("length: 2 words < 3"), folded("a.jsonl:7: not JSON")
    ('length: N words < 3', 'not JSON')
    """
    reason = re.sub(r"^\S+:\d+: ", "", reason)
    name, colon, detail = reason.partition(": ")
    return f"{name}{colon}{re.sub(r'[-+]?[0-9][0-9_,.]*', 'N', detail, count=1)}" if colon else reason


def _run_facts(work: Path, title: str) -> Path:
    """Seconds, memory and host: beside a product, since a release is pushed as it is; inside a stage's own folder."""
    return work / title / "run.json" if title[:2].isdigit() else work / f"{title}.run.json"


def _partial(work: Path, stage: Stage) -> Path:
    return work / f".{stage.title}.{stage.key[:16]}"


def _replace(folder: Path, final: Path) -> None:
    """Puts a whole folder in its place. A crash in between is mended by `_settle`."""
    old = final.with_name(f".old.{final.name}")
    if old.exists():
        shutil.rmtree(old)
    if final.exists():
        os.rename(final, old)
    os.rename(folder, final)
    shutil.rmtree(old, ignore_errors=True)


def _settle(work: Path, stages: tuple[Stage, ...]) -> None:
    """After a crash: a stage that was whole but not yet renamed takes its place; a stage whose number changed moves."""
    for stage in stages:
        folder = _partial(work, stage)
        if (folder / "manifest.json").is_file():
            _replace(folder, work / stage.title)
    by_key = {}
    for path in sorted(work.glob("*/manifest.json")):
        try:
            by_key[read_json(path)["key"]] = path.parent
        except (ValueError, KeyError):
            continue
    wrong = [
        stage for stage in stages if stage.tabular and by_key.get(stage.key, work / stage.title) != work / stage.title
    ]
    for stage in wrong:
        os.rename(by_key[stage.key], _partial(work, stage))
    for stage in wrong:
        manifest = read_json(_partial(work, stage) / "manifest.json")
        write_json(_partial(work, stage) / "manifest.json", {**manifest, "stage": stage.title})
        _replace(_partial(work, stage), work / stage.title)


def _sweep(work: Path, stages: tuple[Stage, ...]) -> None:
    """After a whole run, nothing stays of stages that the recipe no longer has."""
    keep = {stage.title for stage in stages}
    for path in work.iterdir():
        ours = re.fullmatch(r"\d\d-[\w.-]+|release|model|study", path.name) and (path / "manifest.json").is_file()
        if (ours and path.name not in keep) or path.name.startswith(".old."):
            shutil.rmtree(path)


# --- the work folder -------------------------------------------------------------------------------------------------


@contextmanager
def _held(work: Path) -> Iterator[None]:
    """The work folder belongs to one run at a time; the lock goes with the process, however it ends."""
    if work.exists() and not work.is_dir():
        raise WorkError(f"{work} is a file; give a folder with --work")
    strangers = [p.name for p in work.iterdir() if not p.name.startswith(".")][:3] if work.is_dir() else []
    if strangers and not any((work / name).exists() for name in ("recipe.yaml", "stages.json", ".lock")):
        raise WorkError(f"{work} holds other files ({', '.join(strangers)}); give an empty or a new folder with --work")
    work.mkdir(parents=True, exist_ok=True)
    with open(work / ".lock", "a+", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            lock.seek(0)
            try:
                holder = json.loads(lock.read())
                who = f"process {holder['pid']} on {holder['host']}, `{holder['command']}`, since {holder['since']}"
            except (ValueError, KeyError):
                who = "another process"
            raise WorkError(
                f"{work} is held by {who}; wait for it, stop it, or give another folder with --work"
            ) from error
        lock.seek(0)
        lock.truncate()
        command = " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])
        since = time.strftime("%Y-%m-%d %H:%M:%S")
        lock.write(json.dumps({"pid": os.getpid(), "host": platform.node(), "command": command, "since": since}))
        lock.flush()
        yield


def _yaml(resolved: dict[str, Any]) -> str:
    import yaml

    return yaml.safe_dump(resolved, sort_keys=False, allow_unicode=True, width=120)


def key_of(parent: Stage | None, **parts: Any) -> str:
    """A stage's key: a hash of all that its bytes depend on."""
    return digest({"contract": _CONTRACT, "parent": parent.key if parent else None, **parts})


__all__ = ["Job", "Outcome", "Stage", "folded", "funnel", "key_of", "run", "state", "titles"]
