"""`tamis templates import promptsource`: over folders with bad files, with real rows, and against files that mean harm."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from curate.cli import app
from curate.contract.errors import RequestError, SourceError
from curate.importers.command import imported
from curate.importers.p3_sets import convert
from curate.importers.promptsource import read
from curate.template import sandbox

HEAD = "dataset: moods\ntemplates:\n"


def write(path: Path, *templates: tuple[str, str], head: str = HEAD) -> Path:
    """A file of P3 with templates of these names and texts."""
    entries = [
        f"  id{i}: !Template {{id: id{i}, name: {json.dumps(name)}, jinja: {json.dumps(jinja)}, answer_choices: null}}\n"
        for i, (name, jinja) in enumerate(templates)
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(head + "".join(entries), "utf-8")
    return path


def tamis(*arguments: str | Path) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, ["templates", "import", "promptsource", *map(str, arguments)])
    return done.exit_code, done.stdout, done.stderr


def test_a_bad_file_is_one_finding_and_the_others_go_on(tmp_path):
    write(tmp_path / "a" / "templates.yaml", ("ask", "{{ a }}? ||| {{ b }}"))
    write(tmp_path / "b" / "templates.yaml", ("ask", "{{ a }}? ||| {{ b }}"), head="dataset: [x\n")
    write(tmp_path / "c" / "templates.yaml", ("tell", "{{ a }} ||| {{ b }}"), head="dataset: other\ntemplates:\n")
    became = imported("promptsource", tmp_path)
    assert (sorted(became.files), became.converted) == (["moods.yaml", "other.yaml"], 2)
    assert [finding.rule for finding in became.findings] == ["not-read"]
    assert became.findings[0].where.startswith(f"{tmp_path}/b/templates.yaml:")
    assert became.findings[0].why.startswith("this is not valid YAML")


def test_two_files_of_one_data_set_do_not_overwrite_each_other(tmp_path):
    for folder in "ab":
        write(tmp_path / folder / "templates.yaml", (f"ask {folder}", "{{ a }}? ||| {{ b }}"))
    became = imported("promptsource", tmp_path)
    assert sorted(became.files) == ["moods.yaml", "moods_2.yaml"]


def test_a_filter_that_there_is_none_of_is_a_finding_of_its_template(tmp_path):
    path = write(tmp_path / "templates.yaml", ("bad", "{{ a | nothing }} ||| b"), ("good", "{{ a }} ||| {{ b }}"))
    became = convert(read(path))
    assert (became.converted, [finding.where for finding in became.findings]) == (1, [f"{path}:3"])


@pytest.mark.parametrize("depth", [60, 150, 400, 5_000])
def test_a_template_that_is_nested_too_deep_is_a_finding_or_converted(tmp_path, depth):
    deep = "{{ a + " + "(" * depth + "b" + ")" * depth + " }} ||| c"
    became = convert(read(write(tmp_path / "templates.yaml", ("deep", deep), ("good", "{{ a }} ||| {{ b }}"))))
    assert (became.converted + len(became.findings), "good" in became.sets[0].yaml) == (2, True)


def test_aliases_are_read(tmp_path):
    path = tmp_path / "templates.yaml"
    first = "  x: !Template\n    name: one\n    jinja: '{{ a }} ||| b'\n    metadata: &same !TemplateMetadata {metrics: [Squad]}\n"
    path.write_text(
        HEAD + first + "  y: !Template\n    name: two\n    jinja: '{{ a }} ||| c'\n    metadata: *same\n", "utf-8"
    )
    assert [template.metrics for template in read(path).templates] == [("Squad",), ("Squad",)]


@pytest.mark.parametrize(
    ("jinja", "row", "prompt"),
    [
        ("{{ '%0.1f' | format(a) }} ||| b", {"a": 0.26}, "0.3"),
        ("{{ '%s and %5d%%' | format(a, 3) }} ||| b", {"a": "x"}, "x and     3%"),
        ("{{ '%(n)s' | format(n=a) }} ||| b", {"a": "x"}, "x"),
    ],
)
def test_format_prints_texts_and_numbers(tmp_path, jinja, row, prompt):
    assert read(write(tmp_path / "templates.yaml", ("ask", jinja))).templates[0].apply(row) == [prompt, "b"]


@pytest.mark.parametrize(
    ("jinja", "why"),
    [
        ("{{ '%999999999d' | format(1) }} ||| b", "two digits of width at most"),
        ("{{ '%.999999999f' | format(1) }} ||| b", "two digits of width at most"),
        ("{{ '%*d' | format(999999999, 1) }} ||| b", "two digits of width at most"),
        ("{{ '%r' | format('a') }} ||| b", "two digits of width at most"),
        ("{{ '%s' | format([a]) }} ||| b", "texts and numbers only"),
    ],
)
def test_format_is_no_bomb(tmp_path, jinja, why):
    path = write(tmp_path / "templates.yaml", ("ask", jinja))
    with pytest.raises(Exception, match=why):
        read(path).templates[0].apply({"a": "x"})


def test_a_template_that_takes_for_ever_is_a_finding(tmp_path):
    loop = "{% for i in range(9999) %}{% for j in range(9999) %}{% for k in range(9999) %}{% endfor %}{% endfor %}{% endfor %}"
    path = write(tmp_path / "templates.yaml", ("slow", f"{loop}{{{{ a }}}} ||| b"), ("good", "{{ a }} ||| {{ b }}"))
    start = time.monotonic()
    became = imported("promptsource", path)
    assert (became.converted, len(became.findings)) == (1, 1)
    assert time.monotonic() - start < 60


def test_real_rows_are_proof_as_well(tmp_path):
    path = write(tmp_path / "templates.yaml", ("ask", "{{ a }}? ||| {{ b }}"), ("none", "{{ c.d }} ||| {{ b }}"))
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"a": f"Who {i}", "b": "x", "c": {}}) + "\n" for i in range(5)), "utf-8")
    code, out, err = tamis(path, "--data", rows, "--out", tmp_path / "out", "--json")
    report = json.loads(out)
    assert (code, report["converted"], report["total"]) == (0, 2, 2), err
    (tmp_path / "rows.jsonl").write_text(
        '{"a": "Who", "b": "x", "c": {"d": "y"}}\n' * 5 + '{"a": "Who", "b": "x", "c": 1}\n', "utf-8"
    )
    assert json.loads(tamis(path, "--data", rows, "--out", tmp_path / "out", "--json")[1])["converted"] == 2


def test_a_branch_that_only_real_rows_take_is_proven_by_them(tmp_path):
    jinja = "{% if a | wordcount == 7 and a.startswith('Qq') %}Seven{% else %}Other{% endif %} {{ a }} ||| {{ b }}"
    path = write(tmp_path / "templates.yaml", ("ask", jinja))
    assert "no row shows all of it" in imported("promptsource", path).findings[0].why
    rows = tmp_path / "rows.csv"
    rows.write_text("a,b\nQq two three four five six seven,x\nQq two,y\nRr two three four five six seven,z\n", "utf-8")
    assert imported("promptsource", path, data=str(rows)).converted == 1


def test_rows_are_for_one_file_and_must_be_there(tmp_path):
    for folder in "ab":
        path = write(tmp_path / folder / "templates.yaml", ("ask", "{{ a }}? ||| {{ b }}"))
    with pytest.raises(RequestError, match=r"^--data: name the one file of promptsource that these rows are for$"):
        imported("promptsource", tmp_path, data="rows.jsonl")
    with pytest.raises(RequestError, match=r"^--data: name the one file of promptsource"):
        imported("flan", path.rename(path.with_suffix(".json")), data="rows.jsonl")
    with pytest.raises(SourceError, match=r"rows\.jsonl") as caught:
        imported("promptsource", path.with_suffix(".json"), data=str(tmp_path / "rows.jsonl"))
    assert "\n" not in str(caught.value)


def test_the_watch_is_not_left_running(tmp_path):
    imported("promptsource", write(tmp_path / "templates.yaml", ("ask", "{{ a }}? ||| {{ b }}")))
    assert sandbox.WATCH._inside is False


def test_a_bomb_of_memory_is_one_finding_and_the_next_file_goes_on(tmp_path):
    bomb = (
        "{% set t = text ~ text %}" * 6
        + '{{ text | replace("", t * 50) | replace("", t * 50) | replace("", t * 50) }} ||| {{ b }}'
    )
    write(tmp_path / "a" / "templates.yaml", ("bomb", bomb), ("ask", "{{ text }}? ||| {{ b }}"))
    write(tmp_path / "b" / "templates.yaml", ("ask", "{{ a }}? ||| {{ b }}"))
    start = time.monotonic()
    out = imported("promptsource", tmp_path)
    assert time.monotonic() - start < 60
    assert out.converted >= 1
    assert all("\n" not in str(finding) for finding in out.findings)
