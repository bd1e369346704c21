"""P3's templates: read without building Python objects, rendered as promptsource renders them, converted where equal.

The oracle below is a second writing of promptsource's ``Template.apply`` from its semantics in words: plain Jinja, not
sandboxed, compiled anew for every row, no code shared with the importer.
"""

from __future__ import annotations

import collections
import copy
import gzip
import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jinja2
import pytest

from curate.contract.errors import RowSkipped, TemplateError
from curate.importers import guess
from curate.importers.p3_proof import Trials
from curate.importers.p3_sets import convert
from curate.importers.promptsource import ENVIRONMENT, P3File, P3Template, read, without_hyphens
from curate.template.engine import Engine
from curate.template.sets import load_set

DATA = Path(os.environ.get("TAMIS_DATA", "/nowhere"))
P3 = DATA / "promptsource"
shared = pytest.mark.shared
needs_data = pytest.mark.skipif(not P3.is_dir(), reason="set TAMIS_DATA to the folder of data sets")

# --- the oracle --------------------------------------------------------------------------------------------------------

GUARD = "3ed2dface8203c4c9dfb1a5dc58e41e0"


def oracle(template: P3Template, row: dict[str, Any], compat: str, id: str = "") -> list[str] | None:
    """What promptsource renders; None where it raises. ``choice`` and ``random`` draw as the importer says it draws."""
    drawn = 0

    def pick(items):
        nonlocal drawn
        drawn += 1
        key = f"0\0promptsource.{template.id}\0{id}\0{drawn}".encode()
        return items[int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "little") % len(items)]

    def modal(items):
        if items:
            ranked = collections.Counter(items).most_common()
            return [item for item, times in ranked if times == ranked[0][1]]
        return None

    environment = jinja2.Environment(loader=jinja2.BaseLoader(), optimized=False)
    environment.globals["zip"] = zip
    environment.filters.update(choice=pick, random=pick, most_frequent=modal)
    row = copy.deepcopy(row)
    row = {key: value.replace("|||", GUARD) if isinstance(value, str) else value for key, value in row.items()}
    source = template.jinja if compat == "raw" else template.jinja.replace("}}", " | string | truncate(2048) }}")
    try:
        choices = None
        if template.choices is not None:
            parts = environment.from_string(template.choices).render(**row).split("|||")
            choices = [part.strip().replace(GUARD, "|||") for part in parts]
        text = environment.from_string(source).render(answer_choices=choices, **row)
    except Exception:
        return None
    return [part.replace(GUARD, "|||").strip() for part in text.split("|||")]


# --- small files -------------------------------------------------------------------------------------------------------

HEAD = "dataset: moods\nsubset: small\ntemplates:\n"


def entry(jinja: str, choices: str | None = None, id: str = "a1", name: str = "ask", more: str = "") -> str:
    metadata = "!TemplateMetadata\n      original_task: true\n      metrics: [Accuracy]\n      languages: [en]"
    return (
        f"  {id}: !Template\n    id: {id}\n    name: {json.dumps(name)}\n    jinja: {json.dumps(jinja)}\n"
        f"    answer_choices: {json.dumps(choices)}\n    reference: ''\n    metadata: {metadata}\n{more}"
    )


def file_of(tmp_path: Path, *entries: str) -> P3File:
    path = tmp_path / "templates.yaml"
    path.write_text(HEAD + "".join(entries), "utf-8")
    return read(path)


def one(tmp_path: Path, jinja: str, choices: str | None = None) -> P3Template:
    return file_of(tmp_path, entry(jinja, choices)).templates[0]


def test_a_file_becomes_typed_values(tmp_path):
    file = file_of(tmp_path, entry("{{ a }} ||| {{ b }}", "yes ||| no", more="    task_template: true\n"))
    template = file.templates[0]
    assert (file.dataset, file.subset) == ("moods", "small")
    assert (template.id, template.name, template.choices) == ("a1", "ask", "yes ||| no")
    assert (template.original_task, template.choices_in_prompt) == (True, None)
    assert (template.metrics, template.languages) == (("Accuracy",), ("en",))
    assert template.where == f"{tmp_path}/templates.yaml:4"


def test_the_older_key_of_the_choices_is_read(tmp_path):
    text = entry("{{ a }} ||| {{ answer_choices[0] }}", "x ||| y").replace("answer_choices:", "answer_choices_key:")
    assert file_of(tmp_path, text).templates[0].fixed_choices == ("x", "y")


