"""What a selection kept of its pool, on one page: tamis report WORK.

    write(Path("work"))                          # work/selection.html, of the last `select` stage
    data(Path("work"), stage="05-select")        # the same as JSON can say it, without the pictures

The page needs the folder alone, and every number on it is counted from the stage's tables. Cost: the measures of diversity
against 100 random subsets, at most a minute for the map, and the pool's texts and vectors once in memory.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
import numpy as np
import polars as pl

from curate.contract import columns
from curate.contract.draws import draws
from curate.contract.errors import RequestError, WorkError
from curate.contract.files import read_json, write_text
from curate.contract.page import Section, paragraph, preformatted, render_page
from curate.contract.page import table as text_table
from curate.contract.paths import library
from curate.contract.progress import say
from curate.diversity.against_random import CLEAR
from curate.rows import table
from curate.run import runner

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PAGE = "selection.html"

_SUBSETS = 100
_HEAVY = (columns.MESSAGES, columns.FIELDS, columns.EXTRA)  # not read: large, and nothing here shows them
_GROUPS = (columns.SOURCE, columns.TASK, columns.TASK_CLUSTER, columns.LICENSE)
_MOST_GROUPS = 12  # lines of a table of groups
_TEXTS, _TEXT = 10, 220  # texts shown of each kind; characters of each
_SHARES = (("var(--accent)", "share of what was kept", "square"), ("var(--soft)", "share of the pool", "square"))
_BINS = 20
_CURVE = 400  # points of the curve of gains
_Z_SHOWN = 8.0  # |z| at the ends of a strip
_MAP_CLUSTERS = 12  # where the recipe made none
_FACTS = 4  # numbers of the method that the lead tells
_ROWS_A_CLUSTER = 25  # that a cluster of the map has at least, on average


@dataclass(frozen=True)
class _Selection:
    """One select stage, as read. pool: the rows it chose from, `rank` and `gain` null where not kept. chosen: int64 (k,), the
    kept ones, by rank. outside: rows that `where` let pass by. text: what the vectors were made of. names: of the clusters,
    by the column that holds them, the last one first."""

    recipe: str
    manifest: dict[str, Any]
    pool: pl.DataFrame
    chosen: np.ndarray
    outside: int
    vectors: np.ndarray | None
    text: str
    names: dict[str, dict[int, str]]


def write(work: Path, stage: str | None = None, *, seed: int = 0) -> Path:
    """Writes WORK/selection.html whole and gives its path. stage: "05-select" or "select"; the last `select` stage if not
    given. seed: of the random subsets and of the rows that are shown. The same work gives the same bytes."""
    selection = _read(Path(work), stage)
    page = _page(selection, _data(selection, seed), seed)
    path = Path(work) / PAGE
    write_text(path, page)
    return path


def data(work: Path, stage: str | None = None, *, seed: int = 0) -> dict[str, Any]:
    """All numbers and texts of the page, as JSON can say them.

    groups: the table's rows by each column, largest first. lengths: characters, `edges` of the bins and the rows in each.
    gains: [rank, gain] of at most 400 picks. first: the first ten picks; not_kept: ten other rows, drawn by hash.
    """
    return _data(_read(Path(work), stage), seed)


def clusters(work: Path, stage: str | None, ks: str) -> tuple[list[dict[str, Any]], str]:
    """How many clusters the pool of a select stage falls into: a line a k (curate/report/how_many_clusters.py), and what to make of
    them. ks: "8,16,32"."""
    from curate.report import how_many_clusters

    try:
        wanted = [int(k) for k in ks.split(",")]
    except ValueError as error:
        raise RequestError(f"--clusters {ks}: write numbers with commas between them, as 8,16,32") from error
    selection = _read(Path(work), stage)
    if selection.vectors is None:
        raise RequestError(f"{work} has no vectors to cluster; add an `embed` step to the recipe and run it")
    lines = how_many_clusters.report(selection.vectors, wanted)
    best = how_many_clusters.suggest(lines)
    return lines, f"k = {best}: {how_many_clusters.RULE}." if best else "No k parts the rows into clusters."


# --- reading a work folder -------------------------------------------------------------------------------------------


def _read(work: Path, stage: str | None) -> _Selection:
    titles = [title for title in runner.titles(work) if title[:2].isdigit()]
    manifests = {title: read_json(work / title / "manifest.json") for title in titles}
    title = _stage(work, manifests, stage)
    kept, gone = _table(work / title / "kept"), _table(work / title / "removed")
    if columns.RANK not in kept.columns:
        raise WorkError(f"{work / title} holds no picks: its table has no column `rank`; run the recipe again")
    rank_and_gain = {columns.RANK: pl.Int32, columns.GAIN: pl.Float32}
    gone = gone.drop(columns.RANK, columns.GAIN, columns.STAGE, columns.REASON, strict=False)  # of an earlier stage
    gone = gone.with_columns(pl.lit(None, dtype=kind).alias(name) for name, kind in rank_and_gain.items())
    picked = kept.filter(pl.col(columns.RANK).is_not_null())
    pool = pl.concat([picked, gone], how="diagonal").sort(columns.ID)
    before = titles[: titles.index(title)]
    pool, vectors, text = _with_vectors(work, [t for t in before if manifests[t]["kind"] == "embed"], manifests, pool)
    rank = pool[columns.RANK].to_numpy()
    chosen = np.flatnonzero(~np.isnan(rank.astype(float)))
    chosen = chosen[np.argsort(rank[chosen], kind="stable")].astype(np.int64)
    made = [t.partition("-")[2] for t in reversed(before) if manifests[t]["kind"] == "cluster"]
    return _Selection(
        recipe=read_json(work / "stages.json").get("recipe") or title,
        manifest=manifests[title],
        pool=pool,
        chosen=chosen,
        outside=kept.height - picked.height,
        vectors=vectors,
        text=text,
        names={name: _names(pool, text, pool[name].to_numpy()) for name in made if name in pool.columns},
    )


def _stage(work: Path, manifests: dict[str, dict[str, Any]], stage: str | None) -> str:
    """The title of the select stage that was asked for, or of the last one."""
    selects = [title for title, manifest in manifests.items() if manifest["kind"] == "select"]
    if not selects:
        raise RequestError(
            f"{work} has no select stage to report on; it has {', '.join(manifests) or 'no stage at all'}; "
            "add `- select: {facility_location: {budget: 1000}}` to the recipe's steps and run it"
        )
    asked = [title for title in selects if stage is None or stage in (title, title.partition("-")[2])]
    if not asked:
        raise RequestError(f"{work} has no select stage '{stage}'; it has {', '.join(selects)}")
    return asked[-1]


def _table(folder: Path) -> pl.DataFrame:
    """A stage's table without what is only carried along."""
    try:
        parts = table.shards(folder)
        frames = [pl.read_parquet(p, columns=[c for c in pl.read_parquet_schema(p) if c not in _HEAVY]) for p in parts]
    except (OSError, pl.exceptions.PolarsError) as error:
        raise WorkError(f"{folder} cannot be read ({error}); run the recipe again") from error
    if not frames:
        raise WorkError(f"{folder} holds no part-*.parquet; run the recipe again")
    return pl.concat(frames, how="diagonal")


