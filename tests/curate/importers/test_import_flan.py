"""FLAN's patterns: read without running anything, converted to sets that print what str.format would."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from curate.contract.errors import TemplateError
from curate.importers import flan
from curate.lint.check import findings as check
from curate.template.engine import Engine
from curate.template.sets import load_set

PAIRS = {
    "weather": [
        ("Will it rain where {place} lies, on {day}?\n{options_}", "{answer}"),
        ("{place}, {day}: rain?", "{answer}"),
        ("Someone answered {answer}. What did they ask of {place}?", "Rain on {day}?"),
    ]
}
PYTHON = '''"""Patterns."""
import os
os.remove("here")
PATTERNS = {
    "weather": [
        ("Will it rain where {place} lies, on {day}?\\n"
         "{options_}", "{answer}"),
        ("{place}, {day}: rain?", "{answer}"),
        ("Someone answered {answer}. What did they ask of {place}?", "Rain on {day}?"),
    ],
}
raise SystemExit
'''


def write(tmp_path: Path, text: str, name: str = "patterns.json") -> Path:
    path = tmp_path / name
    path.write_text(text, "utf-8")
    return path


def convert(tmp_path: Path, pairs: list[tuple[str, str]]) -> tuple[str | None, list]:
    patterns = flan.read(write(tmp_path, json.dumps({"one": pairs}, indent=1)))
    return flan.convert("one", patterns["one"])


def test_a_python_file_and_json_give_the_same_patterns_and_nothing_is_run(tmp_path):
    python = flan.read(write(tmp_path, PYTHON, "templates.py"))
    plain = flan.read(write(tmp_path, json.dumps(PAIRS, indent=1)))
    assert [(p.input, p.target) for p in python["weather"]] == [(p.input, p.target) for p in plain["weather"]]
    assert [p.where.rsplit(":", 1)[1] for p in python["weather"]] == ["6", "8", "9"]
    assert [p.where.rsplit(":", 1)[1] for p in plain["weather"]] == ["4", "8", "12"]


def test_a_set_prints_what_str_format_prints(tmp_path):
    text, wrong = flan.convert("weather", flan.read(write(tmp_path, json.dumps(PAIRS)))["weather"])
    assert wrong == []
    write(tmp_path, text or "", "weather.yaml")
    template_set = load_set("weather.yaml", tmp_path)
    assert check([str(tmp_path / "weather.yaml")]) == []
    assert [template.kind for template in template_set.templates] == ["forward", "forward", "inverted"]
    engine = Engine(template_set)
    row = {"place": "Oban {x}", "day": "Monday", "options": ["yes", "no"], "answer": "no"}
    first, second, third = engine.render("id", row, which="all")
    assert second.messages[0]["content"] == PAIRS["weather"][1][0].format(**row)
    assert (second.messages[1]["content"], second.choices, second.answer) == ("no", ["yes", "no"], 1)
    assert [message["content"] for message in third.messages] == [part.format(**row) for part in PAIRS["weather"][2]]
    block = first.messages[0]["content"].removeprefix("Will it rain where Oban {x} lies, on Monday?\n")
    assert first.choices is not None
    assert first.answer is not None
    assert first.messages[1]["content"] == first.choices[first.answer]
    assert "yes" in block
    assert "no" in block


def test_doubled_braces_stand_for_themselves(tmp_path):
    text, wrong = convert(tmp_path, [("Fill {{the}} gap {{{word}}} {{{{%", "{{{answer}}}")])
    assert wrong == []
    write(tmp_path, text or "", "one.yaml")
    rendered = Engine(load_set("one.yaml", tmp_path)).render("id", {"word": "cup", "answer": "a"})[0]
    assert [message["content"] for message in rendered.messages] == ["Fill {the} gap {cup} {{%", "{a}"]


def test_the_stray_n_is_mended_and_said(tmp_path):
    text, wrong = convert(tmp_path, [("{first}\n{second}n\n{options_}", "{answer}")])
    assert [(f.rule, f.mend) for f in wrong] == [("stray-n", "the set has a line break there")]
    assert wrong[0].where.endswith("patterns.json:4")
    assert "{{ second }}\n\n" in (text or "").replace("\n      ", "\n")


@pytest.mark.parametrize(
    ("pairs", "rule", "why"),
    [
        ([("Write a line.", "{x}")], "constant-prompt", "reads nothing of the row"),
        ([("Say {x}", "{y}"), ("say  {x}", "{y}")], "duplicate-template", "says the same as the pattern 0"),
        ([("{x} is {answer}", "{answer}")], "leaked-answer", "gives its answer away"),
        ([("{x.__class__}", "{y}")], "not-converted", "has the field `{x.__class__}`, which is no plain name"),
        ([("{x[0]}", "{y}")], "not-converted", "which is no plain name"),
        ([("{}", "{y}")], "not-converted", "which is no plain name"),
        ([("{x!r}", "{y}")], "not-converted", "has a format"),
        ([("{x:>9}", "{y}")], "not-converted", "has a format"),
        ([("{x", "{y}")], "not-converted", "is not what str.format takes"),
        ([("{x}\n{options_}", "{y}")], "options", "shows options, but its target"),
        ([("{x}", "{options_}")], "not-converted", "has options in its target"),
    ],
)
def test_a_pattern_with_a_defect_is_left_out_with_the_reason(tmp_path, pairs, rule, why):
    text, wrong = convert(tmp_path, [*pairs, ("Of {x} make {kind}", "{y}")])
    assert [finding.rule for finding in wrong] == [rule]
    assert why in str(wrong[0])
    assert "\n" not in str(wrong[0])
    assert f"the pattern {len(pairs) - 1} of 'one'" in wrong[0].why
    assert text is not None
    assert convert(tmp_path, pairs[:1])[0] is None or rule == "duplicate-template"


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.json", "{\n,", r"a\.json:2: this is not valid JSON"),
        ("a.json", "[]", r"a\.json:1: the patterns should be a mapping"),
        ("a.json", '{"x":\n 3}', r"a\.json:1: `x` should be a list of pairs"),
        ("a.json", '{"x": [["a"]]}', r"a\.json:1: a pattern of `x` is not a pair"),
        ("a.json", "[" * 100_000, r"a\.json:1: this is nested too deep"),
        ("a.py", "x = 1\nPATTERNS = {'a': [open('x')]}", r"a\.py:2: PATTERNS is not a literal"),
        ("a.py", "x = 1\ny = (", r"a\.py:2: this is not valid Python"),
        ("a.py", "x = 1", r"a\.py:1: the file assigns no mapping to PATTERNS"),
    ],
)
def test_a_bad_file_is_one_sentence(tmp_path, name, content, says):
    with pytest.raises(TemplateError, match=says) as caught:
        flan.read(write(tmp_path, content, name))
    assert "\n" not in str(caught.value)
