"""All selectors on one pool: what each costs, what it reaches, how diverse it is, and how much they choose the same rows.

    make bench-select POOL=work                                      # or, with options:
    python -m benchmarks.selectors work --budget 500 --only facility_location,k_center,random

WORK is a folder of `tamis run` with an embed and a select stage; the pool is that of its last select stage. Written are
WORK/selectors.html, one page, and WORK/selectors.json, all its numbers. Each selector runs in a process of its own, once on a few
rows so that its libraries are loaded, then on the pool, then with other seeds and other numbers of clusters. A selector that needs
a column gets one that the pool has, which the page tells; one that fails is listed with its sentence.

Cost: that of the selectors, one after another, up to eight times each; then the diversity report of all selections together, whose
100 random subsets are measured once. 20 selectors, 100 of 1,076 rows of 256: under a minute.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import math
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
import numpy as np
import polars as pl

from curate.contract import columns, methods
from curate.contract.draws import draws
from curate.contract.errors import RequestError, TamisError
from curate.contract.files import write_json, write_text
from curate.contract.page import Section, paragraph, preformatted, render_page
from curate.contract.page import table as text_table
from curate.contract.paths import library
from curate.contract.progress import say, shown
from curate.diversity import against_random as diversity_report
from curate.diversity.against_random import CLEAR
from curate.report import selection_report
from curate.rows.pick import pick
from curate.rows.pool import Pool
from curate.run.memory import peak_mb, reset_peak
from curate.vectors.unit import unit

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SUBSETS = 100  # random ones that every measure is held against
LENGTH = "response_characters"  # stands in for a score
VENDI, WORDS = "vendi_1", "response_words"  # measures of the diversity report that the table tells
_SHARE = 10  # of the pool is chosen, one row in so many, where the budget is not given
_WARM = 64  # rows that a selector tries first
_BLOCK = 4_096  # rows of the pool compared with a selection at a time
_CUTS = (0.5, 1, 2)  # times the number of clusters
_STRONG = 8.0  # |z| of the strongest colour
_NEARLY = 0.5  # overlap above which two selectors choose much the same rows
_LETTERS = 8.0  # size of a name in the plot


@dataclass(frozen=True)
class Wanted:
    """How one selector is run. clusters: the option that names a cluster column, "k" where it makes its own, or None."""

    name: str
    options: dict[str, Any]
    clusters: str | None = None


@dataclass(frozen=True)
class Ran:
    """What a selector did. mb: how far the process grew during the call. seeds, cuts: its picks by seed and by number of
    clusters, int64 (budget,) each; those of seed 0 are the picks proper. draws: whether seed 1 gave others; None where there was
    one seed."""

    seconds: float
    mb: int
    seeds: dict[int, np.ndarray]
    draws: bool | None = None
    cuts: dict[int, np.ndarray] = field(default_factory=dict)

    @property
    def picks(self) -> np.ndarray:
        return self.seeds[0]


def compare(
    work: Path, *, budget: int | None = None, seeds: int = 5, only: Sequence[str] = (), subsets: int = SUBSETS
) -> dict[str, Any]:
    """All numbers of the comparison, as JSON can say them.

    selectors: by name, options, seconds, mb, facility_location (mean over the pool of the largest cosine to a pick, not below 0),
    radius (largest distance of a row to its nearest pick), seed_overlap and k_overlap (mean Jaccard overlap of the picks between
    seeds, and between half, once and twice the clusters in ``ks``; None where nothing was varied), draws (whether
    seed 1 gave other picks than seed 0; if not, no other seed was tried), diversity (the lines of ``curate.diversity.against_random``). random: facility_location, radius and vendi of each random subset. overlap: Jaccard of each two selectors' picks, in the order of
    ``order``. failed and left_out: a sentence each.
    """
    selection = selection_report._read(Path(work), None)
    pool = selection.pool.drop(columns.RANK, columns.GAIN)
    if selection.vectors is None:
        raise RequestError(
            f"{work} has no vectors to compare selectors by; add `- embed: hashing` before `select` and run it"
        )
    if seeds < 1:
        raise RequestError(f"--seeds is {seeds}; it is a number of seeds, 1 or more")
    if budget is None:
        budget = min(len(selection.chosen), max(1, pool.height // _SHARE))
    if not 1 <= budget <= pool.height:
        raise RequestError(f"--budget is {budget:,}; {work} has a pool of {pool.height:,} rows, and so many at most")
    score = _score(pool)
    if score == LENGTH:
        pool = pool.with_columns(pl.col(columns.RESPONSE).fill_null("").str.len_chars().alias(LENGTH))
    cluster = next(iter(selection.names), None)
    wanted, left_out = _plan(pool, score, cluster, only)
    ran, failed = _run_all(pool, selection.vectors, cluster, wanted, budget, seeds)
    picks = {name: one.picks for name, one in ran.items()}
    say("measuring")
    vectors = unit(selection.vectors, "the comparison of selectors")
    diversity, random = _diversity(pool, vectors, picks, budget, subsets)
    values = _coverage(vectors, list(picks.values()), np.arange(len(vectors)))
    drawn = draws(0, "selectors.pool", pool[columns.ID])
    stands = np.sort(np.argsort(drawn, kind="stable")[: diversity_report.POOL_ROWS])
    by_chance = _coverage(vectors, [subset for subset, _ in random], stands)
    overlap = np.array([[jaccard(a, b) for b in picks.values()] for a in picks.values()])
    return {
        "recipe": selection.recipe,
        "stage": selection.manifest["stage"],
        "rows": pool.height,
        "dimensions": int(selection.vectors.shape[1]),
        "budget": budget,
        "seeds": seeds,
        "subsets": subsets,
        "score": score,
        "selectors": {
            name: {
                "options": next(one.options for one in wanted if one.name == name),
                "seconds": round(one.seconds, 3),
                "mb": one.mb,
                "facility_location": value,
                "radius": radius,
                "seed_overlap": mean_overlap(one.seeds.values()),
                "draws": one.draws,
                "k_overlap": mean_overlap(one.cuts.values()),
                "ks": list(one.cuts),
                "diversity": diversity[name],
            }
            for (name, one), (value, radius) in zip(ran.items(), values, strict=True)
        },
        "random": {
            "facility_location": [value for value, _ in by_chance],
            "radius": [radius for _, radius in by_chance],
            "vendi": [vendi for _, vendi in random],
        },
        "order": list(picks),
        "overlap": overlap.round(6).tolist(),
        "failed": failed,
        "left_out": left_out,
    }


def jaccard(one: np.ndarray, other: np.ndarray) -> float:
    """Rows in both over rows in either; 1 for the same rows."""
    both = len(np.intersect1d(one, other))
    return both / max(len(one) + len(other) - both, 1)


def mean_overlap(runs: Iterable[np.ndarray]) -> float | None:
    """The mean Jaccard overlap of each two; None for fewer than two."""
    found = [jaccard(one, other) for one, other in itertools.combinations(runs, 2)]
    return float(np.mean(found)) if found else None


# --- which selectors, and how ----------------------------------------------------------------------------------------


def _score(pool: pl.DataFrame) -> str:
    """The first score column without gaps, else the stand-in."""
    whole = (name for name in pool.columns if name.startswith("score_") and pool[name].dtype.is_numeric())
    return next((name for name in whole if pool[name].cast(pl.Float64).is_finite().fill_null(False).all()), LENGTH)


def _plan(
    pool: pl.DataFrame, score: str, cluster: str | None, only: Sequence[str]
) -> tuple[list[Wanted], dict[str, str]]:
    """(the selectors to run, why others are left out)."""
    found = {name: methods.find("select", name) for name in only} or methods.all_of("select")
    groups = [
        name
        for name in (columns.TASK, columns.SOURCE, cluster, columns.TASK_CLUSTER)
        if name in pool.columns and pool[name].n_unique() > 1
    ]
    wanted, left_out = [], {}
    for name, method in sorted(found.items()):
        try:
            wanted.append(_wanted(method, pool, score, cluster, groups))
        except RequestError as error:
            left_out[name] = str(error)
    return wanted, left_out


def _wanted(method: methods.Method, pool: pl.DataFrame, score: str, cluster: str | None, groups: list[str]) -> Wanted:
    options: dict[str, Any] = {}
    clusters = None
    for parameter in method.parameters:
        word, needed = parameter.word, parameter.default is methods.REQUIRED
        if word == "budget":
            continue
        if word == "k":
            clusters = "k"
        elif word == "labels" or (word == "by" and not needed):
            default = cluster if parameter.default == "cluster" else parameter.default
            if not groups:
                raise RequestError(f"needs a column for `{word}` that parts the pool into groups, and it has none")
            options[word] = default if default in groups else groups[0]
            clusters = word if options[word] == cluster else clusters
        elif word == "target" and needed:
            if columns.SOURCE not in groups:
                raise RequestError(
                    "needs a target, for which a source of its own would do, and the pool has one source"
                )
            sizes = pool[columns.SOURCE].drop_nulls().value_counts().sort("count", columns.SOURCE)
            options[word] = {columns.SOURCE: sizes[columns.SOURCE][0]}
        elif word in ("by", "score") and needed:
            options[word] = score
        elif needed:
            raise RequestError(f"needs the option `{word}`, for which nothing in a pool can stand")
    return Wanted(method.name, options, clusters)


# --- running them ----------------------------------------------------------------------------------------------------


def _run_all(
    pool: pl.DataFrame, vectors: np.ndarray, cluster: str | None, wanted: list[Wanted], budget: int, seeds: int
) -> tuple[dict[str, Ran], dict[str, str]]:
    ran: dict[str, Ran] = {}
    failed: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        cuts = {}
        if cluster and any(one.clusters not in (None, "k") for one in wanted):
            cuts = _cuts(vectors, pool[cluster])
        anew = {_cut_name(k): pl.Series(label, dtype=pl.Int32) for k, label in cuts.items()}
        pool.with_columns(**anew).write_parquet(Path(folder) / "pool.parquet")
        np.save(Path(folder) / "vectors.npy", vectors)
        for one in wanted:
            say(f"  {one.name}")
            try:
                with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
                    ran[one.name] = process.submit(_run_one, folder, one, budget, seeds, tuple(cuts)).result()
            except TamisError as error:
                failed[one.name] = str(error)
            except BrokenProcessPool:
                failed[one.name] = "its process was ended by the system, most likely for want of memory"
            except Exception as error:
                failed[one.name] = f"{type(error).__name__}: {error}"
    return ran, failed


def _cuts(vectors: np.ndarray, label: pl.Series) -> dict[int, np.ndarray]:
    """The pool cut anew by k-means into half, once and twice as many clusters as it has: labels by their number."""
    from curate.cluster.kmeans import cluster

    k = label.filter(label >= 0).n_unique()
    ks = sorted({min(max(1, int(k * times)), len(vectors)) for times in _CUTS})
    return {k: cluster(vectors, seed=0, k=k).label for k in ks}


def _cut_name(k: int) -> str:
    return f"cut_into_{k}"


def _run_one(folder: str, wanted: Wanted, budget: int, seeds: int, cuts: tuple[int, ...]) -> Ran:
    """One selector, in a process of its own."""
    method = methods.find("select", wanted.name)
    vectors = np.load(Path(folder) / "vectors.npy", mmap_mode="r") if method.reads_vectors else None
    pool = Pool(pl.read_parquet(Path(folder) / "pool.parquet"), vectors)
    few = pool.take(np.arange(min(_WARM, len(pool))))
    with suppress(Exception):  # what is wrong shows again below
        pick(method, few, min(budget, max(1, len(few) // 8)), wanted.options, 0)
    reset_peak()
    before, start = peak_mb(), time.perf_counter()
    picks = pick(method, pool, budget, wanted.options, 0)
    seconds, mb = time.perf_counter() - start, max(peak_mb() - before, 0)

    by_seed, drawn = {0: picks.index}, None
    for seed in range(1, seeds):
        if drawn is False:
            break
        by_seed[seed] = pick(method, pool, budget, wanted.options, seed).index
        drawn = drawn or not np.array_equal(by_seed[seed], picks.index)
    by_k = {}
    if wanted.clusters == "k":
        default = next(parameter.default for parameter in method.parameters if parameter.word == "k")
        k = min(int(picks.facts.get("clusters") or default or math.isqrt(len(pool))), len(pool))
        for times in _CUTS:
            other = min(max(1, int(k * times)), len(pool))
            if times == 1:
                by_k[other] = picks.index
            elif other not in by_k:
                by_k[other] = pick(method, pool, budget, wanted.options | {"k": other}, 0).index
    elif wanted.clusters:
        for k in cuts:
            by_k[k] = pick(method, pool, budget, wanted.options | {wanted.clusters: _cut_name(k)}, 0).index
    return Ran(seconds, mb, by_seed, drawn, by_k)


# --- measuring them --------------------------------------------------------------------------------------------------


def _diversity(
    pool: pl.DataFrame, vectors: np.ndarray, picks: dict[str, np.ndarray], budget: int, subsets: int
) -> tuple[dict[str, list[dict[str, Any]]], list[tuple[np.ndarray, float | None]]]:
    """(the diversity report of each selection; each random subset's rows of the pool and its Vendi score).

    What ``diversity_report.report`` does for one selection, for all at once, so that the random subsets are measured once.
    """
    order = pool[columns.ID].arg_sort().to_numpy().astype(np.int64)
    ordered = pool[order]
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    random = list(diversity_report._random(ordered[columns.ID], budget, subsets, 0))
    taken = [*(np.sort(place[index]) for index in picks.values()), *random]
    measures = diversity_report._metrics()
    about = {name: said for measure in measures for name, said in measure.ABOUT.items()}
    values: list[dict[str, float]] = []
    for sample in diversity_report._samples(ordered, vectors[order], taken, measures, 0):
        values.append({name: value for one in measures for name, value in one.measure(sample).items()})
    chance = values[len(picks) :]
    reports = {}
    for name, mine in zip(picks, values, strict=False):
        reports[name] = []
        for measure, value in mine.items():
            said, better = about[measure]
            others = [other[measure] for other in chance if measure in other]
            line = diversity_report._line(measure, said, better, value, others)
            reports[name].append({key: selection_report._plain(cell) for key, cell in line.items()})
    return reports, [(order[subset], one.get(VENDI)) for subset, one in zip(random, chance, strict=True)]


def _coverage(vectors: np.ndarray, selections: list[np.ndarray], stands: np.ndarray) -> list[tuple[float, float]]:
    """(facility location value, radius) of each selection over the rows ``stands``; vectors of unit length."""
    found = []
    for selection in selections:
        picked = vectors[selection].T
        total, least = 0.0, np.inf
        for start in range(0, len(stands), _BLOCK):
            nearest = (vectors[stands[start : start + _BLOCK]] @ picked).max(axis=1)
            total += float(np.maximum(nearest, 0).sum(dtype=np.float64))
            least = min(least, float(nearest.min()))
        found.append((total / len(stands), math.sqrt(max(2 - 2 * least, 0.0))))
    return found


# --- the page --------------------------------------------------------------------------------------------------------


def page(found: dict[str, Any], command: str) -> str:
    """The comparison as one HTML page."""
    sections = []
    if found["selectors"]:
        sections += [
            Section("Coverage against diversity", str(_report().style()) + str(_parts().style()) + _plot(found)),
            Section("Every selector", _every(found)),
            Section("Diversity against random subsets", _z_heat(found)),
            Section("Who picks the same rows", _overlap_heat(found)),
            Section("How much depends on the seed and on k", _varied(found)),
        ]
    if found["failed"] or found["left_out"]:
        rows = [(name, "failed", why) for name, why in found["failed"].items()]
        rows += [(name, "left out", why) for name, why in found["left_out"].items()]
        sections.append(Section("Not compared", text_table(["selector", "", "why"], rows)))
    sections.append(Section("How it was done", _how(found, command)))
    return render_page(
        f"{selection_report._cut(found['recipe'], 60)}: {_selectors(len(found['selectors']))} compared",
        lead=_lead(found),
        sections=sections,
    )


@functools.cache
def _parts() -> Any:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(library("templates") / "page"), autoescape=True, undefined=jinja2.StrictUndefined
    )
    return environment.get_template("selectors.html.jinja").module


def _report() -> Any:
    return selection_report._parts()


def _selectors(many: int) -> str:
    return "1 selector" if many == 1 else f"{many} selectors"


def _lead(found: dict[str, Any]) -> str:
    selectors = found["selectors"]
    lead = (
        f"{_selectors(len(selectors))} chose {found['budget']:,} of {found['rows']:,} rows, by vectors of "
        f"{found['dimensions']:,} dimensions where they read any."
    )
    if not selectors:
        return lead
    chance = found["random"]
    covers = max(selectors, key=lambda name: selectors[name]["facility_location"])
    reaches = min(selectors, key=lambda name: selectors[name]["radius"])
    varied = max(selectors, key=lambda name: _value(selectors[name], VENDI) or 0.0)
    lead += (
        f" {covers} is nearest to the whole pool: a row's best cosine to a pick is {selectors[covers]['facility_location']:.3f} on "
        f"average, where random picks reach {np.mean(chance['facility_location']):.3f}. {reaches} leaves no row farther than "
        f"{selectors[reaches]['radius']:.3f} from a pick, random picks {np.mean(chance['radius']):.3f}. {varied} is the most "
        f"varied: its picks are worth {_value(selectors[varied], VENDI) or 0:,.1f} wholly different rows, random ones "
        f"{np.mean([v for v in chance['vendi'] if v is not None] or [0]):,.1f}."
    )
    return lead + _alike(found)


def _alike(found: dict[str, Any]) -> str:
    """Which selectors choose nearly the same rows, and which of the others are most alike."""
    names, overlap = found["order"], found["overlap"]
    groups: list[set[int]] = []
    for i in range(len(names)):
        near = [group for group in groups if any(overlap[i][j] > _NEARLY for j in group)]
        groups = [group for group in groups if group not in near] + [{i}.union(*near)]
    said = [
        f"{_and([names[i] for i in sorted(group)])} choose much the same rows: each shares more than half with another of them."
        for group in groups
        if len(group) > 1
    ]
    apart = [
        (overlap[i][j], names[i], names[j])
        for one, other in itertools.combinations(groups, 2)
        for i, j in itertools.product(sorted(one), sorted(other))
    ]
    if apart:
        share, one, other = max(apart)
        said.append(
            f"{'Apart from these,' if said else 'Of all,'} {one} and {other} are most alike, with an overlap of {share:.0%}."
        )
    return "\n\n" + " ".join(said) if said else ""


def _and(names: list[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}"


def _value(selector: dict[str, Any], measure: str) -> float | None:
    return next((line["value"] for line in selector["diversity"] if line["name"] == measure), None)


def _toward(line: dict[str, Any]) -> float | None:
    """z, its sign such that more is more diverse where one of both ends is."""
    return None if line["z"] is None else -line["z"] if line["better"] == "lower" else line["z"]


def _by_value(found: dict[str, Any]) -> list[str]:
    return sorted(found["selectors"], key=lambda name: (-found["selectors"][name]["facility_location"], name))


def _row(name: str, selector: dict[str, Any]) -> tuple[str, ...]:
    """A selector's line in the table, on the page and in the terminal."""
    judged = [toward for line in selector["diversity"] if line["better"] and (toward := _toward(line)) is not None]
    return (
        name,
        f"{selector['facility_location']:.4f}",
        f"{selector['radius']:.3f}",
        _number(_value(selector, VENDI)),
        f"{sum(z > CLEAR for z in judged)} / {sum(z < -CLEAR for z in judged)}",
        _number(_value(selector, WORDS)),
        f"{selector['seconds']:.2f}",
        f"{selector['mb']:,}",
    )


_HEADER = ("selector", "coverage", "radius", "Vendi", "more / less", "words", "seconds", "MB")


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:,.1f}"