def _with_vectors(
    work: Path, embeds: Sequence[str], manifests: dict[str, dict[str, Any]], pool: pl.DataFrame
) -> tuple[pl.DataFrame, np.ndarray | None, str]:
    """(the pool in the order of its vectors, the vectors, which text they were made of); no vectors where none were made.

    Where the whole of what was embedded is the pool, the vectors are the file itself, memory-mapped.
    """
    if not embeds:
        return pool, None, columns.PROMPT
    folder = work / embeds[-1]
    try:
        vectors = np.load(folder / "vectors.npy", mmap_mode="r")
        known = pl.concat([pl.read_parquet(part, columns=[columns.ID]) for part in table.shards(folder / "kept")])
    except (OSError, ValueError, pl.exceptions.PolarsError) as error:
        raise WorkError(f"{folder} cannot be read ({error}); run the recipe again") from error
    pool = pool.join(known.with_row_index("at"), on=columns.ID, how="left").sort("at", columns.ID)
    at = pool["at"].drop_nulls().to_numpy().astype(np.int64)
    if len(at) != pool.height or known.height != len(vectors):
        raise WorkError(
            f"{folder} has {len(vectors):,} vectors for {known.height:,} rows, and {pool.height - len(at):,} rows of the pool "
            "are not among them; run the recipe again"
        )
    text = manifests[embeds[-1]]["facts"].get("text")
    return (
        pool.drop("at"),
        vectors if len(at) == len(vectors) else np.asarray(vectors[at]),
        text if text in (columns.PROMPT, columns.RESPONSE, columns.RECORD) else columns.PROMPT,
    )


