"""Every rule of `tamis templates check` has a fixture that trips it and a twin, a step away, that does not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from conftest import MOOD

from curate.contract.errors import RequestError, SourceError
from curate.lint.check import READING, findings, rules
from curate.lint.hub_rules import Fetched, fetch
from curate.lint.pieces import pieces, whole_roles
from curate.lint.wording_rules import wrong_article
from curate.template.sets import names

HEAD = MOOD.replace("}}\\n{{ options", "}}\\nSad or glad?\\n{{ options")
FREE = """\
dataset: towns
about: Which town is meant?
license: mit
columns: {text: text, town: town}
record: {prompt: "{{ text }}", response: "{{ town }}"}
answer: town
example: {text: It lies on the Elbe and has a long harbour., town: the free city of Hamburg}
templates:
  - {name: ask, kind: forward, style: plain, input: "{{ text }} Which town?", target: "{{ answer }}"}
"""


class Case(NamedTuple):
    bad: str
    good: str
    rows: list[dict[str, Any]] | None = None  # real rows for both
    good_rows: list[dict[str, Any]] | None = None  # other rows for the twin


def one(input: str, target: str = "{{ answer }}", kind: str = "forward", head: str = HEAD, more: str = "") -> str:
    """A set with one more template. Of HEAD, a forward one says the label words."""
    if kind == "forward" and "glad" not in input.lower() and (head == HEAD or not head):
        input += "\nSad or glad?"
    entry = {"name": "x", "kind": kind, "style": "plain", "input": input, "target": target}
    return f"{head}  - {json.dumps(entry, ensure_ascii=False)[:-1]}{more}}}\n"


def two(bad: str, good: str, **rest: Any) -> Case:
    """Two inputs of a forward template."""
    return Case(one(bad, **rest), one(good, **rest))


def changed(old: str, bad: str, good: str, text: str = HEAD) -> Case:
    """Two versions of one line of a set."""
    assert old in text
    return Case(text.replace(old, bad), text.replace(old, good))


def many(n: int, row: Callable[[int], dict[str, Any]]) -> list[dict[str, Any]]:
    return [row(i) for i in range(n)]


def mood(i: int, **other: Any) -> dict[str, Any]:
    return {"line": f"line {i} of the song", "note": f"note {i}", "label": i % 2} | other


OTHERS = [
    one(words, head="").replace('"x"', f'"x_{i}"')
    for i, words in enumerate(["Of this: {{ line }}", "{{ note }}", "Well, {{ note | upper }}"])
]
LONG = "The ferry was late again and nobody on the pier knew why it had to be."
CASES: dict[str, Case] = {
    # while reading
    "name": Case("", ""),
    "yaml": Case("a: 1\na: 2\n", HEAD),
    "unknown-key": changed("license: mit", "licence: mit", "license: mit"),
    "missing-key": changed("about: Is the line glad or sad?\n", "", "about: Is it?\n"),
    "wrong-type": changed("license: mit", "license: 3", 'license: "3"'),
    "unknown-value": changed("style: plain", "style: ornate", "style: terse"),
    "role-name": changed("note: note,", "note: note, the-note: note,", "note: note | trim,"),
    "undefined-role": two("{{ lime }}?\n{{ options }}", "{{ line }}:\n{{ options }}"),
    "jinja": two("{{ line | shout }}", "{{ line | upper }}"),
    "sandbox": two("{{ line.__class__ }}", "{{ line }}"),
    "unseeded-randomness": two("{{ [line, note] | random }}", "{{ [line, note] | first }}"),
    "choices": changed('choices: ["sad", "glad"]', 'choices: ["sad"]', 'choices: ["glad", "sad"]'),
    "inverted-options": Case(
        one("{{ note }}\n{{ options }}", "{{ answer }}", "inverted"),
        one("{{ note }} {{ answer }}", "{{ line }}", "inverted"),
    ),
    "options-without-answer": Case(
        one("{{ line }} Well?\n{{ options }}", "{{ note }}"), one("{{ line }} Well?\n{{ options }}")
    ),
    "templates-or-messages": Case(HEAD.split("templates:")[0], HEAD),
    "message-roles": Case(
        HEAD + '  - {name: x, kind: forward, style: plain, messages: [{role: user, content: "{{ line }}"}]}\n',
        HEAD + "  - {name: x, kind: forward, style: plain, messages: "
        '[{role: user, content: "Sad or glad: {{ line }}"}, {role: assistant, content: "{{ answer }}"}]}\n',
    ),
    "duplicate-name": Case(one("{{ note }}: {{ line }}") + one("How is {{ line }}", head="").replace("x\"", "ask\"", 1), HEAD),
    # words
    "single-brace": two("Say what {line} is: {{ line }}", "Say what {it} is: {{ line }}"),
    "stray-escape": two("Look:\\n{{ line }}", "Look at C:\\new: {{ line }}"),
    "html-entity": two("Salt &amp; pepper: {{ line }}", "Salt & pepper: {{ line }}"),
    "odd-character": two("Say\u00a0so: {{ line }}", "Say so: {{ line }}"),
    "repeated-word": two("What is the the mood of {{ line }}", "What is the mood of {{ line }}"),
    "white-space": two("Mood: \n{{ line }}", "Mood:\n{{ line }}"),
    "unbalanced": two('He said: "{{ line }} (in short)', 'He said: "{{ line }}" a) in short :)'),
    "glued": two("Verse{{ line }}", "Verse {{ line }}"),
    "unknown-filter": two("{{ line if note else line | shout }}", "{{ line if note else line | upper }}"),
    "above-below": two("{{ line }} How sad is the text below?", "{{ line }} How sad is the text above?"),
    "article": Case(
        one('Make an {{ answer }} line of "{{ note }}"', "{{ line }}", "inverted"),
        one('Make "{{ note }}" {{ answer }}', "{{ line }}", "inverted"),
    ),
    "double-punctuation": Case(
        one("{{ text }}. Which town?", head=FREE), one("{{ text }} Which town…?", head=FREE)
    ),
    # prompts
    "constant-prompt": two("Pick one.\n{{ options }}", "Pick one for {{ line }}\n{{ options }}"),
    "label-only-prompt": Case(
        one("Write something {{ answer }}, of seven words or so.", "{{ line }}", "inverted"),
        one("Write something {{ answer }} that begins so: {{ line | first_words(1) }}.", "{{ line }}", "inverted"),
    ),
    "duplicate-template": two("{{line}}\nSad or glad?\n{{options}}", "{{note}}\nGlad or sad?\n{{options}}"),
    "near-duplicate": Case(
        one("How did the singer feel about {{ line }}") + one("How did the singer feel there: {{ note }}", head="").replace("x\"", "y\"", 1),
        one("How did the singer feel about {{ line }}") + one("Mood of the writer, given {{ note }}", head="").replace("x\"", "y\"", 1),
    ),
    "leaked-answer": Case(
        one("{{ text }} So it is {{ town }}. Which town?", head=FREE),
        one("{{ text }} So it begins with {{ town | first_words(1) }}. Which town?", head=FREE),
    ),
    "inverted-leak": Case(
        one("Say of {{ answer }} this: {{ text }}", "{{ text }}", "inverted", FREE),
        one("Say something of {{ answer }}, in ten words", "{{ text }}", "inverted", FREE),
    ),
    "constant-target": Case(
        one("{{ answer }}: {{ line }}", "Done", "inverted"), one("{{ answer }}: {{ line }}", "Done: {{ note }}", "inverted")
    ),
    "answer-not-asked": Case(one("{{ line }}", "{{ note }}"), one("{{ answer }}: {{ line }}", "{{ note }}", "inverted")),
    "inverted-without-answer": Case(
        one("{{ line }}", "{{ note }}", "inverted"), one("{{ line }} {{ answer }}", "{{ note }}", "inverted")
    ),
    "cot-without-reasons": Case(one("{{ line }}", kind="cot"), one("{{ line }}", "{{ note }} So: {{ answer }}", "cot")),
    "swapped-roles": two("Line: {{ note }}\nNote: {{ line }}", "Line: {{ line }}\nNote: {{ note }}"),
    # options, labels
    "options-not-shown": Case(
        one("{{ line }} Pick one of the options below.").replace("below.\\nSad or glad?", "below."),
        one("{{ line }} Sad or glad? The options below: sad, glad."),
    ),
    "options-inline": two("{{ line }} Is it {{ options }}?", "{{ line }} Is it?\n{% if line %}{{ options }}{% endif %}"),
    "options-left-hanging": two(
        "{{ line }} Pick from the options below.\n{{ options }}",
        "{{ line }}{% if options %} Pick from the options below.{% endif %}\n{{ options }}",
    ),
    "prescribed-words": two("{{ line }} Answer sad or glad.\n{{ options }}", "{{ line }} Answer sad or glad."),
    "choices-alike": changed('["sad", "glad"]', '["glad", "Glad?"]', '["sad", "sad or glad"]'),
    "unknowable-labels": two(
        "{{ line }} What do you hear in it: glad tones?\n{{ options }}",
        "{{ line }}{% if not options %} Sad tones, or glad ones?{% endif %}\n{{ options }}",
    ),
    "printed-label-role": two("{{ line }} ({{ label }})", "{{ line }} ({{ note }})"),
    "label-condition": two("{{ line }}{% if label %} Oh!{% endif %}", "{{ line }}{% if note %} Oh!{% endif %}"),
    "permuted-labels": Case(
        one("{{ line }} What is it not?", more=', "choices": ["glad", "sad"]'),
        one("{{ line }} What is it?", more=', "choices": ["Sad", "Glad"]'),
    ),
    "label-order": changed(
        "label: label}", "label: 'label | label_index(\"glad\", \"sad\")'}", "label: 'label | label_index(\"sad\", \"glad\")'}"
    ),
    "label-count": changed(
        "label: label}", "label: 'label | label_index(\"a\", \"b\", \"c\")'}", "label: 'label | label_index(\"a\", \"b\")'}"
    ),
    # the set
    "metric-mismatch": changed("license: mit", "license: mit\nmetrics: [bleu]", "license: mit\nmetrics: [accuracy]"),
    "missing-license": changed("license: mit", "hub: {path: a/b}", "license: mit\nhub: {path: a/b}"),
    "unused-role": changed("note: note,", "note: note, other: note,", "note: note,"),
    "template-name": changed("name: ask", "name: Ask-It", "name: ask_it"),
    "about-sentence": changed("glad or sad?", "glad or sad", "glad or sad."),
    "no-canonical": changed("style: plain", "style: plain", "style: canonical", HEAD + "".join(OTHERS)),
    # rows
    "example": changed("label: 1}", "label: 2}", "label: 0}"),
    "empty-heading": Case(
        one("Line:\n{{ line }}\nNote: {{ note }}").replace("note: the dancers went home in the morning", 'note: ""'),
        one("Line:\n{{ line }}{% if note %}\nNote: {{ note }}{% endif %}").replace(
            "note: the dancers went home in the morning", 'note: ""'
        ),
    ),
    "empty-gap": Case(
        one("{{ line }}\n\n{{ note }}\n\nMood?").replace("note: the dancers went home in the morning", 'note: ""'),
        one("{{ line }}\n\n{{ note }}\n\nMood?"),
    ),
    "untrimmed-target": Case(
        FREE.replace("town: the free city of Hamburg", 'town: "Hamburg\\n"'), FREE.replace("the free city of ", "")
    ),
    "inverted-enumerator": Case(
        one("Ask something that {{ answer }} answers, in a sentence of ten words.", "{{ text }}", "inverted", FREE).replace("the free city of Hamburg", "B"),
        one("Ask something that {{ answer }} answers, in a sentence of ten words.", "{{ text }}", "inverted", FREE),
    ),
    "inverted-invention": Case(
        one("{{ answer }}: {{ line | first_words(2) }}", "{{ line }}", "inverted"),
        one("Write on. It is to be {{ answer }}, and begins: {{ line | first_words(2) }}", "{{ line }}", "inverted"),
    ),
    "uncalled-method": two("{{ line.strip }} Sad, glad?", "{{ line.strip() }} Sad, glad?"),
    "gold-round-trip": Case(
        FREE.replace("license: mit", "license: mit\nmetrics: [rouge_l]").replace("the free city of Hamburg", '":-)"'),
        FREE.replace("license: mit", "license: mit\nmetrics: [rouge_l, bleu, f1, exact_match]"),
    ),
    "too-long": Case(FREE.replace("long harbour", "long harbour " + "x " * 20_000), FREE),
    # real rows
    "dropped-rows": Case(
        HEAD, HEAD, many(20, lambda i: mood(i, note=None if i % 5 == 0 else "n")), many(20, mood)
    ),
    "failing-rows": Case(
        one("{{ line }}: {{ note.upper() }}"),
        one("{{ line }}: {{ note | upper }}"),
        many(20, lambda i: mood(i, note=i if i == 3 else f"n {i}")),
    ),
    "target-not-choice": Case(HEAD, HEAD, many(60, lambda i: mood(i, label=7 if i == 3 else i % 2)), many(60, mood)),
    "never-drawn": Case(
        one("So: {{ line }}", more=', "when": "label == 1"'),
        one("So: {{ line }}", more=', "when": "label == 1"'),
        many(20, lambda i: mood(i, label=0)),
        many(20, mood),
    ),
    "prompt-collision": Case(
        one("{{ line | first_words(1) }} and so on"), one("{{ line }} and so on"), many(20, mood)
    ),
    "one-answer": Case(HEAD, HEAD, many(60, lambda i: mood(i, label=0)), many(60, mood)),
}  # fmt: skip
HUB_RULES = {"hub-columns", "hub-labels"}


def check(tmp_path: Path, text: str, rows: list[dict[str, Any]] | None = None) -> list[dict[str, str]]:
    (tmp_path / "set.yaml").write_text(text, "utf-8")
    if rows is None:
        return findings(["set.yaml"], tmp_path)
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return findings(["set.yaml"], tmp_path, data="rows.jsonl")


def test_every_rule_has_a_fixture_and_says_what_it_finds():
    assert set(rules()) == CASES.keys() | HUB_RULES
    assert len(rules()) >= 25
    assert all(said[:1].strip() or said for said in rules().values())
    assert set(READING) < set(rules())


@pytest.mark.parametrize("rule", [rule for rule in CASES if rule != "name"])
def test_a_rule_finds_its_mistake_and_leaves_the_twin_alone(tmp_path, rule):
    case = CASES[rule]
    wrong = check(tmp_path, case.bad, case.rows)
    assert rule in {finding["rule"] for finding in wrong}, wrong
    assert check(tmp_path, case.good, case.good_rows or case.rows) == []
    for finding in wrong:
        path, _, line = finding["where"].rpartition(":")
        assert path.endswith("set.yaml")
        assert 1 <= int(line) <= len(case.bad.splitlines())
        assert finding["why"]
        assert finding["mend"]


def test_a_fixture_trips_little_else(tmp_path):
    """Two rules that speak of one mistake are one too many; where both are right, it is written here."""
    both = {
        "missing-license": {"unknown-key"}, "unknown-key": {"missing-key"}, "inverted-options": {"inverted-without-answer"},
        "options-without-answer": {"answer-not-asked"}, "label-order": {"label-count"}, "one-answer": {"prompt-collision"},
        "target-not-choice": {"dropped-rows"}, "dropped-rows": {"target-not-choice"}, "unknown-filter": {"example"},
        "failing-rows": {"never-drawn"}, "glued": {"article"}, "choices-alike": {"gold-round-trip"},
        "options-not-shown": {"unknowable-labels"}, "uncalled-method": {"example"},
    }  # fmt: skip
    for rule, case in CASES.items():
        if rule != "name":
            told = {finding["rule"] for finding in check(tmp_path, case.bad, case.rows)}
            assert told - {rule} <= both.get(rule, set()), rule


def test_a_set_that_is_not_there_is_a_finding(tmp_path):
    assert [finding["rule"] for finding in findings(["none.yaml"], tmp_path)] == ["name"]


def test_the_line_within_a_template_is_told(tmp_path):
    text = (
        HEAD
        + "  - name: x\n    kind: forward\n    style: plain\n    input: |-\n      {{ line }} Sad, glad?\n\n      Say {note} .. so\n    target: '{{ answer }}'\n"
    )
    assert [(f["rule"], f["where"].rsplit(":", 1)[1]) for f in check(tmp_path, text)] == [("single-brace", "17")]


def test_near_duplicates_are_found_across_sets_that_are_checked_together(tmp_path):
    (tmp_path / "other.yaml").write_text(one("How did the singer feel about {{ line }}"), "utf-8")
    (tmp_path / "set.yaml").write_text(one("How did the singer feel about {{ note }}"), "utf-8")
    wrong = findings(["other.yaml", "set.yaml"], tmp_path)
    assert [(f["rule"], Path(f["where"]).name) for f in wrong] == [("near-duplicate", "set.yaml:11")]
    assert findings(["set.yaml"], tmp_path) == []


@pytest.mark.parametrize(
    "text",
    [
        one("{{ text }} Where is the long harbour?", head=FREE.replace("the free city of Hamburg", "on the Elbe and has a")),
        FREE.replace("It lies on", f"{LONG} It is the free city of Hamburg, and lies on"),
        one("Never say: I cannot tell from this. {{ text }}", '{{ answer if text == "" else "I cannot tell from this." }}', head=FREE),
        FREE.replace("text: text,", "text: text, towns: towns,").replace("example: {", "example: {towns: [Bern, the free city of Hamburg], ").replace("Which town?", "Which of {{ towns | join(', ') }}?"),
    ],
)  # fmt: skip
def test_an_answer_that_is_a_stretch_of_a_longer_text_is_no_leak(tmp_path, text):
    assert [finding for finding in check(tmp_path, text) if "leak" in finding["rule"]] == []


def test_the_marks_that_values_bring_are_counted_on_rows(tmp_path):
    text = one("{{ line }}? Sad or glad.")
    assert check(tmp_path, text, many(20, mood)) == []
    assert {f["rule"] for f in check(tmp_path, text, many(20, lambda i: mood(i, line=f"is it {i}?")))} == {
        "double-punctuation"
    }


# --- labels ----------------------------------------------------------------------------------------------------------

YES_NO = HEAD.replace('["sad", "glad"]', '["no", "yes"]').replace("Sad or glad?", "Is it glad?")
SHOWN = "\n{{ options }}"


def told(tmp_path: Path, text: str) -> set[str]:
    return {finding["rule"] for finding in check(tmp_path, text)}


@pytest.mark.parametrize(
    "asked",
    [
        "Is it glad?", "{{ line }} Would you call that a glad line?", "Going by this, is it glad?", "Is this a glad line: {{ line }}",
        "Glad?", "Backed by the words?", "Tell me, is it\nglad?", "{{ line }} Can you say whether it is glad?", "Yes or no:",
        'Is "{{ line }}" a glad thing to say?', "{% if not options %}Yes or no.{% endif %}", "Doesn't it sound glad?", "Glad or not?", "A glad sense of {{ note }}?", "Would you call glad what is said in {{ note }}\nand", "Determine if it is glad.", "Say whether it is glad.",
        '{{ "Yes or no?" if not options else "" }}', "{% if options %}Pick:{% else %}Say yes or no.{% endif %}",
    ],
)  # fmt: skip
def test_yes_and_no_are_the_words_of_a_question_that_asks_for_them(tmp_path, asked):
    assert check(tmp_path, one(f"{asked} {{{{ note }}}} {{{{ line }}}}{SHOWN}", head=YES_NO)) == []


@pytest.mark.parametrize(
    "asked",
    [
        "Mood:", "How glad is it?", "What do you say?", "{% if options %}Yes or no?{% endif %} So:", "Which is it?", "{{ note }}?", "So {{ note }}?", "If it is glad, do not ask me.",
        "{% if not options %}Well:{% else %}Yes or no?{% endif %}", "In what mood was whoever wrote this?",
    ],
)  # fmt: skip
def test_yes_and_no_cannot_be_known_where_nothing_asks_for_them(tmp_path, asked):
    wrong = check(tmp_path, one(f"{asked} {{{{ note }}}} {{{{ line }}}}{SHOWN}", head=YES_NO))
    assert [finding["rule"] for finding in wrong] == ["unknowable-labels"]
    assert "says `no`, `yes` nowhere but in its options" in wrong[0]["why"]


def test_a_question_of_the_row_asks_for_yes_and_no_too(tmp_path):
    asks = one("{{ note }} What do you answer? {{ line }}", head=YES_NO)
    assert (
        told(tmp_path, asks.replace("we danced until the lamps went out", "'Did we dance until the lamps went out?'"))
        == set()
    )
    assert told(tmp_path, asks.replace("we danced until the lamps went out", "'Why did we dance?'")) == {
        "unknowable-labels"
    }
    assert (
        told(tmp_path, asks.replace("we danced until the lamps went out", "did we dance until the lamps went out"))
        == set()
    )
    assert told(tmp_path, asks) == {"unknowable-labels"}


@pytest.mark.parametrize(
    ("choices", "words", "known"),
    [
        ('["contradiction", "entailment"]', "Does it contradict or entail?", True),
        ('["contradiction", "entailment"]', "Does it contradict?", False),
        ('["not acceptable", "acceptable"]', "Acceptable or not?", True),
        ('["unacceptable", "acceptable"]', "Acceptable?", False),
        ('["no", "maybe", "yes"]', "Is it glad? Say maybe if you cannot tell.", True),
        ('["no", "maybe", "yes"]', "Is it glad?", False),
        ('["false", "true"]', "Is it true?", False),
        ('["false", "true"]', "True or false?", True),
        ('["0", "1", "2", "3"]', "How glad, from 0 to 3?", True),
        ('["0", "1", "2", "3"]', "How glad, in marks up to 3?", False),
        ('["no star", "1 star", "2 stars"]', "No star for a sad one, two stars for a glad one.", True),
        ('["1", "2", "9"]', "From 1 to 9?", False),
        ('["D", "C", "B", "A"]', "A grade from A to D, please.", True),
        ('["T", "F"]', "Don't ask, say F.", False),
        ('["≠", "="]', "Write = or ≠.", True),
        ('["≠", "="]', "Write a sign.", False),
        ('["It is sad.", "It is glad."]', "Is that sad or glad? Say it in a sentence.", True),
        ('["+1", "-1"]', "Rate it: 1?", False),
    ],
)  # fmt: skip
def test_label_words_are_known_where_the_prompt_says_them(tmp_path, choices, words, known):
    label = "0" if "T" in choices else "1"
    head = HEAD.split("  - {name: ask")[0].replace('["sad", "glad"]', choices).replace("label: 1}", f"label: {label}}}")
    text = one(f"{words} {{{{ line }}}} {{{{ note }}}}", head=head)
    assert ("unknowable-labels" in told(tmp_path, text)) is not known


def test_labels_of_the_row_and_what_is_no_forward_template_are_not_looked_at(tmp_path):
    by_row = HEAD.replace('choices: ["sad", "glad"]', 'choices: \'["sad", "glad"]\'').replace("Sad or glad?", "So:")
    assert told(tmp_path, by_row) == set()
    assert told(tmp_path, one("{{ line }} So:", "{{ note }}, so {{ answer }}", "cot")) == set()


def test_a_label_role_may_be_printed_where_that_tells_nothing(tmp_path):
    turned = ("{{ note }} Write a line whose mood is {{ %s }}, of some length.", "{{ line }}", "inverted")
    assert told(tmp_path, one(turned[0] % "label", *turned[1:])) == {"printed-label-role"}
    assert told(tmp_path, one(turned[0] % "answer", *turned[1:])) == set()
    assert told(tmp_path, one(turned[0] % '"good" if label else "bad"', *turned[1:])) == set()
    assert told(tmp_path, one("{{ line }}", "{{ answer }} ({{ label }})")) == {"printed-label-role"}
    assert told(tmp_path, one("{{ line }} {{ ['a', 'b'][label] }}")) == {"printed-label-role"}
    words = HEAD.replace("label: 1}", "label: glad}")
    assert told(tmp_path, one("{{ note }} Sad, glad?", "{{ answer }} ({{ label }})", head=words)) == set()


def test_a_role_that_is_computed_from_the_label_alone_is_the_label_too(tmp_path):
    words = HEAD.replace("label: label}", 'label: label, mood: \'["a", "b"][label | int]\', merry: label == 1}')
    used = one("{{ note }}, {{ mood if merry else 0 }}", "{{ line }}, so {{ answer }}", "cot", words)
    assert told(tmp_path, used) == set()
    assert told(tmp_path, used + one("{{ line }} {{ mood }}", head="").replace('"x"', '"y"')) == {"printed-label-role"}
    assert told(tmp_path, used + one("{{ line }} {{ 1 if merry else 0 }}", head="").replace('"x"', '"y"')) == {
        "label-condition"
    }
    within = HEAD.replace("label: label}", 'label: \'{"n": label, "of": note}\'}').replace(
        "answer: label", "answer: label.n"
    )
    assert (
        told(
            tmp_path,
            one("{{ line }} {{ label.of }} Sad, glad?", head=within) + one("{{ note }}", head="").replace('"x"', '"y"'),
        )
        == set()
    )
    nested = HEAD.replace(
        "columns: {line: line, note: note, label: label}", "columns: {line: it.line, note: it.note, label: it.label}"
    )
    assert told(tmp_path, nested.replace("example: {", "example: {it: {").replace("label: 1}", "label: 1}}")) == set()


def test_a_condition_on_the_form_of_a_free_answer_tells_nothing_of_it(tmp_path):
    form = '{{ text }} Answer in {{ town.split() | length }} word{{ "s" if town.split() | length > 1 else "" }}.'
    assert told(tmp_path, one(form, head=FREE)) == set()
    assert told(tmp_path, one('{{ text }}{% if town == "Bern" %} Bears?{% endif %}', head=FREE)) == {"label-condition"}
    assert told(tmp_path, one("{{ line }} {{ 'Hm.' if label == 0 else 'Oh.' }}")) == {"label-condition"}
    assert (
        told(tmp_path, one("{{ answer }} {{ 'Hm' if label == 0 else 'Oh' }}: {{ note }}", "{{ line }}", "inverted"))
        == set()
    )


@pytest.mark.parametrize(
    ("choices", "other", "permuted"),
    [
        ('["no", "yes"]', '["Yes", "No"]', True),
        ('["no", "yes"]', '["true", "false"]', True),
        ('["not_entailment", "entailment"]', '["yes", "no"]', True),
        ('["negative", "neutral", "positive"]', '["positive", "neutral", "negative"]', True),
        ('["negative", "positive"]', '["bad", "good"]', False),
        ('["no", "yes"]', '["false", "true"]', False),
        ('["no", "yes"]', '["different", "same"]', False),
        ('["0", "1", "2"]', '["1", "2", "3"]', False),
        ('["0", "1", "2"]', '["2", "1", "0"]', True),
        ('["≠", "="]', '["!", "?"]', False),
    ],
)  # fmt: skip
def test_labels_keep_the_order_of_the_set_under_every_name(tmp_path, choices, other, permuted):
    text = one("{{ line }} So:", head=HEAD.replace('["sad", "glad"]', choices), more=f', "choices": {other}')
    assert ("permuted-labels" in told(tmp_path, text)) is permuted


def test_labels_keep_the_order_of_other_templates_too(tmp_path):
    def two_with(choices: str) -> str:
        first = one("{{ line }} Sad or glad, bad or good?", more=', "choices": ["bad", "good"]')
        return first + one("{{ note }} Bad? Glad, sad? Good?", head="", more=f', "choices": {choices}').replace(
            '"x"', '"y"'
        )

    assert told(tmp_path, two_with('["Bad", "good"]')) == set()
    wrong = check(tmp_path, two_with('["good", "bad"]'))
    assert [finding["rule"] for finding in wrong] == ["permuted-labels"]
    assert "`good, bad` stand in another order than `bad, good` of 'x'" in wrong[0]["why"]


# --- more of single rules ---------------------------------------------------------------------------------------------


def test_an_inverted_template_may_ask_for_more_than_it_gives_in_a_tenth_of_the_rows(tmp_path):
    text = one("{{ answer }} begins with these words: {{ line | first_words(2) }}", "{{ line }}", "inverted")
    rows = many(20, lambda i: mood(i, line=f"{i} a line goes on" + " and on" * 9 * (i < 3)))
    assert [f["why"].split(" asks ")[1] for f in check(tmp_path, text, rows) if f["rule"] == "inverted-invention"] == [
        "for 23 words and gives 7 (15 % of the rows)"
    ]
    rows[0] = mood(0)
    assert check(tmp_path, text, rows) == []


def test_words_of_scripts_without_spaces_are_counted_by_characters(tmp_path):
    town = FREE.replace("It lies on the Elbe and has a long harbour.", "{}").replace("the free city of Hamburg", "{}")
    turned = one("{{ answer }} →", "{{ text }}", "inverted", town)
    assert told(tmp_path, turned.replace("{}", "'它位于易北河畔，有一个很长的港口。'", 1).replace("{}", "汉堡", 1)) == {
        "inverted-invention"
    }
    assert (
        told(
            tmp_path,
            turned.replace("{}", "It has a long harbour.", 1).replace("{}", "它位于易北河畔有一个很长的港口", 1),
        )
        == set()
    )


@pytest.mark.parametrize(
    ("quoted", "even"),
    [
        ("Er sagt: „{{ line }}“.", True), ("On mówi: „{{ line }}”.", True), ("Il dit « {{ line }} ».", True),
        ("Han siger »{{ line }}«.", True), ("Er sagt ‚{{ line }}‘.", True), ("「{{ line }}」と『{{ note }}』", True),
        ("Hon sa: ”{{ line }}”.", True), ("He says “{{ line }}”.", True), ("He says “{{ line }}.", False),
        ("Il dit « {{ line }}.", False), ("He says “{{ line }}“.", False), ("„{{ line }}“ and “{{ note }}.", False),
    ],
)  # fmt: skip
def test_quotes_of_other_languages_are_even(tmp_path, quoted, even):
    assert told(tmp_path, one(quoted)) == (set() if even else {"unbalanced"})


@pytest.mark.parametrize("deep", [400, 5_000])
@pytest.mark.parametrize(
    "texts",
    [("{{ ", "(", "line", ")", " }}"), ("{{ ", "[", "line", "]", " }}"), ("", "{% if line %}", "{{ line }}", "{% endif %}", "")],
)  # fmt: skip
def test_brackets_and_blocks_that_nest_by_the_hundred_are_a_finding(tmp_path, texts, deep):
    before, opened, middle, closed, after = texts
    text = before + opened * deep + middle + closed * deep + after
    assert told(tmp_path, one(text)) == {"jinja"}
    if before:
        expression = json.dumps(opened * deep + middle + closed * deep)
        assert "jinja" in told(tmp_path, HEAD.replace("note: note,", f"note: {expression},"))


@pytest.mark.parametrize(
    ("where", "named"),
    [
        ("{{ line }}", "{{ line.upper }}"), ("{{ line }}", "{{ line['upper'] }}"), ("{{ line }}", "{{ line.upper | trim }}"),
        ("{{ line }}", "{% if line.isupper %}{% endif %}{{ line }}"), ("note: note,", "note: '(note).strip',"),
        ("answer: label", "answer: label.bit_length"), ('response: "{{ answer }}"', 'response: "{{ line.lower }}"'),
    ],
)  # fmt: skip
def test_a_method_is_called(tmp_path, where, named):
    assert "uncalled-method" in told(tmp_path, HEAD.replace(where, named, 1))


def test_a_column_may_have_the_name_of_a_method(tmp_path):
    text = HEAD.replace("note: note,", 'note: \'{"title": note, "items": note}\',').replace(" {{ note }}", "")
    assert told(tmp_path, one("{{ note.title }} {{ line }} Sad, glad?", head=text)) == set()
    assert told(tmp_path, one('{{ note["items"] }} {{ line }} Sad, glad?', head=text)) == set()
    assert "uncalled-method" in told(tmp_path, one("{{ note.items }} {{ line }} Sad, glad?", head=text))


def test_a_set_of_a_few_templates_need_not_ask_as_people_do(tmp_path):
    assert told(tmp_path, HEAD + "".join(OTHERS[:2])) == set()
    assert told(tmp_path, HEAD + "".join(OTHERS)) == {"no-canonical"}
    assert told(tmp_path, HEAD + "".join(OTHERS).replace("plain", "canonical", 1)) == set()


@pytest.mark.parametrize(
    ("words", "style", "alike"),
    [
        ("How did the singer feel about it?", "plain", True), ("How did the singer feel about it?", "canonical", False),
        ("How is this?", "plain", False), ("How did the singer feel?", "plain", False),
    ],
)  # fmt: skip
def test_sets_may_ask_alike_in_canonical_and_in_few_words(tmp_path, words, style, alike):
    texts = [
        one(f"{words} {{{{ text }}}}", head=FREE).replace("plain", style).replace('"x"', f'"{name}"') for name in "xy"
    ]
    (tmp_path / "other.yaml").write_text(texts[0].replace("Which town?", "Where?"), "utf-8")
    (tmp_path / "set.yaml").write_text(texts[1].replace("Which town?", "Name it."), "utf-8")
    wrong = findings(["other.yaml", "set.yaml"], tmp_path)
    assert [finding["rule"] for finding in wrong] == ["near-duplicate"] * alike


NLI = """\
dataset: nli
about: Does it follow?
license: mit
columns: {premise: premise, hypothesis: hypothesis, label: 'label | label_index("entailment", "contradiction", "neutral")'}
record: {prompt: "{{ premise }} {{ hypothesis }}", response: "{{ answer }}"}
choices: ["yes", "no", "maybe"]
answer: label
example: {premise: It rained all day in the hills., hypothesis: The hills got wet., label: 0}
templates:
  - {name: ask, kind: forward, style: plain, input: "{{ premise }} So {{ hypothesis }} (yes, no, maybe)\\n{{ options }}", target: "{{ answer }}"}
