"""A selector as a recipe names it: its options, budget, constraints and columns checked before anything runs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from curate.contract import columns, methods
from curate.contract.errors import MethodError
from curate.contract.methods import Method, Parameter, nearest
from curate.rows import constraints, table, token_counts

ROOM = "select"
_COLUMN_OPTIONS = ("by", "score", "labels")  # options of selectors that name a column
_COLUMN_KEYS = ("quotas", "at_most", "quality", "must_have", "must_not_have", "target")  # and those whose keys do


def shared_options() -> tuple[Parameter, ...]:
    """What every selector takes beside its own."""
    return methods.signature("curate/rows/constraints.py", "common")


def chosen(given: Any, ask: Any, *keys: Any) -> Any:
    """A selector with its options bound (curate/run/ask.py: Chosen), or None; constraints that are not asked for are left out.
    ask: says what is wrong, with the line."""
    before = ask.count
    selector = ask.method(ROOM, given, *keys, parameters=_parameters)
    if selector is None or ask.count != before:
        return selector
    at = (*keys, selector.method.name)
    if "constraints" in selector.method.takes:
        _check_constraints(selector.method.name, selector.options, ask, at)
    for option, column in columns_named(selector.options):
        if column not in ask.columns and not column.startswith(f"{columns.FIELDS}."):
            there = sorted({*table.LOAD_SCHEMA, *ask.columns})
            ask.say(
                f"select {selector.method.name}: `{option}` names the column `{column}`, which no step before it makes"
                f"{nearest(column, there)}; there are: {', '.join(there)}, and a source's own as `fields.NAME`",
                *at,
                option,
            )
    return selector


def columns_named(options: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """(option, column): the columns that a selector's options name."""
    for option in _COLUMN_OPTIONS:
        if isinstance(options.get(option), str):
            yield option, options[option]
    for option in _COLUMN_KEYS:
        named = options.get(option)
        yield from ((option, str(column)) for column in named) if isinstance(named, dict) else ()


def _parameters(method: Method) -> tuple[Parameter, ...]:
    if "constraints" not in method.takes:
        return method.parameters
    own = (replace(p, annotation="int | dict") if p.name == "budget" else p for p in method.parameters)
    return *own, *shared_options()


def _check_constraints(method: str, options: dict[str, Any], ask: Any, at: tuple[Any, ...]) -> None:
    shared = {parameter.word: options.pop(parameter.word) for parameter in shared_options()}
    asked = {word: value for word, value in shared.items() if value is not None}
    if problem := constraints.budget_problem(options["budget"]):
        ask.say(f"select {method}: {problem}", *at, "budget")
    try:
        constraints.common(**asked)
    except MethodError as error:
        ask.say(str(error), *at)
    if isinstance(options["budget"], dict):
        tokenizer = str(options["budget"].get("tokenizer", token_counts.WORDS))
        if problem := token_counts.problem(tokenizer, ask.folder):
            ask.say(problem, *at, "budget")
    options.update(asked)
