"""The one picture of a card: how many rows each stage left, which sources they came from, how long they answer."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

_INK, _QUIET, _SOFT, _WARM = "#1c6472", "#646a73", "#b9cfd3", "#b4531f"
_SLOTS = 4  # bars that a panel has room for at least, so that a lone bar is no block
_MOST = 10  # bars of the sources; what is beyond is one


@dataclass(frozen=True)
class Part:
    """A source or a task: its rows in the release and, where it is known, how many records were read of it."""

    name: str
    rows: int
    read: int | None = None


def picture(stages: Sequence[tuple[str, int]], what: str, parts: Sequence[Part], lengths: np.ndarray) -> bytes:
    """A PNG, 1,500 pixels wide. stages: (name, rows left) in order. what: "source" or "task", what the parts are.
    lengths: int (n,), characters of each response. The same input gives the same bytes with one version of matplotlib,
    whatever the user's settings are."""
    parts = _largest(parts)
    heights = 0.5 + 0.26 * max(len(stages), _SLOTS), 0.9 + 0.36 * max(len(parts), 5)
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(
            {"font.size": 9, "axes.titlesize": 10, "axes.titlelocation": "left", "axes.edgecolor": _QUIET}
        )
        mpl.rcParams.update({"axes.spines.top": False, "axes.spines.right": False})
        figure = Figure(figsize=(10, sum(heights) + 0.3), dpi=150, layout="constrained")
        grid = figure.add_gridspec(2, 2, height_ratios=heights, hspace=0.08, wspace=0.06)
        _funnel(figure.add_subplot(grid[0, :]), stages)
        _parts(figure.add_subplot(grid[1, 0]), what, parts)
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
    axes.spines["bottom"].set_visible(False)
    axes.set_title("Rows left after each stage")


def _parts(axes: Axes, what: str, parts: Sequence[Part]) -> None:
    """Shares, not counts: a release is often a hundredth of what was read."""
    places = np.arange(len(parts))
    rows = np.array([part.rows for part in parts], dtype=float)
    read = np.array([part.read for part in parts if part.read is not None], dtype=float)
    both = len(read) == len(parts)
    if both:
        axes.barh(places - 0.19, 100 * read / read.sum(), height=0.36, color=_SOFT, label="of the records read")
    axes.barh(
        places + 0.19 * both, 100 * rows / rows.sum(), height=0.36 if both else 0.6, color=_INK, label="of the release"
    )
    _names(axes, [part.name for part in parts])
    axes.xaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{share:g} %"))
    axes.set_title(f"Share of each {what}" + ("" if both else " in the release"))
    if both:
        axes.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.42, -0.08), ncols=2, handlelength=1)


def _lengths(axes: Axes, lengths: np.ndarray) -> None:
    lengths = np.maximum(lengths, 1)
    low, high = int(lengths.min()), int(lengths.max())
    if high > 10 * low:
        bins = np.geomspace(low * 0.99, high * 1.01, 33)
        axes.set_xscale("log")
        axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        bins = np.linspace(low - 0.5, high + 0.5, 33)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.hist(lengths, bins=bins.tolist(), color=_INK)
    median = float(np.median(lengths))
    axes.axvline(median, color=_WARM, linewidth=1.2)
    axes.annotate(f" median {median:,.0f}", (median, 1), xycoords=("data", "axes fraction"), va="top", color=_WARM)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda length, _: f"{length:,.0f}"))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda count, _: f"{count:,.0f}"))
    axes.set_title("Rows by characters of the response")
    axes.margins(y=0.12)


def _names(axes: Axes, names: Sequence[str]) -> None:
    # A dollar sign would start mathematics.
    axes.set_yticks(range(len(names)), [(n if len(n) <= 28 else n[:27] + "…").replace("$", r"\$") for n in names])
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(max(len(names), _SLOTS) - 0.5, -0.5)


def _largest(parts: Sequence[Part]) -> list[Part]:
    """The parts with most rows; what is left over is one."""
    ordered = sorted(parts, key=lambda part: (-part.rows, -(part.read or 0), part.name))
    if len(ordered) <= _MOST:
        return ordered
    rest = ordered[_MOST - 1 :]
    read = None if rest[0].read is None else sum(part.read or 0 for part in rest)
    return [*ordered[: _MOST - 1], Part(f"{len(rest)} others", sum(part.rows for part in rest), read)]
