"""Work folders as a run leaves them, made by hand for the tests of who reads them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from curate.contract.files import read_json, write_json
from curate.run.kinds import kinds
from curate.run.work import CONTRACT, MANIFEST, PLAN


def write_manifest(work: Path, title: str, kind: str, method: str, **more: Any) -> None:
    """The manifest of a stage; one without a number is a product. more: what differs from the plainest."""
    numbered = title[:2].isdigit()
    manifest = {
        "contract": CONTRACT,
        "stage": title,
        "name": title.partition("-")[2] if numbered else title,
        "kind": kind,
        "role": kinds()[kind].role if kind in kinds() else None,
        "table": numbered,
        "method": method,
        "options": {},
        "seed": 0,
        "key": f"key of {title}",
        "versions": {},
        "facts": {},
        "claims": [],
        "in": None,
        "out": None,
        "removed": 0,
        "reasons": {},
    }
    write_json(work / title / MANIFEST, manifest | more)


def write_plan(work: Path, recipe: str, titles: Sequence[str], **keys: str) -> None:
    """What the last run wanted. keys: of the stages, by name, that it wanted under another key than they have."""
    planned = []
    for title in titles:
        try:
            manifest = read_json(work / title / MANIFEST)
        except OSError:  # the run did not come to it
            manifest = {
                "name": title.partition("-")[2] or title,
                "kind": title,
                "key": "",
                "table": title[:2].isdigit(),
            }
        stage = {"title": title, **{key: manifest[key] for key in ("name", "kind", "key", "table")}}
        planned.append(stage | ({"key": keys[stage["name"]]} if stage["name"] in keys else {}))
    write_json(work / PLAN, {"contract": CONTRACT, "recipe": recipe, "stages": planned})
