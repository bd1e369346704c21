"""The picture of a comparison of selectors: coverage against diversity, each selector a dot with its name."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from curate.contract.page import macros
from curate.report.selection_map import ACCENT, INK, LINE, QUIET, SOFT, plotting, svg
from curate.report.selectors_table import VENDI, by_value, value_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LETTERS = 8.0  # size of a name in the plot


def plot(comparison: dict[str, Any]) -> str:
    names = [name for name in by_value(comparison) if value_of(comparison["selectors"][name], VENDI) is not None]
    points = [
        (comparison["selectors"][name]["facility_location"], value_of(comparison["selectors"][name], VENDI))
        for name in names
    ]
    pairs = zip(comparison["random"]["facility_location"], comparison["random"]["vendi"], strict=True)
    chance = [(value, vendi) for value, vendi in pairs if vendi is not None]
    with plotting():
        from matplotlib.figure import Figure

        figure = Figure(figsize=(7.2, 5.2), layout="constrained")
        axes = figure.subplots()
        axes.set_axisbelow(True)
        axes.grid(color=LINE, linewidth=0.6)
        axes.scatter(*np.array(chance or np.empty((0, 2))).T, s=9, color=SOFT, linewidths=0, zorder=2)
        axes.scatter(*np.array(points or np.empty((0, 2))).T, s=26, color=ACCENT, linewidths=0, zorder=4)
        axes.margins(0.07)
        axes.set_xlabel("coverage (mean cosine to the nearest pick)")
        axes.set_ylabel("Vendi score (wholly different rows)")
        figure.draw_without_rendering()
        for name, point, (right, up, side, linked) in zip(names, points, _labels(axes, names, points), strict=True):
            axes.annotate(
                name,
                point,
                (right, up),
                textcoords="offset points",
                ha=side,
                va="center",
                fontsize=_LETTERS,
                color=INK,
                zorder=5,
                parse_math=False,
                arrowprops={"arrowstyle": "-", "color": QUIET, "linewidth": 0.5, "shrinkB": 3, "shrinkA": 0}
                if linked
                else None,
            )
        picture = svg(figure, "plot map")
    caption = (
        "Coverage: the mean over the pool of the largest cosine to a pick. Vendi score: how many wholly different rows would be as "
        f"diverse as the picks. To the upper right is better at both; the pale cloud is {len(chance)} random subsets of the same size."
    )
    return str(macros("selection.html.jinja").plot(picture, caption))


def _labels(axes: Axes, names: list[str], points: list[tuple[float, Any]]) -> list[tuple[float, float, str, bool]]:
    """Where names stand beside their dots: (right, up, side, whether a line should tell whose it is), in points. Each takes the nearest
    place that touches no dot and no other name, else the last one tried."""
    figure = axes.figure
    scale = 72 / figure.dpi
    at = np.array([axes.transData.transform(point) for point in points]).reshape(-1, 2) * scale
    box = axes.get_window_extent()
    inside = (box.x0 * scale, box.x1 * scale, box.y0 * scale, box.y1 * scale)
    taken = [(x - 4, x + 4, y - 4, y + 4) for x, y in at]
    placed: list[tuple[float, float, str, bool]] = []
    for name, (x, y) in zip(names, at, strict=True):
        half = len(name) * _LETTERS * 0.32
        for far, turn in itertools.product(
            (7, 12, 18, 25, 33, 42, 52), np.radians([0, 180, 90, 270, 45, 315, 135, 225])
        ):
            right, up = far * math.cos(turn), far * math.sin(turn)
            side = "center" if abs(right) < 1 else "left" if right > 0 else "right"
            if side == "center":  # above or below, a name may be moved aside to stay on the plot
                right = min(max(0.0, inside[0] + half - x + 1), inside[1] - half - x - 1)
            middle = x + right + {"left": half, "center": 0.0, "right": -half}[side]
            own = (middle - half, middle + half, y + up - _LETTERS / 2, y + up + _LETTERS / 2)
            within = inside[0] < own[0] and own[1] < inside[1] and inside[2] < own[2] and own[3] < inside[3]
            place = (right, up, side, far > 12)
            if within and not any(_touch(own, other) for other in taken):
                break
        taken.append(own)
        placed.append(place)
    return placed


def _touch(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return a[0] < b[1] and b[0] < a[1] and a[2] < b[3] and b[2] < a[3]
