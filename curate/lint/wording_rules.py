"""Rules of `tamis templates check` on the words of a template: slips of the pen and what wrong tools leave.

A rule is one function, which gives what it finds in a set, and its name is the rule's, with dashes; the first line of its
documentation says what is wrong. A rule stays silent where it is not sure.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from itertools import islice

from jinja2 import nodes

from curate.lint.pieces import literal, literals, pieces
from curate.lint.subject import Findings, Rule, Subject, reads, seams
from curate.template import sandbox
from curate.template.sets import TYPED, Template


def _matches(subject: Subject, pattern: re.Pattern[str]) -> Iterator[tuple[Template, int, int, re.Match[str]]]:
    """Where a pattern stands in literal text: template, message, line, match."""
    for template in subject.set.templates:
        for number, piece in literals(template):
            for match in pattern.finditer(piece.text):
                yield template, number, piece.line + piece.text.count("\n", 0, match.start()), match


_BRACED = re.compile(r"\{\s*([A-Za-z_]\w*)\s*\}")


def single_brace(subject: Subject) -> Findings:
    """`{x}` stands where `{{ x }}` was meant, and would reach the model as braces."""
    known = {*subject.set.columns, *TYPED, *subject.set.needs}
    for template, message, line, match in _matches(subject, _BRACED):
        name = match[1]
        if name in known or (len(name) > 3 and difflib.get_close_matches(name, known, n=1, cutoff=0.8)):
            why = f"says `{match[0]}` with one pair of braces"
            yield subject.at(template, "single-brace", why, f"write `{{{{ {name} }}}}`", message, line)


_ESCAPED = re.compile(r"\\[nrt](?![a-z])")


def stray_escape(subject: Subject) -> Findings:
    """A backslash and an n where a line break was meant, or the n alone that is left of one."""
    for template, message, line, match in _matches(subject, _ESCAPED):
        why, mend = f"says `{match[0]}` in two characters", "break the line in a block (`input: |-`)"
        yield subject.at(template, "stray-escape", why, mend, message, line)
    for template in subject.set.templates:
        for number, (_, source) in enumerate(template.messages):
            for match in re.finditer(r"\}\}n(?=\{\{|\n|$)", source):
                why, mend = "has an n after `}}`, as a broken `\\n` leaves it", "remove it, and break the line if meant"
                yield subject.at(template, "stray-escape", why, mend, number, source.count("\n", 0, match.start()))


_ENTITY = re.compile(r"&(?:amp|lt|gt|quot|nbsp|apos|hellip|[lr]squo|[lr]dquo|[mn]dash|#\d{2,5}|#x[0-9a-fA-F]{2,4});")


def html_entity(subject: Subject) -> Findings:
    """An HTML entity in the literal text; nothing decodes it."""
    for template, message, line, match in _matches(subject, _ENTITY):
        why, mend = f"says `{match[0]}`", "write the character itself"
        yield subject.at(template, "html-entity", why, mend, message, line)


_ODD = re.compile(
    "[\u200b-\u200f\u2028-\u202e\u2060\ufeff\ufffd\u00ad\u00a0]|â€[\u2122\u0153\u009d™œ]|Ã[\u00a0-\u00bf]"
)


def odd_character(subject: Subject) -> Findings:
    """A character that nobody sees (no-break space, zero width), or what a wrong encoding leaves of a letter."""
    for template, message, line, match in _matches(subject, _ODD):
        why, mend = f"holds {match[0]!a}", "type the character anew"
        yield subject.at(template, "odd-character", why, mend, message, line)


_DOUBLED = re.compile(r"\w\.\.(?![.\w/\\])|\w,[.,;:?!](?=\s|$)|\w[;:][.,;:](?=\s|$)|\w\?[?.](?=\s|$)|\w!\.(?=\s|$)")


def double_punctuation(subject: Subject) -> Findings:
    """Two marks in a row: in the literal text, or where `{{ question }}?` prints a question mark already."""
    for template, message, line, match in _matches(subject, _DOUBLED):
        why = f"says `{match[0]}`"
        yield subject.at(template, "double-punctuation", why, "keep one of the marks", message, line)
    for template in subject.set.templates:
        for seam in seams(template):
            mark = re.match(r"[.?!](?![.?!])|[,;:](?=\s|$)", seam.after)
            last = seam.message == len(template.messages) - 1
            if not mark or (last and "answer" in seam.source) or not reads(seam.source):
                continue
            values = subject.every_value(template, seam.source)
            hits = [end for value in values for end in re.findall(r"(?<!\.)[.?!]\Z", value.rstrip())]
            if hits and subject.often(len(hits), len(values), share=0.1 if mark[0] in ".?!" else 0.5):
                why = f"puts `{mark[0]}` after `{{{{ {seam.source} }}}}`, which ends with `{hits[0]}` already"
                mend = f"drop the mark, or print it with `| trim('{hits[0]}')`"
                yield subject.at(template, "double-punctuation", why, mend, seam.message, seam.line)


_REPEATED = re.compile(r"\b(the|an?|of|to|in|for|and|are|with|on|at|by|from|or|be|your|you|which)[ ]+\1\b")


def repeated_word(subject: Subject) -> Findings:
    """A small word that stands twice in a row."""
    for template, message, line, match in _matches(subject, _REPEATED):
        yield subject.at(template, "repeated-word", f"says `{match[0]}`", "say it once", message, line)


def white_space(subject: Subject) -> Findings:
    """White space that nobody meant: around a message, at a line's end, tabs, two empty lines in a row."""
    for template in subject.set.templates:
        for number, (role, source) in enumerate(template.messages):
            for line, why in islice(_unmeant_spaces(role, source), 1):
                yield subject.at(template, "white-space", why, "remove it", number, line)