@pytest.mark.parametrize(
    ("jinja", "choices", "row", "parts"),
    [
        ("{{ a }} ?\n ||| {{ b }}\n", None, {"a": " x", "b": "y "}, ["x ?", "y"]),
        ("{% if a %}{{ a }} ||| {{ b }}{% endif %}", None, {"a": "x", "b": "y"}, ["x", "y"]),
        ("{% if a %}{{ a }} ||| {{ b }}{% endif %}", None, {"a": "", "b": "y"}, [""]),
        ("{{ a }} ||| {{ b }} ||| c", None, {"a": "x", "b": "y"}, ["x", "y", "c"]),
        ("{{ a }} ||| {{ b }}", None, {"a": "x ||| z", "b": "y"}, ["x ||| z", "y"]),  # a text of the row is protected
        ("{{ a[0] }} ||| y", None, {"a": ["x ||| z"]}, ["x", "z", "y"]),  # one inside of a list is not
        ("{{ a }} ||| {{ answer_choices[l] }}", " no |||\nyes ", {"a": "x", "l": 1}, ["x", "yes"]),
        ("{{ a }} ||| {{ answer_choices[1] }}", "{{ c | join('|||') }}", {"a": "x", "c": ["1", " 2 "]}, ["x", "2"]),
        ("{{ a }} ||| {{ answer_choices | length }}", "{{ a }} ||| b", {"a": "1 ||| 2"}, ["1 ||| 2", "2"]),
        ("{{ nothing }} ||| {{ a.nothing }}", None, {"a": {}}, ["", ""]),  # what is not there prints nothing
        ("{{ a }} ||| {% if l != -1 %}{{ answer_choices[l] }}{% endif %}", "n ||| y", {"a": "x", "l": -1}, ["x", ""]),
        ("{{ a.append('z') | default('', True) }}{{ a | join }} ||| {{ a.pop() }}", None, {"a": ["x"]}, ["xz", "z"]),
        ("{% set n = namespace(v=0) %}{% for i in range(4) %}{% set n.v = n.v + i %}{% endfor %}{{ n.v }} ||| b", None, {}, ["6", "b"]),
        ("{% for x, y in zip(a, b) %}{{ x }}{{ y }}{% endfor %} ||| {{ None }}", None, {"a": "pq", "b": "rs"}, ["prqs", "None"]),
        ("{{ a | most_frequent | join(',') }} ||| {{ [] | most_frequent }}", None, {"a": ["q", "r", "r", "q", "s"]}, ["q,r", "None"]),
        ("{{ a | highlight }} ||| b", None, {"a": "x"}, ["<span style='color: #F08080'>x</span>", "b"]),
        ("{{ a }}", None, {"a": "x"}, ["x"]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("compat", ["t0", "raw"])
def test_a_row_is_rendered_as_promptsource_does(tmp_path, jinja, choices, row, parts, compat):
    template = one(tmp_path, jinja, choices)
    before = copy.deepcopy(row)
    assert template.apply(row, compat=compat) == parts
    assert template.apply(row, compat=compat) == parts  # nothing is kept from row to row
    assert row == before
    if "highlight" not in jinja:
        assert oracle(template, row, compat) == parts


def test_t0_cuts_every_printed_expression_at_a_word_and_binds_to_the_last_operand(tmp_path):
    long = "word " * 600
    template = one(tmp_path, "{{ a }} ||| {{ 'z' + a }}")
    cut = template.apply({"a": long}, compat="t0")
    assert [len(part) for part in cut] == [2047, 2048]
    assert cut[0].endswith("word...")
    assert [len(part) for part in template.apply({"a": long}, compat="raw")] == [2999, 3000]
    assert cut == oracle(template, {"a": long}, "t0")
    assert template.apply({"a": "x" * 2053}, compat="t0")[0] == "x" * 2053  # five characters of leeway
    assert len(template.apply({"a": "x" * 2054}, compat="t0")[0]) == 2048
    with pytest.raises(TemplateError, match="not valid Jinja"):  # the cut goes into -}} as well, as in promptsource
        one(tmp_path, "{{ a -}} ||| b").apply({"a": "x"}, compat="t0")


def test_choice_is_drawn_by_seed_and_id_for_each_row_anew(tmp_path):
    template = one(tmp_path, "{{ ['p', 'q', 'r'] | choice }}{{ ['p', 'q'] | random }} ||| b")
    ids = [f"row {i}" for i in range(300)]
    drawn = [template.apply({}, compat="raw", id=id)[0] for id in ids]
    assert drawn == [template.apply({}, compat="t0", id=id)[0] for id in ids]
    assert drawn == [(oracle(template, {}, "raw", id) or [""])[0] for id in ids]
    assert drawn != [template.apply({}, compat="raw", id=id, seed=1)[0] for id in ids]
    assert min(collections.Counter(drawn).values()) > 25
    assert len(set(drawn)) == 6


def test_callers_rename_hyphens_and_answer_choices_is_no_column(tmp_path):
    assert without_hyphens({"a-b": 1, "c d": 2}) == {"a_b": 1, "c d": 2}
    with pytest.raises(TemplateError, match=r"templates\.yaml:4: the row has a column `answer_choices`"):
        one(tmp_path, "a ||| b").apply({"answer_choices": []}, compat="raw")
    with pytest.raises(TemplateError, match="there is no compat 't1'"):
        one(tmp_path, "a ||| b").apply({}, compat="t1")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: [1, 2\nb: 3", r"templates\.yaml:2: this is not valid YAML"),
        ("dataset: x\ntemplates:\n  1: !Other {}", r"templates\.yaml:3: unknown tag !Other; P3 has"),
        ("dataset: !!python/object/apply:os.system [ls]", r"templates\.yaml:1: unknown tag tag:yaml\.org,2002:python"),
        (
            "a0: &a0 [x]\n" + "".join(f"a{i + 1}: &a{i + 1} [*a{i}, *a{i}]\n" for i in range(40)),
            r"templates\.yaml:\d+: with its aliases written out, this holds more than 100,000 values",
        ),
        ("a: &a [x, *a]\n", r"templates\.yaml:1: with its aliases written out"),
        ("a: &a {b: 1, <<: [*a, *a]}\n", r"templates\.yaml:1: with its aliases written out"),
        ("[" * 50_000, r"templates\.yaml:1: this is nested more than 30 levels deep"),
        ("- a\n- b\n", r"templates\.yaml:1: this is no file of P3; it needs the keys `dataset` and `templates`"),
        ("", r"templates\.yaml:1: this is no file of P3"),
        ("dataset: x\ntemplates: {}\n---\na: 1\n", r"templates\.yaml:3: this is not valid YAML"),
        ("dataset: 2020-13-45\ntemplates: {}\n", r"templates\.yaml:1: this is not valid YAML"),
        (
            HEAD + "  a1: !Template {id: a1, name: x}\n",
            r"templates\.yaml:4: a template of P3 is a mapping with a `name`",
        ),
        (HEAD + "  a1: hello\n", r"templates\.yaml:4: a template of P3 is a mapping"),
        (HEAD + entry("a ||| b").replace("null", "[a]"), r"templates\.yaml:4: `answer_choices` should be a text"),
        (
            HEAD + entry("a ||| b") + entry("c ||| d", id="b2"),
            r"templates\.yaml:14: the name 'ask' stands twice, here and on line 4; names are unique",
        ),
        (HEAD + entry("a ||| b") + entry("c ||| d", name="n"), r"templates\.yaml:4: two templates have the same id"),
    ],
)
def test_a_bad_file_is_one_sentence_with_its_line(tmp_path, text, says):
    (tmp_path / "templates.yaml").write_text(text, "utf-8")
    with pytest.raises(TemplateError, match=says) as caught:
        read(tmp_path / "templates.yaml")
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_or_not_utf8_is_one_sentence(tmp_path):
    with pytest.raises(TemplateError, match="cannot be read"):
        read(tmp_path / "none.yaml")
    (tmp_path / "a.yaml").write_bytes(b"dataset: x\nb: \xff\n")
    with pytest.raises(TemplateError, match=r"a\.yaml:2: this is not UTF-8"):
        read(tmp_path / "a.yaml")


# --- the sandbox -------------------------------------------------------------------------------------------------------

ESCAPES = [
    "{{ ''.__class__ }}", "{{ ''.__class__.__mro__[1].__subclasses__() }}", "{{ ''['__class__'] }}", "{{ a['__cl' ~ 'ass__'] }}",
    "{{ a | attr('__class__') }}", "{{ a | attr('upper') }}", "{{ [a] | map(attribute='__class__') | list }}",
    "{{ [a] | map('attr', '__class__') | list }}", "{{ [a] | selectattr('__class__') | list }}",
    "{{ [a] | groupby('__class__') }}", "{{ [a] | sort(attribute='__class__') }}", "{{ [a] | sum(attribute='__class__') }}",
    "{{ [a] | unique(attribute='__doc__') | list }}", "{{ [a] | max(attribute='__class__') }}", "{{ '{0.__class__}'.format(a) }}",
    "{{ '{0.__class__.__mro__}'.format_map({'0': a}) }}", "{{ ('{0.__cla' ~ 'ss__}').format(a) }}", "{{ a.format.__self__ }}",
    "{{ '%s' | format(a.__class__) }}", "{{ '%999999999d' % 1 }}", "{{ '%s' % a }}", "{{ 'x' * 999999999 }}",
    "{{ 9 ** 9 ** 9 }}", "{{ [0] * 999999999 }}", "{{ range(10 ** 9) }}", "{{ range(999999999) | list }}",
    "{{ 'x' | center(999999999) }}", "{{ 'x'.center(999999999) }}", "{{ 'x'.ljust(999999999) }}", "{{ 'x'.zfill(999999999) }}",
    "{{ lipsum.__globals__ }}", "{{ lipsum() }}", "{{ cycler.__init__.__globals__ }}", "{{ cycler('a').next() }}",
    "{{ joiner.__init__ }}", "{{ joiner(',')() }}", "{{ namespace.__init__.__globals__ }}", "{{ namespace(a=1).__class__ }}",
    "{{ dict.__base__ }}", "{{ dict.mro() }}", "{{ dict(a=1).__class__.__base__ }}", "{{ zip.__self__ }}", "{{ dict.fromkeys('ab') }}",
    "{{ self.__init__.__globals__ }}", "{{ self._TemplateReference__context }}", "{{ loop.__class__ }}",
    "{% for x in [1] %}{{ loop.__init__.__globals__ }}{% endfor %}", "{% for x in [1] %}{{ loop._iterator.__class__ }}{% endfor %}",
    "{% macro m() %}{% endmacro %}{{ m.__globals__ }}", "{% macro m() %}{% endmacro %}{{ m._func.__code__ }}",
    "{% set c = a.__class__ %}{{ c }}", "{% with c = ''['__class__'] %}{{ c }}{% endwith %}", "{{ a.upper.__self__.__class__ }}",
    "{{ (a.upper)['__self__'] }}", "{{ a.translate({}) }}", "{{ a.encode('utf-16') }}", "{{ 1 .to_bytes(9, 'big') }}",
    "{{ o() }}", "{{ o.upper() }}", "{{ o.run('id') }}", "{{ o.module.system('id') }}", "{% include '/etc/passwd' %}",
    "{% import 'os' as os %}", "{% extends 'x' %}", "{% from 'x' import y %}", "{{ open('/etc/passwd') }}", "{{ __import__('os') }}",
    "{{ ().__class__.__bases__[0] }}", "{{ none.__class__ }}", "{{ nothing.__class__ }}", "{{ nothing() }}", "{{ caller.__code__ }}",
    "{{ context.__class__ }}", "{{ get_flashed_messages() }}", "{{ config.items() }}", "{{ a | xmlattr }}", "{{ a | pprint }}",
]  # fmt: skip


class Powerful:
    """What no row holds: an object with methods and a module."""

    module = os

    def __call__(self) -> str:
        return "escaped"

    def upper(self) -> str:
        return "escaped"

    def run(self, command: str) -> str:
        return "escaped"


@pytest.mark.parametrize("source", ESCAPES)
def test_the_sandbox_is_not_left(tmp_path, source):
    template = one(tmp_path, source + " ||| b")
    with pytest.raises(TemplateError) as caught:
        template.apply({"a": "text", "o": Powerful()}, compat="raw", id="r1")
    assert str(caught.value).startswith(f"{tmp_path}/templates.yaml:4: the template 'ask' ")
    assert "\n" not in str(caught.value)
    with pytest.raises(TemplateError):  # nor by the choices
        one(tmp_path, "a ||| b", source).apply({"a": "text", "o": Powerful()}, compat="raw")


# --- conversion --------------------------------------------------------------------------------------------------------


def converted(tmp_path: Path, *entries: str, compat: Any = "raw") -> tuple[Engine, Any]:
    became = convert(file_of(tmp_path, *entries), compat)
    (tmp_path / "mine.yaml").write_text(became.sets[0].yaml, "utf-8")
    return Engine(load_set("mine.yaml", tmp_path)), became


@pytest.mark.parametrize("compat", ["raw", "t0"])
def test_a_template_becomes_one_of_ours_with_choices_and_answer(tmp_path, compat):
    jinja = "{{ line }}\nGlad, {{ answer_choices | join(' or ') }}? ||| {% if label != -1 %}{{ answer_choices[label] }}{% endif %}"
    other = "Is this sad: {{ line }} ||| {{ answer_choices[label] }}"
    engine, became = converted(
        tmp_path, entry(jinja, "no ||| yes"), entry(other, "so ||| not so", id="b", name="n: b"), compat=compat
    )
    assert (became.converted, became.total, became.findings) == (2, 2, [])
    first, second = engine.render("id", {"line": " we danced ", "label": 1}, which="all")
    assert [message["content"] for message in first.messages] == ["we danced \nGlad, no or yes?", "yes"]
    assert (first.choices, first.answer) == (["no", "yes"], 1)
    assert (second.template, second.choices) == ("n_b", ["so", "not so"])
    assert engine.set.metrics == ("accuracy",)
    record = engine.record({"line": "we danced", "label": 0})
    assert (record.prompt.strip().splitlines()[0], record.response) == ("we danced", "no")


def test_a_block_around_everything_becomes_when_and_columns_named_answer_are_renamed(tmp_path):
    engine, became = converted(
        tmp_path, entry("{% if answer %}{{ question }} {{ options[0] }}? ||| {{ answer }}{% endif %}")
    )
    assert became.findings == []
    assert engine.set.columns == {"answer_": "answer", "options_": "options", "question": "question"}
    rendered = engine.render("id", {"question": "Who", "options": ["he"], "answer": "she"})[0]
    assert [message["content"] for message in rendered.messages] == ["Who he?", "she"]


def test_a_rows_own_choices_become_a_role(tmp_path):
    jinja = "{{ q }} {{ answer_choices | join(', ') }} ||| {{ answer_choices[choices.label.index(key)] }}"
    engine, became = converted(tmp_path, entry(jinja, "{{ choices.text | join('|||') }}"))
    assert became.findings == []
    row = {"q": "Which?", "choices": {"text": ["a cat", "a dog"], "label": ["A", "B"]}, "key": "B"}
    rendered = engine.render("id", row)[0]
    assert (rendered.choices, rendered.answer) == (["a cat", "a dog"], 1)
    assert rendered.messages[0]["content"] == "Which? a cat, a dog"


def both(tmp_path: Path, jinja: str, rows: list[dict[str, Any]], choices: str | None = None) -> list[list[str]]:
    """What our template makes of each row, once that is what the oracle makes of it."""
    engine, became = converted(tmp_path, entry(jinja, choices))
    assert became.findings == []
    made = []
    for row in rows:
        ours = [message["content"] for message in engine.render("id", row)[0].messages]
        assert ours == oracle(one(tmp_path, jinja, choices), row, "raw")
        made.append(ours)
    return made


def test_a_set_inside_of_a_condition_stays_there(tmp_path):
    jinja = (
        '{{ text }} {{ "Yes or no?" }} {% set label = 0 %}{% if stars | int > 80 %}{% set label = 1 %}{% endif %}'
        " ||| {{ answer_choices[label] }}"
    )
    made = both(tmp_path, jinja, [{"text": "a", "stars": stars} for stars in (80, 81, "99", 3)], "No ||| Yes")
    assert [target for _, target in made] == ["No", "Yes", "Yes", "No"]


def test_a_text_that_is_cut_inside_of_branches_becomes_two_with_the_same_branches(tmp_path):
    jinja = "Ask. {% if a == 'x' %}One {{ b }} ||| {{ c }}{% elif a == 'y' %}Two ||| {{ b }}{% else %}Three{{ b }} ||| {{ a }}{% endif %}"
    rows = [{"a": a, "b": "q", "c": "r"} for a in "xyz"]
    assert both(tmp_path, jinja, rows) == [["Ask. One q", "r"], ["Ask. Two", "q"], ["Ask. Threeq", "z"]]


def test_a_branch_without_a_cut_takes_no_row(tmp_path):
    jinja = (
        "{% if a == 'x' %}{% if b > 2 %}One ||| {{ c }}{% endif %}{% elif a == 'y' %}Two {{ c }} ||| {{ b }}{% endif %}"
    )
    engine, became = converted(tmp_path, entry(jinja))
    assert became.findings == []
    assert both(tmp_path, jinja, [{"a": "x", "b": 3, "c": "r"}, {"a": "y", "b": 1, "c": "r"}]) == [
        ["One", "r"],
        ["Two r", "1"],
    ]
    for row in ({"a": "x", "b": 2, "c": "r"}, {"a": "z", "b": 3, "c": "r"}):
        with pytest.raises(RowSkipped, match="no template applies"):
            engine.render("id", row)


def test_lists_and_mappings_that_a_template_adds_to_are_our_filters(tmp_path):
    jinja = (
        "{% set kept = [] %}{% set n = namespace(sum=0) %}{% for name, mark in zip(names, marks) %}{% if mark > 2 %}"
        "{{ kept.append(name) or '' }}{% set n.sum = n.sum + mark %}{% endif %}{% endfor %}"
        "{% for i in range(1, 3) %}{{ i }}{% endfor %} of {{ names | join(' ') }} ||| {{ kept | join('+') }} {{ n.sum }}"
    )
    row = {"names": ["Ada", "Bo", "Cy"], "marks": [3, 1, 4]}
    assert both(tmp_path, jinja, [row]) == [["12 of Ada Bo Cy", "Ada+Cy 7"]]
    assert row == {"names": ["Ada", "Bo", "Cy"], "marks": [3, 1, 4]}


def test_what_is_counted_before_a_cut_is_counted_once(tmp_path):
    jinja = (
        "{% set n = namespace(v=0) %}{% if a > 3 %}{% set n.v = n.v + 1 %}{{ b }} ||| {{ n.v }}"
        "{% else %}{% set n.v = n.v + 2 %}{{ b }}! ||| {{ n.v }}{% endif %}"
    )
    assert both(tmp_path, jinja, [{"a": 4, "b": "x"}, {"a": 3, "b": "x"}]) == [["x", "1"], ["x!", "2"]]


def test_choices_that_are_a_text_of_their_own_are_put_together(tmp_path):
    jinja = "{{ q }} {{ answer_choices | join(', ') }} ||| {{ answer_choices[1] }}"
    rows = [{"q": "Which?", "b": ["x ", "y"]}]
    assert both(tmp_path, jinja, rows, "{% for x in b %}{{ x }}|||{% endfor %}none") == [["Which? x, y, none", "y"]]


def test_what_p3_draws_is_drawn_by_the_row_and_is_one_of_its_outcomes(tmp_path):
    jinja = "{% set who = ['he', 'she'] | choice %}{{ q }} Does {{ who }}? ||| {{ who }} {{ a | random }}"
    engine, became = converted(tmp_path, entry(jinja))
    assert became.findings == []
    rows = [{"q": f"Why {number}?", "a": ["p", "q", "r"]} for number in range(200)]
    made = [[message["content"] for message in engine.render(str(i), row)[0].messages] for i, row in enumerate(rows)]
    again = [[message["content"] for message in engine.render("z", row)[0].messages] for row in rows]
    assert made == again
    for row, (prompt, target) in zip(rows, made, strict=True):
        who, letter = target.split()
        assert prompt == f"{row['q']} Does {who}?"
        assert (who in ("he", "she"), letter in row["a"]) == (True, True)
    assert min(collections.Counter(target for _, target in made).values()) > 15
    assert len({target for _, target in made}) == 6


def test_a_template_that_draws_otherwise_than_p3_is_not_proven(tmp_path):
    template = one(tmp_path, "{{ q }} ||| {{ ['x', 'y'] | choice }}")
    trials = Trials.made_up(template, "raw", [{}])
    assert trials.difference(lambda row: [str(row["q"]).strip(), "y"] if str(row["q"]).strip() else _skip()) is None
    assert "ours renders" in (trials.difference(lambda row: [str(row["q"]).strip(), "z"]) or "")


def _skip() -> list[str]:
    raise RowSkipped("empty")


@pytest.mark.parametrize(
    ("test", "outcomes"),
    [
        ("a > 3.5", {True, False}), ("a == 4", {True, False}), ("a in ['p', 'q']", {True, False}),
        ("a != 'p'", {True, False}), ("'p' in a", {True, False}), ("a | length >= 1000", {True, False}),
        ("a == b", {True, False}), ("a", {True, False}), ("not a", {True, False}), ("a.b == [] ", {True, False}),
        ("a.split(' ') | length < 3", {True, False}), ("a is string", {True, False}), ("a[0] == 'p'", {True, False}),
        ("a | lower == 'p'", {True, False}), ("a | int in (3, 4)", {True, False}), ("a | join(' ') == 'p'", {True, False}),
        ("1 > 3 + a | length", {False}),
    ],
)  # fmt: skip
def test_made_up_rows_lie_on_both_sides_of_a_comparison(tmp_path, test, outcomes):
    template = one(tmp_path, f"{{% if {test} %}}yes{{% else %}}no{{% endif %}} ||| x")
    trials = Trials.made_up(template, "raw", [{}])
    assert {prompt == "yes" for trial in trials.rows for prompt, _ in trial.ends} == outcomes


def test_names_that_are_one_in_snake_case_are_told_apart(tmp_path):
    entries = [
        entry(f"{word} {{{{ a }}}} ||| {{{{ b }}}}", id=word, name=name)
        for word, name in (("x", "GPT-3!"), ("y", "gpt 3"))
    ]
    engine, _ = converted(tmp_path, *entries)
    assert [template.name for template in engine.set.templates] == ["gpt_3", "gpt_3_2"]


@pytest.mark.parametrize(
    ("jinja", "choices", "why"),
    [
        ("{{ a }}", None, "it has no ||| between prompt and target"),
        ("{{ a }} ||| {{ b }} ||| c", None, "||| stands in it more than once"),
        ("{% for x in a %}{{ x }} ||| {{ b }}{% endfor %}", None, "||| stands inside a block `for`"),
        ("{{ a }} ||| {{ a | highlight }}", None, "our templates have no filter `highlight`"),
        ("{{ a }} ||| {{ a | nothing }}", None, "it is not valid Jinja: No filter named 'nothing'"),
        ("{{ a }} ||| {{ b }}", "{{ a | nothing }}", "it is not valid Jinja: No filter named 'nothing'"),
        ("{{ a.sort() }} ||| b", None, "it changes a list or a mapping while it renders (`sort`)"),
        ("{{ a }} ||| {{ b[:2] }}{% if b[:2] == ['x'] %}{{ b }}{% endif %}", None, "prints a list"),
        (
            "{{ a }} ||| {% if a == 'x' and a == 'y' %}p{% else %}q{% endif %}",
            None,
            "no row shows all of it: a condition on line 1 is never true",
        ),
        ("{{ a }} ||| {% if a | length > 999999 %}p{% else %}q{% endif %}", None, "the number 999999 is larger than"),
        (
            "{{ c }} ||| {% for x in a.b %}{% if x > 1 and x < 1 %}p{% endif %}{% endfor %}q",
            None,
            "no row shows all of it: a condition on line 1 is never true",
        ),
        ("{{ a ||| b", None, "it is not valid Jinja"),
        ("{{ a.__class__ }} ||| b", None, "it tries to reach '__class__'"),
        ("{{ a }} ||| ", None, "P3 renders none of the made-up rows"),
    ],
)
def test_what_cannot_be_converted_is_a_finding_with_its_line(tmp_path, jinja, choices, why):
    became = convert(file_of(tmp_path, entry(jinja, choices)))
    assert (became.sets, became.converted, became.total) == ([], 0, 1)
    assert why in became.findings[0].why
    assert became.findings[0].where == f"{tmp_path}/templates.yaml:4"
    assert "\n" not in str(became.findings[0])


def test_the_command_writes_sets_and_says_what_is_left_out(tmp_path):
    file_of(tmp_path, entry("{{ a }}? ||| {{ b }}"), entry("{{ a }} ||| {{ a | highlight }}", id="b", name="marks"))

    def tamis(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "curate.cli", "templates", "import", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    done = tamis("promptsource", str(tmp_path / "templates.yaml"), "--out", str(tmp_path / "out"), "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["converted"], report["total"]) == (1, 2)
    assert list(report["files"]) == ["moods_small.yaml"]
    assert "no filter `highlight`" in report["findings"][0]["why"]
    assert load_set(str(tmp_path / "out" / "moods_small.yaml")).templates[0].name == "ask"
    shown = tamis("promptsource", str(tmp_path / "templates.yaml"))
    assert shown.stdout == (tmp_path / "out" / "moods_small.yaml").read_text("utf-8")
    assert "1 of 2 converted" in shown.stderr
    wrong = tamis("p3", str(tmp_path))
    assert (wrong.returncode, wrong.stderr) == (
        2,
        "there is no format 'p3'; the formats are promptsource, superni, flan\n",
    )


# --- all of P3 that is at hand -----------------------------------------------------------------------------------------


def p3_files() -> list[Path]:
    return sorted(P3.rglob("*.yaml"))


def adversarial(row: dict[str, Any], number: int) -> dict[str, Any]:
    """Longer than the cut, with separators, with white space around."""
    for name, value in row.items():
        if isinstance(value, str) and len(value) > 20:
            row[name] = (f"{value} " * 90, f"{value} ||| x", f"\n {value}\t", value)[number % 4]
    return row


@shared
@needs_data
@pytest.mark.slow
def test_every_template_of_p3_renders_as_the_oracle_does():
    templates = compared = two_parts = 0
    untried = []
    for path in p3_files():
        for template in read(path).templates:
            templates += 1
            known = {"answer_choices": list(template.fixed_choices or ())}
            rows = list(enumerate(guess.rows([template.jinja, template.choices or ""], ENVIRONMENT, known)))
            good = 0
            for number, row in (row for start in range(3) for row in rows[start::3]):
                if good and number % 3:  # one in three will do, unless P3 renders none of them
                    break
                row = adversarial(row, number)
                for compat in ("t0", "raw"):
                    expected = oracle(template, row, compat, f"row {number}")
                    try:
                        ours = template.apply(row, compat=compat, id=f"row {number}")
                    except TemplateError:
                        ours = None
                    assert ours == expected, (str(path), template.name, compat, row)
                    compared += expected is not None
                    good += expected is not None and len(expected) == 2 and all(expected)
            two_parts += good
            if not good:
                untried.append(f"{path.parent.relative_to(P3)}: {template.name}")
    print(f"{templates} templates, {compared:,} renderings, {two_parts:,} of them of two parts, untried: {untried}")
    assert templates == 1119
    assert untried == []
    assert compared > 25_000


@shared
@needs_data
def test_nineteen_in_twenty_templates_of_p3_become_ours_and_the_others_say_why(tmp_path):
    total = done = 0
    for path in p3_files()[::6]:
        became = convert(read(path))
        total, done = total + became.total, done + became.converted
        assert became.converted + len(became.findings) == became.total
        for one in became.sets:
            (tmp_path / f"{one.name}.yaml").write_text(one.yaml, "utf-8")
            assert len(load_set(f"{one.name}.yaml", tmp_path).templates) == one.templates
    print(f"{done} of {total} converted")
    assert done / total >= 0.95


# --- real prompts of T0 ------------------------------------------------------------------------------------------------

T0 = DATA / "t0_per_template"


def t0_rows(path: Path) -> list[tuple[str, str]]:
    content = path.read_bytes()
    text = (gzip.decompress(content) if path.suffix == ".gz" else content).decode()
    rows = [json.loads(line) for line in text.splitlines()]
    return [(row["prompt"].strip(), row["completion"].removesuffix("<|endoftext|>").strip()) for row in rows]


def t0_files(prefix: str) -> dict[str, Path]:
    """Files of T0 by the name of their template, with all that is no letter as _."""
    paths = {}
    for path in sorted(T0.glob(f"{prefix}_*.jsonl*")):
        paths[path.name.removesuffix(".gz").removesuffix(".jsonl").removeprefix(f"{prefix}_").strip("_")] = path
    return paths


def slug(name: str) -> str:
    return re.sub(r"[^a-zA-Z0-9]+", "_", name).strip("_")


def fitting(template: P3Template, rows: list[dict], path: Path) -> tuple[int, int]:
    """(rows of T0's file that some source row renders to, byte for byte; rows of the file)."""
    ours = set()
    for row in rows:
        try:
            parts = template.apply(row, compat="t0")
        except TemplateError:  # a row that was read back lacks what this template needs
            continue
        if len(parts) == 2:
            ours.add((parts[0], parts[1]))
    real = t0_rows(path)
    return sum(pair in ours for pair in real), len(real)


def rotten_tomatoes() -> list[dict]:
    with gzip.open(DATA / "sentconv" / "rt-polarity.all.gz", "rt", encoding="latin-1") as lines:
        return [{"label": int(line[0]), "text": line[2:].strip()} for line in lines]


def qqp() -> list[dict]:
    with gzip.open(DATA / "qqp_olora" / "train.json.gz", "rt", encoding="utf-8") as file:
        rows = json.load(file)
    texts = [re.fullmatch(r"first sentence: (.*?)\nsecond sentence: (.*)", row["sentence"], re.DOTALL) for row in rows]
    return [
        {"label": int(row["label"] == "True"), "question1": text[1], "question2": text[2]}
        for row, text in zip(rows, texts, strict=True)
        if text
    ]


@shared
@needs_data
@pytest.mark.parametrize(
    ("prefix", "folder", "source", "least"),
    [("rotten_tomatoes", "rotten_tomatoes", rotten_tomatoes, 600), ("glue_qqp", "glue/qqp", qqp, 6)],
)
def test_real_prompts_of_t0_are_rendered_from_the_source_rows(prefix, folder, source, least):
    templates = {slug(template.name): template for template in read(P3 / folder / "templates.yaml").templates}
    rows, equal = source(), 0
    for name, path in t0_files(prefix).items():
        equal += fitting(templates[name], rows, path)[0]
    assert equal == least  # the other rows of T0 are not among the source rows at hand


def recovered(template: P3Template, path: Path) -> list[dict]:
    """Source rows read back from T0's file, where the template only prints columns and one of fixed choices."""
    source, _, target = template.jinja.partition("|||")
    parts = re.split(r"\{\{\s*([A-Za-z_]\w*)\s*\}\}", source.strip())
    names = parts[1::2]
    if any("{" in part for part in parts[::2]) or len(set(names)) < len(names) or not names:
        return []
    pattern = "".join(f"(?P<{part}>.*?)" if i % 2 else re.escape(part) for i, part in enumerate(parts))
    label = re.search(r"answer_choices\[\s*(\w+)\s*\]", target)
    plain = re.fullmatch(r"\s*\{\{\s*([A-Za-z_]\w*)\s*\}\}\s*", target)
    rows = []
    for prompt, completion in t0_rows(path):
        match = re.fullmatch(pattern.strip(), prompt, re.DOTALL)
        if match is None:
            continue
        row: dict[str, Any] = match.groupdict()
        if label and completion in (template.fixed_choices or ()):
            row[label[1]] = template.fixed_choices.index(completion)  # type: ignore[union-attr]
        elif plain:
            row[plain[1]] = completion
        rows.append(row)
    return rows


@shared
@needs_data
def test_real_prompts_of_t0_are_rendered_from_rows_read_back_from_other_templates():
    equal = total = files = 0
    for path in p3_files():
        prefix = slug("_".join(path.parent.relative_to(P3).parts))
        templates = {slug(template.name): template for template in read(path).templates}
        real = {name: file for name, file in t0_files(prefix).items() if name in templates}
        rows = {name: recovered(templates[name], file) for name, file in real.items()}
        for name, file in real.items():
            others = [row for other, several in rows.items() if other != name for row in several]
            same, all = fitting(templates[name], others, file)
            equal, total, files = equal + same, total + all, files + (same > 0)
            print(f"{prefix} {name}: {same} of {all}")
    print(f"{equal:,} of {total:,} real prompts, in {files} files")
    assert equal > 1_000
