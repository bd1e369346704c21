"""Damaged files: what cannot be read is named and kept as it was, what can be read is not changed, and no row swallows others."""

from __future__ import annotations

import csv
import datetime
import gzip
import hashlib
import io
import json
import os
from pathlib import Path
from typing import Any

import orjson
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from curate.contract.errors import RowSkipped, SourceError, TemplateError
from curate.load import arrow, delimited, files, json_rows, records
from curate.rows import fields

GOOD = {"prompt": "a question?", "completion": "an answer"}


def load(base: Path, path: str, **options: Any) -> tuple[pl.DataFrame, pl.DataFrame]:
    chunks = list(records.records("files", {"path": path, **options}, data=base, seed=0, folder=base))
    return pl.concat([kept for kept, _ in chunks]), pl.concat([removed for _, removed in chunks])


def refused(base: Path, path: str, **options: Any) -> str:
    with pytest.raises(SourceError) as error:
        load(base, path, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


def table(count: int) -> list[str]:
    return ["prompt,completion", *(f"q{n},a{n}" for n in range(count))]


def jsonl(path: Path, *odd: str | bytes, good: int = 40) -> None:
    """Good rows, with odd lines before the last of them."""
    lines = [json.dumps(GOOD).encode()] * good
    lines[-1:-1] = [line.encode() if isinstance(line, str) else line for line in odd]
    path.write_bytes(b"\n".join(lines) + b"\n")


# --- a quote that swallows rows --------------------------------------------------------------------------------------


@pytest.mark.parametrize("opened", ['"q,a', 'q,"a'])
@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz"])
def test_a_quote_that_is_never_closed_stops_the_load_and_names_the_line_where_it_opened(
    tmp_path: Path, name: str, opened: str
) -> None:
    rows = table(2_000)
    rows[1_500] = opened
    text = ("\n".join(rows) + "\n").encode()
    (tmp_path / name).write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
    sentence = refused(tmp_path, name)
    lost = len("\n".join(rows[1_500:])) + 1
    size = len(text) - len(rows[0]) - 1
    assert f"1 of 1,500 rows cannot be read, with {lost:,} of {size:,} bytes, more than 5%" in sentence
    assert f"{name}:1501: not CSV: a quote opens at line 1501 and is never closed, so that 501 lines stand" in sentence
    kept, removed = load(tmp_path, name, on_error="remove")
    assert kept["prompt"].to_list() == [f"q{n}" for n in range(1_499)]
    assert removed["raw"][0] == text[-lost:]


def test_where_the_row_starts_before_the_quote_that_never_closes_both_lines_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("\n".join([*table(3), '"two\nlines","open', "x,y"]))
    assert "a.csv:5: not CSV: a quote opens at line 6 and is never closed" in refused(tmp_path, "a.csv")


@pytest.mark.parametrize(
    ("rows", "bad", "said"),
    [
        (  # two bad rows, of which the second is the one that matters
            500,
            {3: "x,y,z", 300: '"open,a'},
            "the first: a.csv:4: 3 cells for 2 columns; the longest: a.csv:301: not CSV: a quote opens at line 301",
        ),
        (
            1_000,
            {10: '"q,a', 900: '"q ""x"" what?",a'},
            "a quote opens at line 11 and closes at line 901 with more text behind it",
        ),
        (
            3_000,
            {10: '"q,a', 2_000: 'five inches 5",a'},
            "a.csv:11: a quote opens at line 11 and closes at line 2001, and the lines between are rows",
        ),
    ],
)
def test_what_swallows_rows_is_named_with_the_lines_where_its_quote_opens_and_closes(
    tmp_path: Path, rows: int, bad: dict[int, str], said: str
) -> None:
    lines = table(rows)
    for place, line in bad.items():
        lines[place] = line
    (tmp_path / "a.csv").write_text("\n".join(lines))
    assert said in refused(tmp_path, "a.csv")


def test_a_long_text_in_a_cell_is_a_row_whatever_it_holds(tmp_path: Path) -> None:
    rows = [["a table", "1,2\n" * 1_500], ["a poem", "line\n" * 1_500], ["1,2\n" * 1_500, "sums"]]
    text = io.StringIO(newline="")
    csv.writer(text).writerows([["prompt", "completion"], *rows])
    (tmp_path / "a.csv").write_text(text.getvalue(), newline="")
    kept, removed = load(tmp_path, "a.csv")
    assert [list(json.loads(text).values()) for text in kept["fields"]] == rows
    assert not removed.height


def test_a_cell_without_an_end_does_not_take_the_memory_of_the_whole_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delimited, "LONGEST", 1_000)
    rows = table(3_000)
    rows[10] = '"q,a'
    (tmp_path / "a.csv").write_text("\n".join(rows))
    kept, removed = load(tmp_path, "a.csv")
    assert "a cell is longer than 1,000 characters (is the quote at line 11 closed?)" in removed["reason"][0]
    assert kept.height > 2_850
    assert kept.height + removed["raw"][0].count(b"\n") == 3_000


