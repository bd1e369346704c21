"""Which licence a release can name, from the licences of its rows.

    normalise("License :: OSI Approved :: BSD License")   -> "bsd"
    release_licence({"mit": 700, "CC BY-SA 4.0": 300})    -> cc-by-sa-4.0, with a table of both
    release_licence({"mit": 700, "bsd-3-clause": 300})    -> other, "mixed-permissive"

What licences ask for is ordered: public domain < permissive < attribution < share-alike. Apart from that order,
"no commercial use", "no derivatives" and "terms of its own" stay once any row has them. The terms of a release are the
least that hold all of its rows' terms; a licence is named only if one licence among the rows' own has just these terms.
Otherwise the card says `other` and lists who asks for what. Every row keeps the licence that it came with.

This orders licences by what they say. It is no legal advice, and a source may state its licence wrongly.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from boolean import ParseError
from license_expression import ExpressionError, LicenseSymbol, LicenseWithExceptionSymbol, Licensing

from curate.contract.errors import RequestError

LEVELS = ("public-domain", "permissive", "attribution", "share-alike")
UNKNOWN = "unknown"

# The identifiers that the Hub accepts in a card (its page "Licenses"), by level. Creative Commons are read from their id.
_PUBLIC_DOMAIN = "cc0-1.0 pddl unlicense wtfpl"
_PERMISSIVE = """
    afl-3.0 apache-2.0 artistic-2.0 bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear bsl-1.0 cdla-permissive-1.0
    cdla-permissive-2.0 ecl-2.0 isc lppl-1.3c mit ms-pl ncsa openmdw-1.0 postgresql zlib
"""
_ATTRIBUTION = "etalab-2.0 odc-by"
_SHARE_ALIKE = """
    agpl-3.0 cdla-sharing-1.0 epl-1.0 epl-2.0 eupl-1.1 eupl-1.2 gfdl gpl gpl-2.0 gpl-3.0 lgpl lgpl-2.1 lgpl-3.0 lgpl-lr
    mpl-2.0 odbl ofl-1.1 osl-3.0
"""
_OWN_TERMS = """
    apple-ascl bigcode-openrail-m bigscience-bloom-rail-1.0 bigscience-openrail-m c-uda cc creativeml-openrail-m gemma
    grok2-community llama2 llama3 llama3.1 llama3.2 llama3.3 llama4 openrail openrail++ other unknown
"""
_OWN_TERMS_NONCOMMERCIAL = (
    "apple-amlr deepfloyd-if-license fair-noncommercial-research-license h-research intel-research"
)
_CREATIVE_COMMONS = """
    cc-by-2.0 cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nd-4.0
    cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0
