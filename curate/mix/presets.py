"""Published mixtures as data: templates/mixtures/<name>.yaml, or templates/mixtures/ beside a recipe.

about: What the mixture is, and where its numbers stand.
submixes:
  flan2021:
    weight: 0.4                # of the submixture; the default is 1
    cap: 30000                 # rate: a task weighs min(its rows, cap)
    example_cap: 30000         # only so many rows of a task count at all
    per_template: true         # T0's rule: each template of a task is a task of its own; above the cap they share it
    tasks:
      rte: {set: flan/natural_language_inference/rte, rows: 2290}
    sets: [cot/*]              # or every task whose template set fits a pattern
Or `tasks: flan2021`, for the tasks of another preset. rows: of the training split, as the mixture's authors counted
them, for people to compare; the plan counts the rows that are there. `rows: 0` is a task that is only evaluated on.
times: how often the task was registered over the same rows. names: further names of it in the columns `task`, `source`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import polars as pl

from curate.contract import columns, strict_yaml
from curate.contract.errors import ContractError, RecipeError, RequestError
from curate.contract.methods import accepts, nearest
from curate.contract.paths import library

_TOP = {"about": "str", "submixes": "dict"}
_SUBMIX = {
    "weight": "float",
    "cap": "int",
    "example_cap": "int",
    "per_template": "bool",
    "tasks": "dict | str",
    "sets": "list[str]",
}
_TASK = {"set": "str", "rows": "int", "times": "int", "names": "list[str]"}


@dataclass(frozen=True)
class Task:
    """set: the template set of its rows. rows: of its training split, 0 where it has none. times: how often it counts."""

    name: str
    set: str | None = None
    rows: int | None = None
    times: int = 1
    names: tuple[str, ...] = ()

    def called(self, *words: str | None) -> bool:
        return any(word == self.name or word in self.names for word in words if word)


@dataclass(frozen=True)
class Submix:
    """A part of a mixture. tasks: those that it names; sets: patterns of template sets, all of whose tasks belong to it."""

    name: str
    weight: Fraction = Fraction(1)
    cap: int | None = None
    example_cap: int | None = None
    per_template: bool = False
    tasks: Mapping[str, Task] = field(default_factory=dict)
    sets: tuple[str, ...] = ()

    def rate(self, rows: int, times: int = 1, templates: int = 1) -> int:
        """What a task weighs inside the submixture.

        min(rows, cap), once for every registration. With `per_template` (T0, arXiv 2110.08207), each of its
        templates weighs its rows, or cap // templates where the rows are above the cap.
        """
        if self.per_template:
            each = rows if self.cap is None or rows <= self.cap else self.cap // templates
            return times * templates * each
        return times * (rows if self.cap is None else min(rows, self.cap))


@dataclass(frozen=True)
class Preset:
    name: str
    about: str
    path: Path
    submixes: tuple[Submix, ...]

    @property
    def counts_templates(self) -> bool:
        return any(submix.per_template for submix in self.submixes)

    def named(self, submix: Submix, task: str) -> str:
        """What the plan calls a task."""
        return task if len(self.submixes) == 1 else f"{submix.name}/{task}"


def names(folder: Path | None = None) -> list[str]:
    """The presets of the library, and those beside a recipe."""
    return sorted({path.stem for place in _folders(folder) for path in place.glob("*.yaml")})


def path_of(name: str, folder: Path | None = None) -> Path:
    """A preset's file; RequestError with the nearest name where there is none. One beside the recipe wins."""
    for place in _folders(folder):
        if (place / f"{name}.yaml").is_file():
            return place / f"{name}.yaml"
    known = names(folder)
    raise RequestError(f"there is no preset '{name}'{nearest(name, known)}; there are: {', '.join(known)}")


def files_of(name: str, folder: Path | None = None) -> list[str]:
    """A preset and those whose tasks it takes, by name."""
    data = strict_yaml.read(path_of(name, folder)).data or {}
    borrowed = [part.get("tasks") for part in (data.get("submixes") or {}).values()]
    return [name, *sorted({other for other in borrowed if isinstance(other, str)})]


def load(name: str, folder: Path | None = None) -> Preset:
    """A preset; RecipeError with every mistake in its file, each with file:line."""
    path = path_of(name, folder)
    file = _File(path, strict_yaml.read(path), [])
    top = file.mapping(file.document.data, _TOP)
    parts = file.mapping(top.get("submixes"), dict.fromkeys(top.get("submixes") or {}, "dict"), "submixes")
    submixes = [submix for title, data in parts.items() if (submix := _submix(file, name, title, data, folder))]
    if not file.problems and not any(submix.weight for submix in submixes):
        file.say("all weights are 0; give at least one above 0", "submixes")
    if file.problems:
        raise RecipeError(file.problems)
    return Preset(name, top.get("about", ""), path, tuple(submixes))


