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
    assert any("set a share aside, as in `holdout: {fraction: 0.05, pretrain: 0.2}`" in problem for problem in found)
    of_its_own = "train: {model: tiny, pretrain: [{docstrings: {packages: [stdlib]}}]}\n"
    small.write_text(RECIPE + of_its_own)
    recipes.read(small)
    both = RECIPE.replace("holdout: {rows: 6}", "holdout: {rows: 6, pretrain: 0.2}") + of_its_own
    assert any("leave out one `pretrain`" in problem for problem in problems(small, both))
    other = RECIPE + of_its_own.replace("model: tiny", "model: some/model")
    assert any("`pretrain` is the text of a tiny base model" in problem for problem in problems(small, other))
    wrong = RECIPE + of_its_own.replace("docstrings:", "dokstrings:")
    assert any("unknown source 'dokstrings'" in problem for problem in problems(small, wrong))


STUDY = (
    RECIPE.replace("holdout: {rows: 6}", "holdout: {rows: 6, pretrain: 0.2}")
    + "train: {model: tiny}\nstudy: {arms: {random: random, l: longest}, budgets: [4, 8], "
)


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ("compare: [[l@4, random@9]]", "random has no budget 9; it has 4, 8"),
        ("compare: [[l@4, fl@8]]", "there is no arm `fl`; there are random"),
        ("compare: [[l@4, random]]", "names a budget on one side"),
        ("delta: 10", None),
        ("delta: ten", "delta is 'ten'; it is a difference above 0, or a share of the gain, as in 10%"),
        ("reference: fl", "the reference `fl` is no arm"),
        ("baselines: [best]", "`baselines` is a list of some of random, longest, stratified"),
        ("budgets: [8, 4]", "`budgets` are whole numbers above 0 that grow"),
        ("evaluate: {a: {wher: {}}}", "evaluation set a has no option 'wher'"),
        ("evaluate: {a: {over: colour}}", "names the column `colour`, which held-out rows do not have"),
        ("evaluate: {a: {arms: [fl]}}", "is about fl, which is no arm; there are random, l"),
        ("evaluate: {a: {dev: -1}}", "asks for -1 dev rows"),
        ("factors: {learning_rat: [1e-4, 1e-3]}", "there is no factor 'learning_rat'. Did you mean 'learning_rate'"),
        ("factors: {learning_rate: [1e-4]}", "needs two levels or more"),
        ("factors: {learning_rate: [1e-4, fast]}", "has the level 'fast'"),
        ("factors: {tuning: [full, loar]}", "unknown tuning method 'loar'. Did you mean 'lora'"),
        ("factors: {epochs: {a: 1, b: 2}, learning_rate: {a: 1e-4, b: 1e-3}}", "two conditions are called"),
        ("factors: {epochs: [1, 2]}, cross: [[epochs, shots]]", "`cross` names shots, which is no factor"),
        ("cross: some", "`cross` is `all`, or a list of lists"),
        (
            "arms: {random: random, t: {rds: {target: {dev: a}}}}",
            "aims at the dev rows of 'a'; evaluation sets with `dev` rows: none",
        ),
        ("arms: {random: random, a/b: longest}", "has a / or @ in its name"),
        ("equal: bytes", "'equal' is 'bytes'"),
        ("pools: apart", "'pools' is 'apart'"),
    ],
)
def test_what_a_study_cannot_do_is_said_before_anything_runs(small: Path, section: str, said: str | None) -> None:
    study = STUDY
    for word in ("arms", "budgets"):
        if section.startswith(f"{word}:"):
            study = study.replace(
                {"arms": "arms: {random: random, l: longest}, ", "budgets": "budgets: [4, 8], "}[word], ""
            )
    if said is None:
        small.write_text(study + section + "}\n")
        recipes.read(small)
        return
    found = problems(small, study + section + "}\n")
    assert any(said in problem for problem in found), found


def test_a_missing_recipe_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="no such recipe"):
        recipes.read(tmp_path / "none.yaml")
