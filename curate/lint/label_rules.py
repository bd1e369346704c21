"""Rules of `tamis templates check` on whether a prompt lets its reader know the label words, and does not tell which is right.

A rule is one function, which gives what it finds in a set, and its name is the rule's, with dashes; the first line of its
documentation says what is wrong. A rule stays silent where it is not sure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TypeVar

from jinja2 import nodes

from curate.lint.pieces import pieces
from curate.lint.subject import Findings, Row, Rule, Subject, answers, reads, seams
from curate.template.options import without_options
from curate.template.sandbox import ENVIRONMENT
from curate.template.sets import Template, TemplateSet

_Node = TypeVar("_Node", bound=nodes.Node)
_NUMBERS = {
    "zero": "0", "one": "1", "two": "2", "three": "3", "four": "4", "five": "5", "six": "6", "seven": "7", "eight": "8",
    "nine": "9", "ten": "10",
}  # fmt: skip
_WORD = re.compile(r"[^\W_]+")
_QUOTED = re.compile(r"\"([^\"]*)\"|'([^']*)'")
_ENDING = re.compile(r"(?:ions?|ings?|ments?|al|ed|e?s|ly|d)\Z")
_SMALL = {
    "a", "an", "the", "it", "is", "this", "that", "they", "i", "he", "she", "of", "to", "b", "in", "on", "for", "and", "or",
    "with", "by", "at", "who", "has", "hav", "was", "wer",
}  # fmt: skip
_YES_NO = {"yes", "no"}


def unknowable_labels(subject: Subject) -> Findings:
    """A prompt that asks for one of fixed words and, as it stands without options, neither says them nor is a yes/no question."""
    fixed = subject.set.choices if isinstance(subject.set.choices, tuple) else ()
    for template in subject.set.templates:
        labels = template.choices or fixed
        if template.kind != "forward" or not labels or "answer" not in template.target_reads:
            continue
        text = _unshown(template)
        said = _said(labels, text)
        unsaid = [label for label in labels if label not in said]
        if unsaid and not (
            {" ".join(_words(label)) for label in unsaid} <= _YES_NO and _polar(subject, template, text)
        ):
            words = ", ".join(f"`{label}`" for label in unsaid[:3]) + (", …" if len(unsaid) > 3 else "")
            why, mend = f"never says {words}, which are to be answered", "say all label words"
            if "options" in template.input_reads:
                why = f"says {words} nowhere but in its options, which the recipe's `no_options` takes away"
                mend += " in `{% if not options %}…{% endif %}`"
            mend += ", or ask a question that one answers with yes or no" if len(labels) == 2 else ""
            yield subject.at(template, "unknowable-labels", why, mend)


def _unshown(template: Template) -> str:
    """What the template itself says in its prompt where no options are shown: literal text and strings that it prints."""
    parts = []
    for _, source in template.messages[:-1]:
        for piece in pieces(without_options(source) if "options" in template.input_reads else source):
            if piece.only_with_options:
                continue
            if piece.kind == "text":
                parts.append(piece.text)
            else:
                strings = [one or other for one, other in _QUOTED.findall(piece.text)]
                parts.append("\x00" + "".join(f"{string}\x00" for string in strings))
        parts.append("\n\n")
    return "".join(parts)


def _said(labels: tuple[str, ...], text: str) -> set[str]:
    """The labels whose words stand in a text: in any case and order, as stems and without small words; signs and single letters
    as they are. Of numbers or letters that follow each other the first and the last say all."""
    words = {_stem(word) for word in _words(text)}
    stems = [{_stem(word) for word in _words(label)} for label in labels]
    telling = [some - _SMALL for some in stems]
    if all(telling) and all(telling.count(some) == 1 for some in telling):
        stems = telling
    said = set()
    for label, some in zip(labels, stems, strict=True):
        if label.isalpha() and len(label) == 1:
            found = re.search(rf"(?<![\w'’]){re.escape(label)}(?!\w)", text) is not None
        elif not some or stems.count(some) > 1:
            found = label.casefold() in text.casefold()
        else:
            found = some <= words
        if found:
            said.add(label)
    ranks = {rank: label for label in labels if (rank := _rank(label)) is not None}
    follow = len(ranks) == len(labels) == max(ranks) - min(ranks) + 1 if ranks else False
    return set(labels) if follow and {ranks[min(ranks)], ranks[max(ranks)]} <= said else said


def _words(text: str) -> list[str]:
    found: list[str] = _WORD.findall(text.casefold())
    return [_NUMBERS.get(word, word) for word in found]


def _stem(word: str) -> str:
    """A word without its commonest endings: "contradict" for "contradicts" and "contradiction"."""
    stem = _ENDING.sub("", word)
    return (stem if len(stem) > 2 else word).rstrip("e")


def _rank(label: str) -> int | None:
    """The number in a label such as "4", "4 stars" or "four stars", or the place of a letter."""
    if len(label) == 1 and label.isascii() and label.isalpha():
        return ord(label)
    numbers = [int(word) for word in _words(re.sub(r"\bno (?=star|point)", "0 ", label)) if word.isdecimal()]
    return numbers[0] if len(numbers) == 1 else None


_AUXILIARY = (
    r"(?:is|are|was|were|am|do|does|did|can|could|may|might|must|should|shall|will|would|has|have|had)(?:n['’]t)?"
)
_SENTENCE = r"(?:[^?!.\n]|\.(?=\w)|\n(?!\n))*"
_WH = r"(?:what|which|who|whom|whose|where|when|why|how|or(?! not\b))"
_TELL = r"(?:check|decide|determine|indicate|judge|predict|say|see|tell(?: me| us)?|think about|find out)"
_POLAR = re.compile(
    rf"(?:\A|[.?!:;,–—\n\"“”(\x00-]|\b(?:and|so|then|but|now|or)\b)\s*{_AUXILIARY}\b{_SENTENCE}(?:\?|:\s*[\"“]?\x00|\x00[\"”]?[ ]*(?:\n|\Z))"
    rf"|\bif\b{_SENTENCE}\?|\bwhether\b|\b{_TELL} if\b"
    rf"|(?:\A|[.?!:\n\x00])(?!{_SENTENCE}\b{_WH}\b)[ ]*\w+(?:[ ]\w[^?!.\n]*|[^?!.\n\x00]*)\?",
    re.IGNORECASE,
)
_POLAR_ROW = re.compile(rf"\s*{_AUXILIARY}\b[^?!.]*\??\s*", re.IGNORECASE)


def _polar(subject: Subject, template: Template, text: str) -> bool:
    """Whether a prompt asks a yes/no question: in its own words, full ("Does it follow?") or short ("Right?"), or in the row's."""
    if _POLAR.search(text):
        return True
    printed = {seam.source for seam in seams(template) if seam.message < len(template.messages) - 1}
    return any(_POLAR_ROW.fullmatch(value) for source in printed for value in subject.every_value(template, source))


