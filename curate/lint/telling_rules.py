"""Rules of `tamis templates check` on what a prompt tells and what its target asks for: the answer given away, nothing of the
row told, the same said twice.

A rule is one function, which gives what it finds in a set, and its name is the rule's, with dashes; the first line of its
documentation says what is wrong. A rule stays silent where it is not sure.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from curate.lint.pieces import constants, four_grams, whole_roles
from curate.lint.subject import Findings, Rule, Subject, reads, seams
from curate.template import sandbox
from curate.template.sets import Template, TemplateSet

NEAR = 0.4  # of the word 4-grams of the shorter of two templates
FEWEST = 3  # word 4-grams: of two sets, templates with fewer are not compared
_PUT_OTHERWISE = "drop one or put it differently"


def constant_prompt(subject: Subject) -> Findings:
    """A prompt that is the same for every row: it reads nothing of the row, or only options that never change."""
    fixed = {role for role, source in subject.set.columns.items() if not reads(source)}
    fixed |= {"options"} if isinstance(subject.set.choices, tuple) else set()
    for template in subject.set.templates:
        if template.input_reads <= fixed:
            why = "reads only what is the same in every row" if template.input_reads else "reads nothing of the row"
            yield subject.at(template, "constant-prompt", why, "print a role in its input")


def label_only_prompt(subject: Subject) -> Findings:
    """A prompt that tells no more of the row than its label: a handful of prompts for all rows, each with many targets."""
    if not isinstance(subject.set.choices, tuple):
        return
    label = {subject.set.answer} if subject.set.answer in subject.set.columns else set()
    for template in subject.set.templates:
        told = template.input_reads - {"options"}
        if told and told <= {"answer", *label}:
            why = f"tells no more of the row than its label, so {len(subject.set.choices)} prompts serve for all rows"
            yield subject.at(template, "label-only-prompt", why, "print something else of the row too")


def duplicate_template(subject: Subject) -> Findings:
    """Two templates of a set that differ in white space and case only."""
    for template, first in _duplicates(subject.set):
        yield subject.at(template, "duplicate-template", f"says the same as '{first}'", _PUT_OTHERWISE)


def _duplicates(template_set: TemplateSet) -> Iterator[tuple[Template, str]]:
    seen: dict[tuple[str | None, str], str] = {}
    for template in template_set.templates:
        text = "\n".join(content for _, content in template.messages)
        first = seen.setdefault((template.when, "".join(text.split()).casefold()), template.name)
        if first != template.name:
            yield template, first


def near_duplicates(subjects: Sequence[Subject]) -> Findings:
    """Two templates that share more than 2/5 of their word 4-grams: of one set, or of two that are checked together. Of two sets
    canonical ones may, and those of few words: people ask alike."""
    holders: defaultdict[tuple[str, ...], list[int]] = defaultdict(list)
    seen: list[tuple[TemplateSet, Template, int]] = []
    for subject in subjects:
        same = {(template.name, first) for template, first in _duplicates(subject.set)}
        for template in subject.set.templates:
            grams = four_grams(template)
            nearest, closeness = "", NEAR
            for number, count in sorted(Counter(number for gram in grams for number in holders[gram]).items()):
                other_set, other, size = seen[number]
                within = other_set is subject.set
                if not within and ("canonical" in (template.style, other.style) or min(size, len(grams)) < FEWEST):
                    continue
                share = count / min(size, len(grams))
                if share > closeness and not (within and (template.name, other.name) in same):
                    nearest, closeness = f"'{other.name}'{'' if within else f' of {other_set.name}'}", share
            if nearest:
                why = f"shares {100 * closeness:.0f} % of its words, in fours, with {nearest}"
                yield subject.at(template, "near-duplicate", why, _PUT_OTHERWISE)
            for gram in grams:
                holders[gram].append(len(seen))
            seen.append((subject.set, template, len(grams)))


def leaked_answer(subject: Subject) -> Findings:
    """A prompt that gives its target away: it prints the answer, the role that the target prints, or the target's text.
    A stretch of a longer text is no leak (a passage holds the answer to its question), nor is a list to choose from."""
    for template in subject.set.templates:
        leaks = "answer" in template.input_reads or _prints_its_target(subject.set, template)
        if template.kind != "inverted" and (leaks or _told(subject, template)):
            why = "gives its target away in the prompt"
            yield subject.at(template, "leaked-answer", why, "print another role there")


def inverted_leak(subject: Subject) -> Findings:
    """An inverted prompt that prints what its target says."""
    for template in subject.set.templates:
        if template.kind == "inverted" and (_prints_its_target(subject.set, template) or _told(subject, template)):
            why = "gives its target away in the prompt"
            yield subject.at(template, "inverted-leak", why, "print the answer there, and not what is asked for")


def _prints_its_target(template_set: TemplateSet, template: Template) -> bool:
    """Whether every role that the target prints stands whole in the prompt. `answer` is the role that it is read from."""
    alias = (
        template_set.answer if template_set.choices is None and template_set.answer in template_set.columns else None
    )

    def named(source: str) -> set[str]:
        return {alias if name == "answer" and alias else name for name in whole_roles(source)}

    wanted = named(template.target)
    said = {alias if name == "answer" and alias else name for name in template.target_reads}
    told = set().union(*(named(source) for _, source in template.messages[:-1]))
    return bool(wanted) and said == wanted and wanted <= told


_TELLING = 15  # characters of a target that is not in a prompt by chance


def _told(subject: Subject, template: Template) -> bool:
    """Whether the targets stand in the rendered prompts, other than as a stretch of a longer value or an item of a list."""
    said, hits = 0, 0
    for row, rendered in subject.renderings(template):
        said += 1
        target = rendered.messages[-1]["content"].strip()
        if rendered.choices is not None or len(target) <= _TELLING or target in constants(template.target):
            continue
        if any(target in message["content"] for message in rendered.messages[:-1]):
            values = [row.roles[name] for name in template.input_reads if name in row.roles]
            hits += not any(_holds(value, target) for value in values)
    return hits > 0 and subject.often(hits, said)


def _holds(value: object, target: str, within: bool = False) -> bool:
    """Whether the target is a stretch of a longer text, or an item of a list (within: the value is one)."""
    if isinstance(value, str):
        return target in value and (within or value.strip() != target)
    if isinstance(value, dict):
        return any(_holds(item, target, within=True) for item in value.values())
    return isinstance(value, list | tuple) and any(_holds(item, target, within=True) for item in value)


def constant_target(subject: Subject) -> Findings:
    """A target that reads nothing of the row is the same for every row."""
    for template in subject.set.templates:
        if not template.target_reads:
            yield subject.at(template, "constant-target", "has one target for all rows", "print a role in the target")


def answer_not_asked(subject: Subject) -> Findings:
    """With choices, a forward template whose target is none of them cannot be scored, and is turned around in truth."""
    if subject.set.choices is None:
        return
    for template in subject.set.templates:
        if template.kind == "forward" and "answer" not in template.target_reads:
            mend = "print `{{ answer }}` in the target, or call its kind inverted"
            yield subject.at(template, "answer-not-asked", "is forward, but its target is no choice", mend)


def inverted_without_answer(subject: Subject) -> Findings:
    """An inverted prompt that gives nothing of the answer: what is turned around there?"""
    if subject.set.messages is not None:
        return
    columns = subject.set.columns
    roles = _answer_roles(subject.set) & columns.keys()
    raw = frozenset().union(*(reads(columns[role]) for role in roles))
    given = {"answer", *roles, *(role for role, source in columns.items() if reads(source) & raw)}
    for template in subject.set.templates:
        told = template.input_reads | (reads(template.when) if template.when else set())
        if template.kind == "inverted" and not told & given:
            mend = "print `{{ answer }}` in its input, or call its kind forward"
            yield subject.at(template, "inverted-without-answer", "is not given the answer", mend)


def _answer_roles(template_set: TemplateSet) -> frozenset[str]:
    """The roles that the answer is made of; without an answer, those of the record's response."""
    sources = [template_set.answer, template_set.references]
    if isinstance(template_set.choices, str):
        sources.append(template_set.choices)
    roles = frozenset().union(*(reads(source) for source in sources if source is not None))
    return roles | sandbox.text_reads(template_set.record["response"])


