"""Why a row was not selected: which limit was full, which pick is nearest to it, and what it would have added.

    why = told(work, work.stage("select"), "9f0c…")
    lines(why)                                   # the same in words

A select stage writes no more of such a row than that it was not selected; all this is computed when it is asked for, from the
table that the stage chose from, its options, and its picks. The gain is exact and the same selector's own: it is called again
with the picks up to the last for which the row was passed over, and then the row, as rows that must be in.
Cost: the pool's rows without their large columns once in memory; for the gain at most that of the selection.
"""

from __future__ import annotations

from bisect import bisect_left
from contextlib import ExitStack
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import polars as pl

from curate.contract import columns, methods, progress
from curate.contract.errors import TamisError, WorkError
from curate.contract.methods import Method
from curate.contract.threads import one_thread
from curate.report.words import cut, number
from curate.rows import constraints, selector
from curate.rows.completion import cells_of, fullest
from curate.rows.constraints import Constraints
from curate.rows.pool import Pool
from curate.run.job import light
from curate.run.work import Done, Work
from curate.vectors.unit import unit

_ROWS, _STEPS = 50_000, 10_000_000  # rows, and rows times picks, up to which a gain takes a few seconds
_SLOW = 1_000_000  # rows times picks from which somebody waits
_BLOCK = 16_384  # picks compared at a time
_WORDS = 80  # characters of the nearest pick's prompt


@dataclass(frozen=True)
class _Choice:
    """What a select stage chose from and what it took. pool: without vectors. picks: int64 (k,), by rank. gain: float32 (k,).
    row: the one that is asked about. passed: for how many picks it was passed over. closed: bool (n,), rows that the selector
    itself never picks. own: its own options."""

    method: Method | str  # or why it cannot be called
    pool: Pool
    picks: np.ndarray
    gain: np.ndarray
    row: int
    wanted: Constraints
    passed: int
    closed: np.ndarray | None
    own: dict[str, Any]
    seed: int

    @property
    def ids(self) -> pl.Series:
        return self.pool.table[columns.ID]


@dataclass(frozen=True)
class _InTurn(Constraints):
    """Constraints whose rows that must be in are taken in the order in which they stand there, however rows are sorted."""

    def ordered(self, order: np.ndarray) -> Constraints:
        at = np.full(len(self.open), -1, np.int64)
        at[order] = np.arange(len(order))
        must = at[self.must]
        return replace(super().ordered(order), must=must[must >= 0])


def told(work: Work, done: Done, id: str) -> dict[str, Any]:
    """Why ``done``, a select stage, did not keep a row of its pool, as JSON can say it.

    limits: those that kept the row out, by name, with what was full. nearest: the pick that is most like it (id, pick, cosine,
    prompt; pick 1 is the first); None without vectors. gain: what it would have added (gain) in the place of the last pick (id,
    pick) for which it was passed over, and what that one added (of_pick); None where its selector measures none. left_out:
    sentences on what could not be told.
    """
    why: dict[str, Any] = {"stage": done.title, "method": done.manifest["method"], "limits": []}
    why |= {"nearest": None, "gain": None, "left_out": []}
    try:
        choice = _choice(work, done, id)
    except TamisError as error:
        return why | {"left_out": [str(error)]}
    why |= {"picked": len(choice.picks), "pool": len(choice.pool), "limits": _limits(choice)}
    for name, tell in (("nearest", _nearest), ("gain", _gain)):
        try:
            answer = tell(work, done, choice)
        except TamisError as error:
            answer = str(error)
        if isinstance(answer, str):
            why["left_out"].append(answer)
        else:
            why[name] = answer
    return why


# --- what was chosen from --------------------------------------------------------------------------------------------


def _choice(work: Work, done: Done, id: str) -> _Choice:
    """The choice of a stage, made ready to be made again."""
    parent = next((one for one in work.before(done) if one.manifest["key"] == done.manifest["parent"]), None)
    if parent is None:
        raise WorkError(f"the stages before {done.title} are not those that it chose from; run the recipe again")
    options = dict(done.manifest["options"])
    budget = options.pop("budget")
    picked = _picked(done, parent)
    ids = pl.concat([picked[columns.ID], done.read("removed", only=[columns.ID])[columns.ID]])
    whole = light(parent.kept, options)
    pool = Pool(whole.filter(pl.col(columns.ID).is_in(ids.implode())))
    place = pool.table.select(columns.ID).with_row_index("at")
    at = pl.concat([picked[columns.ID], pl.Series(columns.ID, [id])]).to_frame()
    at = at.join(place, on=columns.ID, how="left", maintain_order="left")["at"]
    if at.null_count() or len(pool) < len(ids):
        raise WorkError(f"{parent.folder} does not hold the rows that {done.title} chose from; run the recipe again")
    shared = [parameter.word for parameter in selector.shared_options()]
    asked = {word: options.pop(word) for word in shared if options.get(word) is not None}
    name, index = done.manifest["method"], at.to_numpy().astype(np.int64)
    try:
        method = methods.find(selector.ROOM, name)
        closes = method.beside("closed")
    except TamisError as error:
        method, closes = str(error), None
    closed = None if closes is None else closes(pool, **options)
    wanted = constraints.build(name, pool, budget, **asked, closed=closed)
    picks, row = index[:-1], int(index[-1])
    return _Choice(
        method=method,
        pool=pool,
        picks=picks,
        gain=picked[columns.GAIN].fill_null(np.nan).to_numpy(),
        row=row,
        wanted=wanted,
        passed=_passed(wanted, picks, row),
        closed=closed,
        own=options,
        seed=done.manifest["seed"],
    )


