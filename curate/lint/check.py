"""Looks over template sets: `tamis templates check`, and what `ls` and `show` print.

Reading a set already refuses what can never work: an unknown key, bad Jinja, a role that is not there, options without an
answer (``READING``). The rules of the files ``*_rules.py`` find what would run and be wrong; each is one function, named
by its rule. ``rules()`` lists them all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

from curate.contract.errors import RequestError, RowSkipped, TemplateError
from curate.contract.progress import track
from curate.lint.choice_rules import CHOICES
from curate.lint.hub_rules import HUB, Fetch, fetch, fetched
from curate.lint.label_rules import LABELS
from curate.lint.row_rules import EXAMPLES, REAL, ROWS
from curate.lint.set_rules import SET
from curate.lint.subject import LIMITS, Raw, Subject
from curate.lint.telling_rules import TELLING, TELLING_ON_ROWS, near_duplicates
from curate.lint.wording_rules import WORDING, WORDING_ON_ROWS
from curate.template import sandbox
from curate.template.engine import Engine
from curate.template.guard import at, guard, outside
from curate.template.sets import Finding, TemplateSet, load_set, names, read_set

READING = {  # rules of curate/template/sets.py
    "name": "There is no such set, or the file cannot be read.",
    "yaml": "The file is not the YAML that is read here.",
    "unknown-key": "A key that no set or template has.",
    "missing-key": "A key that must be there is missing.",
    "wrong-type": "A value of the wrong type: a list where a text should stand.",
    "unknown-value": "A kind, a style or a metric that there is none of.",
    "role-name": "A name that no role can have.",
    "undefined-role": "A text or an expression reads a role that is not there, or is misspelt.",
    "jinja": "A text that is not valid Jinja, nests too deep, or uses a filter that is not there.",
    "sandbox": "A text that tries to reach what the sandbox forbids.",
    "unseeded-randomness": "A text that draws at random by itself; draws are the engine's, keyed by seed and row.",
    "choices": "Choices that are fewer than two, not texts, or twice the same; or not as many as the set's.",
    "inverted-options": "An inverted prompt that shows options.",
    "options-without-answer": "Options are shown, and the target is none of them.",
    "templates-or-messages": "Both of two forms of which a set or a template has one, or neither.",
    "message-roles": "Messages that have no user's, or do not end with the assistant's.",
    "duplicate-name": "Two templates of one name.",
}
_STATIC = (*WORDING, *TELLING, *CHOICES, *LABELS, *SET)
_ON_ROWS = (*WORDING_ON_ROWS, *TELLING_ON_ROWS, *ROWS)


def rules() -> dict[str, str]:
    """Every rule and what it finds."""
    functions = (*_STATIC, near_duplicates, *EXAMPLES, *_ON_ROWS, *REAL, *HUB)
    said = {_rule(function.__name__): (function.__doc__ or "").split("\n\n")[0] for function in functions}
    return READING | {rule: " ".join(text.split()) for rule, text in said.items()}


def _rule(function: str) -> str:
    return function.replace("near_duplicates", "near_duplicate").replace("_", "-")


def findings(
    sets: list[str],
    folder: Path | None = None,
    *,
    data: str | None = None,
    header: list[str] | None = None,
    limit: int = LIMITS.rows,
    hub: bool = False,
    fetch: Fetch = fetch,
) -> list[dict[str, str]]:
    """Everything that is wrong with the sets, by name or path; with the whole library if none is named. One mapping a
    finding: rule, where (file:line), why, mend. Also for a file that cannot be read at all.

    data, header: a path that the source `files` reads, whose first ``limit`` rows go through the one set named. hub: also
    look at the Hub, with ``fetch``. Raises RequestError, SourceError: no such data, no network.
    """
    if data is not None and len(sets) != 1:
        raise RequestError("--data: name the one set that these rows are for")
    wrong: list[Finding] = []
    subjects: list[Subject] = []
    for name in sets or names():
        template_set, unreadable = read_set(name, folder)
        wrong += unreadable
        if template_set is not None:
            subjects.append(Subject(template_set))
    with sandbox.watched():
        for subject in track(subjects, "checking"):
            wrong += _guarded(_checked_named, subject.set, folder)
            if data is not None:
                rows = list(islice(_rows(data, header, folder or Path()), limit))
                wrong += _guarded(_named_on_rows, subject.set, folder, rows)
            if hub and subject.set.hub is not None:
                wrong += _against_the_hub(subject, folder, fetch)
    wrong += near_duplicates(subjects)
    return [asdict(finding) for finding in dict.fromkeys(wrong)]


def _guarded(
    look: Callable[..., list[Finding]], template_set: TemplateSet, folder: Path | None, *rows: Any
) -> list[Finding]:
    """What ``look`` finds in a set, one from outside the library in a process with limits."""
    if not outside(template_set.name):
        return look(template_set.name, folder, *rows)
    try:
        return guard(look, template_set.name, folder, *rows)
    except TemplateError as error:
        mend = "a template that takes so much of the machine cannot be used"
        return [Finding("example", str(template_set.path), f"checking it came to an end: {error}", mend)]


def _checked_named(name: str, folder: Path | None) -> list[Finding]:
    at(f"{name}: an example")
    return _checked(Subject(load_set(name, folder)))


def _named_on_rows(name: str, folder: Path | None, rows: Sequence[Raw]) -> list[Finding]:
    at(f"{name}: a row of the data")
    return on_rows(load_set(name, folder), rows)


def _against_the_hub(subject: Subject, folder: Path | None, fetch: Fetch) -> Iterator[Finding]:
    for where, there in fetched(subject.set, fetch):
        for rule in HUB:
            yield from rule(subject, where, there)
        if subject.set.needs <= set(there.columns):
            rows = [(f"{where}, row {i}", row) for i, row in enumerate(there.rows)]
            yield from _guarded(_named_on_rows, subject.set, folder, rows)


def check(template_set: TemplateSet) -> list[Finding]:
    """What would run and be wrong in one set, as far as the set and its examples tell: no finding for a good one."""
    subject = Subject(template_set)
    return [*_checked(subject), *near_duplicates([subject])]


def _checked(subject: Subject) -> list[Finding]:
    return [finding for rule in (*_STATIC, *EXAMPLES, *_ON_ROWS) for finding in rule(subject)]


def on_rows(template_set: TemplateSet, rows: Sequence[Raw]) -> list[Finding]:
    """What real rows show: (where, columns) of each."""
    subject = Subject(template_set, rows)
    return [finding for rule in (*_ON_ROWS, *REAL) for finding in rule(subject)]


def _rows(data: str, header: list[str] | None, folder: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    from curate.load import files

    for raw in files.load(path=data, header=header, data=folder):
        if raw.fields is not None:  # a line that is no row is told by the run
            yield raw.where, raw.fields


def listing() -> list[dict[str, Any]]:
    """The library, one mapping a set: name, about, templates, inverted, choices, license, verified."""
    return [_listed(load_set(name)) for name in names()]


def _listed(template_set: TemplateSet) -> dict[str, Any]:
    choices = template_set.choices
    return {
        "name": template_set.name,
        "about": template_set.about,
        "templates": len(template_set.templates),
        "inverted": sum(template.kind == "inverted" for template in template_set.templates),
        "choices": ", ".join(choices) if isinstance(choices, tuple) else choices,
        "license": template_set.license,
        "verified": template_set.verified,
    }


def summary(rows: list[dict[str, Any]]) -> str:
    """A listing in two sentences."""
    templates, inverted = (sum(row[column] for row in rows) for column in ("templates", "inverted"))
    hub = sum(row["verified"] == "hub" for row in rows)
    other = sum(row["verified"] is not None for row in rows) - hub
    return (
        f"{len(rows)} sets with {templates:,} templates, {inverted} of them turned around. "
        f"{hub} sets are verified on the Hub's rows, {other} on those of another packing, {len(rows) - hub - other} on none."
    )


def rendered_example(name: str, folder: Path | None = None, *, derived: bool = False) -> list[dict[str, Any]]:
    """A set's own examples in each template that applies, with those derived from them if asked for: template, kind,
    options_style, choices, answer, references, messages, shots. Nothing where they do not render, which is a finding."""
    return guard(_rendered, name, folder, derived) if outside(name) else _rendered(name, folder, derived)


def _rendered(name: str, folder: Path | None, derived: bool) -> list[dict[str, Any]]:
    template_set = load_set(name, folder)
    engine = Engine(template_set)
    at(f"{template_set.path}: an example")
    try:
        with sandbox.watched():
            return [
                rendered._asdict()
                for fields in template_set.examples
                for one in engine.unfold(fields)
                for rendered in engine.render(template_set.name, one, which="every" if derived else "all")
            ]
    except (RowSkipped, TemplateError):
        return []
