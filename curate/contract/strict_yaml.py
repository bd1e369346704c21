"""The one YAML reader, for recipes and for templates: strict, YAML 1.2, and it remembers where everything stood.

    document = parse("seed: 1\\nsteps:\\n  - dedup: exact\\n", "recipe.yaml")
    document.data                     {"seed": 1, "steps": [{"dedup": "exact"}]}
    document.line("steps", 0)         3

Scalars are resolved by the core schema of YAML 1.2.2 (section 10.3.2): ``yes``, ``on``, ``12:30`` and dates are text,
``1e-4`` is a number, ``null``, ``~`` and nothing are None. Keys are always text, as in JSON: the key ``1`` is "1".
A key that stands twice in one mapping, an anchor, an alias, a tag and a second document are errors: each of them makes
a file mean something else than what it seems to say.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from curate.contract.errors import RequestError

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml where PyYAML was built with it: ten times faster
_DEEPEST = 100

_NULL = {"", "~", "null", "Null", "NULL"}
_BOOL = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INT = re.compile(r"[-+]?[0-9]+")
_BASED = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_SPECIAL = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")


class YamlError(RequestError):
    """A file that is not the YAML we read. line: where, counted from 1."""

    def __init__(self, where: str, line: int, what: str):
        self.where, self.line, self.what = where, line, what
        super().__init__(f"{where}:{line}: {what}")

    def __reduce__(self):
        return type(self), (self.where, self.line, self.what)


@dataclass(frozen=True)
class Document:
    """What a file says, and on which line it says it."""

    data: Any
    where: str
    lines: dict[tuple[str | int, ...], int] = field(repr=False, default_factory=dict)

    def line(self, *keys: str | int) -> int:
        """The line of a key path (of the key in a mapping, of the item in a list), or of its nearest known ancestor."""
        for end in range(len(keys), -1, -1):
            if keys[:end] in self.lines:
                return self.lines[keys[:end]]
        return 1


def read(path: Path) -> Document:
    """Reads a file. Raises YamlError (not YAML, not UTF-8), OSError where it cannot be opened."""
    content = Path(path).read_bytes()
    try:
        return parse(content.decode("utf-8"), str(path))
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise YamlError(str(path), line, "this is not UTF-8; save the file as UTF-8") from error


def parse(text: str, where: str) -> Document:
    """Reads a text; ``where`` is what error messages call it. An empty text is None."""
    reader = _Reader(text, where)
    try:
        data = reader.document()
    except yaml.MarkedYAMLError as error:
        raise YamlError(where, *_explain(text, error)) from error
    except yaml.reader.ReaderError as error:
        first = yaml.reader.Reader.NON_PRINTABLE.search(text)
        line = text.count("\n", 0, first.start() if first else 0) + 1
        raise YamlError(where, line, "a control character stands here, which YAML does not allow; remove it") from error
    return Document(data, where, reader.lines)


_MOST_DIGITS = 4_000  # Python itself refuses more; a number of so many is text


def scalar(text: str) -> Any:
    """What a plain (unquoted) scalar means: ``scalar("1e-4") == 0.0001``. For ``--set key=value`` as well."""
    if text in _NULL:
        return None
    if text in _BOOL:
        return _BOOL[text]
    if _INT.fullmatch(text) and len(text) < _MOST_DIGITS:
        return int(text)
    if _BASED.fullmatch(text):
        return int(text[2:], 8 if text[1] == "o" else 16)
    if _FLOAT.fullmatch(text):
        return float(text)
    if _SPECIAL.fullmatch(text):
        return float(text.replace(".", ""))
    return text


class _Reader:
    """Builds Python values straight from the parser's events, so that nothing is resolved behind our back."""

    def __init__(self, text: str, where: str):
        self.where = where
        self.lines: dict[tuple[str | int, ...], int] = {}
        self.events = yaml.parse(text, Loader=_LOADER)

    def document(self) -> Any:
        event = next(self.events)  # the stream's start
        event = next(self.events)
        if isinstance(event, yaml.StreamEndEvent):
            return None
        data = self.value(next(self.events), ())
        next(self.events)  # the document's end
        event = next(self.events)
        if not isinstance(event, yaml.StreamEndEvent):
            raise self.error(event, "a second document starts here; one file holds one document")
        return data

    def value(self, event: Any, path: tuple[str | int, ...]) -> Any:
        self.refuse_cleverness(event)
        self.lines.setdefault(path, event.start_mark.line + 1)
        if len(path) > _DEEPEST:
            raise self.error(event, f"this is nested more than {_DEEPEST} levels deep")
        if isinstance(event, yaml.ScalarEvent):
            return scalar(event.value) if event.implicit[0] else event.value
        if isinstance(event, yaml.SequenceStartEvent):
            items: list[Any] = []
            while not isinstance(event := next(self.events), yaml.SequenceEndEvent):
                items.append(self.value(event, (*path, len(items))))
            return items
        return self.mapping(path)

    def mapping(self, path: tuple[str | int, ...]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        while not isinstance(event := next(self.events), yaml.MappingEndEvent):
            self.refuse_cleverness(event)
            if not isinstance(event, yaml.ScalarEvent):
                raise self.error(
                    event, "a key must be a word, not a list or a mapping; quote a value that starts with {{, { or ["
                )
            key = event.value
            if key in found:
                first = self.lines[(*path, key)]
                raise self.error(event, f"the key `{key}` stands twice, here and on line {first}; remove or rename one")
            self.lines[(*path, key)] = event.start_mark.line + 1
            found[key] = self.value(next(self.events), (*path, key))
        return found

    def refuse_cleverness(self, event: Any) -> None:
        if isinstance(event, yaml.AliasEvent):
            raise self.error(
                event,
                f"the alias *{event.anchor} is not allowed; write the value out, or quote a text that starts with *",
            )
        if event.anchor is not None:
            raise self.error(event, f"the anchor &{event.anchor} is not allowed; quote a text that starts with &")
        if event.tag is not None:
            raise self.error(event, f"the tag {event.tag} is not allowed; quote a text that starts with !")

    def error(self, event: Any, what: str) -> YamlError:
        return YamlError(self.where, event.start_mark.line + 1, what)


def _explain(text: str, error: yaml.MarkedYAMLError) -> tuple[int, str]:
    """Line and sentence: ours for the mistakes that people make, the parser's own words for the others."""
    problem, mark = error.problem or str(error), error.problem_mark or error.context_mark
    line = mark.line + 1 if mark else 1
    if error.context_mark and ("expected ','" in problem or "end of stream" in problem):
        return error.context_mark.line + 1, "a bracket or a quote opens here and is not closed"
    lines = text.splitlines()
    here = lines[line - 1] if line <= len(lines) else ""
    if "\t" in here[: len(here) - len(here.lstrip())] or "character '\\t'" in problem:
        return line, "this line is indented with a tab; use spaces"
    if "mapping values are not allowed" in problem:
        return line, "a colon followed by a space stands inside a plain value, or the indent is off; quote the value"
    if "cannot start any token" in problem:
        return line, "a value must not start with %, @ or a backtick; quote it"
    return line, f"this is not valid YAML: {problem}"
