"""Where a model's files are, and that nothing is loaded from them that could run code."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from curate.contract import model_files
from curate.contract.errors import DataError, MethodError, MissingExtra, TrainingError
from curate.contract.model_files import contents, find_model, loading, need, revision_of, stamps, weights_sha256

WEIGHTS = save({"a": np.arange(6, dtype=np.float32), "b.c": np.ones((2, 3), np.float16)}, {"format": "pt"})


def model(folder: Path, weights: bytes = WEIGHTS) -> Path:
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


# weights that are not whole


def refused(folder: Path, match: str, **options: Any) -> None:
    with pytest.raises(MethodError, match=match) as caught:
        find_model("test", str(folder), **options)
    assert "\n" not in str(caught.value) and str(caught.value).startswith(f"test: {folder}")


def test_weights_that_are_cut_anywhere_or_go_on_behind_their_end_are_refused(tmp_path: Path) -> None:
    assert find_model("test", str(model(tmp_path))) == tmp_path
    for at in range(len(WEIGHTS)):
        model(tmp_path, WEIGHTS[:at])
        refused(tmp_path, r"model\.safetensors is cut short.*; download or save it again")
    model(tmp_path, WEIGHTS + b"more")
    refused(tmp_path, r"model\.safetensors has 4 bytes behind its last tensor; download or save it again")


@pytest.mark.parametrize(
    ("weights", "what"),
    [
        (WEIGHTS[:-7], "is cut short: 7 bytes are missing"),
        (b"", "is cut short or no safetensors file: its 0 bytes do not hold its header"),
        (b"\xff" * 100, "is cut short or no safetensors file: its 100 bytes do not hold its header"),
        (WEIGHTS[:8] + b"[" + WEIGHTS[9:], "is no safetensors file: its header cannot be read"),
        (b"\x02" + bytes(7) + b"[]", "is no safetensors file: its header cannot be read"),
        (b"\x08" + bytes(7) + b'{"a": 1}', "is no safetensors file: its header cannot be read"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n",
            "is a pointer of Git LFS and not the file itself, which `git lfs pull` fetches",
        ),
    ],
)
def test_what_is_wrong_with_weights_is_said(tmp_path: Path, weights: bytes, what: str) -> None:
    with pytest.raises(MethodError) as caught:
        find_model("test", str(model(tmp_path, weights)))
    assert str(caught.value) == f"test: {tmp_path}/model.safetensors {what}; download or save it again"


def test_weights_in_a_subfolder_are_looked_at_where_a_model_may_have_them(tmp_path: Path) -> None:
    model(model(tmp_path) / "2_Dense", WEIGHTS[:-1])
    assert find_model("test", str(tmp_path)) == tmp_path
    refused(tmp_path, r"2_Dense/model\.safetensors is cut short: 1 bytes", subfolders=True)


def shards(folder: Path, index: str | None = None) -> Path:
    """A model whose two tensors stand in two files."""
    (model(folder) / "model.safetensors").unlink()
    for number, name in enumerate("ab"):
        (folder / f"{number}.safetensors").write_bytes(save({name: np.ones(3, np.float32)}))
    text = json.dumps({"weight_map": {"a": "0.safetensors", "b": "1.safetensors"}}) if index is None else index
    (folder / "model.safetensors.index.json").write_text(text)
    return folder


def test_weights_in_several_files_are_whole_where_each_tensor_is_in_the_file_that_the_index_says(
    tmp_path: Path,
) -> None:
    assert find_model("test", str(shards(tmp_path))) == tmp_path
    (tmp_path / "1.safetensors").write_bytes(save({"x": np.ones(3, np.float32)}))
    refused(
        tmp_path, r"1\.safetensors does not hold b, which model\.safetensors\.index\.json looks for there; download"
    )
    (tmp_path / "0.safetensors").write_bytes(save({"x": np.ones(3, np.float32)}))
    refused(tmp_path, r"0\.safetensors does not hold a, .* there, nor do the files hold 1 others; download or save all")
    (tmp_path / "1.safetensors").unlink()
    refused(tmp_path, r"model\.safetensors\.index\.json names 1\.safetensors, which is not there; download or save it")
    model(tmp_path)  # which comes before the index
    assert find_model("test", str(tmp_path)) == tmp_path


@pytest.mark.parametrize("index", ['{"weight', "[]", "{}", '{"weight_map": []}', '{"weight_map": {"a": 1}}'])
def test_an_index_that_says_nothing_is_refused(tmp_path: Path, index: str) -> None:
    refused(shards(tmp_path, index), "index.json (does not say under weight_map|names 1, which is not there)")


def test_what_an_interrupted_download_left_is_passed_by(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    half, whole = model(tmp_path / "half", WEIGHTS[:-1]), model(tmp_path / "whole")
    places: dict[bool, Path | None] = {True: half, False: whole}
    monkeypatch.setattr(model_files, "_snapshot", lambda *args, local_files_only: places[local_files_only])
    assert find_model("test", "me/small") == whole
    places[False] = None
    with pytest.raises(MethodError, match=r"half/model\.safetensors is cut short: 1 bytes are missing"):
        find_model("test", "me/small")


def test_an_adapter_is_no_model(tmp_path: Path) -> None:
    (model(model(tmp_path / "whole") / "0_Transformer") / "adapter_config.json").write_text("{}")
    assert find_model("test", str(tmp_path / "whole")) == tmp_path / "whole"
    refused(tmp_path / "whole", r"0_Transformer holds an adapter", subfolders=True)
    for folder in (tmp_path, model(tmp_path / "model")):
        (folder / "adapter_config.json").write_text("{}")
        refused(
            folder.parent / folder.name,
            r"holds an adapter \(adapter_config\.json\); name a model that has it folded in",
        )


# what libraries raise


def said(folder: Path, problem: Exception) -> str:
    with pytest.raises(MethodError) as caught, loading("test", folder, "as a model"):
        raise problem
    assert "\n" not in str(caught.value) and caught.value.__cause__ is problem
    return str(caught.value)


def test_what_a_library_raises_becomes_one_sentence(tmp_path: Path) -> None:
    cannot = f"test: {tmp_path} cannot be loaded as a model"
    assert said(tmp_path, OSError("first\n  second.")) == f"{cannot} (first second); mend it or choose another"
    assert said(tmp_path, Exception()) == f"{cannot} (Exception); mend it or choose another"
    assert said(tmp_path, KeyError("type")) == f"{cannot} ('type' is missing); mend it or choose another"
    assert "cannot be loaded as a model without its own code (" in said(tmp_path, ValueError("set trust_remote_code"))
    assert len(said(tmp_path, ValueError("word " * 500))) < 300 + len(str(tmp_path))
    with pytest.raises(DataError, match=r"^mine$"), loading("test", tmp_path, "as a model"):
        raise DataError("mine")
    with pytest.raises(KeyboardInterrupt), loading("test", tmp_path, "as a model"):
        raise KeyboardInterrupt


@pytest.mark.parametrize("text", ["", '{"a', "\0\1", "version https://git-lfs.github.com/spec/v1", "[" * 100_000])
def test_the_file_that_is_no_json_is_named(tmp_path: Path, text: str) -> None:
    model(tmp_path / "1_Pooling")
    (tmp_path / "1_Pooling" / "config.json").write_text(text)
    match = rf"^test: {tmp_path}/1_Pooling/config\.json is (no JSON \(.*\)|a pointer of Git LFS.*); download or save it again$"
    assert re.match(match, said(tmp_path, ValueError("something vague")))


def test_a_tokenizer_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text('{"version": "1.0"}')
    sentence = said(tmp_path, Exception("something vague"))
    assert re.match(
        rf"^test: {tmp_path}/tokenizer\.json holds no tokenizer \(.+\); download or save it again$", sentence
    )


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