_SPACES = re.compile(r"\t|[ ]\n|\n\n\n")
_SPACES_SAID = {"\t": "holds a tab", " \n": "has a space at a line's end", "\n\n\n": "has two empty lines in a row"}


def _unmeant_spaces(role: str, source: str) -> Iterator[tuple[int, str]]:
    """The line of a message, and what is wrong there."""
    if source[:1].isspace():
        yield 0, "begins with white space"
    if source[-1:].isspace() and (role == "assistant" or not re.search(r"\S\n\Z", source)):
        yield source.rstrip().count("\n"), "ends with white space"
    for piece in pieces(source):
        match = _SPACES.search(piece.text) if piece.kind == "text" else None
        if match:
            yield piece.line + piece.text.count("\n", 0, match.start()), _SPACES_SAID[match[0]]


_PAIRS = ("()", "[]", "{}", "“”", "«»")
_ELSEWHERE = re.compile(
    "„[^„“”]*[“”]|”[^“”]*”|»[^«»]*«"
)  # „so“ in German, „so” in Polish, ”so” in Swedish, »so« in Danish
_INCHES = re.compile(r"(?<=\d)\s?\"")
_SMILE = re.compile(r"[:;8]-?[(\[]")


def unbalanced(subject: Subject) -> Findings:
    """A quote or a bracket of the literal text that is opened and not closed, or closed and not opened."""
    for template in subject.set.templates:
        texts = [literal(source) for _, source in template.messages]
        texts[:-1] = [_left_open(text) for text in texts[:-1]]
        places = [piece for _, source in template.messages for piece in pieces(source)]
        printed = _strings("".join(piece.text for piece in places if piece.kind == "print"))
        outside = "\x00".join(piece.text for piece in places if piece.kind == "text" and not piece.guards)
        for marks in ('"', *_PAIRS):
            known = any(mark in printed for mark in marks)  # an expression may print the partner
            if not known and _uneven("\n".join(texts), marks) and _uneven(outside, marks):
                why, mend = f"has a `{marks[0]}` without its partner", "close it, or remove it"
                yield subject.at(template, "unbalanced", why, mend)


def _left_open(prompt: str) -> str:
    """A prompt without the quote or bracket that it ends with, for the target to go on from."""
    last = prompt.rstrip()[-1:]
    return prompt.rstrip()[:-1] if last in tuple("“„«»([{") or (last == '"' and prompt.count('"') % 2) else prompt


def _uneven(text: str, marks: str) -> bool:
    if len(marks) == 1:
        text = re.sub(r"(?<=\s)(?<!\"\s)\"(?=\s)(?!\s\")", "", text)  # a quotation mark that is spoken of
        return text.count(marks) % 2 == 1 and _INCHES.sub("", text).count(marks) % 2 == 1
    text, depth = _SMILE.sub("", _ELSEWHERE.sub("", text)), 0
    for i, character in enumerate(text):
        if character == marks[0]:
            depth += 1
        elif character == marks[1] and depth:
            depth -= 1
        elif character == marks[1] and not re.search(r"[\w:;-]\Z", text[max(i - 1, 0) : i]):  # "a)", ":)"
            return True
    return depth > 0


def _strings(expressions: str) -> str:
    """What stands in quotes within expressions."""
    return "".join(first or second for first, second in re.findall(r"\"([^\"]*)\"|'([^']*)'", expressions))


def glued(subject: Subject) -> Findings:
    """A value that is printed with a word stuck to it: `Answer{{ x }}`."""
    for template in subject.set.templates:
        for seam in seams(template):
            bare = seam.source in subject.set.columns or seam.source in TYPED
            before, after = re.search(r"\b[A-Za-z]{4,}\Z", seam.before), re.match(r"[A-Z][a-z]{2,}\b", seam.after)
            word = before or after
            if bare and word:
                why = f"prints `{{{{ {seam.source} }}}}` with `{word[0]}` stuck to it"
                yield subject.at(template, "glued", why, "put a space between", seam.message, seam.line)


