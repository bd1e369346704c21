"""A report's content, once, and its two forms: one HTML page, and Markdown with pictures beside it."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from matplotlib.figure import Figure

from curate.contract import page
from curate.contract.files import write_bytes, write_text

# Okabe and Ito's colours, told apart by colour-blind readers too; on dark paper the same hues, lighter. The first is the
# reference's. Arms beyond the seventh take them again with another mark.
LIGHT = ("#5d646e", "#0072b2", "#d55e00", "#009e73", "#b4548c", "#a07700", "#3d9bd1")
DARK = ("#a9b0ba", "#5fb0ee", "#f28b45", "#34c79d", "#e59cc6", "#e3c04b", "#9bd6fb")
INK, QUIET, LINE = ("#22252b", "#dcdcd6"), ("#646a73", "#989ea7"), ("#d9d6ce", "#3a3f47")
WIDE, NARROW = 7.2, 4.0  # inches; the narrow form stands on pages below 40 rem


@dataclass(frozen=True)
class Text:
    text: str  # an empty line starts a new paragraph


@dataclass(frozen=True)
class Bullets:
    items: list[str]


@dataclass(frozen=True)
class Table:
    """folded: shown on request, under its caption."""

    header: Sequence[str]
    rows: Sequence[Sequence[object]]
    caption: str = ""
    folded: bool = False


@dataclass(frozen=True)
class Picture:
    """draw: makes the figure at a width in inches. name: of its file beside the Markdown."""

    name: str
    draw: Callable[[float], Figure]
    caption: str


@dataclass(frozen=True)
class Code:
    text: str


Block = Text | Bullets | Table | Picture | Code


@dataclass(frozen=True)
class Chapter:
    title: str
    blocks: list[Block]


@dataclass(frozen=True)
class Document:
    title: str
    lead: str
    chapters: list[Chapter]


def write(document: Document, folder: Path, name: str) -> None:
    """NAME.html, NAME.md and figures/*.png in ``folder``. The same document gives the same bytes."""
    sections = [
        page.Section(chapter.title, "".join(_html(block) for block in chapter.blocks)) for chapter in document.chapters
    ]
    write_text(folder / f"{name}.html", page.render_page(document.title, lead=document.lead, sections=sections))
    lines = [f"# {document.title}", document.lead]
    for chapter in document.chapters:
        lines += [f"## {chapter.title}", *(_markdown(block) for block in chapter.blocks)]
    for picture in (block for chapter in document.chapters for block in chapter.blocks if isinstance(block, Picture)):
        (folder / "figures").mkdir(exist_ok=True)
        write_bytes(folder / "figures" / f"{picture.name}.png", png(picture.draw(WIDE)))
    write_text(folder / f"{name}.md", "\n\n".join(lines) + "\n")


def png(figure: Figure) -> bytes:
    """On white, 200 pixels an inch."""
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=200, facecolor="white", metadata={"Software": None})
    return out.getvalue()


# --- HTML -------------------------------------------------------------------------------------------------------------


def _html(block: Block) -> str:
    match block:
        case Text(text):
            return page.paragraph(text)
        case Bullets(items):
            return f"<ul>{''.join(f'<li>{escape(item)}</li>' for item in items)}</ul>"
        case Table(header, rows, caption, folded):
            if not folded:
                return page.table(header, rows, caption)
            inside = page.table(header, rows)
            return f"<details><summary>{escape(caption)}</summary>{inside}</details>"
        case Picture():
            return _figure(block)
        case Code(text):
            return page.preformatted(text)


def _figure(picture: Picture) -> str:
    """The figure as inline SVG in two widths, whose colours are variables, one set for light paper and one for dark."""
    pairs = [INK, QUIET, LINE, *zip(LIGHT, DARK, strict=True)]
    light, dark = (";".join(f"--plot-{i}:{pair[k]}" for i, pair in enumerate(pairs)) for k in (0, 1))
    style = (
        f".plot{{{light};display:block;width:100%;height:auto}}.plot.narrow{{display:none}}"
        "@media (max-width:40rem){.plot.wide{display:none}.plot.narrow{display:block}}"
        f"@media (prefers-color-scheme:dark){{.plot{{{dark}}}}}@media print{{.plot{{{light}}}}}"
    )
    wide, narrow = (
        _svg(picture.draw(width), f"{picture.name}-{form}", f"plot {form}", pairs)
        for width, form in ((WIDE, "wide"), (NARROW, "narrow"))
    )
    return f'<figure class="picture"><style>{style}</style>{wide}{narrow}<figcaption>{escape(picture.caption)}</figcaption></figure>'


def _svg(figure: Figure, name: str, classes: str, pairs: list[tuple[str, str]]) -> str:
    out = io.StringIO()
    figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = out.getvalue()[out.getvalue().index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<g id="[^"]*">', "<g>", svg)
    svg = re.sub(r"font: ((?:[a-z]+ |[0-9]{3} )*)([0-9.]+px)[^;\"]*", r"font: \1\2 var(--sans)", svg)
    # What a picture refers to must be its own: of two on a page one is hidden, and with it all that stands in it.
    svg = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", svg)
    for i, (light, _) in enumerate(pairs):
        svg = svg.replace(light, f"var(--plot-{i})")
    return re.sub(r'width="[0-9.]+pt" height="[0-9.]+pt"', f'class="{classes}" role="img"', svg, count=1)


# --- Markdown ---------------------------------------------------------------------------------------------------------


def _markdown(block: Block) -> str:
    match block:
        case Text(text):
            return text
        case Bullets(items):
            return "\n".join(f"- {item}" for item in items)
        case Table(header, rows, caption, folded):
            lines = [_line(header), _line(["---"] * len(header)), *(_line(row) for row in rows)]
            table = "\n".join(lines)
            if folded:
                return f"<details><summary>{escape(caption)}</summary>\n\n{table}\n\n</details>"
            return f"{table}\n\n{caption}" if caption else table
        case Picture(name, _, caption):
            return f"![{caption.split('. ')[0]}](figures/{name}.png)\n\n{caption}"
        case Code(text):
            return f"```sh\n{text}\n```"


def _line(cells: Sequence[object]) -> str:
    return f"| {' | '.join('' if cell is None else str(cell).replace('|', chr(92) + '|') for cell in cells)} |"
