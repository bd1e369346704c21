"""docs/recipe.md: every key of a recipe with type, default, meaning and an example, written from the kinds of stages and their
methods.

    python -m curate.report.reference docs/recipe.md
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from curate.contract import methods
from curate.contract.files import write_text
from curate.contract.methods import REQUIRED, Method, Parameter
from curate.run.ask import TEXT_ABOUT, WHERE_COLUMNS, plain
from curate.run.kinds import STEPS, Kind, in_order, kinds
from curate.run.recipe import SECTIONS, SETTINGS

_TOP = """\
# The recipe

Every key of a recipe. This page is written from the code by `make docs`.

A method is written `name` or `{name: {options}}`, everywhere. Mistakes are said all at once, each with its line, before
anything runs; `tamis run RECIPE --plan` says what would run. `--set NAME=VALUE` overrides an option: `seed=1`,
`release.config=small`, `select.budget=500` (by a step's `as:`, a source's `name:`, a kind or a method)."""
_STEPS = f"""\
## steps

A list. Each entry is one step, `- kind: method`, and may have beside it

| key | type | meaning |
|---|---|---|
| `as` | text | what the step is called, in folders, in `--set` and `--until` |
| `where` | a mapping | rows that the step touches, by the values of {", ".join(f"`{c}`" for c in WHERE_COLUMNS)}; others pass through |

A method that reads text takes `text`: {TEXT_ABOUT}."""


def page() -> str:
    """The whole page, in Markdown."""
    every = kinds()
    parts = [_TOP, _table(SETTINGS)]
    for section in SECTIONS:
        members = in_order(kind for kind in every.values() if kind.section == section)
        if section == STEPS:
            parts.append(_STEPS)
        for kind in members:
            if kind.example or section == STEPS:
                parts += _kind(kind)
    return "\n\n".join(parts) + "\n"


def _kind(kind: Kind) -> list[str]:
    level = "###" if kind.section == STEPS else "##"
    title = kind.section if kind.section != STEPS else kind.name
    parts = [f"{level} {title}", kind.about]
    if kind.example:
        parts.append(f"```yaml\n{kind.example}\n```")
    options = kind.options()
    if options:
        parts += [_heading(kind), _table(options)] if _heading(kind) else [_table(options)]
    rooms = [kind.methods] if kind.methods else []
    for room in rooms:
        parts += [part for method in methods.all_of(room).values() for part in _method(kind, method)]
    for word, (about, parameters) in kind.words().items():
        if word != kind.name and parameters:
            parts += [f"### {kind.name}: {word}", about, _table(parameters)]
    return parts


def _heading(kind: Kind) -> str:
    return f"Every {kind.name} method may take these:" if kind.methods else ""


def _method(kind: Kind, method: Method) -> list[str]:
    level = "####" if kind.section == STEPS else "###"
    parameters = list(method.parameters)
    if method.text in methods.TEXTS:
        parameters.append(Parameter("text", "Literal['prompt', 'response', 'record']", method.text, TEXT_ABOUT))
    summary = method.summary
    return [f"{level} {kind.name}: {method.name}", summary, *([_table(parameters)] if parameters else [])]


def _table(parameters: Iterable[Parameter]) -> str:
    lines = [f"| `{p.word}` | {_cell(_type(p))} | {_default(p)} | {_cell(_about(p))} |" for p in parameters]
    return "\n".join(["| key | type | default | meaning |", "|---|---|---|---|", *lines])


def _about(parameter: Parameter) -> str:
    if parameter.word == "budget" and not parameter.about:
        return "how many rows are chosen; or tokens, as in `{tokens: 200000, tokenizer: words}`"
    return parameter.about.rstrip(".;")


def _type(parameter: Parameter) -> str:
    return plain(parameter.annotation).removesuffix(" or null")


def _default(parameter: Parameter) -> str:
    if parameter.default is REQUIRED:
        return "needed"
    return _cell(f"`{_yaml(parameter.default)}`")


def _yaml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_yaml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_yaml, value)) + "]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value) if value != "" else '""'


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("``", "`").replace("|", "\\|")


if __name__ == "__main__":
    write_text(Path(sys.argv[1]), page())