def _every(found: dict[str, Any]) -> str:
    judged = max(
        sum(bool(line["better"]) and line["z"] is not None for line in one["diversity"])
        for one in found["selectors"].values()
    )
    caption = (
        "Coverage: the mean over the pool of the largest cosine to a pick, not below 0, what facility location makes large. Radius: "
        "the distance of the worst-served row to its nearest pick, what k-center makes small. Vendi: how many wholly different rows "
        f"would be as diverse. More / less: of {judged} measures of diversity, those by which it is more and less diverse than "
        f"random subsets, by {CLEAR:g} standard deviations or more. Words: of a response, on average. Seconds and memory: of one "
        "call alone, its libraries loaded, the memory beyond what the process held before. Best coverage first."
    )
    chance = found["random"]
    vendi = [value for value in chance["vendi"] if value is not None]
    random = (
        f"{found['subsets']} random subsets",
        f"{np.mean(chance['facility_location']):.4f}",
        f"{np.mean(chance['radius']):.3f}",
        _number(float(np.mean(vendi)) if vendi else None),
        "",
        _number(_random_mean(found, WORDS)),
        "",
        "",
    )
    rows = [_row(name, found["selectors"][name]) for name in _by_value(found)]
    return text_table(_HEADER, [*rows, random], caption)