def _picked(done: Done, parent: Done) -> pl.DataFrame:
    """id and gain of a stage's picks, by rank. Rows that its `where` let pass may have ranks of an earlier selection."""
    names = [columns.ID, columns.RANK, columns.GAIN]
    ranked = done.read(only=names).filter(pl.col(columns.RANK).is_not_null())
    if ranked.height > done.facts["pool"] - done.manifest["removed"]:
        ranked = ranked.join(parent.read(only=names), on=names, how="anti", nulls_equal=True)
    return ranked.sort(columns.RANK)


# --- the limits ------------------------------------------------------------------------------------------------------


def _limits(choice: _Choice) -> list[dict[str, Any]]:
    """Those that keep the row out of the picks."""
    wanted, row = choice.wanted, choice.row
    if not wanted.open[row]:
        return [{"limit": "target" if choice.closed is not None and choice.closed[row] else "must_not_have"}]
    limits: list[dict[str, Any]] = []
    for group in wanted.groups:
        code = int(group.code[row])
        like = np.flatnonzero(group.code[choice.picks] == code)
        if code >= 0 and len(like) >= group.limit[code]:
            full = {"picked": len(like), "most": int(group.limit[code]), "since": int(like[-1]) + 1 if len(like) else 0}
            limits.append({"limit": group.option, "column": group.column, "value": group.names[code]} | full)
    if wanted.cost is not None:
        left = int(wanted.tokens - wanted.cost[choice.picks].sum())
        if wanted.cost[row] > left or not limits:
            limits.append({"limit": "tokens", "needs": int(wanted.cost[row]), "left": left, "most": wanted.tokens})
    first = min((one["since"] for one in limits if "since" in one), default=0)
    if wanted.cost is None and choice.passed < first:
        crossing = [group.said for group in wanted.groups if group.code[row] >= 0]
        limits.append({"limit": "together", "of": crossing, "since": choice.passed})
    return limits or [{"limit": "budget", "picked": len(choice.picks), "most": wanted.budget}]


def _passed(wanted: Constraints, picks: np.ndarray, row: int) -> int:
    """For how many picks, the first ones, a row was passed over: those that were made while it could have been. Where it
    could not once, it never can again. Cost: where limits on several columns cross, log2(k) decisions whether all can be met."""
    if not wanted.open[row]:
        return 0
    mine = [(group.code, int(group.code[row]), group.limit) for group in wanted.groups if group.code[row] >= 0]
    crossing = len(wanted.groups) > 1 and wanted.cost is None
    cells = cells_of(wanted.groups, wanted.open, wanted.budget) if crossing else None

    def closed(before: int) -> bool:
        taken = np.append(picks[:before], row)
        if any(np.count_nonzero(code[taken] == like) > limit[like] for code, like, limit in mine):
            return True
        if wanted.cost is not None:
            return bool(wanted.cost[taken].sum() > wanted.tokens)
        return cells is not None and fullest(cells, cells.count(taken), wanted.budget).sum() < wanted.budget

    return bisect_left(range(len(picks)), True, key=closed)


# --- the nearest pick ------------------------------------------------------------------------------------------------


def _nearest(work: Work, done: Done, choice: _Choice) -> dict[str, Any] | str | None:
    embedded = work.embedded(done)
    if embedded is None:
        empty = next((one for one in work.before(done) if one.kind == "embed"), None)
        return empty and f"the vectors of {empty.title} are gone: delete {empty.folder} and run the recipe again"
    if not len(choice.picks):
        return None
    cosine = np.empty(len(choice.picks))
    mine = unit(embedded.vectors_of(choice.ids[[choice.row]]), "show").astype(np.float64)[0]
    for start in range(0, len(cosine), _BLOCK):
        some = choice.ids[choice.picks[start : start + _BLOCK].tolist()]
        theirs = unit(embedded.vectors_of(some), "show").astype(np.float64)
        cosine[start : start + _BLOCK] = (theirs * mine).sum(axis=1)
    best = int(np.argmax(np.round(cosine, 6)))
    pick = int(choice.picks[best])
    near = {"id": choice.ids[pick], "pick": best + 1, "cosine": round(float(cosine[best]), 6)}
    prompt = choice.pool.table[columns.PROMPT][pick] if columns.PROMPT in choice.pool.table.columns else None
    return near | {"prompt": prompt}