"""
# Known to SPDX, common in package metadata, not in the Hub's list.
_BEYOND_THE_HUB = {
    "0bsd": 0,
    "mit-0": 0,
    "public-domain": 0,
    "blueoak-1.0.0": 1,
    "hpnd": 1,
    "psf-2.0": 1,
    "python-2.0": 1,
}

_LEVEL: dict[str, int] = {
    name: level
    for level, names in enumerate((_PUBLIC_DOMAIN, _PERMISSIVE, _ATTRIBUTION, _SHARE_ALIKE))
    for name in names.split()
} | _BEYOND_THE_HUB
_RESEARCH_ONLY = frozenset(_OWN_TERMS_NONCOMMERCIAL.split())
HUB_LICENCES = (frozenset(_LEVEL) - frozenset(_BEYOND_THE_HUB) | _RESEARCH_ONLY).union(
    _OWN_TERMS.split(), _CREATIVE_COMMONS.split()
)

_OPERATOR = re.compile(r"(?<![^\s()])(?:AND|OR|WITH)(?![^\s()])")
_WORD = rf"(?<![^\s()])(?!{_OPERATOR.pattern})[^\s()]+"
_NAME = re.compile(rf"{_WORD}(?:\s*\([^()]*\)|\s+{_WORD})*")  # words, and remarks in brackets after a word
_CC = re.compile(r"cc-by(?P<nc>-nc)?(?P<end>-nd|-sa)?(?:-(?P<version>2\.0|2\.5|3\.0|4\.0))?")
_CC_TEXT = re.compile(r"\b(?:cc|creative commons)\b(?P<rest>.*)", re.DOTALL)
_SPELLED = {  # what people and package metadata write, after `_plain`; the longest that is found decides
    "academic free license": "afl-3.0",
    "affero general public license 3": "agpl-3.0",
    "apache": "apache-2.0",
    "artistic license 2": "artistic-2.0",
    "boost software license": "bsl-1.0",
    "affero gpl": "agpl-3.0",
    "agpl": "agpl-3.0",
    "bsd": "bsd",
    "bsd 2": "bsd-2-clause",
    "bsd 3": "bsd-3-clause",
    "bsd 3 clause clear": "bsd-3-clause-clear",
    "2 clause bsd": "bsd-2-clause",
    "3 clause bsd": "bsd-3-clause",
    "simplified bsd": "bsd-2-clause",
    "modified bsd": "bsd-3-clause",
    "new bsd": "bsd-3-clause",
    "cc0": "cc0-1.0",
    "cc zero": "cc0-1.0",
    "creative commons zero": "cc0-1.0",
    "community data license agreement permissive 2": "cdla-permissive-2.0",
    "community data license agreement sharing": "cdla-sharing-1.0",
    "gnu free documentation license": "gfdl",
    "general public license": "gpl",
    "general public license 2": "gpl-2.0",
    "general public license 3": "gpl-3.0",
    "lesser general public license": "lgpl",
    "lesser general public license 3": "lgpl-3.0",
    "gpl": "gpl",
    "gpl 2": "gpl-2.0",
    "gpl 3": "gpl-3.0",
    "lgpl": "lgpl",
    "lgpl 3": "lgpl-3.0",
    "isc license": "isc",
    "mit": "mit",
    "mit no attribution": "mit-0",
    "mozilla public license 2": "mpl-2.0",
    "odc by": "odc-by",
    "open data commons attribution": "odc-by",
    "open database license": "odbl",
    "pddl": "pddl",
    "public domain": "public-domain",
    "python software foundation": "psf-2.0",
    "the unlicense": "unlicense",
    "zlib": "zlib",
}
_NOT_STATED = {
    "",
    "-",
    "n a",
    "na",
    "none",
    "no license",
    "not stated",
    "not specified",
    "null",
    "unknown",
    "unlicensed",
}
_LICENCE_TEXTS = (  # the words by which a whole licence text, pasted into metadata, is known
    (r"redistribution and use in source and binary forms.*neither the names? of", "bsd-3-clause"),
    (r"redistribution and use in source and binary forms", "bsd-2-clause"),
    (r"permission is hereby granted, free of charge, to any person obtaining a copy", "mit"),
    (r"apache license\W+version 2\.0", "apache-2.0"),
)


@dataclass(frozen=True)
class Terms:
    """What a licence asks for. `own` names the licences whose terms are none of the usual ones, or not known."""

    level: int = 0
    noncommercial: bool = False
    no_derivatives: bool = False
    own: frozenset[str] = frozenset()

    def __or__(self, other: Terms) -> Terms:
        """The least terms that hold both."""
        return Terms(
            max(self.level, other.level),
            self.noncommercial or other.noncommercial,
            self.no_derivatives or other.no_derivatives,
            self.own | other.own,
        )

    def holds(self, other: Terms) -> bool:
        """True if who keeps these terms keeps the other ones too."""
        return self | other == self

    def __str__(self) -> str:
        flags = [name for name in ("noncommercial", "no_derivatives") if getattr(self, name)]
        known = [LEVELS[self.level], *(flag.replace("_", "-") for flag in flags)]
        return "-".join(
            known + (["unknown"] if UNKNOWN in self.own else []) + (["own-terms"] if self.own - {UNKNOWN} else [])
        )


@dataclass(frozen=True)
class ReleaseLicence:
    """id: an identifier of the Hub. name: what `license_name` says where the id is `other`, else empty.
    rows: (licence, number of rows), most rows first. warnings: sentences for the card and the person who publishes."""

    id: str
    name: str
    terms: Terms
    rows: tuple[tuple[str, int], ...]
    warnings: tuple[str, ...] = field(default=())


def release_licence(rows: Mapping[str, int] | Mapping[str | None, int], license: str = "auto") -> ReleaseLicence:
    """The licence of a set of rows: `rows` says how many rows came with which licence text (None: not stated).

    `license="auto"` works it out; "other" does too, but never names one. Any other text is taken as it is said, with a
    warning for every licence among the rows that asks for more.
    """
    counts: dict[str, int] = {}
    for text, count in rows.items():
        if count:
            counts[normalise(text)] = counts.get(normalise(text), 0) + count
    table = tuple(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
    if license not in ("auto", "other"):
        return _stated(license, table)
    asked = join(counts)
    one = _one_licence({member for licence in counts for member in members(licence)}) or f"mixed-{asked}"
    return _named(one if license == "auto" else f"mixed-{asked}", asked, table, _warnings(asked, table))


def normalise(text: str | None) -> str:
    """The identifier of a licence, from an SPDX expression, a package classifier, a usual name or a whole licence text.

    Identifiers are lower-case, the Hub's where it has one. Of "A OR B" the one that asks for less is taken; "A AND B"
    stays "a AND b", sorted. Nothing stated gives "unknown"; a licence that is not known here gives its name in lower-case
    letters, digits and hyphens.
    """
    return _normalise(text or "")


def members(licence: str) -> tuple[str, ...]:
    """The single licences of a normalised text: ("bsd-3-clause", "mit") for "bsd-3-clause AND mit"."""
    return tuple(licence.split(" AND "))


def terms(licence: str) -> Terms:
    """The terms of a normalised licence; one that is not known has terms of its own."""
    return functools.reduce(Terms.__or__, map(_terms_of_one, members(licence)))


def join(licences: Iterable[str]) -> Terms:
    """The least terms that hold the terms of all; commutative, associative, idempotent. Of nothing: public domain."""
    return functools.reduce(Terms.__or__, map(terms, licences), Terms())


def link(licence: str) -> str:
    """Where the text of a single normalised licence can be read; empty where that is not known."""
    if (cc := _CC.fullmatch(licence)) and cc["version"]:
        return f"https://creativecommons.org/licenses/{licence[3 : -len(cc['version']) - 1]}/{cc['version']}/"
    if licence == "cc0-1.0":
        return "https://creativecommons.org/publicdomain/zero/1.0/"
    return f"https://spdx.org/licenses/{_SPDX[licence]}.html" if licence in _SPDX else ""


_SPDX_NAMES = """
    0BSD AFL-3.0 AGPL-3.0 Apache-2.0 Artistic-2.0 BlueOak-1.0.0 BSD-2-Clause BSD-3-Clause BSD-3-Clause-Clear BSL-1.0
    CDLA-Permissive-1.0 CDLA-Permissive-2.0 CDLA-Sharing-1.0 ECL-2.0 EPL-1.0 EPL-2.0 EUPL-1.1 EUPL-1.2 etalab-2.0 GPL-2.0
    GPL-3.0 HPND ISC LGPL-2.1 LGPL-3.0 LPPL-1.3c MIT MIT-0 MPL-2.0 MS-PL NCSA OFL-1.1 OSL-3.0 PostgreSQL PSF-2.0
    Python-2.0 Unlicense WTFPL Zlib
