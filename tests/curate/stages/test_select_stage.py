"""Selection, clustering and embeddings as stages of a recipe."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest
from conftest import alpaca_rows, write_jsonl
from typer.testing import CliRunner

import tamis
from curate.cli import app
from curate.contract.errors import ContractError, DataError, RecipeError
from curate.contract.files import read_json
from curate.contract.methods import find
from curate.release.verify import verify
from curate.rows.arms import Arm, write_subsets
from curate.rows.pool import Pool
from curate.run import recipe as recipes
from curate.run import runner
from curate.stages.select import says


def run(folder: Path, steps: str, *sets: str, work: str = "w") -> Path:
    """Runs steps over two sources of 30 and 20 rows; the work folder."""
    write_jsonl(folder / "a.jsonl", alpaca_rows(30))
    write_jsonl(folder / "b.jsonl", [{**row, "instruction": f"B: {row['instruction']}"} for row in alpaca_rows(20)])
    (folder / "r.yaml").write_text(
        "name: r\nload:\n"
        "  - files: {path: a.jsonl, shape: alpaca, name: a, license: mit}\n"
        "  - files: {path: b.jsonl, shape: alpaca, name: b, license: mit}\n"
        f"steps:\n{steps}",
        "utf-8",
    )
    runner.run(recipes.read(folder / "r.yaml", list(sets)), folder / work)
    return folder / work


def facts(work: Path, stage: str) -> dict:
    return read_json(next(work.glob(f"*-{stage}")) / "manifest.json")["facts"]


def test_a_selection_under_constraints_says_how_good_and_how_diverse_it_is(tmp_path: Path) -> None:
    work = run(
        tmp_path,
        "  - embed: {hashing: {dim: 32}}\n"
        "  - select: {facility_location: {budget: 12, quotas: {source: {b: 0.25}}, must_not_have: {source: nowhere}}}\n",
    )
    kept, said = tamis.load(work), facts(work, "select")
    assert dict(kept["source"].value_counts().iter_rows()) == {"a": 9, "b": 3}
    assert 0.5 < said["certificate"]["ratio"] <= 1 and said["nested"] is False
    assert {"vendi_1", "coverage_radius", "distinct_2"} <= {line["name"] for line in said["diversity"]["measures"]}
    step: Any = SimpleNamespace(name="select")
    assert any(line.startswith("select: as a whole unlike a random subset (p = ") for line in says(step, said))


def test_a_budget_of_tokens_follows_the_tokenizer_that_it_names(tmp_path: Path) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel({"?": 0}, unk_token="?"))
    tokenizer.save(str(tmp_path / "t.json"))  # one token a text
    steps = "  - select: {random: {budget: {tokens: 40, tokenizer: t.json}}}\n"
    assert facts(run(tmp_path, steps), "select")["tokens"] <= 40
    first = tamis.load(tmp_path / "w").height
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.save(str(tmp_path / "t.json"))
    run(tmp_path, steps)
    assert tamis.load(tmp_path / "w").height < first == 20


def test_a_second_selection_leaves_what_the_first_gave_the_rows_that_pass_it_by(tmp_path: Path) -> None:
    work = run(
        tmp_path,
        "  - embed: {hashing: {dim: 32}}\n"
        "  - select: {facility_location: {budget: 5}}\n    where: {source: a}\n    as: of_a\n"
        "  - select: {k_center: {budget: 4}}\n    where: {source: b}\n    as: of_b\n",
    )
    kept = tamis.load(work)
    for source, many in (("a", 5), ("b", 4)):
        assert kept.filter(pl.col("source") == source)["rank"].sort().to_list() == list(range(many))
    assert kept.filter(pl.col("source") == "a")["gain"].null_count() == 0


@pytest.mark.parametrize(
    ("name", "said"), [("source", "column 'source'"), ("prompt", "column 'prompt'"), ("rank", "'rank'")]
)
def test_clusters_do_not_take_the_place_of_a_column(tmp_path: Path, name: str, said: str) -> None:
    with pytest.raises(RecipeError, match=f"r.yaml:6: cluster would be written to the {said}|{said}"):
        run(tmp_path, f"  - embed: hashing\n  - cluster: {{kmeans: {{k: 2}}}}\n    as: {name}\n")


def test_two_clusterings_need_two_names(tmp_path: Path) -> None:
    both = "  - embed: {hashing: {dim: 32}}\n  - cluster: {kmeans: {k: 2}}\n  - cluster: {kmeans: {k: 3}}\n"
    with pytest.raises(
        RecipeError, match="written to the column 'cluster', which there is; give the step another `as:`"
    ):
        run(tmp_path, both)
    kept = tamis.load(run(tmp_path, both + "    as: fine\n"))
    assert kept["cluster"].n_unique() == 2 and kept["fine"].n_unique() == 3


def test_a_tree_of_clusters_gives_a_column_a_level_and_names(tmp_path: Path) -> None:
    work = run(tmp_path, "  - embed: {hashing: {dim: 32}}\n  - cluster: {hierarchical: {k: 6, levels: [2, 4]}}\n")
    kept = tamis.load(work)
    for fine, coarse in (("cluster", "cluster_4"), ("cluster_4", "cluster_2")):
        assert kept.group_by(fine).agg(pl.col(coarse).n_unique())[coarse].max() == 1
    assert set(facts(work, "cluster")["names"]) == {str(label) for label in kept["cluster"].unique()}


def test_ready_vectors_are_read_by_id_and_again_when_the_file_changes(tmp_path: Path) -> None:
    ids = tamis.load(run(tmp_path, "  - filter: {length: {min_words: 0}}\n"))["id"].to_list()
    rng = np.random.default_rng(0)
    (tmp_path / "ids.txt").write_text("\n".join(ids[::-1]), "utf-8")
    steps = (
        "  - embed: {file: {path: v.npy, ids: ids.txt}}\n  - cluster: {kmeans: {k: 2}}\n"
        "  - select: {k_center: {budget: 6}}\n"
    )
    picks = []
    for _ in range(2):
        vectors = rng.normal(size=(50, 5)).astype(np.float32)
        np.save(tmp_path / "v.npy", vectors)
        work = run(tmp_path, steps)
        np.testing.assert_allclose(np.load(next(work.glob("*-embed")) / "vectors.npy"), vectors[::-1])
        picks.append(tamis.load(work)["id"].to_list())
    assert picks[0] != picks[1]


def test_the_report_command_prints_and_writes_what_the_manifest_holds(tmp_path: Path) -> None:
    work = run(tmp_path, "  - embed: {hashing: {dim: 32}}\n  - select: {facility_location: {budget: 10}}\n")
    said = CliRunner().invoke(app, ["report", str(work), "--json"])
    assert said.exit_code == 0, said.output
    found = json.loads(said.output)
    assert found["diversity"] == facts(work, "select")["diversity"] and found["kept"] == 10 and found["pool"] == 50
    shown = CliRunner().invoke(app, ["report", str(work)])
    assert shown.exit_code == 0 and "selection.html" in shown.output and (work / "selection.html").is_file()
    assert "against 100 random subsets" in shown.output and "As a whole: unlike a random subset" in shown.output
    several = CliRunner().invoke(app, ["report", str(work), "--clusters", "2,3", "--json"])
    assert [line["k"] for line in json.loads(several.output)] == [2, 3]


def test_a_study_refuses_an_arm_whose_prefixes_are_no_smaller_choices(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pool = Pool(pl.DataFrame({"id": [f"r{i:02d}" for i in range(40)]}), rng.normal(size=(40, 4)).astype(np.float32))
    centroid = find("select", "centroid")
    with pytest.raises(DataError, match=r"the arm 'c' \(centroid\) chooses other rows for each budget"):
        write_subsets(tmp_path / "two", pool, {"c": Arm(centroid, {}, 8)}, 1, 0)
    write_subsets(tmp_path / "one", pool, {"c": Arm(centroid, {}, 8, prefixes=False)}, 1, 0)
    write_subsets(tmp_path / "k", pool, {"c": Arm(centroid, {"k": 3}, 8)}, 1, 0)


def test_a_column_of_the_source_itself_can_be_a_score_or_a_group(tmp_path: Path) -> None:
    rows = [{**row, "stars": i % 7, "topic": "xy"[i % 2]} for i, row in enumerate(alpaca_rows(30))]
    write_jsonl(tmp_path / "s.jsonl", rows)
    recipe = "name: r\nload:\n  - files: {path: s.jsonl, shape: alpaca, license: mit}\nsteps:\n"
    (tmp_path / "r.yaml").write_text(
        recipe + "  - select: {top_score: {budget: 6, score: fields.stars, quotas: {fields.topic: equal}}}\n", "utf-8"
    )
    runner.run(recipes.read(tmp_path / "r.yaml", []), tmp_path / "w")
    own = [json.loads(text) for text in tamis.load(tmp_path / "w")["fields"]]
    best = sorted((i % 7 for i in range(30) if i % 2), reverse=True)[:3]
    assert sorted((row["stars"] for row in own if row["topic"] == "y"), reverse=True) == best and len(own) == 6
    (tmp_path / "r.yaml").write_text(recipe + "  - select: {top_score: {budget: 6, score: fields.star}}\n", "utf-8")
    with pytest.raises(
        ContractError, match=r"no row has a column `star` of its own; those of the first row are .*stars"
    ):
        runner.run(recipes.read(tmp_path / "r.yaml", []), tmp_path / "v")


def test_a_selector_that_gives_something_else_than_picks_is_named(tmp_path: Path) -> None:
    (tmp_path / "methods" / "select").mkdir(parents=True)
    (tmp_path / "methods" / "select" / "mine.py").write_text(
        "def select(pool, budget, *, seed: int = 0): return [1, 2]\n"
    )
    with pytest.raises(DataError, match=r"select mine gave list, and should give tamis.Picks\(index, gain\)"):
        run(tmp_path, "  - select: {mine: {budget: 2}}\n")


def test_a_release_whose_table_is_damaged_is_said_to_be(tmp_path: Path) -> None:
    work = run(tmp_path, "  - select: {random: {budget: 5}}\nrelease: {}\n")
    with open(next((work / "release" / "data").glob("*.parquet")), "ab") as file:
        file.write(b"x")
    problems = verify(work / "release")
    assert any("a table cannot be read" in problem for problem in problems) and any("hash" in p for p in problems)
