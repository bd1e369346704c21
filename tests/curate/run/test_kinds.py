"""A kind of stage is one file: what it must hold, and what is said where it does not."""

from __future__ import annotations

from pathlib import Path

import pytest

import tamis
from curate.contract.errors import MethodError, RecipeError
from curate.run import recipe as recipes
from curate.run import runner
from curate.run.kinds import kinds

UPPER = '''"""Upper: prompts in capitals."""
from curate.run.stage import Step

EXAMPLE = "steps: [{upper: {}}]"

def bind(given, ask):
    return Step("upper", ask.name, "upper", {}, {"upper": {}})

def compute(job, step):
    import polars as pl
    for number, rows in job.shards():
        job.put(number, rows.with_columns(pl.col("prompt").str.to_uppercase()), None)
    return {"rows": job.parent.manifest["out"]}

def says(step, facts):
    return [f"{facts['rows']} prompts in capitals"]
'''


def write(folder: Path, source: str, name: str = "upper") -> Path:
    path = folder / "stages" / f"{name}.py"
    path.parent.mkdir(exist_ok=True)
    path.write_text(source)
    return path


def test_a_file_beside_the_recipe_is_a_kind(small: Path, tmp_path: Path) -> None:
    write(tmp_path, UPPER)
    small.write_text(small.read_text().replace("  - dedup: exact\n", "  - upper: {}\n  - dedup: exact\n"))
    runner.run(recipes.read(small), tmp_path / "w", until="upper")
    prompts = tamis.load(tmp_path / "w")["prompt"]
    assert prompts.to_list() == prompts.str.to_uppercase().to_list()


def test_the_source_of_a_kind_is_part_of_its_key(small: Path, tmp_path: Path) -> None:
    path = write(tmp_path, UPPER)
    small.write_text(small.read_text().replace("  - dedup: exact\n", "  - upper: {}\n  - dedup: exact\n"))
    runner.run(recipes.read(small), tmp_path / "w", until="dedup")
    path.write_text(UPPER.replace("to_uppercase", "to_lowercase"))
    again = runner.run(recipes.read(small), tmp_path / "w", until="dedup")
    assert again.done == ["03-upper", "04-dedup"]


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        (
            UPPER.replace("def compute", "def _compute"),
            r"upper.py: the kind of stage 'upper' defines no function `compute`",
        ),
        (UPPER.replace("def bind", "def _bind"), "defines no function `bind`; a kind has at least"),
        (UPPER.replace("def says", "def say"), r"defines `say`, which nobody calls. Did you mean 'says'\?"),
        (UPPER + "def :", "the kind of stage 'upper' is not valid Python"),
    ],
)
def test_a_file_that_lacks_a_part_of_the_contract_is_named(tmp_path: Path, source: str, sentence: str) -> None:
    write(tmp_path, source)
    with pytest.raises(MethodError, match=sentence):
        kinds(tmp_path)


def test_two_kinds_of_one_name_are_refused(tmp_path: Path) -> None:
    write(tmp_path, UPPER, "filter")
    with pytest.raises(
        MethodError, match=r"two kinds of stage are called 'filter': .*curate/stages/filter.py and .*give one"
    ):
        kinds(tmp_path)


def test_a_kind_whose_room_holds_no_method_says_so(small: Path, tmp_path: Path) -> None:
    write(
        tmp_path,
        'METHODS = "polish"\ndef bind(given, ask): return ask.step(METHODS, given)\ndef compute(job, step): ...\n',
        "polish",
    )
    small.write_text(small.read_text().replace("  - dedup: exact\n", "  - polish: wax\n"))
    with pytest.raises(
        RecipeError, match=r"there is no folder of polish methods; make methods/polish/__init__.py beside"
    ):
        recipes.read(small)
    (tmp_path / "methods" / "polish").mkdir(parents=True)
    (tmp_path / "methods" / "polish" / "__init__.py").write_text('VERB = "polish"\n')
    with pytest.raises(
        RecipeError, match="the folder of polish methods holds no method: no file in it defines `polish`"
    ):
        recipes.read(small)


def test_two_steps_that_write_one_column_are_refused(small: Path) -> None:
    twice = "  - cluster: {kmeans: {k: 4}}\n  - cluster: {kmeans: {k: 5}}\n"
    small.write_text(small.read_text().replace("  - cluster: {kmeans: {k: 4}}\n", twice))
    with pytest.raises(
        RecipeError, match="would be written to the column 'cluster', which there is; give the step another `as:`"
    ):
        recipes.read(small)


def test_every_kind_is_documented_and_shows_an_example_but_those_without_a_word_of_their_own() -> None:
    for kind in kinds().values():
        assert kind.module.__doc__, kind.name
        assert kind.example or kind.name in ("arms", "task_clusters"), kind.name


SHARDWISE = '''"""Shout: prompts with a mark, shard by shard, in processes."""
import polars as pl
from curate.run.stage import Step

def bind(given, ask):
    return Step("shout", ask.name, "shout", {}, {"shout": {}})

def compute(job, step):
    job.by_shard(_shouted, "!")
    return {"marked": sum(job.map(_marks, [(path,) for path in job.parent.kept]))}

def _shouted(rows, mark):
    return rows.with_columns(pl.col("prompt") + mark), rows.clear().with_columns(reason=pl.lit(None, pl.String))

def _marks(path):
    return pl.read_parquet(path).height
'''


@pytest.mark.slow
def test_functions_of_a_kind_beside_the_recipe_go_to_other_processes(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from curate.run import job

    monkeypatch.setattr(job, "FEW", 0)
    write(tmp_path, SHARDWISE, "shout")
    small.write_text(small.read_text().replace("  - dedup: exact\n", "  - shout: {}\n"))
    runner.run(recipes.read(small), tmp_path / "w", until="shout", workers=2)
    assert tamis.load(tmp_path / "w")["prompt"].str.ends_with("!").all()
