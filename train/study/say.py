"""The sentences of a study: the headline and what is said of each arm. The words follow from the verdicts alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from train.study.moments import ENOUGH, LEVEL, Estimate
from train.study.results import WHOLE

if TYPE_CHECKING:
    from train.study.analysis import Analysis, Comparison, View
    from train.study.worth import Worth

UNEQUAL = 0.10  # a share by which tokens may differ before a verdict is qualified


def headline(analysis: Analysis) -> str:
    """What the study found, in a sentence an evaluation set; where it asked questions, their answers."""
    if any(view.answers for view in analysis.views):
        parts = [answer(analysis, c) for view in analysis.views for c in view.answers]
    elif not any(view.comparisons for view in analysis.views):
        return f"Only {analysis.reference} was measured: there is nothing to compare it with."
    else:
        parts = [_of_view(analysis, view) for view in analysis.views]
    return " ".join([*parts, *hurt(analysis)])


def sentences(analysis: Analysis, view: View) -> list[str]:
    """One an arm, the best first."""
    arms = ranked(analysis, view)
    return [f"{arm}: {'; '.join(_groups(analysis, view, arm))}." for arm in arms]


def hurt(analysis: Analysis) -> list[str]:
    """Where tuning made the model worse than it was, or is not shown to have changed it."""
    said: dict[str, list[str]] = {}  # what is said of which evaluation sets
    for view in analysis.views:
        worse = [c for c in view.gains if c.verdict == "worse"]
        nothing = [c for c in view.gains if c.verdict in ("equivalent", "not shown")]
        if view.gains and len(worse) == len(view.gains):
            said.setdefault("tuning made the model worse in every arm", []).append(view.name)
        elif worse:
            said.setdefault(f"tuning made the model worse: {_cells(analysis, worse)}", []).append(view.name)
        if nothing:
            words = f"tuning is not shown to have changed the model: {_cells(analysis, nothing)}"
            said.setdefault(words, []).append(view.name)
    everywhere = len(analysis.views)
    return [_sentence(("" if len(v) == everywhere else f"on {listed(v)}, ") + words) for words, v in said.items()]


def answer(analysis: Analysis, c: Comparison) -> str:
    """The answer to a question that the study asked."""
    left, right = _name(c.arm, c.budget), _name(c.against, c.at)
    over = "" if c.budget is not None else " in the mean over their budgets"
    where = _where(analysis, c.view)
    if c.verdict in ("better", "worse"):
        said = (
            f"{qualified(analysis, c)}{left} was {c.verdict} than {right}{over} by {span(c.difference)} {analysis.unit}"
        )
    elif c.verdict == "equivalent":
        said = f"{left} was equivalent to {right}{over} within {margin(analysis, c.view)}"
    else:
        said = f"no difference between {left} and {right} was shown{over} ({signed(c.difference)})"
    return _sentence(f"{where}{said}{_here(analysis)}")


def margin(analysis: Analysis, view: str) -> str:
    """0.02 bits per byte (10 % of what random gained)."""
    value = next(v.margin for v in analysis.views if v.name == view)
    assert value is not None
    text = f"{value:.2g} {analysis.unit}"
    return (
        text
        if analysis.rule.share is None
        else f"{text} ({100 * analysis.rule.share:g} % of what {analysis.reference} gained)"
    )


def qualified(analysis: Analysis, c: Comparison) -> str:
    """What must be said before a verdict: that the arms did not learn from as much text. Empty where they did."""
    ratio = token_ratio(analysis, c)
    return "" if ratio is None or abs(ratio - 1) <= UNEQUAL else f"with {ratio:.2g} times the supervised tokens, "


def token_ratio(analysis: Analysis, c: Comparison) -> float | None:
    """Supervised tokens of the one over those of the other, in the mean over runs; None where they are not known."""
    results = analysis.results
    if results.targets is None or not c.budget or not c.at:
        return None
    own, other = (results.targets[results.cells.index(cell)].mean() for cell in ((c.arm, c.budget), (c.against, c.at)))
    return float(own / other)


def undefined(analysis: Analysis, view: View) -> str:
    """Why there is no m(N), where there is none."""
    return (
        f"m(N) is undefined{_in(analysis, view)}: more {analysis.reference} examples do not help here"
        if (view.curve is not None and not view.curve.shown)
        else ""
    )


def signed(d: Estimate, digits: int = 3) -> str:
    return f"{d.value:+.{digits}f} [{d.low:+.{digits}f}, {d.high:+.{digits}f}]"


def span(d: Estimate, digits: int = 3) -> str:
    """The size of a difference and its interval, whatever its sign: 0.119 [0.092, 0.146]."""
    low, high = (d.low, d.high) if d.value >= 0 else (-d.high, -d.low)
    return f"{abs(d.value):.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def listed(words: Sequence[str], last: str = "and") -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} {last} {words[-1]}"


# --- one evaluation set ----------------------------------------------------------------------------------------------


def _of_view(analysis: Analysis, view: View) -> str:
    """The headline of one evaluation set."""
    verdicts = {c.verdict for c in view.comparisons}
    where, here = _where(analysis, view.name), _here(analysis)
    budgets = f"{at(analysis, view.comparisons, 'or')} examples"
    worse = [arm for arm in sorted({c.arm for c in view.comparisons}) if _verdict(view, arm) == "worse"]
    if "better" in verdicts:
        said = _best(analysis, view) + here
        worse = [arm for arm in worse if arm != ranked(analysis, view)[0]]
    elif verdicts == {"equivalent"}:
        said = (
            f"every arm was equivalent to {analysis.reference} within {margin(analysis, view.name)} at {budgets}{here}"
        )
    else:
        said = f"no arm was shown to be better than {analysis.reference} at {budgets}{here}"
    if worse:
        said += f"; {listed(worse)} {'was' if len(worse) == 1 else 'were'} worse"
    if why := undefined(analysis, view):
        said += f"; {why}"
    return _sentence(where + said)


def _verdict(view: View, arm: str) -> str:
    """The verdict of most of an arm's budgets that have one."""
    own = [c.verdict for c in view.comparisons if c.arm == arm]
    return "worse" if own.count("worse") > own.count("better") else "better" if "better" in own else "none"


