"""A study's tidy results as arrays: a row an arm, budget, draw, seed and item, with the item's bits and bytes.

Beside these, where the table has them: the untuned models (rows of budget 0), the evaluation sets (``in.NAME``: the group
that an item belongs to), the levels of the factors (``factor.NAME``), and what each run was given (tokens, targets,
overlap, diverged, leaked).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.contract.errors import ContractError, RequestError
from train.study.asked import UNTUNED

COLUMNS = ("arm", "budget", "draw", "seed", "item", "task", "bits", "bytes")
WHOLE = "all"  # the evaluation set of a table that names none
_SET, _FACTOR = "in.", "factor."

Cell = tuple[str, int]  # an arm at a budget; the untuned model at budget 0


@dataclass(frozen=True)
class Results:
    """A complete crossed table: C cells × D draws × S seeds × n items. The untuned models are the last cells, the same at
    every draw and seed.

    bits: float64 (C, D, S, n). size: the items' bytes, float64 (n,). task: str (n,). sets: of each evaluation set the items'
    groups, object (n,), None where an item is not in it. compared: the arms of each. base: of each cell the untuned model that it started from. tokens,
    targets: float64 (C, D, S), what each run trained on in all; diverged: bool (C, D, S). overlap: float64 (C,), the rows
    that two draws share. leaked: bool (n,). levels: of each cell the level of each factor.
    """

    cells: list[Cell]
    draws: list[int]
    seeds: list[int]
    items: list[str]
    bits: np.ndarray
    size: np.ndarray
    task: np.ndarray
    sets: dict[str, np.ndarray] = field(default_factory=dict)
    compared: dict[str, list[str]] = field(default_factory=dict)
    base: list[str | None] = field(default_factory=list)
    tokens: np.ndarray | None = None
    targets: np.ndarray | None = None
    diverged: np.ndarray | None = None
    overlap: np.ndarray | None = None
    leaked: np.ndarray | None = None
    levels: list[dict[str, str]] = field(default_factory=list)

    @property
    def tuned(self) -> list[Cell]:
        return [cell for cell in self.cells if cell[1] > 0]

    @property
    def arms(self) -> list[str]:
        return list(dict.fromkeys(arm for arm, _ in self.tuned))

    def budgets(self, arm: str) -> list[int]:
        return [budget for name, budget in self.tuned if name == arm]

    def only_items(self, keep: np.ndarray) -> Results:
        """The results of some of the items. keep: bool (n,)."""
        return replace(
            self,
            items=[item for item, kept in zip(self.items, keep.tolist(), strict=True) if kept],
            bits=self.bits[..., keep],
            size=self.size[keep],
            task=self.task[keep],
            sets={name: groups[keep] for name, groups in self.sets.items()},
            leaked=None if self.leaked is None else self.leaked[keep],
        )

    def only_arms(self, arms: set[str]) -> Results:
        """The results of some of the arms, and of the untuned models."""
        keep = [i for i, (arm, budget) in enumerate(self.cells) if budget == 0 or arm in arms]
        if len(keep) == len(self.cells):
            return self
        by_cell = ("bits", "tokens", "targets", "diverged", "overlap")
        return replace(
            self,
            cells=[self.cells[i] for i in keep],
            base=[self.base[i] for i in keep],
            levels=[self.levels[i] for i in keep],
            **{name: None if (value := getattr(self, name)) is None else value[keep] for name in by_cell},
        )

    def only_draws(self, keep: list[int]) -> Results:
        """The results of some of the draws, by their place."""
        runs = {name: getattr(self, name) for name in ("tokens", "targets", "diverged")}
        return replace(
            self,
            draws=[self.draws[k] for k in keep],
            bits=self.bits[:, keep],
            **{name: None if value is None else value[:, keep] for name, value in runs.items()},
        )


def read_results(table: pa.Table, *, reference: str = "random") -> Results:
    """The tidy table as arrays, in an order that does not depend on the order of its rows: the reference first.

    Raises ContractError where a column, a run or an item is missing, doubled or not finite; RequestError where the reference
    is not among the arms.
    """
    missing = [name for name in COLUMNS if name not in table.column_names]
    if missing:
        raise ContractError(f"the results lack the column(s) {', '.join(missing)}; they need {', '.join(COLUMNS)}")
    is_untuned = pc.equal(table["budget"], 0)  # pyright: ignore
    untuned, table = table.filter(is_untuned), table.filter(pc.invert(is_untuned))  # pyright: ignore
    if table.num_rows == 0:
        raise ContractError("the results hold no row of a tuned model; run the study first")
    arms, arm = _codes(table["arm"], first=reference)
    if arms[0] != reference:
        raise RequestError(f"the reference arm `{reference}` is not in the results; they hold {', '.join(arms)}")
    budgets, budget = _codes(table["budget"])
    pairs, cell = np.unique(arm * len(budgets) + budget, return_inverse=True)
    cells: list[Cell] = [(arms[pair // len(budgets)], budgets[pair % len(budgets)]) for pair in pairs.tolist()]
    draws, draw = _codes(table["draw"])
    seeds, seed = _codes(table["seed"])
    items, item = _codes(table["item"])
    shape = (len(cells), len(draws), len(seeds), len(items))
    place = np.ravel_multi_index((cell, draw, seed, item), shape)
    _check_complete(np.bincount(place, minlength=int(np.prod(shape))), cells, draws, seeds, items)

    def spread(name: str) -> np.ndarray:
        out = np.empty(shape)
        out.reshape(-1)[place] = table[name].to_numpy()
        return out

    bits, size = spread("bits"), spread("bytes")
    _check_values(bits, size, cells, draws, items)
    first = np.unique(item, return_index=True)[1]  # a row of each item
    run = np.unique(place // len(items), return_index=True)[1]  # and of each run
    of_cell = np.unique(cell, return_index=True)[1]
    task = _words(pc.fill_null(table["task"].cast(pa.string()), "none").take(first))
    sets, compared = _sets(table, items, item)
    given: dict[str, Any] = {
        name: table[name].take(run).to_numpy().reshape(shape[:3]).astype(kind)
        for name, kind in (("tokens", float), ("targets", float), ("diverged", bool))
        if name in table.column_names
    }
    if "overlap" in table.column_names and table["overlap"].null_count == 0:
        given["overlap"] = table["overlap"].take(of_cell).to_numpy().astype(float)
    if "leaked" in table.column_names:
        given["leaked"] = table["leaked"].take(first).to_numpy(zero_copy_only=False).astype(bool)
    factors = [name for name in table.column_names if name.startswith(_FACTOR)]
    rows = table.select(factors).take(of_cell).to_pylist() if factors else [{} for _ in cells]
    levels = [{name.removeprefix(_FACTOR): level for name, level in row.items()} for row in rows]
    base: list[str | None] = [None] * len(cells)
    if "base" in table.column_names:
        base = _words(table["base"].take(of_cell)).tolist()
    told = Results(
        cells, draws, seeds, items, bits, size[0, 0, 0].copy(), task, sets, compared, base, levels=levels, **given
    )
    return _with_untuned(told, untuned)


def _sets(table: pa.Table, items: list[str], item: np.ndarray) -> tuple[dict[str, np.ndarray], dict[str, list[str]]]:
    """The group of each item in each evaluation set, and the arms that are compared in it: those with rows in it."""
    sets: dict[str, np.ndarray] = {}
    compared: dict[str, list[str]] = {}
    for name in (name for name in table.column_names if name.startswith(_SET)):
        inside = pc.is_valid(table[name]).to_numpy(zero_copy_only=False)  # pyright: ignore
        own = name.removeprefix(_SET)
        sets[own] = np.full(len(items), None, dtype=object)
        sets[own][item[inside]] = _words(table[name].filter(inside))
        compared[own] = pc.unique(table["arm"].filter(inside)).to_pylist()  # pyright: ignore
    return sets or {WHOLE: np.full(len(items), "", dtype=object)}, compared


def _with_untuned(results: Results, untuned: pa.Table) -> Results:
    """The untuned models as further cells. A cell that names no base takes the only one there is."""
    if untuned.num_rows == 0:
        return replace(results, base=[None] * len(results.cells))
    place = {item: i for i, item in enumerate(results.items)}
    names, which = _codes(untuned["arm"], first=UNTUNED)
    bits = np.full((len(names), len(place)), np.nan)
    for row, item, value in zip(which.tolist(), untuned["item"].to_pylist(), untuned["bits"].to_pylist(), strict=True):
        if item in place:
            bits[row, place[item]] = value
    if np.isnan(bits).any():
        row, i = np.argwhere(np.isnan(bits))[0]
        raise ContractError(f"the results of {names[row]} lack item {results.items[i]}; it is scored on every item")
    _, n_draws, n_seeds, _ = results.bits.shape
    more = np.broadcast_to(bits[:, None, None, :], (len(names), n_draws, n_seeds, len(place)))
    base = [name if name in names else names[0] if len(names) == 1 else None for name in results.base]

    def longer(value: np.ndarray | None) -> np.ndarray | None:
        if value is None:
            return None
        return np.concatenate([value, np.zeros((len(names), *value.shape[1:]), dtype=value.dtype)])

    return replace(
        results,
        cells=[*results.cells, *((name, 0) for name in names)],
        bits=np.concatenate([results.bits, more]),
        base=[*base, *([None] * len(names))],
        levels=[*results.levels, *({} for _ in names)],
        **{name: longer(getattr(results, name)) for name in ("tokens", "targets", "diverged", "overlap")},
    )


def _check_complete(times: np.ndarray, cells: list[Cell], draws: list, seeds: list, items: list[str]) -> None:
    if (times == 1).all():
        return
    shape = (len(cells), len(draws), len(seeds), len(items))
    first = int(np.argmax(times != 1))
    c, d, s, i = np.unravel_index(first, shape)
    raise ContractError(
        f"the results hold {times[first]} rows, not 1, for arm {cells[c][0]}, budget {cells[c][1]}, draw {draws[d]}, "
        f"seed {seeds[s]}, item {items[i]}; every arm needs the same draws, seeds and items"
    )


def _check_values(bits: np.ndarray, size: np.ndarray, cells: list[Cell], draws: list, items: list[str]) -> None:
    if not np.isfinite(bits).all():
        c, d, s, i = np.argwhere(~np.isfinite(bits))[0]
        raise ContractError(f"the bits of item {items[i]} under arm {cells[c][0]}, draw {draws[d]} are not finite")
    if (size != size[0, 0, 0]).any() or (size <= 0).any():
        c, d, s, i = np.argwhere((size != size[0, 0, 0]) | (size <= 0))[0]
        raise ContractError(
            f"item {items[i]} has {size[c, d, s, i]:g} bytes under arm {cells[c][0]}; an item has one size > 0"
        )
    if (bits == bits.reshape(-1)[0]).all() and bits.size > 1:
        raise ContractError(
            f"every run has the same bits ({bits.reshape(-1)[0]:g}) on every item: the metric is constant, and nothing can be "
            "compared"
        )


def _words(column: pa.ChunkedArray) -> np.ndarray:
    return np.array(column.cast(pa.string()).to_pylist(), dtype=object)


def _codes(column: pa.ChunkedArray, first: str | None = None) -> tuple[list, np.ndarray]:
    """The sorted values of a column (`first` before the others) and each row's index into them."""
    encoded = pc.dictionary_encode(column.combine_chunks())  # pyright: ignore
    values = encoded.dictionary.to_pylist()
    order = sorted(range(len(values)), key=lambda i: (values[i] != first, values[i]))
    rank = np.empty(len(values), dtype=np.int64)
    rank[order] = np.arange(len(values))
    return [values[i] for i in order], rank[encoded.indices.to_numpy()]
