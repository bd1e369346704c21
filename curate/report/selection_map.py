"""A pool as a picture: rows that are alike lie near each other, kept ones in colour, clusters named where they lie.

    shown = sample(ids, chosen, seed=0)                  # at most 10,000 rows
    points, how = project(vectors[shown])
    svg = draw(points, kept, label, names)

The projection is t-SNE (van der Maaten and Hinton 2008; Barnes-Hut, van der Maaten 2014) of the first 50 principal
components. It keeps neighbourhoods: who lies beside whom says something; distances between groups, their sizes and their
emptiness do not.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from curate.contract.draws import draws
from curate.contract.errors import MissingExtra
from curate.vectors.unit import unit

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Written by matplotlib, then replaced by the page's own variables, which are others on dark paper.
INK, QUIET, LINE, ACCENT, SOFT = "#22252b", "#646a73", "#e3e0d8", "#1c6472", "#b9cfd3"
_VARIABLES = {INK: "--ink", QUIET: "--quiet", LINE: "--line", ACCENT: "--accent", SOFT: "--soft"}
POINTS = {False: "#8d939b", True: "#1f95aa"}  # are in a raster image, so they must do on both papers

_ROWS, _PICKS = 5_000, 5_000  # what a map shows at most
_COMPONENTS = 50
_TINY = 50  # rows below which t-SNE has nothing to work on
_WIDTH, _HEIGHT = 7.2, 5.2  # inches
_NAMES, _LETTERS = 15, 32  # names on a map at most, and letters of each
_LETTER, _LEADING = 5.6, 11.0  # points that a bold letter and a line of a name take, generously
_WIDE = "\u2e80"  # letters from here on, Chinese and the like, are twice as wide


def sample(ids: Sequence[str], chosen: np.ndarray, *, seed: int = 0) -> np.ndarray:
    """The rows that a map shows: int64 (m,), ordered by id. All chosen rows and 5,000 others, each drawn by a hash of
    (seed, id); of more than 5,000 chosen rows, so many drawn alike."""
    drawn = draws(seed, "selection_map", ids)
    is_chosen = np.zeros(len(ids), bool)
    is_chosen[chosen] = True
    shown: list[int] = []
    for rows, most in ((np.flatnonzero(is_chosen), _PICKS), (np.flatnonzero(~is_chosen), _ROWS)):
        shown += rows[np.argsort(drawn[rows], kind="stable")[:most]].tolist()
    return np.array(sorted(shown, key=lambda row: ids[row]), dtype=np.int64)


def project(vectors: np.ndarray) -> tuple[np.ndarray, str]:
    """(points, how): float32 (m, 2), and "t-SNE" or "PCA", which does for fewer than 50 rows or rows that are all the same.

    Runs on one thread, so that the same rows in the same order give the same points. Nothing is drawn: t-SNE starts from
    the first two principal components. 2,500 rows take about 7 seconds, 10,000 less than a minute.
    """
    try:
        from sklearn.manifold import TSNE  # before the limit, which holds only for libraries that are loaded by then
        from threadpoolctl import threadpool_limits
    except ImportError as error:
        raise MissingExtra("the map needs scikit-learn; run: pip install 'tamis[embed]'") from error
    with threadpool_limits(1):
        components = _components(unit(vectors, "the map"), _COMPONENTS)
        spread = components[:, 0].std() if len(components) else 0.0
        if len(components) < _TINY or spread < 1e-6:
            return components[:, :2], "PCA"
        start = components[:, :2] / spread * 1e-4  # as small as its author advises: it shall not decide the end
        points = TSNE(init=start.astype(np.float32), max_iter=750).fit_transform(components)  # pyright: ignore
        return np.asarray(points, dtype=np.float32), "t-SNE"


def draw(points: np.ndarray, kept: np.ndarray, label: np.ndarray, names: Mapping[int, str]) -> str:
    """The map as SVG. points (m, 2); kept: bool (m,); label: (m,), the cluster of a point; names: of the clusters.

    A name stands at the median of its cluster's points; where that would touch another, a little above or below, and
    where there is no room, it is left out: larger clusters go first.
    """
    with plotting():
        from matplotlib.figure import Figure

        figure = Figure(figsize=(_WIDTH, _HEIGHT), dpi=180)
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_axis_off()
        low, high = points.min(axis=0), points.max(axis=0)
        span = np.where(high > low, high - low, 1)
        at = 0.03 + 0.94 * (points - low) / span
        axes.set(xlim=(0, 1), ylim=(0, 1))
        crowd = min(1.0, (1500 / max(len(points), 1)) ** 0.5)  # the more points, the smaller
        for is_kept, size, alpha in ((False, 9, 0.5), (True, 16, 0.95)):
            mine = at[kept == is_kept]
            axes.scatter(
                mine[:, 0],
                mine[:, 1],
                s=max(size * crowd, 2.5),
                color=POINTS[is_kept],
                alpha=alpha,
                linewidths=0,
                rasterized=True,
            )
        for name, x, y in _placed(at, label, names):
            axes.text(x, y, name, ha="center", va="center", fontsize=9, fontweight="bold", color=INK, parse_math=False)
        return svg(figure, "plot map")


def svg(figure: Figure, classes: str = "plot") -> str:
    """A figure as inline SVG without ids or times, whose colours are the page's: dark where the reader's system is."""
    out = io.StringIO()
    figure.savefig(
        out, format="svg", transparent=True, metadata={"Date": None, "Creator": None, "Format": None, "Type": None}
    )
    text = out.getvalue()[out.getvalue().index("<svg") :].strip()
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'<g id="[^"]*">', "<g>", text)
    text = re.sub(r"font: ((?:[a-z]+ |[0-9]{3} )*)([0-9.]+px)[^;\"]*", r"font: \1\2 var(--sans)", text)
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, f"var({variable})")
    return re.sub(r'width="[0-9.]+pt" height="[0-9.]+pt"', f'class="{classes}" role="img"', text, count=1)


@contextmanager
def plotting() -> Iterator[None]:
    """Inside, matplotlib draws alike whatever the user's own settings are. MissingExtra where it is not installed."""
    try:
        import matplotlib as mpl
    except ImportError as error:
        raise MissingExtra("the report's plots need matplotlib; run: pip install 'tamis[report]'") from error
    with mpl.rc_context(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # the reader's browser has the fonts, not this machine
        mpl.rcdefaults()
        mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "tamis", "axes.edgecolor": QUIET})
        mpl.rcParams.update({"axes.spines.top": False, "axes.spines.right": False, "font.size": 9})
        mpl.rcParams.update({"text.color": QUIET, "axes.labelcolor": QUIET, "xtick.color": QUIET, "ytick.color": QUIET})
        yield


