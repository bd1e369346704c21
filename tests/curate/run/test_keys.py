"""Keys tell the truth: what a stage's bytes depend on reruns it, and nothing else does."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from conftest import alpaca_rows, write_jsonl

import tamis
from curate.contract.errors import RequestError, WorkError
from curate.contract.files import read_json
from curate.run import recipe as recipes
from curate.run import runner
from curate.run.plan import plan
from curate.run.work import Work

ROOT = Path(__file__).resolve().parents[3]
MINE = '''"""The first rows by a word that a helper names."""
import numpy as np
from tamis import Picks

def select(pool, budget, *, seed: int = 0) -> Picks:
    import helper
    order = np.argsort([helper.key(id) for id in pool.ids])[:budget]
    return Picks(order, np.full(budget, np.nan, np.float32))
'''


def run(recipe: Path, work: Path, *sets: str, **options) -> list[str]:
    return runner.run(recipes.read(recipe, list(sets)), work, **options).done


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A copy of the packages, whose source a test may change."""
    top = tmp_path / "copy"
    for name in ("curate", "train"):
        shutil.copytree(ROOT / name, top / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("templates", "pyproject.toml", "tamis.py"):
        os.symlink(ROOT / name, top / name)
    return top


def done_by(copy: Path, recipe: Path, work: Path, *sets: str) -> list[str]:
    """The stages that a run by the copied packages computes."""
    code = (
        "import sys; from pathlib import Path; from curate.run import recipe, runner\n"
        "print('\\n'.join(runner.run(recipe.read(sys.argv[1], sys.argv[3:]), Path(sys.argv[2])).done))"
    )
    process = subprocess.run(
        [sys.executable, "-c", code, str(recipe), str(work), *sets],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(copy)},
        cwd=copy,
    )
    assert process.returncode == 0, process.stderr
    return process.stdout.split()


@pytest.mark.slow
def test_a_changed_source_of_what_a_stage_runs_reruns_it(small: Path, tmp_path: Path, copied: Path) -> None:
    work = tmp_path / "w"
    everything = done_by(copied, small, work)
    assert done_by(copied, small, work) == []
    for file, first in (
        ("curate/diversity/vocabulary.py", "06-select"),
        ("curate/rows/cluster_names.py", "05-cluster"),
        ("curate/stages/dedup.py", "03-dedup"),
        ("curate/run/job.py", "00-load"),
        ("curate/release/metadata.py", "release"),
    ):
        path = copied / file
        path.write_text(path.read_text() + "\n# a change\n")
        assert done_by(copied, small, work) == everything[everything.index(first) :], file


@pytest.mark.slow
def test_vectors_come_new_when_a_helper_of_the_embedder_changes(small: Path, tmp_path: Path) -> None:
    embedder = tmp_path / "methods" / "embed" / "mine.py"
    embedder.parent.mkdir(parents=True)
    embedder.write_text(
        '"""Vectors of a helper."""\nimport numpy as np\nTEXT = "prompt"\n'
        "def identity(*, dim: int = 4): return {'dim': dim}\n"
        "def embed(texts, *, dim: int = 4):\n    import shape\n"
        "    return np.array([shape.of(t, dim) for t in texts], np.float32)\n"
    )
    helper = embedder.with_name("shape.py")
    helper.write_text("def of(text, dim): return [len(text) + i for i in range(dim)]\n")
    small.write_text(small.read_text().replace("hashing: {}", "mine: {}"))
    run(small, tmp_path / "one", until="embed")
    first = Work(tmp_path / "one").stage("embed").vectors[0].tolist()
    helper.write_text("def of(text, dim): return [2 * len(text) + i for i in range(dim)]\n")
    run(small, tmp_path / "two", until="embed")
    assert Work(tmp_path / "two").stage("embed").vectors[0].tolist() != first


def test_a_helper_beside_a_method_reruns_it(small: Path, tmp_path: Path) -> None:
    method = tmp_path / "methods" / "select" / "mine.py"
    method.parent.mkdir(parents=True)
    method.write_text(MINE)
    method.with_name("helper.py").write_text("def key(id): return id\n")
    small.write_text(small.read_text().replace("facility_location", "mine"))
    run(small, tmp_path / "w")
    first = tamis.load(tmp_path / "w", "select")["id"].to_list()
    method.with_name("helper.py").write_text("def key(id): return id[::-1]\n")
    assert run(small, tmp_path / "w")[0] == "06-select"
    assert tamis.load(tmp_path / "w", "select")["id"].to_list() != first
    assert run(small, tmp_path / "w") == []


