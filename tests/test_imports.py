"""Who may import whom, and what importing us loads."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def imports(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    return names


def test_train_imports_of_curate_only_the_contract_and_never_polars() -> None:
    for path in (ROOT / "train").rglob("*.py"):
        for name in imports(path):
            parts = name.split(".")
            assert parts[0] != "polars", path
            assert parts[0] != "curate" or len(parts) == 1 or parts[1] == "contract", (path, name)


def test_the_contract_imports_only_itself_and_nothing_heavy() -> None:
    for path in (ROOT / "curate" / "contract").glob("*.py"):
        for name in imports(path):
            parts = name.split(".")
            assert parts[0] != "curate" or len(parts) == 1 or parts[1] == "contract", (path, name)
            assert parts[0] not in ("train", "polars", "pyarrow"), (path, name)


def test_no_import_is_relative() -> None:
    for package in ("curate", "train"):
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                assert not (isinstance(node, ast.ImportFrom) and node.level), path


@pytest.mark.parametrize("module", ["tamis", "curate", "curate.cli", "train"])
def test_importing_us_loads_nothing_heavy(module: str) -> None:
    code = f"import sys, {module}; print([m for m in ('torch', 'transformers', 'datasets', 'sklearn', 'polars') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_nothing_trusts_remote_code_or_unpickles() -> None:
    for package in ("curate", "train"):
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.keyword) and node.arg == "trust_remote_code":
                    assert isinstance(node.value, ast.Constant) and node.value.value is False, path
                if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                    assert (node.value.id, node.attr) not in {
                        ("pickle", "load"),
                        ("pickle", "loads"),
                        ("yaml", "load"),
                    }, path


def test_no_module_uses_a_private_name_of_another() -> None:
    for package in ("curate", "train", "benchmarks"):
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in ("curate", "train"):
                    private = [alias.name for alias in node.names if alias.name.startswith("_")]
                    assert not private, (path, private)
