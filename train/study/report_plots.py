"""The pictures of a study: scores against budgets, and differences and worths with their intervals."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from train.study.analysis import Analysis, Comparison, View
from train.study.document import LIGHT, LINE, QUIET, WIDE
from train.study.worth import Worth

MARKS = "osD^vPX"


def curves(analysis: Analysis, views: list[View], width: float) -> Figure:
    """Score against budget, a panel an evaluation set and a line an arm, its name beside its end; the untuned model's own score
    where it is not far off."""
    beside = len(views) if width >= WIDE else 1
    rows = math.ceil(len(views) / beside)
    height = (4.1 if beside == 1 else 3.9) if width >= WIDE else 3.4
    figure = Figure(figsize=(width * (1 if beside == 1 else 0.78 * beside), height * rows), layout="constrained")
    panels = figure.subplots(rows, beside, squeeze=False).reshape(-1)
    for panel, view in zip(panels, views, strict=True):
        _dress(panel)
        _curves_of(analysis, view, panel)
        if len(views) > 1:
            panel.set_title(f"on {_plain(view.name)}", loc="left", fontsize=10, color=QUIET[0])
    return figure


def _curves_of(analysis: Analysis, view: View, axes: Axes) -> None:
    results, scores = view.results, view.moments.scores
    ends = []
    for arm in results.arms:
        budgets, (colour, mark) = results.budgets(arm), _look(analysis, arm)
        levels = [view.levels[arm, budget] for budget in budgets]
        mean = np.array([float(level.value) for level in levels])
        low, high = np.array([float(e.low) for e in levels]), np.array([float(e.high) for e in levels])
        if np.isfinite(low).all():
            axes.fill_between(budgets, low, high, color=colour, alpha=0.14, linewidth=0)
        for budget in budgets:
            draws = scores[view.place(arm, budget)].reshape(-1)
            axes.scatter(np.full(len(draws), budget), draws, s=6, color=colour, alpha=0.45, linewidths=0, zorder=2)
        axes.plot(budgets, mean, color=colour, linewidth=1.8, marker=mark, markersize=5, zorder=3)
        ends.append((arm, colour, budgets[-1], mean[-1]))
    every = sorted({budget for _, budget in results.tuned})
    low, high = axes.get_ylim()
    for (name, budget), level in view.levels.items():
        value = float(level.value)
        if budget == 0 and low - (high - low) / 2 <= value <= high + (high - low) / 2:
            axes.hlines(value, every[0], every[-1], color=QUIET[0], linewidth=1, linestyle=(0, (4, 3)))
            ends.append((name, QUIET[0], every[-1], value))
    axes.set_xscale("log")
    axes.set_xticks(every, [f"{budget:,}" for budget in every])
    axes.set_xticks([], minor=True)
    axes.set_xlabel("examples trained on", color=QUIET[0])
    axes.set_ylabel(analysis.unit, color=QUIET[0])
    _name_ends(axes, ends, every)


def _look(analysis: Analysis, arm: str) -> tuple[str, str]:
    """An arm's colour and mark, the same in every picture of a report."""
    i = analysis.results.arms.index(arm)
    return LIGHT[i % len(LIGHT)], MARKS[i % len(MARKS)]


def _name_ends(axes: Axes, ends: list[tuple[str, str, int, float]], budgets: list[int]) -> None:
    """Each arm's name at the right edge, moved up or down until no two touch, with a thin line to its last point."""
    low, high = axes.get_ylim()
    gap = (high - low) * 0.062
    ordered = sorted(ends, key=lambda end: end[3])
    places = _apart([end[3] for end in ordered], gap)
    axes.set_ylim(min(low, places[0] - gap / 2), max(high, places[-1] + gap / 2))
    span = math.log(budgets[-1] / budgets[0]) or 1.0
    at, left = budgets[-1] * math.exp(span * 0.07), budgets[0] * math.exp(-span * 0.04)
    for (arm, colour, budget, value), place in zip(ordered, places, strict=True):
        axes.plot([budget, at], [value, place], color=colour, linewidth=0.6, alpha=0.7)
        axes.text(
            at * math.exp(span * 0.012), place, _plain(arm), color=colour, va="center", fontsize=9, fontweight="bold"
        )
    axes.set_xlim(left, budgets[-1] * math.exp(span * 0.36))


def _apart(values: list[float], gap: float) -> list[float]:
    """Rising values moved as little as needed, in groups, to stand at least `gap` apart."""
    groups: list[tuple[float, int]] = []  # the centre and the size of a group of touching labels
    for value in values:
        centre, size = value, 1
        while groups and centre - groups[-1][0] < gap * (size + groups[-1][1]) / 2:
            before, n = groups.pop()
            centre, size = (before * n + centre * size) / (n + size), n + size
        groups.append((centre, size))
    return [centre + gap * (i - (size - 1) / 2) for centre, size in groups for i in range(size)]


