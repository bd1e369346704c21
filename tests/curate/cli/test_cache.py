from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from curate.cli import app
from curate.contract import store
from curate.contract.errors import RequestError


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TAMIS_CACHE", str(tmp_path))
    for name in ("old", "new"):
        with store.writing("runs", name, {"is": name}) as folder:
            (folder / "file").write_text("x" * 1_000)
    old = next((tmp_path / "runs").glob("old-*")) / "about.json"
    long_ago = time.time() - 40 * 86_400
    os.utime(old, (long_ago, long_ago))
    return tmp_path


def test_entries_are_listed_with_their_sizes(cache: Path) -> None:
    lines = json.loads(CliRunner().invoke(app, ["cache", "ls", "--json"]).stdout)
    assert [(line["kind"], line["name"]) for line in lines] == [("runs", "new"), ("runs", "old")]


def test_what_was_not_used_for_long_is_collected(cache: Path) -> None:
    assert "old" in CliRunner().invoke(app, ["cache", "gc", "--older-than", "30d"]).stdout
    assert [entry.name for entry in store.entries()] == ["new"]
    CliRunner().invoke(app, ["cache", "gc"])
    assert store.entries() == []


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["gc", "--older-than", "soon"], "write a number and d, h or m, as in 30d"),
        (["--clear"], "is now called `tamis cache gc`"),
    ],
)
def test_a_wrong_age_and_the_old_option_are_one_sentence(cache: Path, arguments: list[str], sentence: str) -> None:
    failed = CliRunner().invoke(app, ["cache", *arguments])
    assert isinstance(failed.exception, RequestError) and sentence in str(failed.exception)
