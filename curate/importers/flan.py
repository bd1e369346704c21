"""FLAN's patterns as our own sets: `tamis templates import flan`.

    PATTERNS = {"rte": [("{premise}\\n\\n… \\"{hypothesis}\\"?\\n\\n{options_}", "{answer}"), …], …}

A file holds pairs of an input and a target text, which FLAN fills in with ``str.format`` (google-research/FLAN,
flan/templates.py): a JSON mapping, or a Python file with such a literal, which is parsed and never run. ``{x}`` becomes
``{{ x }}``, ``{options_}`` and ``{options_str}`` become ``{{ options }}``, whose style our engine draws, and ``{answer}``
becomes ``{{ answer }}``, which says what that style asks for. The columns are FLAN's field names; a row's ``options`` is the
list of its choices and ``answer`` the right one. Defects that FLAN's own library has are findings.
"""

from __future__ import annotations

import ast
import json
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from string import Formatter
from typing import Any

from curate.contract.errors import TemplateError
from curate.importers import setfile
from curate.template.sets import Finding

_TYPED = {"options_": "options", "options_str": "options", "options": "options", "answer": "answer"}
_STRAY = re.compile(r"(\{\w+\})n(?=\n)")


@dataclass(frozen=True)
class Pattern:
    """An input and a target, as FLAN writes them. where: file:line."""

    input: str
    target: str
    where: str