"""
_SPDX = {name.lower(): name for name in _SPDX_NAMES.split()} | {
    "odc-by": "ODC-By-1.0",
    "odbl": "ODbL-1.0",
    "pddl": "PDDL-1.0",
}


def _terms_of_one(licence: str) -> Terms:
    if cc := _CC.fullmatch(licence):
        level = LEVELS.index("share-alike" if cc["end"] == "-sa" else "attribution")
        return Terms(level, noncommercial=bool(cc["nc"]), no_derivatives=cc["end"] == "-nd")
    if licence in _LEVEL:
        return Terms(_LEVEL[licence])
    noncommercial = licence in _RESEARCH_ONLY or re.search(r"non-?commercial|research-only", licence) is not None
    return Terms(noncommercial=noncommercial, own=frozenset([licence]))


def _one_licence(licences: set[str]) -> str | None:
    """The only one that has the terms of all; of two versions of one Creative Commons licence the later. Else None."""
    asked = join(licences)
    newest: dict[str, str] = {}  # a later version may be put on what came under an earlier one (CC BY-SA 3.0, 4b)
    for licence in sorted(name for name in licences if terms(name) == asked):
        cc = _CC.fullmatch(licence)
        versioned = cc and cc["version"] and not asked.no_derivatives
        newest[licence.rpartition("-")[0] + "-" if versioned else licence] = licence
    return next(iter(newest.values())) if len(newest) == 1 else None


def _stated(license: str, table: tuple[tuple[str, int], ...]) -> ReleaseLicence:
    stated = normalise(license)
    if stated == UNKNOWN and license.strip().lower() != UNKNOWN:
        raise RequestError(f"release: license: {license!r} names no licence; write `auto` or one like `cc-by-4.0`")
    said = terms(stated)
    warnings = [
        f"The release is said to be under {stated}, but {_rows(count)} came under {licence}, which asks for more: {terms(licence)}."
        for licence, count in table
        if licence != stated and not said.holds(terms(licence))
    ]
    return _named(_slug(stated), said, table, tuple(warnings))


def _named(name: str, asked: Terms, table: tuple[tuple[str, int], ...], warnings: tuple[str, ...]) -> ReleaseLicence:
    if name in HUB_LICENCES and name != "other":
        return ReleaseLicence(name, "", asked, table, warnings)
    return ReleaseLicence("other", name, asked, table, warnings)


def _warnings(asked: Terms, table: tuple[tuple[str, int], ...]) -> tuple[str, ...]:
    def of(condition) -> str:
        hit = [(licence, count) for licence, count in table if any(condition(m) for m in members(licence))]
        return f"{_rows(sum(count for _, count in hit))} ({', '.join(licence for licence, _ in hit)})"

    sentences = []
    if UNKNOWN in asked.own:
        sentences.append(
            f"No licence is stated for {of(lambda m: m == UNKNOWN)}: ask the source before you share them."
        )
    if own := sorted(asked.own - {UNKNOWN}):
        sentences.append(f"Terms of their own hold for {of(lambda m: m in own)}: read them before use.")
    if asked.noncommercial:
        sentences.append(f"No commercial use of {of(lambda m: terms(m).noncommercial)}.")
    if asked.no_derivatives:
        sentences.append(
            f"No derivatives of {of(lambda m: terms(m).no_derivatives)}: a row rendered through a template may be one."
        )
    shared = {m for licence, _ in table for m in members(licence) if LEVELS[terms(m).level] == "share-alike"}
    if shared and _one_licence({m for licence, _ in table for m in members(licence)}) not in shared:
        sentences.append(
            f"Share-alike is asked for {of(lambda m: m in shared)} and no one licence here satisfies every row: "
            "share the set as a collection in which each row keeps its own."
        )
    return tuple(sentences)


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count:,} rows"


@functools.lru_cache(maxsize=4096)
def _normalise(text: str) -> str:
    if len(text) > 200 or "\n" in text.strip():
        return next((name for known, name in _LICENCE_TEXTS if re.search(known, text.lower(), re.DOTALL)), _one(text))
    return _expression(text) if _OPERATOR.search(text) else _one(text)


def _expression(text: str) -> str:
    """An SPDX expression of names that need not be SPDX's. One that cannot be parsed asks for all that it names."""
    names = _NAME.findall(text)
    numbers = iter(range(len(names)))
    numbered = _NAME.sub(lambda _: f"L{next(numbers)}", text)  # the parser knows names in one word alone
    try:
        parsed = Licensing().parse(re.sub(r"([()])", r" \1 ", numbered))
    except (ExpressionError, ParseError):
        parsed = None
    asked = {_one(name) for name in names} if parsed is None else _least(parsed, names)
    return " AND ".join(sorted(asked)) or UNKNOWN