def _components(vectors: np.ndarray, most: int) -> np.ndarray:
    """The first principal components: float32 (m, c), c at least 2 and at most `most`, each with a fixed sign."""
    if not len(vectors):
        return np.zeros((0, 2), dtype=np.float32)
    centred = vectors - vectors.mean(axis=0)
    _, axes = np.linalg.eigh((centred.T @ centred).astype(np.float64))
    axes = axes[:, ::-1][:, :most]
    axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])])
    components = centred @ axes.astype(np.float32)
    return np.pad(components, ((0, 0), (0, max(0, 2 - components.shape[1]))))


def _placed(at: np.ndarray, label: np.ndarray, names: Mapping[int, str]) -> list[tuple[str, float, float]]:
    """(name, x, y) of the clusters whose names have room, on a map of 1 x 1. No two names touch."""
    clusters, sizes = np.unique(label[label >= 0], return_counts=True)
    placed: list[tuple[str, float, float]] = []
    boxes: list[tuple[float, float, float, float]] = []
    for cluster in clusters[np.argsort(-sizes, kind="stable")]:
        name = _short(names.get(int(cluster), ""))
        if not name or len(placed) == _NAMES:
            continue
        x, y = np.median(at[label == cluster], axis=0)
        letters = sum(2 if letter >= _WIDE else 1 for letter in name)
        half = letters * _LETTER / 72 / _WIDTH / 2
        x = float(np.clip(x, half + 0.01, 0.99 - half))
        line = _LEADING / 72 / _HEIGHT
        for shift in (0, 1, -1, 2, -2):
            middle = float(np.clip(y + shift * line, line, 1 - line))
            box = (x - half, x + half, middle - line / 2, middle + line / 2)
            if not any(_touch(box, other) for other in boxes):
                boxes.append(box)
                placed.append((name, x, middle))
                break
    return placed


def _short(name: str) -> str:
    """ "array, axis, numpy" with as many of its words as are not too long, at least the first."""
    while len(name) > _LETTERS and ", " in name:
        name = name.rpartition(", ")[0]
    return name if len(name) <= _LETTERS else name[: _LETTERS - 1] + "…"


def _touch(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> bool:
    return a[0] < b[1] and b[0] < a[1] and a[2] < b[3] and b[2] < a[3]