def _random_mean(found: dict[str, Any], measure: str) -> float | None:
    lines = next(iter(found["selectors"].values()))["diversity"]
    return next((line["random_mean"] for line in lines if line["name"] == measure), None)


def _z_heat(found: dict[str, Any]) -> str:
    names = _by_value(found)
    by_name = {
        name: {line["name"]: line for line in found["selectors"][name]["diversity"]} for name in found["selectors"]
    }
    measures = {name: line for name in names for line in by_name[name].values() for name in [line["name"]]}
    groups = []
    for judged, title in ((True, "plus is more diverse"), (False, "neither better nor worse")):
        rows = []
        for measure, line in measures.items():
            zs = [_toward(by_name[name][measure]) if measure in by_name[name] else None for name in names]
            if bool(line["better"]) != judged or all(z is None for z in zs):
                continue
            label = measure.replace("_", " ") + (" ↓" if line["better"] == "lower" else "")
            rows.append({"name": label, "about": line["about"], "cells": [_z_cell(z) for z in zs]})
        if rows:
            groups.append({"title": title, "rows": rows})
    caption = (
        f"How many standard deviations of {found['subsets']} random subsets of the same size each selection lies from their mean. "
        f"Above, where a lower value is more diverse (↓) the sign is turned, so that plus is always more diverse. The strongest "
        f"colour is ±{_STRONG:g} and beyond."
    )
    return str(_parts().heat(names, groups, caption))


