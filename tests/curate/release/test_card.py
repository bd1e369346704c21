"""A release loads where it should, says only what it was given, and is the same every time."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.contract.errors import ContractError, RequestError
from curate.diversity import family
from curate.release import shards
from curate.release.card import release
from curate.release.facts import claimed, limits
from curate.release.places import without_places
from curate.release.verify import features, metadata_problems, read_metadata, size_category, verify
from curate.rows.table import MESSAGES_TYPE
from curate.run.kinds import kinds

RECIPE: dict[str, Any] = {
    "name": "small",
    "seed": 0,
    "data": "/home/somebody/data",
    "load": [
        {"files": {"name": "alpaca", "path": "/home/somebody/alpaca/*.jsonl", "shape": "alpaca", "where": None}},
        {"hub": {"name": "sst2", "path": "stanfordnlp/sst2", "revision": "8d51e7e4887a4caaa95b3fbebbf53c0490b58bbb"}},
        {"docstrings": {"packages": ["numpy"]}},
    ],
    "steps": [{"filter": {"length": {"min_words": 3}}}, {"select": {"facility_location": {"budget": 6}}}],
}
VERSIONS = {"polars": "2.1.0", "numpy": "2.3.0"}


def stage(number: int, kind: str, method: str, before: int, out: int, **more: Any) -> dict[str, Any]:
    return {
        "stage": f"{number:02d}-{kind}",
        "kind": kind,
        "role": kinds()[kind].role if kind in kinds() else None,
        "method": method,
        "options": {},
        "seed": 7,
        "key": f"{number:032x}",
        "parent": None,
        "code": "0" * 32,
        "versions": VERSIONS,
        "in": before,
        "out": out,
        "removed": before - out,
        "reasons": {},
        "facts": {},
    } | more


def source(name: str, kind: str, rows: int) -> dict[str, Any]:
    return {
        "name": name,
        "kind": kind,
        "rows": rows,
        "removed": 1,
        "license": ["mit"],
        "options": {"path": "/home/somebody/x"},
    }


MANIFESTS = [
    stage(0, "load", "load", 23, 20, facts={"sources": [source("alpaca", "files", 8), source("sst2", "hub", 8), source("docstrings", "docstrings", 4)]}),
    stage(1, "filter", "length", 20, 12, options={"min_words": 3, "max_words": None}, reasons={"length: N words < 3": 5, "length: N words > 9 | more": 3}),
    stage(2, "select", "facility_location", 12, 6, options={"budget": 6}, reasons={"not selected": 6}),
    stage(3, "render", "templates", 6, 6),
]  # fmt: skip


def messages(*contents: str) -> list[dict[str, str]]:
    return [{"role": ("user", "assistant")[i % 2], "content": content} for i, content in enumerate(contents)]


def table(rows: int = 6, license: str | None = "mit") -> pl.DataFrame:
    """Rendered rows of two sources, in another order than that of their ranks."""
    data = [
        {
            "id": f"{i:032x}",
            "source": ("alpaca", "sst2")[i % 2],
            "revision": ("a" * 40, None)[i % 2],
            "license": license,
            "split": "train",
            "task": ("alpaca", "sst2")[i % 2],
            "task_cluster": (None, "sentiment")[i % 2],
            "prompt": f"prompt {i}",
            "response": f"response {i}",
            "messages": messages(f"What is {i}?", "It is ```a``` number. " * (i + 1)),
            "fields": "{}",
            "origin": "source",
            "template_set": ("pools/alpaca", "flan/sentiment/sst2")[i % 2],
            "extra": None,
            "rank": (i * 5 + 3) % rows if rows % 5 else i,
            "gain": 1.0 / (i + 1),
            "cluster": i % 3,
            "score_length": float(i),
            "record": f"{i:032x}",
            "template": ("plain", "asks | twice")[i % 2],
            "template_kind": "forward",
            "options_style": None,
            "choices": (None, ["negative", "positive"])[i % 2],
            "answer": (None, 1)[i % 2],
            "references": None,
            "shots": 0,
            "repeat": 1,
        }
        for i in range(rows)
    ]
    types = {
        "extra": pl.String,
        "options_style": pl.String,
        "references": pl.List(pl.String),
        "choices": pl.List(pl.String),
        "messages": MESSAGES_TYPE,
        "license": pl.String,
        "rank": pl.Int32,
        "gain": pl.Float32,
        "cluster": pl.Int32,
        "answer": pl.Int32,
    }
    return pl.DataFrame(data, schema_overrides=types)


def write(folder: Path, rows: pl.DataFrame | None = None, **options: Any) -> dict[str, Any]:
    arguments = {"recipe": RECIPE, "manifests": MANIFESTS, **options}
    return release(folder, table() if rows is None else rows, **arguments)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module", autouse=True)
def _several_row_groups() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "GROUP_ROWS", 4)
        yield


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("release")
    write(folder, language=["en"], pretty_name="Small & fine")
    return folder


@pytest.fixture(scope="module")
def metadata(finished: Path) -> dict[str, Any]:
    block, problem = read_metadata(finished / "README.md")
    assert block is not None, problem
    return block


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    return shutil.copytree(finished, tmp_path / "copy")


# --- the data --------------------------------------------------------------------------------------------------------


def test_datasets_loads_the_folder_and_agrees_with_every_number_and_type_in_the_card(
    finished: Path, metadata: dict[str, Any], tmp_path: Path
) -> None:
    code = """
