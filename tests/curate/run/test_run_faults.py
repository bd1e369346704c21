"""Whatever the machine refuses in the middle of a run is one sentence; the run goes on from there, to the same bytes."""

from __future__ import annotations

import builtins
import errno
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from conftest import alpaca_rows, bytes_of, write_jsonl

import tamis
from curate.contract import files
from curate.contract.errors import MachineError, WorkError
from curate.report import check, funnel
from curate.run import recipe as recipes
from curate.run import runner
from curate.run.work import Work

RECIPE = """\
name: light
load:
  - files: {path: a.jsonl, name: first, shape: alpaca, license: mit}
steps:
  - filter: {length: {min_words: 8}}
  - dedup: exact
  - select: {longest: {budget: 12}}
render: {templates: one}
"""
STAGES = ["00-load", "01-holdout", "02-filter", "03-dedup", "04-select", "05-render"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a recipe that runs in half a second, its finished work, and one that came to its third stage."""
    folder = tmp_path_factory.mktemp("home")
    write_jsonl(folder / "a.jsonl", alpaca_rows())
    (folder / "recipe.yaml").write_text(RECIPE + "holdout: {rows: 6}\n")
    run(folder / "recipe.yaml", folder / "whole")
    run(folder / "recipe.yaml", folder / "begun", until="filter")
    return folder


@pytest.fixture
def light(home: Path) -> Path:
    return home / "recipe.yaml"


@pytest.fixture
def whole(home: Path, tmp_path: Path) -> Path:
    """A finished work of one's own."""
    return Path(shutil.copytree(home / "whole", tmp_path / "w"))


def run(recipe: Path, work: Path, *sets: str, **options: Any) -> runner.Outcome:
    return runner.run(recipes.read(recipe, list(sets)), work, **options)


def failing(real: Callable[..., Any], first: int, error: Callable[[], Exception], mine: Callable[..., bool]) -> Any:
    """The function, which fails from its n-th call on."""
    calls = [0]

    def call(*arguments: Any, **options: Any) -> Any:
        calls[0] += bool(mine(*arguments))
        if calls[0] > first and mine(*arguments):
            raise error()
        return real(*arguments, **options)

    return call


def parquet_says(number: int) -> Callable[[], Exception]:
    text = f"parquet: File out of specification: underlying IO error: {os.strerror(number)} (os error {number})"
    return lambda: pl.exceptions.ComputeError(text)


@pytest.mark.parametrize(
    ("call", "name", "first"),
    [
        ("replace", "EIO", 9),
        ("replace", "EROFS", 0),
        ("fsync", "ENOSPC", 40),
        ("fsync", "EIO", 3),
        ("mkdir", "EDQUOT", 5),
        ("write", "EACCES", 6),
        ("write", "EMFILE", 12),
        ("read", "EIO", 8),
        ("polars", "ENOSPC", 3),
        ("polars", "EDQUOT", 6),
    ],
)
def test_a_fault_in_the_middle_of_a_run_is_one_sentence_and_the_run_goes_on(
    home: Path, light: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, name: str, first: int
) -> None:
    number, work = getattr(errno, name), Path(shutil.copytree(home / "begun", tmp_path / "w"))
    before = {title: bytes_of(work / title) for title in STAGES[:2]}

    def error() -> OSError:
        return OSError(number, os.strerror(number))

    def in_work(*arguments: Any) -> bool:
        return any(isinstance(one, str | Path) and Path(one).is_relative_to(work) for one in arguments)

    def writes(path: Any, mode: str = "r", *_: Any) -> bool:
        return in_work(path) and "w" in mode

    def reads(path: Any, mode: str = "r", *_: Any) -> bool:
        return in_work(path) and "r" in mode

    with monkeypatch.context() as patch:
        if call == "polars":
            write = failing(pl.DataFrame.write_parquet, first - 3, parquet_says(number), lambda *_: True)
            patch.setattr(pl.DataFrame, "write_parquet", write)
        elif call in ("read", "write"):
            opened = failing(builtins.open, first - 6, error, reads if call == "read" else writes)
            patch.setattr(builtins, "open", opened)
            patch.setattr(io, "open", opened)
        else:
            mine = in_work if call != "fsync" else lambda *_: True
            patch.setattr(os, call, failing(getattr(os, call), first, error, mine))
        with pytest.raises(MachineError, match=r"run the same command again$") as caught:
            run(light, work, "length.min_words=9") if call == "read" else run(light, work)
    assert "\n" not in str(caught.value) and caught.value.exit_code == 1
    assert not [path for path in work.rglob(".*") if path.name.endswith((".tmp", ".gone"))]
    assert before == {title: bytes_of(work / title) for title in before}
    run(light, work)
    assert bytes_of(work) == bytes_of(home / "whole")


def test_a_stage_whose_place_cannot_be_taken_leaves_the_old_one_there(
    light: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = whole
    old, real = bytes_of(work / "02-filter"), os.replace

    def refuse(source: Path, target: Path) -> None:
        if Path(target).name == "02-filter" and not Path(source).name.startswith(".old"):
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(source), None, str(target))
        real(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", refuse)
        with pytest.raises(MachineError, match=f"^{work}/02-filter: the disk cannot read or write it"):
            run(light, work, "length.min_words=9")
    assert bytes_of(work / "02-filter") == old
    assert [done.title for done in Work(work).old] == STAGES[2:]


def test_the_public_functions_raise_one_sentence_too(
    light: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "mkdir", failing(os.mkdir, 0, lambda: PermissionError(errno.EACCES, "no"), lambda *_: True))
    with pytest.raises(tamis.TamisError, match="you are not allowed to read or write it"):
        tamis.run(light, work=tmp_path / "w")


def test_files_of_killed_processes_go_from_the_work_and_the_store_and_those_of_living_ones_stay(
    light: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAMIS_CACHE", str(tmp_path / "cache"))
    source = "from pathlib import Path; from curate.contract import files; print(files.hidden(Path('x'), 'tmp').name)"
    dead = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True).stdout.strip()
    living = files.hidden(Path("x"), "tmp").name
    places = [whole, whole / "04-select" / "kept"]
    places += [tmp_path / "cache" / "vectors", tmp_path / "cache" / "vectors" / "hashing-0"]
    for place in places:
        place.mkdir(parents=True, exist_ok=True)
        for name in (dead, living):
            (place / name).write_text("half")
        (place / dead.replace(".x.", ".folder.")).mkdir()
    run(light, whole)
    for place in places:
        assert [path.name for path in place.iterdir() if path.name.startswith(".") and "lock" not in path.name] == [
            living
        ]


# --- looking at a run that goes on, was killed, or failed ---------------------------------------------------------------


def test_one_can_look_at_a_run_while_it_goes_on(light: Path, tmp_path: Path) -> None:
    work, told = tmp_path / "w", []

    def look(title: str) -> None:
        told.append((title, [row["stage"] for row in funnel.rows(work)], funnel.earlier(work)))

    run(light, work, on_stage=look)
    assert [(title, seen) for title, seen, _ in told] == [(title, STAGES[:n]) for n, title in enumerate(STAGES)]
    running = f"the run that goes on (process {os.getpid()} on "
    assert all(running in sentence for _, _, sentence in told)
    assert told[-1][2].startswith(f"05-render is not there: {running}") and told[-1][2].endswith("has not come to it")
    assert funnel.earlier(work) == "" and check.problems(work) == []


def test_a_killed_run_can_be_looked_at_and_says_what_is_missing(light: Path, tmp_path: Path) -> None:
    source = f"""
import os, signal
from pathlib import Path
from curate.run import recipe, runner
runner.run(recipe.read({str(light)!r}), Path({str(tmp_path / "w")!r}),
           on_stage=lambda title: os.kill(os.getpid(), signal.SIGKILL) if title == "03-dedup" else None)
"""
    subprocess.run([sys.executable, "-c", source], check=False)
    work = tmp_path / "w"
    assert [row["stage"] for row in funnel.rows(work)] == STAGES[:3]
    said = "03-dedup, 04-select and 05-render are not there: the last run did not come to them; `tamis run`"
    assert funnel.earlier(work).startswith(said) and check.problems(work) == [funnel.earlier(work)]
    run(light, work)
    assert funnel.earlier(work) == "" and not check.problems(work)


def test_after_a_failed_run_it_is_told_which_stages_are_of_the_recipe_before(
    light: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = whole
    write = failing(pl.DataFrame.write_parquet, 1, parquet_says(errno.EIO), lambda *_: True)
    with monkeypatch.context() as patch:
        patch.setattr(pl.DataFrame, "write_parquet", write)
        with pytest.raises(MachineError):
            run(light, work, "length.min_words=9")
    assert [(row["stage"], row["old"]) for row in funnel.rows(work)] == [
        (title, title not in STAGES[:2]) for title in STAGES
    ]
    assert funnel.earlier(work).startswith("02-filter, 03-dedup, 04-select and 05-render are of an earlier recipe")
    assert check.problems(work) == [funnel.earlier(work)]


@pytest.mark.parametrize("side", ["kept", "removed"])
def test_verify_finds_every_shard_that_is_not_as_its_manifest_says(light: Path, whole: Path, side: str) -> None:
    assert check.problems(whole) == []
    part = whole / "04-select" / side / "part-00000.parquet"
    name, again = f"04-select/{side}/part-00000.parquet", f"; delete {whole}/04-select and run the recipe again"
    pl.read_parquet(part).head(1).write_parquet(part)
    assert check.problems(whole) == [f"{name} was changed: its hash is not the one in the manifest{again}"]
    shutil.move(part, part.with_name("part-00007.parquet"))
    assert check.problems(whole) == [
        f"{name} is missing{again}",
        f"04-select/{side}/part-00007.parquet is not of this stage: its manifest does not list it{again}",
    ]
    shutil.rmtree(whole / "04-select")
    run(light, whole)
    assert check.problems(whole) == []


def test_a_plan_that_is_damaged_is_not_called_no_work_folder(whole: Path) -> None:
    (whole / "stages.json").write_text(json.dumps({"contract": 2})[:-4])
    with pytest.raises(
        WorkError, match=r"stages\.json is damaged: it is not JSON; `tamis run` on the recipe writes it"
    ):
        Work(whole)
