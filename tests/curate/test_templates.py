"""The library: every set is checked, every template is told apart from every other, and one of each is known by heart."""

from __future__ import annotations

import csv
import gzip
import json
import os
import re
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from curate.paths import library
from curate.render.check import findings
from curate.render.engine import Engine
from curate.render.template import Template, TemplateSet, load_set, names

FLAN = [name for name in names() if name.startswith("flan/")]
POOLS = {"alpaca", "conversations", "docstrings", "dolly", "inputs_targets", "messages", "prompt_completion"}
JINJA = re.compile(r"\{\{.*?\}\}|\{%.*?%\}|\{#.*?#\}", re.DOTALL)


@pytest.mark.parametrize("name", names())
def test_a_set_has_no_findings(name):
    assert findings([name]) == []


def test_the_sets_that_recipes_name_are_there():
    assert {f"pools/{name}" for name in POOLS} <= set(names())
    clusters = {load_set(name).task_cluster for name in FLAN}
    assert {"natural_language_inference", "sentiment", "closed_book_qa", "struct_to_text"} <= clusters


@pytest.mark.parametrize("name", [*FLAN, "cot/gsm8k"])
def test_a_dataset_has_ten_templates_of_mixed_kinds_and_styles(name):
    found = load_set(name)
    assert len(found.templates) >= 10
    assert 1 <= sum(template.kind == "inverted" for template in found.templates) <= 3
    assert sum(template.style == "detailed" for template in found.templates) >= 2
    assert sum(template.style == "terse" for template in found.templates) >= 2
    assert found.license is not None
    assert found.hub is not None


@pytest.mark.parametrize("name", [name for name in FLAN if load_set(name).choices])
def test_choices_are_shown_in_some_templates_and_not_in_others(name):
    forward = [template for template in load_set(name).templates if template.kind == "forward"]
    assert 3 <= sum("options" in template.input_reads for template in forward) <= len(forward) - 3


def test_docstrings_have_templates_for_every_section_and_some_turned_around():
    found = load_set("pools/docstrings")
    sections = {example["section"] for example in found.examples}
    assert sections == {"summary", "parameters", "returns", "raises", "examples", "notes"}
    engine = Engine(found)
    for example in found.examples:
        kinds = [rendered.kind for rendered in engine.render("id", example, which="all")]
        assert kinds.count("forward") >= 3, example["section"]
    assert sum(template.kind == "inverted" for template in found.templates) >= 3


def four_grams(template: Template) -> set[tuple[str, ...]]:
    """Word 4-grams of the literal text, none of which spans a place where the row's text goes."""
    pieces = [piece for _, content in template.messages for piece in JINJA.split(content)]
    runs = [re.findall(r"\w+", piece.lower()) for piece in pieces]
    return {tuple(run[i : i + 4]) for run in runs for i in range(len(run) - 3)}


def test_four_grams_are_of_literal_words_and_do_not_span_a_role():
    template = Template(
        "t", "forward", "plain", (("user", "Say in {{ x }} plain English what it is."), ("assistant", "{{ y }}"))
    )
    assert four_grams(template) == {("plain", "english", "what", "it"), ("english", "what", "it", "is")}


def test_no_two_templates_share_more_than_two_fifths_of_their_words():
    grams = {(name, template.name): four_grams(template) for name in names() for template in load_set(name).templates}
    alike = [
        (one, other, len(grams[one] & grams[other]) / min(len(grams[one]), len(grams[other])))
        for one, other in combinations(grams, 2)
        if grams[one] and grams[other]
    ]
    assert len(alike) > 1_000
    assert [pair for pair in alike if pair[2] > 0.4] == []


# --- one template of each set, rendered by hand ------------------------------------------------------------------------

GOLDEN: dict[tuple[str, str, int], list[str]] = {
    ("flan/natural_language_inference/rte", "tags", 0): [
        "<premise>The ferry to Naxos stayed in port on Monday because of high winds, and the company put its passengers up in "
        "hotels.</premise>\n<hypothesis>Passengers of the Naxos ferry spent a night on board.</hypothesis>\n<label>",
        "not_entailment",
    ],
    ("flan/sentiment/sst2", "last_words", 0): [
        'Make up a positive verdict on some picture. It has to end in "ninety minutes".',
        "a slow, tender portrait that doesn't waste a single one of its ninety minutes",
    ],
    ("flan/closed_book_qa/web_questions", "how_many_lines", 0): [
        "What river flows through the city of lyon?\nThere are 2 right answers. Write each on a line of its own.",
        "Rhône\nSaône",
    ],
    ("flan/struct_to_text/e2e_nlg", "table", 0): [
        "| property | value |\n|---|---|\n| name | The Lantern |\n| eat type | pub |\n| price range | cheap |\n"
        "| family friendly | yes |\n| near | Mill Lane |\n\nSay in plain English what this table holds.",
        "Near Mill Lane you will find The Lantern, a cheap pub where children are welcome.",
    ],
    ("cot/gsm8k", "working", 0): [
        "Problem: Ines plants 4 rows of 9 leeks. Slugs eat a third of them. How many leeks are left?\nWorking:",
        "She plants 4*9=36 leeks.\nSlugs eat 36/3=12 of them.\nSo 36-12=24 are left.\nResult: 24",
    ],
    ("pools/alpaca", "input_fenced", 1): [
        'Correct the spelling.\n\n"""\nThe wether was brigt.\n"""',
        "The weather was bright.",
    ],
    ("pools/dolly", "passage_tagged", 1): [
        "<passage>\nThe Merlin Tunnel, opened in 1971, runs for 2.4 km under the pass.\n</passage>\nHow long is the tunnel?",
        "2.4 km.",
    ],
    ("pools/prompt_completion", "plain", 0): ["The three primary colours of light are", "red, green and blue."],
    ("pools/inputs_targets", "plain", 0): ["Translate to French: good morning", "bonjour"],
    ("pools/messages", "as_is", 0): [
        "You answer in one line.",
        "What is a fjord?",
        "A long, narrow inlet of the sea between steep slopes.",
        "And a firth?",
        "The Scottish word for an estuary or inlet, often wider.",
    ],
    ("pools/conversations", "as_is", 0): ["How many strings has a cello?", "Four."],
    ("pools/docstrings", "assign", 2): [
        "value = juice(apples, *, cloudy=False)\n\nDescribe `value`.",
        "Juice\n    As many litres as the apples gave.",
    ],
}