_SMALL = re.compile(
    r"or|and|in|is|if|as|on|at|are|of|its?|also|else|instead|about|again|any|away|after|alone|even|only", re.IGNORECASE
)
_ARTICLE = re.compile(r"(?<![\w'.)(-])(an?) ([A-Za-z][\w'-]*)")


def wrong_article(article: str, word: str) -> bool:
    """Whether "a" or "an" is surely wrong before a word: letters decide, and doubtful beginnings are left alone."""
    lower = word.lower()
    if len(word) < 3 or word.isupper() or _SMALL.fullmatch(word) or not word[:3].isalpha():
        return False
    if article == "a":
        return lower[0] in "aeio" and not re.match(r"eu|ewe|one|once|oui|iou", lower)
    sounded = re.match(r"[bcdfgjklmnpqrstvwz][aeiou]|[bcfgp][lr]|dr|tr|th|ch|sh|wh|st[aeiour]|sp[aeiour]", lower)
    return sounded is not None


def article(subject: Subject) -> Findings:
    """ "a" before a vowel or "an" before a consonant: in the literal text, or before what is printed after it."""
    for template, message, line, match in _matches(subject, _ARTICLE):
        if wrong_article(match[1], match[2]):
            mend = "mend the article"
            yield subject.at(template, "article", f"says `{match[0]}`", mend, message, line)
    for template in subject.set.templates:
        for seam in seams(template):
            said = re.search(r"(?<![\w'.)(-])([Aa]n?) [\"“]?\Z", seam.before)
            if not said:
                continue
            values = subject.every_value(template, seam.source)
            words = [(value.split() or [""])[0].strip("\"'“”.,;:") for value in values]
            wrong = [word for word in words if wrong_article(said[1].lower(), word)]
            if wrong and subject.often(len(wrong), len(words)):
                why = f"says `{said[1]} {wrong[0]}` where `{{{{ {seam.source} }}}}` is printed"
                yield subject.at(
                    template, "article", why, "put it so that no article comes before", seam.message, seam.line
                )


_NOUN = r"(?:text|passage|paragraph|article|story|sentences?|question|review|table|dialogue|conversation|summary|lines)"
_ABOVE_BELOW = re.compile(rf"\b(?:the|this|these|that) {_NOUN} (above|below)\b", re.IGNORECASE)


def above_below(subject: Subject) -> Findings:
    """ "The text below" with nothing below it, or "the text above" with nothing above it."""
    for template in subject.set.templates:
        places = [(n, p) for n, (_, source) in enumerate(template.messages[:-1]) for p in pieces(source)]
        for i, (number, piece) in enumerate(places):
            for match in _ABOVE_BELOW.finditer(piece.text) if piece.kind == "text" else ():
                above = match[1].lower() == "above"
                beside = places[:i] if above else places[i + 1 :]
                words = piece.text[: match.start()] if above else piece.text[match.end() :]
                if all(other.kind == "text" for _, other in beside) and len(words.split()) < 20:
                    why, mend = f"speaks of `{match[0]}`, and nothing is {match[1].lower()}", "say where the text is"
                    line = piece.line + piece.text.count("\n", 0, match.start())
                    yield subject.at(template, "above-below", why, mend, number, line)


def unknown_filter(subject: Subject) -> Findings:
    """A filter or a test that is not there, in a branch that Jinja looks at only when a row takes it."""
    environment = sandbox.ENVIRONMENT
    for template in subject.set.templates:
        for number, (_, source) in enumerate(template.messages):
            tree = environment.parse(source)
            used = [(node, node.name in environment.filters) for node in tree.find_all(nodes.Filter)]
            used += [(node, node.name in environment.tests) for node in tree.find_all(nodes.Test)]
            for node, known in used:
                if not known:
                    near = difflib.get_close_matches(node.name, [*environment.filters, *environment.tests], n=1)
                    why = f"uses `{node.name}`, and there is no such filter or test"
                    mend = f"use `{near[0]}`" if near else "templates/README.md lists what there is"
                    yield subject.at(template, "unknown-filter", why, mend, number, node.lineno - 1)


WORDING: tuple[Rule, ...] = (
    single_brace, stray_escape, html_entity, odd_character, repeated_word, white_space, unbalanced, glued, above_below, unknown_filter,
)  # fmt: skip
WORDING_ON_ROWS: tuple[Rule, ...] = (double_punctuation, article)  # of the text, and of what rows print there
