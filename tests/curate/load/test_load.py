"""Sources: files of every format to records, shapes, ids, bad rows, and what each mistake is told."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import re
from itertools import islice
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from curate.contract import methods
from curate.contract.errors import RequestError, SourceError
from curate.load import files, records
from curate.rows.table import LOAD_SCHEMA, REMOVED_SCHEMA
from curate.template.sets import load_set

ROWS = [
    {"instruction": "Add.", "input": "1, 2", "output": "3"},
    {"instruction": 'Say "hi",\nthen go.', "input": "", "output": "“hi”\n\nbye"},
    {"instruction": "Zähle auf Griechisch.", "input": "bis zwei", "output": "ένα, δύο"},
]
DATA = Path(os.environ.get("TAMIS_DATA", "../shared/data"))


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = content.encode() if isinstance(content, str) else content
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def lines(rows: list[Any]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def as_csv(rows: list[dict[str, str]]) -> str:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, rows[0].keys())
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def as_parquet(rows: list[dict[str, Any]]) -> bytes:
    buffer = io.BytesIO()
    pl.DataFrame(rows).write_parquet(buffer)
    return buffer.getvalue()


def load(
    base: Path, *, seed: int = 0, templates: Path | None = None, **options: Any
) -> tuple[pl.DataFrame, pl.DataFrame]:
    chunks = list(records.records("files", options, data=base, seed=seed, folder=templates))
    return pl.concat([kept for kept, _ in chunks]), pl.concat([removed for _, removed in chunks])


COMMON = methods.signature("curate/load/records.py", "common")

# --- formats ---------------------------------------------------------------------------------------------------------

FORMATS = {
    "rows.jsonl": lines(ROWS),
    "rows.ndjson": lines(ROWS),
    "crlf.jsonl": lines(ROWS).replace("\n", "\r\n"),
    "bom.jsonl": "\ufeff" + lines(ROWS),
    "blank.jsonl": "\n" + lines(ROWS).replace("\n", "\n  \n"),
    "rows.json": json.dumps(ROWS, indent=1),
    "bom.json": "\ufeff" + json.dumps(ROWS),
    "really_lines.json": lines(ROWS),
    "rows.csv": as_csv(ROWS),
    "bom.csv": "\ufeff" + as_csv(ROWS),
    "rows.parquet": as_parquet(ROWS),
}


@pytest.mark.parametrize("zipped", ["", ".gz"])
@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_same_records(tmp_path: Path, name: str, zipped: str) -> None:
    write(tmp_path / (name + zipped), FORMATS[name])
    kept, removed = load(tmp_path, path=name + zipped)
    assert removed.height == 0
    assert kept["prompt"].to_list() == [
        "Add.\n\n1, 2",
        'Say "hi",\nthen go.',
        "Zähle auf Griechisch.\n\nbis zwei",
    ]
    assert kept["response"].to_list() == [row["output"] for row in ROWS]
    assert [json.loads(text) for text in kept["fields"]] == ROWS
    assert set(kept["template_set"]) == {"pools/alpaca"}


def test_a_table_has_the_schema_of_the_contract_even_where_nothing_was_removed(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", lines(ROWS))
    kept, removed = load(tmp_path, path="a.jsonl", license="mit", task="sums")
    assert dict(kept.schema) == LOAD_SCHEMA
    assert dict(removed.schema) == REMOVED_SCHEMA
    first = kept.row(0, named=True)
    assert first["source"] == "a"
    assert (first["license"], first["task"], first["task_cluster"], first["origin"]) == ("mit", "sums", None, "source")
    assert first["messages"] is None
    assert first["extra"] is None


def test_a_tsv_is_read_without_quoting_so_that_a_quotation_mark_is_a_letter(tmp_path: Path) -> None:
    write(tmp_path / "a.tsv", 'prompt\tcompletion\n"Ha\tlaughs\nx\t"y" said z\n')
    kept, _ = load(tmp_path, path="a.tsv")
    assert kept["prompt"].to_list() == ['"Ha', "x"]
    assert kept["response"].to_list() == ["laughs", '"y" said z']


@pytest.mark.parametrize("name", ["a.tsv", "a.csv"])
def test_header_names_the_columns_of_a_file_without_a_first_line_of_names(tmp_path: Path, name: str) -> None:
    separator = "\t" if name == "a.tsv" else ","
    write(tmp_path / name, f"1 + 1{separator}2\n2 + 2{separator}4\n")
    kept, _ = load(tmp_path, path=name, header=["prompt", "completion"])
    assert kept["prompt"].to_list() == ["1 + 1", "2 + 2"]


def test_a_parquet_file_may_hold_lists_numbers_and_dates(tmp_path: Path) -> None:
    table = pl.DataFrame(
        {
            "prompt": ["a"],
            "completion": ["b"],
            "tags": [["x", "y"]],
            "score": [float("nan")],
            "day": ["2024-05-01"],
        }
    ).with_columns(pl.col("day").str.to_date())
    table.write_parquet(tmp_path / "a.parquet")
    kept, _ = load(tmp_path, path="a.parquet")
    assert json.loads(kept["fields"][0]) == {
        "prompt": "a",
        "completion": "b",
        "tags": ["x", "y"],
        "score": None,
        "day": "2024-05-01",
    }


def test_a_parquet_row_with_binary_data_is_removed_and_says_so(tmp_path: Path) -> None:
    pl.DataFrame({"prompt": ["a", "b"], "completion": ["c", "d"], "picture": [b"\xff\xd8", b"plain"]}).write_parquet(
        tmp_path / "a.parquet"
    )
    kept, removed = load(tmp_path, path="a.parquet", on_error="remove")
    assert kept["prompt"].to_list() == ["b"]
    assert removed["reason"].to_list() == ["a.parquet:row:1: the column `picture` holds binary data that is not UTF-8"]


# --- paths -----------------------------------------------------------------------------------------------------------


def test_a_folder_a_glob_and_a_list_give_their_files_in_order(tmp_path: Path) -> None:
    for name in ("b.jsonl", "a.jsonl.gz", "deep/c.json", ".hidden/d.jsonl", ".e.jsonl"):
        write(tmp_path / "pool" / name, lines([{"prompt": name, "completion": "x"}]))
    write(tmp_path / "pool" / "README.md", "not rows")
    assert load(tmp_path, path="pool")[0]["prompt"].to_list() == ["a.jsonl.gz", "b.jsonl", "deep/c.json"]
    assert load(tmp_path, path="pool/*.jsonl")[0]["prompt"].to_list() == ["b.jsonl"]
    assert load(tmp_path, path="pool/**/*.json*")[0]["prompt"].to_list() == ["a.jsonl.gz", "b.jsonl", "deep/c.json"]
    assert load(tmp_path, path=["pool/b.jsonl", "pool/deep"])[0]["prompt"].to_list() == ["b.jsonl", "deep/c.json"]
    assert load(Path("/"), path=str(tmp_path / "pool" / "b.jsonl"))[0]["prompt"].to_list() == ["b.jsonl"]


def test_a_path_with_brackets_is_a_file_before_it_is_a_pattern(tmp_path: Path) -> None:
    write(tmp_path / "a[1].jsonl", lines(ROWS))
    assert load(tmp_path, path="a[1].jsonl")[0].height == 3


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("alpaca/*.jsonl", "alpaca"),
        ("alpaca", "alpaca"),
        ("sst2/train.tsv.gz", "sst2"),
        ("/data/lima/lima_data.jsonl", "lima_data"),
        ("../pool.v2/train.jsonl", "pool.v2"),
        ("train.jsonl", "train"),
        ("*.jsonl", "files"),
        (["a/x.jsonl", "b/y.jsonl"], "x"),
    ],
)
def test_a_source_without_a_name_takes_one_from_its_path(path: str | list[str], name: str) -> None:
    assert records.describe("files", {"path": path}) == name
    assert records.describe("files", {"path": path, "name": "mine"}) == "mine"


@pytest.mark.parametrize(
    ("name", "split"),
    [("train.jsonl", "train"), ("lima_test_set.jsonl", "test"), ("x-DEV.jsonl", "validation"), ("latest.jsonl", None)],
)
def test_the_split_is_what_the_files_name_says(tmp_path: Path, name: str, split: str | None) -> None:
    write(tmp_path / name, lines(ROWS))
    assert set(load(tmp_path, path=name)[0]["split"]) == {split}


# --- shapes ----------------------------------------------------------------------------------------------------------

TABLE = re.findall(r"^    ([a-z_]+) +(\{.*\})$", records.__doc__ or "", re.MULTILINE)


def test_the_documented_table_of_shapes_is_the_one_that_is_used() -> None:
    assert [(shape, set(json.loads(row))) for shape, row in TABLE] == [
        (shape, set(needed)) for shape, needed, _ in records._SHAPES
    ]
    for shape, needed, renamed in records._SHAPES:
        assert load_set(f"pools/{shape}").needs <= {*needed, *renamed}
        assert methods.accepts(next(p.annotation for p in COMMON if p.word == "shape"), shape)


@pytest.mark.parametrize(("shape", "row"), TABLE)
def test_each_documented_row_is_recognised_and_gives_a_record(tmp_path: Path, shape: str, row: str) -> None:
    write(tmp_path / "a.jsonl", row + "\n")
    kept, _ = load(tmp_path, path="a.jsonl")
    assert kept["template_set"].to_list() == [f"pools/{shape}"]
    assert kept["prompt"][0]
    assert kept["response"][0] in ("2", "3", "Rain.", "Hello")
    assert (kept["messages"][0] is not None) == (shape in ("messages", "conversations"))


def test_further_columns_do_not_change_the_shape(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", lines([{**row, "id": 1, "response": "other", "category": "x"} for row in ROWS]))
    kept, _ = load(tmp_path, path="a.jsonl")
    assert kept["template_set"].to_list() == ["pools/alpaca"] * 3
    assert kept["response"].to_list() == [row["output"] for row in ROWS]


def test_files_of_one_source_may_have_different_shapes(tmp_path: Path) -> None:
    write(tmp_path / "pool/a.jsonl", lines(ROWS))
    write(tmp_path / "pool/b.jsonl", lines([{"prompt": "1 + 2 =", "response": "3"}]))
    kept, _ = load(tmp_path, path="pool")
    assert kept["template_set"].to_list() == ["pools/alpaca"] * 3 + ["pools/prompt_completion"]


def test_columns_of_two_shapes_are_not_guessed_at(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", lines([{"instruction": "a", "context": "", "response": "b", "output": "c"}]))
    with pytest.raises(SourceError, match=r"fit several shapes \(dolly, alpaca\); name the shape with `shape:`"):
        load(tmp_path, path="a.jsonl")
    assert load(tmp_path, path="a.jsonl", shape="dolly")[0]["response"].to_list() == ["b"]


def test_unknown_columns_are_listed_with_the_shapes_and_what_to_do(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", lines([{"question": "a", "reply": "b"}]))
    with pytest.raises(SourceError) as error:
        load(tmp_path, path="a.jsonl")
    sentence = str(error.value)
    for part in (
        "a.jsonl",
        "`question`, `reply`",
        "dolly: instruction, context, response",
        "`shape:`",
        "`columns: {",
        "`template:`",
    ):
        assert part in sentence
    assert "\n" not in sentence


def test_columns_are_renamed_new_from_old_before_anything_is_read(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", lines([{"question": "a", "reply": "b", "completion": "old"}]))
    kept, _ = load(tmp_path, path="a.jsonl", columns={"prompt": "question", "completion": "reply"})
    assert json.loads(kept["fields"][0]) == {"prompt": "a", "completion": "b"}
    swapped, _ = load(tmp_path, path="a.jsonl", columns={"prompt": "reply", "reply": "question"})
    assert json.loads(swapped["fields"][0]) == {"prompt": "b", "reply": "a", "completion": "old"}


def test_gpteacher_rows_load_as_alpaca_by_name_too(tmp_path: Path) -> None:
    write(tmp_path / "a.json", json.dumps([{"instruction": "a", "input": "", "response": "b"}]))
    named, _ = load(tmp_path, path="a.json", columns={"output": "response"}, shape="alpaca")
    guessed, _ = load(tmp_path, path="a.json")
    assert named.equals(guessed)


def test_as_and_template_together_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", lines(ROWS))
    with pytest.raises(RequestError, match="give one of the two"):
        load(tmp_path, path="a.jsonl", template="flan/sentiment/sst2", shape="alpaca")


def test_a_template_set_of_the_recipes_own_reads_any_columns(tmp_path: Path) -> None:
    write(
        tmp_path / "recipe" / "riddles.yaml",
        "dataset: riddles\nabout: Riddles.\nlicense: cc0-1.0\ncolumns: {riddle: q, solution: a}\n"
        'record: {prompt: "{{ riddle }}", response: "{{ solution }}"}\nexample: {q: What has keys?, a: A piano.}\n'
        'templates:\n  - {name: plain, kind: forward, style: plain, input: "{{ riddle }}", target: "{{ solution }}"}\n',
    )
    write(tmp_path / "data" / "a.jsonl", lines([{"q": "What has hands?", "a": "A clock."}]))
    kept, _ = load(tmp_path / "data", templates=tmp_path / "recipe", path="a.jsonl", template="riddles.yaml")
    row = kept.row(0, named=True)
    assert (row["prompt"], row["task"], row["license"]) == ("What has hands?", "riddles", "cc0-1.0")


# --- ids, chunks, order ----------------------------------------------------------------------------------------------


def test_ids_do_not_change_when_other_rows_files_or_folders_do(tmp_path: Path) -> None:
    write(tmp_path / "one/a.jsonl", lines(ROWS))
    before = load(tmp_path / "one", path="*.jsonl", name="pool")[0]["id"].to_list()
    write(tmp_path / "elsewhere/a.jsonl", lines([*ROWS, ROWS[0]]))
    write(tmp_path / "elsewhere/0.jsonl", lines(ROWS))
    after = load(tmp_path / "elsewhere", path="*.jsonl", name="pool")[0]["id"].to_list()
    assert after[3:6] == before
    assert len(set(after)) == 7
    assert all(re.fullmatch("[0-9a-f]{32}", id) for id in after)


def test_ids_of_two_sources_differ_where_their_rows_are_the_same(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", lines(ROWS))
    ids = [load(tmp_path, path="a.jsonl", name=name)[0]["id"].to_list() for name in ("one", "two")]
    assert not set(ids[0]) & set(ids[1])


def test_a_bad_row_keeps_its_id_once_it_is_mended(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", lines(ROWS[:1]) + "{broken\n" + lines(ROWS[2:]))
    _, removed = load(tmp_path, path="a.jsonl", on_error="remove")
    write(tmp_path / "a.jsonl", lines(ROWS))
    assert removed["id"][0] == load(tmp_path, path="a.jsonl")[0]["id"][1]


def test_the_size_of_the_chunks_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"prompt": f"{n}?", "completion": str(n)} for n in range(500)]
    write(tmp_path / "a.jsonl", lines(rows[:300]) + "bad\n" + lines(rows[300:]))
    whole = load(tmp_path, path="a.jsonl")
    monkeypatch.setattr(records, "CHUNK_ROWS", 7)
    chunks = list(records.records("files", {"path": "a.jsonl"}, data=tmp_path, seed=0))
    assert {kept.height + removed.height for kept, removed in chunks[:-1]} == {7}
    assert pl.concat([kept for kept, _ in chunks]).equals(whole[0])
    assert pl.concat([removed for _, removed in chunks]).equals(whole[1])
    monkeypatch.setattr(records, "CHUNK_CHARACTERS", 100)
    assert load(tmp_path, path="a.jsonl")[0].equals(whole[0])


def test_a_loader_beside_the_recipe_is_found_and_read_as_a_stream(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "LOOK_AHEAD", 10)
    monkeypatch.setattr(records, "CHUNK_ROWS", 100)
    write(
        tmp_path / "methods/load/endless.py",
        '"""Rows without an end."""\nfrom itertools import count\nfrom curate.load.records import Raw\n'
        "def load(*, first: int = 1):\n"
        '    for n in count(first):\n        yield Raw(str(n), {"prompt": f"{n}?", "completion": "yes"}, f"number {n}")\n',
    )
    chunks = records.records("endless", {"first": 5}, data=tmp_path, seed=0, folder=tmp_path)
    two = [kept for kept, _ in islice(chunks, 2)]
    assert [chunk.height for chunk in two] == [100, 100]
    assert two[0]["prompt"][0] == "5?"
    assert records.describe("endless", {}, tmp_path) == "endless"
    assert records.fingerprint("endless", {}, data=tmp_path, folder=tmp_path) == {"options": {"first": 1}}


def test_the_fingerprint_follows_the_content_and_not_the_time(tmp_path: Path) -> None:
    path = write(tmp_path / "pool/a.jsonl", lines(ROWS))
    before = records.fingerprint("files", {"path": "pool"}, data=tmp_path)
    os.utime(path, (0, 0))
    assert records.fingerprint("files", {"path": "pool"}, data=tmp_path) == before
    write(tmp_path / "pool/b.jsonl", lines(ROWS))
    more = records.fingerprint("files", {"path": "pool"}, data=tmp_path)
    write(path, lines(ROWS[:2]))
    assert (
        len(
            {
                json.dumps(facts)
                for facts in (before, more, records.fingerprint("files", {"path": "pool"}, data=tmp_path))
            }
        )
        == 3
    )


# --- bad rows --------------------------------------------------------------------------------------------------------


def test_a_line_that_is_not_json_goes_to_removed_with_file_and_line(tmp_path: Path) -> None:
    good = {"prompt": "a", "completion": "b"}
    text = lines([good] * 50).encode().splitlines(keepends=True)
    text[2:2] = [b'{"prompt": "a",\n']
    text[10:10] = [b'{"prompt": "\xff", "completion": "b"}\n']
    write(tmp_path / "a.jsonl.gz", b"".join(text))
    kept, removed = load(tmp_path, path="a.jsonl.gz")
    assert kept.height == 50
    assert removed["reason"].to_list() == [
        "a.jsonl.gz:3: not JSON, unexpected end of data at column 16",
        "a.jsonl.gz:11: not UTF-8, the byte 0xff at column 13",
    ]
    assert set(removed["stage"]) == {"load"}
    assert removed["fields"].to_list() == [None, None]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("[1, 2]", "an array, and not an object with columns"),
        ('"text"', "a text, and not an object with columns"),
        ("17", "a number, and not an object with columns"),
        ("null", "null, and not an object with columns"),
        ('{"prompt": NaN}', "not JSON, unexpected character, expected a JSON value at column 12"),
        ('{"prompt": "a"}', "the column `completion` is missing"),
        ('{"prompt": "a", "completion": ""}', "the response is empty"),
    ],
)
def test_a_row_that_is_no_record_says_why(tmp_path: Path, line: str, reason: str) -> None:
    good = lines([{"prompt": "a", "completion": "b"}] * 19)
    write(tmp_path / "a.jsonl", good + line + "\n")
    kept, removed = load(tmp_path, path="a.jsonl", shape="prompt_completion")
    assert kept.height == 19
    assert removed["reason"][0].startswith("a.jsonl:20: ")
    if "missing" not in reason:
        assert removed["reason"][0] == f"a.jsonl:20: {reason}"


def test_five_percent_of_a_file_may_be_bad_and_no_more(tmp_path: Path) -> None:
    good = lines([{"prompt": "a", "completion": "b"}] * 19)
    write(tmp_path / "a.jsonl", good + "bad\n")
    assert load(tmp_path, path="a.jsonl")[1].height == 1
    write(tmp_path / "b.jsonl", good + "bad\nbad\n")
    with pytest.raises(SourceError) as error:
        load(tmp_path, path="*.jsonl")
    assert str(error.value) == (
        f"{tmp_path}/b.jsonl: 2 of 21 rows cannot be read, more than 5%; the first: b.jsonl:20: not JSON, unexpected "
        "character, expected a JSON value at column 1; mend the file, or say `on_error: remove` for this source"
    )
    kept, removed = load(tmp_path, path="*.jsonl", on_error="remove")
    assert (kept.height, removed.height) == (38, 3)


def test_rows_that_keep_leaves_out_go_to_removed_and_do_not_count_as_bad(tmp_path: Path) -> None:
    rows = [{"prompt": str(n), "completion": "x", "kind": n % 3, "ok": n > 2} for n in range(30)]
    write(tmp_path / "a.jsonl", lines(rows))
    kept, removed = load(tmp_path, path="a.jsonl", keep={"kind": [0, "1"], "ok": True})
    assert kept["prompt"].to_list() == [str(n) for n in range(3, 30) if n % 3 != 2]
    assert removed["reason"][0] == "a.jsonl:1: keep: ok is 'false'"
    assert json.loads(removed["fields"][2])["kind"] == 2


def test_a_csv_row_with_a_cell_too_many_names_the_line_where_the_row_starts(tmp_path: Path) -> None:
    good = ['"a\nb",c'] * 20
    write(tmp_path / "a.csv", "\n".join(["prompt,completion", *good, "x,y,z", "x,y"]) + "\n")
    kept, removed = load(tmp_path, path="a.csv")
    assert kept.height == 21
    assert removed["reason"].to_list() == ["a.csv:42: 3 cells for 2 columns"]


def test_a_csv_row_that_is_not_utf8_is_removed_alone(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", b"prompt,completion\n" + b"a,b\n" * 40 + b"caf\xe9,b\n")
    kept, removed = load(tmp_path, path="a.csv")
    assert kept.height == 40
    assert removed["reason"].to_list() == ["a.csv:42: not UTF-8"]


cells = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=12)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(cells, cells), min_size=1, max_size=12), st.integers(0, 11))
def test_csv_rows_come_back_whole_and_a_bad_one_is_named_by_its_line(
    tmp_path: Path, rows: list[tuple[str, str]], at: int
) -> None:
    at = min(at, len(rows))
    text = io.StringIO(newline="")
    writer = csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\n")
    writer.writerow(["prompt", "completion"])
    for number, row in enumerate([*rows[:at], ("too", "many", "cells"), *rows[at:]]):
        if number == at:
            line = len(re.findall("\r\n|\r|\n", text.getvalue())) + 1
        writer.writerow(row)
    write(tmp_path / "a.csv", text.getvalue())
    found = list(files.load(path="a.csv", data=tmp_path))
    assert [tuple(row.fields.values()) for row in found if row.fields] == rows
    assert [row.where for row in found if row.problem] == [f"a.csv:{line}"]


# --- a source that cannot be read ------------------------------------------------------------------------------------

WRONG: dict[str, tuple[str | bytes, dict[str, Any], str]] = {
    "an empty file": ("", {}, "the file holds no row"),
    "blank lines": ("\n \n", {}, "the file holds no row"),
    "a header alone": ("prompt,completion\n", {"path": "a.csv"}, "the file holds no row"),
    "an empty array": ("[]", {"path": "a.json"}, "the file holds no row"),
    "nothing at all": (" ", {"path": "a.json"}, "the file holds no row"),
    "a broken array": ('[{"prompt": "a"},\n {"prompt" "b"}]', {"path": "a.json"}, r"a\.json:2: the file is not JSON"),
    "a missing path": ("x", {"path": "aa.jsonk"}, r"nothing matches the path 'aa\.jsonk'"),
    "an unknown ending": ("x", {"path": "a.xml"}, r"a\.xml: the ending says no format; it may be \.jsonl"),
    "two columns alike": ("a,a\n1,2\n", {"path": "a.csv"}, "two columns are called 'a'"),
    "a header for json": (lines(ROWS), {"header": ["a"]}, "`header` names the columns of CSV and TSV files only"),
    "not parquet": ("PAR?", {"path": "a.parquet"}, "the file is not Parquet that can be read"),
    "not gzip": ("", {"path": "a.jsonl.gz"}, "the file holds no row"),
    "a missing column": (lines(ROWS), {"template": "flan/sentiment/sst2"}, "no row has the column .*`sentence`"),
    "a headless tsv": ("fine\t1\nbad\t0\n", {"path": "a.tsv", "template": "flan/sentiment/sst2"}, r"`header: \[…\]`"),
    "keep of no column": (lines(ROWS), {"keep": {"kind": [1]}}, "no row has the column `kind`, which `keep` reads"),
    "nothing left": (lines(ROWS), {"keep": {"input": ["never"]}}, "gives no record; the first row was removed"),
    "one object": ('{"version": 1,\n "data": []}', {"path": "a.json"}, r"\(`data`, `version`\) fit no shape"),
    "only bad rows": (
        "bad\n" * 3,
        {"on_error": "remove"},
        "gives no record; the first row was removed: a.jsonl:1: not JSON",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_source_that_cannot_be_read_is_told_in_one_sentence(tmp_path: Path, case: str) -> None:
    content, options, sentence = WRONG[case]
    options = {"path": "a.jsonl", **options}
    write(tmp_path / str(options["path"]).replace("aa.jsonk", "aa.jsonl"), content)
    with pytest.raises(SourceError, match=sentence) as error:
        load(tmp_path, **options)
    assert "\n" not in str(error.value)


def test_a_misspelt_path_is_told_the_nearest_name(tmp_path: Path) -> None:
    write(tmp_path / "alpaca.jsonl", lines(ROWS))
    with pytest.raises(SourceError, match=r"Did you mean 'alpaca\.jsonl'"):
        records.fingerprint("files", {"path": "alpacca.jsonl"}, data=tmp_path)


def test_a_gzip_file_that_was_cut_is_told(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl.gz", lines(ROWS * 100))
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(SourceError, match=r"a\.jsonl\.gz: the file cannot be read \(.*end-of-stream.*get it again"):
        load(tmp_path, path="a.jsonl.gz")
    path.write_bytes(b"plain text")
    with pytest.raises(SourceError, match="Not a gzipped file"):
        load(tmp_path, path="a.jsonl.gz")


def test_rows_before_the_first_readable_one_do_not_hide_the_shape(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", "bad\n" * 1_200 + lines(ROWS))
    kept, removed = load(tmp_path, path="a.jsonl", on_error="remove")
    assert (kept.height, removed.height) == (3, 1_200)


def test_every_loader_declares_its_options_so_that_a_recipe_can_be_checked_without_importing_it() -> None:
    found = methods.all_of("load")
    assert set(found) == {"files", "hub", "docstrings"}
    common = {parameter.word for parameter in COMMON}
    assert common == {"name", "shape", "template", "license", "task", "task_cluster", "columns", "keep", "on_error"}
    for method in found.values():
        assert not common & {parameter.word for parameter in method.parameters}
        assert method.summary


# --- real data -------------------------------------------------------------------------------------------------------


@pytest.mark.shared
@pytest.mark.skipif(not DATA.is_dir(), reason="$TAMIS_DATA is not there")
@pytest.mark.parametrize(
    ("options", "rows", "removed"),
    [
        ({"path": "alpaca_union"}, 20_678, 10),
        ({"path": "gpteacher/*.json.gz", "shape": "alpaca", "columns": {"output": "response"}}, 14_131, 0),
        ({"path": "lima/lima_data.jsonl.gz"}, 1_030, 0),
        ({"path": "sst2/train.tsv.gz", "header": ["sentence", "label"], "template": "flan/sentiment/sst2"}, 6_920, 0),
        ({"path": "e2e_nlg/devset.csv.gz", "template": "flan/struct_to_text/e2e_nlg"}, 4_672, 0),
    ],
)
def test_real_files_load_with_every_row_accounted_for(options: dict[str, Any], rows: int, removed: int) -> None:
    kept, gone = load(DATA, **options)
    assert kept.height + gone.height == rows
    assert gone.height == removed
    assert kept["id"].n_unique() == kept.height
    assert kept["prompt"].null_count() == kept["response"].null_count() == 0


EXPLODING = """\
dataset: talks
about: One question of a talk.
columns: {question: item, reply: "answers[position]", before: "questions[:position] | join(' ')"}
explode: questions
record: {prompt: "{{ before }} {{ question }}", response: "{{ answer }}"}
answer: reply
example: {questions: [Who?, When?], answers: [Ada, noon]}
templates:
  - {name: ask, kind: forward, style: plain, input: "{{ question }}", target: "{{ answer }}"}