def _z_cell(z: float | None) -> dict[str, Any]:
    if z is None:
        return {"text": "", "colour": "--paper", "strength": 0}
    text = f"{z:+.0f}" if abs(z) >= 9.95 else f"{z:+.1f}"
    text = "0.0" if text in ("+0.0", "-0.0") else text.replace("-", "−")
    colour = "--accent" if z > 0 else "--warm"
    return {"text": text, "colour": colour, "strength": round(min(abs(z) / _STRONG, 1), 3)}


def _overlap_heat(found: dict[str, Any]) -> str:
    overlap = np.array(found["overlap"])
    order = _alike_together(overlap)
    names = [found["order"][i] for i in order]
    most = max((overlap[i, j] for i in order for j in order if i != j), default=1.0) or 1.0
    rows = []
    for i in order:
        cells = [
            {"text": "", "colour": "--line", "strength": 0.6}
            if i == j
            else {
                "text": f"{100 * overlap[i, j]:.0f}",
                "colour": "--accent",
                "strength": round(float(overlap[i, j] / most), 3),
            }
            for j in order
        ]
        rows.append({"name": found["order"][i], "about": "", "cells": cells})
    share = found["budget"] / found["rows"]
    caption = (
        "Of the rows that either of two selectors picked, those that both did, in percent (Jaccard overlap). Two random choices of "
        f"this size have {100 * share / (2 - share):.0f} %. Selectors that choose alike stand together."
    )
    return str(_parts().heat(names, [{"title": "", "rows": rows}], caption))


