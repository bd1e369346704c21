"""Rules of `tamis templates check` on options, choices and the labels that they stand for.

A rule is one function, which gives what it finds in a set, and its name is the rule's, with dashes; the first line of its
documentation says what is wrong. A rule stays silent where it is not sure.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence

from jinja2 import nodes

from curate.lint.pieces import constants, literals
from curate.lint.subject import Findings, Rule, Subject, reads
from curate.template import sandbox
from curate.template.sets import Template

_CALLED = r"(?:options|choices|alternatives|possible answers)"
_MENTIONED = re.compile(
    rf"\b{_CALLED} (?:(?:are )?(?:given |listed |shown )?below|above|listed|that follow)\b"
    rf"|\b(?:following|given|listed|above) {_CALLED}\b"
    rf"|\bone of the following\b|\bfrom the (?:options|choices|list below)\b",
    re.IGNORECASE,
)


def _mentions(template: Template) -> Iterator[tuple[int, int, str]]:
    """Where literal text speaks of options, other than where options are shown: message, line, words."""
    for number, piece in literals(template, prompt_only=True):
        for match in _MENTIONED.finditer(piece.text) if not piece.only_with_options else ():
            yield number, piece.line + piece.text.count("\n", 0, match.start()), match[0]


def options_inline(subject: Subject) -> Findings:
    """`{{ options }}` inside a sentence: some styles are lists, with a heading, of several lines."""
    for template in subject.set.templates:
        for number, (_, source) in enumerate(template.messages):
            for line, text in enumerate(source.split("\n")):
                rest, shown = _OPTIONS.subn("", _TAG.sub("", text))
                if shown and rest.strip():
                    why, mend = "shows options within a line", "give `{{ options }}` a line of its own"
                    yield subject.at(template, "options-inline", why, mend, number, line)


_OPTIONS = re.compile(r"\{\{-?\s*options\s*-?\}\}")
_TAG = re.compile(r"\{%.*?%\}")


def options_not_shown(subject: Subject) -> Findings:
    """A prompt that speaks of options below and shows none."""
    if subject.set.choices is None:
        return
    shown = reads(subject.set.choices) if isinstance(subject.set.choices, str) else frozenset()
    for template in subject.set.templates:
        choices = template.choices or (subject.set.choices if isinstance(subject.set.choices, tuple) else ())
        words = "\n".join(said for _, source in template.messages[:-1] for said in constants(source)).casefold()
        listed = bool(choices) and all(choice.casefold() in words for choice in choices)
        if template.kind == "inverted" or listed or template.input_reads & (shown | {"options"}):
            continue
        for message, line, said in _mentions(template):
            why, mend = f"speaks of `{said}` and shows none", "print `{{ options }}`, or do not mention them"
            yield subject.at(template, "options-not-shown", why, mend, message, line)


def options_left_hanging(subject: Subject) -> Findings:
    """A prompt that speaks of its options also where `no_options` takes them away."""
    for template in subject.set.templates:
        if "options" in template.input_reads:
            for message, line, said in _mentions(template):
                why = f"speaks of `{said}` also where the recipe's `no_options` shows none"
                mend = "put it in `{% if options %}…{% endif %}`"
                yield subject.at(template, "options-left-hanging", why, mend, message, line)


_SAY = r"\b(?:answer|say|reply|respond|write|return|output|state|type)\b"
_FORM = re.compile(
    rf"{_SAY}[^.?!\n\x00]{{0,20}} (?:(?:a|one|the|its|their) (?:single |right |correct )?(?:letter|number)\b)",
    re.IGNORECASE,
)


def prescribed_words(subject: Subject) -> Findings:
    """A prompt that shows options and says how to answer, while the options' style may ask for a letter or for the text."""
    for template in subject.set.templates:
        if "options" not in template.input_reads:
            continue
        choices = template.choices or (subject.set.choices if isinstance(subject.set.choices, tuple) else ())
        either = "|".join(rf"\b{re.escape(choice)}(?!\w)" for choice in choices) or "(?!)"
        both = rf"{_SAY}[^.?!\n]{{0,30}}[\"“'`]?(?:{either})[\"”'`]?,? (?:or|and) [^.?!\n]{{0,20}}(?:{either})"
        quoted = rf"{_SAY} (?:with |only |just |simply )*[\"“](?:{either})[\"”]"
        pattern = re.compile(rf"{both}|{quoted}|{_FORM.pattern}", re.IGNORECASE)
        for number, piece in literals(template, prompt_only=True):
            match = None if any("options" in guard for guard in piece.guards) else pattern.search(piece.text)
            if match:
                why = f"shows options and says `{match[0]}`, which a style in letters or in words contradicts"
                line = piece.line + piece.text.count("\n", 0, match.start())
                mend = "leave to `{{ options }}` how to answer, or do not print it"
                yield subject.at(template, "prescribed-words", why, mend, number, line)


def choices_alike(subject: Subject) -> Findings:
    """Two choices that differ only in case or punctuation, or that have white space around them."""
    sets: list[tuple[tuple[str | int, ...], object]] = [(("choices",), subject.set.choices)]
    sets += [(("templates", i, "choices"), template.choices) for i, template in enumerate(subject.set.templates)]
    for keys, choices in sets:
        if isinstance(choices, tuple):
            plain = Counter(" ".join(re.findall(r"[^\W_]+|[^\w\s.,!?]", choice.casefold())) for choice in choices)
            if any(count > 1 and said for said, count in plain.items()):
                why = f"two of the choices {', '.join(choices)} differ only in case or punctuation"
                yield subject.at_key("choices-alike", keys, why, "make the difference one of words")
            elif any(choice != choice.strip() for choice in choices):
                why = "a choice begins or ends with white space"
                yield subject.at_key("choices-alike", keys, why, "remove it")


