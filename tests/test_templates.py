"""The library: every set is checked, every template is told apart from every other, and one of each is known by heart."""

from __future__ import annotations

import os
import re
from itertools import combinations, islice
from pathlib import Path
from typing import Any

import pytest

from curate.contract.errors import RowSkipped
from curate.contract.paths import library
from curate.contract.strict_yaml import read
from curate.lint import check
from curate.lint.check import findings
from curate.lint.pieces import four_grams, literal
from curate.load import files
from curate.template.engine import Engine
from curate.template.sets import Template, TemplateSet, load_set, names

FLAN = [name for name in names() if name.startswith("flan/")]
COT = [name for name in names() if name.startswith("cot/")]
NOT_ON_THE_HUB = {
    "flan/summarization/opinion_abstracts_idebate",
    "flan/summarization/opinion_abstracts_rotten_tomatoes",
    "cot/qed",
    "cot/sensemaking",
}
FLAN_2021 = {  # arXiv 2109.01652, figure 3, with the tasks that only the released code has; wmt16 is six pairs, arc two sets
    "natural_language_inference": "anli cb mnli qnli rte snli wnli",
    "commonsense": "copa hellaswag piqa story_cloze",
    "sentiment": "imdb_reviews sentiment140 sst2 yelp_polarity_reviews",
    "paraphrase": "mrpc qqp paws_wiki stsb",
    "closed_book_qa": "arc natural_questions trivia_qa",
    "struct_to_text": "common_gen dart e2e_nlg web_nlg_en",
    "reading_comprehension": "bool_q drop multirc openbookqa squad squad_v2",
    "reading_comprehension_with_commonsense": "cosmos_qa record",
    "coreference": "definite_pronoun_resolution winogrande wsc wsc273",
    "miscellaneous": "coqa quac wic trec cola math_dataset fix_punct true_case word_segment",
    "summarization": "aeslc ag_news_subset cnn_dailymail gigaword multi_news newsroom opinion_abstracts_idebate "
    "opinion_abstracts_rotten_tomatoes samsum wiki_lingua_english_en xsum",
    "translation": "para_crawl_enes wmt14_enfr wmt16_translate",
}
POOLS = {
    "community_qa",
    "superni",
    "alpaca",
    "conversations",
    "docstrings",
    "dolly",
    "inputs_targets",
    "messages",
    "prompt_completion",
}


@pytest.mark.parametrize("name", names())
def test_a_set_has_no_findings(name):
    assert findings([name]) == []


def test_the_sets_that_recipes_name_are_there():
    assert {f"pools/{name}" for name in POOLS} <= set(names())
    flan = {f"flan/{cluster}/{dataset}" for cluster, datasets in FLAN_2021.items() for dataset in datasets.split()}
    assert flan <= set(FLAN)
    assert {load_set(name).task_cluster for name in FLAN} == set(FLAN_2021)
    cot = "aqua creak ecqa esnli gsm8k qasc qed sensemaking strategyqa"  # arXiv 2301.13688
    assert [f"cot/{name}" for name in cot.split()] == COT


@pytest.mark.parametrize("name", [*FLAN, *COT])
def test_a_dataset_has_ten_templates_of_mixed_kinds_and_styles(name):
    template_set = load_set(name)
    assert len(template_set.templates) >= 10
    assert 1 <= sum(template.kind == "inverted" for template in template_set.templates) <= (3 if name in FLAN else 4)
    assert 3 <= sum(template.style == "canonical" for template in template_set.templates) <= 5
    assert sum(template.style == "detailed" for template in template_set.templates) >= 2
    assert sum(template.style == "terse" for template in template_set.templates) >= 2
    assert template_set.license is not None
    assert (template_set.hub is None) == (name in NOT_ON_THE_HUB)


NAMED = {  # the words by which people name a task; a set of another task than its cluster's has its own
    "summarization": "summar",
    "sentiment": "sentiment|positive or negative",
    "paraphrase": "same|equivalent|duplicate|paraphras",
    "natural_language_inference": "entail|premise|hypothesis|follow|imply|implie|contradict",
    "translation": "translat",
    "closed_book_qa": "question|answer",
    "reading_comprehension": "passage|answer|question",
    "reading_comprehension_with_commonsense": "passage|answer|question",
    "coreference": "refer|pronoun",
    "struct_to_text": "sentence|describe|text",
    "commonsense": "choose|which|best|likely",
    "aeslc": "subject line",
    "ag_news_subset": "topic|categor|section|belong",
    "gigaword": "headline|summar",
    "newsroom": "headline|title|summar",
    "stsb": "similar|same",
    "trec": "classify|question|category",
    "cola": "grammatical|acceptable",
    "wic": "same meaning|same sense|meaning",
    "math_dataset": "solve|calculate|compute|answer",
    "fix_punct": "punctuat",
    "true_case": "capital|case",
    "word_segment": "space|word",
    "coqa": "answer|question",
    "quac": "answer|question",
}


