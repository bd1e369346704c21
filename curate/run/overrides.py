"""``--set NAME=VALUE``: a section's option (``seed=1``, ``release.config=x``), or an option of the step or source that a name
means: its `as:`, its source's name, its kind or its method (``select.budget=500``)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curate.contract import strict_yaml
from curate.contract.errors import RecipeError
from curate.contract.methods import nearest


@dataclass(frozen=True)
class Lists:
    """The lists of a recipe, and the words that may begin an entry of each. methods: sections whose entries are a method and
    its options, by section; steps: the kinds of steps, whose entries hold a method each."""

    methods: dict[str, tuple[str, ...]]
    steps: tuple[str, ...]


def override(data: dict[str, Any], item: str, path: Path, sections: Iterable[str], lists: Lists) -> None:
    """Puts one override into a recipe's data, in place. RecipeError where it names nothing, or several things."""
    key, equals, text = item.partition("=")
    if not equals or not key:
        raise RecipeError(f"--set {item}: write it as NAME=VALUE, for example --set seed=1 or --set select.budget=500")
    value = strict_yaml.parse(text, f"--set {key}").data
    first, *rest = key.split(".")
    if first in sections and first not in (*lists.methods, "steps"):
        if rest and isinstance(data.get(first), str):  # `mix: proportional` takes options too
            data[first] = {data[first]: {}}
        target, where = data, [first, *rest]
    else:
        target, where = _named(data, first, key, path, sections, lists), rest
        if not rest:
            raise RecipeError(f"--set {item}: name the option too, as {first}.OPTION=VALUE")
    for part in where[:-1]:
        target = _inner(target, part, item)
    target[where[-1]] = value


def _inner(target: dict[str, Any], part: str, item: str) -> dict[str, Any]:
    """The section under a key, made where there is none; a method without options gets room for them."""
    inner = target.get(part)
    if isinstance(inner, str):
        inner = {inner: {}}
    target[part] = inner = {} if inner is None else inner
    if not isinstance(inner, dict):
        raise RecipeError(f"--set {item}: `{part}` is not a section with options")
    return inner


def _named(
    data: dict[str, Any], name: str, key: str, path: Path, sections: Iterable[str], lists: Lists
) -> dict[str, Any]:
    """The options of the step or source that a name means."""
    meant: list[tuple[str, dict[str, Any]]] = []
    for section, words in lists.methods.items():
        for entry in data.get(section) or []:
            method, options = kind_and_choice(entry, words)
            if method is not None and isinstance(entry, dict):
                entry[method] = options = options if isinstance(options, dict) else {}
                if name in (method, options.get("name")):
                    meant.append((str(options.get("name") or method), options))
    for entry in data.get("steps") or []:
        kind, choice = kind_and_choice(entry, lists.steps)
        if kind is not None and isinstance(entry, dict):
            method = choice if isinstance(choice, str) else next(iter(choice or {}), "")
            options = (choice.get(method) if isinstance(choice, dict) else None) or {}
            entry[kind] = {method: options}
            if entry.get("as") == name:
                return options
            if name in (kind, method):
                meant.append((str(entry.get("as") or method), options))
    if not meant:
        known = [*sections, *(str(k) for e in data.get("steps") or [] if isinstance(e, dict) for k in e)]
        raise RecipeError(f"--set {key}: nothing in {path} is called '{name}'{nearest(name, known)}")
    if len(meant) > 1:
        labels = ", ".join(label for label, _ in meant)
        raise RecipeError(f"--set {key}: '{name}' could mean several: {labels}; name one, or give it a name with `as:`")
    return meant[0][1]


def kind_and_choice(entry: Any, kinds: Iterable[str]) -> tuple[str | None, Any]:
    """The word of a list's entry that says what it is, and what stands under it."""
    if isinstance(entry, str) and entry in kinds:
        return entry, None
    if isinstance(entry, dict):
        for kind in kinds:
            if kind in entry:
                return kind, entry[kind]
    return None, None
