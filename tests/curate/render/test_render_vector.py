"""Sets as polars expressions: the same bytes as the engine's, and nothing taken that is not the engine's to give."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from curate.contract.errors import RowSkipped, TemplateError
from curate.render import rows as rows_module
from curate.render.readers import ByColumn
from curate.render.rows import render_rows
from curate.render.vector import Vector, compile_set
from curate.rows.table import MESSAGES_TYPE
from curate.template.engine import Engine
from curate.template.sets import TemplateSet, load_set, names

HEAD = """\
dataset: made
about: Made up for a test.
license: cc0-1.0
columns: {text: COLUMN, label: LABEL}
WHEN
record: {prompt: "{{ text }}", response: "{{ answer }}"}
choices: [CHOICES]
answer: label
example: {text: a, label: 0}
templates:
"""
ODD = st.text(st.sampled_from("ab .?ǆİΣ\u0301\u2003½٣\"'{}|\\/:,\n\t\u00a0\x1c\x85é…ßı€😀0"), max_size=12)
TEXTS = st.one_of(ODD, st.text(max_size=6), st.sampled_from(['","label":1,"', '{"label":2}', "null", "true", "7", ""]))
LONG = st.lists(st.sampled_from(["a", "b.", "é", "0", "\u00a0", "Σ", "d\n", "no"]), min_size=3, max_size=14).map(
    " ".join
)
LIKELY = st.fixed_dictionaries({"text": st.one_of(TEXTS, LONG), "label": st.integers(0, 1)})
FIELDS = st.one_of(
    LIKELY,
    LIKELY,
    LIKELY,
    st.fixed_dictionaries({"text": TEXTS, "label": st.integers(-1, 4)}),
    st.fixed_dictionaries(
        {
            "text": TEXTS,
            "label": st.sampled_from(["no", "yes", "0", "1", "-1", "", "01", "maybe", None, True, 1.0, [0]]),
        }
    ),
    st.fixed_dictionaries(
        {"text": st.sampled_from([None, 3, 2.5, False, ["a"], {"text": "a"}]), "label": st.integers(0, 1)},
        optional={"more": st.dictionaries(st.sampled_from(["text", "label"]), TEXTS)},
    ),
    st.dictionaries(st.sampled_from(["text", "label", "more"]), TEXTS),
)
PIECES = st.sampled_from(
    [
        "{{ text }}", "{{ text | squeeze }}", "{{ answer }}", "{{ text | trim }}!", "{{ text | replace('a', 'xyz') }}",
        "{% if text %}some{% else %}none{% endif %}", "{% if label == 1 %}one {{ text }}{% elif label > 1 %}more{% endif %}",
        "{{ 'A' if label != 0 else 'B' }}", "{{ text | before('.') }}", "{{ text | after('.') }}", "{{ text | question }}",
        "{{ text | sentence }}", "{{ text | without('{', '}') }}", "{{ 'x' ~ text }}", "{{ text | length }}", "\n", " ",
        "Say: ", "{% if text == 'null' or not text %}z{% endif %}",
        "{{ text.split() | length }}", "{{ text | wordcount }}", "{{ text | length - 2 }}", "{{ text.count('a') + 1 }}",
        "{{ text | first_words(2) }}", "{{ text | last_words(1) }}", "{{ text | skip_words(1) }}", "{{ text | lower }}",
        "{{ text | upper }}", "{{ text | capitalize }}", "{{ text | untokenized }}", "{{ text | words }}", "{{ label }}",
        "{{ text | blank_if('a') }}", "{{ text | last }}", "{{ text | first }}", "{{ text[:2] }}", "{{ text[-1:] }}",
        "{{ ['x', text, 'z'][label] }}", "{{ [text, 'b'] | join('+') }}", "{{ [text, 'b'] | last }}", "{{ text ~ label }}",
        "{% if 1 < text.split() | length <= 3 %}few{% endif %}", "{{ 'odd' if text | length is odd else 'even' }}",
        "{% if 'a' in text and text not in ['a', 'b'] %}in{% endif %}", "{{ text if text is string else 'no' }}",
        "{% if text.startswith('a') or text.endswith(' ') %}at the end{% endif %}", "{{ [text][label] if text else 'x' }}",
        "{% if ['a', 'b'][label] == text or [text][label] == 'a' %}same{% endif %}",
        "{% filter trim | squeeze %} {{ text }} {% endfilter %}", "{{ text[1:] | trim }}", "{% if 'b' in text.split() %}b{% endif %}", "{{ text | striptags }}", "{{ text or 'none' }}",
        "{{ text.split('a') | map('trim') | select | join('|') }}", "{{ text.split('.')[1] }}",
        "{% if label and [text][label] == 'a' %}never{% endif %}",
    ]
)  # fmt: skip
OPTIONS = st.sampled_from(
    ["", "\n{{ options }}", "\n\n{{ options }}\n\n", "{% if options %}Pick.{% endif %}\n{{ options }}"]
)


LABELS = (
    "label", "label | label_index('no', 'yes')", "{'no': 0, 'yes': 1}.get(label, label)", "more | trim | label_index('no', 'yes')",
    "label | string | label_index('no', 'yes')", "label | default(more) | label_index('no', 'yes')",
)  # fmt: skip
COLUMNS = (
    "text", "text | squeeze", "text | default(more)", "text | default('', true) | trim", "text | default(none)",
    "text | untokenized", "text | lower", "text.split()", "text.strip()", "text ~ '!'", "text if text else 'none'",
    "'a' if text.count('a') > 1 else text", "text | first_words(2)", "text | trim('.a')", "text.removeprefix('a') or 'none'",
    "text.split('a') | map('trim') | select | join('+')", "(text | default(more)) ~ '.'", "more | default(text ~ '!')",
    "text.replace('a', 'b').split('b') | list | last", "text.lower().removesuffix('b')",
    "text.split(' ') | map('first_words', 1) | map('replace', 'a', 'e') | join",
)  # fmt: skip


@st.composite
def template_sets(draw: st.DrawFn) -> str:
    head = HEAD.replace("COLUMN", orjson.dumps(draw(st.sampled_from(COLUMNS))).decode())
    head = head.replace("LABEL", orjson.dumps(draw(st.sampled_from(LABELS))).decode())
    head = head.replace(
        "WHEN",
        draw(
            st.sampled_from(
                [
                    "",
                    'when: text != "a"',
                    "when: label is not none and text",
                    "when: text.split() | length < 3",
                    "when: \"'a' not in text.split()\"",
                ]
            )
        ),
    )
    many = '"no", "yes", "c", "d", "e", "it is / not"'
    head = head.replace("CHOICES", draw(st.sampled_from(['"no", "yes"', '"no", "yes", "it is / not"', many])))
    own = ["[text, 'yes', text ~ '\\n']", "[text, text ~ label, 'b']", "text.split()", "[1, text]"]
    kind = draw(st.sampled_from(["choices", "choices", "own choices", "references"]))
    if kind == "own choices":
        head = re.sub(r"choices: \[.*\]", f'choices: "{draw(st.sampled_from(own))}"', head)
    if kind == "references":
        head = re.sub(r"choices: \[.*\]\nanswer: label", 'answer: text\nreferences: "[text, text ~ 1, label]"', head)
    templates = []
    for i in range(draw(st.integers(1, 3))):
        when = draw(
            st.sampled_from([None, None, "text", "label == 0", "not text", "text | wordcount > 1", "[text][label]"])
        )
        asked = "".join(draw(st.lists(PIECES, min_size=1, max_size=4))) + (
            "" if kind == "references" else draw(OPTIONS)
        )
        target = draw(st.sampled_from(["{{ answer }}", "{{ answer }}.", "{{ text }}: {{ answer }}"]))
        template = {"name": f"t{i}", "kind": "forward", "style": "plain", "input": asked, "target": target}
        templates.append(template | ({"when": when} if when else {}))
    return head + "".join(f"  - {orjson.dumps(template).decode()}\n" for template in templates)


def by_row(engine: Engine, rows: list[tuple[str, dict[str, Any]]], which: str) -> dict[int, dict[str, Any]]:
    """What the engine makes of the rows that it takes."""
    by_place = {}
    for i, (id, fields) in enumerate(rows):
        try:
            by_place[i] = engine.render(id, fields, which=which)[0]._asdict()
        except (RowSkipped, TemplateError):
            continue
    return by_place


def by_column(vector: Vector, rows: list[tuple[str, dict[str, Any]]], which: str) -> dict[int, dict[str, Any]]:
    ids, fields = (pl.Series(values, dtype=pl.String) for values in zip(*((i, text(f)) for i, f in rows), strict=True))
    rendered = vector.render(ids, fields, which).to_dicts()
    return {row.pop("row"): row for row in rendered}


def text(fields: dict[str, Any]) -> str:
    return orjson.dumps(fields).decode()


@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    source=template_sets(),
    rows=st.lists(FIELDS, min_size=3, max_size=16),
    no_options=st.sampled_from([0.0, 0.5, 1.0]),
    inversions=st.sampled_from([0.0, 0.5, 1.0]),
    seed=st.integers(0, 3),
)
def test_what_is_rendered_by_column_is_what_the_engine_renders(tmp_path, source, rows, no_options, inversions, seed):
    path: Path = tmp_path / "made.yaml"
    path.write_text(source, "utf-8")
    engine = Engine(load_set(str(path)), seed, no_options, inversions)
    vector = compile_set(engine)
    if vector is None:
        return
    numbered = [(f"id {i}", fields) for i, fields in enumerate(rows)]
    for which in ("one", "t0"):
        expected = by_row(engine, numbered, which)
        for i, row in by_column(vector, numbered, which).items():
            assert row == expected[i]


def test_rows_as_the_set_expects_them_are_all_taken(tmp_path):
    path = tmp_path / "made.yaml"
    head = HEAD.replace("COLUMN", "'text | squeeze'").replace("LABEL", "label").replace("WHEN", "when: text")
    template = (
        '  - {name: a, kind: forward, style: plain, input: "{{ text }}\\n{{ options }}", target: "{{ answer }}"}\n'
    )
    path.write_text(head.replace("CHOICES", '"no", "yes"') + template, "utf-8")
    engine = Engine(load_set(str(path)), inversions=0)
    vector = compile_set(engine)
    assert vector is not None
    rows = [(f"id {i}", {"text": f"film \u00a0{i}", "label": i % 2}) for i in range(500)]
    rendered = by_column(vector, rows, "one")
    assert rendered == by_row(engine, rows, "one")
    assert len(rendered) == 500
    assert len({row["options_style"] for row in rendered.values()}) >= 20


def test_rows_that_are_turned_around_by_rule_are_rendered_by_column_too():
    engine = Engine(load_set("flan/natural_language_inference/rte"), inversions=1)
    told = "the mayor of the town opened a bridge over the river on Sunday and spoke of its builders"
    words = told.split()
    rows = [
        (f"{i:x}", {"sentence1": " ".join(words[: 3 + i % 14]), "sentence2": " ".join(words[i % 9 :]), "label": i % 2})
        for i in range(300)
    ]
    vector = compile_set(engine)
    assert vector is not None
    rendered = by_column(vector, rows, "one")
    assert rendered == by_row(engine, rows, "one")
    assert len({row["template"] for row in rendered.values() if "~" in row["template"]}) >= 10


def at_odds(value: Any, draw: Callable[[], float]) -> Any:
    """A value of an example as no other row has it: cut short, in other white space, or of another kind."""
    if isinstance(value, dict):
        return {key: at_odds(inner, draw) for key, inner in value.items()}
    if isinstance(value, list):
        return [at_odds(inner, draw) if draw() < 0.1 else inner for inner in value]
    lot = draw()
    if lot < 0.03:
        return NASTY[int(draw() * len(NASTY))]
    if not isinstance(value, str) or lot > 0.5:
        return value
    words = value.split(" ")
    return ["\u2003", "\n", "  ", '"'][int(lot * 8)].join(words[: 1 + int(draw() * len(words))])


NASTY = ["", " ", "\u00a0x\u2003", "ǆß İ", "\x1c", "0", "yes", "x" * 130, "½ ²e\u0301", None, 3, [], ["a", "b"], True]

BY_COLUMN = 25


@pytest.fixture(scope="module")
def library() -> dict[str, TemplateSet]:
    return {name: load_set(name) for name in names()}


def test_most_sets_of_the_library_are_rendered_by_column(library):
    vectors = {name: compile_set(Engine(one)) for name, one in library.items() if one.templates}
    taken = [name for name, vector in vectors.items() if vector is not None]
    assert len(taken) >= 70, sorted(vectors.keys() - taken)
    read = [vector.reader for vector in vectors.values() if vector is not None]
    assert sum(isinstance(reader, ByColumn) for reader in read) >= BY_COLUMN


@pytest.mark.parametrize(
    ("no_options", "inversions", "styles"),
    [(0.0, 0.0, {}), (0.3, 0.15, {"canonical": 0.6}), (1.0, 0.0, {"canonical": 1})],
)
def test_sets_of_the_library_render_alike_by_column_and_by_row(library, no_options, inversions, styles):
    draw = random.Random(7).random
    for name, one in library.items():
        engine = Engine(one, 1, no_options, inversions, styles)
        vector = compile_set(engine)
        if vector is None:
            continue
        examples = [one.examples[i % len(one.examples)] for i in range(60)]
        rows = [(f"{i:032x}", at_odds(fields, draw) if i % 2 else fields) for i, fields in enumerate(examples)]
        expected, rendered = by_row(engine, rows, "one"), by_column(vector, rows, "one")
        assert rendered == {i: expected.get(i) for i in rendered}, name
        assert len(rendered) >= len(expected) / 3, name


def test_what_needs_python_is_left_to_the_engine(tmp_path):
    path = tmp_path / "made.yaml"
    lines = HEAD.replace("COLUMN", "text").replace("LABEL", "label").replace("WHEN\n", "").replace("CHOICES", "a, b")
    asked = "{% for word in text.split() %}{{ word }}{% endfor %}"
    template = f'  - {{name: a, kind: forward, style: plain, input: "{asked}", target: "{{{{ answer }}}}"}}\n'
    path.write_text(lines + template, "utf-8")
    assert compile_set(Engine(load_set(str(path)))) is None


def test_a_table_of_several_sets_keeps_its_order_and_its_bytes_whatever_is_done_by_column(monkeypatch):
    rte = "flan/natural_language_inference/rte"
    rows: list[tuple[str, dict[str, Any]]] = []
    for i in range(300):
        if i % 3:
            rows.append((rte, {"sentence1": f"It rained {i} times.", "sentence2": "It rained.", "label": i % 2}))
        elif i % 2:
            rows.append(("flan/sentiment/sst2", {"sentence": f"film number {i} , again", "label": 1}))
        else:
            rows.append((rte, {"sentence1": None, "sentence2": "x", "label": 1}))
    table = pl.DataFrame(
        {
            "id": [f"{i:032x}" for i in range(len(rows))],
            "template_set": [name for name, _ in rows],
            "fields": [text(fields) for _, fields in rows],
        }
    ).with_columns(pl.lit(None, MESSAGES_TYPE).alias("messages"))
    kept, removed = render_rows(table, no_options=0.4)
    assert kept.height == 250
    assert removed["reason"].unique().to_list() == ["the column `sentence1` is null"]
    monkeypatch.setattr("curate.render.rows.compile_set", lambda engine: None)
    rows_module._compiled.cache_clear()
    by_engine, gone = render_rows(table, no_options=0.4)
    assert kept.equals(by_engine)
    assert removed.equals(gone)
    rows_module._compiled.cache_clear()
