"""report.html of a study: the headline, the curves, every number with its interval, the design, and how to run it again.

    write_report(folder, analyse(table), design)      # report.html and plot.png

The page is one file with its pictures inside, and follows the reader's light or dark setting, pictures too.
"""

from __future__ import annotations

import io
import math
import re
from html import escape
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from curate.contract.files import write_bytes, write_text
from curate.contract.page import Section, paragraph, preformatted, render_page, table
from train.study.analysis import ENOUGH_DRAWS, Analysis, Comparison, Estimate, Worth

# Okabe and Ito's colours, told apart by colour-blind readers too; on dark paper the same hues, lighter. The first is the
# reference's. Arms beyond the seventh take them again with another mark.
LIGHT = ("#5d646e", "#0072b2", "#d55e00", "#009e73", "#b4548c", "#a07700", "#3d9bd1")
DARK = ("#a9b0ba", "#5fb0ee", "#f28b45", "#34c79d", "#e59cc6", "#e3c04b", "#9bd6fb")
INK, QUIET, LINE = ("#22252b", "#dcdcd6"), ("#646a73", "#989ea7"), ("#d9d6ce", "#3a3f47")
MARKS = "osD^vPX"


def write_report(folder: Path, analysis: Analysis, design: dict[str, Any]) -> None:
    """report.html and plot.png (the curves, on white) in ``folder``. The same results give the same bytes."""
    with mpl.rc_context():
        mpl.rcdefaults()  # whatever the user's own settings are
        mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "tamis"})
        page, png = _page(analysis, design), _png(_curves(analysis, design["base"]["bits_per_byte"]))
    write_text(folder / "report.html", page)
    write_bytes(folder / "plot.png", png)


def _page(analysis: Analysis, design: dict[str, Any]) -> str:
    untuned = design["base"]["bits_per_byte"]
    curves = _figure(_curves(analysis, untuned), _curve_caption(analysis, untuned))
    sections = [Section("Result", curves + _sentences(analysis))]
    if analysis.comparisons:
        sections.append(Section("What one example is worth", _worth(analysis)))
    sections.append(Section("Every arm at every budget", _every_cell(analysis)))
    if analysis.comparisons:
        sections.append(Section("By task", _by_task(analysis)))
    sections.append(Section("What each run was given", _given(analysis, design)))
    if analysis.comparisons:
        sections.append(Section("Where the uncertainty comes from", _uncertainty(analysis)))
    sections.append(Section("How the intervals are made", paragraph(_method(analysis))))
    sections.append(Section("Run it again", _again(design)))
    return render_page(f"{design['name']}: what an example is worth", lead=_lead(analysis), sections=sections)


def _png(figure: Figure) -> bytes:
    """On white, 1,440 pixels wide, for a README."""
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=200, facecolor="white", metadata={"Software": None})
    return out.getvalue()


# --- words and tables ------------------------------------------------------------------------------------------------


def _lead(analysis: Analysis) -> str:
    results = analysis.results
    extent = (
        f"{_count(len(results.draws), 'draw')} of the pool, {_count(len(results.items), 'held-out item')}; "
        f"intervals cover {analysis.covers}."
    )
    if analysis.covers == "items":
        extent += f" With fewer than {ENOUGH_DRAWS} draws nothing is claimed about other draws of the pool."
    return f"{analysis.headline}\n\n{extent}"


def _sentences(analysis: Analysis) -> str:
    items = "".join(f"<li>{escape(sentence)}</li>" for sentence in analysis.sentences)
    return f"<ul>{items}</ul>" if items else ""


def _every_cell(analysis: Analysis) -> str:
    compared = {(c.arm, c.budget): c for c in analysis.comparisons}
    worths = {(w.arm, w.budget): w for w in analysis.worths}
    rows = []
    for (arm, budget), level in analysis.levels.items():
        c, w = compared.get((arm, budget)), worths.get((arm, budget))
        difference = (
            (_signed(c.difference), _p(c.p_holm), c.verdict.replace(" ", "\u00a0")) if c else (None, None, None)
        )
        rows.append([arm, f"{budget:,}", _level(level), *difference, str(w) if w else None])
    header = ["arm", "examples", "bits per byte", f"less {analysis.reference}", "p", "verdict", "worth m"]
    k = len(analysis.comparisons)
    caption = (
        f"Lower is better. Brackets are 95 % intervals: of a level over draws for these items, of a difference over "
        f"{analysis.covers}. p is Holm's over all {k} comparisons; equivalent means within {analysis.delta:g} bits per byte."
    )
    return table(header, rows, caption)