def ranked(analysis: Analysis, view: View) -> list[str]:
    """Arms with more better verdicts first, then by their mean difference, then by name."""
    score = {"better": -1, "worse": 1}

    def standing(arm: str) -> tuple[int, float, str]:
        own = [c for c in view.comparisons if c.arm == arm]
        gain = float(np.mean([analysis.rule.better * c.difference.value for c in own]))
        return sum(score.get(c.verdict, 0) for c in own), -gain, arm

    return sorted({c.arm for c in view.comparisons}, key=standing)


def _best(analysis: Analysis, view: View) -> str:
    """What the headline says of the arm that did best: its worth at the middle one of the budgets at which it was better."""
    arm = ranked(analysis, view)[0]
    own = [c for c in view.comparisons if c.arm == arm]
    better = [c for c in own if c.verdict == "better"]
    worths = {w.budget: w for w in view.worths if w.arm == arm and w.defined}
    told = [c for c in better if c.budget in worths]
    chosen = [c for c in told if worths[c.budget or 0].bounded] or told
    if chosen:
        c = chosen[(len(chosen) - 1) // 2]
        m = worths[c.budget or 0]
        start = (
            f"{qualified(analysis, c)}one example {_by(analysis, arm)} was worth {m} {analysis.reference} ones at "
            f"{c.budget:,} examples{_others([worths[o.budget or 0] for o in told if o is not c])}"
        )
    else:
        c = better[(len(better) - 1) // 2]
        more = f", and at {at(analysis, [o for o in better if o is not c])} as well" if len(better) > 1 else ""
        start = (
            f"{qualified(analysis, c)}examples {_by(analysis, arm)} were better than {analysis.reference} ones by "
            f"{span(c.difference)} {analysis.unit} at {c.budget:,} examples{more}"
        )
    rest = []
    for verdict, words in (
        ("equivalent", "it was equivalent"),
        ("worse", "it was worse"),
        ("not shown", "no difference was shown"),
    ):
        if group := [c for c in own if c.verdict == verdict]:
            rest.append(f"at {at(analysis, group)} {words}")
    return "; ".join([start, *rest])


def _others(worths: list[Worth]) -> str:
    """(2.90 at 32, 6.40 at 128)"""
    said = [f"{str(w).split(' ')[0]} at {w.budget:,}" for w in worths]
    return f" ({', '.join(said)})" if said else ""


def _groups(analysis: Analysis, view: View, arm: str) -> list[str]:
    """What is said of one arm, its budgets taken together that have one verdict."""
    own = [c for c in view.comparisons if c.arm == arm]
    worths = {w.budget: w for w in view.worths if w.arm == arm and w.defined}
    out = []
    for verdict in ("better", "worse", "equivalent", "not shown"):
        group = [c for c in own if c.verdict == verdict]
        if not group:
            continue
        where = f"at {at(analysis, group)} examples"
        if verdict == "equivalent":
            out.append(f"equivalent to {analysis.reference} {where}, within {margin(analysis, view.name)}")
        elif verdict == "not shown":
            out.append(f"no difference from {analysis.reference} was shown {where} ({_differences(group, signed)})")
        else:
            small = ", though by less than delta" if all(c.p_equivalent <= 1 - LEVEL for c in group) else ""
            before = qualified(analysis, group[len(group) // 2])
            m = _worths([worths[c.budget] for c in group if c.budget in worths])
            worth = f", an example worth {m} {analysis.reference} ones" if m else ""
            out.append(
                f"{before}{verdict} than {analysis.reference} {where}, by {_differences(group, span)} {analysis.unit}{small}{worth}"
            )
    return out


def _differences(group: list[Comparison], form: Callable[[Estimate], str]) -> str:
    """One with its interval, or the least and the largest of several."""
    if len(group) == 1:
        return form(group[0].difference)
    values = sorted((c.difference for c in group), key=lambda d: float(d.value if form is signed else abs(d.value)))
    low, high = (form(d).split(" ")[0] for d in (values[0], values[-1]))
    return low if low == high else f"{low} to {high}"


def _worths(worths: list[Worth]) -> str:
    """One with its interval, or the range of several: 0.27 to 0.31."""
    if len(worths) < 2:
        return "".join(map(str, worths))
    inside = sorted(w.value for w in worths if w.least < w.value < w.most)
    bounds = [str(w).split(" ")[0] for w in worths if not w.least < w.value < w.most]
    low, high = (f"{value:.2f}" for value in (inside[0], inside[-1])) if inside else ("", "")
    between = [low if low == high else f"{low} to {high}"] if inside else []
    return listed([*between, *dict.fromkeys(bounds)])


def at(analysis: Analysis, group: list[Comparison], last: str = "and") -> str:
    """The budgets of comparisons; three and more that follow one another on the ladder as a range: 16 to 128 and 512."""
    ladder = sorted({c.budget for view in analysis.views for c in view.comparisons if c.budget})
    ladder = sorted({*ladder, *(c.budget for c in group if c.budget)})
    runs: list[list[int]] = []
    for place in sorted({ladder.index(c.budget) for c in group if c.budget}):
        if runs and runs[-1][-1] == place - 1:
            runs[-1].append(place)
        else:
            runs.append([place])
    words = []
    for run in runs:
        ends = [f"{ladder[place]:,}" for place in run]
        words += [f"{ends[0]} to {ends[-1]}"] if len(run) > 2 else ends
    return listed(words, last)


def _by(analysis: Analysis, arm: str) -> str:
    plain = all(set(levels) <= {"arm"} for levels in analysis.results.levels)
    return f"{'chosen by' if plain else 'of'} {arm}"


def _name(arm: str, budget: int | None) -> str:
    return arm if not budget else f"{arm} with {budget:,} examples"


def _cells(analysis: Analysis, found: list[Comparison]) -> str:
    """random at 16 and 32, fl at 16 examples"""
    arms = dict.fromkeys(c.arm for c in found)
    return ", ".join(f"{arm} at {at(analysis, [c for c in found if c.arm == arm])}" for arm in arms) + " examples"


def _in(analysis: Analysis, view: View) -> str:
    return "" if len(analysis.views) == 1 else f" for {view.name}"


def _where(analysis: Analysis, name: str) -> str:
    return "" if len(analysis.views) == 1 and name == WHOLE else f"on {name}, "


def _here(analysis: Analysis) -> str:
    covers = analysis.views[0].moments.covers
    return " on these draws" if covers == "none" and len(analysis.results.draws) < ENOUGH else ""


def _sentence(words: str) -> str:
    """With a capital, unless it begins with a name, and a full stop."""
    first = words.split(" ", 1)[0]
    named = not first.isalpha() or first not in ("no", "one", "on", "every", "with", "examples", "tuning", "at")
    return (words if named else words[0].upper() + words[1:]) + "."
