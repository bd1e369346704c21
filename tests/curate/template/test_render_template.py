"""Reading a template file: every mistake at once, each with its line."""

from __future__ import annotations

import os

import pytest

from curate.contract.errors import TemplateError
from curate.template.sets import load_set, names, read_set

GOOD = """\
dataset: capitals
about: Which city is the capital?
columns: {country: country, city: city}
record: {prompt: "{{ country }}", response: "{{ city }}"}
example: {country: Chad, city: "N'Djamena"}
templates:
  - name: ask
    kind: forward
    style: plain
    input: Capital of {{ country }}?
    target: "{{ city }}"
"""


def problems(tmp_path, text: str) -> list[str]:
    path = tmp_path / "set.yaml"
    path.write_text(text, "utf-8")
    template_set, findings = read_set("set.yaml", tmp_path)
    assert (template_set is None) == bool(findings)
    return [str(finding).replace(f"{tmp_path}/", "") for finding in findings]


def test_a_good_file_has_no_findings(tmp_path):
    assert problems(tmp_path, GOOD) == []
    capitals = load_set("set.yaml", tmp_path)
    assert (capitals.dataset, capitals.task, capitals.task_cluster) == ("capitals", "capitals", None)
    assert capitals.templates[0].messages == (("user", "Capital of {{ country }}?"), ("assistant", "{{ city }}"))
    assert capitals.templates[0].line == 7
    assert capitals.template("ask") is capitals.templates[0]
    assert capitals.template("no") is None


CHOICES = 'choices: ["yes", "no"]\nanswer: city\n'


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("{{ country }}?", "{{ contry }}?", "set.yaml:10: the template 'ask' reads the role `contry`, which is missing. Did you mean 'country'?; define it under `columns`; the roles are: city, country"),
        ("{{ country }}\",", "{{ land }}\",", "set.yaml:4: `record` reads the role `land`, which is missing"),
        ("about: Which", "metric: [f1]\nabout: Which", "set.yaml:2: unknown key `metric`. Did you mean 'metrics'?"),
        ("    kind: forward\n", "", "set.yaml:7: the key `kind` is missing"),
        ("    target: \"{{ city }}\"\n", "", "set.yaml:7: the template has no `target`"),
        ("kind: forward", "kind: backward", "set.yaml:8: unknown kind 'backward'; use one of: forward, inverted, cot"),
        ("style: plain", "style: 3", "set.yaml:9: `style` should be text, not 3"),
        ("{{ country }}?", "{{ country ?", "set.yaml:10: this is not valid Jinja: unexpected char '?'"),
        ("{{ country }}?", "{{ country | shout }}?", "set.yaml:10: this is not valid Jinja: No filter named 'shout'."),
        ("{{ country }}?", "{{ country.__class__ }}?", "set.yaml:10: it tries to reach '__class__', which the sandbox forbids"),
        ("{{ country }}?", "{% include 'x' %}?", "set.yaml:10: this is not valid Jinja: include, import and extends are not available"),
        ("city: city}", "city: 'city |'}", "set.yaml:3: this is not valid Jinja"),
        ("city: city}", "city: 'city) ~ (country'}", "set.yaml:3: this is not valid Jinja"),
        ("city: city}", "answer: city, city: city}", "set.yaml:3: the name `answer` is taken by the set's own `answer`"),
        ("city: city}", "'the city': city, city: city}", "set.yaml:3: `the city` cannot be the name of a role"),
        ("city: city}", "city: city, n: 3}", "set.yaml:3: the role `n` has no column"),
        ("templates:\n", "when: population > 3\ntemplates:\n", "set.yaml:6: `when` reads the role `population`, which is missing"),
        ("templates:\n", "where: country\ntemplates:\n", "set.yaml:6: the key `where` of a template set is called `when` now; write `when:`"),
        ("templates:\n", "metrics: [acuracy]\ntemplates:\n", "set.yaml:6: unknown metric 'acuracy'"),
        ("templates:\n", "choices: [yes, yes]\nanswer: city\ntemplates:\n", "set.yaml:6: two choices are the same text"),
        ("templates:\n", "choices: [1, 2]\nanswer: city\ntemplates:\n", "set.yaml:6: choices are two texts or more"),
        ("templates:\n", "choices: [a, b]\ntemplates:\n", "set.yaml:6: there are `choices` but no `answer`"),
        ("templates:\n", "messages: city\ntemplates:\n", "set.yaml:1: a set has either `templates` or `messages`"),
        ("{{ country }}?", "{{ country }}? {{ options }}", "set.yaml:10: the template 'ask' reads the role `options`, which is missing"),
        ("example: {country: Chad, city: \"N'Djamena\"}", "example: [Chad]", "set.yaml:5: an example is not a mapping of columns"),
        ("dataset: capitals\n", "dataset: capitals\ndataset: towns\n", "set.yaml:2: the key `dataset` stands twice"),
        ("  - name: ask", "  - name: 'a:b'", "set.yaml:7: 'a:b' cannot be a name"),
    ],
)  # fmt: skip
def test_each_mistake_is_told_with_its_line(tmp_path, old, new, says):
    assert old in GOOD
    assert [problem[: len(says)] for problem in problems(tmp_path, GOOD.replace(old, new, 1))] == [says]


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ("kind: inverted, input: '{{ country }} {{ options }}', target: '{{ answer }}'", "the inverted template 'ask' shows options"),
        ("kind: forward, input: '{{ country }} {{ options }}', target: '{{ city }}'", "'ask' shows options, but its target is not one of them"),
        ("kind: forward, choices: [a], input: '{{ country }}', target: '{{ answer }}'", "choices are two texts or more"),
        ("kind: forward, choices: [a, b, c], input: '{{ country }}', target: '{{ answer }}'", "a template's own choices must be as many as the set's"),
        ("kind: forward, input: '{{ country }}', target: '{{ options }}'", "the template 'ask' reads the role `options`"),
    ],
)  # fmt: skip
def test_options_that_contradict_the_target_are_refused(tmp_path, template, says):
    text = GOOD.split("templates:")[0] + CHOICES + f"templates:\n  - {{name: ask, style: plain, {template}}}\n"
    said = problems(tmp_path, text)
    assert says in said[0]


