"""What a card tells: every number and sentence of it, from the rows, the stages' manifests and the recipe."""

from __future__ import annotations

import importlib.metadata
import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

import polars as pl
import pyarrow as pa
import yaml

from curate.contract import columns, methods
from curate.contract.errors import MethodError
from curate.contract.paths import library
from curate.diversity import family
from curate.release.content import COLUMNS, Content
from curate.release.layout import as_yaml, counted
from curate.release.metadata import LICENCE_FILE
from curate.release.places import printed, without_places
from curate.release.shards import plain
from curate.rows import licences

PICTURE = "funnel.png"
_SHOWN = 400  # characters of a text in the card's example
_NOT_CHOSEN_BY = ("sources", "phrasing")  # told in chapters of their own


def facts(content: Content) -> dict[str, Any]:
    """What the card's layout reads, under the layout's names."""
    return {
        "title": content.title,
        "config": content.config,
        "summary": _summary(content),
        "picture": {
            "name": PICTURE,
            "about": "Rows left after each stage, what the rows are, and the length of the responses",
        },
        "funnel": [_funnel_row(manifest) for manifest in content.manifests],
        "sources": _sources(content),
        "steps": [_step(manifest) for manifest in content.manifests if manifest["role"] not in _NOT_CHOSEN_BY],
        "selections": [_selection(manifest) for manifest in content.of_role("selection")],
        **_of_templates(content),
        **_of_rows(content),
        **_of_recipe(content),
        "versions": _versions(content.manifests),
        "limits": limits(content.table, content.manifests),
        "licence_sentence": _licence_sentence(content.licence),
        "licences": [_licence_row(name, count) for name, count in content.licence.rows],
        "warnings": content.licence.warnings,
    }


# --- where the rows come from ----------------------------------------------------------------------------------------


def _summary(content: Content) -> str:
    table, licence, sources = content.table, content.licence, content.sources
    read = sum(source["rows"] + source["removed"] for source in sources)
    chosen = [f"`{manifest['method']}`" for manifest in content.of_role("selection")]
    how = f" chosen by {' then '.join(chosen)}" if chosen else " kept"
    turns = table[columns.MESSAGES].list.len()
    longest = f", of {turns.min()} to {turns.max()} messages each" if turns.max() != turns.min() else ""
    templates = table.select(columns.TEMPLATE_SET, columns.TEMPLATE).n_unique()
    name = licence.id if licence.id != "other" else f"{licence.name} (see {LICENCE_FILE})"
    return (
        f"{counted(table.height, 'instruction example')}{longest},{how} from {counted(read, 'record')} of "
        f"{counted(len(sources), 'source')} and phrased by {counted(templates, 'template')}. Licence: {name}. "
        "Made with Tamis; every number here is computed from the rows and from what each stage recorded."
    )


def _funnel_row(manifest: dict[str, Any]) -> dict[str, Any]:
    reasons = sorted(without_places(list(manifest["reasons"].items())), key=lambda item: (-item[1], item[0]))
    kept = manifest["out"] / manifest["in"] if manifest["in"] else None
    return {key: manifest[key] for key in ("stage", "method", "in", "out")} | {"kept": kept, "reasons": reasons}


def _sources(content: Content) -> list[dict[str, Any]]:
    """Every source that was read, with what the rows say about it; most rows here first."""
    told = content.table.select(columns.SOURCE, columns.LICENSE, columns.REVISION)
    here = {name: rows for (name,), rows in told.group_by(columns.SOURCE)}
    lines = [_source(source, here.get(source["name"])) for source in content.sources]
    return sorted(lines, key=lambda source: (-source["rows"], source["name"]))


def _source(source: dict[str, Any], rows: pl.DataFrame | None) -> dict[str, Any]:
    """A source, and its rows here, None where none is left."""
    stated = source["license"] if rows is None else rows[columns.LICENSE]
    revisions = [] if rows is None else sorted(rows[columns.REVISION].drop_nulls().unique().to_list())
    return {
        "name": source["name"],
        "kind": source["kind"],
        "read": source["rows"] + source["removed"],
        "rows": 0 if rows is None else rows.height,
        "licences": sorted({licences.normalise(text) for text in stated}) or ["unknown"],
        "revisions": [revision[:12] for revision in revisions[:4]] + (["…"] if len(revisions) > 4 else []),
    }


# --- how they were chosen --------------------------------------------------------------------------------------------


def _step(manifest: dict[str, Any]) -> dict[str, Any]:
    options = without_places({key: value for key, value in manifest["options"].items() if value is not None})
    text = json.dumps(options, ensure_ascii=False)[1:-1].replace("`", "'").replace('"', "") if options else ""
    return {key: manifest[key] for key in ("stage", "method", "seed")} | {
        "options": text,
        "about": _about(manifest["kind"], manifest["method"]),
    }


def _about(kind: str, method: str) -> str:
    """The first line of a method's own description; empty for a method that is not found here."""
    try:
        return methods.find(kind, method).summary if kind in methods.rooms() else ""
    except MethodError:
        return ""


def _selection(manifest: dict[str, Any]) -> dict[str, Any]:
    """What a selection says of itself: its bound, and how diverse it is beside random subsets of the same size."""
    told = manifest["facts"]
    diversity = told.get("diversity")
    return {
        "stage": manifest["stage"],
        "rows": manifest["out"],
        "pool": told.get("pool", manifest["in"]),
        "certificate": told.get("certificate"),
        "diversity": diversity
        and {
            "lines": family.rows(diversity),
            "subsets": diversity["subsets"],
            "whole": family.whole(diversity),
        },
    }


