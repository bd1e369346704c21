"""Options and the right answer as one typed value: how they are shown, in which order, and what the target says.

    value = draw_options(("yes", "no"), number)      number: a 64-bit draw keyed by the record's id
    value.block                                      "A) no\\nB) yes"       what {{ options }} prints
    value.answers                                    ("A", "B")            what {{ answer }} prints, choice by choice
    value.answers[value.place(0)]                    "B"                   the target where label 0 ("yes") is right

Style, order and enumerator come from one draw; the target, the candidates of rank classification and the index of the
answer follow from them, so that a target can never name a letter which the prompt does not show (the released Flan 2022
mixture holds such rows: google-research/FLAN, issue 25).
"""

from __future__ import annotations

import re
import string
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import permutations
from math import factorial, lcm

from curate.contract.errors import RowSkipped

_ROMAN = ("i", "ii", "iii", "iv", "v", "vi", "vii", "viii", "ix", "x")
MARKS: dict[str, tuple[str, ...]] = {
    "upper": tuple(string.ascii_uppercase),
    "lower": tuple(string.ascii_lowercase),
    "number": tuple(str(number) for number in range(1, 1000)),
    "roman": _ROMAN,
}


@dataclass(frozen=True, eq=False)
class Style:
    """One way to show options. item holds {text}, and {mark} where marks are counted; answer is what the target says:
    {text}, {mark} or both. between and barred: what joins items, and what no option may then contain."""

    name: str
    item: str
    answer: str
    marks: str | None = None
    between: str = "\n"
    before: str = ""
    after: str = ""
    barred: tuple[str, ...] = ("\n",)
    longest: int = 100_000  # characters of all options together

    def __post_init__(self):
        shows_mark = "{mark}" in self.item
        if "{text}" not in self.item or shows_mark != (self.marks is not None):
            raise ValueError(
                f"options style {self.name}: an item shows its text, and a mark if and only if marks are counted"
            )
        if "{mark}" in self.answer and not shows_mark:
            raise ValueError(f"options style {self.name}: the target names a mark that the prompt does not show")
        if "{mark}" not in self.answer and "{text}" not in self.answer:
            raise ValueError(f"options style {self.name}: the target says neither mark nor text")

    def fits(self, texts: tuple[str, ...]) -> bool:
        """Whether these options can be read back from the block without doubt."""
        return (
            (self.marks is None or len(texts) <= len(MARKS[self.marks]))
            and sum(map(len, texts)) <= self.longest
            and not any(bar in text for bar in self.barred for text in texts)
        )


_LINE = ("\n", "/", "[", "]")
STYLES: tuple[Style, ...] = (
    # the target says the text
    Style("dash", "- {text}", "{text}"),
    Style("star", "* {text}", "{text}", before="Pick one:\n"),
    Style("bullet", "• {text}", "{text}", before="Candidates\n"),
    Style("arrow", "-> {text}", "{text}", before="One of these:\n"),
    Style("indented", "    {text}", "{text}", before="Choices:\n"),
    Style("slash", "{text}", "{text}", between=" / ", before="[", after="]", barred=_LINE, longest=120),
    Style("bar", "{text}", "{text}", between=" | ", before="Options: ", barred=("\n", "|"), longest=120),
    Style(
        "semicolon", "{text}", "{text}", between="; ", before="(", after=")", barred=("\n", ";", "(", ")"), longest=120
    ),
    Style("quoted", '"{text}"', "{text}", between=" or ", before="Say ", after=".", barred=("\n", '"'), longest=120),
    Style("braces", '"{text}"', "{text}", between=", ", before="{", after="}", barred=("\n", '"'), longest=120),
    Style("upper_dot_text", "{mark}. {text}", "{text}", marks="upper", before="The options are\n"),
    Style("number_text", "{mark}) {text}", "{text}", marks="number", before="Give one of these, without its number:\n"),
    # the target says the mark
    Style("upper_bracket", "{mark}) {text}", "{mark}", marks="upper"),
    Style("upper_parens", "({mark}) {text}", "({mark})", marks="upper"),
    Style("upper_colon", "{mark}: {text}", "{mark}", marks="upper", before="Reply with a letter.\n"),
    Style("lower_dot", "{mark}. {text}", "{mark}", marks="lower", before="Answers\n"),
    Style("lower_bracket", "{mark}) {text}", "{mark}", marks="lower", before="Which letter?\n"),
    Style("number_dot", "{mark}. {text}", "{mark}", marks="number"),
    Style("number_parens", "({mark}) {text}", "{mark}", marks="number", before="Reply with a number.\n"),
    Style("number_square", "[{mark}] {text}", "[{mark}]", marks="number"),
    Style("roman", "{mark}. {text}", "{mark}", marks="roman", before="Possible answers:\n"),
    Style("roman_parens", "({mark}) {text}", "({mark})", marks="roman"),
    Style("upper_row", "{mark}) {text}", "{mark}", marks="upper", between="   ", longest=120),
    # the target says both
    Style("lower_parens", "({mark}) {text}", "({mark}) {text}", marks="lower", before="Choices:\n"),
    Style("upper_dot", "{mark}. {text}", "{mark}. {text}", marks="upper"),
    Style("number_colon", "{mark}: {text}", "{mark}: {text}", marks="number", before="Select from\n"),
)
EVERY_STYLE = lcm(*range(1, len(STYLES) + 1))  # numbers equal modulo it give the same style, however many fit
_ALWAYS = Style(
    "number_block", "{mark}. {text}", "{mark}", marks="number", between="\n\n", barred=()
)  # options of many lines


