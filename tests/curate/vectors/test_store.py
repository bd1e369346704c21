from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from curate.contract import methods
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
    monkeypatch.setattr(store, "_ROWS_PER_SHARD", 2)
    log = tmp_path / "log"
    options = {"log": str(log), "width": 3}
    real, calls = store._write, []

    def dies(*arguments) -> None:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        real(*arguments)

    texts = pl.Series([f"text {i}" for i in range(8)])
    monkeypatch.setattr(store, "_write", dies)
    with pytest.raises(KeyboardInterrupt):
        store.vectors(texts, method, options, tmp_path / "v.npy")
    assert not (tmp_path / "v.npy").exists()
    monkeypatch.setattr(store, "_write", real)
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
