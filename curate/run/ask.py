"""What a kind of stage asks while its section of a recipe is checked: options bound to a signature, a method found, a
mistake said with its line. Every mistake of the file is collected; nothing is raised until all sections were read.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from curate.contract import columns, methods
from curate.contract.errors import MethodError
from curate.contract.methods import REQUIRED, Method, Parameter, accepts, nearest
from curate.contract.strict_yaml import Document
from curate.rows.table import LOAD_SCHEMA
from curate.run.stage import Step

WHERE_COLUMNS = ("source", "task_cluster", "task", "license", "split", "origin")
TEXT_ABOUT = "the text that is read: prompt, response, or both as record"


@dataclass
class Check:
    """One reading of a recipe: the document, the problems so far, and the steps that are bound so far."""

    path: Path
    document: Document
    folder: Path
    data: Path
    name: str = ""
    problems: list[str] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    tried: set[str] = field(default_factory=set)  # kinds whose sections were read, whether they could be bound or not
    added: dict[str, str] = field(default_factory=dict)  # columns that steps add, and the step's name

    def say(self, problem: str, *keys: Any) -> None:
        self.problems.append(f"{self.path}:{self.document.line(*keys)}: {problem}")


@dataclass(frozen=True)
class Chosen:
    """A method that was chosen, its options with all defaults, and the column of text that it reads."""

    method: Method
    options: dict[str, Any]
    text: str | None

    @property
    def written(self) -> dict[str, Any]:
        """As the resolved recipe writes it."""
        with_text = {**self.options, "text": self.text} if self.text in methods.TEXTS else self.options
        return {self.method.name: with_text}


@dataclass(frozen=True)
class Ask:
    """The view that one kind has on the check. at: the keys of its section. entry: of a step, the whole of it, with `as` and
    `where`."""

    check: Check
    kind: str
    at: tuple[Any, ...]
    entry: dict[str, Any] | None = None

    @property
    def folder(self) -> Path:
        """The recipe's."""
        return self.check.folder

    @property
    def name(self) -> str:
        """What the step is called: its `as:`, else its kind."""
        return str((self.entry or {}).get("as") or self.kind)

    @property
    def count(self) -> int:
        """How many problems there are so far: unchanged where nothing was said in between."""
        return len(self.check.problems)

    def say(self, problem: str, *keys: Any) -> None:
        self.check.say(problem, *self.at, *keys)

    def before(self, kind: str) -> Step | None:
        """The nearest step of a kind that stands before, or None."""
        return next((step for step in reversed(self.check.steps) if step.kind == kind), None)

    def need(self, kind: str, sentence: str, *keys: Any) -> bool:
        """Whether a kind stands before; says the sentence where it does not."""
        there = kind in self.check.tried
        if not there:
            self.say(sentence, *keys)
        return there

    def values(self, column: str) -> frozenset[str]:
        """The values that a column is known to have; empty where that is not known."""
        return frozenset().union(*(step.values.get(column, frozenset()) for step in self.check.steps))

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that a table has here, those of rendering left out."""
        return (*LOAD_SCHEMA, columns.RANK, columns.GAIN, *self.check.added)

    # --- options -----------------------------------------------------------------------------------------------------

    def bind(
        self,
        what: str,
        parameters: Iterable[Parameter],
        given: Any,
        *keys: Any,
        renamed: dict[str, str] | None = None,
    ) -> dict[str, Any]:
        """Options with defaults; says each unknown, renamed, missing or ill-typed one, and gives None for it."""
        known = {parameter.word: parameter for parameter in parameters}
        if not isinstance(given, dict):
            self.say(f"{what}: options are a mapping, as in `option: value`", *keys)
            return dict.fromkeys(known)
        for word in given:
            if word not in known and word in (renamed or {}):
                self.say(f"{what}: `{word}` is now called `{(renamed or {})[word]}`; write that", *keys, word)
            elif word not in known:
                takes = ", ".join(map(str, known.values())) or "no options"
                self.say(f"{what} has no option '{word}'{nearest(str(word), known)}; it takes {takes}", *keys, word)
        return {word: self._value(what, parameter, given, keys, renamed or {}) for word, parameter in known.items()}

    def _value(
        self, what: str, parameter: Parameter, given: dict[str, Any], keys: tuple[Any, ...], renamed: dict[str, str]
    ) -> Any:
        word = parameter.word
        if word not in given:
            if parameter.default is not REQUIRED:
                return copy.deepcopy(parameter.default)
            if not any(renamed.get(old) == word for old in given):
                self.say(f"{what} needs '{word}' ({plain(parameter.annotation)})", *keys)
            return None
        value = given[word]
        if (value is None and parameter.default is None) or accepts(parameter.annotation, value):
            return value
        self.say(f"{what}: '{word}' is {value!r}, and should be {plain(parameter.annotation)}", *keys, word)
        return None

    # --- methods -----------------------------------------------------------------------------------------------------

    def method(
        self,
        room: str,
        choice: Any,
        *keys: Any,
        parameters: Callable[[Method], Iterable[Parameter]] = lambda method: method.parameters,
    ) -> Chosen | None:
        """A method written ``name`` or ``{name: {options}}``. parameters: those it is bound to, where not its own alone."""
        if isinstance(choice, dict) and len(choice) != 1:
            there = ", ".join(map(str, choice))
            self.say(
                f"write one {room} method, as `name` or `{{name: {{options}}}}`; here are {len(choice)}: {there}", *keys
            )
            return None
        name, options = name_and_options(choice)
        try:
            method = methods.find(room, name, self.folder)
        except MethodError as error:
            self.say(str(error), *keys)
            return None
        takes = list(parameters(method))
        if method.text in methods.TEXTS:
            takes.append(Parameter("text", "Literal['prompt', 'response', 'record']", method.text, TEXT_ABOUT))
        bound = self.bind(f"{room} {name}", takes, options, *keys, name, renamed=method.renamed)
        text = bound.pop("text", method.text)
        return Chosen(method, bound, text)

    def step(self, room: str, choice: Any, *, no_where: str = "", **of_method: Any) -> Step | None:
        """The step of a kind that is one method of a room. no_where: why it takes no `where:`, if it takes none."""
        chosen = self.method(room, choice, self.kind, **of_method)
        if chosen is None:
            return None
        return self.step_of(chosen, self.where(no_where))

    def step_of(self, chosen: Chosen, where: dict[str, list[str]]) -> Step:
        return Step(
            kind=self.kind,
            name=self.name,
            method=chosen.method.name,
            options=chosen.options if chosen.text is None else {**chosen.options, "text": chosen.text},
            written={
                self.kind: chosen.written,
                **({"as": self.name} if self.name != self.kind else {}),
                **({"where": where} if where else {}),
            },
            methods=(chosen.method,),
            text=chosen.text,
            where=where,
        )

    def where(self, refused: str = "") -> dict[str, list[str]]:
        """The step's `where:`, checked. refused: why it may have none."""
        where = (self.entry or {}).get("where")
        if where is None:
            return {}
        if refused:
            self.say(f"{self.kind} takes no `where`: {refused}", "where")
            return {}
        if not isinstance(where, dict):
            self.say("`where` is a mapping of columns to values, as in `where: {source: [gsm8k]}`", "where")
            return {}
        bound: dict[str, list[str]] = {}
        for column, values in where.items():
            if column not in WHERE_COLUMNS:
                takes = ", ".join(WHERE_COLUMNS)
                self.say(
                    f"`where` knows no column '{column}'{nearest(str(column), WHERE_COLUMNS)}; it takes {takes}",
                    "where",
                    column,
                )
                continue
            bound[column] = [str(value) for value in (values if isinstance(values, list) else [values])]
            known = self.values(column)
            for value in bound[column]:
                if known and value not in known:
                    self.say(f"there is no {column} '{value}'{nearest(value, known)}", "where", column)
        return bound