"""


def test_a_set_that_explodes_makes_one_record_of_each_item(tmp_path: Path) -> None:
    write(tmp_path / "talks.yaml", EXPLODING)
    rows = [
        {"questions": ["Who?", "When?"], "answers": ["Ada", "noon"]},
        {"questions": ["Where?"], "answers": ["here"]},
        {"questions": [], "answers": []},
    ]
    write(tmp_path / "a.jsonl", lines(rows))
    kept, removed = load(tmp_path, path="a.jsonl", template="talks.yaml", templates=tmp_path, on_error="remove")
    assert kept["prompt"].to_list() == [" Who?", "Who? When?", " Where?"]
    assert kept["response"].to_list() == ["Ada", "noon", "here"]
    assert kept["id"].n_unique() == 3
    assert removed["reason"].to_list() == ["a.jsonl:3: explode: `questions` gives no list with an item in it"]
    more, _ = load(tmp_path, path="a.jsonl", template="talks.yaml", templates=tmp_path, on_error="remove")
    assert more["id"].to_list() == kept["id"].to_list()


def test_a_source_names_the_task_cluster_of_its_rows(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", lines(ROWS))
    assert load(tmp_path, path="a.jsonl", task_cluster="sums")[0]["task_cluster"].unique().to_list() == ["sums"]


# --- labels in a second file -----------------------------------------------------------------------------------------


def with_labels(folder: Path, rows: int, text: str, **options: Any) -> tuple[pl.DataFrame, pl.DataFrame]:
    (folder / "rows.jsonl").write_text(
        "".join(f'{{"goal": "g{i}", "sol1": "a{i}", "sol2": "b{i}"}}\n' for i in range(rows))
    )
    (folder / "labels.lst").write_text(text)
    given = {
        "path": "rows.jsonl",
        "labels": "labels.lst",
        "template": "flan/commonsense/piqa",
        "license": "mit",
        **options,
    }
    parts = list(records.records("files", given, data=folder, seed=0))
    return pl.concat([kept for kept, _ in parts]), pl.concat([removed for _, removed in parts])


def test_labels_of_a_second_file_are_joined_row_by_row(tmp_path):
    kept, removed = with_labels(tmp_path, 4, "1\n0\n0\n1\n")
    assert kept["response"].to_list() == ["b0", "a1", "a2", "b3"]
    assert removed.height == 0
    facts = files.fingerprint(path="rows.jsonl", header=None, labels="labels.lst", data=tmp_path)
    assert set(facts["files"]) == {"rows.jsonl", "labels.lst"}


@pytest.mark.parametrize(
    ("labels", "options", "said"),
    [
        ("1\n0\n", {}, r"rows.jsonl:3: .*labels.lst has no label for this row; it ends before the rows do"),
        ("1\n0\n1\n1\n1\n", {}, r"labels.lst: there are 2 more labels than rows in .*rows.jsonl"),
        ("1\n\n1\n", {}, r"labels.lst:2: this line holds no label"),
        ("1\n0\n1\n", {"labels": "label.lst"}, r"no file of labels 'label.lst'.*Did you mean 'labels.lst'"),
        ("1\n0\n1\n", {"path": "*s.jsonl"}, r"`labels` are those of one file, and `path` names 2"),
    ],
)
def test_labels_that_do_not_fit_are_said(tmp_path, labels, options, said):
    (tmp_path / "others.jsonl").write_text("{}\n")
    with pytest.raises(SourceError, match=said):
        with_labels(tmp_path, 3, labels, **options)


def test_a_row_that_has_a_label_gets_no_other(tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"goal": "g", "label": 1}\n')
    (tmp_path / "labels.lst").write_text("0\n")
    with pytest.raises(SourceError, match=r"rows.jsonl:1: the row has a column `label`"):
        list(files.load(path="rows.jsonl", labels="labels.lst", data=tmp_path))