def test_a_set_asks_for_its_task_by_the_words_that_people_use():
    few = {}
    for name in FLAN:
        _, cluster, dataset = name.split("/")
        words = re.compile(rf"\b(?:{NAMED.get(dataset) or NAMED.get(cluster, 'answer|question')})", re.IGNORECASE)
        templates = [one for one in load_set(name).templates if one.kind == "forward"]
        said = [any(words.search(literal(source)) for _, source in one.messages[:-1]) for one in templates]
        if sum(said) < 3 or not all(
            words.search(literal("\n".join(source for _, source in one.messages[:-1])))
            for one in templates
            if one.style == "canonical"
        ):
            few[name] = sum(said)
    assert few == {}


@pytest.mark.parametrize("name", [name for name in FLAN if load_set(name).choices])
def test_choices_are_shown_in_some_templates_and_not_in_others(name):
    forward = [template for template in load_set(name).templates if template.kind == "forward"]
    assert 3 <= sum("options" in template.input_reads for template in forward) <= len(forward) - 3


def test_docstrings_have_templates_for_every_section_and_some_turned_around():
    docstrings = load_set("pools/docstrings")
    sections = {example["section"] for example in docstrings.examples}
    assert sections == {"summary", "parameters", "returns", "raises", "examples", "notes"}
    engine = Engine(docstrings)
    for example in docstrings.examples:
        kinds = [rendered.kind for rendered in engine.render("id", example, which="all")]
        assert kinds.count("forward") >= 3, example["section"]
    assert sum(template.kind == "inverted" for template in docstrings.templates) >= 3


def test_four_grams_are_of_literal_words_and_do_not_span_a_role():
    template = Template(
        "t", "forward", "plain", (("user", "Say in {{ x }} plain English what it is."), ("assistant", "{{ y }}"))
    )
    assert four_grams(template) == {("plain", "english", "what", "it"), ("english", "what", "it", "is")}


def test_no_two_templates_share_more_than_two_fifths_of_their_words_but_canonical_ones_of_two_sets():
    grams = {
        (name, template.name, template.style): four_grams(template)
        for name in names()
        for template in load_set(name).templates
    }
    alike = [
        (one, other, len(grams[one] & grams[other]) / min(len(grams[one]), len(grams[other])))
        for one, other in combinations(grams, 2)
        if grams[one] and grams[other] and (one[0] == other[0] or "canonical" not in (one[2], other[2]))
    ]
    assert len(alike) > 1_000
    assert [pair for pair in alike if pair[2] > 0.4] == []


# --- one template of each set, rendered by hand ------------------------------------------------------------------------

GOLDEN = Path(__file__).parent / "golden"


def golden(name: str) -> dict[str, Any]:
    """template, example (its number), messages; `canonical`: the same of each canonical template; and where real rows are at
    hand, `real`: options of the source `files`."""
    return read(GOLDEN / f"{name}.yaml").data


def test_every_set_has_a_golden_rendering():
    known = (path.relative_to(GOLDEN).with_suffix("").as_posix() for path in GOLDEN.rglob("*.yaml"))
    assert sorted(known) == names()


@pytest.mark.parametrize("name", names())
def test_a_template_renders_as_written_by_hand(name):
    template_set, by_hand = load_set(name), golden(name)
    example = template_set.examples[by_hand["example"]]
    engine = Engine(template_set)
    rendered = engine.render("id", engine.unfold(example)[0], which=by_hand["template"])[0]
    assert [message["content"] for message in rendered.messages] == by_hand["messages"]


@pytest.mark.parametrize("name", [*FLAN, *COT])
def test_every_canonical_template_renders_as_written_by_hand(name):
    template_set, by_hand = load_set(name), golden(name)["canonical"]
    engine = Engine(template_set)
    for entry in by_hand:
        fields = engine.unfold(template_set.examples[entry["example"]])[0]
        rendered = engine.render("id", fields, which=entry["template"])[0]
        assert [message["content"] for message in rendered.messages] == entry["messages"], entry["template"]
    canonical = [template.name for template in template_set.templates if template.style == "canonical"]
    assert [entry["template"] for entry in by_hand] == canonical


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


@pytest.mark.shared
@pytest.mark.parametrize("name", [name for name in names() if "real" in golden(name)])
def test_real_rows_go_through_every_template(name):
    data = Path(os.environ.get("TAMIS_DATA", ""))
    if not data.joinpath(golden(name)["real"]["path"]).is_file():
        pytest.skip("set TAMIS_DATA to the folder of data sets")
    template_set: TemplateSet = load_set(name)
    engine, unseen, kept = Engine(template_set), {template.name for template in template_set.templates}, 0
    for i, raw in enumerate(islice(files.load(**golden(name)["real"], data=data), 400)):
        try:
            record = engine.record(raw.fields or {})
            renderings = engine.render(f"row {i}", raw.fields or {}, which="all")
        except RowSkipped:
            continue
        assert record.prompt
        assert record.response
        unseen -= {rendered.template for rendered in renderings}
        kept += 1
    assert unseen == set()
    assert kept > 200


