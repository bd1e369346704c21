"""A work folder is read through its plan and its manifests, never by the names of its folders."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from works import write_manifest, write_plan

from curate.contract.errors import RequestError, WorkError
from curate.contract.files import write_json
from curate.rows import table
from curate.run.work import Work, is_work

ROWS = pl.DataFrame({"id": ["c", "a", "b"], "prompt": ["x", "y", "z"]})
VECTORS = np.arange(6, dtype=np.float32).reshape(3, 2)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two filters, an embedding and a release; a select stage that the run did not come to."""
    write_manifest(tmp_path, "00-load", "load", "load")
    write_manifest(tmp_path, "01-filter", "filter", "length")
    write_manifest(tmp_path, "02-embed", "embed", "hashing")
    write_manifest(tmp_path, "03-filter", "filter", "script")
    write_manifest(tmp_path, "release", "release", "card")
    for title in ("00-load", "01-filter", "02-embed", "03-filter"):
        table.write(tmp_path / title / "kept", ROWS, rows_per_shard=2)
    np.save(tmp_path / "02-embed" / "vectors.npy", VECTORS)
    write_plan(tmp_path, "five", ["00-load", "01-filter", "02-embed", "03-filter", "04-select", "release"])
    return tmp_path


def test_the_stages_are_those_that_are_whole_in_the_order_of_the_plan(folder: Path) -> None:
    work = Work(folder)
    assert [done.title for done in work.tables] == ["00-load", "01-filter", "02-embed", "03-filter"]
    assert [done.title for done in work.products] == ["release"]
    assert [done.title for done in work.of_role("sources")] == ["00-load"]
    assert work.recipe == "five" and not work.old


def test_a_stage_is_found_by_title_name_or_kind_and_the_last_one_else(folder: Path) -> None:
    work = Work(folder)
    assert [work.stage(asked).title for asked in (None, "filter", "01-filter")] == [
        "03-filter",
        "03-filter",
        "01-filter",
    ]
    assert work.stage("embed").title == "02-embed" and work.stage(tables=False).title == "release"
    with pytest.raises(RequestError, match="has no sources stage 'embed'; it has 00-load"):
        work.stage("embed", role="sources")
    with pytest.raises(RequestError, match="has no selection stage; it has 00-load"):
        work.stage(role="selection")


def test_what_stands_before_a_stage_comes_nearest_first(folder: Path) -> None:
    work = Work(folder)
    last = work.stage("03-filter")
    assert [done.title for done in work.before(last)] == ["02-embed", "01-filter", "00-load"]
    embedded = work.embedded(last)
    assert embedded is not None and embedded.title == "02-embed" and work.embedded(embedded) is None


def test_vectors_follow_the_rows_that_are_asked_for(folder: Path) -> None:
    embedded = Work(folder).stage("embed")
    assert isinstance(embedded.vectors_of(ROWS["id"]), np.memmap)
    np.testing.assert_array_equal(embedded.vectors_of(pl.Series(["b", "c"])), VECTORS[[2, 0]])
    with pytest.raises(WorkError, match="1 rows of the pool are not among them"):
        embedded.vectors_of(pl.Series(["b", "d"]))
    np.save(folder / "02-embed" / "vectors.npy", VECTORS[:2])
    with pytest.raises(WorkError, match="2 vectors for 3 rows"):
        Work(folder).stage("embed").vectors_of(ROWS["id"])


def test_a_stage_that_the_last_run_wanted_otherwise_is_old(folder: Path) -> None:
    write_plan(folder, "five", ["00-load", "01-filter", "02-embed", "release"], embed="x", release="y")
    assert [done.title for done in Work(folder).old] == ["02-embed", "release"]


def test_columns_are_read_as_asked(folder: Path) -> None:
    done = Work(folder).stage()
    assert done.read(only=["id"]).columns == ["id"] and done.read(without=["prompt"]).columns == ["id"]
    assert done.read().equals(ROWS) and done.read("removed").height == 0


def test_folders_that_are_no_work_or_of_another_version_are_one_sentence(tmp_path: Path) -> None:
    assert not is_work(tmp_path)
    with pytest.raises(WorkError, match=r"is not a work folder: it holds no stages\.json"):
        Work(tmp_path)
    write_json(tmp_path / "stages.json", {"recipe": "old", "stages": ["00-load"]})
    assert is_work(tmp_path)
    with pytest.raises(WorkError, match="written by an older version of Tamis"):
        Work(tmp_path)