def name_and_options(choice: Any) -> tuple[str, dict[str, Any]]:
    """``name`` or ``{name: {options}}`` in parts."""
    if isinstance(choice, dict) and choice:
        name, options = next(iter(choice.items()))
        return str(name), options if isinstance(options, dict) else {}
    return "" if choice is None else str(choice), {}


def plain(annotation: str) -> str:
    """An annotation in words.

    >>> plain("int | None"), plain("list[str]"), plain("Literal['one', 'all']")
    ('a whole number or null', 'a list of texts', 'one of one, all')
    """
    if annotation.startswith("Literal[") and annotation.count("[") == 1:
        choices, _, rest = annotation.removeprefix("Literal[").partition("]")
        return f"one of {choices.replace(chr(39), '')}" + (f" or {plain(rest.removeprefix(' | '))}" if rest else "")
    if annotation.startswith("list[") and annotation.endswith("]"):
        several = {"int": "whole numbers", "float": "numbers", "str": "texts"}
        return f"a list of {several.get(annotation[5:-1], plain(annotation[5:-1]))}"
    words = {
        "int": "a whole number",
        "float": "a number",
        "str": "text",
        "bool": "true or false",
        "None": "null",
        "dict": "a mapping",
        "list": "a list",
        "Any": "anything",
    }
    parts = re.split(r" \| (?![^\[]*\])", annotation)
    if len(parts) > 1:
        return " or ".join(map(plain, parts))
    return "a mapping" if annotation.startswith("dict[") else words.get(annotation.strip(), annotation.strip())