# --- what it would have added ----------------------------------------------------------------------------------------


def _gain(work: Work, done: Done, choice: _Choice) -> dict[str, Any] | str | None:
    """What the row would have added in the place of the last pick for which it was passed over, which the selector therefore
    liked better."""
    method, passed, embedded = choice.method, choice.passed, work.embedded(done)
    if not passed or np.isnan(choice.gain[passed - 1]):
        return None
    if isinstance(method, str):
        return f"its gain is left out: {method}"
    if "constraints" not in method.takes or (method.reads_vectors and embedded is None):
        return None
    steps = len(choice.pool) * len(choice.picks)
    if method.reads_vectors and (len(choice.pool) > _ROWS or steps > _STEPS):
        seconds = done.run.get("seconds")
        took = f", {seconds:,.0f} seconds" if seconds else ""
        return f"its gain is left out: choosing again from {len(choice.pool):,} rows can take what the stage took{took}"
    with ExitStack() as stack:
        if method.reads_vectors and steps > _SLOW:
            stack.enter_context(progress.shown())
        gain = _gain_after(method, choice, embedded, passed - 1)
    if gain is None:
        return None
    pick = int(choice.picks[passed - 1])
    return {"gain": gain, "pick": passed, "id": choice.ids[pick], "of_pick": _sure(choice.gain[passed - 1])}


def _gain_after(method: Method, choice: _Choice, embedded: Done | None, picks: int) -> float | None:
    """What the row adds when the first ``picks`` picks are in, in the selector's own measure; None where it gives none. What
    would be picked after it does not matter, so that limits need not be kept, but for values of which no row is let in."""
    pool = choice.pool
    if method.reads_vectors and embedded is not None:
        pool = replace(pool, vectors=embedded.vectors_of(choice.ids))
    same: dict[str, Any] = {field.name: getattr(choice.wanted, field.name) for field in fields(choice.wanted)}
    same["must"] = np.append(choice.picks[:picks], choice.row)
    groups = choice.wanted.groups
    same["groups"] = tuple(replace(one, limit=np.where(one.limit > 0, len(pool), 0)) for one in groups)
    wanted = _InTurn(**same)
    call = method.call_options(choice.own, seed=choice.seed, folder=None, constraints=wanted)
    with one_thread():
        again = method.function()(pool, wanted.budget, **call)
    gain = again.gain[again.index == choice.row]
    return None if not len(gain) or np.isnan(gain[0]) else _sure(gain[0])


def _sure(gain: np.floating) -> float:
    """The six digits of a gain that are sure; a whole number as it is."""
    return float(gain) if float(gain).is_integer() else float(f"{gain:.6g}")


# --- in words --------------------------------------------------------------------------------------------------------


def lines(why: dict[str, Any]) -> list[dict[str, str]]:
    """What ``told`` gives, a line a matter."""
    said = [("" if place else "limit", _limit(one)) for place, one in enumerate(why["limits"])]
    if near := why["nearest"]:
        said.append(("nearest pick", f"cosine {near['cosine']:.4f} to {near['id']}, pick {near['pick']:,}"))
        said += [("", cut(near["prompt"], _WORDS))] if near["prompt"] else []
    if gain := why["gain"]:
        instead = f"in the place of pick {gain['pick']:,}, {gain['id']}, whose gain was {number(gain['of_pick'])}"
        said.append(("gain", f"{number(gain['gain'])} {instead}"))
    said += [("", sentence) for sentence in why["left_out"]]
    of = f", {why['picked']:,} of {why['pool']:,} rows" if "pool" in why else ""
    return [{"not selected": matter, f"{why['stage']}: {why['method']}{of}": text} for matter, text in said]


def _limit(full: dict[str, Any]) -> str:
    """One of the limits, in a sentence."""
    match full["limit"]:
        case "must_not_have":
            return "must_not_have names it"
        case "target":
            return "it is of the target that picks are compared with, and those rows are not picked"
        case "tokens":
            return f"the budget of {full['most']:,} tokens had {full['left']:,} left, and the row has {full['needs']:,}"
        case "together":
            since = f"after pick {full['since']:,}" if full["since"] else "from the start"
            return f"{' and '.join(full['of'])} together: {since}, no selection with it could meet them"
        case "budget":
            return (
                f"the budget: {full['picked']:,} of {full['most']:,} rows were picked, and no other limit kept it out"
            )
    what = f"{full['limit']} of {full['column']} {full['value']}: {full['picked']:,} of {full['most']:,}"
    return f"{what}, full with pick {full['since']:,}" if full["since"] else what