def printed_label_role(subject: Subject) -> Findings:
    """A forward prompt that prints the role from which the answer is read, or a target that prints its number for the words."""
    labels = _labels(subject.set)
    if subject.set.choices is None:
        return
    for template in subject.set.templates:
        if template.kind == "forward":
            for number, (_, source) in enumerate(template.messages[:-1]):
                for label, line in _printing(source, labels):
                    why = f"prints `{label}` in its prompt, which is what the answer is read from"
                    yield subject.at(template, "printed-label-role", why, "print another role there", number, line)
        for seam in seams(template):
            told = seam.message == len(template.messages) - 1 or template.kind == "inverted"
            if told and seam.source in labels and seam.source == subject.set.answer:
                rows = [row for row, _ in subject.renderings(template) if _numbers(subject, template, row)]
                if rows and subject.often(len(rows), len(subject.rows)):
                    printed = f"`{{{{ {seam.source} }}}}`, which is the number {rows[0].roles[seam.source]}"
                    why, mend = f"prints {printed} and not the words of the answer", "print `{{ answer }}`"
                    yield subject.at(template, "printed-label-role", why, mend, seam.message, seam.line)


def _numbers(subject: Subject, template: Template, row: Row) -> bool:
    """Whether the label of a row is the number of a choice and not its text."""
    label, texts = row.roles[subject.set.answer or ""], answers(subject.set, template, row.roles)
    whole = label.isdecimal() if isinstance(label, str) else isinstance(label, int | float) and label % 1 == 0
    return whole and label not in texts and texts[int(label)] != str(label)


def label_condition(subject: Subject) -> Findings:
    """An `if` on the label or on the answer in a forward prompt: what is said there tells the answer."""
    if subject.set.answer is None:
        return
    names = {"answer", *_labels(subject.set)}
    for template in subject.set.templates:
        for number, (_, source) in enumerate(template.messages[:-1]) if template.kind == "forward" else ():
            for node in ENVIRONMENT.parse(source).find_all((nodes.If, nodes.CondExpr)):
                parts = [node.test] if subject.set.choices is not None else list(_compared(node.test))
                told = {name.name for part in parts for name in _of(part, nodes.Name)} & names
                if told:
                    why = f"has an `if` on `{min(told)}` in its prompt, and so tells something of the answer"
                    mend = "say the same for every answer"
                    yield subject.at(template, "label-condition", why, mend, number, node.lineno - 1)


def _labels(template_set: TemplateSet) -> frozenset[str]:
    """The roles that are the answer; with fixed choices also those from whose column alone it is computed."""
    answer, columns = template_set.answer, template_set.columns
    own = frozenset({answer} if answer in columns else ())
    read = reads(answer) & columns.keys() if answer and isinstance(template_set.choices, tuple) else frozenset()
    if len(read) != 1 or (answer and _NESTED.search(answer)):
        return own
    sources = {role: (reads(source), source) for role, source in columns.items()}
    raw, _ = sources[min(read)]
    nested = [role for role, (from_, source) in sources.items() if from_ == raw and _NESTED.search(source)]
    return own | read if nested else own | {role for role, (from_, _) in sources.items() if from_ == raw and raw}


_NESTED = re.compile(r"\w\s*[.\[]")  # a column that holds more than the label


def _printing(source: str, names: frozenset[str]) -> Iterator[tuple[str, int]]:
    """Where one of the names is part of what is printed, and not of a condition: the name and the line, from 0."""
    for printed in ENVIRONMENT.parse(source).find_all((nodes.Output, nodes.Assign)):
        inside = list(printed.iter_child_nodes())
        while inside:
            node = inside.pop()
            if isinstance(node, nodes.Name) and node.name in names:
                yield node.name, node.lineno - 1
            inside += [child for child in node.iter_child_nodes() if child is not getattr(node, "test", None)]


def _compared(test: nodes.Node) -> Iterator[nodes.Node]:
    """What a test compares, as it is, with a text: `answer == "no"` looks at the answer, and `answer | length > 9` at its form."""
    for node in _of(test, nodes.Compare):
        texts = [one for other in node.ops for one in _of(other.expr, nodes.Const) if isinstance(one.value, str)]
        if texts and isinstance(node.expr, nodes.Name):
            yield node.expr


def _of(node: nodes.Node, kind: type[_Node]) -> list[_Node]:
    """The nodes of a kind, with the node itself."""
    return [*([node] if isinstance(node, kind) else []), *node.find_all(kind)]


LABELS: tuple[Rule, ...] = (unknowable_labels, printed_label_role, label_condition)
