"""One selection, held to its contract: whoever selects (a stage, a study's arms, `tamis.select`) calls this."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from curate.contract import methods
from curate.contract.errors import DataError, MethodError
from curate.contract.methods import Method
from curate.rows import constraints
from curate.rows.pool import Picks, Pool


def pick(
    method: Method,
    pool: Pool,
    budget: int | dict[str, Any],
    options: dict[str, Any],
    seed: int,
    folder: Path | None = None,
) -> Picks:
    """Calls a selector and holds it to its contract: the budget fits the pool, the rows are distinct and as many as asked (or
    as many as the tokens allow), every constraint is obeyed. options: the method's own and those of ``constraints.common``."""
    shared = [parameter.word for parameter in methods.signature("curate/rows/constraints.py", "common")]
    asked = {word: options[word] for word in shared if options.get(word) is not None}
    own = {word: value for word, value in options.items() if word not in shared}
    if "constraints" not in method.takes and (asked or isinstance(budget, dict)):
        what = next(iter(asked), "a budget of tokens")
        raise MethodError(
            f"select {method.name} takes no constraints, and was given {what}; its function needs an argument "
            "`constraints`, as those in curate/select have"
        )
    wanted = constraints.build(method.name, pool, budget, **asked, folder=folder)
    call = method.call_options(own, seed=seed, folder=folder, constraints=wanted)
    picks = method.function()(pool, wanted.budget, **call)
    if not isinstance(picks, Picks) or not all(isinstance(part, np.ndarray) for part in (picks.index, picks.gain)):
        raise DataError(
            f"select {method.name} gave {type(picks).__name__}, and should give tamis.Picks(index, gain) of two arrays; this "
            f"is a defect of {method.path}"
        )
    constraints.check(method.name, wanted, picks.index, method.path)
    if wanted.cost is not None or any(group.exact for group in wanted.groups):
        picks.facts["nested"] = False  # a smaller budget has other quotas, and room for other rows
    if wanted.cost is not None:
        picks.facts["tokens"] = int(wanted.cost[picks.index].sum())
    return picks
