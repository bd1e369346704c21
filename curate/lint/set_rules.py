"""Rules of `tamis templates check` on a set as a whole: its metrics, licence, roles and names.

A rule is one function, which gives what it finds in a set, and its name is the rule's, with dashes; the first line of its
documentation says what is wrong. A rule stays silent where it is not sure.
"""

from __future__ import annotations

import re

from curate.lint.subject import Findings, Rule, Subject, reads
from curate.template import sandbox

SEVERAL = 4  # templates that ask: a set of fewer need not mix styles


def metric_mismatch(subject: Subject) -> Findings:
    """A metric that does not fit: accuracy without choices, or the overlap of words where a choice is right or wrong."""
    for i, metric in enumerate(subject.set.metrics):
        if metric == "accuracy" and subject.set.choices is None:
            why, mend = (
                "`accuracy` picks one of several choices, and there are none",
                "use exact_match, or give `choices`",
            )
        elif metric in ("rouge_l", "bleu") and isinstance(subject.set.choices, tuple):
            why, mend = f"`{metric}` gives a wrong choice part of the score", "use accuracy"
        else:
            continue
        yield subject.at_key("metric-mismatch", ("metrics", i), why, mend)


def missing_license(subject: Subject) -> Findings:
    """A public dataset without its licence."""
    if subject.set.license is None and subject.set.hub is not None and subject.set.task is not None:
        mend = "add `license:` as the Hub spells it (`unknown` if nobody knows)"
        yield subject.at_key("missing-license", ("hub",), "the set says no licence", mend)


def unused_role(subject: Subject) -> Findings:
    """A role that nothing reads."""
    given = subject.set
    expressions = [given.when, given.messages, given.answer, given.references, *given.extra.values()]
    expressions += [given.choices] if isinstance(given.choices, str) else []
    expressions += [template.when for template in given.templates]
    used: set[str] = set().union(*(sandbox.text_reads(text) for text in given.record.values()))
    used.update(*(reads(source) for source in expressions if source is not None))
    used.update(*(template.input_reads | template.target_reads for template in given.templates))
    for role in given.columns:
        if role not in used:
            mend = "remove it, or print it in a template"
            yield subject.at_key("unused-role", ("columns", role), f"nothing reads the role `{role}`", mend)


def template_name(subject: Subject) -> Findings:
    """A template's name that is not in snake_case."""
    for template in subject.set.templates:
        if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", template.name):
            yield subject.at(template, "template-name", "has a name that is not in snake_case", "write `a_word_or_two`")


def about_sentence(subject: Subject) -> Findings:
    """An `about` that is no sentence: it should end with a full stop or a question mark."""
    if not subject.set.about.strip().endswith((".", "?", ".)", '."', '?"')):
        why = "`about` does not end with a full stop or a question mark"
        yield subject.at_key("about-sentence", ("about",), why, "make it a sentence")


def no_canonical(subject: Subject) -> Findings:
    """Several templates that ask, and none of them as people do (`style: canonical`)."""
    asking = [template for template in subject.set.templates if template.kind != "inverted"]
    if len(asking) >= SEVERAL and all(template.style != "canonical" for template in asking):
        why = f"none of the {len(asking)} templates asks in the words in which people name the task"
        mend = "write one, or mark one that does so `style: canonical`"
        yield subject.at_key("no-canonical", ("templates",), why, mend)


SET: tuple[Rule, ...] = (metric_mismatch, missing_license, unused_role, template_name, about_sentence, no_canonical)