def _by_task(analysis: Analysis) -> str:
    cells = [(c.arm, c.budget) for c in analysis.comparisons]
    arms, budgets = list(dict.fromkeys(a for a, _ in cells)), sorted({b for _, b in cells})
    parts = []
    for budget in budgets:
        rows = []
        for task, differences in analysis.tasks.items():
            n = int((analysis.results.task == task).sum())
            rows.append(
                [task, n, *(_signed(differences[at]) if (at := (arm, budget)) in differences else None for arm in arms)]
            )
        caption = f"At {budget:,} examples: each arm less {analysis.reference}, bits per byte, 95 % intervals."
        parts.append(table(["task", "items", *arms], rows, caption))
    note = (
        "These intervals are not corrected for their number: they show where to look, and claim nothing by themselves."
    )
    return "".join(parts) + paragraph(note)


def _given(analysis: Analysis, design: dict[str, Any]) -> str:
    header = [
        "arm",
        "examples",
        "steps",
        "epochs",
        "tokens",
        "tokens learnt from",
        "bytes a response",
        "rows shared",
    ]
    rows = [
        [
            row["arm"],
            f"{row['examples']:,}",
            f"{row['steps']:,}",
            f"{row['epochs']:.1f}",
            f"{row['tokens']:,.0f}",
            f"{row['targets']:,.0f}",
            f"{row['response_bytes']:,.0f}",
            "" if row["overlap"] is None else f"{100 * row['overlap']:.0f} %",
        ]
        for row in design["arms"]
    ]
    caption = (
        "Means over draws. Arms are equal in examples and steps, not in tokens: an arm of longer responses learns from more "
        "text, and scores may follow the length of a response as much as its choice. Rows shared: by two draws of the arm."
    )
    base, train = design["base"], design["train"]
    method = (
        f"The base is {base['model']}, {base['parameters']:,} parameters, at {base['bits_per_byte']:.3f} bits per byte before "
        f"training. Tuning: {_named(train['tuning'])}. Objective: {_named(train['objective'])}. Learning rate "
        f"{train['learning_rate']:g}, {train['examples']} examples a step. Draw: a hash-drawn 80 % of the pool, the "
        f"same for every arm, with its own seed and order. Scored on {design['items']:,} of {design['holdout']:,} held-out rows. "
        f"Cut at {train['max_length']:,} tokens: {design['truncated']['rows']:,} of the rows that any arm picked, "
        f"{design['truncated']['items']:,} of those held out."
    )
    return table(header, rows, caption) + paragraph(method)


def _uncertainty(analysis: Analysis) -> str:
    many_seeds = len(analysis.results.seeds) > 1
    rows = []
    for c in analysis.comparisons:
        d, spread = c.difference, analysis.spread(c.arm, c.budget)
        from_draws = d.variance_draws / max(float(d.variance_draws + d.variance_items), 1e-30)
        shares = (
            ("–", "100 %")
            if analysis.covers == "items"
            else (f"{100 * from_draws:.0f} %", f"{100 - 100 * from_draws:.0f} %")
        )
        deviations = [spread.arm, spread.paired, *([spread.seeds] if many_seeds else [])]
        shown = ["–" if x is None else f"{x:.4f}" for x in deviations]
        rows.append([c.arm, f"{c.budget:,}", *shown, f"{d.standard_error:.4f}", *shares])
    names = ["sd, draws", "sd, paired", *(["sd, seeds"] if many_seeds else [])]
    header = ["arm", "examples", *names, "standard error", "from draws", "from items"]
    caption = (
        "In bits per byte. sd, draws: of the arm's score from draw to draw; sd, paired: of its difference from "
        f"{analysis.reference} on the same draw"
        + ("; sd, seeds: of that difference from seed to seed within a draw" if many_seeds else "")
        + ". The last columns part the squared standard error: more draws shrink the one, more items the other."
    )
    return table(header, rows, caption)


def _method(analysis: Analysis) -> str:
    k = len(analysis.comparisons)
    results = analysis.results
    factors = (
        "Draws and items are crossed random factors. The variance of a difference is that of its draw means over the draws "
        "plus what its item means add beyond the residual, by Obuchowski and Rockette (1995), with the degrees of freedom of "
        "Hillis (2007); a paired difference is linearised for the ratio of sums."
        if analysis.covers != "items"
        else f"There are {len(results.draws)} draws, too few to speak of others: the intervals are t intervals over items."
    )
    return (
        "The score is bits per byte: the bits that the model needs for the held-out responses, given their prompts, over "
        "their UTF-8 bytes. " + factors + "\n\n"
        f"Better and worse are said where Holm's correction over all {k} comparisons leaves p at 0.05 or below; equivalent "
        f"where two one-sided tests, corrected alike, put the difference within {analysis.delta:g} bits per byte, a margin set "
        "before the runs; in all other cases no difference was shown, which is not the same as none.\n\n"
        f"The worth m at N examples is such that {analysis.reference} with m N examples scores as the arm does with N. Its "
        f"curve is straight in log N between its budgets ({', '.join(f'{b:,}' for b in results.budgets(analysis.reference))}); "
        "the interval holds each m whose difference has an interval that holds zero (Fieller 1954). Beyond these budgets only "
        "a bound is given.\n\n"
        "All of it speaks of this pool, this base model and rows like those held out."
    )


