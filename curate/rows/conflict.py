"""Why no selection obeys everything that was asked: the smallest set of what was asked that no selection obeys."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np

from curate.contract.errors import DataError
from curate.rows.completion import Cells, cells_of, fullest
from curate.rows.groups import Group

_SHOWN = 5  # values of a column in a sentence


def check_together(
    method: str, groups: Sequence[Group], opened: np.ndarray, must: np.ndarray, must_not: np.ndarray, budget: int
) -> None:
    """Raises DataError where no selection of ``budget`` rows obeys all limits. Each limit by itself can be obeyed, as
    ``curate.rows.groups.check_fits`` has seen. opened, must, must_not: bool (n,)."""
    if len(groups) < 2 or _reach(groups, opened, must, budget) == budget:
        return
    asked: list[Group | str] = list(groups)
    asked += ["must_have"] * bool(must.any()) + ["must_not_have"] * bool(must_not.any())
    for some in _smallest_first(asked):
        limits = [one for one in some if isinstance(one, Group)]
        free = opened if "must_not_have" in some else opened | must_not
        forced = must if "must_have" in some else np.zeros_like(must)
        if (reach := _reach(limits, free, forced, budget)) < budget:
            words = [one if isinstance(one, str) else one.said for one in some]
            detail = (
                _cut(limits, free, budget) if len(limits) == len(some) == 2 else f"at most {reach:,} rows can be had"
            )
            raise DataError(
                f"select {method}: no selection of {budget:,} rows obeys {', '.join(words[:-1])} and {words[-1]} together: "
                f"{detail}; {_mended(limits)}"
            )


def _smallest_first(asked: list[Group | str]) -> Iterator[tuple[Group | str, ...]]:
    for size in range(2, len(asked) + 1):
        yield from combinations(asked, size)


def _reach(groups: Sequence[Group], opened: np.ndarray, must: np.ndarray, budget: int) -> int:
    """How many rows a largest selection within the limits holds, but at most ``budget``."""
    cells = cells_of(groups, opened, budget)
    return int(fullest(cells, cells.count(np.flatnonzero(must)), budget).sum())


def _cut(groups: list[Group], opened: np.ndarray, budget: int) -> str:
    """Which values of the first column need more rows than the second lets them have: a smallest cut of the flow between
    both (Ford and Fulkerson 1956)."""
    cells = cells_of(groups, opened, budget)
    takes = fullest(cells, np.zeros_like(cells.size), budget)
    mine, others = _reached(cells, takes)
    here, there = cells.code.T
    need = budget - int(cells.limits[0][~mine].sum())
    by_limit = int(cells.limits[1][others].sum())
    elsewhere = int(cells.size[mine[here] & ~others[there]].sum())
    parts = [f"{by_limit:,} by {groups[1].option} of {_named(groups[1], others, there)}"] if others.any() else []
    parts += [f"{elsewhere:,} of other {groups[1].column}"] if elsewhere else []
    can = f"{by_limit + elsewhere:,} can" + (f" ({' and '.join(parts)})" if parts else "")
    return f"{need:,} rows must come from {_named(groups[0], mine, here)}, and {can}"


def _reached(cells: Cells, takes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which values of both columns could change hands with a value of the first that is not full: bool (values,) each."""
    here, there = cells.code.T
    mine, others = cells.left(takes)[0] > 0, np.zeros(len(cells.limits[1]), bool)
    while True:
        before = int(mine.sum()) + int(others.sum())
        others[there[mine[here] & (takes < cells.size)]] = True
        mine[here[others[there] & (takes > 0)]] = True
        if int(mine.sum()) + int(others.sum()) == before:
            return mine, others


def _named(group: Group, values: np.ndarray, there: np.ndarray) -> str:
    """A column and those of ``values``, bool, that the pool has."""
    names = [(*group.names, "no value")[value] for value in np.intersect1d(np.flatnonzero(values), there)]
    return f"{group.column} {', '.join(names[:_SHOWN])}{' …' if len(names) > _SHOWN else ''}"


def _mended(groups: list[Group]) -> str:
    ways = [
        way for option, way in (("quotas", "lower the quotas"), ("at_most", "raise at_most")) if _asks(groups, option)
    ]
    return ", ".join([*ways, "lower the budget"]) + ", or filter less"


def _asks(groups: list[Group], option: str) -> bool:
    return any(group.option == option for group in groups)
