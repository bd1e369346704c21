"""Looking at rows of a work folder: by what they say, by the beginning of their id."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner
from works import write_manifest, write_plan

from curate.cli import app
from curate.contract.errors import RequestError
from curate.report import show
from curate.rows import table

PHRASED = {"record": pl.String}
LONG = "x " * 200


def row(id: str, prompt: str = "", response: str = "", **more: Any) -> dict[str, Any]:
    return {"id": id, "source": "s", "prompt": prompt, "response": response, **more}


def shard(work: Path, title: str, side: str, rows: list[dict[str, Any]], number: int = 0) -> None:
    more = {"stage": pl.String, "reason": pl.String} if side == "removed" else {}
    more |= PHRASED if any("record" in one for one in rows) else {}
    table.write_shard(work / title / side, number, pl.DataFrame(rows, schema={**table.LOAD_SCHEMA, **more}))


def gone(stage: str, reason: str, one: dict[str, Any]) -> dict[str, Any]:
    return {**one, "stage": stage, "reason": reason}


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """Five rows are loaded, one leaves, and one record of the others is phrased twice."""
    bee, fly = row("aa11", "Why do Bees dance?", "They tell."), row("aa12", "Why do flies buzz?", "bees do it too.")
    ant, sea = row("ab", "Ants (all 1.5 m)", LONG + "walk in file" + LONG), row("abc", "The sea", "is salt\nand wide")
    odd = row("b", "nothing", "to see", fields='{"raw": "zebra"}')
    shard(tmp_path, "00-load", "kept", [bee, fly, ant])
    shard(tmp_path, "00-load", "kept", [sea, odd], 1)
    shard(tmp_path, "01-filter", "kept", [bee, ant, sea, odd])
    shard(tmp_path, "01-filter", "removed", [gone("01-filter", "length: 4 words < 5", fly)])
    said = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Do Bees dance?"}]
    phrased = [{**bee, "id": f"aa11:{name}", "record": "aa11", "messages": said} for name in ("plain", "plenty")]
    shard(tmp_path, "02-render", "kept", [*phrased, {**sea, "record": "abc"}, {**ant, "record": "ab"}])
    for title, kind in (("00-load", "load"), ("01-filter", "filter"), ("02-render", "render")):
        write_manifest(tmp_path, title, kind, kind)
    write_plan(tmp_path, "r", ["00-load", "01-filter", "02-render"])
    return tmp_path


def found(work: Path, text: str, **asked: Any) -> list[str]:
    return [one["id"] for one in show.rows(work, grep=text, **asked)]


def test_a_text_is_found_in_the_last_table_and_then_among_the_rows_that_left(work: Path) -> None:
    assert found(work, "bees") == ["aa11:plain", "aa11:plenty", "aa12"]
    assert found(work, "bees", limit=1) == ["aa11:plain"]
    assert found(work, "bees", removed=True) == ["aa12"]
    assert found(work, "bees", stage="load") == ["aa11", "aa12"]
    assert found(work, "do", stage="filter", removed=True, reason="length") == ["aa12"]
    assert found(work, "do", removed=True, reason="repetition") == []


def test_an_upper_case_letter_makes_case_count(work: Path) -> None:
    assert found(work, "Bees") == ["aa11:plain", "aa11:plenty"]
    assert found(work, "bEES") == []


def test_messages_are_searched_and_the_raw_columns_are_not(work: Path) -> None:
    assert found(work, "be brief") == ["aa11:plain", "aa11:plenty"]
    assert found(work, "zebra", stage="load") == []


def test_a_text_is_no_pattern_and_may_go_over_a_line_end(work: Path) -> None:
    assert found(work, "(all 1.5 m)") == ["ab"]
    assert found(work, "(all 1.5 M)") == [] == found(work, "1x5")
    assert found(work, "salt\nand") == ["abc"]


def test_a_long_text_is_cut_around_the_place(work: Path) -> None:
    [ant] = show.rows(work, grep="walk")
    assert "walk in file" in ant["response"] and len(ant["response"]) <= 160
    assert ant["response"][0] == ant["response"][-1] == "…"
    [plain] = [one for one in show.rows(work, grep="Ants") if one["id"] == "ab"]
    assert plain["response"].startswith("x ") and plain["response"].endswith("…")


@given(st.integers(0, 500), st.integers(1, 300), st.integers(0, 500))
def test_a_cut_text_shows_the_place_and_marks_what_is_left_out(before: int, many: int, after: int) -> None:
    text = "a" * before + "B" * many + "c" * after
    cut = show._cut(text, before, before + many)
    assert len(cut) <= 160 and cut.count("B") >= min(many, 150)
    inner = cut.strip("…")
    assert inner in text
    assert cut.startswith("…") or text.startswith(inner)
    assert cut.endswith("…") or text.endswith(inner)


@given(st.lists(st.text("aAbB.(\\\n ß", max_size=12), max_size=8), st.text("aAbB.(\\\n ß", min_size=1, max_size=4))
def test_what_is_found_is_what_holds_the_text(texts: list[str], sought: str) -> None:
    flag = 0 if any(letter.isupper() for letter in sought) else re.IGNORECASE
    rows = pl.DataFrame({"prompt": texts}, schema={"prompt": pl.String})
    held = rows.filter(show._Sought(sought).among(["prompt"]))["prompt"].to_list()
    assert held == [text for text in texts if re.search(re.escape(sought), text, flag)]


def test_no_shard_is_opened_behind_the_last_row_that_is_asked_for(work: Path) -> None:
    (work / "00-load" / "kept" / "part-00001.parquet").write_bytes(b"no parquet")
    assert found(work, "do", stage="load", limit=2) == ["aa11", "aa12"]


def test_the_beginning_of_an_id_will_do(work: Path) -> None:
    shard(work, "01-filter", "removed", [gone("01-filter", "length", row("f9a2"))], 1)
    story = show.history(work, "f")
    assert [one["what"] for one in story] == ["removed: length"]


def test_an_id_wins_over_a_longer_one_that_begins_so(work: Path) -> None:
    assert [(one["stage"], one["what"]) for one in show.history(work, "abc")] == [
        (title, "kept") for title in ("00-load", "01-filter", "02-render")
    ]
    assert "prompt=Ants" in show.history(work, "ab")[0]["new or changed"]


def test_the_beginning_of_a_record_means_the_record_with_all_its_phrasings(work: Path) -> None:
    for side in ("00-load/kept", "01-filter/removed"):
        part = work / side / "part-00000.parquet"
        pl.read_parquet(part).filter(pl.col("id") != "aa12").write_parquet(part)
    stages = [one["stage"] for one in show.history(work, "aa1")]
    assert stages == ["00-load", "01-filter", "02-render", "02-render"]


def test_a_phrasing_is_found_by_the_beginning_of_its_template(work: Path) -> None:
    assert [one["stage"] for one in show.history(work, "aa11:plai")] == ["02-render"]
    with pytest.raises(RequestError, match=r"--id aa11:pl: 2 ids of .* begin so: aa11:plain, aa11:plenty; write"):
        show.history(work, "aa11:pl")


def test_an_ambiguous_beginning_names_up_to_five_ids(work: Path) -> None:
    with pytest.raises(RequestError, match=r"--id aa: 2 ids of .* begin so: aa11, aa12; write more"):
        show.history(work, "aa")
    with pytest.raises(RequestError, match=r"5 ids of .* begin so: aa11, aa12, ab, abc, b; write more"):
        show.history(work, "")
    shard(work, "01-filter", "removed", [gone("01-filter", "length", row("abcd"))], 1)
    with pytest.raises(RequestError, match=r"more than 5 ids of .* begin so: aa11, aa12, ab, abc, abcd; write more"):
        show.history(work, "")


def test_an_id_that_no_row_has_is_said_with_what_helps(work: Path) -> None:
    with pytest.raises(RequestError, match=r"no stage of .* whose id is 'q' or begins so; .*--grep TEXT finds rows"):
        show.history(work, "q")


def test_the_command_takes_grep_or_id_and_prints_json(work: Path) -> None:
    done = CliRunner().invoke(app, ["show", str(work), "--grep", "bees", "--removed", "--json"])
    assert [one["reason"] for one in json.loads(done.stdout)] == ["length: 4 words < 5"]
    done = CliRunner().invoke(app, ["show", str(work), "--id", "aa1", "--grep", "bees"])
    assert isinstance(done.exception, RequestError) and "give one of them" in str(done.exception)
    done = CliRunner().invoke(app, ["show", str(work), "--grep", ""])
    assert isinstance(done.exception, RequestError) and "--grep is empty" in str(done.exception)
    assert "aa12" in CliRunner().invoke(app, ["show", str(work), "--grep", "buzz"]).stdout
    assert CliRunner().invoke(app, ["show", str(work), "--grep", "quark"]).stdout == "Nothing.\n"
