"""Where a model's files are, and that nothing is loaded from them that could run code."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from curate.contract import model_files
from curate.contract.errors import MethodError, MissingExtra, TrainingError
from curate.contract.model_files import contents, find_model, loading, need, revision_of, stamps, weights_sha256


def model(folder: Path, weights: bytes = b"weights") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(weights)
    return folder


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))


def hub_model(cache: Path, name: str, commit: str, branch: str = "main") -> Path:
    """As the Hub's cache lays a downloaded model out."""
    place = cache / f"models--{name.replace('/', '--')}"
    (place / "refs").mkdir(parents=True)
    (place / "refs" / branch).write_text(commit)
    return model(place / "snapshots" / commit)


def test_a_folder_comes_first_and_hangs_from_the_data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = model(tmp_path / "mine" / "model")
    for found in (
        find_model("test", str(folder)),
        find_model("test", "model", data=tmp_path / "mine"),
        find_model("test", "mine/model", data=tmp_path),
    ):
        assert found == folder
    monkeypatch.chdir(tmp_path)
    assert find_model("test", "mine/model") == folder
    assert revision_of(folder) is None


def test_then_the_cache_of_the_hub_at_its_commit(tmp_path: Path) -> None:
    commit = "a" * 40
    folder = hub_model(tmp_path / "hub", "me/small", commit)
    assert find_model("test", "me/small", data=tmp_path) == folder
    assert find_model("test", "small", owner="me") == folder
    assert find_model("test", "me/small", revision=commit) == folder
    assert revision_of(folder) == commit
    with pytest.raises(MethodError, match="not in the Hub's cache"):
        find_model("test", "me/small", revision="b" * 40)


def test_a_model_that_is_nowhere_is_one_sentence_of_the_asked_type(tmp_path: Path) -> None:
    for name in ("nobody/nothing", "not a name"):
        with pytest.raises(TrainingError) as caught:
            find_model("train", name, data=tmp_path, error=TrainingError)
        assert str(caught.value) == (
            f"train: model '{name}' is no folder in {tmp_path}, is not in the Hub's cache, and could not be downloaded; check "
            "the name, revision and network, or give a folder that holds config.json"
        )


def test_pickled_weights_are_refused_where_they_would_be_loaded(tmp_path: Path) -> None:
    with pytest.raises(MethodError, match=r"the folder .* has no config\.json"):
        find_model("test", str(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(MethodError, match=r"holds no weights; .* should hold model\.safetensors"):
        find_model("test", str(tmp_path))
    (tmp_path / "weights.pkl").write_bytes(b"pickle")
    with pytest.raises(MethodError, match=r"holds pickled weights \(.*weights\.pkl\), which can run code"):
        find_model("test", str(tmp_path))
    model(tmp_path)
    (tmp_path / "optimizer").mkdir()
    (tmp_path / "optimizer" / "state.pt").write_bytes(b"pickle")
    assert find_model("test", str(tmp_path)) == tmp_path
    with pytest.raises(MethodError, match=r"optimizer/state\.pt"):
        find_model("test", str(tmp_path), subfolders=True)


def test_hashes_follow_the_content(tmp_path: Path) -> None:
    one, two = model(tmp_path / "one"), model(tmp_path / "two")
    assert weights_sha256(one) == weights_sha256(two)
    assert contents(one, "*.json") == contents(two, "*.json")
    before = stamps(one)
    (one / "model-2.safetensors").write_bytes(b"more")
    assert weights_sha256(one) != weights_sha256(two) and stamps(one) != before
    (two / "config.json").write_text("{ }")
    assert contents(one, "*.json") != contents(two, "*.json")


def test_what_a_library_raises_becomes_one_sentence(tmp_path: Path) -> None:
    with (
        pytest.raises(MethodError, match=r"^test: .* cannot be loaded as a model without its own code \(first\)$"),
        loading("test", tmp_path, "as a model"),
    ):
        raise OSError("first\nsecond")


def test_a_missing_package_is_named_with_its_install_line() -> None:
    with pytest.raises(MissingExtra, match=r"embed x needs y; run: pip install 'tamis\[embed\]'"):
        need("embed x", "no_such_module", "y", "'tamis[embed]'")
    need("embed x", "numpy", "numpy", "numpy")


def test_only_safe_files_are_downloaded() -> None:
    assert not any(pattern.endswith((".bin", ".pt", ".py", ".pkl")) for pattern in model_files._WANTED)


def test_it_loads_nothing_heavy() -> None:
    code = "import sys, curate.contract.model_files, curate.contract.store; "
    code += "print([m for m in ('torch', 'transformers', 'polars', 'pyarrow') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"