def _of_templates(content: Content) -> dict[str, Any]:
    """Templates as (set, template, kind, rows), set by set, the most used first; and whom to cite for them and the methods."""
    by = [columns.TEMPLATE_SET, columns.TEMPLATE, columns.TEMPLATE_KIND]
    counts = content.table.group_by(by).len("rows").with_columns(pl.col(by).fill_null(""))
    most_used = counts.sort(columns.TEMPLATE_SET, "rows", columns.TEMPLATE, descending=[False, True, False])
    templates = list(most_used.iter_rows())
    sets = sorted({name for name, *_ in templates})
    return {"templates": templates, "template_sets": sets, "citations": _citations(sets, content.manifests)}


def _citations(template_sets: list[str], manifests: list[dict[str, Any]]) -> list[str]:
    known = yaml.safe_load((library("templates") / "card" / "citations.yaml").read_text("utf-8"))
    used = [f"{manifest['kind']}/{manifest['method']}" for manifest in manifests]
    used += sorted({f"templates/{name.split('/')[0]}" for name in template_sets})
    entries = [entry for name in used if name in known for entry in known[name].strip().split("\n\n")]
    return list(dict.fromkeys(entries))


# --- what is in it ---------------------------------------------------------------------------------------------------


def _of_rows(content: Content) -> dict[str, Any]:
    """Columns, the first row, and what their order and `repeat` allow."""
    rows = content.rows
    nested = all(manifest["facts"].get("nested", True) for manifest in content.of_role("selection"))
    return {
        "columns": [_column(field) for field in rows.head(0).to_arrow().schema],
        "nested": nested and columns.RANK in rows.columns and rows[columns.RANK].to_list() == list(range(rows.height)),
        "example": json.dumps(_shortened(rows.row(0, named=True)), indent=2, ensure_ascii=False),
        "repeats": columns.REPEAT in rows.columns,
    }


def _column(field: pa.Field) -> dict[str, str]:
    name = field.name
    about = COLUMNS.get(name) or (
        f"the score `{name.removeprefix('score_')}` of the record"
        if name.startswith("score_")
        else "made by a step of the recipe"
    )
    return {
        "name": name,
        "type": str(plain(field.type)).replace("element: ", "").replace("item: ", ""),
        "about": about,
    }


def _shortened(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _shortened(item) for key, item in _stated(value).items()}
    if isinstance(value, list):
        return [_shortened(item) for item in value]
    if isinstance(value, float):
        return None if math.isnan(value) else round(value, 4)
    return value if not isinstance(value, str) or len(value) <= _SHOWN else value[:_SHOWN] + "…"


# --- how to make it again --------------------------------------------------------------------------------------------


def _of_recipe(content: Content) -> dict[str, Any]:
    """The recipe as it is shown, and whether something had to be left out of it."""
    shown = printed(content.recipe)
    return {
        "recipe": as_yaml(_stated(shown)),
        "data_left_out": shown.get("data", ".") != ".",
        "places_left_out": shown != content.recipe,
    }


def _stated(value: Any) -> Any:
    """Nested data without the keys that hold nothing: an option that is None says what leaving it out says."""
    if isinstance(value, dict):
        return {key: _stated(item) for key, item in value.items() if item is not None}
    return [_stated(item) for item in value] if isinstance(value, list) else value


def _versions(manifests: list[dict[str, Any]]) -> list[str]:
    used = {name: version for manifest in manifests for name, version in manifest["versions"].items()}
    return [
        f"tamis {importlib.metadata.version('tamis')}",
        *(f"{name} {version}" for name, version in sorted(used.items())),
    ]


# --- limits and licences ---------------------------------------------------------------------------------------------


def claimed(manifests: Iterable[Mapping[str, Any]]) -> set[str]:
    """What the stages say was done or checked; nothing of a stage that says nothing."""
    return {claim for manifest in manifests for claim in manifest.get("claims", ())}


def limits(table: pl.DataFrame, manifests: list[dict[str, Any]]) -> list[str]:
    """What a reader may not take for granted, each because of what the stages did or did not do."""
    done = claimed(manifests)
    said = ["What the sources say was not checked: wrong, biased or harmful statements may be among the rows."]
    if "decontaminated" not in done:
        said.append("No step looked for the test sets of benchmarks; some of their items may be among the rows.")
    if "near duplicates removed" not in done:
        said.append(
            "Only exact duplicates (after normalising the text) were taken out; near ones may be left."
            if "exact duplicates removed" in done
            else "No step looked for duplicates."
        )
    if "language checked" not in done:
        said.append("No step checked the language of the rows.")
    said.append("No step looked for personal data.")
    synthetic = int((table[columns.ORIGIN] == "synthetic").sum())
    if synthetic:
        said.append(f"A model wrote {counted(synthetic, 'row')}.")
    return said


def _licence_sentence(licence: licences.ReleaseLicence) -> str:
    if licence.id == "other":
        return f"No one licence of the Hub's list holds for all rows ({licence.name}); each row keeps its own."
    if licence.id == licences.UNKNOWN:
        return "No source states a licence."
    return f"The set is released under {licence.id}."


def _licence_row(name: str, count: int) -> dict[str, Any]:
    links = [f"<{url}>" for member in licences.members(name) if (url := licences.link(member))]
    return {"name": name, "rows": count, "terms": str(licences.terms(name)), "links": links}