def _alike_together(overlap: np.ndarray) -> list[int]:
    """An order in which each next one is that most like those just before: a walk along the largest overlaps."""
    left = list(range(len(overlap)))
    if not left:
        return []
    off = overlap - np.eye(len(overlap))
    order = [int(off.sum(axis=1).argmax())]
    left.remove(order[0])
    while left:
        recent = order[-2:]
        order.append(max(left, key=lambda i: (off[recent, i] @ np.array([0.5, 1.0])[-len(recent) :], -i)))
        left.remove(order[-1])
    return order


def _varied(found: dict[str, Any]) -> str:
    rows, same = [], []
    for name in _by_value(found):
        one = found["selectors"][name]
        if one["draws"] is False:
            same.append(name)
        if not one["draws"] and len(one["ks"]) < 2:
            continue
        seeds = f"{one['seed_overlap']:.2f}" if one["draws"] else "–"
        ks = ", ".join(map(str, one["ks"])) if len(one["ks"]) > 1 else "–"
        rows.append((name, seeds, f"{one['k_overlap']:.2f}" if len(one["ks"]) > 1 else "–", ks))
    share = found["budget"] / found["rows"]
    caption = (
        f"Mean Jaccard overlap of each two runs: over seeds 0 to {found['seeds'] - 1}, and with half, once and twice the number of "
        f"clusters. 1 means the same rows each time; two random choices of this size have {share / (2 - share):.2f}. Where the "
        "clusters are those of a column, the pool was cut anew by k-means."
    )
    html = text_table(["selector", "between seeds", "between k", "k"], rows, caption) if rows else ""
    if same:
        html += paragraph(
            f"The same picks in the same order with seeds 0 and 1, so nothing seems to be drawn: {', '.join(same)}."
        )
    return html or paragraph("Nothing was varied: there was one seed, and no selector makes clusters.")