def test_a_file_that_a_method_opens_reruns_it(small: Path, tmp_path: Path) -> None:
    method = tmp_path / "methods" / "filter" / "banned.py"
    method.parent.mkdir(parents=True)
    method.write_text(
        '"""Rows with a banned word."""\nimport polars as pl\nfrom pathlib import Path\nTEXT = "prompt"\n'
        "def reject(text: pl.Series, *, limit: int = 0) -> pl.Series:\n"
        "    words = Path(__file__).with_name('words.txt').read_text().split()\n"
        "    return pl.Series([next((f'holds {w}' for w in words if w in t), None) for t in text], dtype=pl.String)\n"
    )
    method.with_name("words.txt").write_text("bread")
    small.write_text(small.read_text().replace("filter: {length: {min_words: 8}}", "filter: banned"))
    run(small, tmp_path / "w", until="filter")
    assert run(small, tmp_path / "w", until="filter") == []
    method.with_name("words.txt").write_text("clocks")
    assert run(small, tmp_path / "w", until="filter") == ["02-filter"]
    assert run(small, tmp_path / "w", until="filter") == []
    reasons = tamis.load(tmp_path / "w", "filter", removed=True)["reason"].unique().to_list()
    assert reasons == ["banned: holds clocks"]


def test_a_renamed_cluster_step_writes_the_new_column(small: Path, tmp_path: Path) -> None:
    text = small.read_text()
    small.write_text(text.replace("k: 4}}", "k: 4}}\n    as: alpha"))
    run(small, tmp_path / "w", until="alpha")
    small.write_text(text.replace("k: 4}}", "k: 4}}\n    as: beta"))
    run(small, tmp_path / "w", until="beta")
    assert "beta" in tamis.load(tmp_path / "w", "beta").columns
    assert "alpha" not in tamis.load(tmp_path / "w", "beta").columns


LOADER = '''"""Lines of a file."""
from pathlib import Path
from curate.load.records import Raw
TEMPLATE = "mine.yaml"
def load(*, path: str, data: Path):
    for number, line in enumerate((data / path).read_text().splitlines()):
        yield Raw(str(number), {"line": line}, f"{path}:{number + 1}")
'''
SET = """\
dataset: mine
about: A line.
license: mit
columns: {line: line}
record: {prompt: "Say {{ line }}", response: "{{ line }}"}
example: {line: a word}
templates:
  - {name: say, kind: forward, style: plain, input: "Say it: {{ line }}", target: "{{ line }}"}
"""


def test_a_loaders_data_file_and_template_set_rerun_it(tmp_path: Path) -> None:
    loader = tmp_path / "methods" / "load" / "lines.py"
    loader.parent.mkdir(parents=True)
    loader.write_text(LOADER)
    (tmp_path / "mine.yaml").write_text(SET)
    (tmp_path / "lines.txt").write_text("one\ntwo\nthree\n")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("name: x\nload:\n  - lines: {path: lines.txt}\n")
    run(recipe, tmp_path / "w")
    assert run(recipe, tmp_path / "w") == []
    (tmp_path / "lines.txt").write_text("one\ntwo\nfour\n")
    assert run(recipe, tmp_path / "w") == ["00-load"]
    assert "four" in tamis.load(tmp_path / "w")["response"].to_list()
    (tmp_path / "mine.yaml").write_text(SET.replace("Say {{", "Tell {{"))
    assert run(recipe, tmp_path / "w") == ["00-load"]
    assert tamis.load(tmp_path / "w")["prompt"][0].startswith("Tell")


def test_a_source_that_changes_while_it_is_read_is_not_kept(small: Path, tmp_path: Path, monkeypatch) -> None:
    from curate.load import records

    read, changed = records.records, []

    def read_and_change(*arguments, **options):
        yield from read(*arguments, **options)
        if not changed:
            changed.append(write_jsonl(tmp_path / "a.jsonl", alpaca_rows(50)[:40]))

    monkeypatch.setattr(records, "records", read_and_change)
    with pytest.raises(
        WorkError, match="load: the source 'first' changed while it was read, so its rows are of no one version"
    ):
        run(small, tmp_path / "w")
    run(small, tmp_path / "w")
    assert tamis.load(tmp_path / "w", "load").filter(pl.col("source") == "first").height == 40