# --- labels ----------------------------------------------------------------------------------------------------------

_YES = {
    "yes",
    "true",
    "entailment",
    "entails",
    "entailed",
    "positive",
    "acceptable",
    "correct",
    "equivalent",
    "duplicate",
}
_NO = {
    "no",
    "false",
    "contradiction",
    "contradicts",
    "contradicted",
    "negative",
    "unacceptable",
    "incorrect",
    "different",
}
_NO |= {f"not {word}" for word in _YES} | {f"non {word}" for word in _YES}
_BETWEEN = {"neutral", "neither", "maybe", "unknown", "undecided", "inconclusive", "cannot tell", "can t tell"}


def label_names(source: str) -> tuple[str, ...]:
    """The dataset's label names in their order, as `label_index("entailment", "not_entailment")` gives them, or ()."""
    if not source or sandbox.is_path(source):
        return ()
    for node in sandbox.ENVIRONMENT.parse("{{ " + source + " }}").find_all(nodes.Filter):
        if node.name == "label_index":
            return tuple(str(arg.value) for arg in node.args if isinstance(arg, nodes.Const))
    return ()


def plain_label(name: str) -> str:
    return " ".join(re.findall(r"[a-z0-9]+", name.lower()))


def out_of_order(names: Sequence[str], choices: Sequence[str], by_synonyms: bool) -> bool:
    """Whether choices surely stand in another order than the dataset's labels: the same words elsewhere, or (by synonyms)
    yes for no everywhere."""
    ours, theirs = list(map(plain_label, choices)), list(map(plain_label, names))
    if sorted(ours) == sorted(theirs):
        return ours != theirs
    sides = [(_side(one), _side(other)) for one, other in zip(ours, theirs, strict=False)]
    known = [(one, other) for one, other in sides if one and other]
    return (
        by_synonyms
        and len(known) > 1
        and sorted(a for a, _ in known) == sorted(b for _, b in known)
        and any(one != other for one, other in known)
    )


def _side(label: str) -> str | None:
    return "yes" if label in _YES else "no" if label in _NO else "between" if label in _BETWEEN else None


def label_order(subject: Subject) -> Findings:
    """Choices in another order than the labels of the dataset, so that every answer is a wrong one."""
    names = label_names(subject.set.columns.get(subject.set.answer or "", ""))
    if not names or not isinstance(subject.set.choices, tuple):
        return
    lists: list[tuple[tuple[str | int, ...], tuple[str, ...], bool]] = [(("choices",), subject.set.choices, True)]
    for i, template in enumerate(subject.set.templates):
        generic = all(_side(plain_label(choice)) is not None for choice in template.choices or ())
        if template.choices and not generic:  # "no, yes" may answer a question that is put the other way around
            lists.append((("templates", i, "choices"), template.choices, False))
    for keys, choices, by_synonyms in lists:
        if len(choices) == len(names) and out_of_order(names, choices, by_synonyms):
            why = f"the choices {', '.join(choices)} do not follow the labels {', '.join(names)}"
            yield subject.at_key("label-order", keys, why, "give the choices in the order of the labels")


def label_count(subject: Subject) -> Findings:
    """As many label names as choices, or some label has no choice."""
    names = label_names(subject.set.columns.get(subject.set.answer or "", ""))
    if names and isinstance(subject.set.choices, tuple) and len(names) != len(subject.set.choices):
        why = f"there are {len(names)} labels and {len(subject.set.choices)} choices"
        yield subject.at_key("label-count", ("choices",), why, "give a choice for each label")


def permuted_labels(subject: Subject) -> Findings:
    """A template's own choices in another order than the set's, or than another template's: the same words, or yes for no."""
    fixed = subject.set.choices
    if not isinstance(fixed, tuple):
        return
    before: list[tuple[str, tuple[str, ...]]] = [("the set", fixed)]
    for i, template in enumerate(subject.set.templates):
        if template.choices is None:
            continue
        for name, others in before:
            if _permuted(template.choices, others):
                why = f"`{', '.join(template.choices)}` stand in another order than `{', '.join(others)}` of {name}"
                mend = "turn the question around, so that each label has one word"
                yield subject.at_key("permuted-labels", ("templates", i, "choices"), why, mend)
                break
        else:
            before.append((f"'{template.name}'", template.choices))


def _permuted(choices: Sequence[str], others: Sequence[str]) -> bool:
    """Whether a word stands for another label than there: the same word, or yes or no under another name."""
    ours, theirs = [[plain_label(choice) for choice in some] for some in (choices, others)]
    if set(ours) & set(theirs) - {""}:
        rising = all(some == sorted(some, key=len) == sorted(some) for some in (ours, theirs))
        return not (rising and "".join(ours + theirs).isdecimal()) and any(
            one in theirs and theirs.index(one) != i for i, one in enumerate(ours) if one
        )
    return out_of_order(theirs, ours, by_synonyms=True)


CHOICES: tuple[Rule, ...] = (
    options_inline, options_not_shown, options_left_hanging, prescribed_words, choices_alike, label_order, label_count, permuted_labels,
)  # fmt: skip