def _how(found: dict[str, Any], command: str) -> str:
    given = [
        (name, ", ".join(f"{word} {value}" for word, value in found["selectors"][name]["options"].items()))
        for name in found["order"]
        if found["selectors"][name]["options"]
    ]
    html = paragraph(
        f"The pool is that of stage {found['stage']}. Each selector ran in a process of its own, with its own defaults for all that "
        "is not told here."
    )
    if found["score"] == LENGTH and any(LENGTH in one["options"].values() for one in found["selectors"].values()):
        html += paragraph(
            "The pool has no score_* column, so the number of characters of the response stands in for a score: read the selectors "
            "that go by one as selectors of long responses."
        )
    if found["rows"] > diversity_report.POOL_ROWS:
        html += paragraph(
            f"Coverage and radius of random subsets are over {diversity_report.POOL_ROWS:,} rows that stand for the pool."
        )
    return html + (text_table(["selector", "options"], given) if given else "") + preformatted(command)


# --- the plot --------------------------------------------------------------------------------------------------------


def _plot(found: dict[str, Any]) -> str:
    from curate.report.selection_map import ACCENT, INK, LINE, QUIET, SOFT, plotting, svg

    names = [name for name in _by_value(found) if _value(found["selectors"][name], VENDI) is not None]
    points = [
        (found["selectors"][name]["facility_location"], _value(found["selectors"][name], VENDI)) for name in names
    ]
    pairs = zip(found["random"]["facility_location"], found["random"]["vendi"], strict=True)
    chance = [(value, vendi) for value, vendi in pairs if vendi is not None]
    with plotting():
        from matplotlib.figure import Figure

        figure = Figure(figsize=(7.2, 5.2), layout="constrained")
        axes = figure.subplots()
        axes.set_axisbelow(True)
        axes.grid(color=LINE, linewidth=0.6)
        axes.scatter(*np.array(chance or np.empty((0, 2))).T, s=9, color=SOFT, linewidths=0, zorder=2)
        axes.scatter(*np.array(points or np.empty((0, 2))).T, s=26, color=ACCENT, linewidths=0, zorder=4)
        axes.margins(0.07)
        axes.set_xlabel("coverage (mean cosine to the nearest pick)")
        axes.set_ylabel("Vendi score (wholly different rows)")
        figure.draw_without_rendering()
        for name, point, (right, up, side, linked) in zip(names, points, _labels(axes, names, points), strict=True):
            axes.annotate(
                name,
                point,
                (right, up),
                textcoords="offset points",
                ha=side,
                va="center",
                fontsize=_LETTERS,
                color=INK,
                zorder=5,
                parse_math=False,
                arrowprops={"arrowstyle": "-", "color": QUIET, "linewidth": 0.5, "shrinkB": 3, "shrinkA": 0}
                if linked
                else None,
            )
        picture = svg(figure, "plot map")
    caption = (
        "Coverage: the mean over the pool of the largest cosine to a pick. Vendi score: how many wholly different rows would be as "
        f"diverse as the picks. To the upper right is better at both; the pale cloud is {len(chance)} random subsets of the same size."
    )
    return str(_report().plot(picture, caption))


