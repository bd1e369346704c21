"""SuperNI: task files of every age as rows, and Tk-Instruct's encodings against a second writing of them."""

from __future__ import annotations

import gzip
import json
import os
import re
import string
from pathlib import Path

import pytest

from curate.contract.errors import RowSkipped, SourceError
from curate.importers.superni import ENCODINGS, Encoding, drawn, encode, read, rows
from curate.template.engine import Engine
from curate.template.sets import load_set

DATA = Path(os.environ.get("TAMIS_DATA", "/nowhere")) / "natural_instructions" / "tasks"
TASK = {
    "Contributors": ["us"],
    "Categories": ["Word Use"],
    "Definition": [" Name the tool "],
    "Positive Examples": [
        {"input": "cuts wood.", "output": "saw", "explanation": "A saw cuts"},
        {"input": "drives nails", "output": "hammer!", "explanation": "Nails are driven."},
    ],
    "Negative Examples": [{"input": "cuts wood", "output": "spoon", "explanation": "No"}],
    "Instances": [{"id": "t-1", "input": " turns screws ", "output": ["screwdriver", "driver"]}],
}
DEFINITION = "Definition: Name the tool.\n\n"
POSITIVE = (
    " Positive Example 1 -\nInput: cuts wood.\n Output: saw.\n\n"
    " Positive Example 2 -\nInput: drives nails.\n Output: hammer!\n\n"
)
NEGATIVE = " Negative Example 1 -\nInput: cuts wood.\n Output: spoon.\n\n"
ASK = "Now complete the following example -\nInput: turns screws.\nOutput: "


def words(text: str) -> int:
    return len(text.split())


def write(tmp_path: Path, data: object, name: str = "task1_tools.json") -> Path:
    path = tmp_path / name
    text = json.dumps(data).encode()
    path.write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
    return path


@pytest.fixture
def task(tmp_path):
    return read(write(tmp_path, TASK))


def test_a_row_an_instance_with_the_task_around_it(task):
    assert list(rows(task)) == [
        {
            "id": "t-1",
            "task": "task1_tools",
            "categories": ["Word Use"],
            "definition": " Name the tool ",
            "input": " turns screws ",
            "output": ["screwdriver", "driver"],
            "positive_examples": TASK["Positive Examples"],
            "negative_examples": TASK["Negative Examples"],
        }
    ]


def test_older_files_have_texts_for_lists_and_no_ids(tmp_path):
    old = {**TASK, "Definition": "Name it", "Categories": "Word Use", "Instances": [{"input": 7, "output": "x"}]}
    del old["Negative Examples"]
    row = next(rows(read(write(tmp_path, old, "old.json.gz"))))
    assert (row["id"], row["definition"], row["categories"]) == ("old-0", "Name it", ["Word Use"])
    assert (row["input"], row["output"], row["negative_examples"]) == ("7", ["x"], [])


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("def", DEFINITION + ASK),
        ("pos", POSITIVE + ASK),
        ("def_pos", DEFINITION + POSITIVE + ASK),
        ("def_pos_neg", DEFINITION + POSITIVE + NEGATIVE + ASK),
        (
            "def_pos_expl",
            DEFINITION
            + POSITIVE.replace("saw.\n", "saw.\n Explanation: A saw cuts.\n").replace(
                "hammer!\n", "hammer!\n Explanation: Nails are driven.\n"
            )
            + ASK,
        ),
    ],
)
def test_the_five_encodings(task, name, text):
    assert encode(task, task.instances[0]["input"], ENCODINGS[name], count=words) == text


def test_examples_are_taken_while_they_fit_and_the_name_counts_for_nothing(task):
    two = words(DEFINITION + POSITIVE + ASK)
    one = DEFINITION + POSITIVE[: POSITIVE.index(" Positive Example 2")] + ASK
    question = task.instances[0]["input"]
    assert encode(task, question, count=words, limit=two) == DEFINITION + POSITIVE + ASK
    assert encode(task, question, count=words, limit=two - 1) == one
    named = Encoding(positive=2, task_name=True)
    assert encode(task, question, named, count=words, limit=two + 1) == "task1_tools. " + DEFINITION + POSITIVE + ASK


def test_a_question_that_is_too_long_is_cut_or_leaves(task):
    with pytest.raises(RowSkipped, match="the question of task1_tools takes 14 tokens, more than 5"):
        encode(task, "turns screws", count=words, limit=5)
    cut = encode(task, "turns screws", count=words, limit=5, cut=lambda text, limit: " ".join(text.split()[:limit]))
    assert cut == "Definition: Name the tool. Now"


