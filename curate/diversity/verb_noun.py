"""Verb-noun entropy: how many different things the instructions ask for, told by their first verb and its object.

For a reader: in bits, over pairs as "write story" or "explain difference". It comes with the share of prompts in which a pair
was found: below a half, the entropy says little of the whole. Higher is more diverse.
Cost: about 10 microseconds a prompt, each row once.

There is no parser in it, but rules for English. The verb is the first word of the earliest sentence that begins (after
"please", "can you", "your task is to" and the like) with one of about 200 verbs that instructions use. Its object is the last
word of the noun phrase behind it: what stands after articles, pronouns and numbers, up to punctuation or a preposition,
conjunction or the like; its plural is cut. Verbs without an object at once ("explain why"), questions ("what is …") and other
languages give no pair; an adjective behind the noun, or a verb that is spelled as a noun, gives a wrong one. Compare values with
each other, not with those of a parser.

Reference: the pairs are those of Wang et al. 2023, "Self-Instruct", arXiv 2212.10560, figure 3 (there with a parser).
"""

from __future__ import annotations

import re

import polars as pl

from curate.contract import columns
from curate.diversity.group_entropy import bits
from curate.diversity.sample import Sample

ABOUT = {
    "verb_noun_entropy": ("how many different things the instructions ask for, in bits", "higher"),
    "verb_noun_found": ("share of prompts in which a verb and its object were found", None),
}

_QUOTES = frozenset("\"'`“”‘’*_-")
_READ = 2_000  # characters of a prompt
_VERBS = frozenset(
    """add adjust advise analyse analyze annotate answer apply argue arrange ask assess assign assume brainstorm break
    build calculate categorise categorize change check choose cite clarify classify combine come comment compare
    compile complete compose compress compute conduct connect consider construct contrast convert correct count craft
    create critique debate debug decide deduce define demonstrate derive describe design detect determine develop
    devise diagnose differentiate discover discuss display distinguish divide draft draw edit elaborate eliminate
    employ enumerate estimate evaluate examine expand explain explore express extend extract fill find finish fix form
    formulate gather generate get give grade group guess help highlight hypothesise hypothesize identify illustrate
    imagine implement improve include increase indicate infer insert interpret introduce invent investigate join judge
    justify label list locate look make map mark match mention merge minimise minimize model modify multiply name
    negate normalise normalize offer optimise optimize order organise organize outline paraphrase parse perform pick
    plan point predict prepare present print produce pronounce propose prove provide punctuate question rank rate
    rearrange recognise recognize recommend reconstruct reduce refactor reformulate rephrase remove rename reorder
    reorganise reorganize replace report represent research respond restate restructure retrieve return reverse review
    revise rewrite round say search select send separate set share shorten show simplify simulate sketch solve sort
    specify spell split state subtract suggest summarise summarize supply swap synthesise synthesize tell test think
    trace transcribe transform translate turn underline unscramble update use validate verify visualise visualize
    write""".split()  # noqa: SIM905
)
_SKIPPED = frozenset(
    """a an the this that these those some any each every all both another other few several many more most no my your
    his her its our their me us him them it you one two three four five six seven eight nine ten dozen couple pair
    following given above below first second third last next new up out down""".split()  # noqa: SIM905
)
_ENDS = frozenset(
    """a an the this these those my your his her its our their about above across after against along among around as at
    based because before below between beyond but by called down during either for from given how if in inside into is
    are was were be been being has have had does do did can could should would will may might must into like named
    near not nor of off on once onto or and out over per regarding since so such than that then there through to
    toward towards under until up upon using via what when where whether which while who whom whose why with within
    without you i he she it we they me us him them only also please""".split()  # noqa: SIM905
)
_LINKS = frozenset(["with", "of", "for"])  # "come up with", "think of", "search for"
_OPENING = re.compile(
    r"(?:(?:please|kindly|now|then|next|first|finally|also|hi|hello|hey|let's|let us|in this task|"
    r"(?:can|could|would|will) you(?: please)?|(?:i|we)(?: would|'d)? (?:want|need|like) you to|"
    r"you (?:need|have|are asked|are supposed|should|must|will)(?: to)?|"
    r"(?:your|the) (?:task|job|goal|aim) is to|try to|help me(?: to)?|use .{1,60}? to|"
    r"(?:given|using|based|in|for|from|with|to|on|if|imagine|suppose|consider)\b[^.!?\n,]{1,150},)[\s,:]+)*",
    re.IGNORECASE,
)
_SENTENCE = re.compile(r"(?:^|(?<=[.!?:;])\s|\n)[\s\-*#>\d.)(\"'`]*(?=[A-Za-z])")
_TOKEN = re.compile(r"[A-Za-z][A-Za-z'’-]*|[^\sA-Za-z]")


def verb_noun(table: pl.DataFrame) -> pl.Series | None:
    """ "write story" for each prompt, or null; None without prompts."""
    if columns.PROMPT not in table.columns:
        return None
    return pl.Series([pair(prompt or "") for prompt in table[columns.PROMPT]], dtype=pl.String)


FACTS = (verb_noun,)


def measure(sample: Sample) -> dict[str, float]:
    fact = sample.fact(verb_noun)
    if fact is None or not len(fact):
        return {}
    pairs = fact.drop_nulls()
    entropy = {"verb_noun_entropy": bits(pairs)} if len(pairs) else {}
    return entropy | {"verb_noun_found": len(pairs) / len(fact)}


def pair(prompt: str) -> str | None:
    """The first verb of an instruction and its object, as one text."""
    text = prompt[:_READ]
    for sentence in _SENTENCE.finditer(text):
        start = _OPENING.match(text, sentence.end()).end()  # pyright: ignore[reportOptionalMemberAccess]
        verb = _TOKEN.match(text, start)
        if verb is not None and verb[0].lower() in _VERBS:
            noun = _object(text, verb.end())
            return f"{verb[0].lower()} {noun}" if noun else None
    return None


_PLURALS = {"series": "series", "species": "species", "movies": "movie", "cookies": "cookie", "calories": "calorie"}


def _object(text: str, start: int) -> str | None:
    """The head of the noun phrase that begins at ``start``."""
    head = None
    for token in _TOKEN.finditer(text, start):
        word = token[0].lower()
        if word in _QUOTES or (head is None and (word in _SKIPPED or word in _LINKS or word[0].isdigit())):
            continue
        if word in _ENDS or not word[0].isalpha() or (head and (word in _SKIPPED or word.endswith(("ing", "ly")))):
            break
        head = word
    return _singular(head) if head else None


def _singular(noun: str) -> str:
    noun = noun.removesuffix("'s").removesuffix("’s").rstrip("-'’")
    if noun in _PLURALS:
        return _PLURALS[noun]
    if len(noun) > 4 and noun.endswith("ies"):
        return noun[:-3] + "y"
    if noun.endswith(("sses", "ches", "shes", "xes", "zes")):
        return noun[:-2]
    if len(noun) > 3 and noun.endswith("s") and not noun.endswith(("ss", "us", "is")):
        return noun[:-1]
    return noun