def test_a_dataset_is_called_verified_only_where_real_rows_are_named():
    datasets = [name for name in names() if not name.startswith("pools/")]
    verified = {name: load_set(name).verified for name in datasets if load_set(name).verified}
    assert [name for name in verified if "real" not in golden(name)] == []
    assert "hub" not in verified.values()  # until `check --hub` has seen one


def test_the_readme_counts_the_library_as_it_is():
    readme = " ".join((Path(__file__).parents[1] / "README.md").read_text("utf-8").split())
    assert check.summary(check.listing()) in readme
    assert f"# {len(check.rules())} rules:" in readme


def test_the_guide_to_writing_templates_names_every_key_and_filter():
    from curate.template.cleanup import FILTERS
    from curate.template.sets import SET_KEYS, TEMPLATE_KEYS

    guide = (library("templates") / "README.md").read_text("utf-8")
    for word in [*SET_KEYS, *TEMPLATE_KEYS, *FILTERS]:
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


@pytest.mark.shared
def test_gsm8k_s_own_rows_and_flan_s_copy_of_them_say_the_same():
    data = Path(os.environ.get("TAMIS_DATA", ""))
    own, copy = data / "gsm8k" / "train.jsonl.gz", data / "flan_cot_tsv" / "gsm8k_train.tsv.gz"
    if not (own.is_file() and copy.is_file()):
        pytest.skip("set TAMIS_DATA to the folder of data sets")
    engine, ours = Engine(load_set("cot/gsm8k")), {}
    for raw in files.load(path=str(own.relative_to(data)), data=data):
        roles = engine.roles(raw.fields or {})
        ours[letters(roles["question"])] = (letters(roles["steps"]), roles["result"])
    header = ["question", "answer", "rationale"]
    rows = [raw.fields or {} for raw in files.load(path=str(copy.relative_to(data)), header=header, data=data)]
    pairs = [(ours[letters(row["question"])], row) for row in rows if letters(row["question"]) in ours]
    assert len(pairs) == len(rows) == 7_473
    # FLAN puts spaces around operators, and full stops and line breaks are its own
    same = sum(steps == letters(row["rationale"].replace("\\n", " ")) for (steps, _), row in pairs)
    assert same > 0.95 * len(rows)
    assert sum(letters(result) == letters(row["answer"]) for (_, result), row in pairs) > 0.99 * len(rows)


def letters(text: str) -> str:
    return re.sub(r"[\W_]+", "", text)


def test_rows_as_their_authors_publish_them_fit_as_well_as_the_hub_s():
    tripleset = [["[TABLECONTEXT]", "WINNER", "Tern"], ["Tern", "HOME_PORT", "Ribe"]]
    texts = ["Tern , from Ribe , won .", "The winner was Tern of Ribe ."]
    dart = [
        {"tripleset": tripleset, "annotations": {"source": ["lily", "mturk"], "text": texts}},
        {
            "tripleset": tripleset,
            "subtree_was_extended": False,
            "annotations": [{"source": "lily", "text": texts[0]}, {"source": "mturk", "text": texts[1]}],
        },
        {"tripleset": tripleset, "target": texts[0], "references": texts},
    ]
    asked: dict[str, Any] = {"question": "Can a tern outlive a cat?", "answer": False}
    facts = ["Terns live for 30 years.", "Few cats live for 20."]
    strategyqa = [
        {"question": "Can a tern outlive a cat?", "answer": "no", "rationale": " ".join(facts)},
        {"qid": "a1", "term": "Tern", "description": "seabird", **asked, "facts": " ".join(facts)},
        {"qid": "a1", "term": "Tern", **asked, "facts": facts, "decomposition": ["How old?"], "evidence": [[["x"]]]},
        {**asked, "facts": ["Terns live for 30 years", "", " few cats live for 20"]},
    ]
    for name, rows in {"flan/struct_to_text/dart": dart, "cot/strategyqa": strategyqa}.items():
        engine = Engine(load_set(name))
        for row in rows[1:]:
            assert engine.record(row) == engine.record(rows[0])
            assert engine.render("id", row, which="all") == engine.render("id", rows[0], which="all")
    engine = Engine(load_set("flan/struct_to_text/dart"))
    assert engine.record(dart[1]).response == "Tern, from Ribe, won."
    written = [one.references for one in engine.render("id", dart[1], which="all") if one.kind == "forward"]
    assert written
    assert all(one == ["Tern, from Ribe, won.", "The winner was Tern of Ribe."] for one in written)
    engine = Engine(load_set("cot/strategyqa"))
    assert engine.record(strategyqa[2]).response == "Terns live for 30 years. Few cats live for 20.\nno"
    with pytest.raises(RowSkipped):
        engine.record({**asked, "facts": []})
