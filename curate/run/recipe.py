"""YAML to Recipe: every mistake at once, each with file:line, what is allowed and the nearest name.

A method is written ``name`` or ``{name: {options}}``, everywhere. Options are bound to the method's signature; nothing
heavy is imported for that. The resolved recipe (all defaults written out) is kept beside the output. What each section means
is known to the kinds of stages alone (curate/stages); the order of SECTIONS is the order in which a recipe runs.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curate.contract import columns, methods, strict_yaml
from curate.contract.errors import RecipeError
from curate.contract.methods import REQUIRED, Parameter, nearest
from curate.run.ask import Ask, Check
from curate.run.kinds import STEPS, Kind, in_order, kinds
from curate.run.overrides import Lists, kind_and_choice, override
from curate.run.stage import Step

_PLACES = {"load": "first", "holdout": "before all steps"}
SECTIONS = ("load", "holdout", STEPS, "mix", "render", "release", "train", "study")
SETTINGS = (
    Parameter("name", "str", REQUIRED, "of the recipe, its work folder and its release"),
    Parameter("seed", "int", 0, "of every random draw"),
    Parameter("data", "str", ".", "the folder that the paths of sources hang from, relative to the recipe"),
)


@dataclass(frozen=True)
class Recipe:
    """A recipe that can be run: every name found, every option bound. steps: of all sections, in the order in which they run.
    resolved: plain data with all defaults. kinds: of the steps, by name."""

    path: Path
    name: str
    seed: int
    data: Path
    steps: tuple[Step, ...]
    resolved: dict[str, Any]
    kinds: dict[str, Kind]

    @property
    def folder(self) -> Path:
        """Where the recipe stands: ``methods/``, ``stages/`` and ``templates/`` beside it are found from here."""
        return self.path.parent

    def step(self, kind: str) -> Step | None:
        """The first step of a kind, or None."""
        return next((step for step in self.steps if step.kind == kind), None)

    def until(self, step: Step) -> dict[str, Any]:
        """The resolved recipe up to the section of a step, which is all that this step depends on."""
        last = SECTIONS.index(self.kinds[step.kind].section)
        return {key: value for key, value in self.resolved.items() if key not in SECTIONS[last + 1 :]}


def read(path: str | Path, sets: list[str] | None = None) -> Recipe:
    """Reads, overrides and checks a recipe. RecipeError holds all problems."""
    path = Path(path)
    if not path.is_file():
        raise RecipeError(f"{path}: no such recipe; give the path of a YAML file (examples stand in examples/)")
    document = strict_yaml.read(path)
    every = kinds(path.resolve().parent)
    if not isinstance(document.data, dict):
        there = ", ".join([*(parameter.name for parameter in SETTINGS), *SECTIONS])
        raise RecipeError(f"{path}:1: a recipe is a mapping with the keys {there}")
    data = _overridden(document, path, sets or [], every)
    check = Check(path, document, path.resolve().parent, _data_folder(path, data, sets or []))
    top = Ask(check, "the recipe", ()).bind("the recipe", _parameters(every), data)
    check.name = str(top["name"])
    written: dict[str, Any] = {}
    for section in SECTIONS:
        lines = _steps(check, top, every) if section == STEPS else _section(check, section, data, top, every)
        if lines is not None:
            written[section] = lines
    if check.problems:
        raise RecipeError(check.problems)
    resolved = {"name": top["name"], "seed": top["seed"], "data": str(top["data"]), **written}
    used = {step.kind: every[step.kind] for step in check.steps}
    return Recipe(path, top["name"], top["seed"], check.data, tuple(check.steps), resolved, used)


def _parameters(every: dict[str, Kind]) -> tuple[Parameter, ...]:
    """The keys of a recipe. What a section may be is said by the kinds that read it."""
    forms = {STEPS: "list"} | {kind.section: kind.form for kind in every.values() if kind.section != STEPS}
    must = {kind.section for kind in every.values() if kind.must}
    sections = (Parameter(name, forms.get(name, "dict"), REQUIRED if name in must else None) for name in SECTIONS)
    return *SETTINGS, *sections


def _overridden(document: strict_yaml.Document, path: Path, sets: list[str], every: dict[str, Kind]) -> dict[str, Any]:
    data = copy.deepcopy(document.data)
    folder = path.resolve().parent
    of_methods = {
        kind.section: tuple(methods.all_of(kind.methods, folder))
        for kind in every.values()
        if kind.section != STEPS and kind.form == "list" and kind.methods
    }
    lists = Lists(of_methods, _step_kinds(every))
    names = [*(parameter.name for parameter in SETTINGS), *SECTIONS]
    for item in sets:
        override(data, item, path, names, lists)
    return data


def _data_folder(path: Path, data: dict[str, Any], sets: list[str]) -> Path:
    """Relative to the recipe where the recipe says it, to the working folder where `--set data=` does."""
    told = next((item.partition("=")[2] for item in reversed(sets) if item.startswith("data=")), None)
    if told is not None:
        return Path(str(strict_yaml.parse(told, "--set data").data)).expanduser().resolve()
    return (path.resolve().parent / str(data.get("data") or ".")).resolve()


# --- sections --------------------------------------------------------------------------------------------------------


def _section(check: Check, section: str, data: dict[str, Any], top: dict[str, Any], every: dict[str, Kind]) -> Any:
    """Binds the kinds that read a section; gives what the resolved recipe writes for it, or None."""
    written = None
    for kind in in_order(kind for kind in every.values() if kind.section == section):
        given = top[section]
        if section not in data:
            if kind.implied is None or kind.name not in _asked_for(data, every):
                continue
            given = kind.implied
        elif given is None and data[section] is not None:
            continue  # of a wrong type, which was said
        for needed, sentence in kind.needs.items():
            if needed not in check.tried and (needed not in every or every[needed].section != section):
                check.say(sentence, section)
        step = _bind(check, kind, {} if given is None else given, Ask(check, kind.name, (section,)))
        if step is not None and step.written is not None:
            written = step.written
    return written


def _asked_for(data: dict[str, Any], every: dict[str, Kind]) -> set[str]:
    """The kinds that kinds of the recipe's sections need, directly or not."""
    waiting = [kind for kind in every.values() if kind.section != STEPS and kind.section in data]
    asked: set[str] = set()
    while waiting:
        for needed in waiting.pop().needs:
            if needed not in asked:
                asked.add(needed)
                waiting += [every[needed]] if needed in every else []
    return asked


