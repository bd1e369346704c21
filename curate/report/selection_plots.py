"""The pictures of a selection's page: its map, the lengths of its texts, what each pick added."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from curate.contract import columns
from curate.contract.page import macros
from curate.contract.progress import say
from curate.report.selection import Selection, names
from curate.report.selection_map import ACCENT, LINE, POINTS, SOFT, draw, plotting, project, sample, svg
from curate.report.words import number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LAYOUT = "selection.html.jinja"

_CLUSTERS = 12  # of the map, where the recipe made none
_ROWS_A_CLUSTER = 25  # that a cluster of the map has at least, on average


def map_of(selection: Selection, seed: int) -> str:
    assert selection.vectors is not None
    say("  report: the map, up to a minute")
    shown = sample(selection.pool[columns.ID].to_list(), selection.chosen, seed=seed)
    part = selection.pool[shown.tolist()]
    vectors = np.asarray(selection.vectors[shown])
    points, how = project(vectors)
    kept = part[columns.RANK].is_not_null().to_numpy()
    label, names_of, made = _map_clusters(selection, part, vectors, seed)
    caption = f"{how} of the rows' vectors: neighbours here are alike, while distances between groups and their sizes say little."
    if names_of:
        caption += f" Names are the most typical words of {made}, where there is room."
    counts = (
        (int(kept.sum()), len(selection.chosen)),
        (int((~kept).sum()), selection.pool.height - len(selection.chosen)),
    )
    key = [
        (POINTS[is_kept], f"{word}: {n:,}" + (f", drawn at random from {of:,}" if n < of else ""), "round")
        for is_kept, word, (n, of) in zip((True, False), ("kept", "not kept"), counts, strict=True)
    ]
    return str(macros(LAYOUT).plot(draw(points, kept, label, names_of), caption, key))


def _map_clusters(
    selection: Selection, part: pl.DataFrame, vectors: np.ndarray, seed: int
) -> tuple[np.ndarray, dict[int, str], str]:
    """(label of each point, names, what they are): the recipe's last clusters, else k-means of the points for the map alone."""
    for column, names_of in selection.names.items():
        return part[column].fill_null(-1).to_numpy(), names_of, f"the recipe's clusters ({column})"
    k = min(_CLUSTERS, part.height // _ROWS_A_CLUSTER)
    if k < 2:
        return np.full(part.height, -1), {}, ""
    from curate.cluster.kmeans import cluster

    label = cluster(vectors, seed=seed, k=k).label
    return label, names(part, selection.text, label), f"{k} groups that k-means made for the map"


def length_plots(lengths: dict[str, dict[str, Any]]) -> str:
    with plotting():
        from matplotlib.figure import Figure
        from matplotlib.ticker import FuncFormatter, MaxNLocator

        figure = Figure(figsize=(7.2, 2.2), layout="constrained")
        for axes, (name, one) in zip(figure.subplots(1, 2), lengths.items(), strict=True):
            edges = np.maximum(one["edges"], 0.5)
            for side, style in (
                ("pool", {"fill": True, "color": SOFT}),
                ("kept", {"fill": False, "edgecolor": ACCENT, "linewidth": 1.6}),
            ):
                rows = np.array(one[side], dtype=float)
                axes.stairs(100 * rows / max(rows.sum(), 1), edges, **style)
            axes.set_xlim(edges[0], edges[-1])
            _count_in_powers(axes, float(edges[-1] / edges[0]))
            axes.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{share:g} %"))
            axes.yaxis.set_major_locator(MaxNLocator(nbins=4))
            axes.set_title(f"characters of the {name}", fontsize=9, loc="left")
        picture = svg(figure)
    medians = [
        f"{name} {number(one['kept_median'])} against {number(one['pool_median'])}" for name, one in lengths.items()
    ]
    caption = f"Share of the rows at each length. Medians, kept against the pool: {'; '.join(medians)} characters."
    key = [("var(--accent)", "kept", "square"), ("var(--soft)", "the pool", "square")]
    return str(macros(LAYOUT).plot(picture, caption, key))


def gain_plot(gains: list[list[Any]], nested: bool) -> str:
    told = [(rank + 1, gain) for rank, gain in gains if gain is not None]
    rank, gain = (np.array(side, dtype=float) for side in zip(*told, strict=True))
    falls_far = bool((gain > 0).all()) and gain.max() > 30 * gain.min()
    with plotting():
        from matplotlib.figure import Figure
        from matplotlib.ticker import FuncFormatter

        figure = Figure(figsize=(7.2, 2.6), layout="constrained")
        axes = figure.subplots()
        axes.plot(rank, gain, color=ACCENT, linewidth=1.6, marker="o" if len(rank) == 1 else "")
        _count_in_powers(axes, float(rank[-1] / rank[0]))
        axes.set_yscale("log" if falls_far else "linear")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.grid(color=LINE, linewidth=0.6)
        axes.set_axisbelow(True)
        axes.set_xlabel("pick")
        axes.set_ylabel("gain")
        picture = svg(figure)
    caption = (
        f"What each pick added to the method's own objective when it was picked: {number(gain[0])} at pick {rank[0]:,.0f}, "
        f"{number(gain[-1])} at pick {rank[-1]:,.0f}."
        + (" Every prefix of the picks is the smaller selection." if nested else "")
    )
    return str(macros(LAYOUT).plot(picture, caption))


def _count_in_powers(axes: Axes, span: float) -> None:
    """A logarithmic x axis of whole numbers; also 2 and 5 of each power of ten are told where there is room."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if span < 200 else (1,)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda number, _: f"{number:,.0f}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