import json, sys
from datasets import load_dataset
rows = load_dataset(sys.argv[1], cache_dir=sys.argv[2])
train = rows["train"]
print(json.dumps({
    "splits": list(rows), "ids": list(train["id"]), "messages": train["messages"][0],
    "features": train.features._to_yaml_list(), "num_bytes": train.info.splits["train"].num_bytes,
    "num_examples": train.info.splits["train"].num_examples, "download_size": train.info.download_size,
}))
"""
    environment = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "home"), "PATH": ""}
    done = subprocess.run(
        [sys.executable, "-c", code, str(finished), str(tmp_path / "cache")],
        capture_output=True,
        text=True,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    loaded = json.loads(done.stdout)
    (info,) = metadata["dataset_info"]
    assert loaded["splits"] == ["train"]
    assert loaded["ids"] == table().sort("rank")["id"].to_list()
    assert loaded["messages"] == table().sort("rank")["messages"][0].to_list()
    assert loaded["features"] == info["features"]
    assert loaded["num_bytes"] == info["splits"][0]["num_bytes"] == info["dataset_size"]
    assert loaded["num_examples"] == info["splits"][0]["num_examples"] == 6
    assert info["download_size"] == sum(path.stat().st_size for path in (finished / "data").iterdir())


def test_rows_stand_in_the_order_of_their_ranks_with_messages_right_after_the_id(finished: Path) -> None:
    rows = pl.read_parquet(finished / "data/train-00000-of-00001.parquet")
    assert rows["rank"].to_list() == list(range(6))
    assert rows.columns[:4] == ["id", "messages", "source", "license"]
    assert rows.columns[-1] == "score_length"


def test_columns_that_a_trainer_would_mistake_or_that_say_nothing_are_left_out(finished: Path) -> None:
    rows = pl.read_parquet(finished / "data/train-00000-of-00001.parquet")
    assert not {"prompt", "response", "fields"} & set(rows.columns)
    assert not {"extra", "references", "options_style", "shots", "repeat", "record"} & set(rows.columns)
    assert {"revision", "choices", "answer", "task_cluster", "gain", "cluster"} <= set(rows.columns)


def test_a_row_that_counts_twice_and_a_record_that_is_phrased_twice_keep_their_columns(tmp_path: Path) -> None:
    rows = table().with_columns(repeat=pl.lit(2, pl.Int32), record=pl.lit("r"), gain=pl.lit(float("nan"), pl.Float32))
    write(tmp_path, rows)
    assert "gain" not in pq.read_schema(tmp_path / "data/train-00000-of-00001.parquet").names
    assert {"repeat", "record"} <= set(pq.read_schema(tmp_path / "data/train-00000-of-00001.parquet").names)
    assert 'train["repeat"]' in (tmp_path / "README.md").read_text()


def test_a_file_is_cut_into_groups_that_a_viewer_can_read(finished: Path) -> None:
    assert pq.read_metadata(finished / "data/train-00000-of-00001.parquet").num_row_groups == 2


def test_text_is_of_the_types_that_every_reader_knows(finished: Path) -> None:
    schema = pq.read_schema(finished / "data/train-00000-of-00001.parquet")
    assert schema.field("id").type == pa.string()
    messages_type = schema.field("messages").type
    assert pa.types.is_list(messages_type)
    assert messages_type.value_type == pa.struct([("role", pa.string()), ("content", pa.string())])


def test_the_same_input_gives_the_same_bytes_in_any_order_of_the_rows(finished: Path, tmp_path: Path) -> None:
    write(tmp_path, table().reverse(), language=["en"], pretty_name="Small & fine")
    assert files(tmp_path) == files(finished)


def test_large_tables_are_cut_into_shards_and_an_older_release_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = table(50)
    with monkeypatch.context() as patch:
        patch.setattr(shards, "SHARD_BYTES", rows.estimated_size() // 4)
        write(tmp_path, rows)
        paths = sorted((tmp_path / "data").iterdir())
        assert len(paths) >= 4
        assert [path.name for path in paths] == [
            f"train-{i:05d}-of-{len(paths):05d}.parquet" for i in range(len(paths))
        ]
        lengths = [pq.read_metadata(path).num_rows for path in paths]
        assert sum(lengths) == 50
        assert max(lengths) - min(lengths) <= 1
        assert pl.read_parquet(paths)["rank"].to_list() == sorted(rows["rank"])
    write(tmp_path, rows)
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["train-00000-of-00001.parquet"]
    assert verify(tmp_path) == []


def test_another_config_has_a_folder_of_its_name(tmp_path: Path) -> None:
    write(tmp_path, config="lima_1k")
    block, _ = read_metadata(tmp_path / "README.md")
    assert block is not None
    assert block["configs"] == [
        {"config_name": "lima_1k", "data_files": [{"split": "train", "path": "lima_1k/train-*"}]}
    ]
    assert 'load_dataset("PATH/OR/HUB-ID", "lima_1k", split="train")' in (tmp_path / "README.md").read_text()
    assert verify(tmp_path) == []


# --- the card --------------------------------------------------------------------------------------------------------


def test_the_metadata_is_what_the_rows_and_the_recipe_say(metadata: dict[str, Any]) -> None:
    assert metadata["license"] == "mit"
    assert metadata["language"] == ["en"]
    assert metadata["multilinguality"] == ["monolingual"]
    assert metadata["pretty_name"] == "Small & fine"
    assert metadata["size_categories"] == ["n<1K"]
    assert metadata["source_datasets"] == ["extended|other-alpaca", "stanfordnlp/sst2"]
    assert metadata["task_categories"] == ["text-generation", "text-classification"]
    assert metadata["annotations_creators"] == ["found"]
    assert metadata_problems(metadata) == []


def test_what_nobody_states_is_not_claimed(tmp_path: Path) -> None:
    write(tmp_path, table(license=None))
    block, _ = read_metadata(tmp_path / "README.md")
    assert block is not None
    assert "language" not in block
    assert "multilinguality" not in block
    assert block["license"] == "unknown"
    assert "No licence is stated for 6 rows" in (tmp_path / "README.md").read_text()


def test_mixed_licences_are_listed_in_a_file_of_their_own(tmp_path: Path) -> None:
    rows = table().with_columns(license=pl.Series(["mit", "BSD-3-Clause AND MIT"] * 3))
    manifest = write(tmp_path, rows)
    block, _ = read_metadata(tmp_path / "README.md")
    assert block is not None
    assert (block["license"], block["license_name"], block["license_link"]) == (
        "other",
        "mixed-permissive",
        "LICENSE.md",
    )
    text = (tmp_path / "LICENSE.md").read_text()
    assert "| mit | 3 | permissive | <https://spdx.org/licenses/MIT.html> |" in text
    assert "| bsd-3-clause AND mit | 3 | permissive |" in text
    assert manifest["license"]["rows"] == {"bsd-3-clause AND mit": 3, "mit": 3}
    write(tmp_path)
    assert not (tmp_path / "LICENSE.md").exists()
    assert verify(tmp_path) == []


def test_the_funnel_shows_every_stage_with_its_counts_and_reasons(finished: Path) -> None:
    text = (finished / "README.md").read_text()
    assert "| 00-load | load | 23 | 20 | 87.0 % |  |" in text
    assert (
        "| 01-filter | length | 20 | 12 | 60.0 % | length: N words &lt; 3 (5), length: N words > 9 \\| more (3) |"
        in text
    )
    assert "| 02-select | facility_location | 12 | 6 | 50.0 % | not selected (6) |" in text


def test_sources_templates_columns_and_versions_are_counted_from_the_rows(finished: Path) -> None:
    text = (finished / "README.md").read_text()
    assert "| alpaca | files | 9 | 3 | mit | aaaaaaaaaaaa |" in text
    assert "| sst2 | hub | 9 | 3 | mit |  |" in text
    assert "| docstrings | docstrings | 5 | 0 | mit |  |" in text
    assert "| flan/sentiment/sst2 | asks \\| twice | forward | 3 |" in text
    assert "| `messages` | `list<struct<role: string, content: string>>` |" in text
    assert "| `score_length` | `double` | the score `length` of the record |" in text
    assert "numpy 2.3.0, polars 2.1.0" in text
    assert (
        "6 instruction examples, chosen by `facility_location` from 23 records of 3 sources and phrased by 2 templates."
        in text
    )


def test_templates_that_the_recipe_leaves_out_are_named_where_templates_are_counted(finished: Path, tmp_path) -> None:
    plain = (finished / "README.md").read_text()
    assert "leaves out" not in plain
    left = {"pools/alpaca": [], "flan/sentiment/sst2": ["zero_or_one", "a | b"], "flan/nli/rte": ["terse"]}
    said = MANIFESTS[3] | {"options": {"templates": "one", "leave_out": left}}
    for number, (options, block) in enumerate(
        [
            (
                said,
                "\n\nTemplates that the recipe leaves out:\n\n- flan/nli/rte: terse\n- flan/sentiment/sst2: zero_or_one, a \\| b",
            ),
            (MANIFESTS[3] | {"options": {"leave_out": None}}, ""),
        ]
    ):
        folder = tmp_path / str(number)
        write(folder, manifests=[*MANIFESTS[:3], options], language=["en"], pretty_name="Small & fine")
        before, after = plain.split("\n\n## Columns")
        assert (folder / "README.md").read_text() == f"{before}{block}\n\n## Columns{after}"


def test_methods_that_chose_are_cited_and_those_that_did_not_are_not(finished: Path) -> None:
    text = (finished / "README.md").read_text()
    assert "lin2011class" in text
    assert "wei2022finetuned" in text
    assert "gonzalez1985clustering" not in text


def test_the_recipe_in_the_card_is_the_recipe_less_what_it_leaves_open(finished: Path) -> None:
    text = (finished / "README.md").read_text()
    printed = yaml.safe_load(text.split("```yaml\n")[1].split("\n```")[0])
    assert printed["load"][0]["files"].pop("path") == "…/*.jsonl"
    assert printed["load"][0] == {"files": {"name": "alpaca", "shape": "alpaca"}}
    assert printed["load"][1:] == RECIPE["load"][1:]
    assert printed["steps"] == RECIPE["steps"]


def test_the_printed_recipe_makes_the_same_release_again(tmp_path: Path) -> None:
    from curate.run.recipe import read
    from curate.run.runner import run

    rows = [
        {"instruction": f"Say {word}", "input": "", "output": f"{word} " * i}
        for i, word in enumerate(["a", "b", "c", "d"], 1)
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "recipe.yaml").write_text(
        "name: again\nload:\n  - files: {path: rows.jsonl, license: mit}\nsteps:\n  - select: {longest: {budget: 3}}\nrelease: {}\n"
    )
    run(read(tmp_path / "recipe.yaml"), tmp_path / "one")
    printed = (tmp_path / "one/release/README.md").read_text().split("```yaml\n")[1].split("\n```")[0]
    (tmp_path / "printed.yaml").write_text(printed)
    run(read(tmp_path / "printed.yaml"), tmp_path / "two")
    one, two = files(tmp_path / "one/release"), files(tmp_path / "two/release")
    assert {name for name in one if one[name] != two[name]} <= {"run.json"}
    assert len(one) > 3
    assert verify(tmp_path / "one/release") == []


def test_where_the_data_lies_changes_no_byte(finished: Path, tmp_path: Path) -> None:
    write(tmp_path, recipe={**RECIPE, "data": "/mnt/elsewhere"}, language=["en"], pretty_name="Small & fine")
    assert files(tmp_path) == files(finished)


def test_a_text_cannot_leave_its_code_block(finished: Path) -> None:
    text = (finished / "README.md").read_text()
    assert "````json\n" in text
    block = text.split("````json\n")[1].split("\n````")[0]
    assert json.loads(block)["messages"][0]["role"] == "user"


def test_no_place_of_the_machine_is_in_any_file(finished: Path) -> None:
    for name, content in files(finished).items():
        assert b"/home/somebody" not in content, name
        assert str(finished).encode() not in content, name
        assert str(Path.home()).encode() + b"/" not in content, name


def test_what_the_recipe_did_not_do_is_among_the_limits(finished: Path, tmp_path: Path) -> None:
    text = (finished / "README.md").read_text()
    assert "No step looked for duplicates." in text
    assert "No step looked for the test sets of benchmarks" in text
    assert "No step checked the language" in text
    steps = [
        MANIFESTS[0],
        stage(1, "dedup", "exact", 20, 20, claims=["exact duplicates removed"]),
        stage(2, "filter", "script", 20, 20, claims=["language checked"]),
        stage(3, "decontaminate", "ngram", 20, 6, claims=["decontaminated"]),
    ]
    write(tmp_path, manifests=steps)
    text = (tmp_path / "README.md").read_text()
    assert "Only exact duplicates" in text
    assert "test sets of benchmarks" not in text
    assert "checked the language" not in text


def test_near_duplicates_that_were_taken_out_are_no_limit() -> None:
    steps = [stage(1, "dedup", "mine", 20, 20, claims=["near duplicates removed"]), stage(2, "polish", "mine", 20, 20)]
    said = " ".join(limits(table(), steps))
    assert claimed(steps) == {"near duplicates removed"} and "duplicates" not in said and "personal data" in said


def test_rows_that_a_model_wrote_are_named(tmp_path: Path) -> None:
    write(tmp_path, table().with_columns(origin=pl.Series(["source"] * 4 + ["synthetic"] * 2)))
    block, _ = read_metadata(tmp_path / "README.md")
    assert block is not None
    assert "machine-generated" in block["annotations_creators"]
    assert "synthetic" in block["tags"]
    assert "A model wrote 2 rows." in (tmp_path / "README.md").read_text()


def test_the_smaller_budget_is_offered_only_where_the_rows_are_all_the_picks(finished: Path, tmp_path: Path) -> None:
    assert "train.select(range(n))" in (finished / "README.md").read_text()
    write(tmp_path, table().filter(pl.col("rank") != 2))
    assert "train.select(range(n))" not in (tmp_path / "README.md").read_text()


def test_the_plot_is_a_picture_and_the_card_shows_it(finished: Path) -> None:
    assert (finished / "funnel.png").read_bytes().startswith(b"\x89PNG")
    assert "](funnel.png)" in (finished / "README.md").read_text()


def test_every_placeholder_of_the_layout_was_filled(finished: Path) -> None:
    text = (finished / "README.md").read_text()
    assert "{{" not in text
    assert "{%" not in text
    assert "None" not in text
    assert "\n\n\n" not in text


def test_a_card_tells_how_diverse_a_selection_is_measure_by_measure_and_as_a_whole(tmp_path: Path) -> None:
    about = {"vendi_1": ("rows", "higher"), "words": ("mean", None)}
    chance = [{"vendi_1": float(i), "words": float(i % 2)} for i in range(39)]
    told = family.against(about, {"vendi_1": 99.0, "words": 0.5}, chance)
    write(
        tmp_path,
        manifests=[one | {"facts": {"diversity": told}} if one["kind"] == "select" else one for one in MANIFESTS],
    )
    card = (tmp_path / "README.md").read_text()
    assert "| vendi_1 | 99 | 19 ± 11 | +7.0 | 100.0 | more diverse |" in card
    assert "| words | 0.5 | 0.4872 ± 0.51 | +0.0 | 51.3 | alike |" in card
    assert "Each measure beside 39 random subsets" in card
    assert (
        "As a whole the selection is unlike a random subset (p = 0.025; the farthest measure is vendi 1, z +7.0)."
        in card
    )


# --- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "options", "error", "says"),
    [
        (table().clear(), {}, ContractError, "no row is left"),
        (table().drop("messages"), {}, ContractError, "6 of 6 rows have no messages"),
        (table().with_columns(id=pl.lit("x")), {}, ContractError, "the id x stands on several rows"),
        (table(), {"config": "data"}, RequestError, "config 'data' cannot be used"),
        (table(), {"config": "../up"}, RequestError, "config '../up' cannot be used"),
        (table(), {"license": "n/a"}, RequestError, "'n/a' names no licence"),
        (table(), {"language": ["English"]}, ContractError, "not a language code"),
    ],
)
def test_a_release_that_cannot_be_made_is_refused_in_a_sentence(tmp_path, rows, options, error, says) -> None:
    with pytest.raises(error, match=says):
        write(tmp_path, rows, **options)


def test_rows_without_messages_are_counted(tmp_path: Path) -> None:
    rows = table()
    null = pl.Series("messages", [None, [], *rows["messages"].to_list()[2:]], dtype=MESSAGES_TYPE)
    with pytest.raises(ContractError, match="2 of 6 rows have no messages"):
        write(tmp_path, rows.with_columns(null))


# --- places and secrets ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "without"),
    [
        ("/home/me/data/x.jsonl", "…/x.jsonl"),
        ("~/x.jsonl", "…/x.jsonl"),
        ("C:\\Users\\me\\x.jsonl", "…/x.jsonl"),
        ("/", "…/"),
        ("data/x.jsonl", "data/x.jsonl"),
        ("../data", "../data"),
        ("flan/sentiment/sst2", "flan/sentiment/sst2"),
        ("load: /home/me/x.jsonl is empty", "load: …/x.jsonl is empty"),
        ("https://huggingface.co/datasets/a/b", "https://huggingface.co/datasets/a/b"),
        ("https://me:secret@host/x", "https://***@host/x"),
        ("token hf_abcdefghijklmnopqrstuvwx", "token hf_***"),
        ("yes / no and/or 3/4", "yes / no and/or 3/4"),
        (3, 3),
        (None, None),
        ({"a": ["/x/y", 1]}, {"a": ["…/y", 1]}),
    ],
)
def test_places_keep_their_last_part_and_keys_are_starred(value: Any, without: Any) -> None:
    assert without_places(value) == without


@settings(max_examples=50, deadline=None)
@given(
    st.recursive(
        st.one_of(st.text(), st.integers(), st.none()),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_taking_places_out_twice_changes_nothing(value: Any) -> None:
    assert without_places(without_places(value)) == without_places(value)


# --- the check -------------------------------------------------------------------------------------------------------


def test_a_release_passes_its_check(finished: Path) -> None:
    assert verify(finished) == []


def test_a_stages_manifest_that_holds_the_releases_own_passes_too(copy: Path) -> None:
    own = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps({"stage": "release", "key": "k", "facts": own}))
    assert verify(copy) == []


def edit(folder: Path, **values: Any) -> None:
    """Another metadata block; None takes a key away."""
    _, old, body = (folder / "README.md").read_text().split("---\n", 2)
    block = {**yaml.safe_load(old), **values}
    block = {key: value for key, value in block.items() if value is not None}
    (folder / "README.md").write_text(f"---\n{yaml.safe_dump(block)}---\n{body}")


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"license": "mit-ish"}, "`license` does not take 'mit-ish'"),
        ({"license": None}, "`license` is missing"),
        ({"license": "other"}, "`license: other` needs `license_name`"),
        ({"license": "other", "license_name": "x", "license_link": "LICENSE"}, "`license_link` names LICENSE, which is not there"),
        ({"size_categories": ["1k"]}, "`size_categories` does not take '1k'"),
        ({"size_categories": ["1K<n<10K"]}, "6 rows are n<1K"),
        ({"task_categories": ["chatting"]}, "`task_categories` does not take 'chatting'"),
        ({"annotations_creators": ["me"]}, "`annotations_creators` does not take 'me'"),
        ({"language": ["English"]}, "not a language code"),
        ({"language": "no spaces"}, "not a language code"),
        ({"source_datasets": ["two words"]}, "not a source"),
        ({"tags": [1]}, "`tags` holds something"),
        ({"pretty_name": 3}, "`pretty_name` is not text"),
        ({"configs": None}, "`configs` is missing"),
        ({"configs": [{"config_name": "default", "data_files": [{"split": "train", "path": "train/*"}]}]}, "nothing matches"),
        ({"configs": [{"config_name": "default", "data_files": [{"split": "test", "path": "data/*"}]}]}, "split 'test' of config 'default' is only in `data_files`"),
        ({"configs": [{"config_name": "other", "data_files": [{"split": "train", "path": "data/*"}]}]}, "no entry in `dataset_info`"),
        ({"configs": [{"config_name": "default", "data_files": "data/*"}]}, "names no files"),
        ({"dataset_info": []}, "`dataset_info` is missing"),
    ],
)  # fmt: skip
def test_metadata_that_the_hub_would_not_take_is_found(copy: Path, values: dict[str, Any], says: str) -> None:
    edit(copy, **values)
    assert any(says in problem for problem in verify(copy)), verify(copy)


@pytest.mark.parametrize("key", ["num_bytes", "num_examples", "download_size", "dataset_size", "features"])
def test_a_number_that_is_not_that_of_the_files_is_found(copy: Path, metadata: dict[str, Any], key: str) -> None:
    info = json.loads(json.dumps(metadata["dataset_info"][0]))
    if key in ("num_bytes", "num_examples"):
        info["splits"][0][key] += 1
    else:
        info[key] = info[key][1:] if key == "features" else info[key] + 1
    edit(copy, dataset_info=[info])
    assert sum(f"`{key}`" in problem for problem in verify(copy)) == 1


def test_files_that_were_changed_removed_or_added_are_found(copy: Path) -> None:
    (copy / "funnel.png").write_bytes(b"\x89PNG")
    assert "funnel.png was changed: its hash is not the one in manifest.json" in verify(copy)
    (copy / "funnel.png").unlink()
    assert "funnel.png is missing; manifest.json lists it" in verify(copy)
    pl.DataFrame({"a": [1]}).write_parquet(copy / "data" / "more.parquet")
    assert "README.md: data/more.parquet belongs to no split" in verify(copy)
    (copy / "manifest.json").unlink()
    assert "manifest.json is missing or is not JSON" in verify(copy)


@pytest.mark.parametrize(
    ("text", "says"),
    [("# no metadata\n", "is missing"), ("---\na: [\n---\n", "is not YAML"), ("---\n- a\n---\n", "is not a mapping")],
)
def test_a_card_without_metadata_is_found(copy: Path, text: str, says: str) -> None:
    (copy / "README.md").write_text(text)
    (problem,) = verify(copy)
    assert says in problem


def test_a_folder_that_is_no_release_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="holds no README"):
        verify(tmp_path)


@pytest.mark.parametrize(
    ("rows", "category"),
    [(0, "n<1K"), (999, "n<1K"), (1000, "1K<n<10K"), (999_999, "100K<n<1M"), (10**6, "1M<n<10M"), (10**12, "n>1T")],
)
def test_sizes_have_the_hubs_words(rows: int, category: str) -> None:
    assert size_category(rows) == category


def test_nested_columns_are_listed_as_datasets_lists_them() -> None:
    schema = pa.schema(
        [
            ("turns", pa.list_(pa.struct([("role", pa.string()), ("tags", pa.list_(pa.string()))]))),
            ("pairs", pa.list_(pa.list_(pa.int32()))),
            ("one", pa.struct([("a", pa.float64())])),
            ("half", pa.float32()),
        ]
    )
    assert features(schema) == [
        {"name": "turns", "list": [{"name": "role", "dtype": "string"}, {"name": "tags", "list": "string"}]},
        {"name": "pairs", "list": {"list": "int32"}},
        {"name": "one", "struct": [{"name": "a", "dtype": "float64"}]},
        {"name": "half", "dtype": "float32"},
    ]