def test_a_header_with_an_open_quote_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('"prompt,completion\na,b\n')
    assert "a.csv:1: the line of the columns' names is not CSV: a quote opens at line 1" in refused(tmp_path, "a.csv")


quoted = st.text(st.sampled_from('a",\n\r é'), max_size=8)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(quoted, quoted), min_size=1, max_size=6), st.integers(0, 6), st.integers(0, 20))
def test_every_byte_of_a_csv_stands_in_a_row_that_was_read_or_in_one_that_was_kept_raw(
    tmp_path: Path, rows: list[tuple[str, str]], at: int, inside: int
) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\n")
    for row in rows:
        writer.writerow(row)
    whole = text.getvalue()
    broken = (whole[:inside] + '"' * at + whole[inside:]).encode()
    (tmp_path / "a.csv").write_bytes(b"x,y\n" + broken)
    found = list(files.load(path="a.csv", data=tmp_path))
    blank = sum(len(line) for line in broken.splitlines(keepends=True) if line in (b"\n", b"\r", b"\r\n"))
    assert len(broken) - blank <= sum(row.size for row in found) <= len(broken)
    for row in found:
        assert (row.fields is None) == (row.raw is not None) == (row.problem is not None)
        assert row.raw is None or (row.raw in broken and len(row.raw) == row.size)
    if not at:
        assert [tuple(row.fields.values()) for row in found if row.fields] == rows


# --- bytes are kept, and counted -------------------------------------------------------------------------------------


def test_an_unreadable_row_keeps_its_bytes_and_of_a_long_one_the_hash_of_the_rest(tmp_path: Path) -> None:
    long = b'{"prompt": "' + b"x" * 100_000
    jsonl(tmp_path / "a.jsonl", b"bad \xff\x00", long, good=60)
    _, removed = load(tmp_path, "a.jsonl", on_error="remove")
    assert removed["raw"].to_list() == [b"bad \xff\x00\n", long[: records.KEPT_BYTES]]
    rest = long[records.KEPT_BYTES :] + b"\n"
    assert removed["raw_rest"].to_list() == [
        None,
        f"{len(rest):,} bytes more, SHA-256 {hashlib.sha256(rest).hexdigest()}",
    ]
    assert "bytes, more than 5%; the first: a.jsonl:60: not UTF-8" in refused(tmp_path, "a.jsonl")


def test_a_row_that_was_read_and_refused_has_its_fields_and_no_raw_bytes(tmp_path: Path) -> None:
    jsonl(tmp_path / "a.jsonl", '{"prompt": "a", "completion": ""}')
    _, removed = load(tmp_path, "a.jsonl")
    assert removed["fields"].to_list() == ['{"prompt":"a","completion":""}']
    assert removed["raw"].to_list() == [None]


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl", "a.json"])
def test_every_text_format_keeps_the_raw_bytes_of_what_it_cannot_read(tmp_path: Path, name: str) -> None:
    bad = {"a.csv": b"caf\xe9,x\n", "a.tsv": b"caf\xe9\tx\n"}.get(name, b'{"prompt": "caf\xe9", "completion": "x"}')
    rows = [json.dumps(GOOD).encode()] * 40
    whole = {
        "a.csv": b"prompt,completion\n" + b"a,b\n" * 40 + bad,
        "a.tsv": b"prompt\tcompletion\n" + b"a\tb\n" * 40 + bad,
        "a.jsonl": b"\n".join([*rows, bad]),
        "a.json": b"[" + b",\n".join([*rows, bad]) + b"]",
    }[name]
    (tmp_path / name).write_bytes(whole)
    kept, removed = load(tmp_path, name)
    assert (kept.height, removed["raw"].to_list()) == (40, [bad])
    assert removed["reason"][0].startswith(f"{name}:{'row:' if name == 'a.json' else ''}4")