def cot_without_reasons(subject: Subject) -> Findings:
    """A chain-of-thought target that says the answer and no reasoning."""
    for template in subject.set.templates:
        if template.kind == "cot" and template.target_reads <= {"answer"}:
            mend = "print the reasoning in the target, or call its kind forward"
            yield subject.at(template, "cot-without-reasons", "is called cot and only answers", mend)


def swapped_roles(subject: Subject) -> Findings:
    """Two headings that name each other's role: `Premise: {{ hypothesis }}` and `Hypothesis: {{ premise }}`."""
    for template in subject.set.templates:
        headed = {}
        for seam in seams(template):
            heading = re.search(r"(\w+)\s*[:=>]\s*[\"“]?$", seam.before)
            if heading and seam.source in subject.set.columns and heading[1].lower() in subject.set.columns:
                headed[heading[1].lower()] = seam
        for name, seam in headed.items():
            other = headed.get(seam.source)
            if name < seam.source and other is not None and other.source == name:
                why = f"prints `{seam.source}` under the heading {name}, and `{name}` under {seam.source}"
                yield subject.at(template, "swapped-roles", why, "swap the two", seam.message, seam.line)


TELLING: tuple[Rule, ...] = (
    constant_prompt, label_only_prompt, duplicate_template, constant_target,
    answer_not_asked, inverted_without_answer, cot_without_reasons, swapped_roles,
)  # fmt: skip
TELLING_ON_ROWS: tuple[Rule, ...] = (leaked_answer, inverted_leak)  # of the text, and of what rows print there