def _names(pool: pl.DataFrame, text: str, label: np.ndarray) -> dict[int, str]:
    from curate.rows.cluster_names import names

    return {int(number): name for number, name in names(table.text_of(pool, text), label).items()}


# --- numbers ---------------------------------------------------------------------------------------------------------


def _data(selection: _Selection, seed: int) -> dict[str, Any]:
    manifest = selection.manifest
    facts = {name: value for name, value in manifest["facts"].items() if name not in ("budget", "pool")}
    gains = selection.pool[columns.GAIN].gather(selection.chosen)
    return {
        "recipe": selection.recipe,
        "stage": manifest["stage"],
        "method": manifest["method"],
        "options": manifest["options"],
        "seed": manifest["seed"],
        "pool": selection.pool.height,
        "kept": len(selection.chosen),
        "outside": selection.outside,
        "certificate": facts.pop("certificate", None),
        "diversity": facts.pop("diversity", None) or _diversity(selection, seed),
        "facts": facts,
        "groups": {by: _groups(selection, by) for by in (*_GROUPS, *selection.names) if by in selection.pool.columns},
        "lengths": {name: _lengths(selection, name) for name in (columns.PROMPT, columns.RESPONSE)},
        "gains": _thinned(gains),
        "first": _texts(selection, selection.chosen[:_TEXTS]),
        "not_kept": _texts(selection, _not_kept(selection, seed)),
    }


def _diversity(selection: _Selection, seed: int) -> list[dict[str, Any]]:
    from curate.diversity.against_random import report

    if not len(selection.chosen):
        return []
    say("  report: measures of diversity")
    measures = report(selection.pool, selection.vectors, selection.chosen, seed=seed, subsets=_SUBSETS)
    return [{name: _plain(value) for name, value in measure.items()} for measure in measures]


def _plain(value: Any) -> Any:
    """A value as JSON can say it: no numpy, no NaN."""
    value = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _groups(selection: _Selection, by: str) -> list[dict[str, Any]]:
    names = selection.names.get(by)
    picked = pl.col(columns.RANK).is_not_null()
    counted = selection.pool.group_by(by).agg(pl.len().alias("pool"), picked.sum().alias("kept"))
    rows, kept = selection.pool.height, len(selection.chosen)
    groups = []
    for value, in_pool, in_kept in counted.iter_rows():
        pool_share, kept_share = in_pool / rows, in_kept / kept if kept else None
        groups.append(
            {
                "name": "none" if value is None else str(value) if names is None else names.get(value, f"{by} {value}"),
                "value": value,
                "pool": in_pool,
                "kept": in_kept,
                "pool_share": pool_share,
                "kept_share": kept_share,
                "ratio": None if kept_share is None else kept_share / pool_share,
            }
        )
    return sorted(groups, key=lambda group: (-group["pool"], group["name"], str(group["value"])))


def _lengths(selection: _Selection, column: str) -> dict[str, Any]:
    """Characters of a column over the pool and over what was kept, in bins that grow by a constant factor."""
    pool = table.text_of(selection.pool, column).str.len_chars().to_numpy()
    kept = pool[selection.chosen]
    filled = pool[pool > 0]
    low, high = int(filled.min()) if len(filled) else 1, int(pool.max(initial=1))
    edges = np.unique(np.rint(np.geomspace(low, high + 1, _BINS + 1)))
    edges = np.insert(edges, 0, 0) if len(filled) < len(pool) else edges
    return {
        "edges": edges.astype(int).tolist(),
        "pool": np.histogram(pool, edges)[0].tolist(),
        "kept": np.histogram(kept, edges)[0].tolist(),
        "pool_median": float(np.median(pool)) if len(pool) else None,
        "kept_median": float(np.median(kept)) if len(kept) else None,
    }