@dataclass(frozen=True, slots=True)
class Options:
    """The value. order[i]: which choice (in label order) stands at place i. answers[i]: what the target says for it.
    style: None where the template shows no options; the answers are then the texts, in label order."""

    block: str
    answers: tuple[str, ...]
    order: tuple[int, ...]
    style: str | None

    def place(self, label: int) -> int:
        """Where the choice with this label stands: an index into ``answers``."""
        return self.order.index(label)


def draw_options(texts: tuple[str, ...], number: int) -> Options:
    """The value for one record: style and order from one 64-bit draw. Cost: a look-up where the texts recur."""
    styles = fitting(texts)
    style, number = styles[number % len(styles)], number // len(styles)
    return lay_out(texts, style, permutation(len(texts), number))


@lru_cache(maxsize=4096)
def lay_out(texts: tuple[str, ...], style: Style, order: tuple[int, ...]) -> Options:
    """Options in one style and one order."""
    marks = MARKS[style.marks] if style.marks else ("",) * len(texts)
    pairs = [(mark, texts[label]) for mark, label in zip(marks, order, strict=False)]
    block = style.between.join(style.item.format(mark=mark, text=text) for mark, text in pairs)
    answers = tuple(style.answer.format(mark=mark, text=text) for mark, text in pairs)
    return Options(style.before + block + style.after, answers, order, style.name)


@lru_cache(maxsize=4096)
def unshown(texts: tuple[str, ...]) -> Options:
    """The value where the prompt shows no options."""
    fitting(texts)
    return Options("", texts, tuple(range(len(texts))), None)


_OPTIONS = r"[ \t]*(?:\{\{\s*options\s*\}\}|\{%\s*if options\s*%\}[^{}]*\{%\s*endif\s*%\})[ \t]*"
_OPTIONS_LINE = re.compile(rf"^{_OPTIONS}\n+|\n\n{_OPTIONS}(?=\n\n|$)|\n{_OPTIONS}(?=\n|$)")


def without_options(source: str) -> str:
    """A template's text without the lines that hold nothing but ``{{ options }}``, or words that are only said with options
    (``{% if options %}…{% endif %}``), and without one of two blank lines around."""
    return _OPTIONS_LINE.sub("", source)


def permutation(n: int, number: int) -> tuple[int, ...]:
    """An order of n things from one number. Few things: the orders are counted off. More: Fisher-Yates, each step drawn
    by splitmix64 (Steele, Lea and Flood 2014)."""
    if n <= 5:
        return _orders(n)[number % factorial(n)]
    order = list(range(n))
    for last in range(n - 1, 0, -1):
        number = (number + 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
        mixed = ((number ^ (number >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
        mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
        other = (mixed ^ (mixed >> 31)) % (last + 1)
        order[last], order[other] = order[other], order[last]
    return tuple(order)


@cache
def _orders(n: int) -> tuple[tuple[int, ...], ...]:
    return tuple(permutations(range(n)))


@lru_cache(maxsize=4096)
def fitting(texts: tuple[str, ...]) -> tuple[Style, ...]:
    """The styles that can show these options. Raises RowSkipped: fewer than two, an empty one, or one twice."""
    if len(texts) < 2 or not all(text.strip() for text in texts):
        raise RowSkipped("there are fewer than two options, or one of them is empty")
    if len(set(texts)) < len(texts):
        raise RowSkipped("two of the options are the same text")
    return tuple(style for style in STYLES if style.fits(texts)) or (_ALWAYS,)