def read(path: Path) -> dict[str, list[Pattern]]:
    """Patterns by their key, from a ``.json`` or a ``.py`` file.

    Raises TemplateError with file:line: the file cannot be read or parsed, or holds no such mapping.
    """
    path = Path(path)
    try:
        text = path.read_bytes().decode("utf-8")
    except OSError as error:
        raise TemplateError(f"{path}: the file cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise TemplateError(f"{path}:{error.object.count(10, 0, error.start) + 1}: this is not UTF-8") from error
    data, lines = _json(path, text) if path.suffix == ".json" else _python(path, text)
    if not isinstance(data, dict):
        raise TemplateError(f"{path}:1: the patterns should be a mapping of names to lists of pairs")
    return {str(key): _patterns(path, str(key), pairs, lines) for key, pairs in data.items()}


def _json(path: Path, text: str) -> tuple[Any, dict[str, int]]:
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        raise TemplateError(f"{path}:{error.lineno}: this is not valid JSON: {error.msg}") from error
    except RecursionError as error:
        raise TemplateError(f"{path}:1: this is nested too deep") from error
    strings = re.finditer(r'"(?:[^"\\]|\\.)*"', text)
    return data, {json.loads(m[0], strict=False): text.count("\n", 0, m.start()) + 1 for m in strings}


def _python(path: Path, text: str) -> tuple[Any, dict[str, int]]:
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = getattr(error, "lineno", None) or 1
        raise TemplateError(f"{path}:{line}: this is not valid Python: {getattr(error, 'msg', error)}") from error
    for node in tree.body:
        if not isinstance(node, ast.Assign | ast.AnnAssign) or node.value is None:
            continue
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        if not any(isinstance(target, ast.Name) and target.id == "PATTERNS" for target in targets):
            continue
        try:
            data = ast.literal_eval(node.value)
        except (ValueError, TypeError, RecursionError) as error:
            what = "PATTERNS is not a literal; it may hold mappings, lists, tuples and texts, and nothing that is run"
            raise TemplateError(f"{path}:{node.lineno}: {what}") from error
        constants = (n for n in ast.walk(node.value) if isinstance(n, ast.Constant) and isinstance(n.value, str))
        return data, {str(constant.value): constant.lineno for constant in constants}
    raise TemplateError(f"{path}:1: the file assigns no mapping to PATTERNS")


def _patterns(path: Path, key: str, pairs: Any, lines: dict[str, int]) -> list[Pattern]:
    if not isinstance(pairs, list | tuple):
        raise TemplateError(f"{path}:{lines.get(key, 1)}: `{key}` should be a list of pairs")
    for pair in pairs:
        if not isinstance(pair, list | tuple) or len(pair) != 2 or not all(isinstance(part, str) for part in pair):
            raise TemplateError(
                f"{path}:{lines.get(key, 1)}: a pattern of `{key}` is not a pair of an input and a target text"
            )
    return [Pattern(pair[0], pair[1], f"{path}:{lines.get(pair[0], lines.get(key, 1))}") for pair in pairs]


def convert(name: str, patterns: list[Pattern]) -> tuple[str | None, list[Finding]]:
    """A key's patterns as the YAML of a set, and findings: for patterns that are left out, and for one that is mended.
    None where no pattern is left."""
    findings: list[Finding] = []
    kept: dict[tuple[str, str], tuple[int, Pattern]] = {}
    for number, pattern in enumerate(patterns):
        mended = _STRAY.sub(r"\1\n", pattern.input)
        if mended != pattern.input:
            why = f"the pattern {number} of '{name}' prints a stray `n` after a field, a broken line break"
            findings.append(Finding("stray-n", pattern.where, why, "the set has a line break there"))
        pattern = Pattern(mended, pattern.target, pattern.where)
        same = "".join(pattern.input.split()).casefold(), "".join(pattern.target.split()).casefold()
        if wrong := _defect(pattern):
            findings.append(_left_out(name, number, pattern, *wrong))
        elif same in kept:
            why = f"says the same as the pattern {kept[same][0]}"
            findings.append(_left_out(name, number, pattern, "duplicate-template", why))
        else:
            kept[same] = number, pattern
    return (_yaml(name, list(kept.values())) if kept else None), findings


def _left_out(name: str, number: int, pattern: Pattern, rule: str, why: str) -> Finding:
    return Finding(rule, pattern.where, f"the pattern {number} of '{name}' {why}", "it is left out; write another")


def _defect(pattern: Pattern) -> tuple[str, str] | None:
    """(rule, why) of a pattern that must not be converted."""
    try:
        asked, told = _fields(pattern.input), _fields(pattern.target)
    except ValueError as error:
        return "not-converted", f"is not what str.format takes: {error}"
    for field in sorted(asked | told):
        if not field.isidentifier() or field.startswith("_"):
            return "not-converted", f"has the field `{{{field}}}`, which is no plain name"
    if not asked:
        return "constant-prompt", "has a prompt that reads nothing of the row"
    if "answer" in asked & told:
        return "leaked-answer", "gives its answer away in the prompt"
    shows = any(_TYPED.get(field) == "options" for field in asked)
    if any(_TYPED.get(field) == "options" for field in told):
        return "not-converted", "has options in its target"
    if shows and "answer" not in told:
        return "options", "shows options, but its target is not one of them"
    return None


def _fields(text: str) -> set[str]:
    """The names in braces. Raises ValueError: a brace alone, an index, a conversion or a format."""
    names = set()
    for _, field, form, conversion in Formatter().parse(text):
        if form or conversion:
            raise ValueError(f"`{{{field}}}` has a format")
        if field is not None:
            names.add(field)
    return names


def _jinja(text: str) -> str:
    """The text with our braces. A brace that stands for itself is printed where Jinja would take it for its own."""
    parts = []
    for literal, field, _, _ in Formatter().parse(text):
        parts.append(re.sub(r"\{(?=[{%#])|\{$", '{{ "{" }}', literal))
        if field is not None:
            parts.append(f"{{{{ {_TYPED.get(field, field)} }}}}")
    return "".join(parts)


def _shows(pattern: Pattern) -> bool:
    return any(_TYPED.get(field) == "options" for field in _fields(pattern.input))


def _yaml(name: str, patterns: list[tuple[int, Pattern]]) -> str:
    """A set of these patterns, by their number. The target that most of them have is the response of the record."""
    usual = Counter(pattern.target for _, pattern in patterns).most_common(1)[0][0]
    fields = set().union(*(_fields(pattern.input) | _fields(pattern.target) for _, pattern in patterns))
    plain = sorted(fields - _TYPED.keys())
    shows = any(_TYPED.get(field) == "options" for field in fields)
    columns = {field: field for field in plain}
    example: dict[str, Any] = {field: f"a made-up {field.replace('_', ' ')}" for field in plain}
    typed: dict[str, str] = {}
    if shows:
        columns["option_texts"] = "options"
        typed["choices"] = "option_texts"
        example["options"] = ["the first option", "the second option"]
    if shows or "answer" in fields:
        columns["answer_text"] = "answer"
        typed["answer"] = "answer_text"
        example["answer"] = "the first option" if shows else "a made-up answer"
    return setfile.dump(
        {
            "dataset": name,
            "about": f"FLAN's patterns for {name}.",
            "license": "unknown",
            "columns": columns,
            "record": _record(patterns, plain, usual),
            **typed,
            "example": example,
            "templates": [_template(number, pattern, usual) for number, pattern in patterns],
        }
    )


def _record(patterns: list[tuple[int, Pattern]], plain: list[str], usual: str) -> dict[str, str]:
    """What curation sees: the fields that the first prompt of the usual target prints, and that target."""
    asked = next((pattern.input for _, pattern in patterns if pattern.target == usual), "")
    printed = [field for field in plain if field in _fields(asked) - _fields(usual)] or plain
    return {"prompt": "\n\n".join(f"{{{{ {field} }}}}" for field in printed), "response": _jinja(usual)}


def _template(number: int, pattern: Pattern, usual: str) -> dict[str, str]:
    return {
        "name": f"pattern_{number}",
        "kind": "forward" if pattern.target == usual or _shows(pattern) else "inverted",
        "style": _style(pattern.input),
        "input": re.sub(r"(?<=[^\n])[ \t]*(\{\{ options \}\})[ \t]*", r"\n\1", _jinja(pattern.input)),
        "target": _jinja(pattern.target),
    }


def _style(text: str) -> str:
    words = len(re.sub(r"\{\w*\}", " ", text).split())
    return "terse" if words < 8 else "plain" if words < 30 else "detailed"
