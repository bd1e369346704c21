from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from conftest import alpaca_rows, write_jsonl

from curate.contract import methods
from curate.report import reference
from curate.run import recipe as recipes
from curate.run.kinds import STEPS, kinds

PAGE = Path(__file__).resolve().parents[3] / "docs" / "recipe.md"
# what stands around a kind's example, so that all that it needs is there
AROUND = {
    "name": "example",
    "load": [{"files": {"path": "a.jsonl", "name": "alpaca", "shape": "alpaca"}}],
    "holdout": {"fraction": 0.1},
    "steps": [{"embed": {"hashing": {}}}, {"select": {"random": {"budget": 3}}}],
    "train": {"model": "owner/model"},
}


def test_the_page_is_what_the_code_says() -> None:
    assert PAGE.read_text("utf-8") == reference.page(), "run `make docs`"


@pytest.mark.parametrize("kind", kinds())
def test_every_option_of_every_kind_says_what_it_means(kind: str) -> None:
    options = list(kinds()[kind].options())
    room = kinds()[kind].methods
    if room:
        options += [option for method in methods.all_of(room).values() for option in method.parameters]
    silent = [option.word for option in options if not option.about and option.word != "budget"]
    assert silent == []


@pytest.mark.parametrize("kind", [kind.name for kind in kinds().values() if kind.example])
def test_the_example_of_every_kind_is_a_part_of_a_recipe(kind: str, tmp_path: Path) -> None:
    section, example = kinds()[kind].section, yaml.safe_load(kinds()[kind].example)
    write_jsonl(tmp_path / "a.jsonl", alpaca_rows())
    whole = {**AROUND, **example}
    if section == STEPS:
        whole["steps"] = [AROUND["steps"][0], *example["steps"]]
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(whole))
    assert recipes.read(path).step(kind) is not None
