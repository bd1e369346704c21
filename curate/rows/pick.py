"""One selection, held to its contract: whoever selects (a stage, a study's arms, `tamis.select`) calls this."""

from __future__ import annotations

from dataclasses import replace
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from pathlib import Path
from typing import Any

import numpy as np

from curate.contract import methods
from curate.contract.errors import DataError, MethodError
from curate.contract.methods import Method
from curate.contract.threads import one_thread
from curate.rows import constraints
from curate.rows.pool import Picks, Pool

_DIGITS = 6  # of gains and facts: what float32 surely holds; the rest is how it was added up
_TOWARDS = {  # they stay true
    "upper_bound": ROUND_CEILING,
    "ratio": ROUND_FLOOR,
    "radius": ROUND_CEILING,
    "radius_at_least": ROUND_FLOOR,
}


def pick(
    method: Method,
    pool: Pool,
    budget: int | dict[str, Any],
    options: dict[str, Any],
    seed: int,
    folder: Path | None = None,
) -> Picks:
    """Calls a selector and holds it to its contract: the budget fits the pool, the rows are distinct and as many as asked (or
    as many as the tokens allow), every constraint is obeyed. options: the method's own and those of ``constraints.common``.

    Gains and facts are rounded to six digits, bounds to the side on which they hold; whole numbers stay. The matrix library has
    one thread, so that the bytes are the same on any number; ``curate.vectors.product`` takes the others."""
    shared = [parameter.word for parameter in methods.signature("curate/rows/constraints.py", "common")]
    asked = {word: options[word] for word in shared if options.get(word) is not None}
    own = {word: value for word, value in options.items() if word not in shared}
    if "constraints" not in method.takes and (asked or isinstance(budget, dict)):
        what = next(iter(asked), "a budget of tokens")
        raise MethodError(
            f"select {method.name} takes no constraints, and was given {what}; its function needs an argument "
            "`constraints`, as those in curate/select have"
        )
    closes = method.beside("closed")  # a selector may say which rows it never picks
    closed = None if closes is None else closes(pool, **own)
    wanted = constraints.build(method.name, pool, budget, **asked, closed=closed, folder=folder)
    call = method.call_options(own, seed=seed, folder=folder, constraints=wanted)
    with one_thread():
        picks = method.function()(pool, wanted.budget, **call)
    if not isinstance(picks, Picks) or not all(isinstance(part, np.ndarray) for part in (picks.index, picks.gain)):
        raise DataError(
            f"select {method.name} gave {type(picks).__name__}, and should give tamis.Picks(index, gain) of two arrays; this "
            f"is a defect of {method.path}"
        )
    constraints.check(method.name, wanted, picks.index, method.path)
    if wanted.cost is not None or wanted.refused or any(group.exact for group in wanted.groups):
        picks.facts["nested"] = False  # a smaller budget has other quotas, and room for other rows
    if wanted.cost is not None:
        picks.facts["tokens"] = int(wanted.cost[picks.index].sum())
    return replace(picks, gain=_sure(picks.gain), facts=_rounded(picks.facts))


def _sure(gain: np.ndarray) -> np.ndarray:
    return np.array([_digits(one) for one in gain.tolist()], gain.dtype)


def _rounded(facts: dict[str, Any]) -> dict[str, Any]:
    rounded = {}
    for name, value in facts.items():
        if isinstance(value, dict):
            rounded[name] = _rounded(value)
        else:
            rounded[name] = _digits(value, _TOWARDS.get(name)) if isinstance(value, float) else value
    return rounded


def _digits(value: float, towards: str | None = None) -> float:
    """The number with so many significant digits."""
    if not np.isfinite(value) or value == round(value):
        return value
    if towards is None:
        return float(f"{value:.{_DIGITS}g}")
    decimal = Decimal(f"{value:.12g}")  # 0.3 is 0.3, and not a little less, which would be rounded down
    return float(decimal.quantize(Decimal(1).scaleb(decimal.adjusted() + 1 - _DIGITS), towards))
