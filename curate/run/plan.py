"""The stages of a recipe, with their keys: a fold over its steps that knows no kind by name. Nothing is computed.

A stage's key is a hash of its parent's key, its method and options, the seed, the source of its kind, of its methods and of
all modules of ours or the user's that these import, the versions of the packages that they import, what the kind says its
bytes depend on (`reads`), and the files that its last run was seen to open.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from curate.contract.code import source_and_versions
from curate.contract.draws import draw
from curate.contract.files import ABSENT, digest, read_json
from curate.run import trace
from curate.run.recipe import Recipe
from curate.run.stage import Before, Stage, Step
from curate.run.work import CONTRACT, MANIFEST, run_facts

_WRITERS = [Path(__file__).with_name(name) for name in ("job.py", "work.py")]  # what a stage's bytes pass through


def plan(recipe: Recipe, work: Path | None = None) -> tuple[Stage, ...]:
    """All stages of a recipe. Reads the sources' bytes, to hash them. work: the folder whose last run is asked which files
    each stage opened."""
    stages: list[Stage] = []
    used: Counter[tuple[str, str]] = Counter()
    noted = _noted(work) if work is not None else {}
    for step in recipe.steps:
        before = Before(recipe, tuple(stages), work)
        seed = _seed(recipe.seed, step, used)
        stages.append(_stage(step, before, seed, noted))
    return tuple(stages)


def folders(recipe: Recipe) -> dict[str, Path]:
    """The folders whose files are watched while a stage reads, by the names that stand for them."""
    return {"data": recipe.data, "recipe": recipe.folder.resolve()}


def _stage(step: Step, before: Before, seed: int, noted: dict[str, tuple[str, dict[str, list[Any]]]]) -> Stage:
    kind = before.recipe.kinds[step.kind]
    parent = kind.parent(step, before)
    files = [kind.path, *(method.path for method in step.methods), *kind.code(step), *_WRITERS]
    code, versions = source_and_versions(files)
    known = kind.reads(step, before)
    static = digest(
        {
            "contract": CONTRACT,
            "parent": parent.key if parent else None,
            "kind": step.kind,
            "method": step.method,
            "options": step.options,
            "where": step.where,
            "adds": list(kind.adds(step)),
            "seed": seed,
            "code": code,
            "versions": versions,
            "reads": known,
        }
    )
    title = kind.product or f"{sum(stage.table for stage in before.stages):02d}-{step.name}"
    key = _key(static, noted.get(static), folders(before.recipe))
    return Stage(title, step, kind, seed, static, key, code, versions, parent, known)


def _key(static: str, last: tuple[str, dict[str, list[Any]]] | None, places: dict[str, Path]) -> str:
    """The key of the last run, where all files that it opened are as they were; another one where they are not."""
    if last is None:
        return static
    key, opened = last
    others = trace.changed(opened, places)
    return digest([static, others]) if others else key


def _noted(work: Path) -> dict[str, tuple[str, dict[str, list[Any]]]]:
    """Of every stage in a work folder, under what is known beforehand: its key, and the files that it opened."""
    noted = {}
    for path in work.glob(f"*/{MANIFEST}"):
        try:
            manifest = read_json(path)
            opened = read_json(run_facts(path.parent, manifest["table"]))["opened"]
            if manifest["contract"] == CONTRACT:
                noted[manifest["static"]] = manifest["key"], opened
        except (*ABSENT, ValueError, KeyError):
            continue
    return noted


def _seed(seed: int, step: Step, used: Counter[tuple[str, str]]) -> int:
    """The recipe's seed; a method that is used again gets one of its own, so that two random steps do not draw alike."""
    nth = used[step.kind, step.method]
    used[step.kind, step.method] += 1
    return seed if nth == 0 else draw(seed, f"step.{step.kind}.{step.method}", str(nth)) % 2**31
