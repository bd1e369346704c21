"""Drop responses that refuse, or that begin by saying that an AI speaks.

When to use: on responses written by models, unless refusals are what should be learnt.
Cost: some hundred thousand responses a second on one core; only the first 300 characters are read.

    - filter: {refusal: {phrases: [no comment]}}

A response goes if it begins with one of the patterns below, in any case, after any greeting or apology. So "I'm sorry, but as
an AI language model, I …" goes, while "I'm sorry for your loss" and a story in which a robot says so later on stay.
"""

from __future__ import annotations

import polars as pl

from curate.contract.errors import MethodError

TEXT = "response"

_READ = 300  # characters at the start

# Spelled out before anything is compared, so that each pattern is written once.
_SPELLED_OUT = {
    "\u2019": "'", "i'm": "i am", "i've": "i have", "it's": "it is", "can't": "cannot", "can not": "cannot", "won't": "will not",
    "don't": "do not", "doesn't": "does not", "couldn't": "could not", "isn't": "is not",
}  # fmt: skip

# What may come first: greetings, apologies, thanks.
_OPENING = r"""(?:
      (?: hello | hi | hey | well | oh | but | however | unfortunately | regrettably | sorry | my \s apologies | please \s note \s that )
    | i \s am \s (?:(?:very|so|really|truly|deeply) \s )? (?:sorry|afraid) (?: \s that | \s to \s say )?
    | i \s (?:sincerely \s )? apologi[sz]e (?: \s for \s (?:the|any) \s (?:\w+\s){0,3}? \w+ )?
    | thank \s you \s for (?: \s \w+ ){1,6}?
) [\s,.;:!\u2014-]+"""

_ACT = r"""(?: \s (?: actually | currently | directly | really ))? \s
    (?: assist | help | provide | fulfill? | comply | complete | answer | respond | generate | create | write | produce | offer
    | give | do \s (?:this|that|so) | process | perform | access | share | engage | participate | discuss | recommend | suggest
    | translate | continue | condone | promote | browse | see | view | hear | play | draw | make | express | predict ) \b"""

_PATTERNS = (
    # an AI speaks
    r"(?: as | being | since \s i \s am | because \s i \s am ) \s (?:just \s|only \s|simply \s)? an? \s (?: ai | artificial \s intelligence"
    r" | (?:large \s|text-based \s|gpt \s)? language \s model | chatbot | virtual \s assistant ) \b",
    r"i \s am \s (?:just \s|only \s|simply \s|merely \s)? an? \s (?: ai | artificial \s intelligence | (?:large \s)? language \s model ) \b",
    r"i \s do \s not \s have \s (?: personal \s | feelings | emotions | (?:the \s)? (?:ability|capability|capacity) \s to \b )",
    r"i \s do \s not \s have \s (?:real-time \s|direct \s|any \s|enough \s|sufficient \s)* (?:access|information|context) \b",
    # it refuses
    r"i \s (?: cannot | will \s not | am \s unable \s to | am \s not \s able \s to | am \s not \s (?:allowed|programmed|designed) \s to"
    r" | will \s not \s be \s able \s to | must \s decline \s to )" + _ACT,
    r"i \s (?: must | have \s to | need \s to ) \s (?:respectfully \s|politely \s)? (?: decline | refuse ) \b",
    r"it \s is \s not \s (?: possible | appropriate | ethical ) \s for \s me \s to \b",
    # the task is beyond it, or lacks its input
    r"(?:the|this) \s (?: task | instruction | request | prompt ) \s cannot \s be \s (?:completed|performed|fulfilled) \b",
    r"sorry, \s (?:but \s)? (?:the|this) \s (?: task | instruction | request | prompt ) \s (?: involves | requires | is ) \b",
    r"(?: no \s output \b | < no \s? output > )",
    r"there \s is \s (?: no | not \s enough ) \s (?: input | context ) \b",
)


def reject(text: pl.Series, *, phrases: list[str] | None = None) -> pl.Series:
    """String (n,): 'begins with "as an ai"', or null for the rows that stay.

    phrases: more beginnings to drop, as plain text in any case; they are matched like the patterns of this file.
    """
    if not all(phrase.strip() for phrase in phrases or []):
        raise MethodError(
            "filter refusal: an empty phrase would drop every row; write the words that a refusal begins with"
        )
    own = [pl.escape_regex(phrase) for phrase in _spelled_out(pl.Series(phrases or [], dtype=pl.String)).to_list()]
    alternatives = " | ".join([*(phrase.replace(" ", r"\x20") for phrase in own), *_PATTERNS])
    pattern = rf"(?x) ^ [\s\x22'*]* (?:{_OPENING})* ( {alternatives} )"
    return pl.select(pl.format('begins with "{}"', _spelled_out(text.fill_null("")).str.extract(pattern))).to_series()


def _spelled_out(text: pl.Series) -> pl.Series:
    """The beginning in lower case, contractions written out, white space single."""
    start = text.str.slice(0, _READ).str.to_lowercase().str.replace_all(r"\s+", " ").str.strip_chars()
    return start.str.replace_many(list(_SPELLED_OUT), list(_SPELLED_OUT.values()))