# --- JSON: nothing is changed on the way ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.jsonl", "a.json"])
def test_integers_of_any_size_stay_what_they_were(tmp_path: Path, name: str) -> None:
    numbers = [
        2**63,
        2**64 - 1,
        2**64,
        -(2**63),
        -(2**63) - 1,
        123456789012345678901234567890,
        10**300,
        1.5e300,
        1e22,
        0.1,
    ]
    row = {"prompt": 12345678901234567890123, "completion": "x", "n": numbers, "deep": {"m": [{"k": 2**70}]}}
    rows = [GOOD] * 3 + [row]
    (tmp_path / name).write_text("\n".join(map(json.dumps, rows)) if name == "a.jsonl" else json.dumps(rows))
    kept, removed = load(tmp_path, name)
    assert not removed.height
    assert json.loads(kept["fields"][3]) == row
    assert fields.loads(kept["fields"][3]) == row
    assert kept["prompt"][3] == "12345678901234567890123"


def test_a_table_of_rows_with_long_integers_is_written_as_any_other(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"prompt": "é", "completion": "x",  "n": 100000000000000000000, "m": [1, {}]}\n')
    assert (
        load(tmp_path, "a.jsonl")[0]["fields"][0]
        == '{"prompt":"é","completion":"x","n":100000000000000000000,"m":[1,{}]}'
    )


@pytest.mark.parametrize(
    ("row", "key"),
    [
        ('{"prompt": "a", "completion": "b", "prompt": "c"}', "prompt"),
        ('{"prompt": "a", "completion": "b", "completion": "b"}', "completion"),
        ('{"prompt": "a", "completion": "b", "\\u0070rompt": "c"}', "prompt"),
        ('{"prompt": "a", "completion": "b", "more": [{"k": 1, "k": 2}]}', "k"),
        ('{"prompt": "a\\u0022\\u0022", "completion": "b", "k": 1, "k": 2}', "k"),
        ('{"prompt" : "\\":", "completion"\t: "b", "k"  :1, "k":2}', "k"),
    ],
)
@pytest.mark.parametrize("name", ["a.jsonl", "a.json"])
def test_a_key_that_stands_twice_costs_its_row_and_is_named(tmp_path: Path, name: str, row: str, key: str) -> None:
    rows = [json.dumps(GOOD)] * 60 + [row]
    (tmp_path / name).write_text("\n".join(rows) if name == "a.jsonl" else "[" + ", ".join(rows) + "]")
    kept, removed = load(tmp_path, name)
    assert kept.height == 60
    assert removed["reason"][0].endswith(f"61: the key `{key}` stands twice in one object")
    assert removed["raw"][0] == row.encode()


plain_json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.text(st.sampled_from('a"\\:é,{}\x01 '), max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(st.sampled_from('k"\\:'), max_size=3), inner, max_size=3)
    ),
    max_leaves=12,
)


@settings(max_examples=100, deadline=None)
@given(
    st.dictionaries(st.text(max_size=3), plain_json, max_size=4),
    st.booleans(),
    st.sampled_from([None, (",", ":"), (" , ", " : ")]),
)
def test_json_without_a_key_that_stands_twice_is_read_as_the_standard_library_reads_it(
    value: dict[str, Any], ascii_only: bool, separators: tuple[str, str] | None
) -> None:
    line = json.dumps(value, ensure_ascii=ascii_only, separators=separators).encode()
    for stream, reader in ((line, json_rows.lines), (b"[" + line + b"," + line + b"]", json_rows.array)):
        for _, _, columns, fault, text in reader(io.BytesIO(stream), Path("a"), None):
            assert (columns, fault) == (value, None)
            assert fields.loads(fields.dumps(columns)) == value
            assert text is None or text == fields.dumps(columns)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["k", "l", 'm"', "n\\"]), plain_json), min_size=1, max_size=5))
