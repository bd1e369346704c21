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
    if analysis.views[0].answers:
        parts = [answer(analysis, c) for view in analysis.views for c in view.answers]
    elif not analysis.views[0].comparisons:
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
    out = []
    for view in analysis.views:
        worse = [c for c in view.gains if c.verdict == "worse"]
        nothing = [c for c in view.gains if c.verdict in ("equivalent", "not shown")]
        if view.gains and len(worse) == len(view.gains):
            out.append(_sentence(f"{_where(analysis, view.name)}tuning made the model worse in every arm"))
        elif worse:
            out.append(_sentence(f"{_where(analysis, view.name)}tuning made the model worse: {_cells(worse)}"))
        if nothing:
            out.append(
                _sentence(
                    f"{_where(analysis, view.name)}tuning is not shown to have changed the model: {_cells(nothing)}"
                )
            )
    return out


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
    budgets = f"{listed([f'{b:,}' for b in sorted({c.budget or 0 for c in view.comparisons})], 'or')} examples"
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
        more = f", and at {listed([f'{o.budget:,}' for o in better if o is not c])} as well" if len(better) > 1 else ""
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
        if at := [f"{c.budget:,}" for c in own if c.verdict == verdict]:
            rest.append(f"at {listed(at)} {words}")
    return "; ".join([start, *rest])


def _others(worths: list[Worth]) -> str:
    """(2.90 at 32, 6.40 at 128)"""
    said = [f"{str(w).split(' ')[0]} at {w.budget:,}" for w in worths]
    return f" ({', '.join(said)})" if said else ""


def _groups(analysis: Analysis, view: View, arm: str) -> list[str]:
    """What is said of one arm, its budgets taken together that have one verdict."""
    own = [c for c in view.comparisons if c.arm == arm]
    worths = {w.budget: w for w in view.worths if w.arm == arm}
    out = []
    for verdict in ("better", "worse", "equivalent", "not shown"):
        group = [c for c in own if c.verdict == verdict]
        if not group:
            continue
        at = f"at {listed([f'{c.budget:,}' for c in group])} examples"
        if verdict == "equivalent":
            out.append(f"{at} equivalent to {analysis.reference} within {margin(analysis, view.name)}")
        elif verdict == "not shown":
            out.append(f"{at} no difference from {analysis.reference} was shown ({_spans(group, signed)})")
        else:
            small = ", though by less than delta" if all(c.p_equivalent <= 1 - LEVEL for c in group) else ""
            m = [str(worths[c.budget]) for c in group if c.budget in worths and worths[c.budget].defined]
            worth = f", an example worth {', '.join(m)} {analysis.reference} ones" if m else ""
            before = qualified(analysis, group[len(group) // 2])
            out.append(
                f"{at} {before}{verdict} than {analysis.reference} by {_spans(group, span)} {analysis.unit}{small}{worth}"
            )
    return out


def _spans(group: list[Comparison], form: Callable[[Estimate], str]) -> str:
    return ", ".join(form(c.difference) for c in group)


def _by(analysis: Analysis, arm: str) -> str:
    plain = all(set(levels) <= {"arm"} for levels in analysis.results.levels)
    return f"{'chosen by' if plain else 'of'} {arm}"


def _name(arm: str, budget: int | None) -> str:
    return arm if not budget else f"{arm} with {budget:,} examples"


def _cells(found: list[Comparison]) -> str:
    """random at 16 and 32, fl at 16 examples"""
    arms: dict[str, list[str]] = {}
    for c in found:
        arms.setdefault(c.arm, []).append(f"{c.budget:,}")
    return ", ".join(f"{arm} at {listed(budgets)}" for arm, budgets in arms.items()) + " examples"


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
