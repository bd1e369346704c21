"""What `tamis analyse` shows of results: a study's own, or a table of anybody's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.contract.errors import RequestError
from curate.stages import study as study_stage
from train.study import reading, say
from train.study.analysis import analyse
from train.study.facts import facts as summarise
from train.study.moments import ENOUGH, Estimate
from train.study.records import Gap, Records, analyse_records, curse, hurt
from train.study.transfer import Transfer, transfer


@dataclass
class Shown:
    """Tables with titles and sentences for a terminal, and all of it for JSON."""

    facts: dict[str, Any]
    tables: list[tuple[str, list[dict[str, Any]]]] = field(default_factory=list)
    sentences: list[str] = field(default_factory=list)


def analysed(
    paths: Sequence[Path],
    named: str,
    *,
    reference: str,
    higher_is_better: bool,
    baseline: Sequence[Path],
    **how: Any,
) -> Shown:
    """Bits and bytes by item, or five runs or more of each arm, go to the study's own analysis; tables of few seeds to that of
    records, which pools their spread. how: of `train.study.analysis.analyse_results`."""
    if len(paths) == 1 and paths[0].suffix == ".parquet" and not named and not baseline:
        table = _parquet(paths[0])
        if {"bits", "bytes", "arm", "item"} <= set(table.column_names):
            return _study(table, reference, **how)
    names = reading.mapping(named)
    table = reading.read(paths, names)
    untuned = None
    if baseline:
        of_runs = ("arm", "budget", "draw", "seed", *reading.PLACES)
        its_own = {ours: theirs for ours, theirs in names.items() if ours not in of_runs}
        untuned = reading.read(baseline, its_own)
    if {"bits", "bytes"} <= set(table.column_names):
        return _study(_tidy(table, untuned), reference, higher_is_better=higher_is_better, **how)
    if "value" not in table.column_names:
        there = ", ".join(name for name in table.column_names if name != "where")
        raise RequestError(
            f"{paths[0]}: name the column of the scores, as in `--map value=THEIRS`; ours are there: {there}"
        )
    one_model, runs = len(set(_column(table, "model", "the model"))) == 1, _runs(table)
    by_item = len(set(_column(table, "item", None))) > 1 and "arm" in table.column_names
    if one_model and (runs >= ENOUGH or (runs == 1 and by_item)):
        valued = _tidy(table, untuned)
        unit = names.get("value", "value")
        return _study(valued, reference, higher_is_better=higher_is_better, unit=unit, **how)
    if how["compare"] or how["population"] != "this pool" or how["tasks"] != "these tasks":
        raise RequestError(
            f"--compare, --pools and --new-tasks are for one model with {ENOUGH} runs or more of each arm; these results have "
            f"{'one model' if one_model else 'several models'} and {runs}"
        )
    return _records(
        analyse_records(
            table, reference=reference, higher_is_better=higher_is_better, delta=how["delta"], baseline=untuned
        )
    )


def write_page(shown: Shown, folder: Path) -> Path:
    """analysis.html and analysis.md in ``folder``: the sentences, then every table."""
    from train.study.document import Bullets, Chapter, Document, Table, write

    folder.mkdir(parents=True, exist_ok=True)
    lead, *rest = shown.sentences[::-1]
    tables = []
    for title, rows in shown.tables:
        name, _, caption = title.partition(": ")
        cells = [list(row.values()) for row in rows]
        tables.append(Chapter(name, [Table(list(rows[0]), cells, caption[:1].upper() + caption[1:])]))
    chapters = [Chapter("What else the results say", [Bullets(rest[::-1])]), *tables] if rest else tables
    write(Document("What these results say", lead, chapters), folder, "analysis")
    return folder / "analysis.html"


def _parquet(path: Path) -> pa.Table:
    import pyarrow.parquet as pq

    if not path.is_file():
        raise RequestError(f"{path}: no such file; a study writes its results.parquet into WORK/study")
    try:
        return pq.read_table(path)
    except pa.ArrowInvalid as error:
        raise RequestError(f"{path}: is no Parquet file ({str(error).splitlines()[0]})") from None


def _column(table: pa.Table, name: str, default: Any) -> list[Any]:
    return table[name].to_pylist() if name in table.column_names else [default] * table.num_rows


def _runs(table: pa.Table) -> int:
    """The fewest runs (a draw and a seed) of a cell."""
    seen: dict[Any, set[Any]] = {}
    columns = (_column(table, name, 0) for name in ("arm", "budget", "draw", "seed"))
    for arm, budget, draw, seed in zip(*columns, strict=True):
        seen.setdefault((arm, budget), set()).add((draw, seed))
    return min(map(len, seen.values()))


def _tidy(table: pa.Table, untuned: pa.Table | None) -> pa.Table:
    """As train/study/results.py reads it: a value counts as the bits of an item of one byte."""
    if "arm" not in table.column_names:
        there = ", ".join(name for name in table.column_names if name != "where")
        raise RequestError(
            f"the results have no column for arm; say which it is, as in `--map arm=THEIRS`; they have {there}"
        )
    parts = [table] if untuned is None else [table, untuned]
    out = []
    for part in parts:
        of_untuned = part is untuned
        item = _column(part, "item", None)
        task = _column(part, "task", "none")
        out.append(
            pa.table(
                {
                    "arm": ["untuned"] * part.num_rows if of_untuned else _column(part, "arm", "the arm"),
                    "budget": pa.array([0] * part.num_rows if of_untuned else _column(part, "budget", 1), pa.int64()),
                    "draw": pa.array([0] * part.num_rows if of_untuned else _column(part, "draw", 0), pa.int64()),
                    "seed": pa.array([0] * part.num_rows if of_untuned else _column(part, "seed", 0), pa.int64()),
                    "item": [i if i is not None else t for i, t in zip(item, task, strict=True)],
                    "task": task,
                    "bits": pa.array(
                        _column(part, "bits" if "bits" in part.column_names else "value", 0.0), pa.float64()
                    ),
                    "bytes": pa.array(_column(part, "bytes", 1.0), pa.float64()),
                }
            )
        )
    return pa.concat_tables(out)


# --- a study ----------------------------------------------------------------------------------------------------------


def _study(table: pa.Table, reference: str, **how: Any) -> Shown:
    found = summarise(analyse(table, reference=reference, **how))
    shown = Shown(found)
    for part in study_stage.shows(found):
        shown.sentences.append(part) if isinstance(part, str) else shown.tables.append(part)
    if "factor.model" in table.column_names and (across := _across(table, reference, how)) is not None:
        shown.sentences.append(_transfer_said(across, found["reference"]))
        shown.facts["transfer"] = _transfer_facts(across)
    return shown


def _across(table: pa.Table, reference: str, how: dict[str, Any]) -> Transfer | None:
    """Whether verdicts on one model of a study hold on another. The draws are the seeds of the record."""
    tuned = table.filter(pc.greater(table["budget"], 0))  # pyright: ignore
    arms, runs = set(tuned["factor.arm"].to_pylist()), _runs(tuned)
    if len(arms) < 2 or reference not in arms or runs < 2:
        return None
    rows = tuned.group_by(["factor.model", "factor.arm", "budget", "draw", "seed", "task"]).aggregate(
        [("bits", "sum"), ("bytes", "sum")]
    )
    renamed = {"factor.model": "model", "factor.arm": "arm"}
    rows = rows.rename_columns([renamed.get(name, name) for name in rows.column_names])
    rows = rows.append_column("value", pc.divide(rows["bits_sum"], pc.cast(rows["bytes_sum"], pa.float64())))  # pyright: ignore
    rows = rows.append_column("where", pa.array(["results"] * rows.num_rows))
    return transfer(analyse_records(rows, reference=reference, higher_is_better=bool(how.get("higher_is_better"))))


_MARKS = {"better": "*", "worse": "*", "equivalent": "=", "not shown": ""}

# --- a record of several models and tasks -----------------------------------------------------------------------------


def _records(records: Records) -> Shown:
    shown = Shown({"reference": records.reference, "seeds": records.seeds, "blocks": [], "means": {}})
    tasks = list(dict.fromkeys(block.task for block in records.blocks))
    for model in records.models:
        blocks = [block for block in records.blocks if block.model == model]
        means = records.means[model]
        shown.facts["means"][model] = [_gap_facts(g) for g in means]
        rows = []
        for arm in dict.fromkeys(g.arm for g in means):
            own = [g for block in blocks for g in block.gaps if g.arm == arm]
            row: dict[str, Any] = {"arm": arm}
            for g in means:
                if g.arm == arm:
                    row[f"{g.budget:,}"] = f"{float(g.difference.value):+.3g}{_MARKS[g.verdict]}"
            for verdict, name in (("better", "better"), ("worse", "worse"), ("equivalent", "same")):
                row[name] = sum(g.verdict == verdict for g in own)
            rows.append(row)
        free = sum(block.pooled.free for block in blocks)
        title = (
            f"{model}: less {records.reference}, mean of {len(blocks)} {'tasks' if len(blocks) > 1 else 'task'}; better, worse "
            f"and same count budgets of single tasks ({free} degrees of freedom)"
        )
        shown.tables.append((title, rows))
    shown.facts["blocks"] = [_block_facts(block) for block in records.blocks]
    shown.sentences += [_how_said(records, len(tasks)), _worth_said(records), _curse_said(records)]
    if untuned := hurt(records):
        shown.facts["untuned"] = {m: dict(zip(("cells", "below", "shown"), n, strict=True)) for m, n in untuned.items()}
        said = [
            f"{m} {100 * below / n:.0f} % ({100 * sure / n:.0f} % shown)" for m, (n, below, sure) in untuned.items()
        ]
        shown.sentences.append(f"Below the untuned model: {', '.join(said)} of the cells.")
    best = curse(records)
    shown.facts["best_of_arms"] = vars(best)
    if (across := transfer(records)) is not None:
        shown.facts["transfer"] = _transfer_facts(across)
        shown.sentences.append(_transfer_said(across, records.reference))
    return shown


def _how_said(records: Records, tasks: int) -> str:
    doubtful = [block for block in records.blocks if block.pooled.levene <= 0.01]
    few = f"There are {records.seeds} seeds, fewer than {ENOUGH}, so t" if records.seeds < ENOUGH else "T"
    text = (
        f"{few}he spread from seed to seed is pooled over all arms and budgets of one task and model ({records.blocks[0].pooled.free} degrees "
        "of freedom each): intervals speak of other seeds, on these tasks. A star, better and worse: p of 0.05 or below after "
        "Holm's correction over one model's means, or over one task and model. An equals sign, and same: within delta, by two "
        "one-sided tests corrected alike."
    )
    if doubtful:
        named = say.listed([f"{block.task} under {block.model}" for block in doubtful[:3]])
        text += (
            f" The spread is not the same for all arms in {len(doubtful)} of {len(records.blocks)} (Levene, 1 %), as {named}: there the "
            "intervals of the wider arms are too narrow."
        )
    return text


def _worth_said(records: Records) -> str:
    lines = [block for block in records.blocks if block.curve is not None]
    if not lines:
        return "m(N) is undefined: there is one budget, and so no curve."
    off = [block for block in lines if block.curve is not None and not block.curve.shown]
    where = ", ".join(f"{block.task} under {block.model}" for block in off[:8]) + (", …" if len(off) > 8 else "")
    said = (
        f"m(N) is undefined in {len(off)} of {len(lines)} curves of {records.reference}: more examples are not shown to help there ({where})."
        if off
        else f"{records.reference} gets better with its examples in all {len(lines)} curves."
    )
    known = [(block, w) for block in lines for w in block.worths if w.defined and w.bounded]
    above = [w for _, w in known if w.low > 1]
    below = [w for _, w in known if w.high < 1]
    if known:
        median = float(np.median([w.value for _, w in known]))
        said += (
            f" Of {len(known)} that have an interval with two ends, {len(above)} lie above 1 and {len(below)} below; their median is "
            f"{median:.2g}."
        )
    return said


def _curse_said(records: Records) -> str:
    best = curse(records)
    return (
        f"The best of {best.arms} arms seems to gain {best.observed:+.3g} over {records.reference}; read on a seed that had no part in the "
        f"choice it gains {best.honest:+.3g}, and shrunken by what noise alone spreads {best.shrunken:+.3g} (in the mean over models, "
        "tasks and budgets)."
    )


def _transfer_said(across: Transfer, reference: str) -> str:
    said = (
        f"Will it hold on another model? The sign of a difference between two arms is the same on another model in {across.every} "
        f"decisions, and where the first model shows it in {across.shown}; chance is 50 %."
    )
    if across.beats_range is not None:
        low, high = across.beats_range
        said += (
            f" An arm that beats {reference} on one model beats it on another in {across.beats} ({100 * low:.0f} to {100 * high:.0f} % by "
            f"pair of models), and any arm does in {100 * across.beats.chance:.0f} %."
        )
    if across.every.error is not None:
        said += f" Errors are a jackknife over {len(across.models)} models, and rough."
    return said


def _transfer_facts(across: Transfer) -> dict[str, Any]:
    parts = {name: vars(getattr(across, name)) for name in ("every", "shown", "beats")}
    pairs = [[None if np.isnan(x) else round(float(x), 4) for x in row] for row in across.pairs]
    return {**parts, "beats_range": across.beats_range, "models": across.models, "pairs": pairs}


def _block_facts(block: Any) -> dict[str, Any]:
    return {
        "model": block.model,
        "task": block.task,
        "untuned": block.untuned,
        "residual_sd": float(np.sqrt(block.pooled.square)),
        "degrees_of_freedom": block.pooled.free,
        "levene_p": block.pooled.levene,
        "gain": None if block.curve is None else {**_interval(block.curve.gain), "shown": block.curve.shown},
        "gaps": [_gap_facts(g) for g in block.gaps],
        "worths": [{"arm": w.arm, "budget": w.budget, "m": str(w)} for w in block.worths],
    }


def _gap_facts(g: Gap) -> dict[str, Any]:
    return {
        "arm": g.arm,
        "budget": g.budget,
        **_interval(g.difference),
        "p_holm": g.p_holm,
        "p_equivalent": g.p_equivalent,
        "verdict": g.verdict,
    }


def _interval(e: Estimate) -> dict[str, float]:
    return {"difference": float(e.value), "low": float(e.low), "high": float(e.high), "p": float(e.p)}
