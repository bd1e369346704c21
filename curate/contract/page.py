"""One HTML page in one file: what every report is printed on.

    page = render_page(
        "What 64 examples are worth",
        lead="Diverse examples were worth 1.4 random ones at a budget of 64.",
        sections=[Section("Result", table(["arm", "bits/byte"], [["random", "2.71"]]) + figure(png, "Lower is better."))],
    )

The page fetches nothing: style and pictures are inside, and its own security policy forbids the rest. It is light or
dark as the reader's system is, fits a phone and prints. The layout is templates/page/report.html.jinja.
"""

from __future__ import annotations

import base64
import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import jinja2

from curate.contract.paths import library

_NUMBER = re.compile(
    r"[-+−±<>≤≥~\[(]*\d[^A-Za-z]*([A-Za-z]{1,2}[^A-Za-z]*)?"
)  # "2.71", "1.4 [1.1, 1.9]", "97 %", "12 MB"


@dataclass(frozen=True)
class Section:
    """A heading (plain text) and what stands below it (HTML, trusted: made with `paragraph`, `table`, `figure`)."""

    title: str
    html: str


def render_page(title: str, *, lead: str, sections: Sequence[Section]) -> str:
    """The page as one HTML text. `title` and `lead` are plain text; an empty line in `lead` starts a new paragraph."""
    anchors = _anchors([section.title for section in sections])
    parts = [{"title": s.title, "html": s.html, "anchor": a} for s, a in zip(sections, anchors, strict=True)]
    return _environment().get_template("report.html.jinja").render(title=title, lead=_paragraphs(lead), sections=parts)


def paragraph(text: str) -> str:
    """Plain text as HTML paragraphs; an empty line starts a new one."""
    return "\n".join(f"<p>{escape(part)}</p>" for part in _paragraphs(text))


def preformatted(text: str) -> str:
    """Plain text, its spaces and line ends kept, in a box that scrolls sideways: code, a recipe, a row of data."""
    return f'<pre class="scroll" tabindex="0"><code>{escape(text)}</code></pre>'


def table(header: Sequence[str], rows: Sequence[Sequence[object]], caption: str = "") -> str:
    """A table that scrolls sideways where it does not fit. Cells are plain text; a column of numbers stands to the right.

    None is an empty cell. Numbers are shown as `str` shows them: format them before.
    """
    cells = [["" if cell is None else str(cell) for cell in row] for row in rows]
    for row in cells:
        if len(row) != len(header):
            raise ValueError(f"a row of {len(row)} cells under a header of {len(header)}: {row}")
    kinds = [_kind([row[i] for row in cells]) for i in range(len(header))]
    head = "".join(_cell("th", text, kind, ' scope="col"') for text, kind in zip(header, kinds, strict=True))
    body = "\n".join(
        "<tr>" + "".join(_cell("td", text, kind) for text, kind in zip(row, kinds, strict=True)) + "</tr>"
        for row in cells
    )
    return (
        f'<figure class="table"><div class="scroll" tabindex="0"><table>\n<thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{body}\n</tbody></table></div>{_caption(caption)}</figure>"
    )


def figure(image: bytes, caption: str) -> str:
    """A PNG or SVG inside the page, with a caption in plain text, which is also what a screen reader says."""
    source = f"data:{_media_type(image)};base64,{base64.b64encode(image).decode('ascii')}"
    return f'<figure class="picture"><img src="{source}" alt="{escape(caption)}">{_caption(caption)}</figure>'


@functools.cache
def macros(layout: str) -> Any:
    """The macros of a layout in templates/page, for sections that are more than a table or a picture."""
    return _environment().get_template(layout).module


@functools.cache
def _environment() -> jinja2.Environment:
    # Our own files and our own HTML: texts are escaped, a section's html is passed as it is.
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(library("templates") / "page"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
    )


def _anchors(titles: Sequence[str]) -> list[str]:
    """A name for each title, made of its letters and digits, unique on the page."""
    anchors: list[str] = []
    for title in titles:
        name = re.sub(r"[^\w]+", "-", title.casefold()).strip("-") or "section"
        anchors.append(
            next(a for i in range(len(titles)) if (a := name if i == 0 else f"{name}-{i + 1}") not in anchors)
        )
    return anchors


def _paragraphs(text: str) -> list[str]:
    return [part.strip() for part in re.split(r"\n\s*\n", text) if part.strip()]


def _kind(cells: Sequence[str]) -> str:
    """How a column is set: `number` to the right, `long` never narrower than a few words, else plain."""
    filled = [cell for cell in cells if cell.strip(" –—-")]
    if filled and all(_NUMBER.fullmatch(cell) for cell in filled):
        return "number"
    return "long" if max(map(len, filled), default=0) > 32 else ""


def _cell(tag: str, text: str, kind: str, attributes: str = "") -> str:
    attributes += f' class="{kind}"' if kind else ""
    return f"<{tag}{attributes}>{escape(text)}</{tag}>"


def _caption(text: str) -> str:
    return f"<figcaption>{escape(text)}</figcaption>" if text else ""


def _media_type(image: bytes) -> str:
    if image.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if b"<svg" in image[:2000]:
        return "image/svg+xml"
    raise ValueError("a figure is a PNG or an SVG, as bytes")
