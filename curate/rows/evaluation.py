"""The evaluation sets of a study: named parts of the held-out rows, each scored as one average.

    evaluate: {breadth: {over: [fields.package, task]}, transformers: {where: {fields.package: transformers}, dev: 40, arms: [targeted]}}

``where``: columns and values, as steps have them, and a source's own columns as ``fields.NAME``. ``over``: the score is the
mean over the groups of these columns, each of the same weight; without it every byte weighs the same. ``arms``: those that the
question is about, so that the others do not count in its family. ``dev``: so many rows, drawn by hash, that selectors may be
shown and that are never scored.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl

from curate.contract import columns
from curate.contract.draws import shuffled
from curate.contract.errors import DataError
from curate.contract.methods import Parameter

if TYPE_CHECKING:
    from curate.run.ask import Ask

WHOLE = "all"  # the one set of a study that names none


def options() -> tuple[Parameter, ...]:
    return (
        Parameter("where", "dict", {}, "columns and values of the rows that are in the set; all of them if left out"),
        Parameter(
            "over", "str | list[str] | None", None, "columns over whose groups the score is a mean, each of one weight"
        ),
        Parameter(
            "arms", "list[str] | None", None, "arms that are compared there, beside the reference; all if left out"
        ),
        Parameter("dev", "int", 0, "rows that selectors may see, by `target: {dev: NAME}`, and that are never scored"),
    )


def bind(given: Any, ask: Ask) -> dict[str, dict[str, Any]]:
    """Each set's options by its name; says what is wrong with them."""
    if given is None:
        return {WHOLE: {"where": {}, "over": [], "arms": None, "dev": 0}}
    if not isinstance(given, dict) or not given:
        ask.say("`evaluate` is a mapping of names to evaluation sets, as in `evaluate: {all: {}}`", "evaluate")
        return {}
    sets = {}
    for name, asked in given.items():
        bound = ask.bind(f"evaluation set {name}", options(), asked if asked is not None else {}, "evaluate", name)
        over = bound["over"]
        where = {
            str(column): [str(value) for value in (values if isinstance(values, list) else [values])]
            for column, values in (bound["where"] or {}).items()
        }
        bound |= {"over": [over] if isinstance(over, str) else over or [], "where": where}
        for column in [*where, *bound["over"]]:
            if column not in ask.columns and not column.startswith(f"{columns.FIELDS}."):
                ask.say(
                    f"the evaluation set {name} names the column `{column}`, which held-out rows do not have; a source's own is "
                    "`fields.NAME`",
                    "evaluate",
                    name,
                )
        if bound["dev"] is not None and bound["dev"] < 0:
            ask.say(
                f"the evaluation set {name} asks for {bound['dev']} dev rows; ask for 0 or more",
                "evaluate",
                name,
                "dev",
            )
        sets[str(name)] = bound
    return sets


def groups(
    rows: pl.DataFrame, sets: dict[str, dict[str, Any]], seed: int
) -> tuple[dict[str, list[str | None]], dict[str, list[str]]]:
    """(of each set the group of every row, None outside it; of each set with dev rows their ids). A dev row is in no set."""
    inside: dict[str, pl.Series] = {}
    dev: dict[str, list[str]] = {}
    ids = rows[columns.ID]
    for name, asked in sets.items():
        mask = pl.repeat(True, rows.height, eager=True)
        for column, values in asked["where"].items():
            mask = mask & _text(rows, column, name).is_in(values).fill_null(False)
        inside[name] = mask
        if not mask.any():
            where = ", ".join(f"{column}: {values}" for column, values in asked["where"].items())
            raise DataError(f"study: the evaluation set {name} ({where}) has no row among the {rows.height:,} held out")
        if asked["dev"]:
            own = ids.filter(mask).sort().to_list()
            if asked["dev"] >= len(own):
                raise DataError(
                    f"study: the evaluation set {name} has {len(own):,} held-out rows and asks for {asked['dev']:,} dev rows, "
                    "which leaves none to score; hold out more rows, or take fewer"
                )
            dev[name] = sorted(own[i] for i in shuffled(seed, f"study.dev/{name}", own)[: asked["dev"]])
    seen = ids.is_in(sorted({id for some in dev.values() for id in some}))
    out: dict[str, list[str | None]] = {}
    for name, asked in sets.items():
        over = [_text(rows, column, name).fill_null("none").to_list() for column in asked["over"]]
        label = [" · ".join(parts) for parts in zip(*over, strict=True)] if over else [""] * rows.height
        keep = (inside[name] & ~seen).to_list()
        out[name] = [group if kept else None for group, kept in zip(label, keep, strict=True)]
    return out, dev


def _text(rows: pl.DataFrame, column: str, name: str) -> pl.Series:
    if column not in rows.columns:
        raise DataError(
            f"study: the evaluation set {name} names the column `{column}`, which held-out rows do not have; they have "
            f"{', '.join(sorted(rows.columns))}"
        )
    return rows[column].cast(pl.String)
