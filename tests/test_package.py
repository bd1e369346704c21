"""The wheel claims three names, ships the data, and works outside the checkout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from conftest import RECIPE, alpaca_rows, write_jsonl

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return next(out.glob("*.whl"))


def test_the_wheel_claims_curate_train_and_tamis_and_ships_templates(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"curate", "train", "tamis.py"}
    for path in (ROOT / "templates").rglob("*"):
        if path.is_file():
            assert f"curate/_data/templates/{path.relative_to(ROOT / 'templates')}" in names
    assert "curate/_data/examples/demo/recipe.yaml" in names
    assert "curate/py.typed" in names and "train/py.typed" in names


@pytest.mark.slow
def test_the_wheel_runs_a_recipe_from_a_fresh_environment_outside_the_checkout(wheel: Path, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "venv")], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    site = next((tmp_path / "venv" / "lib").glob("python*")) / "site-packages"
    zipfile.ZipFile(wheel).extractall(site)
    ours = next(Path(path) for path in sys.path if path.endswith("site-packages"))
    home = tmp_path / "home"
    write_jsonl(home / "a.jsonl", alpaca_rows()[:30])
    write_jsonl(home / "b.jsonl", alpaca_rows()[20:])
    (home / "recipe.yaml").write_text(RECIPE)
    # the dependencies are taken from the running environment; ours come first and from the wheel
    code = f"import sys; sys.path.append({str(ours)!r}); import curate; assert {str(site)!r} in curate.__file__; from curate.cli import main; main()"
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [str(python), "-c", code, "run", "recipe.yaml", "--work", "w", "--json"],
        cwd=home,
        capture_output=True,
        text=True,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)[-1]["stage"] == "release"
    assert (home / "w" / "release" / "README.md").is_file()


def test_a_train_py_in_the_users_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("print('mine')")
    code = "import sys; sys.path.insert(0, ''); from curate.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code, "methods"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    assert f"`train` here is {tmp_path / 'train.py'}, not Tamis's package; rename that file" in done.stderr
    assert "Traceback" not in done.stderr and "mine" not in done.stdout


def test_the_console_script_is_not_disturbed_by_a_train_py(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("print('mine')")
    command = Path(sys.executable).with_name("tamis")
    if not command.is_file():
        pytest.skip("the command is not installed in this environment")
    done = subprocess.run([str(command), "methods", "select"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and "facility_location" in done.stdout