def forest(analysis: Analysis, view: View, width: float) -> Figure:
    """Differences from the reference and worths, a row an arm within a budget; one below the other where it is narrow."""
    colours, marks = ({arm: _look(analysis, arm)[k] for arm in view.results.arms} for k in (0, 1))
    rows: list[Comparison | int] = []
    for budget in sorted({c.budget or 0 for c in view.comparisons}):
        rows += [budget, *(c for c in view.comparisons if c.budget == budget)]
    worths = {(w.arm, w.budget): w for w in view.worths if w.defined}
    n, narrow = 2 if worths else 1, width < WIDE
    height = 0.7 + 0.27 * len(rows)
    figure = Figure(figsize=(width, height * (n if narrow else 1)), layout="constrained")
    panels = figure.subplots(n if narrow else 1, 1 if narrow else n, sharey=True, squeeze=False).reshape(-1)
    for panel in panels:
        _dress(panel)
        panel.spines["left"].set_visible(False)
        panel.tick_params(axis="y", length=0)
        panel.grid(axis="y", visible=False)
    if view.margin is not None:
        panels[0].axvspan(-view.margin, view.margin, color=QUIET[0], alpha=0.1, linewidth=0)
    panels[0].axvline(0, color=QUIET[0], linewidth=1)
    panels[0].set_xlabel(f"{analysis.unit} less {_plain(analysis.reference)}", color=QUIET[0])
    if worths:
        _scale_worth(panels[1], list(worths.values()))
        panels[1].set_xlabel(f"one example's worth in {_plain(analysis.reference)} ones", color=QUIET[0])
    for y, row in enumerate(rows):
        if isinstance(row, int):
            continue
        d, look = row.difference, {"color": colours[row.arm], "zorder": 3}
        panels[0].plot([d.low, d.high], [y, y], linewidth=2, solid_capstyle="round", **look)
        panels[0].plot([d.value], [y], marker=marks[row.arm], markersize=5.5, **look)
        if w := worths.get((row.arm, row.budget or 0)):
            _worth_line(panels[1], y, w, marks[row.arm], look)
    names = [f"{row:,} examples" if isinstance(row, int) else _plain(row.arm) for row in rows]
    for panel in panels if narrow else panels[:1]:
        panel.set_yticks(range(len(rows)), names)
        for label, row in zip(panel.get_yticklabels(), rows, strict=True):
            label.set_color(QUIET[0] if isinstance(row, int) else colours[row.arm])
            label.set_fontweight("normal" if isinstance(row, int) else "bold")
    panels[0].set_ylim(len(rows) - 0.4, -0.6)
    return figure


def _scale_worth(axes: Axes, worths: list[Worth]) -> None:
    edges = [1.0, *(w.least for w in worths), *(w.most for w in worths)]
    low, high = min(edges), max(edges)
    ticks = [2.0**k for k in range(math.ceil(math.log2(low) - 1e-9), math.floor(math.log2(high) + 1e-9) + 1)]
    if len(ticks) > 7:  # no room for all their names
        ticks = [t for t in ticks if int(np.log2(t)) % 2 == 0]
    axes.set_xscale("log")
    axes.set_xlim(low / 1.25, high * 1.25)
    axes.set_xticks(ticks, [f"{t:g}" if t >= 1 else f"1/{1 / t:g}" for t in ticks])
    axes.set_xticks([], minor=True)
    axes.axvline(1, color=QUIET[0], linewidth=1)


def _worth_line(axes: Axes, y: int, w: Worth, mark: str, look: dict[str, Any]) -> None:
    low, high = max(w.low, w.least), min(w.high, w.most)
    if low < high:
        axes.plot([low, high], [y, y], linewidth=2, solid_capstyle="round", **look)
    for open_end, edge, arrow in ((w.low < w.least, w.least, "<"), (w.high > w.most, w.most, ">")):
        if open_end:
            axes.plot([edge], [y], marker=arrow, markersize=6, **look)
    if w.least <= w.value <= w.most:
        axes.plot([w.value], [y], marker=mark, markersize=5.5, **look)


def _dress(axes: Axes) -> None:
    axes.set_facecolor("none")
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(QUIET[0])
    axes.tick_params(colors=QUIET[0], labelsize=9)
    axes.grid(color=LINE[0], linewidth=0.6)
    axes.set_axisbelow(True)


def _plain(name: str) -> str:
    return name.replace("$", r"\$")  # a dollar sign would start mathematics
