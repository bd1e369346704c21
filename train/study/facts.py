"""What JSON can say of an analysis: the headline, the sentences, and a row an arm, budget and evaluation set."""

from __future__ import annotations

from typing import Any

import numpy as np

from train.study import say
from train.study.analysis import Analysis, Comparison, View
from train.study.caveats import caveats
from train.study.moments import Estimate


def facts(analysis: Analysis) -> dict[str, Any]:
    """headline, sentences (by evaluation set), answers, caveats, what the intervals cover, and `table`."""
    results = analysis.results
    return {
        "headline": analysis.headline,
        "sentences": {view.name: say.sentences(analysis, view) for view in analysis.views},
        "answers": [say.answer(analysis, c) for view in analysis.views for c in view.answers],
        "caveats": caveats(analysis),
        "covers": analysis.covers,
        "reference": analysis.reference,
        "delta": analysis.rule.delta,
        "unit": analysis.unit,
        "items": len(results.items),
        "draws": len(results.draws),
        "seeds": len(results.seeds),
        "margin": {view.name: view.margin for view in analysis.views},
        "gain": {
            view.name: _numbers_of("reference", view.curve.gain) | {"shown": view.curve.shown}
            for view in analysis.views
            if view.curve
        },
        "table": [row for view in analysis.views for row in _rows(analysis, view)],
        "effects": [
            {"view": view.name, "factor": e.factor, "level": e.level, "against": e.first, **_compared(e.comparison)}
            for view in analysis.views
            for e in view.effects
        ],
    }


def _rows(analysis: Analysis, view: View) -> list[dict[str, Any]]:
    compared = {(c.arm, c.budget): c for c in view.comparisons}
    gained = {(c.arm, c.budget): c for c in view.gains}
    worths = {(w.arm, w.budget): w for w in view.worths}
    rows = []
    for cell, level in view.levels.items():
        row: dict[str, Any] = {"view": view.name, "arm": cell[0], "budget": cell[1]}
        row |= _numbers_of("score", level)
        if c := compared.get(cell):
            row |= _compared(c)
        if c := gained.get(cell):
            row |= _numbers_of("against_untuned", c.difference)
            row |= {"untuned_p_holm": _number(c.p_holm), "untuned_verdict": c.verdict}
        if w := worths.get(cell):
            row |= {"worth": str(w), "m": _number(w.value), "m_low": _number(w.low), "m_high": _number(w.high)}
        rows.append(row)
    return rows


def _compared(c: Comparison) -> dict[str, Any]:
    p = {"p_holm": _number(c.p_holm), "p_equivalent": _number(c.p_equivalent), "verdict": c.verdict}
    return _numbers_of("difference", c.difference) | p


def _numbers_of(name: str, estimate: Estimate) -> dict[str, float | None]:
    return {name: _number(estimate.value), f"{name}_low": _number(estimate.low), f"{name}_high": _number(estimate.high)}


def _number(value: float | np.ndarray) -> float | None:
    return round(float(value), 4) if np.isfinite(value) else None
