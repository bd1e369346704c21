"""Templates turned around by rule."""

from __future__ import annotations

from pathlib import Path

import orjson
import polars as pl
import pytest

from curate.contract.errors import RowSkipped
from curate.render.rows import render_rows
from curate.rows.table import MESSAGES_TYPE
from curate.template.engine import Engine
from curate.template.invert import derive
from curate.template.sets import TemplateSet, load_set, names

HEAD = """\
dataset: made
about: Made up for a test.
columns: {text: text, title: title, label: label}
record: {prompt: "{{ text }}", response: "{{ answer }}"}
choices: ["no", "yes"]
answer: label
example: {text: a, title: b, label: 0}
templates:
"""
ROW = {"text": "one two three four five six seven", "title": "a b c d e f g", "label": 1}


def made(tmp_path: Path, *templates: dict[str, str]) -> TemplateSet:
    path = tmp_path / "made.yaml"
    lines = [
        f"  - {orjson.dumps({'name': f't{i}', 'kind': 'forward', 'style': 'plain', 'target': '{{ answer }}', **t}).decode()}\n"
        for i, t in enumerate(templates)
    ]
    path.write_text(HEAD + "".join(lines), "utf-8")
    return load_set(str(path))


def test_each_role_that_is_printed_gives_an_inversion_of_its_own(tmp_path):
    inversions = derive(made(tmp_path, {"input": "{{ title }}: {{ text }}\nRight?\n{{ options }}"}))
    assert [(one.name, one.kind, one.inversion_of) for one in inversions] == [
        ("t0~text", "inverted", "t0"),
        ("t0~title", "inverted", "t0"),
    ]


def test_the_prompt_holds_the_answer_the_other_roles_and_a_gap_and_the_target_is_the_role(tmp_path):
    template_set = made(
        tmp_path, {"input": "{{ title }}: {{ text }}\nRight?\n{{ options }}", "target": "I say {{ answer }}."}
    )
    rendered = Engine(template_set, inversions=1.0).render("id", ROW, which="t0~text")[0]
    prompt = rendered.messages[0]["content"]
    assert rendered.kind == "inverted"
    assert rendered.messages[1]["content"] == ROW["text"]
    assert "a b c d e f g: […]\nRight?" in prompt
    assert "I say yes." in prompt
    assert '"one two three"' in prompt
    assert "7 words" in prompt
    assert ROW["text"] not in prompt
    assert (rendered.choices, rendered.options_style) == (None, None)


@pytest.mark.parametrize(
    "template",
    [
        {"input": "{{ text }}", "kind": "inverted", "target": "{{ title }} {{ answer }}"},
        {"input": "{{ text }} {% if text %}x{% endif %}"},
        {"input": "{{ text | first_words(2) }}"},
        {"input": "{{ text ~ title }}"},
        {"input": "{{ text }}", "when": "text"},
        {"input": "{{ text }}", "target": "{{ title }}: {{ answer }}"},
        {"input": "{{ text }} […]"},
    ],
)
def test_what_cannot_be_blanked_is_not_turned_around(tmp_path, template):
    assert [one.name for one in derive(made(tmp_path, template)) if one.name == "t0~text"] == []


def test_a_short_role_is_not_asked_for(tmp_path):
    engine = Engine(made(tmp_path, {"input": "{{ text }}"}), inversions=1.0)
    with pytest.raises(RowSkipped, match="does not apply"):
        engine.render("id", {**ROW, "text": "one two three four five"}, which="t0~text")
    assert engine.render("id", {**ROW, "text": "one two three four five"})[0].template == "t0"


def test_no_more_words_are_asked_for_than_are_given(tmp_path):
    engine = Engine(made(tmp_path, {"input": "Title: {{ title }}. Text: {{ text }}"}), inversions=1.0)
    given = 9 + 1  # "Title: a b c d e f g. Text:" and the gap
    long = " ".join(["word"] * (given + 40))
    with pytest.raises(RowSkipped, match="does not apply"):
        engine.render("id", {**ROW, "text": long}, which="t0~text")
    rendered = engine.render("id", {**ROW, "text": " ".join(["word"] * 8)}, which="t0~text")[0]
    assert len(rendered.messages[1]["content"].split()) <= len(rendered.messages[0]["content"].split())


def test_the_share_is_of_the_records_and_without_it_no_record_is_turned_around(tmp_path):
    rows = pl.DataFrame(
        {
            "id": [f"{i:032x}" for i in range(2_000)],
            "template_set": ["flan/natural_language_inference/rte"] * 2_000,
            "fields": [
                orjson.dumps(
                    {
                        "sentence1": f"It rained {i} times in the long and dark winter.",
                        "sentence2": "It rained.",
                        "label": 0,
                    }
                ).decode()
                for i in range(2_000)
            ],
        }
    ).with_columns(pl.lit(None, MESSAGES_TYPE).alias("messages"))
    plain, _ = render_rows(rows, inversions=0)
    turned, _ = render_rows(rows, inversions=0.3)
    inverted = turned["template_kind"] == "inverted"
    derived = turned["template"].str.contains("~", literal=True)
    assert not (plain["template_kind"] == "inverted").any()
    assert 0.27 < inverted.mean() < 0.33  # type: ignore[operator]
    assert 0.12 < derived.mean() < 0.18  # type: ignore[operator]
    assert turned.filter(derived)["template"].str.ends_with("~premise").all()  # the hypothesis is too short
    assert turned.filter(~inverted).equals(plain.filter(~inverted))


def test_no_inversion_of_the_library_s_examples_gives_its_target_away_or_asks_for_more_than_it_gives():
    tried = 0
    for name in names()[::4]:
        template_set = load_set(name)
        engine = Engine(template_set)
        for fields in template_set.examples:
            for one in (one for row in engine.unfold(fields) for one in engine.render("id", row, which="every")):
                if "~" in one.template:
                    tried += 1
                    asked, target = one.messages[-2]["content"], one.messages[-1]["content"]
                    assert target not in asked, (name, one.template)
                    assert len(target.split()) <= len(asked.split()), (name, one.template)
    assert tried > 20
