"""Licences: reading them, ordering them, naming the one of a release."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.contract.errors import RequestError
from curate.rows.licences import HUB_LICENCES, Terms, join, link, members, normalise, release_licence, terms

MIT_TEXT = """Copyright (c) 2025 Somebody

Permission is hereby granted, free of charge, to any person obtaining a copy of this software"""
BSD_TEXT = """Copyright (c) 2001 Somebody

Redistribution and use in source and binary forms, with or without modification, are permitted provided that:
3. Neither the name of the holder nor the names of its contributors may be used"""

WRITTEN = {
    "MIT": "mit",
    "MIT License": "mit",
    "License :: OSI Approved :: MIT License": "mit",
    "BSD License": "bsd",
    "License :: OSI Approved :: BSD License": "bsd",
    "new BSD": "bsd-3-clause",
    "3-Clause BSD License": "bsd-3-clause",
    "BSD-3-Clause": "bsd-3-clause",
    "bsd-3-clause": "bsd-3-clause",
    "Apache Software License": "apache-2.0",
    "Apache 2.0 License": "apache-2.0",
    "Apache-2.0 WITH LLVM-exception": "apache-2.0",
    "Mozilla Public License 2.0 (MPL 2.0)": "mpl-2.0",
    "GPL-3.0-or-later": "gpl-3.0",
    "GPLv3": "gpl-3.0",
    "GNU General Public License v3 or later (GPLv3+)": "gpl-3.0",
    "GNU Lesser General Public License v3 (LGPLv3)": "lgpl-3.0",
    "Python Software Foundation License": "psf-2.0",
    "ODC-By": "odc-by",
    "CC0": "cc0-1.0",
    "CC0 1.0 Universal": "cc0-1.0",
    "CC-BY-4.0": "cc-by-4.0",
    "CC BY 4.0 (README)": "cc-by-4.0",
    "CC BY-SA": "cc-by-sa",
    "cc by nc sa 4.0": "cc-by-nc-sa-4.0",
    "CC BY-NC-ND 4.0": "cc-by-nc-nd-4.0",
    "Creative Commons Attribution-ShareAlike 3.0 Unported": "cc-by-sa-3.0",
    "Creative Commons Attribution NonCommercial 4.0": "cc-by-nc-4.0",
    "llama3.1": "llama3.1",
    "openrail++": "openrail++",
    "Our House Terms, v2": "our-house-terms-v2",
    MIT_TEXT: "mit",
    BSD_TEXT: "bsd-3-clause",
    "MIT OR GPL-3.0-only": "mit",
    "(GPL-2.0-only OR MIT) AND CC-BY-4.0": "cc-by-4.0 AND mit",
    "BSD-3-Clause AND 0BSD AND MIT AND MIT": "0bsd AND bsd-3-clause AND mit",
    "not stated": "unknown",
    "Unknown": "unknown",
    "": "unknown",
    " ": "unknown",
}


@pytest.mark.parametrize("text", WRITTEN, ids=lambda text: text[:30] or "empty")
def test_a_licence_is_read_however_it_is_written(text):
    assert normalise(text) == WRITTEN[text]


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("MIT AND (GPL-3.0-only OR CC-BY-4.0)", "cc-by-4.0 AND mit"),
        ("GNU GPL v2 or later OR BSD (3-clause) AND Our House Terms", "gpl-2.0"),
        ("GPL-2.0-only WITH Classpath-exception-2.0 AND MIT", "gpl-2.0 AND mit"),
        ("(MIT OR GPL-3.0-only", "gpl-3.0 AND mit"),  # a bracket is missing
        ("MIT AND", "mit"),
        ("(GPL-2.0-only OR MIT) WITH Classpath-exception-2.0 AND", "classpath-exception-2.0 AND gpl-2.0 AND mit"),
    ],
)
def test_an_expression_is_parsed_and_one_that_cannot_be_asks_for_all_that_it_names(text, read):
    assert normalise(text) == read


def test_nothing_stated_is_unknown():
    assert normalise(None) == "unknown"


@given(st.one_of(st.text(max_size=60), st.sampled_from(sorted(HUB_LICENCES)), st.sampled_from(sorted(WRITTEN))))
def test_reading_a_licence_twice_changes_nothing(text):
    once = normalise(text)
    assert once
    assert normalise(once) == once


def test_every_identifier_of_the_hub_is_read_as_itself():
    assert {licence: normalise(licence.upper()) for licence in HUB_LICENCES} == {
        licence: licence for licence in HUB_LICENCES
    }


def test_the_hubs_list_has_the_82_licences_of_its_page_and_no_others():
    assert len(HUB_LICENCES) == 82
    assert {
        "apache-2.0",
        "mit",
        "cc-by-sa-4.0",
        "odbl",
        "etalab-2.0",
        "llama3.3",
        "gemma",
        "unknown",
        "other",
    } <= HUB_LICENCES
    assert not {"0bsd", "psf-2.0", "cc-by-sa-2.5", "bsd3"} & HUB_LICENCES


LICENCES = st.sampled_from(
    [*sorted(HUB_LICENCES), "cc-by-sa-2.5", "cc-by", "0bsd", "our-house-terms", "mit AND zlib", "non-commercial-only"]
)


@given(st.lists(LICENCES), st.lists(LICENCES), st.lists(LICENCES))
def test_joining_terms_is_commutative_associative_and_idempotent(a, b, c):
    assert join(a + b) == join(b + a)
    assert (join(a) | join(b)) | join(c) == join(a) | (join(b) | join(c)) == join(a + b + c)
    assert join(a + a) == join(a)


@given(st.lists(LICENCES), LICENCES)
def test_more_rows_never_ask_for_less(licences, one_more):
    assert join([*licences, one_more]).holds(join(licences))
    assert join([*licences, one_more]).holds(terms(one_more))


@given(st.dictionaries(LICENCES, st.integers(1, 1000), min_size=1, max_size=4))
def test_a_licence_that_is_named_holds_the_terms_of_every_row_and_is_one_of_them(rows):
    release = release_licence(rows)
    assert release.terms == join(rows)
    assert release.id in HUB_LICENCES
    assert dict(release.rows) == rows
    assert (release.id == "other") == bool(release.name)
    if release.id != "other":
        assert release.id in {member for licence in rows for member in members(licence)}
        assert all(terms(release.id).holds(terms(licence)) for licence in rows)


def test_licences_are_ordered_by_what_they_ask_for():
    chain = ["cc0-1.0", "mit", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-sa-4.0"]
    for weaker, stronger in pairwise(chain):
        assert terms(stronger).holds(terms(weaker))
        assert not terms(weaker).holds(terms(stronger))
    assert not terms("cc-by-nc-4.0").holds(terms("cc-by-nd-4.0"))


@pytest.mark.parametrize(
    ("rows", "named"),
    [
        ({"mit": 5}, ("mit", "")),
        ({"MIT": 5, "MIT License": 2}, ("mit", "")),
        ({"mit": 5, "cc0-1.0": 2}, ("mit", "")),
        ({"mit": 5, "cc-by-4.0": 2}, ("cc-by-4.0", "")),
        ({"mit": 5, "cc-by-sa-3.0": 2, "cc-by-sa-4.0": 1}, ("cc-by-sa-4.0", "")),
        ({"cc-by-nc-4.0": 5, "apache-2.0": 2}, ("cc-by-nc-4.0", "")),
        ({"mit": 5, "bsd-3-clause": 2}, ("other", "mixed-permissive")),
        ({"bsd-3-clause AND mit": 2}, ("other", "mixed-permissive")),
        ({"cc-by-sa-4.0": 5, "cc-by-nc-4.0": 2}, ("other", "mixed-share-alike-noncommercial")),
        ({"cc-by-sa-4.0": 5, "gpl-3.0": 2}, ("other", "mixed-share-alike")),
        ({"cc-by-nd-4.0": 5, "cc-by-nc-nd-3.0": 1}, ("cc-by-nc-nd-3.0", "")),
        ({"cc-by-nc-nd-4.0": 5, "cc-by-nc-nd-3.0": 1}, ("other", "mixed-attribution-noncommercial-no-derivatives")),
        ({"gemma": 5}, ("gemma", "")),
        ({"gemma": 5, "llama3": 1}, ("other", "mixed-public-domain-own-terms")),
        ({"0bsd": 5}, ("other", "0bsd")),
        ({"house rules": 5}, ("other", "house-rules")),
        ({None: 5}, ("unknown", "")),
        ({None: 5, "mit": 5}, ("other", "mixed-permissive-unknown")),
        ({"mit": 5, "gpl-3.0": 0}, ("mit", "")),
    ],
)
def test_the_licence_of_a_release(rows, named):
    release = release_licence(rows)
    assert (release.id, release.name) == named


def test_rows_that_ask_for_more_are_named_in_the_warnings():
    (unknown, commercial) = release_licence({"mit": 5, None: 1200, "cc-by-nc-4.0": 1}).warnings
    assert "1,200 rows (unknown)" in unknown
    assert "1 row (cc-by-nc-4.0)" in commercial
    assert release_licence({"mit": 5, "cc-by-sa-4.0": 1}).warnings == ()
    assert "collection" in release_licence({"gpl-3.0": 5, "cc-by-sa-4.0": 1}).warnings[0]
    assert "template" in release_licence({"cc-by-nd-4.0": 1}).warnings[0]
    assert release_licence({"non-commercial research only": 1}).terms.noncommercial


def test_a_licence_that_is_stated_is_taken_and_what_it_does_not_hold_is_said():
    release = release_licence({"mit": 5, "cc-by-nc-4.0": 7}, "CC BY 4.0")
    assert (release.id, release.name) == ("cc-by-4.0", "")
    assert release.warnings == (
        "The release is said to be under cc-by-4.0, but 7 rows came under cc-by-nc-4.0, "
        "which asks for more: attribution-noncommercial.",
    )
    assert release_licence({"mit": 5}, "cc-by-4.0").warnings == ()
    assert (release_licence({"mit": 5}, "other").id, release_licence({"mit": 5}, "other").name) == (
        "other",
        "mixed-permissive",
    )
    assert release_licence({"mit": 5}, "House Rules").name == "house-rules"


def test_a_statement_that_names_no_licence_is_refused():
    with pytest.raises(RequestError, match=r"'n/a' names no licence; write `auto`"):
        release_licence({"mit": 5}, "n/a")


def test_links_lead_to_the_text_of_a_licence():
    assert link("cc-by-nc-sa-4.0") == "https://creativecommons.org/licenses/by-nc-sa/4.0/"
    assert link("bsd-3-clause") == "https://spdx.org/licenses/BSD-3-Clause.html"
    assert link("house-rules") == ""
    assert link("cc-by") == ""


def test_terms_read_as_words():
    assert str(Terms()) == "public-domain"
    assert str(terms("cc-by-nc-nd-4.0")) == "attribution-noncommercial-no-derivatives"
