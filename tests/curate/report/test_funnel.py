"""The funnel: numbers in columns, reasons under their stage, a star before what is of an earlier recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from works import write_manifest, write_plan

from curate.contract.files import write_json
from curate.report.funnel import earlier, lines, rows


def row(stage: str, method: str = "length", **more: Any) -> dict[str, Any]:
    plainest = {
        "in": 57_408,
        "out": 40_256,
        "kept": 0.7012,
        "seconds": 1.25,
        "peak_mb": 1_817,
        "reasons": [],
        "old": False,
    }
    return {"stage": stage, "method": method, **plainest, **more}


@pytest.fixture
def work(tmp_path: Path) -> Path:
    write_manifest(tmp_path, "00-load", "load", "load", out=5, reasons={"not JSON": 1})
    write_manifest(tmp_path, "01-filter", "filter", "length", **{"in": 5, "out": 2}, reasons={"b": 1, "a": 1, "c": 7})
    write_manifest(tmp_path, "release", "release", "card", **{"in": 2, "out": 2})
    write_json(tmp_path / "00-load" / "run.json", {"seconds": 0.5, "peak_mb": 120})
    write_plan(tmp_path, "three", ["00-load", "01-filter", "release"])
    return tmp_path


def test_every_stage_that_is_whole_has_a_row(work: Path) -> None:
    load, filtered, release = rows(work)
    assert (load["stage"], load["in"], load["out"], load["kept"]) == ("00-load", None, 5, None)
    assert (load["seconds"], load["peak_mb"]) == (0.5, 120)
    assert filtered["kept"] == 0.4 and filtered["reasons"] == [("c", 7), ("a", 1), ("b", 1)]
    assert release["method"] == "card" and not release["old"]


def test_stages_of_an_earlier_recipe_are_told(work: Path) -> None:
    assert earlier(work) == ""
    write_plan(work, "three", ["00-load", "01-filter", "release"], release="another key")
    assert [line["old"] for line in rows(work)] == [False, False, True]
    assert earlier(work).startswith("release is of an earlier recipe")
    write_plan(work, "three", ["00-load", "01-filter", "release"], load="x", filter="x", release="x")
    assert earlier(work).startswith("00-load, 01-filter and release are of an earlier recipe")
    assert [line[0] for line in lines(rows(work), 80)[2:] if "−" not in line] == ["*", "*", "*"]


def test_numbers_stand_in_columns_and_reasons_under_their_stage() -> None:
    said = lines(
        [row("00-filter", reasons=[("length: words < 3", 12), ("length: words > 900", 1_400)]), row("01-x")], 80
    )
    assert said[0] == "stage      method      in     out  kept %    s  peak MB"
    assert said[2] == "00-filter  length  57,408  40,256    70.1  1.2    1,817"
    assert said[3:5] == ["       −12  length: words < 3", "    −1,400  length: words > 900"]
    assert said[5].startswith("01-x ")


def test_a_few_reasons_are_told_and_the_rest_counted() -> None:
    five = [(f"reason {n}", 10 - n) for n in range(5)]
    said = lines([row("00-filter", reasons=five)], 80)[3:]
    assert said == ["    −10  reason 0", "     −9  reason 1", "     −8  reason 2", "    −13  2 other reasons"]
    assert lines([row("00-filter", reasons=five[:4])], 80)[-1] == "     −7  another reason"


@pytest.mark.parametrize("width", [72, 80, 160])
def test_no_line_is_wider_than_the_screen(width: int) -> None:
    long = [("refusal: begins with " + "word " * 40, 3), ("x" * 200, 2)]
    said = lines([row("10-facility_location", "a_method_with_quite_a_long_name_of_its_own", reasons=long)], width)
    assert max(map(len, said)) <= width
    assert "word word" in " ".join(said) and "".join(said).count("x") >= 200


def test_a_narrow_screen_cuts_the_method_and_no_number() -> None:
    said = lines([row("06-select", "facility_location")], 20)
    assert said[2] == "06-select  facilit…  57,408  40,256    70.1  1.2    1,817"
