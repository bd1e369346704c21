from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest
from conftest import alpaca_rows, bytes_of, write_jsonl

import tamis
from curate.contract.errors import DataError, MachineError, RequestError, WorkError
from curate.run import recipe as recipes
from curate.run import runner
from curate.run.plan import plan
from curate.run.work import Work

COMMAND = [sys.executable, "-m", "curate.cli"]


def run(recipe: Path, work: Path, *sets: str, **options) -> runner.Outcome:
    return runner.run(recipes.read(recipe, list(sets)), work, **options)


def test_every_row_ends_up_kept_or_removed_with_a_reason(small: Path, tmp_path: Path) -> None:
    run(small, tmp_path / "w")
    stages = Work(tmp_path / "w").tables
    removed = pl.concat([done.read("removed") for done in stages], how="diagonal")
    final = tamis.load(tmp_path / "w")
    assert final.height + removed.height == 58 == stages[0].manifest["out"]
    assert removed["reason"].null_count() == 0 and removed["stage"].null_count() == 0
    assert set(final["record"]) | set(removed["id"]) == set(tamis.load(tmp_path / "w", "load")["id"])


def test_selected_rows_are_ranked_and_exactly_as_many_as_asked(small: Path, tmp_path: Path) -> None:
    run(small, tmp_path / "w")
    selected = tamis.load(tmp_path / "w", "select")
    assert selected["rank"].to_list() == list(range(12))
    assert set(tamis.load(tmp_path / "w", "select", removed=True)["reason"]) == {"not selected"}


def test_a_second_run_does_nothing(small: Path, tmp_path: Path) -> None:
    first = run(small, tmp_path / "w")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "w").rglob("manifest.json")}
    second = run(small, tmp_path / "w")
    assert second.done == [] and second.cached == first.done
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "w").rglob("manifest.json")}


def test_a_stage_whose_vectors_or_rows_were_deleted_is_computed_again(small: Path, tmp_path: Path) -> None:
    run(small, tmp_path / "w")
    before = bytes_of(tmp_path / "w")
    for name in ("vectors.npy", "kept/part-00000.parquet"):
        gone = next(path for path in sorted((tmp_path / "w").glob(f"*embed*/{name}")))
        gone.unlink()
        again = run(small, tmp_path / "w")
        assert again.done == [gone.relative_to(tmp_path / "w").parts[0]]
        assert bytes_of(tmp_path / "w") == before


def test_two_works_of_one_recipe_hold_the_same_bytes_for_any_number_of_workers(small: Path, tmp_path: Path) -> None:
    run(small, tmp_path / "one", workers=1)
    run(small, tmp_path / "two", workers=2)
    assert bytes_of(tmp_path / "one") == bytes_of(tmp_path / "two")


@pytest.mark.parametrize(
    ("setting", "first"),
    [
        ("length.min_words=9", "02-filter"),
        ("select.budget=5", "06-select"),
        ("render.templates=all", "07-render"),
        ("release.pretty_name=Other", "release"),
        ("seed=4", "00-load"),
    ],
)
def test_a_changed_option_reruns_its_stage_and_those_after_it(
    small: Path, tmp_path: Path, setting: str, first: str
) -> None:
    all_titles = run(small, tmp_path / "w").done
    changed = run(small, tmp_path / "w", setting)
    assert changed.done == all_titles[all_titles.index(first) :]


def test_a_changed_source_file_reruns_everything(small: Path, tmp_path: Path) -> None:
    run(small, tmp_path / "w")
    write_jsonl(tmp_path / "b.jsonl", alpaca_rows(50)[20:])
    assert run(small, tmp_path / "w").cached == []


def test_a_touched_but_equal_source_file_reruns_nothing(small: Path, tmp_path: Path) -> None:
    run(small, tmp_path / "w")
    write_jsonl(tmp_path / "a.jsonl", alpaca_rows()[:30])
    assert run(small, tmp_path / "w").done == []


def test_a_method_beside_the_recipe_is_used_and_its_source_is_part_of_the_key(small: Path, tmp_path: Path) -> None:
    mine = tmp_path / "methods" / "select" / "mine.py"
    mine.parent.mkdir(parents=True)
    source = '''"""The first rows by id."""
import numpy as np
from curate.rows.pool import Picks, Pool

def select(pool: Pool, budget: int, *, backwards: bool = False) -> Picks:
    order = np.argsort(pool.ids)[:: -1 if backwards else 1][:budget]
    return Picks(order, np.full(budget, np.nan, np.float32))
'''
    mine.write_text(source)
    small.write_text(small.read_text().replace("facility_location", "mine"))
    run(small, tmp_path / "w")
    chosen = tamis.load(tmp_path / "w", "select")["id"].to_list()
    assert chosen == sorted(chosen)
    mine.write_text(source.replace("[:budget]", "[:budget][::-1]"))
    assert run(small, tmp_path / "w").done[0] == "06-select"