def _submix(file: _File, preset: str, title: str, data: Any, folder: Path | None) -> Submix | None:
    """One submixture; None once the file has mistakes, since its values need not be what they should be."""
    part = file.mapping(data, _SUBMIX, "submixes", title)
    tasks = _tasks(file, preset, title, part.get("tasks") or {}, folder)
    if not tasks and not part.get("sets"):
        file.say(f"the submixture {title} holds nothing; give `tasks` or `sets`", "submixes", title)
    if file.problems:
        return None
    return Submix(
        title,
        Fraction(str(part.get("weight", 1))),
        part.get("cap"),
        part.get("example_cap"),
        part.get("per_template", False),
        tasks,
        tuple(part.get("sets", ())),
    )


def _tasks(file: _File, preset: str, title: str, given: Any, folder: Path | None) -> dict[str, Task]:
    """The tasks that a submixture names, or those of the other preset that it names."""
    if isinstance(given, str):
        borrowed = load(given, folder).submixes if given != preset else ()
        return {name: task for submix in borrowed for name, task in submix.tasks.items()}
    tasks = {}
    for name, entry in given.items():
        values = file.mapping(entry, _TASK, "submixes", title, "tasks", name)
        tasks[name] = Task(
            name, values.get("set"), values.get("rows"), values.get("times", 1), tuple(values.get("names", ()))
        )
    return tasks


@dataclass(frozen=True)
class _File:
    """A preset's file while it is read. problems: what is wrong with it so far."""

    path: Path
    document: strict_yaml.Document
    problems: list[str]

    def say(self, problem: str, *at: str) -> None:
        self.problems.append(f"{self.path}:{self.document.line(*at)}: {problem}")

    def mapping(self, data: Any, allowed: dict[str, str], *at: str) -> dict[str, Any]:
        """The mapping at a place, with all that is wrong with its keys and values said; empty where it is none."""
        if not isinstance(data, dict):
            self.say(f"this is a mapping with the keys {', '.join(allowed)}", *at)
            return {}
        for key, value in data.items():
            wrong = _wrong(key, value, allowed)
            if wrong:
                self.say(wrong, *at, key)
        return data


def _wrong(key: str, value: Any, allowed: dict[str, str]) -> str | None:
    """What is wrong with one entry of a preset's file."""
    if key not in allowed:
        return f"there is no key '{key}'{nearest(key, allowed)}; the keys are {', '.join(allowed)}"
    if not accepts(allowed[key], value):
        return f"`{key}` is {value!r}, and should be {allowed[key]}"
    if key in ("cap", "example_cap", "times") and value < 1:
        return f"`{key}` is {value}; it must be 1 or more"
    if key in ("weight", "rows") and value < 0:
        return f"`{key}` is {value}; it must be 0 or more"
    return None


# --- a preset over a table -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Bound:
    """A preset over the rows of a table. group: the name of each row's task, null outside. members: of each name, its
    submixture, its task and how many templates render it. limit: how many rows of a name count at all."""

    preset: Preset
    group: pl.Series
    members: dict[str, tuple[Submix, Task, int]]

    @property
    def limit(self) -> dict[str, int]:
        return {name: part.example_cap for name, (part, _, _) in self.members.items() if part.example_cap is not None}

    def rates(self, counts: Mapping[str, int]) -> dict[str, int]:
        """Of each name, what it weighs inside its submixture. counts: rows by name."""
        return {
            name: part.rate(counts[name], task.times, templates)
            for name, (part, task, templates) in self.members.items()
        }

    def weights(self, counts: Mapping[str, int]) -> dict[str, Fraction]:
        """Of each name, its share of the mixture: that of its submixture times that of its rate in it."""
        rates = self.rates(counts)
        sums = self._sums(rates)
        whole = sum(part.weight for part in self.preset.submixes if part.name in sums)
        return {
            name: part.weight / whole * rates[name] / sums[part.name] for name, (part, _, _) in self.members.items()
        }

    def total(self, counts: Mapping[str, int]) -> int:
        """The size where none is given: the sum of the rates, or with several submixtures the largest at which none of them
        gives more than its rates sum to."""
        sums = self._sums(self.rates(counts))
        parts = [part for part in self.preset.submixes if part.name in sums and part.weight]
        whole = sum(part.weight for part in parts)
        return math.floor(min(sums[part.name] * whole / part.weight for part in parts))

    def _sums(self, rates: Mapping[str, int]) -> Counter[str]:
        sums: Counter[str] = Counter()
        for name, (part, _, _) in self.members.items():
            sums[part.name] += rates[name]
        return sums