def _thinned(gains: pl.Series) -> list[list[Any]]:
    """[rank, gain] of the first picks and of fewer and fewer later ones; nothing where the method tells no gain."""
    if gains.null_count() == gains.len():
        return []
    ranks = np.unique(np.rint(np.geomspace(1, gains.len(), _CURVE))).astype(int) - 1
    return [[int(rank), _plain(gains[int(rank)])] for rank in ranks]


def _not_kept(selection: _Selection, seed: int) -> np.ndarray:
    rest = np.setdiff1d(np.arange(selection.pool.height), selection.chosen)
    drawn = draws(seed, "selection_report.not_kept", selection.pool[columns.ID].gather(rest))
    return rest[np.argsort(drawn, kind="stable")[:_TEXTS]]


def _texts(selection: _Selection, rows: np.ndarray) -> list[dict[str, Any]]:
    wanted = [columns.ID, columns.RANK, columns.GAIN, columns.SOURCE, columns.TASK, columns.PROMPT, columns.RESPONSE]
    part = selection.pool[rows.tolist()].select(name for name in wanted if name in selection.pool.columns)
    texts = []
    for row in part.iter_rows(named=True):
        row[columns.GAIN] = _plain(row[columns.GAIN])
        for column in (columns.PROMPT, columns.RESPONSE):
            row[column] = _cut(row[column] or "", _TEXT)
        texts.append(row)
    return texts


