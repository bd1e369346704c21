"""How many rows each source gives to the mixture, and which.

    quotas = proportional({"flan": 40_000, "chat": 2_000}, rows=10_000, cap=5_000)
    kept, removed = apply(table, quotas, seed=0)

    plan = arrange(table, "proportional", {"by": "task", "cap": 3_000, "rows": 100_000}).plan      # as a recipe says it

Quotas are whole numbers that sum to what was asked for (largest remainders, never sampling). A source whose quota is above
its rows repeats them: the column `repeat` says how often a row counts. Which rows stay is drawn by a hash of the id, so
that a smaller quota takes a subset of a larger one's rows, whatever the other sources hold.

The functions `proportional`, `equal`, `weighted` and `explicit` are the ways that a recipe may name, beside the presets of
templates/mixtures/ (`curate.mix.presets`). In place of sources, a mixture may be of tasks or of clusters of tasks, and in place
of rows it may be counted in tokens: then counts, caps, sizes and quotas are tokens of prompt and response, and whole rows
are taken while they fit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl

from curate.contract import columns
from curate.contract.draws import draws
from curate.contract.errors import ContractError, RequestError
from curate.contract.methods import nearest
from curate.mix import presets
from curate.rows import token_counts
from curate.rows.shares import largest_remainder
from curate.rows.table import text_of

WAYS = ("proportional", "equal", "weighted", "explicit")
_COMMON = ("by", "example_cap", "tokens", "tokenizer", "shortfall")


# --- ways ------------------------------------------------------------------------------------------------------------


def proportional(
    counts: Mapping[str, int], *, rows: int | None = None, cap: int | None = None, temperature: float = 1.0
) -> dict[str, int]:
    """Each source in proportion to its rows.

    rows: the size of the mixture; if left out, as many as the sources hold up to the cap. A size above what they hold
    repeats rows. cap: rows of a source beyond so many do not count in its weight (T5, arXiv 1910.10683, section 3.5.2;
    FLAN, arXiv 2109.01652, section 2.4, took 3,000). temperature: T in (min(rows, cap)) ** (1/T); 1 is in proportion, and
    the higher, the more alike.

    The cap comes first, as in seqio.
    """
    capped = {source: _capped(count, cap) for source, count in counts.items()}
    weights = rates(counts, cap=cap, temperature=temperature)
    if rows is None:
        rows = sum(capped.values())
        if rows == 0:
            return dict(capped)
    return _shared_out(weights, rows)


def rates(counts: Mapping[str, int], *, cap: int | None = None, temperature: float = 1.0) -> dict[str, Fraction]:
    """The weights of `proportional`: whole numbers at temperature 1, else relative to the largest."""
    _at_least(cap, "cap")
    if not temperature > 0:
        raise RequestError(f"mix: temperature is {temperature}; it must be above 0 (1 is in proportion to the rows)")
    capped = {source: _capped(count, cap) for source, count in counts.items()}
    largest = max(capped.values(), default=0)
    if temperature == 1 or not largest:
        return {source: Fraction(count) for source, count in capped.items()}
    return {
        source: Fraction((count / largest) ** (1 / temperature)) if count else Fraction(0)
        for source, count in capped.items()
    }


def equal(counts: Mapping[str, int], *, rows: int | None = None) -> dict[str, int]:
    """The same number from every source that has rows.

    rows: the size of the mixture; a source with fewer rows than its share repeats them. If left out, each gives as many as
    the smallest has.
    """
    filled = {source: Fraction(1) for source, count in counts.items() if count}
    if rows is None:
        rows = len(filled) * min((counts[source] for source in filled), default=0)
    return dict.fromkeys(counts, 0) | _shared_out(filled, rows)


def weighted(counts: Mapping[str, int], *, weights: dict[str, float], rows: int | None = None) -> dict[str, int]:
    """In proportion to weights that you give.

    weights: a number of 0 or more by source; a source that you do not name gives none. rows: the size of the mixture; if left out, the largest that repeats no row.
    """
    _known(weights, counts)
    exact = {source: Fraction(str(weight)) for source, weight in weights.items()}
    if any(weight < 0 for weight in exact.values()) or not any(exact.values()):
        raise RequestError(f"mix: the weights are {_short(weights)}; give numbers of 0 or more, at least one above 0")
    empty = [source for source, weight in exact.items() if weight and not counts[source]]
    if empty:
        raise RequestError(
            f"mix: '{empty[0]}' has the weight {weights[empty[0]]} and no row; leave it out, or load its rows"
        )
    if rows is None:
        whole = sum(exact.values())
        rows = math.floor(min(counts[source] * whole / weight for source, weight in exact.items() if weight))
    return dict.fromkeys(counts, 0) | _shared_out(exact, rows)


def explicit(counts: Mapping[str, int], *, rows: dict[str, int] | None = None) -> dict[str, int]:
    """As many as you say.

    rows: a number of rows by source; a source that you do not name gives none, and more than it has repeats its rows.
    """
    rows = rows or {}
    _known(rows, counts)
    for source, wanted in rows.items():
        if wanted < 0 or (wanted and not counts[source]):
            raise RequestError(
                f"mix: {wanted} rows are asked of '{source}', which has {counts[source]}; give a number that it can fill"
            )
    if not any(rows.values()):
        raise RequestError("mix: no row is asked of any source; say how many, as in `explicit: {rows: {alpaca: 1000}}`")
    return dict.fromkeys(counts, 0) | rows


def _known(named: Mapping[str, Any], counts: Mapping[str, int]) -> None:
    for source in named:
        if source not in counts:
            meant = nearest(source, counts).removeprefix(". D")
            there = _listed(sorted(counts))
            raise RequestError(f"mix: nothing is called '{source}'{f', d{meant}' if meant else ';'} there are: {there}")


# --- the options that every way takes --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Common:
    """The options of every way beside its own, as `common` takes them."""

    by: str = columns.SOURCE
    example_cap: int | None = None
    tokens: int | dict[str, int] | None = None
    tokenizer: str = token_counts.WORDS
    shortfall: str = "repeat"


def common(
    *,
    by: Literal["source", "task", "task_cluster"] = "source",
    example_cap: int | None = None,
    tokens: int | dict[str, int] | None = None,
    tokenizer: str = "words",
    shortfall: Literal["repeat", "fail", "less"] = "repeat",
) -> Common:
    """What every way takes beside its own options.

    by: the column whose values share the mixture. example_cap: only so many rows of each count at all, those with the
    smallest draws; FLAN took 30,000. tokens: in place of `rows`, the size in tokens (`explicit`: by source); caps and
    counts are then in tokens too, but for `example_cap`. tokenizer: "words" (parted by white space), the path of a
    tokenizer.json, or a Hub id. shortfall: what happens where a quota is above the rows that there are: "repeat" them,
    "fail", or take "less".
    """
    return Common(by, example_cap, tokens, tokenizer, shortfall)


def problems(way: str, options: Mapping[str, Any], folder: Path | None = None) -> list[tuple[str, str]]:
    """(option, what is wrong with it), as far as it shows without any row."""
    wrong = []
    size, tokens = options.get("rows"), options.get("tokens")
    if size is not None and tokens is not None:
        wrong.append(("tokens", "`rows` and `tokens` are both the size of the mixture; give one of the two"))
    if way == "explicit":
        given = size if size is not None else tokens
        if not isinstance(given, dict):
            wrong.append(("tokens" if tokens else "rows", "say how many of each, as in `rows: {alpaca: 1000}`"))
        elif any(isinstance(n, int) and n < 0 for n in given.values()) or not any(given.values()):
            wrong.append(("tokens" if tokens else "rows", "give numbers of 0 or more, at least one above 0"))
    else:
        for word, value in (("rows", size), ("tokens", tokens)):
            if isinstance(value, dict):
                wrong.append((word, "give one number; numbers by source are for `explicit`"))
            elif value is not None and value < 1:
                wrong.append((word, f"`{word}` is {value}; it must be 1 or more"))
    for word in ("cap", "example_cap"):
        value = options.get(word)
        if value is not None and value < 1:
            wrong.append((word, f"`{word}` is {value}; it must be 1 or more"))
    temperature = options.get("temperature", 1.0)
    if temperature is not None and not 0 < temperature < math.inf:
        wrong.append(
            ("temperature", f"`temperature` is {temperature}; it must be above 0 (1 is in proportion to the rows)")
        )
    weights = options.get("weights")
    if isinstance(weights, dict) and not (all(0 <= w < math.inf for w in weights.values()) and any(weights.values())):
        wrong.append(("weights", "give weights of 0 or more, at least one above 0"))
    problem = token_counts.problem(options.get("tokenizer") or token_counts.WORDS, folder)
    if problem:
        wrong.append(("tokenizer", problem))
    return wrong


# --- the plan --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Plan:
    """What the mixture shall hold. unit: "rows" or "tokens", of counts, quotas and short. weights: before rounding.

    short: by how much a quota is above what is there, by name; with `shortfall: less` the quotas have been lowered by it.
    """

    by: str
    unit: str
    counts: dict[str, int]
    weights: dict[str, Fraction]
    quotas: dict[str, int]
    short: dict[str, int] = field(default_factory=dict)

    def lines(self) -> list[dict[str, Any]]:
        """The plan as a table: name, rows (or tokens) there, weight, quota, share; in the order of names."""
        total = sum(self.quotas.values()) or 1
        return [
            {
                "name": name,
                "there": self.counts[name],
                "weight": float(f"{float(self.weights.get(name, 0)):.6g}"),
                "quota": quota,
                "share": round(quota / total, 6),
            }
            for name, quota in sorted(self.quotas.items())
        ]

    def summary(self) -> str:
        """One sentence."""
        total, taken = sum(self.quotas.values()), sum(quota > 0 for quota in self.quotas.values())
        text = f"{total:,} {self.unit} from {taken:,} of {len(self.quotas):,} by {self.by}"
        if self.short:
            text += f"; above what is there: {_listed([f'{n} by {by:,}' for n, by in sorted(self.short.items())])}"
        return text


@dataclass(frozen=True)
class Arrangement:
    """A plan bound to a table. group: the name that each row counts under, null outside the mixture. size: tokens of each
    row, None where rows are counted. limit: how many rows of a name count at all, by name."""

    plan: Plan
    group: pl.Series
    size: np.ndarray | None
    limit: dict[str, int]

    def apply(self, table: pl.DataFrame, seed: int) -> tuple[pl.DataFrame, pl.DataFrame]:
        return apply(table, self.plan.quotas, seed, group=self.group, size=self.size, limit=self.limit)


def needs(way: str, options: Mapping[str, Any]) -> list[str]:
    """The columns that `arrange` reads, without the text that tokens are counted in."""
    if way in WAYS:
        return [columns.ID, options.get("by") or columns.SOURCE]
    return [columns.ID, columns.SOURCE, columns.TASK, columns.TEMPLATE_SET]


def arrange(
    table: pl.DataFrame, way: str, options: Mapping[str, Any], *, seed: int = 0, folder: Path | None = None
) -> Arrangement:
    """The plan of a mixture over a table, and what `apply` needs to realise it.

    way: a function of this file by name, or a preset. options: as in a recipe. folder: the recipe's.
    Raises RequestError for what cannot be mixed, ContractError where a preset's task has no rows or, with
    `shortfall: fail`, where a quota is above the rows. Cost: without tokens, a few columns and no text.
    """
    for _, problem in problems(way, options, folder):
        raise RequestError(f"mix {way}: {problem}")
    own: dict[str, Any] = dict(options)
    shared = common(**{word: own.pop(word) for word in _COMMON if word in own})
    preset = None
    if way in WAYS:
        by = shared.by
        group = table[by].fill_null(f"(no {by})").alias("group")
        cap = shared.example_cap
        limit = {} if cap is None else {str(name): cap for name in group.unique().to_list()}
    else:
        by, asked = columns.TASK, {"rows": own.pop("rows", None)}
        preset = presets.bind(way, table, folder, **own)
        own, group, limit = asked, preset.group, preset.limit
    size = None
    if shared.tokens is not None:
        size = token_counts.count(text_of(table, "record"), shared.tokenizer, folder)
        own = {**own, "rows": shared.tokens}
    counts = _counts(table, group, size, limit, seed)
    if preset is None:
        weights, quotas = _by_way(way, counts, own)
    else:
        in_rows = counts if size is None else _counts(table, group, None, limit, seed)
        weights = preset.weights(in_rows)
        quotas = _shared_out(weights, preset.total(in_rows) if own["rows"] is None else own["rows"])
    unit = "rows" if size is None else "tokens"
    quotas, short = _filled(quotas, counts, unit, shared.shortfall)
    return Arrangement(Plan(by, unit, counts, weights, quotas, short), group, size, limit)


def _by_way(way: str, counts: dict[str, int], own: Mapping[str, Any]) -> tuple[dict[str, Fraction], dict[str, int]]:
    """(weights before rounding, quotas) of one of `WAYS`."""
    if way == "proportional":
        weights = rates(counts, cap=own.get("cap"), temperature=own.get("temperature", 1.0))
        return weights, proportional(counts, **own)
    if way == "equal":
        return {name: Fraction(count > 0) for name, count in counts.items()}, equal(counts, **own)
    if way == "weighted":
        quotas = weighted(counts, **own)
        return {name: Fraction(str(weight)) for name, weight in own["weights"].items()}, quotas
    quotas = explicit(counts, **own)
    return {name: Fraction(quota) for name, quota in quotas.items()}, quotas


def _filled(
    quotas: dict[str, int], counts: Mapping[str, int], unit: str, shortfall: str
) -> tuple[dict[str, int], dict[str, int]]:
    """(quotas, by how much some were above what is there): lowered, refused or as they are, as `shortfall` says."""
    short = {name: quota - counts[name] for name, quota in sorted(quotas.items()) if quota > counts[name]}
    if short and shortfall == "fail":
        raise ContractError(
            f"mix: {_listed([f'{n} has {counts[n]:,} of {quotas[n]:,} {unit}' for n in short])}; ask for less, or say "
            "`shortfall: repeat` or `shortfall: less`"
        )
    if shortfall == "less":
        quotas = {name: min(quota, counts[name]) for name, quota in quotas.items()}
    return quotas, short


def _counts(
    table: pl.DataFrame, group: pl.Series, size: np.ndarray | None, limit: Mapping[str, int], seed: int
) -> dict[str, int]:
    """Rows, or tokens, that count, by name, in the order of names."""
    if size is None:
        there = group.drop_nulls().value_counts().iter_rows()
        return {name: _capped(count, limit.get(name)) for name, count in sorted(there)}
    place = _placed(table, group, size, limit, seed)
    inside = place.filter(pl.col("group").is_not_null())
    return dict(inside.group_by("group").agg(pl.col("size").sum().cast(pl.Int64)).sort("group").iter_rows())


def _placed(
    table: pl.DataFrame, group: pl.Series, size: np.ndarray | None, limit: Mapping[str, int], seed: int
) -> pl.DataFrame:
    """A line a row, in the order of the table: group; size, 0 for a row beyond its group's limit; up_to: the sizes of the
    rows of its group with smaller draws, and its own (ties go by id)."""
    frame = pl.DataFrame(
        {
            "draw": draws(seed, "mix", table[columns.ID]),
            "id": table[columns.ID],
            "group": group,
            "size": np.ones(table.height, np.int64) if size is None else size.astype(np.int64),
        }
    ).with_row_index("row")
    frame = frame.sort("draw", "id")
    if limit:
        most = pl.col("group").replace_strict(dict(limit), default=None, return_dtype=pl.Int64)
        frame = frame.with_columns(nth=pl.int_range(pl.len()).over("group")).with_columns(
            size=pl.when(most.is_null() | (pl.col("nth") < most)).then("size").otherwise(0)
        )
    return frame.with_columns(up_to=pl.col("size").cum_sum().over("group")).sort("row").select("group", "size", "up_to")


def apply(
    table: pl.DataFrame,
    quotas: Mapping[str, int],
    seed: int,
    *,
    group: pl.Series | None = None,
    size: np.ndarray | None = None,
    limit: Mapping[str, int] | None = None,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(rows that stay, with `repeat`; rows that go, with a reason), both in the order of the table.

    A source with a quota of q and n rows counts each row q // n times, and q % n of them, those with the smallest draws,
    once more. group: what a row counts under, in place of its source; null is outside. size: tokens of each row; then q
    and n are tokens, and the rows with the smallest draws count once more while all of them fit into q % n, so a source
    gives at most its quota. limit: how many rows of a name count at all.
    """
    group = (table[columns.SOURCE] if group is None else group).alias("group")
    place = _placed(table, group, size, limit or {}, seed).with_columns(
        quota=pl.col("group").replace_strict(dict(quotas), default=0, return_dtype=pl.Int64)
    )
    whole = pl.col("size").sum().over("group")
    times = pl.col("quota") // whole + (pl.col("up_to") <= pl.col("quota") % whole)
    counts = pl.col("group").is_not_null() & (pl.col("size") > 0) & (whole > 0)
    repeat = place.select(pl.when(counts).then(times).otherwise(0).cast(pl.Int32).alias(columns.REPEAT))
    unit = "rows" if size is None else "tokens"
    reason = place.select(
        pl.when(pl.col("group").is_null())
        .then(pl.lit("mix: belongs to no part of the mixture"))
        .when(pl.col("quota") == 0)
        .then(pl.format("mix: the mixture takes nothing of {}", "group"))
        .otherwise(pl.format(f"mix: {{}} gives {{}} {unit}, and this row was not drawn", "group", "quota"))
        .alias(columns.REASON)
    )
    mixed = table.hstack(repeat)
    kept = mixed.filter(pl.col(columns.REPEAT) > 0)
    removed = mixed.hstack(reason).filter(pl.col(columns.REPEAT) == 0).drop(columns.REPEAT)
    return kept, removed