def _again(design: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in sorted(design["versions"].items()))
    return (
        paragraph("The recipe beside the work holds every option; the numbers here come from results.parquet.")
        + preformatted(
            "tamis study RECIPE              # trains what is missing, then this page\ntamis analyse results.parquet   # the statistics alone"
        )
        + paragraph(f"Seed {design['seed']}. With {versions}.")
    )


def _level(e: Estimate) -> str:
    return f"{e.value:.3f} [{e.low:.3f}, {e.high:.3f}]" if np.isfinite(e.low) else f"{e.value:.3f}"


def _signed(e: Estimate) -> str:
    text = f"{e.value:+.3f} [{e.low:+.3f}, {e.high:+.3f}]" if np.isfinite(e.low) else f"{e.value:+.3f}"
    return text.replace("-", "−")


def _p(p: float) -> str:
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def _count(n: int, noun: str) -> str:
    return f"{n:,} {noun}" + ("" if n == 1 else "s")


def _named(choice: str | dict[str, Any]) -> str:
    """`full` or {"lora": {"rank": 8}} in words."""
    if isinstance(choice, str):
        return choice
    name, options = next(iter(choice.items()))
    inside = ", ".join(f"{key} {value}" for key, value in (options or {}).items())
    return f"{name} ({inside})" if inside else name


# --- pictures --------------------------------------------------------------------------------------------------------


def _worth(analysis: Analysis) -> str:
    bounded = any(0 < w.low and w.high < np.inf for w in analysis.worths)
    caption = (
        f"Left: each arm's score less that of {analysis.reference} on the same draws; left of the line is better; the band is "
        f"±{analysis.delta:g}, within which arms count as equivalent. "
    )
    if analysis.worths:
        caption += (
            f"Right: the worth m of one example in {analysis.reference} ones. A line that ends in an arrow goes on beyond the "
            f"budgets at which {analysis.reference} was measured{'' if bounded else '; here every one does'}. "
        )
    caption += f"Lines are 95 % intervals over {analysis.covers}, not corrected for their number."
    said = (
        ""
        if analysis.worths
        else paragraph("With a single budget the reference has no curve, and so no worth is told.")
    )
    return _figure(_forest(analysis), caption) + said


def _curve_caption(analysis: Analysis, untuned: float) -> str:
    caption = (
        "Bits per byte of held-out responses after training on so many examples: lower is better. Before any training the "
        f"base stands at {untuned:.3f}. Dots are single draws"
    )
    if analysis.covers == "items":
        return f"{caption}; there are too few of them for bands."
    return (
        f"{caption}; bands are 95 % intervals over draws, for these items. Arms are compared on the same draws, so bands may "
        "overlap where the differences below do not."
    )


def _curves(analysis: Analysis, untuned: float) -> Figure:
    """Score against budget, one line an arm, its name beside its end; the base's own score where it is not far off."""
    results = analysis.results
    figure, axes = _axes(7.2, 4.1)
    scores = dict(zip(results.cells, results.scores(), strict=True))
    ends = []
    for i, arm in enumerate(results.arms):
        budgets, colour = results.budgets(arm), LIGHT[i % len(LIGHT)]
        levels = [analysis.levels[arm, budget] for budget in budgets]
        mean = np.array([float(level.value) for level in levels])
        low, high = np.array([float(e.low) for e in levels]), np.array([float(e.high) for e in levels])
        if np.isfinite(low).all():
            axes.fill_between(budgets, low, high, color=colour, alpha=0.14, linewidth=0)
        for budget in budgets:
            draws = scores[arm, budget].mean(axis=-1)
            axes.scatter(np.full(len(draws), budget), draws, s=6, color=colour, alpha=0.45, linewidths=0, zorder=2)
        axes.plot(budgets, mean, color=colour, linewidth=1.8, marker=MARKS[i % len(MARKS)], markersize=5, zorder=3)
        ends.append((arm, colour, budgets[-1], mean[-1]))
    every = sorted({budget for _, budget in results.cells})
    low, high = axes.get_ylim()
    if low - (high - low) / 2 <= untuned <= high + (high - low) / 2:
        axes.hlines(untuned, every[0], every[-1], color=QUIET[0], linewidth=1, linestyle=(0, (4, 3)))
        ends.append(("before training", QUIET[0], every[-1], untuned))
    axes.set_xscale("log")
    axes.set_xticks(every, [f"{budget:,}" for budget in every])
    axes.set_xticks([], minor=True)
    axes.set_xlabel("examples trained on", color=QUIET[0])
    axes.set_ylabel("bits per byte", color=QUIET[0])
    _name_ends(axes, ends, every)
    return figure


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


