"""What the data themselves say against the verdicts: unequal text, leaks, runs that diverged, draws that scatter to one side."""

from __future__ import annotations

import numpy as np

from train.study import say
from train.study.analysis import Analysis, Comparison, analyse_results
from train.study.moments import ENOUGH
from train.study.results import Results
from train.study.skew import skewed


def caveats(analysis: Analysis) -> list[str]:
    """One sentence each; empty where nothing is to be said."""
    found = [_few_draws(analysis), _unequal(analysis), _leaks(analysis), _diverged(analysis), _alike(analysis)]
    return [*(sentence for sentence in found if sentence), *skewed(analysis)]


def _few_draws(analysis: Analysis) -> str:
    results = analysis.results
    if analysis.views[0].moments.covers != "none":
        return ""
    return (
        f"There are {len(results.draws)} draws of {len(results.seeds)} seeds, fewer than {ENOUGH}: intervals cover other items "
        "alone, and nothing is claimed about other draws of the pool, or other seeds."
    )


def _unequal(analysis: Analysis) -> str:
    """Arms that learnt from more or less text than the reference at the same budget."""
    by_arm: dict[str, list[float]] = {}
    for c in analysis.views[0].comparisons:
        ratio = say.token_ratio(analysis, c)
        if ratio is not None and abs(ratio - 1) > say.UNEQUAL:
            by_arm.setdefault(c.arm, []).append(ratio)
    if not by_arm:
        return ""
    said = [
        f"{arm} {min(r):.2g}" + (f" to {max(r):.2g}" if f"{min(r):.2g}" != f"{max(r):.2g}" else "")
        for arm, r in by_arm.items()
    ]
    return (
        f"Arms did not learn from as much text: {', '.join(said)} times the supervised tokens of {analysis.reference} at the "
        "same number of examples. Scores may follow the length of a response as much as its choice; `equal: supervised_tokens` "
        "holds it equal."
    )


def _leaks(analysis: Analysis) -> str:
    results = analysis.results
    if results.leaked is None or not results.leaked.any():
        return ""
    names = [item for item, leaked in zip(results.items, results.leaked.tolist(), strict=True) if leaked]
    start = (
        f"{len(names)} of {len(results.items):,} evaluation items {'stands' if len(names) == 1 else 'stand'} in a subset that was "
        f"trained on ({', '.join(names[:5])}{', …' if len(names) > 5 else ''})"
    )
    if results.leaked.all():
        return f"{start}: all of them, so that nothing can be said without them."
    return f"{start}. {_without(analysis, results.only_items(~results.leaked), 'these items')}"


def _diverged(analysis: Analysis) -> str:
    results = analysis.results
    if results.diverged is None or not results.diverged.any():
        return ""
    where = [
        f"{results.cells[c][0]} at {results.cells[c][1]:,}, draw {results.draws[d]}"
        for c, d in dict.fromkeys((int(c), int(d)) for c, d, _ in np.argwhere(results.diverged))
    ]
    start = f"{len(where)} {'run' if len(where) == 1 else 'runs'} diverged ({'; '.join(where[:5])}{'; …' if len(where) > 5 else ''})"
    keep = np.flatnonzero(~results.diverged.any(axis=(0, 2))).tolist()
    if not keep:
        return f"{start}, one in every draw at least: no draw is left without them. They count as what they scored."
    without = _without(analysis, results.only_draws(keep), f"the {'draw' if len(where) == 1 else 'draws'} of these")
    return f"{start}. They count as what they scored. {without}"


def _without(analysis: Analysis, rest: Results, what: str) -> str:
    """How the verdicts change without some of the data."""
    empty = [name for name, groups in rest.sets.items() if all(group is None for group in groups)]
    if empty:
        return f"Without {what} nothing is left of {say.listed(empty)}."
    other = analyse_results(
        rest,
        reference=analysis.reference,
        delta=analysis.rule.delta,
        higher_is_better=analysis.rule.better > 0,
        population=analysis.population,
        tasks=analysis.tasks,
    )
    changed = [
        f"{_called(analysis, a)} {b.verdict} ({say.signed(b.difference)}) in place of {a.verdict} ({say.signed(a.difference)})"
        for old, new in zip(analysis.views, other.views, strict=True)
        for a, b in zip(old.comparisons, new.comparisons, strict=True)
        if a.verdict != b.verdict
    ]
    if not changed:
        return f"Without {what} every verdict is the same."
    return f"Without {what}: {'; '.join(changed)}; every other verdict is the same."


def _called(analysis: Analysis, c: Comparison) -> str:
    where = f" on {c.view}" if len(analysis.views) > 1 else ""
    return f"{c.arm} at {c.budget:,}{where}"


def _alike(analysis: Analysis) -> str:
    """Draws of one pool that share most of their rows."""
    results = analysis.results
    if results.overlap is None or analysis.population != "this pool" or analysis.views[0].moments.covers != "draws":
        return ""
    tuned = results.overlap[: len(results.tuned)]
    if tuned.max() <= 0.2:
        return ""
    arm, budget = results.tuned[int(tuned.argmax())]
    return (
        f"Intervals speak of other draws of this pool. Two draws share up to {100 * tuned.max():.0f} % of the rows that an arm "
        f"picked ({arm} at {budget:,}); for other pools like this one intervals are wider: `tamis analyse --pools`."
    )
