"""A selection's page: its numbers in sentences, tables and pictures (templates/page/selection.html.jinja)."""

from __future__ import annotations

import math
from typing import Any

from curate.contract import columns
from curate.contract.page import Section, macros, paragraph, preformatted, render_page
from curate.contract.page import table as text_table
from curate.diversity import family
from curate.report.selection import Selection
from curate.report.selection_plots import LAYOUT, gain_plot, length_plots, map_of
from curate.report.words import cut, number

_MOST_GROUPS = 12  # lines of a table of groups
_SHARES = (("var(--accent)", "share of what was kept", "square"), ("var(--soft)", "share of the pool", "square"))
_Z_SHOWN = 8.0  # |z| at the ends of a strip
_FACTS = 4  # numbers of the method that the lead tells


def page(selection: Selection, told: dict[str, Any], seed: int) -> str:
    """The HTML of a selection and its numbers. seed: of the points that the map shows."""
    kept = f"{told['kept']:,} of {told['pool']:,} rows"
    sections = []
    if selection.vectors is not None and told["pool"]:
        sections.append(Section("Among its pool", map_of(selection, seed)))
    if told["diversity"]:
        sections.append(Section("How diverse it is", _diversity_tables(told["diversity"])))
    sections.append(Section("What was kept", _group_tables(told)))
    sections.append(Section("Lengths", length_plots(told["lengths"])))
    if any(gain is not None for _, gain in told["gains"]):
        sections.append(Section("What each pick added", gain_plot(told["gains"], told["facts"].get("nested", True))))
    if told["first"]:
        sections.append(
            Section("The first picks", str(macros(LAYOUT).texts([_shown_text(row) for row in told["first"]])))
        )
    if told["not_kept"]:
        said = paragraph(f"{len(told['not_kept'])} rows drawn at random from those that were not kept.")
        rows = [_shown_text(row) for row in told["not_kept"]]
        sections.append(Section("Rows left out", said + str(macros(LAYOUT).texts(rows))))
    sections.append(Section("How it was chosen", _how(told)))
    sections[0] = Section(sections[0].title, str(macros(LAYOUT).style()) + sections[0].html)
    return render_page(f"{cut(told['recipe'], 80)}: {kept}", lead=_lead(told), sections=sections)


def _lead(told: dict[str, Any]) -> str:
    share = 100 * told["kept"] / told["pool"] if told["pool"] else 0.0
    lead = f"{told['method']} kept {told['kept']:,} of {told['pool']:,} rows ({share:.3g} %)."
    if told["outside"]:
        passed = "1 row" if told["outside"] == 1 else f"{told['outside']:,} rows"
        lead += f" {passed} outside its `where` passed by and are not counted here."
    certificate = told["certificate"]
    if certificate:
        lead += (
            f" The value of its objective is {certificate['value']:,.6g}; no other choice allowed has more than "
            f"{certificate['upper_bound']:,.6g}, so it is at least {_floor(100 * certificate['ratio'])} % of the best possible."
        )
    numbers = [(name, value) for name, value in told["facts"].items() if isinstance(value, (int, float))]
    facts = [f"{name.replace('_', ' ')} {_fact(value)}" for name, value in numbers[:_FACTS]]
    lead += f" The method tells: {', '.join(facts)}." if facts else ""
    lead += " It is of an earlier recipe: the last run did not come to this stage." if told["old"] else ""
    return lead + (_beside_random(told["diversity"]) if told["diversity"] else "")


def _beside_random(diversity: dict[str, Any]) -> str:
    judged = [said for measure in diversity["measures"] if measure["better"] and (said := family.verdict(measure))]
    if not judged:
        return ""
    more, less = judged.count("more diverse"), judged.count("less diverse")
    whole = family.whole(diversity)
    return (
        f"\n\nAgainst {diversity['subsets']} random subsets of the same size it is more diverse by {more} of {len(judged)} "
        f"measures, less by {less}, and not told apart by {len(judged) - more - less}."
        + (f" As a whole it is {whole}." if whole else "")
    )


def _floor(percent: float) -> str:
    """Rounded down: a bound must not be made better than it is."""
    return f"{math.floor(percent * 10 + 1e-9) / 10:g}"


def _diversity_tables(diversity: dict[str, Any]) -> str:
    clear = diversity["clear"]
    judged = [measure for measure in diversity["measures"] if measure["better"]]
    shapes = [measure for measure in diversity["measures"] if not measure["better"]]
    band = (
        f"The shaded band is z from −{clear:.2f} to {clear:.2f}: only one random subset in 20 has any measure beyond it. "
        if clear
        else ""
    )
    caption = (
        f"Value: of the kept rows. Random: the mean of {diversity['subsets']} random subsets of the same size. z: how many of their "
        "standard deviations the value lies from that mean. Percentile: how many in a hundred of them have a lower value, which "
        f"tells more than z where a measure is skewed. {band}An arrow stands for a z beyond ±{_Z_SHOWN:g}. To the right is more "
        "diverse, also where a lower value is, and z is negative."
    )
    html = ""
    if judged:
        html += str(
            macros(LAYOUT).measures([_shown_measure(m, clear) for m in judged], ("less", "more diverse"), caption)
        )
    if shapes:
        html += paragraph("Neither better nor worse, but telling when far from random:") if judged else ""
        rows = [_shown_measure(measure, clear) for measure in shapes]
        html += str(macros(LAYOUT).measures(rows, ("below", "above random"), "" if judged else caption))
    return html


