from __future__ import annotations

from pathlib import Path

import pytest
from conftest import RECIPE

from curate.contract.errors import RecipeError
from curate.run import recipe as recipes


def problems(path: Path, text: str, *sets: str) -> list[str]:
    path.write_text(text)
    with pytest.raises(RecipeError) as caught:
        recipes.read(path, list(sets))
    return [problem.replace(str(path), "recipe.yaml") for problem in caught.value.problems]


def test_a_good_recipe_resolves_to_all_its_defaults(small: Path) -> None:
    found = recipes.read(small)
    assert found.name == "small" and found.seed == 3
    assert [source.name for source in found.steps[0].bound] == ["first", "second"]
    kinds = ["load", "holdout", "filter", "dedup", "embed", "cluster", "select", "render", "release"]
    assert [step.kind for step in found.steps] == kinds
    assert found.resolved["steps"][4]["select"]["facility_location"]["budget"] == 12
    assert "min_words" in found.resolved["steps"][0]["filter"]["length"]


def test_every_mistake_is_reported_at_once_with_its_line(small: Path) -> None:
    text = """\
name: 5
sed: 1
load:
  - file: {path: a.jsonl}
steps:
  - filter: {lenght: {min_words: 3}}
  - filter: {length: {min_word: 3}}
  - filter: {length: {min_words: many}}
  - selct: random
  - select: {random: {}}
"""
    found = problems(small, text)
    expected = [
        (1, "'name' is 5, and should be text"),
        (2, "has no option 'sed'. Did you mean 'seed'?"),
        (4, "unknown source 'file'. Did you mean 'files'?"),
        (6, "unknown filter method 'lenght'. Did you mean 'length'?"),
        (7, "filter length has no option 'min_word'. Did you mean 'min_words'?"),
        (8, "'min_words' is 'many', and should be a whole number"),
        (9, "unknown step 'selct'. Did you mean 'select'?"),
        (10, "select random needs 'budget'"),
    ]
    for line, sentence in expected:
        assert any(problem.startswith(f"recipe.yaml:{line}: ") and sentence in problem for problem in found), (
            line,
            sentence,
            found,
        )


def test_missing_keys_are_named(small: Path) -> None:
    found = " ".join(problems(small, "seed: 1\n"))
    assert "needs 'name'" in found and "needs 'load'" in found


def test_two_sources_of_one_name_are_refused(small: Path) -> None:
    found = problems(small, RECIPE.replace("name: second", "name: first"))
    assert any("two sources are called 'first'; give one of them another `name:`" in problem for problem in found)


def test_a_selector_without_vectors_is_refused_before_anything_runs(small: Path) -> None:
    text = RECIPE.replace("  - embed: {hashing: {}}\n  - cluster: {kmeans: {k: 4}}\n", "")
    found = problems(small, text)
    assert found == ["recipe.yaml:10: select facility_location needs vectors; add an `embed` step before it"]


def test_yes_is_text_and_1e_4_is_a_number(small: Path) -> None:
    small.write_text(RECIPE.replace("name: small", "name: yes"))
    assert recipes.read(small).name == "yes"


def test_duplicate_keys_are_an_error_with_a_line(small: Path) -> None:
    small.write_text("name: a\nname: b\nload: []\n")
    with pytest.raises(Exception, match=r"recipe.yaml:2: .*name"):
        recipes.read(small)


def test_set_reaches_sections_steps_and_sources(small: Path) -> None:
    sets = ["seed=9", "select.budget=5", "length.min_words=4", "first.license=apache-2.0", "render.templates=all"]
    found = recipes.read(small, sets)
    assert found.seed == 9
    assert found.steps[6].options["budget"] == 5
    assert found.steps[2].options["min_words"] == 4
    assert found.steps[0].bound[0].options["license"] == "apache-2.0"
    assert found.steps[7].options["templates"] == "all"


def test_an_ambiguous_set_lists_the_names(small: Path) -> None:
    text = RECIPE.replace("  - dedup: exact\n", "  - dedup: exact\n  - filter: {script: {}}\n    as: script\n")
    small.write_text(text)
    with pytest.raises(RecipeError, match="'filter' could mean several: length, script"):
        recipes.read(small, ["filter.min_words=3"])
    assert recipes.read(small, ["length.min_words=3"]).steps[2].options["min_words"] == 3


def test_a_set_that_names_nothing_suggests_the_nearest(small: Path) -> None:
    with pytest.raises(RecipeError, match=r"nothing in .* is called 'selct'. Did you mean 'select'\?"):
        recipes.read(small, ["selct.budget=3"])


def test_a_study_needs_training_a_holdout_and_a_select(small: Path) -> None:
    text = "name: x\nload:\n  - files: {path: a.jsonl}\nstudy: {arms: {random: random}, budgets: [8]}\n"
    found = " ".join(problems(small, text))
    for sentence in ("add `holdout: {fraction: 0.05}`", "with a `train:` section", "add a `select` step"):
        assert sentence in found


def test_random_longest_and_stratified_are_always_among_the_arms(small: Path) -> None:
    text = RECIPE.replace("holdout: {rows: 6}", "holdout: {rows: 6, pretrain: 0.2}")
    small.write_text(text + "train: {model: tiny}\nstudy: {arms: {fl: facility_location}, budgets: [4, 8]}\n")
    assert set(recipes.read(small).resolved["study"]["arms"]) == {"fl", "random", "longest", "stratified"}


def test_the_tiny_model_asks_for_text_to_learn_from(small: Path) -> None:
    found = problems(small, RECIPE + "train: {model: tiny}\n")
    assert any("set aside a share, as in `holdout: {fraction: 0.05, pretrain: 0.2}`" in problem for problem in found)


def test_a_missing_recipe_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="no such recipe"):
        recipes.read(tmp_path / "none.yaml")