def test_a_new_source_does_not_read_the_others_again(small: Path, tmp_path: Path, monkeypatch) -> None:
    from curate.load import records

    run(small, tmp_path / "w", until="load")
    before = tamis.load(tmp_path / "w").filter(pl.col("source") == "second")
    read, seen = records.records, []

    def noted(kind, options, **filled):
        seen.append(options["name"])
        return read(kind, options, **filled)

    monkeypatch.setattr(records, "records", noted)
    write_jsonl(tmp_path / "c.jsonl", alpaca_rows(60)[50:])
    third = "  - files: {path: c.jsonl, name: third, shape: alpaca, license: mit}\n"
    small.write_text(small.read_text().replace("load:\n", "load:\n" + third))
    assert run(small, tmp_path / "w", until="load") == ["00-load"]
    assert seen == ["third"]
    after = tamis.load(tmp_path / "w")
    assert after["source"].unique(maintain_order=True).to_list() == ["third", "first", "second"]
    assert after.filter(pl.col("source") == "second").equals(before)


def test_a_broken_method_file_stops_only_recipes_that_name_it(small: Path, tmp_path: Path) -> None:
    path = tmp_path / "methods" / "select" / "broken.py"
    path.parent.mkdir(parents=True)
    path.write_text("def select(:\n")
    recipes.read(small)
    small.write_text(small.read_text().replace("facility_location", "broken"))
    with pytest.raises(RequestError, match=r"broken.py:1: the select method 'broken' is not valid Python"):
        recipes.read(small)


def test_after_a_failed_run_what_the_run_before_left_is_old(small: Path, tmp_path: Path) -> None:
    run(small, tmp_path / "w")
    with pytest.raises(RequestError):
        run(small, tmp_path / "w", "length.min_words=9", "select.budget=1000")
    assert Work(tmp_path / "w").old == ()  # it was refused before anything ran
    (tmp_path / "methods" / "select").mkdir(parents=True)
    (tmp_path / "methods" / "select" / "fails.py").write_text(
        '"""Fails."""\ndef select(pool, budget):\n    raise ValueError("no")\n'
    )
    small.write_text(small.read_text().replace("facility_location", "fails"))
    with pytest.raises(ValueError, match="no"):
        run(small, tmp_path / "w", "length.min_words=9")
    assert [done.title for done in Work(tmp_path / "w").old] == ["06-select", "07-render", "release"]


def test_what_a_recipe_needs_is_asked_for_before_anything_runs(small: Path, tmp_path: Path) -> None:
    run(small, tmp_path / "w", until="cluster")
    with pytest.raises(
        RequestError, match=r"the budget of 1,000 is larger than the \d+ rows that 05-cluster kept; ask"
    ):
        run(small, tmp_path / "w", "select.budget=1000", "seed=3")
    with pytest.raises(
        RequestError, match=r"recipe.yaml:12: select facility_location: `quotas` names the column `sauce`"
    ):
        run(small, tmp_path / "w", "select.quotas={sauce: equal}")


def test_a_missing_package_is_named_before_anything_runs(small: Path, tmp_path: Path, monkeypatch) -> None:
    import curate.contract.code as code

    installed = code.installed
    monkeypatch.setattr(code, "installed", lambda package: package != "peft" and installed(package))
    small.write_text(small.read_text() + "train: {model: none}\n")
    with pytest.raises(
        RequestError, match=r"training needs the package peft, which is not installed; run: pip install"
    ):
        run(small, tmp_path / "w")
    assert not (tmp_path / "w" / "00-load").exists()


def test_a_folder_of_an_older_version_is_computed_anew_in_place(small: Path, tmp_path: Path, capsys) -> None:
    import json

    from curate.contract import progress

    run(small, tmp_path / "w")
    stages = read_json(tmp_path / "w" / "stages.json")
    (tmp_path / "w" / "stages.json").write_text(
        json.dumps({"recipe": "small", "stages": [s["title"] for s in stages["stages"]]})
    )
    for path in (tmp_path / "w").glob("*/manifest.json"):
        manifest = read_json(path)
        del manifest["contract"]
        path.write_text(json.dumps({**manifest, "key": f"old {path}"}))
    with pytest.raises(WorkError, match="was written by an older version of Tamis"):
        Work(tmp_path / "w")
    with progress.shown(plain=True):
        assert len(run(small, tmp_path / "w")) == 9
    assert "was written by an older version of Tamis; its stages are computed anew" in capsys.readouterr().err


def test_keys_are_the_same_in_two_works_and_with_any_state_of_them(small: Path, tmp_path: Path) -> None:
    recipe = recipes.read(small)
    fresh = [stage.key for stage in plan(recipe, tmp_path / "w")]
    run(small, tmp_path / "w")
    assert [stage.key for stage in plan(recipe, tmp_path / "w")] == fresh == [stage.key for stage in plan(recipe)]
