"""The release: rows as Parquet that `datasets` loads and chat trainers read, and a card that says where they come from.

    FOLDER/README.md            the card, with the Hub's metadata
    FOLDER/data/train-00000-of-00001.parquet
    FOLDER/funnel.png  manifest.json  LICENSE.md (where no one licence holds for all rows)

Everything the card says is computed from the rows, the stages' manifests and the recipe. No folder of the machine, no
time and no host name is in it, and the same input gives the same bytes.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl

from curate.contract import columns
from curate.contract.errors import ContractError, MissingExtra
from curate.contract.files import sha256, write_bytes, write_json, write_text
from curate.release.content import Content, check, released
from curate.release.facts import PICTURE, facts
from curate.release.layout import as_yaml, line, render
from curate.release.metadata import LICENCE_FILE, metadata
from curate.release.places import printed, without_places
from curate.release.shards import write_shards
from curate.release.verify import verify
from curate.rows import licences


def release(
    folder: Path,
    table: pl.DataFrame,
    *,
    recipe: dict[str, Any],
    manifests: list[dict[str, Any]],
    config: str = "default",
    license: str = "auto",
    pretty_name: str | None = None,
    language: list[str] | None = None,
) -> dict[str, Any]:
    """Writes a release of rendered rows into ``folder`` and returns what its manifest.json holds.

    table: the contract's columns after render. recipe: the resolved recipe; it is printed in the card, less the places of
    this machine. manifests: one mapping a stage, in order. config: the name of the Hub's configuration. license: "auto"
    works it out from the rows (see curate/rows/licences.py), else an identifier. pretty_name: the title of the card; the
    recipe's name if not given. language: codes such as `en`; a language that nobody states is not claimed. Rows stand in
    the order of ``rank`` where there is one, else as in the table.

    Raises ContractError for rows without messages or with one id twice, RequestError for a name that cannot be used,
    MissingExtra without matplotlib. Cost: about 10 s and twice the table's memory for a million rows.
    """
    check(table, config)
    content = Content(
        title=line(pretty_name or str(recipe["name"])),
        config=config,
        table=table,
        rows=released(table),
        licence=licences.release_licence(dict(table[columns.LICENSE].value_counts().iter_rows()), license),
        recipe=recipe,
        manifests=manifests,
    )
    shards = write_shards(folder / content.data, content.rows)
    write_bytes(folder / PICTURE, _picture(content))
    texts = _write_texts(folder, content, metadata(content, shards, language))
    manifest = _manifest(folder, content, [*texts, PICTURE, *(f"{content.data}/{path.name}" for path in shards)])
    write_json(folder / "manifest.json", manifest)
    if problems := verify(folder):
        raise ContractError(f"{folder}: the release does not pass its own check: {'; '.join(problems)}")
    return manifest


def _write_texts(folder: Path, content: Content, block: dict[str, Any]) -> list[str]:
    """The card, and the licences in a file of their own where no one of the Hub's holds for all rows; their names."""
    told = facts(content) | {"metadata": as_yaml(block), "left_out": _left_out(content)}
    write_text(folder / "README.md", render("dataset_card.md.jinja", told))
    if content.licence.id != "other":
        (folder / LICENCE_FILE).unlink(missing_ok=True)
        return ["README.md"]
    write_text(folder / LICENCE_FILE, render("license.md.jinja", told))
    return ["README.md", LICENCE_FILE]


def _left_out(content: Content) -> list[tuple[str, list[str]]]:
    """(set, templates) that the recipe had the renderer not use."""
    asked = [manifest["options"].get("leave_out") or {} for manifest in content.of_role("phrasing")]
    return sorted((name, templates) for one in asked for name, templates in one.items() if templates)


def _manifest(folder: Path, content: Content, names: list[str]) -> dict[str, Any]:
    licence = content.licence
    return {
        "name": content.title,
        "config": content.config,
        "rows": content.table.height,
        "license": {"id": licence.id, "name": licence.name, "rows": dict(licence.rows)},
        "files": {
            name: {"sha256": sha256(folder / name), "bytes": (folder / name).stat().st_size} for name in sorted(names)
        },
        "recipe": printed(content.recipe),
        "stages": without_places(content.manifests),
    }


def _picture(content: Content) -> bytes:
    try:
        from curate.release.plot import Part, picture
    except ModuleNotFoundError as error:
        raise MissingExtra(
            "release draws a plot with matplotlib, which is not installed: pip install 'tamis[report]'"
        ) from error
    table, sources = content.table, content.sources
    what = "source" if len(sources) > 1 else "task"
    here = Counter(table[what].fill_null("none").to_list())
    if what == "source":
        parts = [Part(s["name"], here[s["name"]], s["rows"] + s["removed"]) for s in sources]
    else:
        parts = [Part(name, rows) for name, rows in here.items()]
    characters = pl.element().struct.field(columns.CONTENT).str.len_chars()
    answers = table[columns.MESSAGES].list.eval(
        pl.when(pl.element().struct.field(columns.ROLE) == "assistant").then(characters)
    )
    return picture([(m["stage"], m["out"]) for m in content.manifests], what, parts, answers.list.sum().to_numpy())