def test_a_line_is_refused_exactly_where_one_of_its_keys_stands_twice(pairs: list[tuple[str, Any]]) -> None:
    line = "{" + ",".join(f"{json.dumps(key)}:{json.dumps(value)}" for key, value in pairs) + "}"
    ((_, _, columns, fault, _),) = json_rows.lines(io.BytesIO(line.encode()), Path("a"), None)
    keys = [key for key, _ in pairs]
    assert (fault is None) == (len(set(keys)) == len(keys))
    assert (columns is None) == (fault is not None)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ('{"prompt": "a\\ud800", "completion": "b"}', "not JSON, no low surrogate in string at column 14"),
        ('{"prompt": "a", "completion": NaN}', "not JSON, unexpected character, expected a JSON value at column 31"),
        ('{"prompt": "a", "completion": 1e999}', "not JSON, number is infinity when parsed as double at column 31"),
        (
            '{"prompt": "a", "completion": ' + "[" * 300 + "]" * 300 + "}",
            "nested more than 254 levels deep; write the row",
        ),
        ('{"prompt": "a", "completion": ' + "[" * 9_000, "not JSON, depth limit exceeded at column 1055"),
        ("7", "a number, and not an object with columns"),
    ],
)
def test_a_bad_item_costs_its_row_in_json_lines_and_in_an_array(tmp_path: Path, row: str, reason: str) -> None:
    jsonl(tmp_path / "a.jsonl", row, good=500)
    kept, removed = load(tmp_path, "a.jsonl", on_error="remove")
    assert (kept.height, removed["raw"].to_list()) == (500, [row.encode() + b"\n"])
    assert removed["reason"][0].startswith(f"a.jsonl:500: {reason}")
    if "depth" in reason:  # where such an item ends cannot be told
        return
    (tmp_path / "a.json").write_text("[" + ",\n".join([json.dumps(GOOD)] * 500 + [row]) + "]")
    kept, removed = load(tmp_path, "a.json", on_error="remove")
    assert (kept.height, removed["raw"].to_list()) == (500, [row.encode()])
    assert removed["reason"][0].startswith(f"a.json:row:501: {reason}")