def _least(parsed: Any, names: list[str]) -> set[str]:
    """The single licences that an expression comes to: of a choice those that ask for less. An exception after WITH only
    ever permits more."""
    if isinstance(parsed, LicenseWithExceptionSymbol):
        return _least(parsed.license_symbol, names)
    if isinstance(parsed, LicenseSymbol):
        return {_one(names[int(parsed.key[1:])])}
    parts = [_least(part, names) for part in parsed.args]
    if parsed.operator.strip() == "OR":
        return min(parts, key=lambda part: (_strictness(join(part)), sorted(part)))
    return set().union(*parts)


def _strictness(asked: Terms) -> tuple[int, bool, bool, int]:
    return len(asked.own), asked.noncommercial, asked.no_derivatives, asked.level


def _one(text: str) -> str:
    """A single licence, however it is written."""
    slug = _slug(re.sub(r"^.*::", "", text))
    exact = re.sub(r"(?<=\d)-(?:only|or-later)$", "", slug)
    if exact in HUB_LICENCES or exact in _BEYOND_THE_HUB or _CC.fullmatch(exact):
        return exact
    plain = _plain(text)
    if plain in _NOT_STATED:
        return UNKNOWN
    if cc := _creative_commons(plain):
        return cc
    spelled = [words for words in _SPELLED if re.search(rf"\b{words}\b", plain)]
    return _SPELLED[max(spelled, key=len)] if spelled else slug or UNKNOWN


def _creative_commons(plain: str) -> str | None:
    """ "cc by nc sa 4 0", "creative commons attribution sharealike 3 0 unported"; None where it is none of that family."""
    family = _CC_TEXT.search(plain)
    if not family:
        return None
    rest = family["rest"]
    if not re.search(r"\b(by|attribution)\b", rest):
        return None
    version = re.search(r"\b([234]) ?([05])?\b", rest)
    kinds = [("nc", r"nc|non ?commercial"), ("nd", r"nd|no ?deriv\w*"), ("sa", r"sa|share ?alike")]
    parts = [short for short, words in kinds if re.search(rf"\b({words})\b", rest)]
    return "-".join(["cc", "by", *parts, *([f"{version[1]}.{version[2] or '0'}"] if version else [])])


def _plain(text: str) -> str:
    """Lower-case words and digits, one space between; "GPLv3" and "GPL v3" are "gpl 3"."""
    words = re.sub(r"[^a-z0-9]+", " ", re.sub(r"^.*::", "", text).lower())
    return re.sub(r" +", " ", re.sub(r"v(?=\d)", " ", words)).strip()


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9.+]+", "-", text.strip().lower()).strip("-.")[:60]
