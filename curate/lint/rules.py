"""The rules of `tamis templates check` that need no rows: one function a rule, which gives what it finds in a set.

A rule's name is its function's, with dashes; the first line of its documentation says what is wrong. A rule stays silent
where it is not sure.
"""

from __future__ import annotations

import difflib
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence

from jinja2 import nodes

from curate.lint.pieces import Piece, constants, four_grams, literal, pieces, whole_roles
from curate.lint.subject import Subject, reads, seams
from curate.template import sandbox
from curate.template.sets import TYPED, Finding, Template, TemplateSet

Findings = Iterator[Finding]
Place = tuple[int, Piece]  # message, piece

NEAR = 0.4  # of the word 4-grams of the shorter of two templates
_PUT_OTHERWISE = "drop one or put it differently"


def literals(template: Template, prompt_only: bool = False) -> Iterator[Place]:
    """The literal text of a template, piece by piece."""
    messages = template.messages[:-1] if prompt_only else template.messages
    for number, (_, source) in enumerate(messages):
        for piece in pieces(source):
            if piece.kind == "text":
                yield number, piece


def _matches(subject: Subject, pattern: re.Pattern[str]) -> Iterator[tuple[Template, int, int, re.Match[str]]]:
    """Where a pattern stands in literal text: template, message, line, match."""
    for template in subject.set.templates:
        for number, piece in literals(template):
            for match in pattern.finditer(piece.text):
                yield template, number, piece.line + piece.text.count("\n", 0, match.start()), match


# --- the words of a template -----------------------------------------------------------------------------------------

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
            said, hits = 0, []
            for row, _ in subject.renderings(template):
                for value in subject.values(template, row, seam.source):
                    said += 1
                    hits += re.findall(r"(?<!\.)[.?!]\Z", value.rstrip())
            if said and hits and subject.often(len(hits), said, share=0.1 if mark[0] in ".?!" else 0.5):
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
            wrong = []
            if source[:1].isspace():
                wrong.append((0, "begins with white space"))
            if source[-1:].isspace() and (role == "assistant" or not re.search(r"\S\n\Z", source)):
                wrong.append((source.rstrip().count("\n"), "ends with white space"))
            for piece in pieces(source):
                if piece.kind == "text":
                    found = re.search(r"\t|[ ]\n|\n\n\n", piece.text)
                    if found:
                        what = {"\t": "holds a tab", " \n": "has a space at a line's end"}
                        line = piece.line + piece.text.count("\n", 0, found.start())
                        wrong.append((line, what.get(found[0], "has two empty lines in a row")))
            for line, why in wrong[:1]:
                yield subject.at(template, "white-space", why, "remove it", number, line)


_PAIRS = ("()", "[]", "{}", "“”", "«»")
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
    return prompt.rstrip()[:-1] if last in tuple("“«([{") or (last == '"' and prompt.count('"') % 2) else prompt


def _uneven(text: str, marks: str) -> bool:
    if len(marks) == 1:
        text = re.sub(r"(?<=\s)(?<!\"\s)\"(?=\s)(?!\s\")", "", text)  # a quotation mark that is spoken of
        return text.count(marks) % 2 == 1 and _INCHES.sub("", text).count(marks) % 2 == 1
    text, depth = _SMILE.sub("", text), 0
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
            values = [v for row, _ in subject.renderings(template) for v in subject.values(template, row, seam.source)]
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


# --- what a prompt tells ---------------------------------------------------------------------------------------------


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
    """Two templates, of one set or of two that are checked together, that share more than 2/5 of their word 4-grams."""
    holders: defaultdict[tuple[str, ...], list[int]] = defaultdict(list)
    seen: list[tuple[TemplateSet, Template, int]] = []
    for subject in subjects:
        same = {(template.name, first) for template, first in _duplicates(subject.set)}
        for template in subject.set.templates:
            grams = four_grams(template)
            shared = Counter(number for gram in grams for number in holders[gram])
            worst: tuple[float, str] = (NEAR, "")
            for number, count in sorted(shared.items()):
                other_set, other, size = seen[number]
                within = other_set is subject.set
                if not (within and (template.name, other.name) in same):
                    named = f"'{other.name}'{'' if within else f' of {other_set.name}'}"
                    worst = max(worst, (count / min(size, len(grams)), named), key=lambda pair: pair[0])
            if worst[1]:
                why = f"shares {100 * worst[0]:.0f} % of its words, in fours, with {worst[1]}"
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
    found = subject.set
    if found.messages is not None:
        return
    roles = _answer_roles(found) & found.columns.keys()
    raw = frozenset().union(*(reads(found.columns[role]) for role in roles))
    given = {"answer", *roles, *(role for role, source in found.columns.items() if reads(source) & raw)}
    for template in found.templates:
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


# --- options and choices ---------------------------------------------------------------------------------------------

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


# --- the set ---------------------------------------------------------------------------------------------------------


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
    found = subject.set
    expressions = [found.when, found.messages, found.answer, found.references, *found.extra.values()]
    expressions += [found.choices] if isinstance(found.choices, str) else []
    expressions += [template.when for template in found.templates]
    used: set[str] = set().union(*(sandbox.text_reads(text) for text in found.record.values()))
    used.update(*(reads(source) for source in expressions if source is not None))
    used.update(*(template.input_reads | template.target_reads for template in found.templates))
    for role in found.columns:
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


STATIC: tuple[Callable[[Subject], Iterable[Finding]], ...] = (
    single_brace, stray_escape, html_entity, odd_character, repeated_word, white_space, unbalanced, glued, above_below, unknown_filter,
    constant_prompt, label_only_prompt, duplicate_template, constant_target,
    answer_not_asked, inverted_without_answer, cot_without_reasons, swapped_roles, options_inline, options_not_shown,
    options_left_hanging, prescribed_words, choices_alike, label_order, label_count, metric_mismatch, missing_license,
    unused_role, template_name, about_sentence,
)  # fmt: skip
WORDS_AND_ROWS = (
    double_punctuation,
    article,
    leaked_answer,
    inverted_leak,
)  # of the text, and of what rows print there
