"""Sets as polars expressions: the same bytes as the engine's, and nothing taken that is not the engine's to give."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import polars as pl
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from curate.contract.errors import RowSkipped, TemplateError
from curate.render import rows as rows_module
from curate.render.rows import render_rows
from curate.render.vector import Vector, compile_set
from curate.rows.table import MESSAGES_TYPE
from curate.template.engine import Engine
from curate.template.sets import load_set, names

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
ODD = st.text(st.sampled_from("ab .?\"'{}|\\/:,\n\t\u00a0\x1c\x85é…ßı€😀0"), max_size=12)
TEXTS = st.one_of(ODD, st.text(max_size=6), st.sampled_from(['","label":1,"', '{"label":2}', "null", "true", "7", ""]))
FIELDS = st.one_of(
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
    ]
)  # fmt: skip
OPTIONS = st.sampled_from(
    ["", "\n{{ options }}", "\n\n{{ options }}\n\n", "{% if options %}Pick.{% endif %}\n{{ options }}"]
)


@st.composite
def template_sets(draw: st.DrawFn) -> str:
    labels = ["label", 'label | label_index("no", "yes")', '{"no": 0, "yes": 1}.get(label, label)']
    python = ["text | untokenized", "text | lower", '"text.split()"', '"text | default(none)"']
    columns = [*python, "text", '"text | squeeze"', '"text | default(more)"', "'text | default(\"\", true) | trim'"]
    head = HEAD.replace("COLUMN", draw(st.sampled_from(columns))).replace("LABEL", f"'{draw(st.sampled_from(labels))}'")
    head = head.replace("WHEN", draw(st.sampled_from(["", 'when: text != "a"', "when: label is not none and text"])))
    head = head.replace("CHOICES", draw(st.sampled_from(['"no", "yes"', '"no", "yes", "it is / not"'])))
    templates = []
    for i in range(draw(st.integers(1, 3))):
        when = draw(st.sampled_from([None, None, "text", "label == 0", "not text"]))
        asked = "".join(draw(st.lists(PIECES, min_size=1, max_size=4))) + draw(OPTIONS)
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


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    source=template_sets(),
    rows=st.lists(FIELDS, min_size=1, max_size=12),
    no_options=st.sampled_from([0.0, 0.5, 1.0]),
    seed=st.integers(0, 3),
)
def test_what_is_rendered_by_column_is_what_the_engine_renders(tmp_path, source, rows, no_options, seed):
    path: Path = tmp_path / "made.yaml"
    path.write_text(source, "utf-8")
    engine = Engine(load_set(str(path)), seed, no_options)
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


def library_vectors() -> list[str]:
    return [name for name in names() if compile_set(Engine(load_set(name))) is not None]


def test_sets_of_the_library_render_alike_by_column_and_by_row():
    taken = 0
    for name in library_vectors():
        engine = Engine(load_set(name), 0, 0.3)
        vector = compile_set(engine)
        assert vector is not None
        rows = [(f"{i:032x}", engine.set.examples[i % len(engine.set.examples)]) for i in range(60)]
        expected = by_row(engine, rows, "one")
        for i, row in by_column(vector, rows, "one").items():
            assert row == expected[i], name
            taken += 1
    assert taken > 100


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
