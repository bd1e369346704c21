"""The report of a study: what was asked, what was found, every number with its interval, the design, and how to run it again.

    write_report(folder, analyse(table), design)      # report.html, report.md, figures/*.png and plot.png

The page is one file with its pictures inside, and follows the reader's light or dark setting, pictures too.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import matplotlib as mpl
import numpy as np

from curate.contract.errors import RequestError
from curate.contract.files import write_bytes
from train.study import say
from train.study.analysis import Analysis, Comparison, Population, Tasks, analyse_results
from train.study.caveats import caveats
from train.study.document import WIDE, Block, Bullets, Chapter, Code, Document, Picture, Table, Text, png, write
from train.study.moments import ENOUGH, Estimate
from train.study.power import visible
from train.study.report_plots import curves, forest

_MANY = 24  # rows of a table that are shown at once; a longer one is folded


def write_report(folder: Path, analysis: Analysis, design: dict[str, Any]) -> None:
    """report.html, report.md, figures and plot.png (the curves, on white) in ``folder``. The same results give the same bytes."""
    with mpl.rc_context():
        mpl.rcdefaults()  # whatever the user's own settings are
        mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "tamis"})
        write(_document(analysis, design), folder, "report")
        write_bytes(folder / "plot.png", png(curves(analysis, analysis.views, WIDE)))


def _document(analysis: Analysis, design: dict[str, Any]) -> Document:
    compared = any(view.comparisons for view in analysis.views)
    chapters = [
        Chapter("Before you read on", [Bullets(said)] if (said := caveats(analysis)) else []),
        Chapter("What was asked", _asked(analysis, design)),
        Chapter("Result", _result(analysis)),
        Chapter("What one example is worth", _worth(analysis) if compared else []),
        Chapter("Against the untuned model", _untuned(analysis)),
        Chapter("Factors", _factors(analysis)),
        Chapter("Every arm at every budget", _every_cell(analysis)),
        Chapter("For whom it holds", _populations(analysis) if compared else []),
        Chapter("What this design can see", _power(analysis) if compared else []),
        Chapter("By task", _by_task(analysis) if compared else []),
        Chapter("What each run was given", _given(design)),
        Chapter("Where the uncertainty comes from", _uncertainty(analysis) if compared else []),
        Chapter("How the intervals are made", [Text(_method(analysis))]),
        Chapter("Run it again", _again(design)),
    ]
    title = f"{design['name']}: what an example is worth"
    return Document(title, _lead(analysis), [chapter for chapter in chapters if chapter.blocks])


# --- words and tables ------------------------------------------------------------------------------------------------


def _lead(analysis: Analysis) -> str:
    results = analysis.results
    extent = (
        f"{_count(len(results.draws), 'draw')} of the pool, {_count(len(results.items), 'held-out item')}; "
        f"intervals cover {analysis.covers}."
    )
    if analysis.views[0].moments.covers == "none":
        extent += f" With fewer than {ENOUGH} draws nothing is claimed about other draws of the pool."
    return f"{analysis.headline}\n\n{extent}"


def _asked(analysis: Analysis, design: dict[str, Any]) -> list[Block]:
    """The question, the design and the base, in words."""
    results, base, train = analysis.results, design["base"], design["train"]
    questions = [
        f"{c.arm}{'' if c.budget is None else f'@{c.budget}'} against {c.against}{'' if c.at is None else f'@{c.at}'}"
        for view in analysis.views
        for c in view.answers
    ]
    questions = list(dict.fromkeys(questions))
    question = say.listed(questions) if questions else f"every arm against {analysis.reference} at every budget"
    sets = [f"{view.name} ({len(view.results.items):,} items)" for view in analysis.views]
    held = {"examples": "examples", "tokens": "tokens", "supervised_tokens": "supervised tokens", "steps": "steps"}
    budgets = sorted({budget for _, budget in results.tuned})
    first = (
        f"The questions: {question}, in {analysis.unit} of the held-out responses (lower is better), on {say.listed(sets)}. "
        f"Arms: {', '.join(results.arms)}. Budgets: {', '.join(f'{b:,}' for b in budgets)} examples, the smaller ones the "
        f"first picks of the larger. {len(results.draws)} draws of {len(results.seeds)} "
        f"{'seed' if len(results.seeds) == 1 else 'seeds'}; all arms of a draw share its part of the pool, its seeds, the order of "
        f"rows, and the items. Held equal: {held[design['equal']]}."
    )
    if design["equal"] in ("tokens", "supervised_tokens"):
        first += (
            f" So a budget of N is that of N examples of {analysis.reference}; another arm takes as many of its picks as come "
            "nearest to their tokens."
        )
    if design["stop_at"] is not None:
        first += (
            f" Up to {design['draws']} draws were to be taken, until half the width of every interval was at most {design['stop_at']:g}, and then "
            "one more."
        )
    second = (
        f"The base is {base['model']}, {base['parameters']:,} parameters, at {base['bits_per_byte']:.3f} bits per byte before "
        f"training. Tuning: {_named(train['tuning'])}. Objective: {_named(train['objective'])}. Learning rate "
        f"{train['learning_rate']:g}, {train['examples']} examples a step, {train['epochs']:g} {'epoch' if train['epochs'] == 1 else 'epochs'}. Scored on "
        f"{design['items']:,} of {design['holdout']:,} held-out rows. Cut at {train['max_length']:,} tokens: "
        f"{design['truncated']['rows']:,} of the rows that any arm picked, {design['truncated']['items']:,} of those held out."
    )
    changed = (
        ""
        if design["plan"] == design["first_plan"]
        else f" It was changed since the first, {design['first_plan'][:12]}."
    )
    return [
        Text(first),
        Text(second),
        Text(f"The plan was written before anything was trained: {design['plan'][:12]}.{changed}"),
    ]


def _result(analysis: Analysis) -> list[Block]:
    out: list[Block] = [
        Picture("curves", lambda width: curves(analysis, analysis.views, width), _curve_caption(analysis))
    ]
    for view in analysis.views:
        if sentences := say.sentences(analysis, view):
            out += [Text(f"On {view.name}:")] if len(analysis.views) > 1 else []
            out.append(Bullets(sentences))
    return out


def _curve_caption(analysis: Analysis) -> str:
    caption = f"{_capital(analysis.unit)} of held-out responses after training on so many examples"
    caption += ": lower is better. " if analysis.rule.better < 0 else ": higher is better. "
    caption += "The broken line is the untuned model. Dots are single runs"
    if analysis.views[0].moments.covers == "none":
        return f"{caption}; there are too few of them for bands."
    return (
        f"{caption}; bands are 95 % intervals over draws, for these items. Arms are compared on the same draws, so bands may "
        "overlap where the differences below do not."
    )


def _worth(analysis: Analysis) -> list[Block]:
    out: list[Block] = []
    for view in analysis.views:
        worths = [w for w in view.worths if w.defined]
        caption = (
            f"{'On ' + view.name + '. ' if len(analysis.views) > 1 else ''}Each arm's score less that of {analysis.reference} "
            f"on the same draws; {'left' if analysis.rule.better < 0 else 'right'} of the line is better. "
        )
        if view.margin is not None:
            caption += f"The band is ±{view.margin:.2g}, within which arms count as equivalent. "
        if worths:
            caption += (
                f"Then the worth m of one example in {analysis.reference} ones. A line that ends in an arrow goes on beyond the "
                f"budgets at which {analysis.reference} was measured. "
            )
        caption += f"Lines are 95 % intervals over {analysis.covers}, not corrected for their number."
        out.append(Picture(f"worth-{len(out)}", lambda width, view=view: forest(analysis, view, width), caption))
        if view.curve is None:
            out.append(Text("With a single budget the reference has no curve, and so no worth is told."))
        elif why := say.undefined(analysis, view):
            gain = say.signed(view.curve.gain)
            out.append(Text(f"{why}: from its smallest budget to its largest it gains {gain} {analysis.unit}."))
    return out


def _untuned(analysis: Analysis) -> list[Block]:
    out: list[Block] = []
    for view in analysis.views:
        rows = [[_at(c.arm, c.budget), _signed(c.difference), _p(c.p_holm), _verdict(c)] for c in view.gains]
        if not rows:
            continue
        levels = [f"{name} at {float(level.value):.3f}" for (name, b), level in view.levels.items() if b == 0]
        caption = (
            f"{'On ' + view.name + ': e' if len(analysis.views) > 1 else 'E'}ach arm less the untuned model ({', '.join(levels)} "
            f"{analysis.unit})."
        )
        out.append(Table(["arm@examples", "less untuned", "p", "verdict"], rows, caption, folded=len(rows) > _MANY))
    said = say.hurt(analysis)
    if out and not said:
        said = ["Every arm is better than the untuned model at every budget."]
    return [Bullets(said), *out] if out else []


def _factors(analysis: Analysis) -> list[Block]:
    rows = [
        [
            *([view.name] if len(analysis.views) > 1 else []),
            *(e.factor, f"{e.level} against {e.first}", e.cells),
            *(_signed(e.comparison.difference), _p(e.comparison.p_holm), _verdict(e.comparison)),
        ]
        for view in analysis.views
        for e in view.effects
    ]
    if not rows:
        return []
    header = [*(["on"] if len(analysis.views) > 1 else []), "factor", "level", "pairs", "difference", "p", "verdict"]
    caption = "A level less the first one, in the mean over all pairs of arms and budgets that differ in nothing else."
    return [Table(header, rows, caption)]


def _every_cell(analysis: Analysis) -> list[Block]:
    out: list[Block] = []
    for view in analysis.views:
        compared = {(c.arm, c.budget): c for c in view.comparisons}
        worths = {(w.arm, w.budget): w for w in view.worths if w.defined}
        with_worth = bool(worths)
        rows = []
        for (arm, budget), level in view.levels.items():
            if budget == 0:
                continue
            c, w = compared.get((arm, budget)), worths.get((arm, budget))
            difference = (_signed(c.difference), _p(c.p_holm), _verdict(c)) if c else (None, None, None)
            worth = [str(w) if w else None] if with_worth else []
            rows.append([_at(arm, budget), _level(level), *difference, *worth])
        header = [
            "arm@examples",
            "score",
            f"less {analysis.reference}",
            "p",
            "verdict",
            *(["m"] if with_worth else []),
        ]
        k = sum(len(v.comparisons) for v in analysis.views)
        within = f" Equivalent means within {say.margin(analysis, view.name)}." if view.margin is not None else ""
        caption = (
            f"{'On ' + view.name + ': ' if len(analysis.views) > 1 else ''}{analysis.unit}. Brackets are 95 % intervals: of a score "
            f"over draws for these items, of a difference over {analysis.covers}. p is Holm's over all {k} comparisons.{within}"
        )
        out.append(Table(header, rows, caption, folded=len(rows) > 2 * _MANY))
    return out


def _populations(analysis: Analysis) -> list[Block]:
    """The same differences for other draws and other pools, items and tasks."""
    found: dict[str, list[list[Comparison]] | str] = {}
    for population in get_args(Population):
        for tasks in get_args(Tasks):
            try:
                other = analyse_results(
                    analysis.results,
                    reference=analysis.reference,
                    delta=analysis.rule.delta,
                    population=population,
                    tasks=tasks,
                    higher_is_better=analysis.rule.better > 0,
                )
            except RequestError as error:
                found[f"{population}, {tasks}"] = str(error)
                continue
            found[f"{population}, {tasks}"] = [view.comparisons for view in other.views]
    told = {name: views for name, views in found.items() if not isinstance(views, str)}
    why = list(dict.fromkeys(f"{name}: {reason}." for name, reason in found.items() if isinstance(reason, str)))
    out: list[Block] = []
    for i, view in enumerate(analysis.views):
        rows = [
            [_at(c.arm, c.budget), *(_half(views[i][j]) for views in told.values())]
            for j, c in enumerate(view.comparisons)
        ]
        caption = (
            f"{'On ' + view.name + ': h' if len(analysis.views) > 1 else 'H'}alf the width of the 95 % interval of each difference, "
            "for each of the populations that it may speak of; a star where it leaves out zero."
        )
        out.append(Table(["arm@examples", *told], rows, caption, folded=len(rows) > _MANY))
    words = (
        "This pool: other draws of its rows. Pools like it: other pools from where this one came, of which these draws, sharing "
        "rows, show less than they are (train/study/moments.py). These tasks: other items of them. New tasks: items of others, "
        "with tasks as the sample."
    )
    return [Text(words), *([Bullets(why)] if why else []), *out]


def _power(analysis: Analysis) -> list[Block]:
    rows = []
    k = sum(len(view.comparisons) for view in analysis.views)
    for view in analysis.views:
        for c in view.comparisons:
            least = visible(c.difference, family=k)
            rows.append([_at(c.arm, c.budget), view.name, f"{c.difference.standard_error:.4f}", f"{least:.3f}"])
    if len(analysis.views) == 1:
        rows = [[row[0], *row[2:]] for row in rows]
    header = ["arm@examples", *(["on"] if len(analysis.views) > 1 else []), "standard error", "visible"]
    caption = (
        f"The smallest difference in {analysis.unit} that a study of this design would show in 80 % of cases, given the noise "
        f"that was found, at the level that its family of {k} leaves to each (Bonferroni's, a little less than Holm's)."
    )
    return [Table(header, rows, caption, folded=len(rows) > _MANY)]


def _by_task(analysis: Analysis) -> list[Block]:
    out: list[Block] = []
    for view in analysis.views:
        by_task = analysis.by_task(view)
        if len(by_task) < 2:
            continue
        arms = list(dict.fromkeys(c.arm for c in view.comparisons))
        for budget in sorted({c.budget or 0 for c in view.comparisons}):
            here = [j for j, c in enumerate(view.comparisons) if c.budget == budget]
            own = {view.comparisons[j].arm: j for j in here}
            rows = [
                [task, int((view.results.task == task).sum())]
                + [_signed(found[own[arm]]) if arm in own else None for arm in arms]
                for task, found in by_task.items()
            ]
            on = f" on {view.name}" if len(analysis.views) > 1 else ""
            caption = f"At {budget:,} examples{on}: each arm less {analysis.reference}, {analysis.unit}."
            out.append(Table(["task", "items", *arms], rows, caption, folded=True))
    if not out:
        return []
    note = "95 % intervals, not corrected for their number: they show where to look, and claim nothing by themselves."
    return [Text(note), *out]


def _given(design: dict[str, Any]) -> list[Block]:
    header = ["arm@budget", "examples", "steps", "epochs", "tokens", "supervised", "bytes a response", "rows shared"]
    rows = [
        [
            _at(row["arm"], row["budget"]),
            f"{row['examples']:,.0f}",
            f"{row['steps']:,.0f}",
            f"{row['epochs']:.1f}",
            f"{row['tokens']:,.0f}",
            f"{row['targets']:,.0f}",
            f"{row['response_bytes']:,.0f}",
            "" if row["overlap"] is None else f"{100 * row['overlap']:.0f} %",
        ]
        for row in design["arms"]
    ]
    caption = (
        "Means over draws; tokens and supervised tokens (those that are learnt from) are of the whole run. Rows shared: by two "
        "draws of the arm."
    )
    return [Table(header, rows, caption, folded=len(rows) > _MANY)]


def _uncertainty(analysis: Analysis) -> list[Block]:
    many_seeds = len(analysis.results.seeds) > 1
    rows = []
    for view in analysis.views:
        for c in view.comparisons:
            d, spread = c.difference, analysis.spread(view, c.arm, c.budget or 0)
            from_draws = d.variance_draws / max(float(d.variance_draws + d.variance_items), 1e-30)
            shares = (f"{100 * from_draws:.0f} %", f"{100 - 100 * from_draws:.0f} %")
            if view.moments.covers == "none":
                shares = ("–", "100 %")
            deviations = [spread.arm, spread.paired, *([spread.seeds] if many_seeds else [])]
            shown = ["–" if x is None else f"{x:.4f}" for x in deviations]
            on = [view.name] if len(analysis.views) > 1 else []
            rows.append([_at(c.arm, c.budget), *on, *shown, *shares])
    names = ["sd, draws", "sd, paired", *(["sd, seeds"] if many_seeds else [])]
    header = ["arm@examples", *(["on"] if len(analysis.views) > 1 else []), *names, "from draws", "from items"]
    caption = (
        f"In {analysis.unit}. sd, draws: of the arm's score from draw to draw; sd, paired: of its difference from "
        f"{analysis.reference} on the same draw"
        + ("; sd, seeds: of that difference from seed to seed within a draw" if many_seeds else "")
        + ". The last columns part the squared standard error: more draws shrink the one, more items the other."
    )
    return [Table(header, rows, caption, folded=len(rows) > _MANY)]


def _method(analysis: Analysis) -> str:
    k = sum(len(view.comparisons) for view in analysis.views)
    results, moments = analysis.results, analysis.views[0].moments
    if moments.covers == "none":
        factors = f"There are {len(results.draws)} draws, too few to speak of others: the intervals are t intervals over items."
    else:
        runs = "Draws" if moments.covers == "draws" else "Seeds"
        factors = (
            f"{runs} and items are crossed random factors. The variance of a difference is that of its means by "
            f"{runs.lower()[:-1]} plus what its item means add beyond the residual, by Obuchowski and Rockette (1995), with the "
            "degrees of freedom of Hillis (2007); a paired difference is linearised for the ratio of sums. With five of them "
            "these t intervals assume noise that is not strongly skewed."
        )
    margin = (
        f"within {analysis.rule.delta:g} {analysis.unit}, a margin set before the runs"
        if analysis.rule.share is None
        else f"within {analysis.rule.delta} of what {analysis.reference} gained from its smallest budget to its largest, each test "
        "carrying the error of that gain too; where the gain itself is not shown, nothing is called equivalent"
    )
    fitted = [view.curve.fitted for view in analysis.views if view.curve]
    curve = "a cubic in log N, fitted to their scores" if fitted and all(fitted) else "straight in log N between them"
    if any(fitted) and not all(fitted):
        curve = "a cubic in log N where their scores follow one, else straight between them"
    ladder = ", ".join(f"{b:,}" for b in results.budgets(analysis.reference))
    return (
        "The score is bits per byte: the bits that the model needs for the held-out responses, given their prompts, over "
        "their UTF-8 bytes, or the mean of that over groups where a set asks for it. " + factors + "\n\n"
        f"Better and worse are said where Holm's correction over all {k} comparisons leaves p at 0.05 or below; equivalent "
        f"where two one-sided tests, corrected alike, put the difference {margin}; in all other cases no difference was shown, "
        "which is not the same as none.\n\n"
        f"The worth m at N examples is such that {analysis.reference} with m N examples scores as the arm does with N. Its "
        f"curve over its budgets ({ladder}) is {curve}; the interval holds each m whose difference has an interval "
        "that holds zero (Fieller 1954). Beyond these budgets only a bound is given, and where the curve is not shown to get "
        "better from the first to the last, m is undefined.\n\n"
        "All of it speaks of this pool, this base model and rows like those held out."
    )


def _again(design: dict[str, Any]) -> list[Block]:
    versions = ", ".join(f"{name} {version}" for name, version in sorted(design["versions"].items()))
    commands = "tamis study RECIPE              # trains what is missing, then this page\ntamis analyse results.parquet   # the statistics alone"
    return [
        Text("The recipe beside the work holds every option; the numbers here come from results.parquet."),
        Code(commands),
        Text(f"Seed {design['seed']}. With {versions}."),
    ]


def _at(arm: str, budget: int | None) -> str:
    """As `compare` writes it: one column that stays in sight on a phone."""
    return f"{arm}@{budget}"


def _level(e: Estimate) -> str:
    return f"{e.value:.3f} [{e.low:.3f}, {e.high:.3f}]" if np.isfinite(e.low) else f"{e.value:.3f}"


def _signed(e: Estimate) -> str:
    text = say.signed(e) if np.isfinite(e.low) else f"{e.value:+.3f}"
    return text.replace("-", "−")


def _half(c: Comparison) -> str:
    half = float(c.difference.high - c.difference.value)
    return "unknown" if not np.isfinite(half) else f"±{half:.3f}{'*' if c.difference.p <= 0.05 else ''}"


def _verdict(c: Comparison) -> str:
    return c.verdict.replace(" ", "\u00a0")


def _p(p: float) -> str:
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def _count(n: int, noun: str) -> str:
    return f"{n:,} {noun}" + ("" if n == 1 else "s")


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def _named(choice: str | dict[str, Any]) -> str:
    """`full` or {"lora": {"rank": 8}} in words."""
    if isinstance(choice, str):
        return choice
    name, options = next(iter(choice.items()))
    inside = ", ".join(f"{key} {value}" for key, value in (options or {}).items() if value is not None)
    return f"{name} ({inside})" if inside else name
