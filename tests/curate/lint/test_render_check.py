"""The rules of `tamis templates check`: each finds its own mistake and nothing else."""

from __future__ import annotations

import pytest
from conftest import MOOD

from curate.lint.check import findings, listing, rendered_example
from curate.template.sets import names

GOOD = MOOD.replace("}}\\n{{ options", "}}\\nSad or glad?\\n{{ options") + (
    '  - {name: turn, kind: inverted, style: plain, input: "{{ note }} Write something {{ answer }} about it.", '
    'target: "{{ line }}"}\n'
)


def check(tmp_path, text: str) -> list[tuple[str, str, str]]:
    (tmp_path / "set.yaml").write_text(text, "utf-8")
    return [
        (finding["rule"], finding["where"].rsplit(":", 1)[1], finding["why"])
        for finding in findings(["set.yaml"], tmp_path)
    ]


def test_a_good_set_has_no_findings(tmp_path):
    assert check(tmp_path, GOOD) == []


@pytest.mark.parametrize(
    ("template", "rule", "why"),
    [
        ('{name: x, kind: inverted, style: plain, input: "Write a line of seven words or so.", target: "{{ line }}", when: label}', "constant-prompt", "reads nothing of the row"),
        ('{name: x, kind: forward, style: plain, input: "{{  line}}\\nSad or glad?\\n{{ options }}", target: "{{ANSWER}}"}', "undefined-role", "`ANSWER`"),
        ('{name: x, kind: forward, style: plain, input: "{{line}}\\nSad or glad?\\n{{options}}", target: "{{ answer}}"}', "duplicate-template", "says the same as 'ask'"),
        ('{name: x, kind: forward, style: plain, input: "{{ line }} Glad, or sad? {{ answer }}!", target: "{{ answer }}"}', "leaked-answer", "gives its target away"),
        ('{name: x, kind: inverted, style: plain, input: "Repeat: {{ line }}", when: label, target: "{{ line }}"}', "inverted-leak", "gives its target away"),
        ('{name: x, kind: forward, style: plain, input: "{{ line }}", target: "{{ note }}"}', "answer-not-asked", "its target is no choice"),
        ('{name: x, kind: forward, style: plain, when: label == 0, input: "Is this sad or glad: {{ line }}", target: "{{ answer }}"}', "example", "applies to none of the examples"),
    ],
)  # fmt: skip
def test_each_rule_finds_its_mistake_at_its_line(tmp_path, template, rule, why):
    entries = check(tmp_path, f"{GOOD}  - {template}\n")
    assert [entry[:2] for entry in entries] == [(rule, "12")]
    assert why in entries[0][2]


def test_an_example_that_does_not_render_is_found_at_its_line(tmp_path):
    assert check(tmp_path, GOOD.replace("label: 1}", "label: 2}")) == [
        ("example", "8", "the example does not render: the answer '2' is none of the 2 choices")
    ]
    assert "the column `line` is missing" in check(tmp_path, GOOD.replace("{line: we", "{lime: we"))[0][2]


def test_a_file_that_cannot_be_read_is_a_finding_too(tmp_path):
    assert findings(["none.yaml"], tmp_path)[0]["rule"] == "name"
    assert check(tmp_path, "a: 1\na: 2")[0][0] == "yaml"


def test_the_listing_and_the_examples_cover_the_library():
    rows = listing()
    assert [row["name"] for row in rows] == names()
    sst2 = next(row for row in rows if row["name"] == "flan/sentiment/sst2")
    assert (sst2["inverted"], sst2["choices"]) == (2, "negative, positive")
    shown = rendered_example("flan/sentiment/sst2")
    assert len(shown) == sst2["templates"] > 10
    assert {"template", "kind", "messages", "choices", "answer"} <= shown[0].keys()
