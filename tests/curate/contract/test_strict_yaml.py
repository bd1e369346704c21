"""Strict YAML: 1.2 scalars, line numbers, and one sentence for what would mean something else than it seems to."""

from __future__ import annotations

import math
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.contract.errors import RequestError
from curate.contract.strict_yaml import YamlError, parse, read, scalar


@pytest.mark.parametrize(
    "text", ["yes", "no", "on", "Off", "y", "12:30", "2024-01-31", "1_000", "0x", "1e", "nan", "None", "+", "."]
)
def test_what_looks_like_a_value_to_yaml_1_1_is_text_here(text):
    assert parse(f"key: {text}", "x").data == {"key": text}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4), ("2E5", 2e5), ("-.5", -0.5), ("3.", 3.0), ("007", 7), ("-12", -12), ("0o17", 15), ("0xfF", 255),
        ("true", True), ("FALSE", False), ("null", None), ("~", None), ("", None), (".inf", math.inf), ("-.INF", -math.inf),
    ],
)  # fmt: skip
def test_core_schema_scalars_have_their_values(text, value):
    found = parse(f"key: {text}", "x").data["key"]
    assert found == value
    assert type(found) is type(value)
    assert scalar(text) == value


@given(st.integers() | st.booleans() | st.none() | st.floats(allow_nan=False))
def test_what_python_prints_of_a_number_is_read_back(value):
    text = (
        {True: "true", False: "false", None: "null"}[value]
        if value in (None, True, False) and not isinstance(value, float)
        else repr(value)
    )
    assert scalar(text.replace("inf", ".inf")) == value


def test_quoted_and_block_scalars_are_text_and_white_space_is_literal():
    document = parse("a: '1'\nb: \"yes\\n\"\nc: |-\n  x\n\n   y\nd: |\n  x\n", "x")
    assert document.data == {"a": "1", "b": "yes\n", "c": "x\n\n y", "d": "x\n"}


def test_keys_are_always_text():
    assert parse("{1: a, true: b, null: c}", "x").data == {"1": "a", "true": "b", "null": "c"}


def test_an_empty_file_is_none():
    assert parse("", "x").data is None
    assert parse("# a remark\n", "x").data is None


def test_every_key_and_item_knows_its_line_and_others_their_ancestors():
    document = parse("name: a\nsteps:\n  - dedup: exact\n  - filter:\n      length: {min_words: 3}\n", "recipe.yaml")
    assert document.line("name") == 1
    assert document.line("steps", 1) == 4
    assert document.line("steps", 1, "filter", "length", "min_words") == 5
    assert document.line("steps", 1, "filter", "lenght") == 4
    assert document.line("nothing") == 1


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("a: 1\nb: 2\na: 3", 3, "the key `a` stands twice, here and on line 1"),
        ("a: &x 1", 1, "anchor &x"),
        ("a: 1\nb: *x", 2, "alias *x"),
        ("a: !!python/name:os.system", 1, "tag tag:yaml.org,2002:python/name:os.system"),
        ("a: !mine 1", 1, "tag !mine"),
        ("a: 1\n---\nb: 2", 2, "a second document"),
        ("a:\n\tb: 1", 2, "indented with a tab; use spaces"),
        ("a: b: c", 1, "quote the value"),
        ("a: {{ role }}", 1, "a key must be a word, not a list or a mapping; quote a value that starts with {{"),
        ("a: %x", 1, "must not start with %"),
        ("a: [1, 2\n", 1, "a bracket or a quote opens here and is not closed"),
        ("b: 1\na: 'x\n\n", 2, "a bracket or a quote opens here and is not closed"),
        ("- a\nb: 1", 2, "not valid YAML"),
        ("ö: 1\nb: \x07", 2, "control character"),
        ("a: " + "[" * 500, 1, "nested more than 100 levels deep"),
    ],
)
def test_each_mistake_is_one_sentence_with_its_line(text, line, says):
    with pytest.raises(YamlError) as caught:
        parse(text, "recipe.yaml")
    assert caught.value.line == line
    assert str(caught.value).startswith(f"recipe.yaml:{line}: ")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, RequestError)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_a_file_that_is_not_utf_8_is_named_with_the_line(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_bytes(b"name: a\nabout: caf\xe9\n")
    with pytest.raises(YamlError, match=r"recipe\.yaml:2: this is not UTF-8; save the file as UTF-8"):
        read(path)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs"))),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.from_regex(r"[a-z]{1,6}", fullmatch=True), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(json_values)
def test_what_a_yaml_writer_writes_is_read_back(value):
    import yaml

    written = yaml.safe_dump(value, allow_unicode=True)
    expected = yaml.safe_load(written)
    assert expected == value
    assert parse(written, "x").data == value