def test_an_encoding_is_drawn_by_the_id_and_each_as_often():
    encodings = [drawn(f"row {i}") for i in range(2_000)]
    assert encodings == [drawn(f"row {i}") for i in range(2_000)]
    assert all(320 < encodings.count(encoding) < 480 for encoding in ENCODINGS.values())


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b'{\n "Definition": [', r"bad\.json:2: this is not valid JSON"),
        (b"[1]", r"bad\.json:1: a task of SuperNI is a mapping, not list"),
        (b'{"Instances": []}', r"bad\.json:1: the task has no `Definition`"),
        (b'{"Definition": "x"}', r"bad\.json:1: the task has no list `Instances`"),
        (b'{"Definition": "x", "Instances": [{}]}', r"bad\.json:1: the instance 1 has no `input`"),
        (
            b'{"Definition": "x", "Instances": [], "Positive Examples": [1]}',
            r"bad\.json:1: `Positive Examples` should be",
        ),
        (b"\xff\xfe", r"bad\.json: the file cannot be read as UTF-8"),
        (b"[" * 200_000, r"bad\.json: the file cannot be read"),
    ],
)
def test_a_bad_file_is_one_sentence(tmp_path, content, says):
    (tmp_path / "bad.json").write_bytes(content)
    with pytest.raises(SourceError, match=says) as caught:
        read(tmp_path / "bad.json")
    assert "\n" not in str(caught.value)


def test_a_cut_gzip_is_one_sentence(tmp_path):
    path = write(tmp_path, TASK, "cut.json.gz")
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(SourceError, match="cannot be read"):
        read(path)


def test_the_rows_go_through_the_set_of_the_library(task):
    engine = Engine(load_set("pools/superni"))
    row = next(rows(task))
    record = engine.record(row)
    assert record.response == "screwdriver"
    assert "Name the tool" in record.prompt
    assert "turns screws" in record.prompt
    assert engine.render("id", row, which="all")


# --- real tasks --------------------------------------------------------------------------------------------------------


def reference(data: dict, question: str, encoding: str, budget: int) -> str:
    """The encodings once more, over the raw JSON, from the format in words: a flat list of pieces, joined at the end."""

    def dot(text):
        return text + ("" if text and text[-1] in string.punctuation else ".")

    ask = "Now complete the following example -\n" + dot("Input: " + question.strip()) + "\nOutput: "
    definition = data["Definition"] if isinstance(data["Definition"], str) else data["Definition"][0]
    head = "" if encoding == "pos" else dot("Definition: " + definition.strip()) + "\n\n"
    kinds = {"def": []}.get(encoding, ["Positive"]) + (["Negative"] if encoding.endswith("neg") else [])
    shown: list[list[str]] = []
    for kind in kinds:
        shown.append([])
        for i, example in enumerate(data[f"{kind} Examples"][:2]):
            piece = f" {kind} Example {i + 1} -\n" + dot("Input: " + example["input"].strip()) + "\n"
            piece += dot(" Output: " + example["output"].strip()) + "\n"
            if encoding.endswith("expl") and "explanation" in example:
                piece += dot(" Explanation: " + example["explanation"].strip()) + "\n"
            piece += "\n"
            if words(head + "".join(" ".join(pieces) for pieces in shown) + piece + ask) > budget:
                break
            shown[-1].append(piece)
    return head + "".join(piece for pieces in shown for piece in pieces) + ask


@pytest.mark.shared
@pytest.mark.skipif(not DATA.is_dir(), reason="set TAMIS_DATA to the folder of data sets")
def test_real_tasks_are_encoded_byte_for_byte():
    compared = 0
    for path in sorted(DATA.iterdir()):
        content = path.read_bytes()
        data = json.loads(gzip.decompress(content) if path.suffix == ".gz" else content)
        task = read(path)
        assert len(list(rows(task))) == len(data["Instances"])
        assert re.fullmatch(r"[\w.-]+", task.name)
        for instance in data["Instances"][:3]:
            for name, encoding in ENCODINGS.items():
                for budget in (100_000, 150):
                    ours = encode(
                        task, instance["input"], encoding, count=words, limit=budget, cut=lambda text, _: text
                    )
                    assert ours == reference(data, instance["input"], name, budget)
                    compared += 1
    assert compared > 8_000
