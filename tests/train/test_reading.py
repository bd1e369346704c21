"""Tables of anybody's results, by their own names for columns."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.contract.errors import DataError, RequestError
from train.study.reading import mapping, read

MAP = {"arm": "method", "budget": "n", "value": "score", "model": "@folder"}


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def test_csv_json_lines_and_parquet_say_the_same(tmp_path):
    rows = [{"method": "a, b", "n": 64, "score": 0.5}, {"method": "c", "n": 64, "score": 0.25}]
    csv = write(tmp_path / "x" / "r.csv", 'method,n,score\n"a, b",64,0.5\nc,64.0,0.25\n')
    lines = write(tmp_path / "x" / "r.jsonl.gz", "\n".join(map(json.dumps, rows)))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "x" / "r.parquet")
    expected = {"arm": ["a, b", "c"], "budget": [64, 64], "value": [0.5, 0.25], "model": ["x", "x"]}
    for path in (csv, lines, tmp_path / "x" / "r.parquet"):
        table = read([path], MAP)
        assert {name: table[name].to_pylist() for name in expected} == expected
    assert read([csv], MAP)["where"].to_pylist() == [f"{csv}:2", f"{csv}:3"]


def test_several_files_are_one_table_and_their_folders_tell_them_apart(tmp_path):
    paths = [write(tmp_path / name / "r.csv", "method,n,score\na,8,1\n") for name in ("one", "two")]
    assert read(paths, MAP)["model"].to_pylist() == ["one", "two"]
    assert read(paths, {**MAP, "model": "@file"})["model"].to_pylist() == ["r", "r"]


def test_columns_that_have_our_names_need_no_map(tmp_path):
    path = write(tmp_path / "r.csv", "arm,budget,seed,value\na,8,1,0.5\n")
    assert read([path], {}).column_names == ["arm", "budget", "seed", "value", "where"]


def test_sample_logs_of_lm_eval_are_items_of_the_task_in_their_name(tmp_path):
    rows = [{"doc_id": i, "target": "x", "filtered_resps": ["y"], "acc": float(i % 2)} for i in range(3)]
    path = write(
        tmp_path / "fl-64-s1" / "samples_arc_easy_2026-11-27T10-00-00.000.jsonl", "\n".join(map(json.dumps, rows))
    )
    table = read([path], {"value": "acc", "arm": "@folder"})
    assert table["item"].to_pylist() == ["arc_easy/0", "arc_easy/1", "arc_easy/2"]
    assert set(table["task"].to_pylist()) == {"arc_easy"} and table["value"].to_pylist() == [0.0, 1.0, 0.0]


def test_a_log_may_hold_any_text_and_a_row_an_item_and_filter(tmp_path):
    rows = [
        {
            "doc_id": i,
            "doc": "a\u2028b\x85",
            "resps": [],
            "filter": how,
            "metrics": ["exact_match"],
            "exact_match": float(how == "loose"),
        }
        for how in ("strict", "loose")
        for i in range(2)
    ]
    text = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    path = write(tmp_path / "fl-64-s1" / "samples_gsm8k_2026-11-27T10-00-00.000.jsonl", text)
    table = read([path], {"value": "exact_match:loose", "arm": "@folder"})
    assert table["item"].to_pylist() == ["gsm8k/0", "gsm8k/1"] and table["value"].to_pylist() == [1.0, 1.0]
    with pytest.raises(RequestError, match="there is no column exact_match"):
        read([path], {"value": "exact_match"})


def test_a_folder_name_is_taken_to_pieces(tmp_path):
    path = write(tmp_path / "home__me__k-center-64-s10" / "r.csv", "n,score\n8,1\n")
    table = read([path], mapping("@folder=me__{arm}-{budget}-s{seed},value=score"))
    assert table.to_pylist() == [{"arm": "k-center", "budget": 64, "seed": 10, "value": 1.0, "where": f"{path}:2"}]
    with pytest.raises(
        DataError, match=r"@folder is home__me__k-center-64-s10, which is not of the kind \{arm\}_s\{seed\}"
    ):
        read([path], mapping("@folder={arm}_s{seed},value=score"))
    with pytest.raises(
        RequestError, match=r"write columns in braces, as in \{arm\}-\{budget\}-s\{seed\}; there are arm, budget"
    ):
        mapping("@folder={arms}")
    with pytest.raises(RequestError, match="--map seed=s: seed is x already"):
        mapping("seed=x,seed=s")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("method,n,score\na,8,high\n", r"r.csv:2: score is 'high', and value is a finite number"),
        ("method,n,score\na,8,nan\n", r"r.csv:2: score is 'nan', and value is a finite number"),
        ("method,n,score\na,8,1\n,8,1\n", r"r.csv:3: method is empty, and every row has its arm"),
        ("method,n,score\na,1e30,1\n", r"r.csv:2: n is '1e30', and budget is a whole number"),
        ("method,n,score\na,8.5,1\n", r"r.csv:2: n is '8.5', and budget is a whole number"),
        ("method,n,score\na,8\n", r"r.csv:2: has 2 values under 3 columns"),
        ("method,n,score\n", "holds no row"),
        ("just some words\nand more\n", "its first line names no table of columns"),
        ('method,n,score\n"a,8,1\n', "is no CSV"),
    ],
)
def test_a_csv_that_is_none_is_named_by_its_line(tmp_path, text, said):
    with pytest.raises(DataError, match=said):
        read([write(tmp_path / "r.csv", text)], MAP)


def test_a_map_that_names_no_column_lists_those_there_are(tmp_path):
    path = write(tmp_path / "r.csv", "method,n,score\na,8,1\n")
    with pytest.raises(
        RequestError,
        match=r"--map value=scor: there is no column scor. Did you mean 'score'\?; there are method, n, score",
    ):
        read([path], {**MAP, "value": "scor"})
    with pytest.raises(RequestError, match="--map vlue=x: write ours=theirs, where ours is one of arm, budget"):
        mapping("arm=method,vlue=x")
    assert mapping("arm=method, value=score") == {"arm": "method", "value": "score"}


def test_files_that_are_no_results_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"are read from \.csv, \.tsv, \.jsonl and \.parquet"):
        read([write(tmp_path / "r.txt", "x")], MAP)
    with pytest.raises(RequestError, match="no such file"):
        read([tmp_path / "none.csv"], MAP)
    with pytest.raises(DataError, match="is no Parquet file"):
        read([write(tmp_path / "r.parquet", "x")], MAP)
    with pytest.raises(DataError, match=r"r.jsonl:2: is no JSON"):
        read([write(tmp_path / "r.jsonl", '{"method": 1, "n": 8, "score": 1}\n{')], MAP)
    with pytest.raises(DataError, match="the column seed is not in every file"):
        read(
            [
                write(tmp_path / "a.csv", "method,n,score,seed\na,8,1,1\n"),
                write(tmp_path / "b.csv", "method,n,score\na,8,1\n"),
            ],
            MAP,
        )