"""


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        ("stray-escape", one("{{ premise }} So is this true: {{hypothesis}}n\n{{ options }}", head=NLI)),
        ("stray-escape", one("{{ premise }} So is this true: {{hypothesis}}n{{ options }}", head=NLI)),
        ("constant-prompt", one("Write a brief sentence.", "{{ hypothesis }}", "inverted", NLI)),
        ("label-order", NLI.replace('["yes", "no", "maybe"]', '["true", "neither", "false"]')),
        ("single-brace", one("{premise} {{ hypothesis }}\n{{ options }}", head=NLI)),
        ("swapped-roles", one("Premise: {{ hypothesis }}\nHypothesis: {{ premise }}\n{{ options }}", head=NLI)),
        ("prescribed-words", one("{{ premise }} {{ hypothesis }} Answer yes, no or maybe.\n{{ options }}", head=NLI)),
        ("prescribed-words", one("{{ premise }} {{ hypothesis }} Answer with a letter.\n{{ options }}", head=NLI)),
        ("options-not-shown", one("{{ premise }} {{ hypothesis }} Choose one of the following.", head=NLI)),
        ("duplicate-template", one("{{premise}} so {{hypothesis}} (YES, no, maybe)\n{{options}}", head=NLI)),
        ("double-punctuation", one("{{ premise }} Is it so: {{ hypothesis }}?", head=NLI)),
        ("leaked-answer", one("{{ premise }} {{ hypothesis }} It is {{ answer }}, is it?", head=NLI)),
    ],
)  # fmt: skip
def test_defects_of_released_collections_are_found(tmp_path, rule, text):
    """FLAN 2021: the n of a broken line break, constant prompts, equal templates, "??", roles swapped, CB's label order.
    FLAN 2022: the answer in the prompt. lm-evaluation-harness 3930: one pair of braces."""
    assert check(tmp_path, NLI) == []
    assert rule in {finding["rule"] for finding in check(tmp_path, text)}


# --- data, command ---------------------------------------------------------------------------------------------------


def test_data_is_for_one_set_and_says_shares_and_reasons(tmp_path):
    wrong = check(tmp_path, HEAD, many(20, lambda i: mood(i, note=None if i % 4 == 0 else "n")))
    assert [finding["why"] for finding in wrong] == ["5 of 20 rows would be dropped: the column `note` is null (5)"]
    with pytest.raises(RequestError, match="--data: name the one set"):
        findings(["set.yaml", "set.yaml"], tmp_path, data="rows.jsonl")
    with pytest.raises(SourceError, match="nothing matches"):
        findings(["set.yaml"], tmp_path, data="none.jsonl")


def test_when_may_leave_out_less_than_half(tmp_path):
    text = HEAD.replace("record:", 'when: note != "no"\nrecord:')
    assert check(tmp_path, text, many(20, lambda i: mood(i, note="no" if i < 9 else "n"))) == []
    wrong = check(tmp_path, text, many(20, lambda i: mood(i, note="no" if i < 11 else "n")))
    assert [(f["rule"], f["why"]) for f in wrong] == [("dropped-rows", "`when` leaves 11 of 20 rows out")]


def test_the_command_reads_rows_with_a_limit_and_a_header(tmp_path, monkeypatch):
    from typer.testing import CliRunner

    from curate.cli import app

    (tmp_path / "set.yaml").write_text(HEAD, "utf-8")
    lines = [f"line {i}\tnote {i}\t{i % 2 if i < 30 else 5}\n" for i in range(60)]
    (tmp_path / "rows.tsv").write_text("".join(lines), "utf-8")
    monkeypatch.chdir(tmp_path)
    asked = ["templates", "check", "set.yaml", "--data", "rows.tsv", "--header", "line, note,label", "--json"]
    done = CliRunner().invoke(app, asked)
    assert done.exit_code == 1
    assert [finding["rule"] for finding in json.loads(done.stdout)] == ["dropped-rows", "target-not-choice"]
    done = CliRunner().invoke(app, [*asked, "--limit", "30"])
    assert (done.exit_code, json.loads(done.stdout)) == (0, [])


# --- the Hub ---------------------------------------------------------------------------------------------------------

HUB = HEAD.replace("license: mit", "license: mit\nhub: {path: some/mood, config: [a, b], revision: abc}")
LABELLED = HUB.replace("label: label}", 'label: \'label | label_index("sad", "glad")\'}')


def fake(columns: list[str], labels: dict[str, list[str]], rows: list[dict[str, Any]]):
    asked = []

    def answered(*what: Any) -> Fetched:
        asked.append(what)
        return Fetched(columns, labels, rows)

    return answered, asked


def on_hub(tmp_path: Path, text: str, fetch: Any) -> list[tuple[str, str]]:
    (tmp_path / "set.yaml").write_text(text, "utf-8")
    return [(f["rule"], f["why"]) for f in findings(["set.yaml"], tmp_path, hub=True, fetch=fetch)]


def test_the_hub_is_asked_for_each_configuration_and_agrees(tmp_path):
    fake_hub, asked = fake(["line", "note", "label", "idx"], {"label": ["sad", "glad"]}, many(100, mood))
    assert on_hub(tmp_path, LABELLED, fake_hub) == []
    assert asked == [("some/mood", "a", "abc", "train"), ("some/mood", "b", "abc", "train")]
    assert on_hub(tmp_path, HUB, fake_hub) == []
    assert on_hub(tmp_path, HEAD, None) == []  # a set without `hub` asks nothing


def test_a_column_that_the_hub_does_not_have_is_found(tmp_path):
    fake_hub, _ = fake(["line", "label"], {}, [])
    wrong = on_hub(tmp_path, HUB, fake_hub)
    assert wrong[0] == ("hub-columns", "some/mood (a), train has no column note; there are: line, label")


@pytest.mark.parametrize(
    ("text", "labels"), [(LABELLED, ["glad", "sad"]), (HUB, ["glad", "sad"]), (HUB, ["sad", "so", "glad"])]
)
def test_labels_in_another_order_than_the_hubs_are_found(tmp_path, text, labels):
    fake_hub, _ = fake(["line", "note", "label"], {"label": labels}, many(100, mood))
    assert {rule for rule, _ in on_hub(tmp_path, text, fake_hub)} == {"hub-labels"}


def test_rows_of_the_hub_go_through_every_template(tmp_path):
    fake_hub, _ = fake(["line", "note", "label"], {}, many(100, lambda i: mood(i, label=-1)))
    assert {rule for rule, _ in on_hub(tmp_path, HUB, fake_hub)} >= {"dropped-rows", "target-not-choice"}


def test_no_network_is_one_sentence(tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")

    def refuse(*_: Any, **options: Any):
        assert "trust_remote_code" not in options
        raise ConnectionError("no route\nto host")

    monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", lambda *_, **__: None)
    monkeypatch.setattr(datasets, "load_dataset", refuse)
    (tmp_path / "set.yaml").write_text(HUB, "utf-8")
    with pytest.raises(SourceError) as caught:
        findings(["set.yaml"], tmp_path, hub=True)
    assert str(caught.value).startswith("--hub: some/mood cannot be read from the Hub (no route to host)")
    assert "\n" not in str(caught.value)


def test_the_rows_and_labels_of_the_hub_are_read_with_the_library(monkeypatch):
    datasets = pytest.importorskip("datasets")
    asked = []

    def load_dataset(*what: Any, **options: Any):
        asked.append((what, options))
        features = datasets.Features(
            {"line": datasets.Value("string"), "label": datasets.ClassLabel(names=["sad", "glad"])}
        )
        made = datasets.Dataset.from_dict({"line": [f"line {i}" for i in range(150)], "label": [0, 1] * 75}, features)
        return made.to_iterable_dataset()

    monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", lambda *_, **__: None)
    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    fetched = fetch("some/mood", None, "abc", "train")
    assert fetched.columns == ["line", "label"]
    assert fetched.labels == {"label": ["sad", "glad"]}
    assert (len(fetched.rows), fetched.rows[1]) == (100, {"line": "line 1", "label": 1})
    options = {"revision": "abc", "split": "train", "streaming": True}
    assert asked == [(("hf://datasets/some/mood", None), options)]


# --- words ---


@pytest.mark.parametrize(
    ("words", "wrong"),
    [
        ("a excellent", True), ("an positive", True), ("an story", True), ("a angry", True),
        ("a hour", False), ("an hour", False), ("a one", False), ("a European", False), ("a user", False), ("a unusual", False),
        ("an SQL", False), ("an mp3", False), ("an x-ray", False), ("a or", False), ("an honest", False), ("an NLI", False),
    ],
)  # fmt: skip
def test_an_article_is_wrong_only_where_that_is_sure(words, wrong):
    assert wrong_article(*words.split()) is wrong


def test_a_text_is_taken_apart_with_lines_and_guards():
    parts = pieces("Q: {{ q }}\n{% if options %}a{% else %}b{% endif %}{# no #}{% filter trim %}c{% endfilter %}")
    assert [(piece.kind, piece.text, piece.line, piece.guards) for piece in parts if piece.kind != "block"] == [
        ("text", "Q: ", 0, ()),
        ("print", "q", 0, ()),
        ("text", "\n", 0, ()),
        ("text", "a", 1, ("if options",)),
        ("text", "b", 1, ("else of if options",)),
        ("text", "c", 1, ()),
    ]
    assert [piece.text for piece in parts if piece.only_with_options and piece.kind == "text"] == ["a"]
    assert whole_roles("{{ a | trim }}{{ b ~ c }}{{ d if e else f }}{% if g %}{{ h }}{% endif %}") == {"a", "b", "c"}


# --- the library -----------------------------------------------------------------------------------------------------


def test_the_library_has_no_findings():
    assert findings([]) == []
    assert len(names()) > 70


def test_the_guide_names_every_rule():
    from curate.contract.paths import library

    guide = (library("templates") / "README.md").read_text("utf-8")
    assert [rule for rule in rules() if f"`{rule}`" not in guide] == []
