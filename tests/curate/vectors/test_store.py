from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from curate.contract import methods
from curate.contract import store as shared
from curate.contract.errors import DataError
from curate.vectors import store

COUNTING = '''"""Vectors that tell how often they were computed."""
import numpy as np
from pathlib import Path

TEXT = "prompt"

def identity(*, log: str, width: int = 3) -> dict:
    return {"model": "counting", "width": width}

def embed(texts, *, log: str, width: int = 3):
    with open(log, "a") as handle:
        handle.write("".join(text + "\\n" for text in texts))
    return np.array([[len(text), text.count("a"), hash(text[:1]) % 7][:width] for text in texts], np.float32)
'''


@pytest.fixture
def method(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> methods.Method:
    monkeypatch.setenv("TAMIS_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "methods" / "embed" / "counting.py"
    path.parent.mkdir(parents=True)
    path.write_text(COUNTING)
    return methods.find("embed", "counting", tmp_path)


def test_vectors_stand_in_the_order_of_the_texts_and_each_text_is_embedded_once(
    method: methods.Method, tmp_path: Path
) -> None:
    texts = pl.Series(["banana", "fig", "banana", "", "apple pie"])
    log = tmp_path / "log"
    facts = store.vectors(texts, method, {"log": str(log), "width": 3}, tmp_path / "v.npy")
    found = np.load(tmp_path / "v.npy")
    assert found.dtype == np.float32 and found.shape == (5, 3)
    assert found[:, 0].tolist() == [6, 3, 6, 0, 9]
    assert sorted(log.read_text().split("\n")[:-1]) == ["", "apple pie", "banana", "fig"]
    assert facts["model"] == "counting" and facts["embedded_now"] == 4


def test_only_new_texts_are_embedded_later(method: methods.Method, tmp_path: Path) -> None:
    log = tmp_path / "log"
    options = {"log": str(log), "width": 3}
    store.vectors(pl.Series(["a", "b"]), method, options, tmp_path / "v.npy")
    log.unlink()
    store.vectors(pl.Series(["c", "a", "b"]), method, options, tmp_path / "w.npy")
    assert log.read_text() == "c\n"


def test_a_killed_embedding_keeps_its_whole_shards(
    method: methods.Method, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared, "ROWS_PER_SHARD", 2)
    log = tmp_path / "log"
    options = {"log": str(log), "width": 3}
    real, calls = shared.Arrays.add, []

    def dies(*arguments) -> None:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        real(*arguments)

    texts = pl.Series([f"text {i}" for i in range(8)])
    monkeypatch.setattr(shared.Arrays, "add", dies)
    with pytest.raises(KeyboardInterrupt):
        store.vectors(texts, method, options, tmp_path / "v.npy")
    assert not (tmp_path / "v.npy").exists()
    monkeypatch.setattr(shared.Arrays, "add", real)
    log.unlink()
    store.vectors(texts, method, options, tmp_path / "v.npy")
    assert len(log.read_text().splitlines()) == 4
    assert np.load(tmp_path / "v.npy")[:, 0].tolist() == [6.0] * 8


def test_other_facts_or_another_source_are_another_store(method: methods.Method, tmp_path: Path) -> None:
    log = tmp_path / "log"
    store.vectors(pl.Series(["a"]), method, {"log": str(log), "width": 3}, tmp_path / "v.npy")
    store.vectors(pl.Series(["a"]), method, {"log": str(log), "width": 2}, tmp_path / "w.npy")
    assert np.load(tmp_path / "w.npy").shape == (1, 2)
    assert log.read_text() == "a\na\n"


def test_a_helper_that_was_changed_is_another_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the helper stands beside the recipe and the work folder is a new one."""
    monkeypatch.setenv("TAMIS_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "methods" / "embed"
    folder.mkdir(parents=True)
    embedder = "import numpy as np\nfrom {} import factor\n\ndef identity():\n    return {{}}\n\ndef embed(texts):\n"
    embedder += "    return np.array([[factor() * len(text)] for text in texts], np.float32)\n"
    (folder / "beside.py").write_text(embedder.format("helper_of_lengths"))
    (folder / "relative.py").write_text(embedder.format(".helper_of_lengths"))
    for factor in (1, 2, 1):
        (folder / "helper_of_lengths.py").write_text(f"def factor():\n    return {factor}{' ' * factor}\n")
        for name in ("beside", "relative"):
            facts = store.vectors(
                pl.Series(["four"]), methods.find("embed", name, tmp_path), {}, tmp_path / f"{name}.npy"
            )
            assert np.load(tmp_path / f"{name}.npy").tolist() == [[4.0 * factor]]
    assert facts["embedded_now"] == 0  # the first helper is back, and its vectors with it


CONTENT = '''"""Vectors of files: what a vector depends on is the file, not its name."""
import hashlib
import numpy as np
from pathlib import Path

def identity(*, folder_of_files: str) -> dict:
    return {"model": "sizes"}

def content(texts, *, folder_of_files: str):
    digests = [hashlib.blake2b(Path(folder_of_files, text).read_bytes(), digest_size=16).digest() for text in texts]
    return digests[:-1] if "short.txt" in texts else digests

def embed(texts, *, folder_of_files: str):
    return np.array([[Path(folder_of_files, text).stat().st_size] for text in texts], np.float32)
'''


def test_an_embedder_says_itself_what_its_vectors_depend_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAMIS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "methods" / "embed").mkdir(parents=True)
    (tmp_path / "methods" / "embed" / "sizes.py").write_text(CONTENT)
    method = methods.find("embed", "sizes", tmp_path)
    for name, text in (("a.txt", "one"), ("b.txt", "three"), ("c.txt", "one")):
        (tmp_path / name).write_text(text)

    def measured(*names: str) -> tuple[list[list[float]], int]:
        options = {"folder_of_files": str(tmp_path)}
        facts = store.vectors(pl.Series(names), method, options, tmp_path / "v.npy")
        return np.load(tmp_path / "v.npy").tolist(), facts["embedded_now"]

    assert measured("a.txt", "b.txt", "c.txt") == ([[3], [5], [3]], 2)
    (tmp_path / "a.txt").write_text("seventy")
    assert measured("a.txt", "b.txt") == ([[7], [5]], 1)
    (tmp_path / "short.txt").write_text("")
    with pytest.raises(
        DataError, match=r"`content` in .*sizes\.py should give a digest of 16 bytes for each of 2 texts"
    ):
        measured("a.txt", "short.txt")
