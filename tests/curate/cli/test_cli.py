from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from curate.contract.errors import RequestError
from curate.run import recipe as recipes
from curate.run.plan import plan

COMMAND = [sys.executable, "-m", "curate.cli"]


def tamis(*arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *map(str, arguments)], capture_output=True, text=True, cwd=cwd)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished small run, shared by the tests that only look."""
    from conftest import RECIPE, alpaca_rows, write_jsonl

    folder = tmp_path_factory.mktemp("cli")
    write_jsonl(folder / "a.jsonl", alpaca_rows()[:30])
    write_jsonl(folder / "b.jsonl", [*alpaca_rows()[20:], {"instruction": "short", "input": "", "output": "x"}])
    (folder / "recipe.yaml").write_text(RECIPE)
    done = tamis("run", folder / "recipe.yaml", "--work", folder / "work")
    assert done.returncode == 0, done.stderr
    return folder


def test_run_prints_the_funnel_and_where_things_are(finished: Path) -> None:
    done = tamis("run", finished / "recipe.yaml", "--work", finished / "work")
    for part in ("The funnel", "00-load", "06-select", "kept %", "peak MB", "Nothing to do: all", "release/README.md"):
        assert part in done.stdout, part
    assert done.stderr == ""


def test_plan_lists_the_stages_and_runs_nothing(finished: Path, tmp_path: Path) -> None:
    done = tamis("run", finished / "recipe.yaml", "--work", tmp_path / "new", "--plan", "--json")
    rows = json.loads(done.stdout)
    assert [row["state"] for row in rows] == ["new"] * len(rows) and not (tmp_path / "new").exists()


def test_show_prints_rows_removed_rows_and_one_rows_story(finished: Path) -> None:
    kept = json.loads(tamis("show", finished / "work", "--json").stdout)
    assert len(kept) == 10 and "messages" in kept[0]
    removed = json.loads(tamis("show", finished / "work", "--removed", "--reason", "length", "--json").stdout)
    assert all(row["reason"].startswith("length: ") for row in removed) and removed
    story = tamis("show", finished / "work", "--id", removed[0]["id"]).stdout
    assert "00-load" in story and "removed: length" in story


def test_show_of_an_unknown_stage_names_those_there_are(finished: Path) -> None:
    done = tamis("show", finished / "work", "--stage", "polish")
    assert done.returncode == 2 and "has no stage 'polish'; it has 00-load" in done.stderr


def test_a_wrong_recipe_exits_with_two_and_without_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("name: x\nlaod: []\n")
    done = tamis("run", "recipe.yaml", cwd=tmp_path)
    assert done.returncode == 2
    assert "recipe.yaml:2: the recipe has no option 'laod'. Did you mean 'load'?" in done.stderr
    assert "Traceback" not in done.stderr and done.stdout == ""


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    done = tamis("--debug", "run", "none.yaml", cwd=tmp_path)
    assert "Traceback" in done.stderr and "no such recipe" in done.stderr


def test_methods_lists_every_selector_with_its_options() -> None:
    rows = {row["name"]: row for row in json.loads(tamis("methods", "select", "--json").stdout)}
    assert {"random", "longest", "stratified", "k_center", "facility_location", "homogeneous"} <= set(rows)
    assert "budget" in rows["random"]["options"]


def test_an_unknown_option_of_the_command_exits_with_two() -> None:
    done = tamis("run", "--nonsense")
    assert done.returncode == 2 and "Traceback" not in done.stderr


def test_a_work_folder_that_is_none_is_one_sentence(tmp_path: Path) -> None:
    done = tamis("funnel", tmp_path)
    assert done.returncode == 2 and "is not a work folder" in done.stderr


def test_verify_passes_a_release_and_fails_a_changed_one(finished: Path, tmp_path: Path) -> None:
    for folder in (finished / "work", finished / "work" / "release"):
        assert tamis("verify", folder).returncode == 0
    shutil.copytree(finished / "work" / "release", tmp_path / "copy")
    card = tmp_path / "copy" / "README.md"
    card.write_text(card.read_text() + "\nedited\n")
    done = tamis("verify", tmp_path / "copy")
    assert done.returncode == 1 and "README.md" in done.stdout


def test_after_a_run_that_stopped_early_every_command_says_what_is_of_an_earlier_recipe(
    finished: Path, tmp_path: Path
) -> None:
    work = shutil.copytree(finished / "work", tmp_path / "work")
    change = ("--set", "filter.min_words=9")
    done = tamis("run", finished / "recipe.yaml", "--work", work, *change, "--until", "filter")
    assert done.returncode == 0, done.stderr
    said = "03-dedup, 04-embed, 05-cluster, 06-select, 07-render and release are of an earlier recipe"
    assert said in done.stderr and "\n*03-dedup" in done.stdout and "\n 02-filter" in done.stdout
    assert "release/README.md" not in done.stdout
    assert tamis("verify", work).returncode == 1 and said.split(",")[0] in tamis("verify", work).stdout
    for command in (("funnel", "--json"), ("show", "--json"), ("report", "--json"), ("card",)):
        done = tamis(command[0], work, *command[1:])
        assert done.returncode == 0 and said in done.stderr, command
    rows = json.loads(tamis("funnel", work, "--json").stdout)
    assert [row["stage"] for row in rows if not row["old"]] == ["00-load", "01-holdout", "02-filter"]
    assert "messages" not in json.loads(tamis("show", work, "--json").stdout)[0]  # the last table that the run came to
    assert tamis("show", work, "--stage", "render", "--json").returncode == 0


def test_a_work_that_did_not_come_to_its_release_has_no_card_and_verify_says_so(finished: Path, tmp_path: Path) -> None:
    done = tamis("run", finished / "recipe.yaml", "--work", tmp_path / "w", "--until", "holdout")
    assert done.returncode == 0, done.stderr
    card, verified = tamis("card", tmp_path / "w"), tamis("verify", tmp_path / "w")
    assert card.returncode == 2 and "holds no release; add `release: {}`" in card.stderr
    assert verified.returncode == 1 and "07-render and release are not there: the last run did not" in verified.stdout


def test_a_fault_of_the_machine_is_one_sentence_whatever_the_command(finished: Path, tmp_path: Path) -> None:
    work = tmp_path / "work"
    shutil.copytree(finished / "work", work)
    (work / "06-select" / "manifest.json").unlink()
    (work / "06-select" / "manifest.json").mkdir()
    for command in ("funnel", "show", "verify", "report"):
        done = tamis(command, work)
        assert done.returncode == 1 and "Traceback" not in done.stderr, command
        assert done.stderr.startswith(f"{work}/06-select/manifest.json: this is a folder and should be a file"), command
    assert "Traceback" in tamis("--debug", "funnel", work).stderr


def test_doctor_and_cache_print_tables() -> None:
    assert "polars" in tamis("doctor").stdout
    assert tamis("cache", "ls", "--json").returncode == 0


def test_templates_are_listed_shown_and_checked() -> None:
    assert "pools/alpaca" in tamis("templates", "ls").stdout
    assert "[assistant]" in tamis("templates", "show", "flan/sentiment/sst2").stdout
    done = tamis("templates", "check")
    assert done.returncode == 0, done.stdout


def test_show_gives_one_template_or_those_that_are_derived() -> None:
    rte = "flan/natural_language_inference/rte"
    derived = json.loads(tamis("templates", "show", rte, "--derived", "--json").stdout)
    name = next(row["template"] for row in derived if "~" in row["template"]).split("~")[0]
    one = json.loads(tamis("templates", "show", rte, "--template", name, "--json").stdout)
    assert [row["template"] for row in one] == [name]
    wrong = tamis("templates", "show", rte, "--template", f"{name}x")
    assert wrong.returncode == 2 and f"has no template '{name}x'. Did you mean '{name}'?" in wrong.stderr


def test_styles_and_what_is_left_out_are_checked_before_anything_runs(tmp_path: Path) -> None:
    from conftest import write_jsonl

    write_jsonl(tmp_path / "a.jsonl", [{"name": f"Land {i}", "town": f"Town {i}"} for i in range(5)])
    (tmp_path / "mine.yaml").write_text(
        "dataset: towns\nabout: Which town?\ncolumns: {name: name, town: town}\nanswer: town\n"
        "record: {prompt: '{{ name }}', response: '{{ town }}'}\nexample: {name: A, town: B}\ntemplates:\n"
        "  - {name: t, kind: forward, style: plain, input: '{{ name }}?', target: '{{ answer }}'}\n"
    )
    for options, said in {
        "leave_out: {mine.yaml: [tt]}": "mine.yaml has no template 'tt'. Did you mean 't'?",
        "leave_out: {mine.yaml: [t]}": "leaves mine.yaml no template",
        "leave_out: {mine.yaml: t}": "mine.yaml is 't'; write a list of its templates",
        "leave_out: {flan/sst2: [t]}": "there is no template set 'flan/sst2'",
        "styles: {canonical: 0.5}": "mine.yaml has no such template to draw; it has plain, so write one",
        "styles: {canonic: 0.5}": "there is no style 'canonic'. Did you mean 'canonical'?",
        "styles: {plain: 1.5}": "plain is 1.5; it is a share and lies between 0 and 1",
        "styles: {plain: 0.7, terse: 0.7}": "the shares come to 1.4",
    }.items():
        recipe = "name: few\nload:\n  - files: {path: a.jsonl, name: a, template: mine.yaml, license: mit}\n"
        (tmp_path / "recipe.yaml").write_text(f"{recipe}render: {{{options}}}\n")
        with pytest.raises(RequestError) as caught:
            plan(recipes.read(tmp_path / "recipe.yaml", []))
        assert said in str(caught.value)
    done = tamis("run", "recipe.yaml", "--plan", cwd=tmp_path)
    assert done.returncode == 2 and "the shares come to 1.4" in done.stderr and "Traceback" not in done.stderr


def test_methods_lists_what_has_options_and_no_folder_of_methods_too() -> None:
    listed = json.loads(tamis("methods", "--json").stdout)
    options = {(row["kind"], row["name"]): row["options"] for row in listed}
    assert "styles" in options["render", "render"] and "leave_out" in options["render", "render"]
    assert "shots" in options["render", "few_shot"]
    assert "temperature" in options["mix", "proportional"] and ("mix", "flan2021") in options
    assert "fraction" in options["holdout", "holdout"]
    assert ("select", "k_center") in options
    assert "example_cap" in tamis("methods", "mix").stdout
    assert tamis("methods", "mixx").returncode == 2


def test_a_section_that_stands_among_the_steps_is_told_where_it_belongs(tmp_path: Path) -> None:
    load = "name: x\nload:\n  - files: {path: a.jsonl, name: a, license: mit}\n"
    for entry, said in {
        "holdout: {rows: 5}": "recipe.yaml:5: `holdout` is no step but a section of its own; write `holdout:` at the left "
        "margin, beside `steps:`. It runs before all steps",
        "render: {templates: one}": "It runs after all steps, wherever it stands",
    }.items():
        (tmp_path / "recipe.yaml").write_text(f"{load}steps:\n  - {entry}\n")
        done = tamis("run", "recipe.yaml", "--plan", cwd=tmp_path)
        assert done.returncode == 2 and said in done.stderr, done.stderr


def test_few_shot_prompts_are_the_same_for_any_number_of_workers(tmp_path: Path) -> None:
    from conftest import write_jsonl

    lines = [{"sentence": f"film number {i} goes on and on", "label": i % 2} for i in range(300)]
    for name, part in (("a", lines[:150]), ("b", lines[150:])):
        write_jsonl(tmp_path / f"{name}.jsonl", part)
    source = "files: {path: %s.jsonl, name: %s, template: flan/sentiment/sst2, license: mit}"
    (tmp_path / "recipe.yaml").write_text(
        "name: few\nload:\n" + "".join(f"  - {source % (n, n)}\n" for n in "ab") + "render:\n  no_options: 0.3\n"
        "  inversions: 0.1\n  few_shot: {share: 0.5, exemplars: 10}\n"
    )
    works = {}
    for workers in (1, 2):
        done = tamis("run", "recipe.yaml", "--work", f"work{workers}", "--workers", str(workers), cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        folder = next((tmp_path / f"work{workers}").glob("*render"))
        works[workers] = {p.relative_to(folder): p.read_bytes() for p in sorted(folder.rglob("*.parquet"))}
    assert works[1] == works[2]
    removed = json.loads(tamis("show", "work1", "--removed", "--json", "--limit", "999", cwd=tmp_path).stdout)
    assert len(removed) == 10