def _shown_measure(measure: dict[str, Any], clear: float | None) -> dict[str, Any]:
    z, toward = measure["z"], family.toward_diverse(measure)
    shown: dict[str, Any] = {"name": str(measure["name"]).replace("_", " "), "about": str(measure["about"])}
    shown |= {"value": number(measure["value"]), "random": number(measure["random_mean"]), "place": None, "z": "–"}
    shown["percentile"] = "–" if z is None else number(measure["percentile"])
    if z is None or toward is None:
        return shown
    said = family.verdict(measure)
    colour = {"more diverse": "--accent", "less diverse": "--warm"}.get(said, "--quiet")
    half = 80 / _Z_SHOWN  # a strip is 176 wide, its middle at 88
    reach = half * min(clear or 0, _Z_SHOWN)
    return shown | {
        "z": f"{round(z, 1) + 0.0:+.1f}".replace("-", "−"),
        "place": round(88 + half * max(-_Z_SHOWN, min(_Z_SHOWN, toward)), 1),
        "beyond": abs(z) > _Z_SHOWN,
        "band": (round(88 - reach, 1), round(2 * reach, 1)),
        "colour": colour,
    }


def _group_tables(told: dict[str, Any]) -> str:
    html, single = "", []
    for by, groups in told["groups"].items():
        if len(groups) < 2:
            single += [f"{by} {cut(group['name'], 60)}" for group in groups if group["value"] is not None]
            continue
        filled = sum(group["kept"] > 0 for group in groups)
        caption = (
            f"{filled:,} of {len(groups):,} have a kept row. Ratio: the share of what was kept to that of the pool."
        )
        rows = _largest(groups, told)
        widest = max(max(group["kept_share"] or 0, group["pool_share"]) for group in groups)
        shown = [_shown_group(row, widest if row in groups else None) for row in rows]
        html += str(macros(LAYOUT).groups(by.replace("_", " "), shown, caption))
    if html:
        html = str(macros(LAYOUT).key_of(_SHARES)) + html
    if single:
        html += paragraph(f"All rows have: {'; '.join(single)}.")
    return html or paragraph("The rows have no source, task, task cluster, licence or cluster to count them by.")


def _largest(groups: list[dict[str, Any]], told: dict[str, Any]) -> list[dict[str, Any]]:
    """The largest groups; what is left over is one line."""
    if len(groups) <= _MOST_GROUPS:
        return groups
    rest = groups[_MOST_GROUPS - 1 :]
    pool, kept = sum(group["pool"] for group in rest), sum(group["kept"] for group in rest)
    pool_share = pool / told["pool"]
    kept_share = kept / told["kept"] if told["kept"] else None
    ratio = None if kept_share is None else kept_share / pool_share
    others = {"pool": pool, "kept": kept, "pool_share": pool_share, "kept_share": kept_share, "ratio": ratio}
    return [*groups[: _MOST_GROUPS - 1], {"name": f"{len(rest):,} others", "value": None, **others}]


def _shown_group(group: dict[str, Any], widest: float | None) -> dict[str, Any]:
    """A line of the table; no bars without a widest share to set them against."""
    kept_share = group["kept_share"]
    return {
        "name": cut(group["name"], 80),
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
    of += [cut(str(row[name]), 60) for name in (columns.SOURCE, columns.TASK) if row.get(name) is not None]
    of += [f"gain {number(gain)}"] if gain is not None else []
    return {"of": " · ".join(of), "prompt": row[columns.PROMPT], "response": row[columns.RESPONSE]}


def _how(told: dict[str, Any]) -> str:
    facts = [(name.replace("_", " "), _fact(value)) for name, value in told["facts"].items()]
    facts = [(name, value) for name, value in facts if value]
    html = text_table(["the method says", ""], facts) if facts else ""
    options = ", ".join(f"{name} {value}" for name, value in told["options"].items())
    return (
        paragraph(f"Stage {told['stage']}: {told['method']} ({options or 'no options'}), seed {told['seed']}.")
        + html
        + preformatted(f"tamis report WORK --stage {told['stage']}\ntamis show WORK --stage {told['stage']}")
    )


def _fact(value: Any) -> str:
    """A fact of a manifest in a table's cell; what is no plain value has no place there."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return number(value)
    return cut(value, 120) if isinstance(value, str) else ""