def test_a_step_put_in_front_keeps_what_is_unchanged_before_it(small: Path, tmp_path: Path) -> None:
    run(small, tmp_path / "w")
    text = small.read_text()
    small.write_text(text.replace("  - dedup: exact\n", "  - dedup: exact\n  - filter: refusal\n    as: refusal\n"))
    again = run(small, tmp_path / "w")
    assert again.cached == ["00-load", "01-holdout", "02-filter", "03-dedup"]
    small.write_text(text)
    back = run(small, tmp_path / "w")
    assert back.cached[:4] == again.cached
    assert sorted(p.name for p in (tmp_path / "w").iterdir() if p.is_dir()) == sorted(back.done + back.cached)


def test_until_stops_after_a_stage_and_names_them_when_wrong(small: Path, tmp_path: Path) -> None:
    assert run(small, tmp_path / "w", until="dedup").done[-1] == "03-dedup"
    with pytest.raises(RequestError, match=r"there is no such stage; the stages are 00-load, 01-holdout"):
        run(small, tmp_path / "w", until="dedupe")


def test_the_plan_says_what_is_cached_without_running(small: Path, tmp_path: Path) -> None:
    found = recipes.read(small)
    assert {runner.state(tmp_path / "w", stage) for stage in plan(found)} == {"new"}
    run(small, tmp_path / "w", until="dedup")
    states = [runner.state(tmp_path / "w", stage) for stage in plan(found)]
    assert states[:4] == ["cached"] * 4 and set(states[4:]) == {"new"}
    assert not (tmp_path / "w" / "04-embed").exists()


def test_a_step_with_where_touches_only_those_rows(small: Path, tmp_path: Path) -> None:
    small.write_text(
        small.read_text()
        .replace(
            "  - filter: {length: {min_words: 8}}\n",
            "  - filter: {length: {min_words: 1000}}\n    where: {source: [second]}\n",
        )
        .replace("budget: 12", "budget: 3")
    )
    run(small, tmp_path / "w", until="filter")
    assert set(tamis.load(tmp_path / "w")["source"]) == {"first"}
    assert set(tamis.load(tmp_path / "w", "filter", removed=True)["source"]) == {"second"}


def test_a_budget_larger_than_the_pool_is_one_sentence(small: Path, tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"select facility_location: the budget of 1,000 is larger than the pool of \d+ rows; ask"
    ):
        run(small, tmp_path / "w", "select.budget=1000")