def _labels(axes: Axes, names: list[str], points: list[tuple[float, Any]]) -> list[tuple[float, float, str, bool]]:
    """Where names stand beside their dots: (right, up, side, whether a line should tell whose it is), in points. Each takes the nearest
    place that touches no dot and no other name, else the last one tried."""
    figure = axes.figure
    scale = 72 / figure.dpi
    at = np.array([axes.transData.transform(point) for point in points]).reshape(-1, 2) * scale
    box = axes.get_window_extent()
    inside = (box.x0 * scale, box.x1 * scale, box.y0 * scale, box.y1 * scale)
    taken = [(x - 4, x + 4, y - 4, y + 4) for x, y in at]
    placed: list[tuple[float, float, str, bool]] = []
    for name, (x, y) in zip(names, at, strict=True):
        half = len(name) * _LETTERS * 0.32
        for far, turn in itertools.product(
            (7, 12, 18, 25, 33, 42, 52), np.radians([0, 180, 90, 270, 45, 315, 135, 225])
        ):
            right, up = far * math.cos(turn), far * math.sin(turn)
            side = "center" if abs(right) < 1 else "left" if right > 0 else "right"
            if side == "center":  # above or below, a name may be moved aside to stay on the plot
                right = min(max(0.0, inside[0] + half - x + 1), inside[1] - half - x - 1)
            middle = x + right + {"left": half, "center": 0.0, "right": -half}[side]
            own = (middle - half, middle + half, y + up - _LETTERS / 2, y + up + _LETTERS / 2)
            within = inside[0] < own[0] and own[1] < inside[1] and inside[2] < own[2] and own[3] < inside[3]
            place = (right, up, side, far > 12)
            if within and not any(_touch(own, other) for other in taken):
                break
        taken.append(own)
        placed.append(place)
    return placed