def test_every_set_has_a_golden_rendering():
    assert {name for name, _, _ in GOLDEN} == set(names())


@pytest.mark.parametrize(("key", "texts"), GOLDEN.items(), ids=[name for name, _, _ in GOLDEN])
def test_a_template_renders_as_written_by_hand(key, texts):
    name, template, example = key
    found = load_set(name)
    rendered = Engine(found).render("id", found.examples[example], which=template)[0]
    assert [message["content"] for message in rendered.messages] == texts


def test_the_columns_of_the_hub_fit_as_well_as_those_of_the_files():
    pairs: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
        (
            "flan/natural_language_inference/rte",
            {"sentence1": "a b", "sentence2": "c", "label": 1, "idx": 4},
            {"index": "4", "sentence1": "a b", "sentence2": "c", "label": "not_entailment"},
        ),
        ("flan/sentiment/sst2", {"sentence": "a film", "label": 1, "idx": 0}, {"sentence": "a film", "label": "1"}),
        (
            "flan/closed_book_qa/web_questions",
            {"url": "u", "question": "who is it?", "answers": ["A"]},
            {"qId": "q", "qText": "who is it?", "answers": ["A"]},
        ),
        (
            "flan/struct_to_text/e2e_nlg",
            {"meaning_representation": "name[X]", "target": "X is here.", "references": ["X is here."]},
            {"mr": "name[X]", "ref": "X is here."},
        ),
        (
            "pools/dolly",
            {"instruction": "i", "context": "c", "response": "r", "category": "k"},
            {"instruction": "i", "input": "c", "output": "r", "category": "k"},
        ),
        ("pools/prompt_completion", {"prompt": "p ", "completion": " c"}, {"prompt": "p", "response": "c"}),
    ]
    for name, hub, file in pairs:
        engine = Engine(load_set(name))
        assert engine.record(hub) == engine.record(file)
        assert engine.render("id", hub, which="all") == engine.render("id", file, which="all")


# --- real rows ---------------------------------------------------------------------------------------------------------

REAL = {
    "flan/natural_language_inference/rte": "rte_glue/train.tsv.gz",
    "flan/sentiment/sst2": "sst2/train.tsv.gz",
    "flan/closed_book_qa/web_questions": "webquestions/trainmodel.json.gz",
    "flan/struct_to_text/e2e_nlg": "e2e_nlg/devset.csv.gz",
    "cot/gsm8k": "gsm8k/train.jsonl.gz",
    "pools/alpaca": "alpaca_union/alpaca_union.jsonl.gz",
    "pools/dolly": "alpagasus/dolly_3k.json.gz",
    "pools/messages": "lima/lima_data.jsonl.gz",
    "pools/conversations": "fastchat_dummy/dummy_conversation.json.gz",
}


def rows(path: Path) -> list[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        if path.name == "train.tsv.gz" and path.parent.name == "sst2":
            return [dict(zip(("sentence", "label"), line.rstrip("\n").split("\t"), strict=True)) for line in lines]
        if path.name.endswith(".tsv.gz"):
            return list(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))
        if path.name.endswith(".csv.gz"):
            return list(csv.DictReader(lines))
        return [json.loads(line) for line in lines] if path.name.endswith(".jsonl.gz") else json.load(lines)


@pytest.mark.shared
@pytest.mark.parametrize("name", REAL)
def test_real_rows_go_through_every_template(name):
    path = Path(os.environ.get("TAMIS_DATA", "")) / REAL[name]
    if not path.is_file():
        pytest.skip("set TAMIS_DATA to the folder of data sets")
    found: TemplateSet = load_set(name)
    engine, unseen = Engine(found), {template.name for template in found.templates}
    for i, row in enumerate(rows(path)[:400]):
        record = engine.record(row)
        assert record.prompt
        assert record.response
        unseen -= {rendered.template for rendered in engine.render(f"row {i}", row, which="all")}
    assert unseen == set()


def test_the_guide_to_writing_templates_names_every_key_and_filter():
    from curate.render.cleanup import FILTERS
    from curate.render.template import _SET_KEYS, _TEMPLATE_KEYS

    guide = (library("templates") / "README.md").read_text("utf-8")
    for word in [*_SET_KEYS, *_TEMPLATE_KEYS, *FILTERS]:
        assert f"`{word}" in guide, word


def test_the_example_of_the_guide_is_a_good_set(tmp_path):
    guide = (library("templates") / "README.md").read_text("utf-8")
    (tmp_path / "mine.yaml").write_text(re.findall(r"```yaml\n(.*?)```", guide, re.DOTALL)[0], "utf-8")
    assert findings(["mine.yaml"], tmp_path) == []
    rendered = Engine(load_set("mine.yaml", tmp_path)).render(
        "id", {"name": "Chad", "capital": {"title": "N'Djamena"}}
    )[0]
    assert rendered.messages[0]["content"] == "You look up Chad in an atlas.\nWhich city is printed in red?"
    assert rendered.messages[1]["content"] == "N'Djamena"