def _cut(text: str, most: int) -> str:
    """One line without control characters, cut at `most`."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text[: 4 * most]).split())
    return line if len(line) <= most else line[: most - 1].rstrip() + "…"


# --- the page --------------------------------------------------------------------------------------------------------


def _page(selection: _Selection, found: dict[str, Any], seed: int) -> str:
    kept = f"{found['kept']:,} of {found['pool']:,} rows"
    sections = []
    if selection.vectors is not None and found["pool"]:
        sections.append(Section("Among its pool", _map(selection, seed)))
    if found["diversity"]:
        sections.append(Section("How diverse it is", _diversity_tables(found["diversity"])))
    sections.append(Section("What was kept", _group_tables(found)))
    sections.append(Section("Lengths", _length_plots(found["lengths"])))
    if any(gain is not None for _, gain in found["gains"]):
        sections.append(Section("What each pick added", _gain_plot(found["gains"], found["facts"].get("nested", True))))
    if found["first"]:
        sections.append(Section("The first picks", str(_parts().texts([_shown_text(row) for row in found["first"]]))))
    if found["not_kept"]:
        said = paragraph(f"{len(found['not_kept'])} rows drawn at random from those that were not kept.")
        rows = [_shown_text(row) for row in found["not_kept"]]
        sections.append(Section("Rows left out", said + str(_parts().texts(rows))))
    sections.append(Section("How it was chosen", _how(found)))
    sections[0] = Section(sections[0].title, str(_parts().style()) + sections[0].html)
    return render_page(f"{_cut(found['recipe'], 80)}: {kept}", lead=_lead(found), sections=sections)


@functools.cache
def _parts() -> Any:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(library("templates") / "page"), autoescape=True, undefined=jinja2.StrictUndefined
    )
    return environment.get_template("selection.html.jinja").module


def _lead(found: dict[str, Any]) -> str:
    share = 100 * found["kept"] / found["pool"] if found["pool"] else 0.0
    lead = f"{found['method']} kept {found['kept']:,} of {found['pool']:,} rows ({share:.3g} %)."
    if found["outside"]:
        passed = "1 row" if found["outside"] == 1 else f"{found['outside']:,} rows"
        lead += f" {passed} outside its `where` passed by and are not counted here."
    certificate = found["certificate"]
    if certificate:
        lead += (
            f" The value of its objective is {certificate['value']:,.6g}; no other choice allowed has more than "
            f"{certificate['upper_bound']:,.6g}, so it is at least {_floor(100 * certificate['ratio'])} % of the best possible."
        )
    numbers = [(name, value) for name, value in found["facts"].items() if isinstance(value, (int, float))]
    told = [f"{name.replace('_', ' ')} {_fact(value)}" for name, value in numbers[:_FACTS]]
    lead += f" The method tells: {', '.join(told)}." if told else ""
    judged = [_toward_diverse(m) for m in found["diversity"] if m["better"] and m["z"] is not None]
    if judged:
        more, less = sum(z > CLEAR for z in judged), sum(z < -CLEAR for z in judged)
        lead += (
            f"\n\nAgainst {_SUBSETS} random subsets of the same size it is more diverse by {more} of {len(judged)} measures, "
            f"less by {less}, and within their range by {len(judged) - more - less}."
        )
    return lead


def _floor(percent: float) -> str:
    """Rounded down: a bound must not be made better than it is."""
    return f"{math.floor(percent * 10 + 1e-9) / 10:g}"


def _toward_diverse(measure: dict[str, Any]) -> float:
    return -measure["z"] if measure["better"] == "lower" else measure["z"]


def _map(selection: _Selection, seed: int) -> str:
    from curate.report.selection_map import POINTS, draw, project, sample

    assert selection.vectors is not None
    say("  report: the map, up to a minute")
    shown = sample(selection.pool[columns.ID].to_list(), selection.chosen, seed=seed)
    part = selection.pool[shown.tolist()]
    vectors = np.asarray(selection.vectors[shown])
    points, how = project(vectors)
    kept = part[columns.RANK].is_not_null().to_numpy()
    label, names, made = _map_clusters(selection, part, vectors, seed)
    caption = f"{how} of the rows' vectors: neighbours here are alike, while distances between groups and their sizes say little."
    if names:
        caption += f" Names are the most typical words of {made}, where there is room."
    counts = (
        (int(kept.sum()), len(selection.chosen)),
        (int((~kept).sum()), selection.pool.height - len(selection.chosen)),
    )
    key = [
        (POINTS[is_kept], f"{word}: {n:,}" + (f", drawn at random from {of:,}" if n < of else ""), "round")
        for is_kept, word, (n, of) in zip((True, False), ("kept", "not kept"), counts, strict=True)
    ]
    return str(_parts().plot(draw(points, kept, label, names), caption, key))


def _map_clusters(
    selection: _Selection, part: pl.DataFrame, vectors: np.ndarray, seed: int
) -> tuple[np.ndarray, dict[int, str], str]:
    """(label of each point, names, what they are): the recipe's last clusters, else k-means of the points for the map alone."""
    for column, names in selection.names.items():
        return part[column].fill_null(-1).to_numpy(), names, f"the recipe's clusters ({column})"
    k = min(_MAP_CLUSTERS, part.height // _ROWS_A_CLUSTER)
    if k < 2:
        return np.full(part.height, -1), {}, ""
    from curate.cluster.kmeans import cluster

    label = cluster(vectors, seed=seed, k=k).label
    return label, _names(part, selection.text, label), f"{k} groups that k-means made for the map"


def _diversity_tables(measures: list[dict[str, Any]]) -> str:
    judged = [measure for measure in measures if measure["better"]]
    shapes = [measure for measure in measures if not measure["better"]]
    caption = (
        f"Value: of the kept rows. Random: the mean of {_SUBSETS} random subsets of the same size. z: how many of their standard "
        f"deviations the value lies from that mean. The shaded band is z from −{CLEAR:g} to {CLEAR:g}, where about 997 of 1,000 "
        f"random subsets lie; an arrow stands for a z beyond ±{_Z_SHOWN:g}. To the right is more diverse, also where a lower "
        "value is, and z is negative."
    )
    html = ""
    if judged:
        html += str(_parts().measures([_shown_measure(m) for m in judged], ("less", "more diverse"), caption))
    if shapes:
        html += paragraph("Neither better nor worse, but telling when far from random:") if judged else ""
        rows = [_shown_measure(measure) for measure in shapes]
        html += str(_parts().measures(rows, ("below", "above random"), "" if judged else caption))
    return html


def _shown_measure(measure: dict[str, Any]) -> dict[str, Any]:
    z = measure["z"]
    shown: dict[str, Any] = {"name": str(measure["name"]).replace("_", " "), "about": str(measure["about"])}
    shown |= {"value": _number(measure["value"]), "random": _number(measure["random_mean"]), "place": None, "z": "–"}
    if z is None:
        return shown
    toward = _toward_diverse(measure)
    colour = "--quiet" if abs(z) <= CLEAR or not measure["better"] else "--accent" if toward > 0 else "--warm"
    half = 80 / _Z_SHOWN  # a strip is 176 wide, its middle at 88
    return shown | {
        "z": f"{round(z, 1) + 0.0:+.1f}".replace("-", "−"),
        "place": round(88 + half * max(-_Z_SHOWN, min(_Z_SHOWN, toward)), 1),
        "beyond": abs(z) > _Z_SHOWN,
        "band": (88 - half * CLEAR, 2 * half * CLEAR),
        "colour": colour,
    }


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    text = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return text.replace("-", "−")


def _group_tables(found: dict[str, Any]) -> str:
    html, single = "", []
    for by, groups in found["groups"].items():
        if len(groups) < 2:
            single += [f"{by} {_cut(group['name'], 60)}" for group in groups if group["value"] is not None]
            continue
        filled = sum(group["kept"] > 0 for group in groups)
        caption = (
            f"{filled:,} of {len(groups):,} have a kept row. Ratio: the share of what was kept to that of the pool."
        )
        rows = _largest(groups, found)
        widest = max(max(group["kept_share"] or 0, group["pool_share"]) for group in groups)
        shown = [_shown_group(row, widest if row in groups else None) for row in rows]
        html += str(_parts().groups(by.replace("_", " "), shown, caption))
    if html:
        html = str(_parts().key_of(_SHARES)) + html
    if single:
        html += paragraph(f"All rows have: {'; '.join(single)}.")
    return html or paragraph("The rows have no source, task, task cluster, licence or cluster to count them by.")


def _largest(groups: list[dict[str, Any]], found: dict[str, Any]) -> list[dict[str, Any]]:
    """The largest groups; what is left over is one line."""
    if len(groups) <= _MOST_GROUPS:
        return groups
    rest = groups[_MOST_GROUPS - 1 :]
    pool, kept = sum(group["pool"] for group in rest), sum(group["kept"] for group in rest)
    pool_share = pool / found["pool"]
    kept_share = kept / found["kept"] if found["kept"] else None
    ratio = None if kept_share is None else kept_share / pool_share
    others = {"pool": pool, "kept": kept, "pool_share": pool_share, "kept_share": kept_share, "ratio": ratio}
    return [*groups[: _MOST_GROUPS - 1], {"name": f"{len(rest):,} others", "value": None, **others}]


def _shown_group(group: dict[str, Any], widest: float | None) -> dict[str, Any]:
    """A line of the table; no bars without a widest share to set them against."""
    kept_share = group["kept_share"]
    return {
        "name": _cut(group["name"], 80),
        "kept": f"{group['kept']:,}",
        "pool": f"{group['pool']:,}",
        "kept_share": "–" if kept_share is None else f"{100 * kept_share:.1f} %",
        "pool_share": f"{100 * group['pool_share']:.1f} %",
        "ratio": "–" if group["ratio"] is None else f"{group['ratio']:.2f}",
        "bars": [round(100 * share / widest, 1) for share in (kept_share or 0.0, group["pool_share"])]
        if widest
        else None,
    }


def _shown_text(row: dict[str, Any]) -> dict[str, str]:
    rank, gain = row[columns.RANK], row[columns.GAIN]
    of = [f"{rank + 1}."] if rank is not None else []
    of += [_cut(str(row[name]), 60) for name in (columns.SOURCE, columns.TASK) if row.get(name) is not None]
    of += [f"gain {_number(gain)}"] if gain is not None else []
    return {"of": " · ".join(of), "prompt": row[columns.PROMPT], "response": row[columns.RESPONSE]}


def _how(found: dict[str, Any]) -> str:
    facts = [(name.replace("_", " "), _fact(value)) for name, value in found["facts"].items()]
    facts = [(name, value) for name, value in facts if value]
    html = text_table(["the method says", ""], facts) if facts else ""
    options = ", ".join(f"{name} {value}" for name, value in found["options"].items())
    return (
        paragraph(f"Stage {found['stage']}: {found['method']} ({options or 'no options'}), seed {found['seed']}.")
        + html
        + preformatted(f"tamis report WORK --stage {found['stage']}\ntamis show WORK --stage {found['stage']}")
    )


def _fact(value: Any) -> str:
    """A fact of a manifest in a table's cell; what is no plain value has no place there."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return _number(value)
    return _cut(value, 120) if isinstance(value, str) else ""


# --- pictures --------------------------------------------------------------------------------------------------------


def _length_plots(lengths: dict[str, dict[str, Any]]) -> str:
    from curate.report.selection_map import ACCENT, SOFT, plotting, svg

    with plotting():
        from matplotlib.figure import Figure
        from matplotlib.ticker import FuncFormatter, MaxNLocator

        figure = Figure(figsize=(7.2, 2.2), layout="constrained")
        for axes, (name, one) in zip(figure.subplots(1, 2), lengths.items(), strict=True):
            edges = np.maximum(one["edges"], 0.5)
            for side, style in (
                ("pool", {"fill": True, "color": SOFT}),
                ("kept", {"fill": False, "edgecolor": ACCENT, "linewidth": 1.6}),
            ):
                rows = np.array(one[side], dtype=float)
                axes.stairs(100 * rows / max(rows.sum(), 1), edges, **style)
            axes.set_xlim(edges[0], edges[-1])
            _count_in_powers(axes, float(edges[-1] / edges[0]))
            axes.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{share:g} %"))
            axes.yaxis.set_major_locator(MaxNLocator(nbins=4))
            axes.set_title(f"characters of the {name}", fontsize=9, loc="left")
        picture = svg(figure)
    medians = [
        f"{name} {_number(one['kept_median'])} against {_number(one['pool_median'])}" for name, one in lengths.items()
    ]
    caption = f"Share of the rows at each length. Medians, kept against the pool: {'; '.join(medians)} characters."
    key = [("var(--accent)", "kept", "square"), ("var(--soft)", "the pool", "square")]
    return str(_parts().plot(picture, caption, key))


def _gain_plot(gains: list[list[Any]], nested: bool) -> str:
    from curate.report.selection_map import ACCENT, LINE, plotting, svg

    told = [(rank + 1, gain) for rank, gain in gains if gain is not None]
    rank, gain = (np.array(side, dtype=float) for side in zip(*told, strict=True))
    falls_far = bool((gain > 0).all()) and gain.max() > 30 * gain.min()
    with plotting():
        from matplotlib.figure import Figure
        from matplotlib.ticker import FuncFormatter

        figure = Figure(figsize=(7.2, 2.6), layout="constrained")
        axes = figure.subplots()
        axes.plot(rank, gain, color=ACCENT, linewidth=1.6, marker="o" if len(rank) == 1 else "")
        _count_in_powers(axes, float(rank[-1] / rank[0]))
        axes.set_yscale("log" if falls_far else "linear")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.grid(color=LINE, linewidth=0.6)
        axes.set_axisbelow(True)
        axes.set_xlabel("pick")
        axes.set_ylabel("gain")
        picture = svg(figure)
    caption = (
        f"What each pick added to the method's own objective when it was picked: {_number(gain[0])} at pick {rank[0]:,.0f}, "
        f"{_number(gain[-1])} at pick {rank[-1]:,.0f}."
        + (" Every prefix of the picks is the smaller selection." if nested else "")
    )
    return str(_parts().plot(picture, caption))


def _count_in_powers(axes: Axes, span: float) -> None:
    """A logarithmic x axis of whole numbers; also 2 and 5 of each power of ten are told where there is room."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if span < 200 else (1,)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda number, _: f"{number:,.0f}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