def realised(arrangement: Arrangement, table: pl.DataFrame, kept: pl.DataFrame) -> dict[str, dict[str, int]]:
    """What the kept rows come to, by name: rows (each counted once), counted (rows times `repeat`), and tokens."""
    rows = table.select(columns.ID, arrangement.group.alias("group"))
    if arrangement.size is not None:
        rows = rows.with_columns(pl.Series("size", arrangement.size))
    rows = kept.select(columns.ID, columns.REPEAT).join(rows, on=columns.ID, how="left")
    totals = [pl.len().alias("rows"), pl.col(columns.REPEAT).cast(pl.Int64).sum().alias("counted")]
    if arrangement.size is not None:
        totals.append((pl.col("size") * pl.col(columns.REPEAT)).cast(pl.Int64).sum().alias("tokens"))
    return {row.pop("group"): row for row in rows.group_by("group").agg(totals).sort("group").to_dicts()}


def sentence(line: Mapping[str, Any], unit: str) -> str:
    """A line of a plan, with what was realised."""
    text = f"{line['name']}: {line['quota']:,} of {line['there']:,} {unit}, {100 * line['share']:.2f} %"
    if unit == "tokens":
        return f"{text}; {line['tokens']:,} tokens in {line['rows']:,} rows"
    return text if line["counted"] == line["rows"] else f"{text}; {line['rows']:,} rows, repeated"


def _shared_out(weights: Mapping[str, Fraction], rows: int) -> dict[str, int]:
    """Whole numbers in proportion to the weights that sum to `rows`, by largest remainders; ties go by name."""
    total = sum(weights.values())
    if rows < 1 or not total:
        raise RequestError(
            f"mix: {rows} rows are asked of sources that hold {total}; ask for 1 or more, of sources with rows"
        )
    by_name = dict(
        zip(sorted(weights), largest_remainder([weights[name] for name in sorted(weights)], rows), strict=True)
    )
    return {name: by_name[name] for name in weights}


def _capped(count: int, cap: int | None) -> int:
    return count if cap is None else min(count, cap)


def _at_least(value: int | None, word: str) -> None:
    if value is not None and value < 1:
        raise RequestError(f"mix: {word} is {value}; it must be 1 or more")


def _short(weights: Mapping[str, float]) -> str:
    return _listed([f"{name} {weight}" for name, weight in weights.items()])


def _listed(words: list[str], most: int = 8) -> str:
    return ", ".join(words[:most]) + (f" and {len(words) - most} more" if len(words) > most else "")
