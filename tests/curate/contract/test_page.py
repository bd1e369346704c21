"""The one page layout: self-contained, escaped, readable by a machine."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser

import pytest

from curate.contract.page import Section, figure, paragraph, preformatted, render_page, table

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
SVG = b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg" width="4" height="4"></svg>'
VOID = {"meta", "link", "img", "br", "hr"}


class Reader(HTMLParser):
    """Keeps every tag with its attributes, and fails where the tags do not nest."""

    def __init__(self, page: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def page(*sections: Section, title: str = "Worth", lead: str = "One sentence.") -> str:
    return render_page(title, lead=lead, sections=sections)


def test_the_page_nests_and_asks_for_nothing_from_elsewhere():
    text = page(Section("Result", table(["a"], [[1]]) + figure(PNG, "a dot") + figure(SVG, "a square")))
    reader = Reader(text)
    assert reader.open == []
    assert not reader.all("script")
    assert not reader.all("link")
    assert all(image["src"].startswith("data:image/") for image in reader.all("img"))
    assert not re.findall(r'(?:src|href)\s*=\s*["\'](?!data:|#)|url\(|@import', text)
    assert "default-src 'none'" in text


def test_title_lead_and_cells_are_escaped_and_a_sections_html_is_not():
    text = page(Section("<i>", "<b>bold</b>" + table(["<h>"], [["<c>"]])), title="<t> & co", lead="1 < 2")
    assert "<title>&lt;t&gt; &amp; co</title>" in text
    assert "1 &lt; 2" in text
    assert "&lt;h&gt;" in text
    assert "&lt;c&gt;" in text
    assert "<b>bold</b>" in text
    assert "<i>" not in text


def test_paragraphs_are_split_at_empty_lines():
    assert paragraph("one\nline\n\n \ntwo & three") == "<p>one\nline</p>\n<p>two &amp; three</p>"
    assert page(lead="a\n\nb").count('class="lead"') == 2


def test_preformatted_text_keeps_its_spaces():
    assert "a:\n  b: &lt;x&gt;" in preformatted("a:\n  b: <x>")


def test_the_picture_comes_back_as_the_same_bytes():
    for image, kind in ((PNG, "png"), (SVG, "svg+xml")):
        (shown,) = Reader(page(Section("Plot", figure(image, 'the "curve"')))).all("img")
        head, data = shown["src"].split(",", 1)
        assert head == f"data:image/{kind};base64"
        assert base64.b64decode(data) == image
        assert shown["alt"] == 'the "curve"'


def test_bytes_that_are_no_picture_are_refused():
    with pytest.raises(ValueError, match="PNG or an SVG"):
        figure(b"GIF89a", "no")


def test_columns_of_numbers_stand_to_the_right_and_columns_of_words_do_not():
    rows = [["random", "2.71", "1.4 [1.1, 1.9]", "97 %", None], ["k_center", "−0.02", "–", "3 %", "2 words < 3"]]
    text = table(["arm", "bits", "m(N)", "kept", "why"], rows)
    head = re.findall(r"<th [^>]*>", text)
    assert ["number" in cell for cell in head] == [False, True, True, True, False]
    assert len(re.findall(r"<td", text)) == 10


def test_a_column_of_sentences_is_never_squeezed_to_a_word_a_line():
    assert 'class="long"' in table(["verdict"], [["better than random at 64, no difference shown at 256"]])
    assert 'class="long"' not in table(["verdict"], [["better"]])


def test_a_row_of_the_wrong_length_is_refused():
    with pytest.raises(ValueError, match="1 cells under a header of 2"):
        table(["a", "b"], [["x"]])


def test_sections_with_one_title_have_two_anchors_and_the_contents_point_at_them():
    reader = Reader(page(Section("A", ""), Section("A", ""), Section("a 2", ""), Section("É!", "")))
    anchors = [section["id"] for section in reader.all("section")]
    assert len(set(anchors)) == 4
    assert [link["href"] for link in reader.all("a")][:4] == [f"#{anchor}" for anchor in anchors]


def test_a_short_page_has_no_contents():
    assert "<nav" not in page(Section("A", ""), Section("B", ""))
    assert "<nav" in page(Section("A", ""), Section("B", ""), Section("C", ""))


def test_the_same_input_gives_the_same_page():
    assert page(Section("A", "x")) == page(Section("A", "x"))