@pytest.mark.parametrize(
    "text", ['[{"a": NaN},]', '[{"a": NaN} {"a": 1}]', '[{"a": NaN}', '[{"a": NaN}] x', "[NaN", "[,]", "["]
)
def test_an_array_that_is_broken_between_its_items_is_refused_as_a_whole(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    assert "a.json:1: the file is not JSON" in refused(tmp_path, "a.json")


# --- one bad value costs its row -------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ['{"x": 1}', '["x"]', "[]", "{}"])
@pytest.mark.parametrize("column", ["instruction", "output"])
def test_a_list_or_a_mapping_where_a_text_belongs_costs_its_row(tmp_path: Path, column: str, value: str) -> None:
    good = {"instruction": "i", "input": "", "output": "o"}
    bad = json.dumps({**good, column: json.loads(value)})
    (tmp_path / "a.jsonl").write_text("\n".join([json.dumps(good)] * 30 + [bad]))
    kept, removed = load(tmp_path, "a.jsonl")
    assert kept.height == 30
    assert removed["reason"][0].startswith("a.jsonl:31: pools/alpaca: `record.")
    assert removed["fields"][0] == orjson.dumps(orjson.loads(bad)).decode()


@pytest.mark.parametrize(
    ("value", "word"),
    [("{}", "a mapping"), ('["x"]', "a list"), ("true", "true or false"), ("3", "a number"), ("null", "null")],
)
def test_a_value_that_would_be_printed_in_pythons_notation_costs_its_row(tmp_path: Path, value: str, word: str) -> None:
    completion, prompt = f'{{"prompt": "a", "completion": {value}}}', f'{{"prompt": {value}, "completion": "a"}}'
    jsonl(tmp_path / "a.jsonl", completion, prompt)
    kept, removed = load(tmp_path, "a.jsonl")
    assert removed["reason"][0] == f"a.jsonl:40: `before` expects a text, and the value is {word}"
    if word == "a number":  # its digits are a text
        assert "3" in kept["prompt"].to_list()
    else:
        said = "the column `prompt` is null" if word == "null" else f"`trim` expects a text, and the value is {word}"
        assert removed["reason"][1] == f"a.jsonl:41: {said}"


def test_a_text_of_more_than_ten_million_characters_costs_its_row(tmp_path: Path) -> None:
    jsonl(tmp_path / "a.jsonl", json.dumps({"prompt": "x" * 10_000_001, "completion": "y"}))
    kept, removed = load(tmp_path, "a.jsonl")
    assert kept.height == 40
    assert removed["reason"].to_list() == [
        "a.jsonl:40: pools/prompt_completion: `record.prompt` was stopped: its text is longer than 10,000,000 characters"
    ]


def test_a_set_that_fails_on_every_row_still_stops_the_load(tmp_path: Path) -> None:
    rows = [{"instruction": "i", "output": {"n": n}} for n in range(30)]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert "30 of 30 rows cannot be read, more than 5%; the first: a.jsonl:1: pools/alpaca: " in refused(
        tmp_path, "a.jsonl"
    )


def test_a_row_that_takes_too_long_stops_the_load_and_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from curate.template import sandbox
    from curate.template.engine import Engine

    def slow(*_: Any) -> None:
        raise TemplateError("x.yaml: it takes over 1 s") from sandbox.TooSlow()

    jsonl(tmp_path / "a.jsonl")
    monkeypatch.setattr(Engine, "record", slow)
    with pytest.raises(TemplateError, match=r"^a\.jsonl:1: x\.yaml: it takes over 1 s"):
        load(tmp_path, "a.jsonl", on_error="remove")


@pytest.mark.parametrize(
    ("value", "reason"), [("{1}", "what JSON cannot say: Type is not JSON"), (r"'\ud800'", "half a surrogate")]
)
def test_a_value_of_a_loader_that_json_cannot_say_costs_its_row_and_is_kept_raw(
    tmp_path: Path, value: str, reason: str
) -> None:
    folder = tmp_path / "methods/load"
    folder.mkdir(parents=True)
    (folder / "mine.py").write_text(
        '"""Rows."""\nfrom curate.load.records import Raw\ndef load():\n'
        '    for n in range(40):\n        yield Raw(str(n), {"prompt": "a", "completion": "b", "x": 1}, str(n))\n'
        f'    yield Raw("40", {{"prompt": "a", "completion": "b", "x": {value}}}, "40")\n'
    )
    ((kept, removed),) = records.records("mine", {}, data=tmp_path, seed=0, folder=tmp_path)
    assert kept.height == 40
    assert reason in removed["reason"][0]
    assert value.encode() in removed["raw"][0]


def test_what_json_cannot_say_is_refused_when_fields_are_written() -> None:
    deep: Any = 2**70
    for _ in range(400):
        deep = [deep]
    for value, reason in ((deep, "254 levels"), ([2**70, "\ud800"], "half a surrogate"), ([2**70, {1}], "cannot say")):
        with pytest.raises(RowSkipped, match=reason):
            fields.dumps({"x": value})


# --- Parquet ---------------------------------------------------------------------------------------------------------


def parquet(path: Path, x: pa.Array, **columns: Any) -> None:
    pq.write_table(pa.table({"prompt": ["a"] * len(x), "completion": ["b"] * len(x), **columns, "x": x}), path)


def test_two_columns_alike_in_a_parquet_file_are_refused_and_named(tmp_path: Path) -> None:
    pq.write_table(
        pa.Table.from_arrays([pa.array(["a"])] * 3, names=["prompt", "completion", "prompt"]), tmp_path / "a.parquet"
    )
    assert refused(tmp_path, "a.parquet").endswith(
        "two columns are called 'prompt'; write it again with different names"
    )
    parquet(
        tmp_path / "b.parquet",
        pa.array([[1]]),
        s=pa.StructArray.from_arrays([pa.array([1]), pa.array([2])], names=["k", "k"]),
    )
    assert "b.parquet: two columns inside `s` are called 'k'" in refused(tmp_path, "b.parquet")


def text_of_bytes(*parts: bytes) -> pa.Array:
    offsets = [sum(map(len, parts[:n])) for n in range(len(parts) + 1)]
    return pa.Array.from_buffers(
        pa.string(), len(parts), [None, pa.array(offsets, pa.int32()).buffers()[1], pa.py_buffer(b"".join(parts))]
    )


@pytest.mark.parametrize(
    ("x", "reason"),
    [
        (pa.array([b"\xff\xd8"] + [b"ok"] * 39), "the column `x` holds binary data that is not UTF-8"),
        (pa.array([2**62] + [0] * 39, pa.timestamp("us")), "the column `x` cannot be read: date value out of range"),
        (
            text_of_bytes(b"caf\xe9", *[b"a"] * 39),
            "the column `x` cannot be read: 'utf-8' codec can't decode byte 0xe9",
        ),
        (pa.array([5] + [None] * 39, pa.duration("s")), "the column `x` holds what JSON cannot say: a timedelta"),
        (pa.array([[[b"\xff"]]] + [None] * 39), "the column `x` holds binary data that is not UTF-8"),
    ],
)
def test_a_value_of_a_parquet_file_that_json_cannot_say_costs_its_row_which_is_kept_as_an_arrow_stream(
    tmp_path: Path, x: pa.Array, reason: str
) -> None:
    parquet(tmp_path / "a.parquet", x)
    kept, removed = load(tmp_path, "a.parquet")
    assert kept.height == 39
    assert removed["reason"][0].startswith(f"a.parquet:row:1: {reason}")
    with pa.ipc.open_stream(removed["raw"][0]) as stream:
        row = stream.read_all()
    assert row.num_rows == 1
    assert row["x"].chunk(0).equals(x.slice(0, 1))


def test_what_json_can_say_of_a_parquet_file_is_said(tmp_path: Path) -> None:
    at = datetime.datetime(2024, 5, 1, 12)
    values = {
        "inf": pa.array([float("inf")]),
        "deep": pa.array([[{"v": float("-inf"), "w": float("nan")}]]),
        "nan": pa.array([float("nan")]),
        "nano": pa.array([1714564800000000001], pa.timestamp("ns")),
        "second": pa.array([at], pa.timestamp("ns")),
        "big": pa.array([2**64 - 1], pa.uint64()),
    }
    parquet(tmp_path / "a.parquet", pa.array([1]), **values)
    row = json.loads(load(tmp_path, "a.parquet")[0]["fields"][0])
    assert {name: row[name] for name in values} == {
        "inf": "Infinity",
        "deep": [{"v": "-Infinity", "w": None}],
        "nan": None,
        "nano": "2024-05-01T12:00:00.000000001",
        "second": "2024-05-01T12:00:00",
        "big": 2**64 - 1,
    }


def test_arrow_rows_are_one_a_row_of_every_batch() -> None:
    batches = pa.table({"x": [1, 2, 3]}).to_batches(max_chunksize=2)
    assert list(arrow.rows(batches)) == [({"x": 1}, None), ({"x": 2}, None), ({"x": 3}, None)]


def test_a_parquet_file_with_a_damaged_page_is_one_sentence(tmp_path: Path) -> None:
    parquet(tmp_path / "a.parquet", pa.array(list(range(200))))
    whole = (tmp_path / "a.parquet").read_bytes()
    (tmp_path / "a.parquet").write_bytes(whole[:4] + bytes(len(whole) // 2) + whole[4 + len(whole) // 2 :])
    assert "a.parquet: the file " in refused(tmp_path, "a.parquet")


# --- files that are something else ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("prompt,completion\na,b\n".encode("utf-16"), "the file is UTF-16, and only UTF-8 is read"),
        ("prompt,completion\na,b\n".encode("utf-16-be"), "the file is UTF-16 or no text at all"),
        (gzip.compress(b"a,b\n", mtime=0), "the file is gzip, which its name does not say; add .gz to it"),
        (b"PK\x03\x04 and so on", "the file is a zip archive; unpack it"),
    ],
)
@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl", "a.json"])
def test_a_file_that_is_no_utf8_text_is_named_for_what_it_is(
    tmp_path: Path, name: str, content: bytes, says: str
) -> None:
    (tmp_path / name).write_bytes(content)
    assert f"{name}: {says}" in refused(tmp_path, name)


def test_a_header_that_holds_control_characters_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_bytes(b"prompt\tcompletion\ra\tb\rc\td\r")
    assert "the header holds the byte 0x0d" in refused(tmp_path, "a.tsv")


def test_what_is_no_file_is_named_for_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").mkdir()
    assert "the folder holds no file whose ending is one of .jsonl" in refused(tmp_path, "a.jsonl")
    (tmp_path / "b.jsonl").symlink_to("nowhere.jsonl")
    for path in ("b.jsonl", "b*", "."):
        assert "b.jsonl: this is a link to nothing" in refused(tmp_path, path)
    os.mkfifo(tmp_path / "c.jsonl")
    assert "c.jsonl: this is a pipe or a device, and no file" in refused(tmp_path, "c.jsonl")
