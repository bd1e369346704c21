"""Looks over template sets: `tamis templates check`, and what `ls` and `show` print.

Reading a set already refuses what can never work: an unknown key, bad Jinja, a role that is not there, options without an
answer. The rules here find what would run and be wrong; each is one function, named by its rule.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from curate.errors import RowSkipped, TemplateError
from curate.render.engine import Engine, Rendered
from curate.render.template import Finding, Template, TemplateSet, load_set, names, read_set


def findings(sets: list[str], base: Path | None = None) -> list[dict[str, str]]:
    """Everything that is wrong with the sets, by name or path; with the whole library if none is named. One mapping a
    finding: rule, where (file:line), why, mend. Also for a file that cannot be read at all."""
    found = []
    for name in sets or names():
        template_set, unreadable = read_set(name, base)
        found += unreadable if template_set is None else check(template_set)
    return [asdict(finding) for finding in found]


def check(template_set: TemplateSet) -> list[Finding]:
    """What would run and be wrong: no finding for a good set."""
    rules = (constant_prompt, duplicate_template, leaked_answer, answer_not_asked, example)
    return [finding for rule in rules for finding in rule(template_set)]


def constant_prompt(template_set: TemplateSet) -> Iterator[Finding]:
    """A prompt that reads nothing of the row is the same for every row, with as many different targets."""
    for template in template_set.templates:
        if not template.input_reads:
            yield _at(
                template_set, template, "constant-prompt", "reads nothing of the row", "print a role in its input"
            )


def duplicate_template(template_set: TemplateSet) -> Iterator[Finding]:
    """Two templates of a set that differ in white space and case only."""
    seen: dict[tuple[str | None, str], str] = {}
    for template in template_set.templates:
        text = "\n".join(content for _, content in template.messages)
        first = seen.setdefault((template.when, "".join(text.split()).casefold()), template.name)
        if first != template.name:
            yield _at(
                template_set,
                template,
                "duplicate-template",
                f"says the same as '{first}'",
                "drop one or put it differently",
            )


def leaked_answer(template_set: TemplateSet) -> Iterator[Finding]:
    """A prompt that holds the target: by its source, or in the example where the target is long enough to tell."""
    leaking = {t.name for t in template_set.templates if t.kind != "inverted" and "answer" in t.input_reads}
    for rendered in _renderings(template_set):
        target = rendered.messages[-1]["content"]
        prompts = [message["content"] for message in rendered.messages[:-1]]
        if rendered.choices is None and len(target) > 15 and any(target in prompt for prompt in prompts):
            leaking.add(rendered.template)
    for template in template_set.templates:
        if template.name in leaking:
            yield _at(
                template_set,
                template,
                "leaked-answer",
                "gives its target away in the prompt",
                "print another role there",
            )


def answer_not_asked(template_set: TemplateSet) -> Iterator[Finding]:
    """With choices, a forward template whose target is none of them cannot be scored, and is turned around in truth."""
    if template_set.choices is None:
        return
    for template in template_set.templates:
        if template.kind == "forward" and "answer" not in template.target_reads:
            mend = "print `{{ answer }}` in the target, or call its kind inverted"
            yield _at(template_set, template, "answer-not-asked", "is forward, but its target is no choice", mend)


def example(template_set: TemplateSet) -> Iterator[Finding]:
    """The set's own examples must make a record each, and every template must render for one of them."""
    engine, unseen = Engine(template_set), {template.name: template for template in template_set.templates}
    for i, fields in enumerate(template_set.examples):
        keys = ("example", i) if ("example", i) in template_set.lines else ("example",)
        where = f"{template_set.path}:{template_set.lines.get(keys, 1)}"
        try:
            for one in engine.unfold(fields):
                engine.record(one)
                for rendered in engine.render("example", one, which="all"):
                    unseen.pop(rendered.template, None)
        except (RowSkipped, TemplateError) as error:
            yield Finding("example", where, f"the example does not render: {error}", "mend the example or the set")
            return
    for template in unseen.values():
        why = "applies to none of the examples"
        yield _at(template_set, template, "example", why, "add an example for which its `when` holds")


def listing() -> list[dict[str, Any]]:
    """The library, one mapping a set: name, about, templates, inverted, choices, license, verified."""
    return [
        {
            "name": found.name,
            "about": found.about,
            "templates": len(found.templates),
            "inverted": sum(template.kind == "inverted" for template in found.templates),
            "choices": ", ".join(found.choices) if isinstance(found.choices, tuple) else found.choices,
            "license": found.license,
            "verified": found.verified,
        }
        for found in map(load_set, names())
    ]


def rendered_example(name: str, base: Path | None = None) -> list[dict[str, Any]]:
    """A set's own examples in each template that applies: template, kind, options_style, choices, answer, references,
    messages, shots."""
    template_set = load_set(name, base)
    return [rendered._asdict() for rendered in _renderings(template_set)]


def _renderings(template_set: TemplateSet) -> list[Rendered]:
    """The examples in every template; nothing where they do not render, which is a finding of its own."""
    engine = Engine(template_set)
    try:
        return [
            rendered
            for fields in template_set.examples
            for one in engine.unfold(fields)
            for rendered in engine.render(template_set.name, one, which="all")
        ]
    except (RowSkipped, TemplateError):
        return []


def _at(template_set: TemplateSet, template: Template, rule: str, why: str, mend: str) -> Finding:
    return Finding(rule, f"{template_set.path}:{template.line}", f"the template '{template.name}' {why}", mend)