def _touch(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return a[0] < b[1] and b[0] < a[1] and a[2] < b[3] and b[2] < a[3]


# --- the command -----------------------------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.selectors", description="All selectors on one pool.")
    parser.add_argument(
        "work", type=Path, metavar="WORK", help="a folder of `tamis run` with an embed and a select stage"
    )
    parser.add_argument(
        "--budget", type=int, help="rows; that of the select stage if not given, a tenth of the pool at most"
    )
    parser.add_argument("--out", type=Path, help="the page; the numbers stand beside it (WORK/selectors.html)")
    parser.add_argument("--seeds", type=int, default=5, help="how many seeds each selector is tried with (5)")
    parser.add_argument("--only", default="", metavar="NAME,NAME", help="these selectors alone")
    given = parser.parse_args(arguments)
    out = given.out or given.work / "selectors.html"
    only = [name.strip() for name in given.only.split(",") if name.strip()]
    try:
        with shown():
            found = compare(given.work, budget=given.budget, seeds=given.seeds, only=only)
    except TamisError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    command = f"python -m benchmarks.selectors {given.work} --budget {found['budget']} --seeds {given.seeds}"
    write_json(out.with_suffix(".json"), found)
    write_text(out, page(found, command + (f" --only {','.join(only)}" if only else "")))
    _print(found)
    print(f"\n{out}\n{out.with_suffix('.json')}")
    return 0


def _print(found: dict[str, Any]) -> None:
    print(f"{found['recipe']}: {found['budget']:,} of {found['rows']:,} rows")
    header = [*_HEADER, "seeds", "k"]
    rows = [
        [*_row(name, one), *("" if one[of] is None else f"{one[of]:.2f}" for of in ("seed_overlap", "k_overlap"))]
        for name in _by_value(found)
        for one in [found["selectors"][name]]
    ]
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    for row in [header, *rows]:
        print(
            "  ".join(
                cell.rjust(w) if i else cell.ljust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
            )
        )
    for what in ("failed", "left_out"):
        for name, why in found[what].items():
            print(f"{name}: {what.replace('_', ' ')}: {why}")


if __name__ == "__main__":
    sys.exit(main())
