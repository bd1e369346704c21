"""Groups of a pool's rows, and how many of each a selection may hold: quotas and caps, bound to a pool."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from curate.contract.errors import DataError, MethodError
from curate.contract.methods import nearest
from curate.rows.pool import Pool
from curate.rows.shares import largest_remainder

OTHERS = "all others"


@dataclass(frozen=True)
class Group:
    """At most ``limit[code[i]]`` rows like row i; code -1 is free. option: quotas or at_most, as it was asked. exact: the limits
    are to be reached; those of quotas are, but under a budget of tokens."""

    column: str
    names: tuple[str, ...]
    code: np.ndarray  # int32 (n,)
    limit: np.ndarray  # int64 (g,)
    option: str = "at_most"
    exact: bool = False

    @property
    def said(self) -> str:
        return f"{self.option} of {self.column}"


def _codes(method: str, pool: Pool, column: str) -> tuple[np.ndarray, list[str]]:
    """(int32 (n,) with -1 where there is no value or noise, the values in order)."""
    text, values = pool.labels(column, f"select {method}"), pool.table[column]
    none = values.is_null().to_numpy()
    if values.dtype.is_integer():
        none = none | (values.fill_null(0) < 0).to_numpy()
    names, code = np.unique(text.fill_null("").to_numpy().astype(str), return_inverse=True)
    used = np.unique(code[~none])
    renumbered = np.full(len(names), -1, np.int32)
    renumbered[used] = np.arange(len(used), dtype=np.int32)
    return np.where(none, -1, renumbered[code]).astype(np.int32), names[used].tolist()


def cap(method: str, pool: Pool, column: str, most: int) -> Group:
    code, names = _codes(method, pool, column)
    return Group(column, tuple(names), code, np.full(len(names), most, np.int64))


def quota(method: str, pool: Pool, column: str, share: Any, budget: int, opened: np.ndarray, by_tokens: bool) -> Group:
    code, names = _codes(method, pool, column)
    sizes = np.bincount(code[opened & (code >= 0)], minlength=len(names))
    if by_tokens and (isinstance(share, str) or any(isinstance(value, float) for value in share.values())):
        raise MethodError(
            f"select {method}: quotas of {column} in shares need a budget in rows; with a budget of tokens give rows, "
            "which are then upper limits"
        )
    if isinstance(share, str):
        wanted = _by_size(share, names, sizes, int((opened & (code < 0)).sum()), budget)
    else:
        unknown = [str(name) for name in share if str(name) not in names]
        if unknown:
            raise DataError(
                f"select {method}: quotas name {column} '{unknown[0]}', of which the pool has no row; it has "
                f"{', '.join(names[:12])}{' …' if len(names) > 12 else ''}{nearest(unknown[0], names)}"
            )
        wanted = _as_rows({str(name): value for name, value in share.items()}, budget)
    total = int(sum(wanted.values()))
    if total > budget and not by_tokens:
        raise DataError(
            f"select {method}: the quotas of {column} make {total:,} rows, more than the budget of {budget:,}"
        )
    place = {name: number for number, name in enumerate(wanted)}
    renumbered = np.array([*(place.get(name, len(place)) for name in names), len(place)], np.int32)
    limit = np.array([*wanted.values(), budget - total if not by_tokens else budget], np.int64)
    return Group(column, (*wanted, OTHERS), renumbered[code], limit, "quotas", exact=not by_tokens)


def _by_size(share: str, names: list[str], sizes: np.ndarray, rest: int, budget: int) -> dict[str, int]:
    """Quotas that are `proportional` or `equal`. rest: rows without a value; they are one group more, whose quota is what the
    others leave."""
    sizes = np.append(sizes, rest)
    rows = largest_remainder(sizes.tolist(), budget) if share == "proportional" else even(sizes, budget).tolist()
    return dict(zip(names, rows[:-1], strict=True))


def _as_rows(wanted: dict[str, Any], budget: int) -> dict[str, int]:
    """Quotas as rows, where some of them are shares of the budget; the last remainder is that of all others."""
    if not any(isinstance(value, float) for value in wanted.values()):
        return wanted
    shares = [Fraction(str(value)) for value in wanted.values()]
    rows = largest_remainder([*shares, max(Fraction(0), 1 - sum(shares))], budget)
    return dict(zip(wanted, rows[:-1], strict=True))


def even(sizes: np.ndarray, budget: int) -> np.ndarray:
    """As even as the sizes let it be, the earlier groups one more: int64 (g,)."""
    given = np.zeros(len(sizes), np.int64)
    while (left := budget - int(given.sum())) > 0 and (free := np.flatnonzero(given < sizes)).size:
        each = max(1, left // len(free))
        for group in free[: left if each == 1 else None]:
            given[group] += min(each, int(sizes[group] - given[group]), budget - int(given.sum()))
    return given


def check_fits(method: str, group: Group, opened: np.ndarray, must: np.ndarray, budget: int, by_tokens: bool) -> None:
    """Whether one group's limits alone can be obeyed."""
    size = np.bincount(group.code[opened & (group.code >= 0)], minlength=len(group.limit))
    forced = np.bincount(group.code[must & (group.code >= 0)], minlength=len(group.limit))
    for name, most, has, musts in zip(group.names, group.limit.tolist(), size.tolist(), forced.tolist(), strict=True):
        if musts > most:
            raise DataError(
                f"select {method}: must_have names {musts:,} rows of {group.column} {name}, and {group.option} lets in {most:,}"
            )
        if group.exact and has < most:
            raise DataError(
                f"select {method}: the quota of {most:,} rows for {group.column} {name} cannot be met: the pool holds {has:,}; "
                "lower it, lower the budget, or filter less"
            )
    free = int((group.code[opened] < 0).sum())
    reach = int(np.minimum(size, group.limit).sum()) + free
    if not by_tokens and reach < budget:
        raise DataError(
            f"select {method}: {group.said} lets in {reach:,} rows, fewer than the budget of {budget:,}; "
            "raise it, or lower the budget"
        )