@pytest.mark.parametrize("roles", [["user"], ["assistant"], ["user", "assistant", "user"], ["tool", "assistant"]])
def test_messages_end_with_the_assistant_and_have_a_user(tmp_path, roles):
    messages = ", ".join(f"{{role: {role}, content: '{{{{ country }}}}'}}" for role in roles)
    text = GOOD.split("    input:")[0] + f"    messages: [{messages}]\n"
    assert "messages are of system, user and assistant" in problems(tmp_path, text)[0]


def test_every_mistake_of_a_file_is_told_at_once(tmp_path):
    text = GOOD.replace("about", "abuot").replace("{{ country }}?", "{{ contry }}?").replace("plain", "ornate")
    assert [problem.split(": ")[0] for problem in problems(tmp_path, text)] == [
        "set.yaml:2",
        "set.yaml:1",
        "set.yaml:9",
        "set.yaml:10",
    ]
    with pytest.raises(TemplateError) as caught:
        load_set("set.yaml", tmp_path)
    assert len(str(caught.value).splitlines()) == 4


def test_two_templates_of_one_name_are_refused(tmp_path):
    again = GOOD[GOOD.index("  - name") :]
    assert "the name 'ask' stands twice, here and on line 7" in problems(tmp_path, GOOD + again)[0]


def test_an_unknown_set_is_an_error_with_the_nearest_name(tmp_path):
    with pytest.raises(
        TemplateError, match=r"there is no template set 'pools/alpacca'\. Did you mean 'pools/alpaca'\?"
    ):
        load_set("pools/alpacca")
    with pytest.raises(TemplateError, match=r"mine\.yaml: the template file cannot be read"):
        load_set("mine.yaml", tmp_path)


def test_a_changed_file_is_read_again(tmp_path):
    path = tmp_path / "set.yaml"
    path.write_text(GOOD, "utf-8")
    first = load_set("set.yaml", tmp_path)
    path.write_text(GOOD.replace("Capital of", "Main city of"), "utf-8")
    os.utime(path, ns=(1, 1))
    second = load_set("set.yaml", tmp_path)
    assert first.source_hash != second.source_hash
    assert first.record_hash == second.record_hash


def test_names_are_those_of_the_library_without_pages_and_cards():
    assert "flan/sentiment/sst2" in names()
    assert all(name.split("/")[0] in ("flan", "cot", "pools") for name in names())
    assert load_set("flan/sentiment/sst2").task_cluster == "sentiment"
    assert load_set("cot/gsm8k").task_cluster is None
    assert load_set("pools/alpaca").task is None


@pytest.mark.parametrize("value", ["true", "false", '"True"'])
def test_verified_names_a_packing(tmp_path, value):
    said = problems(tmp_path, GOOD.replace("columns:", f"verified: {value}\ncolumns:"))
    assert len(said) == 1
    assert said[0].startswith("set.yaml:3: `verified` is")
    assert "write `hub`" in said[0]
    assert problems(tmp_path, GOOD.replace("columns:", "verified: the authors' CSV\ncolumns:")) == []
