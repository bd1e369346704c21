"""Templates from outside the library run with limits on memory and time."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import polars as pl
import pytest

from curate.contract.errors import SourceError, TemplateError
from curate.lint.check import findings, rendered_example
from curate.load.records import records
from curate.render.rows import render_rows
from curate.rows.table import MESSAGES_TYPE
from curate.template import guard as limits
from curate.template.guard import guard, outside
from curate.template.sets import names, read_set

HEAD = (
    "dataset: made\nabout: Made up for a test.\nlicense: mit\ncolumns: {text: TEXT}\nrecord: {prompt: '{{ text }}', "
    "response: x}\nexample: {text: some words}\ntemplates:\n"
)


def made(folder: Path, prompt: str, text: str = "text") -> str:
    head = HEAD.replace("TEXT", json.dumps(text))
    template = (
        f"  - {{name: t, kind: forward, style: canonical, target: '{{{{ text }}}}', input: {json.dumps(prompt)}}}\n"
    )
    (folder / "made.yaml").write_text(head + template, "utf-8")
    return "made.yaml"


def rows(*texts: str, name: str = "made.yaml") -> pl.DataFrame:
    fields = [json.dumps({"text": text}) for text in texts]
    ids = [f"r{i}" for i in range(len(texts))]
    return pl.DataFrame({"id": ids, "template_set": [name] * len(texts), "fields": fields}).with_columns(
        pl.lit(None, MESSAGES_TYPE).alias("messages")
    )


def pid() -> int:
    return os.getpid()


def test_a_set_of_the_library_is_not_outside_and_a_file_is():
    assert not any(map(outside, names()))
    assert outside("mine.yaml")


def test_the_process_is_another_one_and_is_used_again_and_a_call_within_it_stays_there():
    other = guard(pid)
    assert other != os.getpid()
    assert guard(pid) == guard(guard, pid) == other


def test_a_set_from_outside_renders_as_it_does_here(tmp_path):
    made(tmp_path, "Say it: {{ text | upper }}")
    table = rows(*(f"row {i}" for i in range(2_500)))
    kept, removed = render_rows(table, folder=tmp_path, inversions=0)
    assert kept["id"].to_list() == table["id"].to_list()
    assert kept["messages"][7].to_list()[0]["content"] == "Say it: ROW 7"
    assert removed.height == 0


def test_sets_of_both_kinds_in_one_table_keep_its_order(tmp_path):
    made(tmp_path, "Say it: {{ text }}")
    ours = rows(*"abc", name="pools/alpaca").with_columns(
        pl.Series("fields", [json.dumps({"instruction": f"Do {x}.", "output": x}) for x in "abc"]),
        pl.Series("id", ["o0", "o1", "o2"]),
    )
    table = pl.concat([rows("x", "", "z"), ours])[[3, 0, 4, 1, 5, 2]]
    kept, removed = render_rows(table, folder=tmp_path, inversions=0)
    assert kept["id"].to_list() == ["o0", "r0", "o1", "o2", "r2"]
    assert removed["id"].to_list() == ["r1"]


BOMBS = {  # what each is stopped by: when the file is read, by the sandbox, or by the limits
    "nothing replaced by the text, five times": '{{ text | replace("", text) | replace("", text) | replace("", text) '
    '| replace("", text) | replace("", text) }}',
    "a width in a format": "{{ '%999999999d' % 1 }}",
    "a width in another": "{{ '{:999999999}'.format(1) }}",
    "a text to the left": "{{ text.ljust(99999999) }}",
    "zeros before a text": "{{ text.zfill(99999999) }}",
    "a number of many bytes": "{{ (1).to_bytes(99999999, 'big') }}",
    "wide tabs": "{{ '\t'.expandtabs(99999999) }}",
    "a text between all letters": "{{ (text * 1).join(text) }}",
    "a join of joins": "{% for a in text %}{{ text | join(text | join(text | join(text))) | length }}{% endfor %}",
    "an indent of an indent": "{{ text | replace(' ', '\n') | indent(90000) | replace(' ', '\n') | indent(90000) }}",
    "a repeated list": "{{ [text] * 99999 }}",
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_one_sentence_within_seconds_and_the_next_set_renders(tmp_path, name):
    made(tmp_path, BOMBS[name])
    start = time.monotonic()
    with pytest.raises(TemplateError) as caught:
        render_rows(rows("two words " * 40), folder=tmp_path, inversions=0)
    assert time.monotonic() - start < 30
    said = str(caught.value)
    assert "made.yaml" in said and "\n" not in said
    made(tmp_path, "{{ text }} again")
    kept, _ = render_rows(rows("fine"), folder=tmp_path, inversions=0)
    assert kept["messages"][0].to_list()[0]["content"] == "fine again"


def test_what_needs_too_much_memory_in_one_call_is_stopped_and_the_row_is_named(tmp_path):
    made(tmp_path, '{{ text | replace("", text) | replace("", text) | length }}')
    with pytest.raises(
        TemplateError, match=r"made\.yaml: `t` was stopped at the row r0: it needs more memory than it may"
    ):
        render_rows(rows("word " * 400), folder=tmp_path, inversions=0)


def busy() -> int:
    limits.at("mine.yaml: the row r9")
    assert limits.SECONDS - 1 < signal.getitimer(signal.ITIMER_PROF)[0] < limits.SECONDS + 1
    signal.setitimer(signal.ITIMER_PROF, 0.2)  # the same timer, sooner
    return sum(range(10**12))


def test_what_takes_too_long_in_one_call_is_ended_and_the_row_is_named():
    with pytest.raises(TemplateError, match=r"^mine\.yaml: the row r9: was stopped, since it takes over 5 s"):
        guard(busy)
    assert guard(pid) != os.getpid()


def test_a_bomb_in_the_columns_stops_the_load_with_its_line(tmp_path):
    made(
        tmp_path,
        "{{ text }}",
        text='text | replace("", text) | replace("", text) | replace("", text) | length | string',
    )
    (tmp_path / "rows.jsonl").write_text(json.dumps({"text": "word " * 400}) + "\n", "utf-8")
    options = {"path": "rows.jsonl", "template": "made.yaml"}
    with pytest.raises(Exception, match=r"rows\.jsonl:1.*made.*was stopped") as caught:
        list(records("files", options, data=tmp_path, seed=0, folder=tmp_path))
    assert "Traceback" not in str(caught.value)


def test_rows_of_a_set_from_outside_become_records_in_blocks_with_their_reasons(tmp_path):
    made(tmp_path, "{{ text }}")
    lines = [json.dumps({"text": f"text {i}" if i % 50 else ""}) for i in range(1_000)]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines), "utf-8")
    parts = list(
        records("files", {"path": "rows.jsonl", "template": "made.yaml"}, data=tmp_path, seed=0, folder=tmp_path)
    )
    kept, removed = (pl.concat(side) for side in zip(*parts, strict=True))
    assert kept["prompt"].to_list() == [f"text {i}" for i in range(1_000) if i % 50]
    assert removed["reason"].to_list() == [f"rows.jsonl:{i + 1}: the prompt is empty" for i in range(0, 1_000, 50)]


def test_check_and_show_hold_the_limits_too(tmp_path):
    made(tmp_path, BOMBS["nothing replaced by the text, five times"].replace("text |", "(text ~ text ~ text) |"))
    (tmp_path / "rows.jsonl").write_text(json.dumps({"text": "word " * 100}) + "\n", "utf-8")
    wrong = findings(["made.yaml"], tmp_path, data="rows.jsonl")
    assert any("stopped" in finding["why"] for finding in wrong)
    assert all("\n" not in finding["why"] for finding in wrong)
    assert isinstance(rendered_example("made.yaml", tmp_path), list)


@pytest.mark.parametrize(
    "source",
    [
        "{{ " + "(" * 500 + "text" + ")" * 500 + " }}",
        "{{ " + "(" * 5_000 + "text" + ")" * 5_000 + " }}",
        "{{ " + "[" * 300 + "text" + "]" * 300 + " }}",
        "{% if text %}" * 300 + "x" + "{% endif %}" * 300,
        "{{ " + "not " * 3_000 + "text }}",
        "{{ text" + " + text" * 3_000 + " }}",
        "{% if text == 'a' %}a" + "{% elif text == 'b' %}b" * 3_000 + "{% endif %}",
    ],
)
def test_deep_brackets_are_a_finding(tmp_path, source):
    made(tmp_path, source)
    template_set, wrong = read_set("made.yaml", tmp_path)
    assert template_set is None
    assert [finding.rule for finding in wrong] == ["jinja"]
    assert "brackets, operators or blocks stand within each other" in wrong[0].why
    made(tmp_path, "{{ text }}", text=source.removeprefix("{{ ").removesuffix(" }}") if source[1] == "{" else "text")
    assert all(finding.rule == "jinja" for finding in read_set("made.yaml", tmp_path)[1])


@pytest.mark.parametrize("source", ["{{ text.strip }}", "{{ text.split }}", "{{ [text.upper] | first }}"])
def test_a_method_that_is_printed_is_an_error_and_no_address(tmp_path, source):
    made(tmp_path, source)
    with pytest.raises(TemplateError, match=r"prints the method `\w+` and not what it gives; write `\(\)` after it"):
        render_rows(rows("a b"), folder=tmp_path, inversions=0)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_process_ends_with_its_parent(tmp_path):
    code = (
        "import os, signal\nfrom curate.template.guard import guard\nfrom test_guard import pid\n"
        "print(guard(pid), flush=True)\nos.kill(os.getpid(), signal.SIGKILL)\n"
    )
    path = os.pathsep.join([str(Path(__file__).parents[3]), str(Path(__file__).parent)])
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
        cwd=tmp_path,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    child = int(done.stdout)
    for _ in range(100):
        if not Path(f"/proc/{child}").exists() or "Z (zombie)" in Path(f"/proc/{child}/status").read_text("utf-8"):
            return
        time.sleep(0.05)
    raise AssertionError("it still runs")


def test_the_limits_are_in_the_message(tmp_path):
    assert limits.MEMORY == 2 << 30
    assert limits.SECONDS == 5.0


def test_a_script_without_a_main_guard_renders_a_set_of_its_own(tmp_path):
    made(tmp_path, "Say it: {{ text }}")
    (tmp_path / "script.py").write_text(
        "import polars as pl\nfrom pathlib import Path\nfrom curate.lint.check import rendered_example\n"
        "print(rendered_example('made.yaml', Path())[0]['messages'][0]['content'])\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    for given in (["script.py"], ["-c", (tmp_path / "script.py").read_text()]):
        done = subprocess.run([sys.executable, *given], capture_output=True, text=True, env=environment, cwd=tmp_path)
        assert (done.stdout, done.stderr) == ("Say it: some words\n", "")


def test_the_working_folder_of_the_caller_is_that_of_the_process(tmp_path, monkeypatch):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        made(tmp_path / name, f"From {name}: {{{{ text }}}}")
        monkeypatch.chdir(tmp_path / name)
        kept, _ = render_rows(rows("x"), folder=Path(), inversions=0)
        assert kept["messages"][0].to_list()[0]["content"] == f"From {name}: x"


def test_the_process_outlives_the_thread_that_started_it():
    limits._started().end()
    thread = threading.Thread(target=guard, args=(pid,))
    thread.start()
    thread.join()
    first = guard(pid)
    time.sleep(0.2)
    assert guard(pid) == first


def test_long_rows_of_a_harmless_set_are_rendered(tmp_path):
    made(tmp_path, "Say it: {{ text | trim }} {{ text | upper }}")
    kept, _ = render_rows(rows(*[f"{i} " + "word " * 12_000 for i in range(300)]), folder=tmp_path, inversions=0)
    assert kept.height == 300


@pytest.mark.parametrize("source", ["{{ [text] | map('upper') }}", "{{ {'a': text}.items() }}", "{{ range }}"])
def test_what_is_no_text_and_no_number_is_not_printed(tmp_path, source):
    made(tmp_path, source)
    with pytest.raises(TemplateError, match=r"made\.yaml"):
        render_rows(rows("a b"), folder=tmp_path, inversions=0)


def test_what_can_be_looked_at_once_only_is_made_a_list(tmp_path):
    made(tmp_path, "{{ text | join('-') }} {{ text | join('-') }}", text="text.split() | map('upper')")
    head = (tmp_path / "made.yaml").read_text().replace("prompt: '{{ text }}'", "prompt: '{{ text | first }}'")
    (tmp_path / "made.yaml").write_text(head.replace("'{{ text }}'", "'{{ text | last }}'"))
    kept, _ = render_rows(rows("a b"), folder=tmp_path, inversions=0)
    assert kept["messages"][0].to_list()[0]["content"] == "A-B A-B"


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ("text", "`messages` gives 'a b', which is no list of role and content"),
        ("[{'role': 'user', 'content': text}]", "`messages` gives no turn of an assistant"),
        ("[{'role': 'assistant', 'content': {}.items()}]", "which is no list of role and content"),
    ],
)
def test_messages_that_are_no_conversation_cost_their_row(tmp_path, messages, reason):
    (tmp_path / "rows.jsonl").write_text('{"text": "a b"}\n{"text": "c d"}\n', "utf-8")
    (tmp_path / "made.yaml").write_text(
        "dataset: made\nabout: Made up for a test.\ncolumns: {text: text}\nexample: {text: a}\n"
        f"record: {{prompt: '{{{{ text }}}}', response: x}}\nmessages: {json.dumps(messages)}\n",
        "utf-8",
    )
    options = {"path": "rows.jsonl", "template": "made.yaml", "on_error": "remove", "license": "mit"}
    with pytest.raises(SourceError, match="gives no record") as caught:
        list(records("files", options, data=tmp_path, seed=0, folder=tmp_path))
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    "source",
    [
        "{{ " + "9" * 5_000 + " }}",
        "{{ 0x" + "f" * 5_000 + " }}",
        "{% for a in text %}" * 16 + "x" + "{% endfor %}" * 16,
        "x" * 300_000,
    ],
)
def test_numbers_loops_and_texts_without_measure_are_findings(tmp_path, source):
    made(tmp_path, source)
    template_set, wrong = read_set("made.yaml", tmp_path)
    assert template_set is None
    assert {finding.rule for finding in wrong} <= {"jinja", "sandbox"}
    assert all(len(finding.why) < 300 for finding in wrong)
