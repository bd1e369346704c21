"""The one picture of a card: how many rows each stage left, which sources they came from, how long they answer."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

_INK, _QUIET, _SOFT = "#1c6472", "#646a73", "#b9cfd3"


@dataclass(frozen=True)
class Bar:
    """One source: rows read and rows in the release."""

    name: str
    read: int
    rows: int


def picture(stages: Sequence[tuple[str, int]], sources: Sequence[Bar], lengths: np.ndarray) -> bytes:
    """A PNG of 1,500 by 900 pixels or more. stages: (name, rows left) in order. lengths: int (n,), characters of each
    response. The same input gives the same bytes with one version of matplotlib, whatever the user's settings are."""
    sources = _largest(sources, 10)
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(
            {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": _QUIET}
        )
        rows = max(len(stages), 4), max(len(sources), 5)
        figure = Figure(figsize=(10, 1.6 + 0.26 * rows[0] + 0.36 * rows[1]), dpi=150, layout="constrained")
        grid = figure.add_gridspec(
            2, 2, height_ratios=[0.26 * rows[0] + 0.5, 0.36 * rows[1] + 0.6], hspace=0.08, wspace=0.06
        )
        _funnel(figure.add_subplot(grid[0, :]), stages)
        _sources(figure.add_subplot(grid[1, 0]), sources)
        _lengths(figure.add_subplot(grid[1, 1]), lengths)
        out = io.BytesIO()
        figure.savefig(out, format="png", metadata={"Software": None})
    return out.getvalue()


def _funnel(axes: Axes, stages: Sequence[tuple[str, int]]) -> None:
    counts = [count for _, count in stages]
    bars = axes.barh(range(len(stages)), counts, color=_INK, height=0.66)
    axes.bar_label(bars, labels=[f"{count:,}" for count in counts], padding=4, color=_QUIET)
    _names(axes, [name for name, _ in stages])
    axes.set_xlim(0, max([*counts, 1]) * 1.1)
    axes.xaxis.set_visible(False)
    axes.spines[["bottom"]].set_visible(False)
    axes.set_title("Rows left after each stage", loc="left", fontsize=10)


def _sources(axes: Axes, sources: Sequence[Bar]) -> None:
    """Shares, not counts: a release is often a hundredth of what was read."""
    read, kept = (np.array([getattr(bar, side) for bar in sources], dtype=float) for side in ("read", "rows"))
    places = np.arange(len(sources))
    axes.barh(places - 0.19, 100 * read / max(read.sum(), 1), height=0.36, color=_SOFT, label="of the records read")
    axes.barh(places + 0.19, 100 * kept / max(kept.sum(), 1), height=0.36, color=_INK, label="of the release")
    _names(axes, [bar.name for bar in sources])
    axes.xaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{share:.0f} %"))
    axes.set_title("Share of each source", loc="left", fontsize=10)
    axes.legend(
        frameon=False, loc="upper center", bbox_to_anchor=(0.45, -0.1), ncols=2, handlelength=1, columnspacing=1.4
    )


def _lengths(axes: Axes, lengths: np.ndarray) -> None:
    lengths = np.maximum(lengths, 1)
    low, high = np.log10(lengths.min()), np.log10(lengths.max())
    axes.hist(lengths, bins=np.logspace(low - 0.02, high + 0.02, 33).tolist(), color=_INK)
    median = float(np.median(lengths))
    axes.axvline(median, color="#b4531f", linewidth=1.2)
    axes.annotate(f" median {median:,.0f}", (median, 1), xycoords=("data", "axes fraction"), va="top", color="#b4531f")
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda length, _: f"{length:,.0f}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("characters of the response")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda count, _: f"{count:,.0f}"))
    axes.set_title("Rows by length of the response", loc="left", fontsize=10)


def _names(axes: Axes, names: Sequence[str]) -> None:
    # A dollar sign would start mathematics.
    axes.set_yticks(range(len(names)), [(n if len(n) <= 28 else n[:27] + "…").replace("$", r"\$") for n in names])
    axes.tick_params(axis="y", length=0)
    axes.invert_yaxis()


def _largest(sources: Sequence[Bar], most: int) -> list[Bar]:
    """The sources with most rows in the release; what is left over is one bar."""
    ordered = sorted(sources, key=lambda bar: (-bar.rows, -bar.read, bar.name))
    if len(ordered) <= most:
        return ordered
    rest = ordered[most - 1 :]
    others = Bar(f"{len(rest)} others", sum(bar.read for bar in rest), sum(bar.rows for bar in rest))
    return [*ordered[: most - 1], others]
