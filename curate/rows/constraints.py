"""What a selection must obey, whichever selector makes it: a budget, quotas, caps, rows that must or must not be in, a score.

    - select:
        facility_location:
          budget: 1000                                  # rows; or {tokens: 200000, tokenizer: words}
          quotas: {source: {alpaca: 300, dolly: 700}}   # rows; or shares below 1; or `proportional`, or `equal`
          at_most: {cluster: 5}                         # rows a value of the column
          must_have: [row-1, row-7]                     # ids; or columns and values, as {source: lima}
          must_not_have: {license: [unknown]}
          quality: {score_ifd: 0.3}                     # column: weight between 0 and 1

A quota is exact: the named groups get their rows, and all others together what remains of the budget, also where shares make
less than 1; with `proportional` and `equal` rows without a value (null, or cluster -1, which is noise) are a group too. A cap
does not touch them. Where limits on several columns cross, whether any selection obeys them all is decided beforehand, and a
row is picked only while what is left can complete the selection (curate/rows/completion.py). With quality, a greedy selector adds at each step the row with the largest (1 - weight) times gain, as a share of the largest first gain or of the most that a gain
can be, plus weight times score, scaled to lie between 0 and 1 over the pool; so both terms stand on one scale. A selector that
goes by a ranking takes the rows of its ranking that the constraints still let in; that is the greedy choice of its own objective.

Reference: greedy under a partition of the rows reaches at least half of the best value (Fisher, Nemhauser and Wolsey 1978);
under a budget of tokens the better of two greedy runs, one by gain and one by gain a token, reaches at least 31 % (Leskovec
et al. 2007, "Cost-effective Outbreak Detection in Networks", theorem 2).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from curate.contract import columns
from curate.contract.errors import ContractError, DataError, MethodError
from curate.contract.methods import nearest
from curate.contract.progress import say
from curate.rows import groups
from curate.rows.completion import Completion, cells_of, fullest
from curate.rows.conflict import check_together
from curate.rows.groups import Group
from curate.rows.pool import Pool


@dataclass(frozen=True)
class Constraints:
    """What is asked of one selection, row i of each array for row i of the pool.

    budget: rows at most. open: bool (n,), which may be picked. must: int64 (m,), those that are picked first. cost: float64
    (n,), tokens of each row, with tokens, how many there may be in all. quality: float64 (n,) between 0 and 1, and its weight.
    refused: filled while rows are picked, one entry for each refusal of a row because the selection could not have been
    completed with it; one list for all that ``ordered`` gives.
    """

    budget: int
    open: np.ndarray
    must: np.ndarray
    groups: tuple[Group, ...] = ()
    cost: np.ndarray | None = None
    tokens: int = 0
    quality: np.ndarray | None = None
    weight: float = 0.0
    refused: list[int] = field(default_factory=list)

    @staticmethod
    def none(rows: int, budget: int) -> Constraints:
        """Nothing but a budget of rows."""
        return Constraints(budget, np.ones(rows, bool), np.empty(0, np.int64))

    def ordered(self, order: np.ndarray) -> Constraints:
        """The same for the rows at ``order``, int64 (m,): all of them in another order, or some of them."""
        at = np.full(len(self.open), -1, np.int64)
        at[order] = np.arange(len(order))
        must = at[self.must]
        return replace(
            self,
            budget=min(self.budget, len(order)),
            open=self.open[order],
            must=np.sort(must[must >= 0]),
            groups=tuple(replace(group, code=group.code[order]) for group in self.groups),
            cost=None if self.cost is None else self.cost[order],
            quality=None if self.quality is None else self.quality[order],
        )

    @property
    def plain(self) -> bool:
        """Whether there is nothing but a budget of rows."""
        return not self.groups and self.cost is None and not len(self.must) and bool(self.open.all())

    def begin(self) -> Remaining:
        return Remaining(self)

    def whole(self) -> np.ndarray:
        """The rows of some selection that obeys, whatever it is worth: int64. Empty where any rows will do: without groups, and
        with a budget of tokens."""
        if not self.groups or self.cost is not None:
            return np.empty(0, np.int64)
        cells = cells_of(self.groups, self.open, self.budget)
        takes = fullest(cells, cells.count(self.must), self.budget)
        rows, must = np.flatnonzero(self.open), np.zeros(len(self.open), bool)
        must[self.must] = True
        rows = rows[np.lexsort((~must[rows], cells.of_row[rows]))]
        cell = cells.of_row[rows]
        place = np.arange(len(rows)) - np.searchsorted(cell, cell)
        return np.sort(rows[place < takes[cell]])

    def walk(self, ranking: np.ndarray) -> np.ndarray:
        """The rows that a ranking, int64 (n,), gives: int64 (k,). Rows that must be in come first, in its order."""
        self.refuse_quality()
        if self.plain:
            return ranking[: self.budget]
        remaining, index = self.begin(), []
        rows: Iterable[int] = ranking.tolist()
        if len(self.must):
            rows = [*ranking[np.isin(ranking, self.must)].tolist(), *ranking[~np.isin(ranking, self.must)].tolist()]
        for row in rows:
            if not remaining.rows:
                break
            if remaining.take(row):
                index.append(row)
        return np.array(index, dtype=np.int64)

    def refuse_quality(self) -> None:
        """For a selector that does not go by gains."""
        if self.quality is not None:
            raise MethodError(
                "select: this selector goes by a ranking, in which `quality` has no weight; use it with a greedy one "
                "(facility_location, k_center, dpp …), or take top_score or car"
            )

    def combined(self, gain: np.ndarray, scale: float, rows: np.ndarray | slice = slice(None)) -> np.ndarray:
        """Gains of ``rows`` with the score, where there is one, each on a scale of 0 to 1."""
        if self.quality is None:
            return gain
        if self.weight == 1:  # a gain that is not known yet is infinite, and none of it should count
            return self.quality[rows]
        return (1 - self.weight) / scale * gain + self.weight * self.quality[rows]


class Remaining:
    """Which rows may still be picked while picks are made. open: bool (n,); where limits on several columns cross, ``take`` may
    still refuse one of these. rows: how many more there may be at most."""

    def __init__(self, constraints: Constraints):
        self.open = constraints.open.copy()
        self.rows = constraints.budget
        self._groups = [
            (group.code, group.limit.copy(), *_members(group.code, len(group.limit))) for group in constraints.groups
        ]
        for code, limit, *_ in self._groups:
            self.open &= np.append(limit > 0, True)[code]
        self._completion, self._refused = _completion(constraints), constraints.refused
        self._cost, self._tokens = constraints.cost, float(constraints.tokens)
        if self._cost is not None:
            self._dearest = np.argsort(-self._cost, kind="stable")  # rows that no longer fit stand at its front
            self._at = 0
            self._close_dear()

    def take(self, row: int) -> bool:
        """Picks ``row`` and gives True, or False where it may not be picked, now or ever."""
        if not self.open[row]:
            return False
        if self._completion is not None:
            if not self._completion.allows(row):
                self.open[self._completion.rows_like(row)] = False
                self._refused.append(row)
                return False
            self._completion.take(row)
        self.open[row] = False
        self.rows -= 1
        if self.rows == 0:
            self.open[:] = False
        for code, limit, members, start in self._groups:
            group = code[row]
            if group >= 0:
                limit[group] -= 1
                if limit[group] == 0:
                    self.open[members[start[group] : start[group + 1]]] = False
        if self._cost is not None:
            self._tokens -= self._cost[row]
            self._close_dear()
        return True

    def _close_dear(self) -> None:
        assert self._cost is not None
        while self._at < len(self._dearest) and self._cost[self._dearest[self._at]] > self._tokens:
            self.open[self._dearest[self._at]] = False
            self._at += 1


def _completion(constraints: Constraints) -> Completion | None:
    """What holds picks to limits on several columns that cross; None where no two do, or where these rows cannot meet them
    (a part of a pool)."""
    size = [np.bincount(g.code[constraints.open & (g.code >= 0)], minlength=len(g.limit)) for g in constraints.groups]
    crossing = [group for group, rows in zip(constraints.groups, size, strict=True) if (rows > group.limit).any()]
    if constraints.cost is not None or len(crossing) < 2:
        return None
    cells = cells_of(crossing, constraints.open, constraints.budget)
    completion = Completion(cells, constraints.must, constraints.budget)
    return completion if completion.possible else None


def _members(code: np.ndarray, groups: int) -> tuple[np.ndarray, np.ndarray]:
    """(rows of all groups one after another, where each group begins)."""
    members = np.argsort(code, kind="stable")
    return members, np.searchsorted(code[members], np.arange(groups + 1))


# --- from a recipe ---------------------------------------------------------------------------------------------------


def common(
    *,
    quotas: dict | None = None,
    at_most: dict[str, int] | None = None,
    must_have: list | dict | None = None,
    must_not_have: list | dict | None = None,
    quality: dict[str, float] | None = None,
) -> dict[str, Any]:
    """The options that every selector takes beside its own. Checks what can be checked without a pool.

    quotas: how many rows each value of a column gives, as {source: {alpaca: 300}}, in rows, in shares below 1, or
    `proportional` or `equal`. at_most: how many rows of each value of a column there may be, as {cluster: 5}. must_have: rows
    that are picked first, by id or as {column: value}. must_not_have: rows that are never picked, likewise. quality: a
    column of numbers and its weight from 0 to 1 beside a greedy selector's own gain, as {score_ifd: 0.3}.
    """
    for column, share in (quotas or {}).items():
        if isinstance(share, str) and share not in ("proportional", "equal"):
            raise MethodError(
                f"select: quotas of {column} are '{share}'; they are a mapping of values to rows or shares, or one of the "
                f"words proportional, equal{nearest(share, ('proportional', 'equal'))}"
            )
        if isinstance(share, dict):
            _check_shares(column, share)
        elif not isinstance(share, str):
            raise MethodError(f"select: quotas of {column} are {share!r}; write them as {{{column}: {{value: rows}}}}")
    for column, rows in (at_most or {}).items():
        if rows < 1:
            raise MethodError(f"select: at_most of {column} is {rows}; it is a number of rows, 1 or more")
    if quality is not None and len(quality) != 1:
        raise MethodError("select: quality names one column and its weight, as in {score_ifd: 0.3}")
    for column, weight in (quality or {}).items():
        if not 0 <= weight <= 1:
            raise MethodError(f"select: the weight of {column} is {weight}; it lies between 0 and 1")
    return {
        "quotas": quotas,
        "at_most": at_most,
        "must_have": must_have,
        "must_not_have": must_not_have,
        "quality": quality,
    }


def _check_shares(column: str, share: dict[Any, Any]) -> None:
    numbers = [value for value in share.values() if isinstance(value, int | float) and not isinstance(value, bool)]
    if len(numbers) < len(share) or not all(0 <= value < np.inf for value in numbers):
        raise MethodError(f"select: a quota of {column} is no number of 0 or more; the quotas are {share}")
    if any(isinstance(value, float) for value in numbers) and (max(numbers) > 1 or sum(numbers) > 1 + 1e-9):
        raise MethodError(
            f"select: quotas of {column} are shares, and should lie between 0 and 1 and make at most 1 together; they "
            f"make {sum(numbers):g}"
        )


def budget_problem(budget: Any) -> str | None:
    """What is wrong with a budget as a recipe writes it, or None."""
    if isinstance(budget, dict):
        wrong = [key for key in budget if key not in ("tokens", "tokenizer")]
        tokens, tokenizer = budget.get("tokens"), budget.get("tokenizer", "words")
        whole = isinstance(tokens, int) and not isinstance(tokens, bool) and tokens >= 0
        if wrong or not whole or not isinstance(tokenizer, str):
            return f"a budget of tokens is written {{tokens: 200000, tokenizer: words}}, and here it is {budget}"
        return None
    if not isinstance(budget, int) or isinstance(budget, bool) or budget < 0:
        return f"a budget is a number of rows, 0 or more, or {{tokens: 200000}}, and here it is {budget!r}"
    return None


def build(
    method: str,
    pool: Pool,
    budget: int | dict[str, Any],
    *,
    quotas: dict[str, Any] | None = None,
    at_most: dict[str, int] | None = None,
    must_have: list[str] | dict[str, Any] | None = None,
    must_not_have: list[str] | dict[str, Any] | None = None,
    quality: dict[str, float] | None = None,
    closed: np.ndarray | None = None,
    folder: Path | None = None,
) -> Constraints:
    """Binds options to a pool. Raises MethodError for a wrong option, DataError where no selection could obey, and says why.

    budget: rows, or {"tokens": int, "tokenizer": str}, counted over messages' text: prompt and response. closed: bool (n,),
    rows that the method itself never picks.
    """
    problem = budget_problem(budget)
    if problem:
        raise MethodError(f"select {method}: {problem}")
    common(quotas=quotas, at_most=at_most, must_have=must_have, must_not_have=must_not_have, quality=quality)
    must_not = _named(method, pool, must_not_have, "must_not_have")
    if must_not_have and not must_not.any():
        say(f"  select {method}: must_not_have names {must_not_have}, and no row of this pool is so")
    must = _named(method, pool, must_have, "must_have")
    closed = np.zeros(len(pool), bool) if closed is None else closed
    for never, where in ((must_not, "in must_not_have"), (closed, "of the target")):
        if (must & never).any():
            row = pool.ids[int(np.flatnonzero(must & never)[0])]
            raise DataError(f"select {method}: row {row} is in must_have and {where}; take it out of one")
    opened = ~must_not & ~closed
    if isinstance(budget, dict):
        cost = _tokens_of(method, pool, budget, folder)
        tokens, budget = int(budget["tokens"]), int(opened.sum())
    else:
        cost, tokens = None, 0
    out = [word for word, rows in (("must_not_have", must_not), ("the target", closed)) if rows.any()]
    _enough(method, budget, cost, tokens, opened, must, " and ".join(out))
    bounds = [
        groups.quota(method, pool, column, share, budget, opened, cost is not None)
        for column, share in (quotas or {}).items()
    ]
    bounds += [groups.cap(method, pool, column, most) for column, most in (at_most or {}).items()]
    for group in bounds:
        groups.check_fits(method, group, opened, must, budget, cost is not None)
    if cost is None:
        check_together(method, bounds, opened, must, must_not, budget)
    score, weight = None, 0.0
    for column, share in (quality or {}).items():
        score, weight = _scaled(method, pool, column), float(share)
    return Constraints(budget, opened, np.flatnonzero(must), tuple(bounds), cost, tokens, score, weight)


def _tokens_of(method: str, pool: Pool, budget: dict[str, Any], folder: Path | None) -> np.ndarray:
    """What each row costs of a budget of tokens: float64 (n,), 1 or more."""
    from curate.rows import token_counts

    parts = [c for c in (columns.PROMPT, columns.RESPONSE) if c in pool.table.columns]
    counts = [token_counts.count(pool.table[c], budget.get("tokenizer", "words"), folder) for c in parts]
    if not counts:
        raise ContractError(f"select {method}: a budget of tokens needs the column `prompt` or `response`")
    return np.maximum(np.sum(counts, axis=0), 1).astype(np.float64)


def _enough(
    method: str, budget: int, cost: np.ndarray | None, tokens: int, opened: np.ndarray, must: np.ndarray, out: str
) -> None:
    """Whether the pool has the rows for a budget, and the budget has room for the rows of must_have. out: what closes rows."""
    if cost is not None:
        if cost[must].sum() > tokens:
            raise DataError(
                f"select {method}: the rows of must_have hold {int(cost[must].sum()):,} tokens, more than the {tokens:,} asked"
            )
        return
    rows, left = len(opened), int(opened.sum())
    if budget > left:
        less = f", {left:,} of which are left by {out}" if left < rows else ""
        raise DataError(
            f"select {method}: the budget of {budget:,} is larger than the pool of {rows:,} rows{less}; "
            f"ask for at most {left:,}, or filter less"
        )
    if must.sum() > budget:
        raise DataError(
            f"select {method}: must_have names {int(must.sum()):,} rows, more than the budget of {budget:,}"
        )


def _named(method: str, pool: Pool, named: list[str] | dict[str, Any] | None, option: str) -> np.ndarray:
    """bool (n,): the rows that a list of ids, or a mapping of columns to values, names."""
    if not named:
        return np.zeros(len(pool), bool)
    if isinstance(named, dict):
        mask = np.ones(len(pool), bool)
        for column, value in named.items():
            values, labels = value if isinstance(value, list) else [value], pool.labels(column, f"select {method}")
            wanted = [str(one).lower() if isinstance(one, bool) else str(one) for one in values if one is not None]
            so = labels.is_in(wanted).fill_null(False) | (labels.is_null() if None in values else False)
            mask &= so.to_numpy()
        if option == "must_have" and not mask.any():
            raise DataError(f"select {method}: must_have names {named}, and no row of this pool is so; mend the values")
        return mask
    wanted = pl.Series([str(value) for value in named])
    ids = pool.table[columns.ID]
    missing = wanted.filter(~wanted.is_in(ids.implode()))
    if len(missing) and option == "must_have":
        raise DataError(
            f"select {method}: must_have names {missing[0]!r}, which is no row of this pool ({len(missing):,} of "
            f"{len(wanted):,} are missing); an earlier step may have removed it: `tamis show WORK --id {missing[0]}`"
        )
    return ids.is_in(wanted.implode()).to_numpy()


def _scaled(method: str, pool: Pool, column: str) -> np.ndarray:
    """A column as numbers between 0 and 1 over the pool: float64 (n,)."""
    values = numbers(method, pool, column)
    low, high = values.min(initial=np.inf), values.max(initial=-np.inf)
    return (values - low) / (high - low) if high > low else np.zeros(len(values))


def numbers(method: str, pool: Pool, column: str) -> np.ndarray:
    """A numeric column without gaps: float64 (n,)."""
    values = pool.need(column, f"select {method}")
    if not values.dtype.is_numeric():
        raise ContractError(f"select {method}: the column `{column}` holds {values.dtype}, and should hold numbers")
    exact = values.cast(pl.Float64)
    bad = exact.is_null() | ~exact.is_finite()
    if bad.any():
        row = pool.ids[int(bad.fill_null(True).arg_true()[0])]
        raise ContractError(
            f"select {method}: the column `{column}` has no number in {int(bad.fill_null(True).sum()):,} rows, the first is "
            f"{row}; score every row, or filter those out before"
        )
    return exact.to_numpy()


def check(method: str, constraints: Constraints, index: np.ndarray, where: object) -> None:
    """Holds picks to what was asked, which ``build`` has seen can be met: DataError names the method's source, ``where``."""
    distinct, fault = np.unique(index), f"this is a defect of {where}"
    if len(distinct) < len(index) or (len(distinct) and (distinct[0] < 0 or distinct[-1] >= len(constraints.open))):
        raise DataError(f"select {method} gave a row twice, or one that is not in the pool; {fault}")
    if not constraints.open[index].all() or not np.isin(constraints.must, index).all():
        raise DataError(f"select {method} gave a row of must_not_have, or left out one of must_have; {fault}")
    if len(index) > constraints.budget:
        raise DataError(f"select {method} gave {len(index):,} rows for a budget of {constraints.budget:,}; {fault}")
    if constraints.cost is not None and constraints.cost[index].sum() > constraints.tokens:
        raise DataError(f"select {method} gave more tokens than the {constraints.tokens:,} asked; {fault}")
    for group in constraints.groups:
        got = np.bincount(group.code[index][group.code[index] >= 0], minlength=len(group.limit))
        wrong = np.flatnonzero(got > group.limit if not group.exact else got != group.limit)
        if len(wrong):
            said = ", ".join(f"{group.names[i]}: {got[i]:,} for {group.limit[i]:,}" for i in wrong[:5])
            raise DataError(f"select {method} did not obey {group.said} ({said}); {fault}")
    if constraints.cost is None and len(index) < constraints.budget:
        raise DataError(f"select {method} gave {len(index):,} rows for a budget of {constraints.budget:,}; {fault}")


__all__ = ["Constraints", "Group", "Remaining", "build", "check", "common", "numbers"]
