"""The page of a comparison of selectors (templates/page/selectors.html.jinja)."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from curate.contract.page import Section, macros, paragraph, preformatted, render_page
from curate.contract.page import table as text_table
from curate.diversity.against_random import POOL_ROWS
from curate.diversity.family import toward_diverse
from curate.report.selectors_plot import plot
from curate.report.selectors_run import LENGTH
from curate.report.selectors_table import HEADER, VENDI, WORDS, by_value, number, row, value_of
from curate.report.words import cut

_STRONG = 8.0  # |z| of the strongest colour
_NEARLY = 0.5  # overlap above which two selectors choose much the same rows


def page(comparison: dict[str, Any], command: str) -> str:
    """The comparison as one HTML page."""
    sections = []
    if comparison["selectors"]:
        sections += [
            Section(
                "Coverage against diversity",
                str(macros("selection.html.jinja").style())
                + str(macros("selectors.html.jinja").style())
                + plot(comparison),
            ),
            Section("Every selector", _every(comparison)),
            Section("Diversity against random subsets", _z_heat(comparison)),
            Section("Who picks the same rows", _overlap_heat(comparison)),
            Section("How much depends on the seed and on k", _varied(comparison)),
        ]
    if comparison["failed"] or comparison["left_out"]:
        rows = [(name, "failed", why) for name, why in comparison["failed"].items()]
        rows += [(name, "left out", why) for name, why in comparison["left_out"].items()]
        sections.append(Section("Not compared", text_table(["selector", "", "why"], rows)))
    sections.append(Section("How it was done", _how(comparison, command)))
    return render_page(
        f"{cut(comparison['recipe'], 60)}: {_selectors(len(comparison['selectors']))} compared",
        lead=_lead(comparison),
        sections=sections,
    )


def _selectors(many: int) -> str:
    return "1 selector" if many == 1 else f"{many} selectors"


def _lead(comparison: dict[str, Any]) -> str:
    selectors = comparison["selectors"]
    lead = (
        f"{_selectors(len(selectors))} chose {comparison['budget']:,} of {comparison['rows']:,} rows, by vectors of "
        f"{comparison['dimensions']:,} dimensions where they read any."
    )
    if not selectors:
        return lead
    chance = comparison["random"]
    covers = max(selectors, key=lambda name: selectors[name]["facility_location"])
    reaches = min(selectors, key=lambda name: selectors[name]["radius"])
    varied = max(selectors, key=lambda name: value_of(selectors[name], VENDI) or 0.0)
    lead += (
        f" {covers} is nearest to the whole pool: a row's best cosine to a pick is {selectors[covers]['facility_location']:.3f} on "
        f"average, where random picks reach {np.mean(chance['facility_location']):.3f}. {reaches} leaves no row farther than "
        f"{selectors[reaches]['radius']:.3f} from a pick, random picks {np.mean(chance['radius']):.3f}. {varied} is the most "
        f"varied: its picks are worth {value_of(selectors[varied], VENDI) or 0:,.1f} wholly different rows, random ones "
        f"{np.mean([v for v in chance['vendi'] if v is not None] or [0]):,.1f}."
    )
    return lead + alike(comparison)


def alike(comparison: dict[str, Any]) -> str:
    """Which selectors choose nearly the same rows, and which of the others are most alike."""
    names, overlap = comparison["order"], comparison["overlap"]
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


def _every(comparison: dict[str, Any]) -> str:
    judged = max(
        sum(bool(line["better"]) and line["z"] is not None for line in one["diversity"]["measures"])
        for one in comparison["selectors"].values()
    )
    caption = (
        "Coverage: the mean over the pool of the largest cosine to a pick, not below 0, what facility location makes large. Radius: "
        "the distance of the worst-served row to its nearest pick, what k-center makes small. Vendi: how many wholly different rows "
        f"would be as diverse. More / less: of {judged} measures of diversity, those by which it is more and less diverse than "
        "random subsets, of which one in 20 at most is told apart by any. Words: of a response, on average. Seconds and memory: of one "
        "call alone, its libraries loaded, the memory beyond what the process held before. Best coverage first."
    )
    chance = comparison["random"]
    vendi = [value for value in chance["vendi"] if value is not None]
    random = (
        f"{comparison['subsets']} random subsets",
        f"{np.mean(chance['facility_location']):.4f}",
        f"{np.mean(chance['radius']):.3f}",
        number(float(np.mean(vendi)) if vendi else None),
        "",
        number(_random_mean(comparison, WORDS)),
        "",
        "",
    )
    rows = [row(name, comparison["selectors"][name]) for name in by_value(comparison)]
    return text_table(HEADER, [*rows, random], caption)


def _random_mean(comparison: dict[str, Any], measure: str) -> float | None:
    lines = next(iter(comparison["selectors"].values()))["diversity"]["measures"]
    return next((line["random_mean"] for line in lines if line["name"] == measure), None)


def _z_heat(comparison: dict[str, Any]) -> str:
    names = by_value(comparison)
    by_name = {
        name: {line["name"]: line for line in comparison["selectors"][name]["diversity"]["measures"]} for name in names
    }
    measures = {line["name"]: line for name in names for line in by_name[name].values()}
    groups = []
    for judged, title in ((True, "plus is more diverse"), (False, "neither better nor worse")):
        rows = []
        for measure, line in measures.items():
            zs = [toward_diverse(by_name[name][measure]) if measure in by_name[name] else None for name in names]
            if bool(line["better"]) != judged or all(z is None for z in zs):
                continue
            label = measure.replace("_", " ") + (" ↓" if line["better"] == "lower" else "")
            rows.append({"name": label, "about": line["about"], "cells": [z_cell(z) for z in zs]})
        if rows:
            groups.append({"title": title, "rows": rows})
    caption = (
        f"How many standard deviations of {comparison['subsets']} random subsets of the same size each selection lies from their mean. "
        f"Above, where a lower value is more diverse (↓) the sign is turned, so that plus is always more diverse. The strongest "
        f"colour is ±{_STRONG:g} and beyond."
    )
    return str(macros("selectors.html.jinja").heat(names, groups, caption))


def z_cell(z: float | None) -> dict[str, Any]:
    if z is None:
        return {"text": "", "colour": "--paper", "strength": 0}
    text = f"{z:+.0f}" if abs(z) >= 9.95 else f"{z:+.1f}"
    text = "0.0" if text in ("+0.0", "-0.0") else text.replace("-", "−")
    colour = "--accent" if z > 0 else "--warm"
    return {"text": text, "colour": colour, "strength": round(min(abs(z) / _STRONG, 1), 3)}


def _overlap_heat(comparison: dict[str, Any]) -> str:
    overlap = np.array(comparison["overlap"])
    order = alike_together(overlap)
    names = [comparison["order"][i] for i in order]
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
        rows.append({"name": comparison["order"][i], "about": "", "cells": cells})
    share = comparison["budget"] / comparison["rows"]
    caption = (
        "Of the rows that either of two selectors picked, those that both did, in percent (Jaccard overlap). Two random choices of "
        f"this size have {100 * share / (2 - share):.0f} %. Selectors that choose alike stand together."
    )
    return str(macros("selectors.html.jinja").heat(names, [{"title": "", "rows": rows}], caption))


def alike_together(overlap: np.ndarray) -> list[int]:
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


def _varied(comparison: dict[str, Any]) -> str:
    rows, same = [], []
    for name in by_value(comparison):
        one = comparison["selectors"][name]
        if one["draws"] is False:
            same.append(name)
        if not one["draws"] and len(one["ks"]) < 2:
            continue
        seeds = f"{one['seed_overlap']:.2f}" if one["draws"] else "–"
        ks = ", ".join(map(str, one["ks"])) if len(one["ks"]) > 1 else "–"
        rows.append((name, seeds, f"{one['k_overlap']:.2f}" if len(one["ks"]) > 1 else "–", ks))
    share = comparison["budget"] / comparison["rows"]
    caption = (
        f"Mean Jaccard overlap of each two runs: over seeds 0 to {comparison['seeds'] - 1}, and with half, once and twice the number of "
        f"clusters. 1 means the same rows each time; two random choices of this size have {share / (2 - share):.2f}. Where the "
        "clusters are those of a column, the pool was cut anew by k-means."
    )
    html = text_table(["selector", "between seeds", "between k", "k"], rows, caption) if rows else ""
    if same:
        html += paragraph(
            f"The same picks in the same order with seeds 0 and 1, so nothing seems to be drawn: {', '.join(same)}."
        )
    return html or paragraph("Nothing was varied: there was one seed, and no selector makes clusters.")


def _how(comparison: dict[str, Any], command: str) -> str:
    given = [
        (name, ", ".join(f"{word} {value}" for word, value in comparison["selectors"][name]["options"].items()))
        for name in comparison["order"]
        if comparison["selectors"][name]["options"]
    ]
    html = paragraph(
        f"The pool is that of stage {comparison['stage']}. Each selector ran in a process of its own, with its own defaults for all that "
        "is not told here."
    )
    if comparison["score"] == LENGTH and any(
        LENGTH in one["options"].values() for one in comparison["selectors"].values()
    ):
        html += paragraph(
            "The pool has no score_* column, so the number of characters of the response stands in for a score: read the selectors "
            "that go by one as selectors of long responses."
        )
    if comparison["rows"] > POOL_ROWS:
        html += paragraph(f"Coverage and radius of random subsets are over {POOL_ROWS:,} rows that stand for the pool.")
    return html + (text_table(["selector", "options"], given) if given else "") + preformatted(command)
