"""Every method file obeys its kind's protocol; adding a method adds its test."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from curate.contract import code, methods
from curate.mix import quotas

EVERY = [(kind, name) for kind in methods.rooms() for name in methods.all_of(kind)]


@pytest.mark.parametrize(("kind", "name"), EVERY)
def test_every_method_is_documented_and_its_options_are_annotated(kind: str, name: str) -> None:
    method = methods.find(kind, name)
    assert method.summary.endswith(".") and len(method.summary) < 200, method.summary
    for parameter in method.parameters:
        assert parameter.annotation != "Any", parameter
        if parameter.default is not methods.REQUIRED and parameter.default is not None:
            assert methods.accepts(parameter.annotation, parameter.default), parameter


@pytest.mark.parametrize(("kind", "name"), EVERY)
def test_every_option_of_every_method_says_what_it_means(kind: str, name: str) -> None:
    silent = [option.word for option in methods.find(kind, name).parameters if not option.about]
    assert set(silent) <= {"budget"}  # which all selectors share; curate/rows/constraints.py says what it may be


@pytest.mark.parametrize(
    ("file", "function", "skip"),
    [
        ("curate/rows/constraints.py", "common", 0),
        ("curate/rows/holdout.py", "split", 1),
        ("curate/mix/presets.py", "bind", 3),
        *(("curate/mix/quotas.py", way, 1) for way in quotas.WAYS),
        ("curate/mix/quotas.py", "common", 0),
    ],
)
def test_every_option_that_is_no_methods_says_what_it_means(file: str, function: str, skip: int) -> None:
    options = methods.signature(file, function, skip, without=("seed",))
    assert options and not [option.word for option in options if not option.about]


@pytest.mark.parametrize(("kind", "name"), EVERY)
def test_options_of_every_method_are_keyword_only(kind: str, name: str) -> None:
    method = methods.find(kind, name)
    function = next(
        node
        for node in ast.parse(method.path.read_text()).body
        if isinstance(node, ast.FunctionDef) and node.name == methods.room(kind).verb
    )
    positional = [argument.arg for argument in function.args.args[methods.room(kind).data :]]
    assert positional in ([], ["budget"])


@pytest.mark.parametrize(
    ("kind", "name"),
    [(k, n) for k, n in EVERY if k in ("filter", "dedup", "embed", "score", "decontaminate")],
)
def test_every_method_that_reads_text_says_which(kind: str, name: str) -> None:
    assert methods.find(kind, name).text in (*methods.TEXTS, "id", "fields")


def test_an_unknown_method_names_the_nearest_and_all_there_are() -> None:
    with pytest.raises(
        Exception,
        match=r"unknown select method 'facility_locaton'. Did you mean 'facility_location'\?; there are: .*random",
    ):
        methods.find("select", "facility_locaton")


def test_a_default_that_is_not_a_literal_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "methods" / "select" / "mine.py"
    path.parent.mkdir(parents=True)
    path.write_text("K = 3\ndef select(pool, budget, *, k: int = K): ...\n")
    with pytest.raises(Exception, match=r"mine.py:2: the default of `k` must be a literal"):
        methods.find("select", "mine", tmp_path)


@pytest.mark.parametrize(
    ("annotation", "value", "fits"),
    [
        ("int", 3, True),
        ("int", True, False),
        ("int", 3.5, False),
        ("float", 3, True),
        ("float | None", None, True),
        ("str", 3, False),
        ("list[str]", ["a"], True),
        ("list[str]", ["a", 1], False),
        ("dict[str, float]", {"a": 1}, True),
        ("dict[str, float]", {"a": "b"}, False),
        ("Literal['a', 'b'] | None", "b", True),
        ("Literal['a', 'b'] | None", "c", False),
        ("bool", "yes", False),
    ],
)
def test_values_are_checked_against_annotations(annotation: str, value: object, fits: bool) -> None:
    assert methods.accepts(annotation, value) is fits


def test_a_stage_key_sees_the_modules_that_a_method_imports(tmp_path: Path) -> None:
    first = code.source_and_versions([methods.find("select", "facility_location").path])
    other = code.source_and_versions([methods.find("select", "random").path])
    assert first[0] != other[0]
    assert "numpy" in first[1]