def _steps(check: Check, top: dict[str, Any], every: dict[str, Kind]) -> list[Any] | None:
    """Binds the entries of `steps`; gives how the resolved recipe writes them, or None."""
    known = _step_kinds(every)
    first = len(check.steps)
    for number, entry in enumerate(top[STEPS] or []):
        at = (STEPS, number)
        word, given = kind_and_choice(entry, known)
        if word is None:
            _say_unknown(check, entry, known, at)
            continue
        entry = entry if isinstance(entry, dict) else {word: None}
        for key in entry:
            if key not in (word, "as", "where"):
                beside = nearest(str(key), ("as", "where"))
                check.say(f"a step has no key '{key}'{beside}; beside the method it takes `as`, `where`", *at, key)
        kind, ask = every[word], Ask(check, word, at, entry)
        for needed, sentence in kind.needs.items():
            ask.need(needed, sentence)
        if entry.get("as") and any(step.name == ask.name for step in check.steps[first:]):
            check.say(f"two steps are called '{ask.name}'", *at, "as")
        _bind(check, kind, given, ask)
    return [step.written for step in check.steps[first:]] or None


def _say_unknown(check: Check, entry: Any, known: tuple[str, ...], at: tuple[Any, ...]) -> None:
    given = [key for key in entry if key not in ("as", "where")] if isinstance(entry, dict) else [entry]
    word = str(given[0]) if given else ""
    if word in SECTIONS:
        check.say(
            f"`{word}` is no step but a section of its own; write `{word}:` at the left margin, beside `steps:`. It runs "
            f"{_PLACES.get(word, 'after all steps')}, wherever it stands",
            *at,
        )
        return
    check.say(f"unknown step '{word}'{nearest(word, known)}; a step is one of: {', '.join(known)}", *at)


def _bind(check: Check, kind: Kind, given: Any, ask: Ask) -> Step | None:
    """One kind's step, noted with the columns that it adds; two steps may not add the same one."""
    step = kind.bind(given, ask)
    check.tried.add(kind.name)
    if step is None:
        return None
    clash = next((column for column in kind.adds(step) if column in _taken() or column in check.added), None)
    if clash is not None:
        ask.say(f"{kind.name} would be written to the column '{clash}', which there is; give the step another `as:`")
    check.added |= dict.fromkeys(kind.adds(step), step.name)
    check.steps.append(step)
    return step


def _step_kinds(every: dict[str, Kind]) -> tuple[str, ...]:
    return tuple(kind.name for kind in every.values() if kind.section == STEPS)


def _taken() -> Iterator[str]:
    """Columns of the contract: no step may take their place."""
    return (value for key, value in vars(columns).items() if key.isupper() and isinstance(value, str))