def bind(
    name: str,
    table: pl.DataFrame,
    folder: Path | None = None,
    *,
    sources: dict[str, list[str]] | None = None,
    missing: Literal["fail", "skip"] = "fail",
) -> Bound:
    """Finds the task of every row by its template set, and where several tasks share a set by the row's task or source.

    sources: the sources of a submixture, by its name; they come first. missing: "fail" or "skip", for tasks without rows.
    Raises RequestError for a source or a submixture that is not there, ContractError where a task has no rows, or where
    rows of a shared set do not say which task they are of.
    """
    preset = load(name, folder)
    keys = [columns.SOURCE, columns.TASK, columns.TEMPLATE_SET]
    kinds = table.select(keys).unique().sort(keys)
    owner = _owners(preset, kinds[columns.SOURCE].unique().sort().to_list(), sources or {})
    members: dict[str, tuple[Submix, Task, int]] = {}
    groups: list[str | None] = []
    for source, task, template_set in kinds.iter_rows():
        member = _member(preset, source, task, template_set, owner)
        if member is None or member[1].rows == 0 or not member[0].weight:
            groups.append(None)
            continue
        title = preset.named(member[0], member[1].name)
        groups.append(title)
        members[title] = (*member, _templates(template_set, folder) if member[0].per_template else 1)
    lacking = [
        preset.named(part, task.name)
        for part in preset.submixes
        if part.weight
        for task in part.tasks.values()
        if task.rows != 0 and preset.named(part, task.name) not in members
    ]
    filled = {part.name for part, _, _ in members.values()}
    lacking += [part.name for part in preset.submixes if part.weight and part.sets and part.name not in filled]
    if lacking and missing == "fail":
        some = ", ".join(lacking[:12]) + (f" and {len(lacking) - 12} more" if len(lacking) > 12 else "")
        raise ContractError(
            f"mix {name}: no row belongs to {some}; load {'it' if len(lacking) == 1 else 'them'}, or say `missing: skip`"
        )
    if not members:
        raise ContractError(f"mix {name}: no row belongs to any of its tasks; load rows through their template sets")
    kinds = kinds.with_columns(pl.Series("group", groups, dtype=pl.String))
    group = table.select(keys).join(kinds, on=keys, how="left", nulls_equal=True, maintain_order="left")["group"]
    return Bound(preset, group, members)


def _owners(preset: Preset, there: list[str], sources: Mapping[str, list[str]]) -> dict[str, Submix]:
    """The submixture of each source that the recipe assigns."""
    parts = {part.name: part for part in preset.submixes}
    owner = {}
    for part, given in sources.items():
        if part not in parts:
            raise RequestError(
                f"mix {preset.name}: there is no submixture '{part}'{nearest(part, parts)}; there are: {', '.join(parts)}"
            )
        for source in given:
            if source not in there:
                raise RequestError(
                    f"mix {preset.name}: there is no source '{source}'{nearest(source, there)}; there are: {', '.join(there)}"
                )
            owner[source] = parts[part]
    return owner


def _member(
    preset: Preset, source: str, task: str | None, template_set: str | None, owner: Mapping[str, Submix]
) -> tuple[Submix, Task] | None:
    parts = [owner[source]] if source in owner else list(preset.submixes)
    for part in parts:
        sharing = [one for one in part.tasks.values() if template_set is not None and one.set == template_set]
        if len(sharing) == 1:
            return part, sharing[0]
        if sharing:
            named = [one for one in sharing if one.called(task)] or [one for one in sharing if one.called(source)]
            if not named:
                raise ContractError(
                    f"mix {preset.name}: the rows of {source} are read through {template_set}, which "
                    f"{', '.join(one.name for one in sharing)} share; say which they are with `task:` beside the source"
                )
            return part, named[0]
    for part in parts:
        given = source in owner and not part.tasks
        if given or any(fnmatchcase(template_set or "", pattern) for pattern in part.sets):
            return part, Task(task or source)
    for part in parts:  # rows through a template set of one's own
        named = [one for one in part.tasks.values() if one.called(task)]
        if named and (template_set or "").split("/")[0] not in ("flan", "cot", "pools"):
            return part, named[0]
    return None


def _templates(template_set: str | None, folder: Path | None) -> int:
    from curate.template.sets import load_set

    return max(1, len(load_set(template_set, folder).templates)) if template_set else 1


def _folders(folder: Path | None) -> list[Path]:
    own = [folder / "templates" / "mixtures"] if folder is not None else []
    return [*own, library("templates") / "mixtures"]