def _forest(analysis: Analysis) -> Figure:
    """Differences and worths, a row an arm within a budget."""
    colours = {arm: LIGHT[i % len(LIGHT)] for i, arm in enumerate(analysis.results.arms)}
    marks = {arm: MARKS[i % len(MARKS)] for i, arm in enumerate(analysis.results.arms)}
    budgets = sorted({c.budget for c in analysis.comparisons})
    rows: list[Comparison | int] = []
    for budget in budgets:
        rows += [budget, *(c for c in analysis.comparisons if c.budget == budget)]
    worths = {(w.arm, w.budget): w for w in analysis.worths}
    figure = Figure(figsize=(7.2, 0.7 + 0.27 * len(rows)), layout="constrained")
    panels = figure.subplots(1, 2 if worths else 1, sharey=True, squeeze=False)[0]
    for panel in panels:
        _dress(panel)
        panel.spines["left"].set_visible(False)
        panel.tick_params(axis="y", length=0)
        panel.grid(axis="y", visible=False)
    panels[0].axvspan(-analysis.delta, analysis.delta, color=QUIET[0], alpha=0.1, linewidth=0)
    panels[0].axvline(0, color=QUIET[0], linewidth=1)
    panels[0].set_xlabel(f"bits per byte less {_plain(analysis.reference)}", color=QUIET[0])
    if worths:
        _scale_worth(panels[1], analysis.worths)
        panels[1].set_xlabel(f"one example's worth in {_plain(analysis.reference)} ones", color=QUIET[0])
    for y, row in enumerate(rows):
        if isinstance(row, int):
            continue
        d, look = row.difference, {"color": colours[row.arm], "zorder": 3}
        panels[0].plot([d.low, d.high], [y, y], linewidth=2, solid_capstyle="round", **look)
        panels[0].plot([d.value], [y], marker=marks[row.arm], markersize=5.5, **look)
        if w := worths.get((row.arm, row.budget)):
            _worth_line(panels[1], y, w, marks[row.arm], look)
    names = [f"{row:,} examples" if isinstance(row, int) else _plain(row.arm) for row in rows]
    panels[0].set_yticks(range(len(rows)), names)
    for label, row in zip(panels[0].get_yticklabels(), rows, strict=True):
        label.set_color(QUIET[0] if isinstance(row, int) else colours[row.arm])
        label.set_fontweight("normal" if isinstance(row, int) else "bold")
    panels[0].set_ylim(len(rows) - 0.4, -0.6)
    return figure


def _scale_worth(axes: Axes, worths: list[Worth]) -> None:
    edges = [1.0, *(w.least for w in worths), *(w.most for w in worths)]
    low, high = min(edges), max(edges)
    ticks = [2.0**k for k in range(math.ceil(math.log2(low) - 1e-9), math.floor(math.log2(high) + 1e-9) + 1)]
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


def _axes(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    _dress(axes)
    return figure, axes


def _dress(axes: Axes) -> None:
    axes.set_facecolor("none")
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(QUIET[0])
    axes.tick_params(colors=QUIET[0], labelsize=9)
    axes.grid(color=LINE[0], linewidth=0.6)
    axes.set_axisbelow(True)


def _plain(name: str) -> str:
    return name.replace("$", r"\$")  # a dollar sign would start mathematics


def _figure(figure: Figure, caption: str) -> str:
    """The figure as inline SVG whose colours are variables, one set for light paper and one for dark."""
    out = io.StringIO()
    figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = out.getvalue()[out.getvalue().index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<g id="[^"]*">', "<g>", svg)
    svg = re.sub(r"font: ((?:[a-z]+ |[0-9]{3} )*)([0-9.]+px)[^;\"]*", r"font: \1\2 var(--sans)", svg)
    pairs = [INK, QUIET, LINE, *zip(LIGHT, DARK, strict=True)]
    for i, (light, _) in enumerate(pairs):
        svg = svg.replace(light, f"var(--plot-{i})")
    svg = re.sub(r'width="[0-9.]+pt" height="[0-9.]+pt"', 'class="plot" role="img"', svg, count=1)
    light, dark = (";".join(f"--plot-{i}:{pair[k]}" for i, pair in enumerate(pairs)) for k in (0, 1))
    style = (
        f".plot{{{light};display:block;width:100%;min-width:34rem;height:auto}}"
        f"@media (prefers-color-scheme:dark){{.plot{{{dark}}}}}@media print{{.plot{{{light}}}}}"
    )
    return (
        f'<figure class="picture"><style>{style}</style><div class="scroll" tabindex="0">{svg}</div>'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )
