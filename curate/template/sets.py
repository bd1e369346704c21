"""Template sets: the files under ``templates/`` as typed values, with every mistake of a file found at once.

A set says how the columns of one dataset (or of one shape, as Alpaca's) become roles, what curation sees of a row, and
in which phrasings it can be put. ``templates/README.md`` shows how to write one.

    columns     role: a column's dotted path, or a Jinja expression over the raw columns
    explode     an expression over the raw columns that gives a list: one record for each of its items, with the columns
                `item` and `position` (from 0) beside those of the row
    when        an expression over the roles; rows for which it is false leave with that reason
    record      prompt and response, Jinja texts over the roles: what filters, dedup and selection see
    messages    instead of templates: an expression that gives the row's own conversation, kept as it is
    extra       with messages: what the row holds besides them, name: expression, kept as JSON
    choices     the texts of the options in label order, or an expression that gives them
    answer      an expression: the index of the right choice, or the right text
    references  an expression: every right text, where several are right
    example     a row (or several) in the source's own schema, written by us
    templates   name, kind, style, input and target (or messages); also `when` and `choices`
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from jinja2 import TemplateSyntaxError
from jinja2.defaults import DEFAULT_NAMESPACE
from jinja2.exceptions import SecurityError

from curate.contract.errors import TemplateError
from curate.contract.files import digest
from curate.contract.methods import nearest
from curate.contract.paths import library
from curate.contract.strict_yaml import Document, YamlError, read
from curate.template import sandbox

KINDS = ("forward", "inverted", "cot")
STYLES = ("canonical", "terse", "plain", "detailed")
SHELVES = ("flan", "cot", "pools")  # the folders of templates/ that hold sets
METRICS = ("accuracy", "exact_match", "f1", "rouge_l", "bleu", "bits_per_byte")
TYPED = ("answer", "options")  # names that the engine adds to the roles
EXPLODED = ("item", "position")  # columns that `explode` adds to the row's

SET_KEYS = {
    "dataset": str, "about": str, "hub": dict, "license": str, "verified": str, "explode": str, "columns": dict, "when": str,
    "record": dict, "messages": str, "extra": dict, "choices": (list, str), "answer": str, "references": str, "metrics": list,
    "example": (dict, list), "templates": list,
}  # fmt: skip
TEMPLATE_KEYS = {
    "name": str, "kind": str, "style": str, "when": str, "choices": list, "input": str, "target": str, "messages": list,
}  # fmt: skip
_HUB_KEYS = {"path": str, "config": (str, list), "revision": str, "split": str}
_RENAMED = {"where": "when"}  # keys of a set that older files have
_RECORD_KEYS = {"prompt": str, "response": str}
_MESSAGE_KEYS = {"role": str, "content": str}
_WORDS = {str: "text", bool: "true or false", dict: "a mapping", list: "a list", (list, str): "a list or an expression", (str, list): "a name or a list of names", (dict, list): "a row or a list of rows"}  # fmt: skip


_RANDOM = re.compile(r"'(random|shuffle|choice|sample|randint|randrange|uniform|now|uuid4?)'")


@dataclass(frozen=True)
class Finding:
    """Something wrong in a template file: which rule, where (file:line), why it is wrong, and how to mend it."""

    rule: str
    where: str
    why: str
    mend: str

    def __str__(self) -> str:
        return f"{self.where}: {self.why}; {self.mend}"


@dataclass(frozen=True)
class Template:
    """One phrasing. messages: (role, Jinja text) pairs, the last of them the target. when: an expression over the roles;
    the template is drawn only for rows where it holds. choices: other words for the set's choices, in the same order.
    inversion_of: the template that it was derived from (curate/template/invert.py)."""

    name: str
    kind: str
    style: str
    messages: tuple[tuple[str, str], ...]
    when: str | None = None
    choices: tuple[str, ...] | None = None
    line: int = 1
    inversion_of: str | None = None

    @property
    def target(self) -> str:
        return self.messages[-1][1]

    @cached_property
    def input_reads(self) -> frozenset[str]:
        return frozenset().union(*(sandbox.text_reads(content) for _, content in self.messages[:-1]))

    @cached_property
    def target_reads(self) -> frozenset[str]:
        return sandbox.text_reads(self.target)


@dataclass(frozen=True)
class TemplateSet:
    """A template file. name: as a recipe names it ("flan/sentiment/sst2"). task: the dataset, None for a pool, whose rows
    have no one task. task_cluster: FLAN's cluster, which is the folder's name, None outside ``flan/``. verified: on which packing
    real rows have gone through every template: "hub", or another one by its name; None on none."""

    name: str
    path: Path
    dataset: str
    about: str
    hub: dict[str, str | list[str]] | None
    license: str | None
    verified: str | None
    explode: str | None
    columns: dict[str, str]
    when: str | None
    record: dict[str, str]
    messages: str | None
    extra: dict[str, str]
    choices: tuple[str, ...] | str | None
    answer: str | None
    references: str | None
    metrics: tuple[str, ...]
    examples: tuple[dict[str, Any], ...]
    templates: tuple[Template, ...]
    source_hash: str
    lines: dict[tuple[str | int, ...], int] = field(repr=False, compare=False, default_factory=dict)

    @property
    def task(self) -> str | None:
        return None if self.name.startswith("pools/") else self.dataset

    @property
    def task_cluster(self) -> str | None:
        parts = self.name.split("/")
        return parts[1] if len(parts) == 3 and parts[0] == "flan" else None

    @cached_property
    def needs(self) -> frozenset[str]:
        """The raw columns that every row must have."""
        needs = frozenset().union(*(_needs(source) for source in self.columns.values()))
        return (needs - {*EXPLODED}) | _needs(self.explode) if self.explode else needs

    @cached_property
    def optional(self) -> frozenset[str]:
        """The raw columns that are read where a row has them, behind a ``default``."""
        return frozenset().union(*(sandbox.expression_reads(source) for source in self.columns.values())) - self.needs

    @property
    def record_hash(self) -> str:
        """A hash of what loading reads: a phrasing may change without the records being loaded again."""
        read = (
            self.explode,
            self.columns,
            self.when,
            self.record,
            self.messages,
            self.extra,
            self.choices,
            self.answer,
            self.license,
        )
        return digest([self.name, self.dataset, *map(str, read)])

    def template(self, name: str) -> Template | None:
        return next((template for template in self.templates if template.name == name), None)


def names() -> list[str]:
    """The sets of the library: ["cot/gsm8k", …, "pools/prompt_completion"]."""
    root = library("templates")
    paths = (path for shelf in SHELVES for path in (root / shelf).rglob("*.yaml"))
    return sorted(path.relative_to(root).with_suffix("").as_posix() for path in paths)


def load_set(name: str, folder: Path | None = None) -> TemplateSet:
    """A set of the library by its name, or a ``.yaml`` file by its path, relative to ``folder`` (the recipe's folder).

    Raises TemplateError with every mistake in the file, one a line, each with file:line.
    """
    template_set, findings = read_set(name, folder)
    if template_set is None:
        raise TemplateError("\n".join(map(str, findings)))
    return template_set


def read_set(name: str, folder: Path | None = None) -> tuple[TemplateSet | None, list[Finding]]:
    """The set and no finding, or None and everything that is wrong with the file."""
    if name.endswith(".yaml"):
        path = (folder or Path()) / name
    else:
        path = library("templates") / f"{name}.yaml"
        if name.split("/")[0] not in SHELVES or ".." in name or not path.is_file():
            why = f"there is no template set '{name}'{nearest(name, names())}"
            return None, [
                Finding("name", "templates", why, "name a set of `tamis templates ls`, or a .yaml file of your own")
            ]
    try:
        return _read(name, path, path.stat().st_mtime_ns)
    except YamlError as error:
        return None, [Finding("yaml", f"{path}:{error.line}", error.what, "mend the file")]
    except OSError as error:
        why = f"the template file cannot be read ({error.strerror})"
        return None, [Finding("name", str(path), why, "a path is relative to the recipe's folder")]


@cache
def _read(name: str, path: Path, _changed: int) -> tuple[TemplateSet | None, list[Finding]]:
    return _Checker(name, path, read(path)).set()


def _needs(source: str) -> frozenset[str]:
    return frozenset({source.split(".")[0]}) if sandbox.is_path(source) else sandbox.expression_needs(source)


class _Checker:
    """Turns a document into a TemplateSet, and collects what is wrong instead of stopping at the first mistake."""

    def __init__(self, name: str, path: Path, document: Document):
        self.name, self.path, self.document = name, path, document
        self.findings: list[Finding] = []

    def set(self) -> tuple[TemplateSet | None, list[Finding]]:
        data = self.mapping(
            self.document.data, (), SET_KEYS, required=("dataset", "about", "columns", "record", "example")
        )
        hub = self.mapping(data.get("hub", {}), ("hub",), _HUB_KEYS, required=("path",) if "hub" in data else ())
        record = self.mapping(data.get("record", {}), ("record",), _RECORD_KEYS, required=("prompt", "response"))
        columns = self.columns(data)
        self.expressions(data, columns)
        typed = {"answer"} if "answer" in data else set()
        for key, source in record.items():
            self.text(source, ("record", key), columns.keys() | typed)
        if "choices" in data:
            typed.add("options")
        templates = [
            self.template(entry, ("templates", i), data, columns.keys() | typed)
            for i, entry in enumerate(data.get("templates", []))
        ]
        self.names(templates)
        if bool(templates) == ("messages" in data):
            self.find("templates-or-messages", (), "a set has either `templates` or `messages`", "give one of the two")
        examples = self.examples(data.get("example", {}))
        if self.findings:
            return None, self.findings
        choices = data.get("choices")
        template_set = TemplateSet(
            name=self.name,
            path=self.path,
            dataset=data["dataset"],
            about=data["about"],
            hub=hub or None,
            license=data.get("license"),
            verified=data.get("verified"),
            explode=data.get("explode"),
            columns=columns,
            when=data.get("when"),
            record=record,
            messages=data.get("messages"),
            extra=data.get("extra", {}),
            choices=tuple(choices) if isinstance(choices, list) else choices,
            answer=data.get("answer"),
            references=data.get("references"),
            metrics=tuple(data.get("metrics", ())),
            examples=tuple(examples),
            templates=tuple(template for template in templates if template is not None),
            source_hash=hashlib.blake2b(self.path.read_bytes(), digest_size=16).hexdigest(),
            lines=self.document.lines,
        )
        return template_set, []

    def examples(self, given: Any) -> list[Any]:
        examples = given if isinstance(given, list) else [given]
        if not all(isinstance(example, dict) for example in examples):
            why = "an example is not a mapping of columns"
            self.find("wrong-type", ("example",), why, "write it in the source's own schema")
        return examples

    def columns(self, data: dict[str, Any]) -> dict[str, str]:
        columns = {role: source for role, source in data.get("columns", {}).items() if isinstance(source, str)}
        for role in data.get("columns", {}):
            at = ("columns", role)
            if role not in columns:
                self.find(
                    "wrong-type",
                    at,
                    f"the role `{role}` has no column",
                    "write a column's name, or an expression in quotes",
                )
            elif not role.isidentifier() or role.startswith("_"):
                self.find("role-name", at, f"`{role}` cannot be the name of a role", "use letters, digits and _")
            elif role in TYPED:
                self.find(
                    "role-name",
                    at,
                    f"the name `{role}` is taken by the set's own `{role}`",
                    "give the role another name",
                )
            elif not sandbox.is_path(columns[role]):
                self.reads(columns[role], at, sandbox.expression_reads)
        return columns

    def expressions(self, data: dict[str, Any], columns: dict[str, str]) -> None:
        if isinstance(data.get("explode"), str):
            self.reads(data["explode"], ("explode",), sandbox.expression_reads)
        for key in ("when", "messages", "choices", "answer", "references"):
            if isinstance(data.get(key), str):
                self.expression(data[key], (key,), columns)
        for key, source in data.get("extra", {}).items():
            self.expression(str(source), ("extra", key), columns)
        if isinstance(data.get("choices"), list):
            self.choices(data["choices"], ("choices",))
            if "answer" not in data:
                self.find(
                    "missing-key",
                    ("choices",),
                    "there are `choices` but no `answer`",
                    "say which is right: `answer: label`",
                )
        for i, metric in enumerate(data.get("metrics", [])):
            if metric not in METRICS:
                self.find(
                    "unknown-value", ("metrics", i), f"unknown metric '{metric}'", f"use one of: {', '.join(METRICS)}"
                )

    def choices(self, choices: list[Any], at: tuple[str | int, ...]) -> None:
        if len(choices) < 2 or not all(isinstance(choice, str) and choice.strip() for choice in choices):
            self.find("choices", at, "choices are two texts or more", 'write ["yes", "no"] with quotes')
        elif len(set(choices)) < len(choices):
            self.find("choices", at, "two choices are the same text", "make each choice different")

    def template(self, entry: Any, at: tuple[str | int, ...], data: dict[str, Any], names: set[str]) -> Template | None:
        before = len(self.findings)
        entry = self.mapping(entry, at, TEMPLATE_KEYS, required=("name", "kind", "style"))
        for key, allowed in (("kind", KINDS), ("style", STYLES)):
            if entry.get(key, allowed[0]) not in allowed:
                self.find(
                    "unknown-value", (*at, key), f"unknown {key} '{entry[key]}'", f"use one of: {', '.join(allowed)}"
                )
        if "when" in entry:
            self.expression(entry["when"], (*at, "when"), names - set(TYPED))
        if "choices" in entry:
            self.choices(entry["choices"], (*at, "choices"))
            if not isinstance(data.get("choices"), list) or len(entry["choices"]) != len(data["choices"]):
                why = "a template's own choices must be as many as the set's, in the same order"
                self.find("choices", (*at, "choices"), why, "give the set `choices` as a list of that length")
        messages = self.messages(entry, at)
        for role, source, where in messages:
            self.text(source, where, names if role == "user" or "options" not in names else names - {"options"})
        if len(self.findings) > before:
            return None
        template = Template(
            name=entry["name"],
            kind=entry["kind"],
            style=entry["style"],
            messages=tuple((role, source) for role, source, _ in messages),
            when=entry.get("when"),
            choices=tuple(entry["choices"]) if "choices" in entry else None,
            line=self.document.line(*at),
        )
        if template.kind == "inverted" and "options" in template.input_reads:
            self.find(
                "inverted-options",
                at,
                f"the inverted template '{template.name}' shows options",
                "print `{{ answer }}` in its input",
            )
        if "options" in template.input_reads and "answer" not in template.target_reads:
            why = f"'{template.name}' shows options, but its target is not one of them"
            self.find("options-without-answer", at, why, "print `{{ answer }}` in the target")
        return template

    def messages(
        self, entry: dict[str, Any], at: tuple[str | int, ...]
    ) -> list[tuple[str, str, tuple[str | int, ...]]]:
        """(role, text, where it stands) of each message; input and target are a user's and an assistant's."""
        if "messages" in entry:
            if "input" in entry or "target" in entry:
                self.find(
                    "templates-or-messages", at, "there are both `messages` and `input` or `target`", "keep one form"
                )
            turns = [
                (
                    self.mapping(turn, (*at, "messages", i), _MESSAGE_KEYS, required=("role", "content")),
                    (*at, "messages", i, "content"),
                )
                for i, turn in enumerate(entry["messages"])
            ]
            messages = [(turn.get("role", ""), turn.get("content", ""), where) for turn, where in turns]
            roles = [role for role, _, _ in messages]
            if roles[-1:] != ["assistant"] or "user" not in roles or set(roles) - {"system", "user", "assistant"}:
                why = "messages are of system, user and assistant, with a user's, and end with an assistant's"
                self.find("message-roles", (*at, "messages"), why, "mend the roles")
            return messages
        missing = [key for key in ("input", "target") if key not in entry]
        if missing:
            self.find(
                "missing-key", at, f"the template has no `{missing[0]}`", "give `input` and `target`, or `messages`"
            )
            return []
        return [("user", entry["input"], (*at, "input")), ("assistant", entry["target"], (*at, "target"))]

    def names(self, templates: list[Template | None]) -> None:
        seen: dict[str, int] = {}
        for i, template in enumerate(templates):
            if template is None:
                continue
            if template.name in seen:
                why = f"the name '{template.name}' stands twice, here and on line {seen[template.name]}"
                self.find("duplicate-name", ("templates", i), why, "names are unique within a file")
            if ":" in template.name or not template.name.strip():
                self.find(
                    "template-name",
                    ("templates", i),
                    f"'{template.name}' cannot be a name",
                    "use a word or two, without a colon",
                )
            seen.setdefault(template.name, template.line)

    def mapping(
        self, value: Any, at: tuple[str | int, ...], keys: dict[str, Any], required: tuple[str, ...]
    ) -> dict[str, Any]:
        """The entries of the right type; each other one becomes a finding."""
        if not isinstance(value, dict):
            self.find("wrong-type", at, "a mapping should stand here", f"its keys are: {', '.join(keys)}")
            return {}
        for key in value:
            if at == () and key in _RENAMED:
                why = f"the key `{key}` of a template set is called `{_RENAMED[key]}` now"
                self.find("unknown-key", (*at, key), why, f"write `{_RENAMED[key]}:`")
            elif key not in keys:
                self.find(
                    "unknown-key",
                    (*at, key),
                    f"unknown key `{key}`{nearest(key, keys)}",
                    f"the keys are: {', '.join(keys)}",
                )
            elif at == () and key == "verified" and str(value[key]).lower() in ("true", "false"):
                why = f"`verified` is {str(value[key]).lower()}, and names the packing whose rows went through every template"
                mend = "write `hub`, or a name as `GLUE's TSV files`; leave it out where no real rows did"
                self.find("wrong-type", (key,), why, mend)
            elif not isinstance(value[key], keys[key]):
                why = f"`{key}` should be {_WORDS[keys[key]]}, not {value[key]!r:.40}"
                self.find("wrong-type", (*at, key), why, "quote a text that looks like a number or a boolean")
        for key in required:
            if key not in value:
                self.find("missing-key", at, f"the key `{key}` is missing", "add it")
        return {key: item for key, item in value.items() if key in keys and isinstance(item, keys[key])}

    def text(self, source: str, at: tuple[str | int, ...], known: Any) -> None:
        self.known(self.reads(source, at, sandbox.text_reads), at, known)

    def expression(self, source: str, at: tuple[str | int, ...], known: Any) -> None:
        self.known(self.reads(source, at, sandbox.expression_reads), at, known)

    def known(self, reads: frozenset[str], at: tuple[str | int, ...], known: Any) -> None:
        for name in sorted(reads - set(known)):
            template = ""
            if at[0] == "templates" and isinstance(self.document.data["templates"][at[1]], dict):
                template = f"the template '{self.document.data['templates'][at[1]].get('name', at[1])}' "
            why = f"{template or f'`{at[0]}` '}reads the role `{name}`, which is missing{nearest(name, known)}"
            rule = "unseeded-randomness" if _RANDOM.fullmatch(f"'{name}'") else "undefined-role"
            mend = f"define it under `columns`; the roles are: {', '.join(sorted(known))}"
            if name in DEFAULT_NAMESPACE:
                why, mend = (
                    f"{template or f'`{at[0]}` '}calls `{name}`",
                    "there are filters and tests, and no functions",
                )
            self.find(rule, at, why, mend)

    def reads(self, source: str, at: tuple[str | int, ...], reader: Any) -> frozenset[str]:
        try:
            return reader(source)
        except TemplateSyntaxError as error:
            rule = "unseeded-randomness" if _RANDOM.search(error.message or "") else "jinja"
            mend, unknown = (
                "mend the braces or the expression",
                re.search(r"No filter named '(\w+)'", error.message or ""),
            )
            if unknown:
                mend = f"use a filter of Jinja's or of templates/README.md{nearest(unknown[1], sandbox.ENVIRONMENT.filters)}"
            self.find(rule, at, f"this is not valid Jinja: {error.message}", mend)
        except SecurityError as error:
            self.find("sandbox", at, str(error), "a template reads roles and applies filters, no more")
        return frozenset()

    def find(self, rule: str, at: tuple[str | int, ...], why: str, mend: str) -> None:
        self.findings.append(Finding(rule, f"{self.path}:{self.document.line(*at)}", why, mend))