def test_a_folder_with_other_files_is_not_taken_for_a_work_folder(small: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x")
    with pytest.raises(WorkError, match=r"holds other files \(thesis.tex\)"):
        run(small, tmp_path / "mine")


def test_the_second_of_two_runs_says_who_holds_the_folder(small: Path, tmp_path: Path) -> None:
    with runner.held(tmp_path / "w"):
        done = subprocess.run(
            [*COMMAND, "run", str(small), "--work", str(tmp_path / "w")], capture_output=True, text=True
        )
    assert done.returncode == 2
    assert f"is held by process {os.getpid()}" in done.stderr and "Traceback" not in done.stderr


def test_a_full_disk_is_one_sentence_and_leaves_nothing_half_written(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(small, tmp_path / "w", until="filter")
    real = pl.DataFrame.write_parquet

    def full(self: pl.DataFrame, path: Path, **options) -> None:
        Path(path).write_bytes(b"half")
        with open("/dev/full", "wb", buffering=0) as handle:
            handle.write(b"x")

    monkeypatch.setattr(pl.DataFrame, "write_parquet", full)
    with pytest.raises(MachineError, match="the disk is full; nothing half-written was left; free some space"):
        run(small, tmp_path / "w")
    monkeypatch.setattr(pl.DataFrame, "write_parquet", real)
    assert not list((tmp_path / "w").rglob("*.tmp"))
    run(small, tmp_path / "w")
    run(small, tmp_path / "whole")
    assert bytes_of(tmp_path / "w") == bytes_of(tmp_path / "whole")


_COUNTED = """
import os, signal, sys
from pathlib import Path
from curate.run import recipe, runner

last, done = int(sys.argv[3]), 0

def counted(real):
    def call(*arguments, **options):
        global done
        done += 1
        if done == last:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments, **options)
    return call

os.replace = counted(os.replace)
runner.run(recipe.read(sys.argv[1]), Path(sys.argv[2]))
print(done)
"""


def _killed_at(recipe: Path, work: Path, number: int) -> subprocess.CompletedProcess:
    """A run that is killed just before it renames a file for the n-th time; 0: never."""
    return subprocess.run(
        [sys.executable, "-c", _COUNTED, str(recipe), str(work), str(number)], capture_output=True, text=True
    )


@pytest.mark.slow
def test_a_run_killed_at_any_moment_and_started_again_gives_the_same_bytes(small: Path, tmp_path: Path) -> None:
    renames = int(_killed_at(small, tmp_path / "whole", 0).stdout)
    moments = random.Random(7)
    for trial in range(2):
        work = tmp_path / f"killed{trial}"
        first = moments.randrange(2, renames)
        assert _killed_at(small, work, first).returncode == -signal.SIGKILL
        assert _killed_at(small, work, moments.randrange(1, renames - first + 2)).returncode in (-signal.SIGKILL, 0)
        assert _killed_at(small, work, 0).returncode == 0
        assert bytes_of(work) == bytes_of(tmp_path / "whole")


@pytest.mark.parametrize("stage", ["load", "filter", "dedup", "embed", "cluster", "select", "render"])
def test_a_stage_that_died_after_its_last_table_is_done_again(
    small: Path, tmp_path: Path, stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tables are there and the manifest is not; those of a selection hold other rows a shard than they did at first."""
    run(small, tmp_path / "whole")
    finish, died = runner.finish, []

    def die(planned: runner.Stage, *rest) -> None:
        if planned.step.kind == stage and not died:
            died.append(planned.title)
            raise KeyboardInterrupt
        finish(planned, *rest)

    monkeypatch.setattr(runner, "finish", die)
    with pytest.raises(KeyboardInterrupt):
        run(small, tmp_path / "w")
    run(small, tmp_path / "w")
    assert died and bytes_of(tmp_path / "w") == bytes_of(tmp_path / "whole")


def test_a_file_that_a_killed_run_was_writing_does_not_stay(small: Path, tmp_path: Path) -> None:
    run(small, tmp_path / "whole")
    for stage in plan(recipes.read(small, [])):
        half = runner.unfinished(tmp_path / "w", stage) / "data" / ".train-00000-of-00001.parquet.7.tmp"
        half.parent.mkdir(parents=True)
        half.write_bytes(b"half")
    run(small, tmp_path / "w")
    assert bytes_of(tmp_path / "w") == bytes_of(tmp_path / "whole")


@pytest.mark.parametrize("moment", range(0, 14, 3))
def test_a_crash_between_any_two_renames_is_mended(
    small: Path, tmp_path: Path, moment: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hardest moments are those between renames of folders, so each is hit on purpose: the n-th of a run raises."""
    run(small, tmp_path / "whole")
    run(small, tmp_path / "w", "length.min_words=9")
    real, left = os.replace, [moment]

    def crash(source, target) -> None:
        if Path(source).is_dir() and Path(target).is_relative_to(tmp_path / "w"):
            if not left[0]:
                raise KeyboardInterrupt
            left[0] -= 1
        real(source, target)

    monkeypatch.setattr(os, "replace", crash)
    with pytest.raises(KeyboardInterrupt):
        run(small, tmp_path / "w")
    monkeypatch.setattr(os, "replace", real)
    run(small, tmp_path / "w")
    assert bytes_of(tmp_path / "w") == bytes_of(tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_run_that_is_told_to_stop_says_one_line_and_goes_on_later(
    small: Path, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    with subprocess.Popen(
        [*COMMAND, "run", str(small), "--work", str(tmp_path / "w")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        while not (tmp_path / "w" / "00-load").is_dir() and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(number)
        _, errors = process.communicate(timeout=120)
    assert process.returncode == code, errors
    assert errors.strip().splitlines()[-1] == "Stopped. Nothing is lost: the same command goes on from here."
    assert "Traceback" not in errors
    assert "00-load" in run(small, tmp_path / "w").cached


def test_manifests_hold_no_times_and_no_paths_of_the_machine(small: Path, tmp_path: Path) -> None:
    run(small, tmp_path / "w")
    for path in (tmp_path / "w").rglob("manifest.json"):
        text = path.read_text()
        assert str(tmp_path) not in text
        assert not {"seconds", "peak_mb", "host"} & set(json.loads(text))
