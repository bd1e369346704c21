"""The store that works share: whole or absent, used by several at once, damage noticed, deleted while it is used."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.contract import store
from curate.contract.errors import DataError

TEXTS = ["banana", "fig", "banana", "", "apple pie"]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TAMIS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []
    monkeypatch.setattr(store, "say", lines.append)
    return lines


class Counting:
    """Computes (length, number of letters a) of texts, and remembers for which."""

    def __init__(self, texts: list[str]):
        self.texts, self.done = texts, list[str]()

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        here = [self.texts[row] for row in rows]
        self.done += here
        return np.array([[len(text), text.count("a")] for text in here], np.float32).reshape(-1, 2)


def values(texts: list[str] = TEXTS, **options) -> tuple[np.ndarray, list[str]]:
    compute = Counting(texts)
    entry = store.arrays("vectors", "counting", {"model": "counting"})
    return entry.values(store.keys(texts), compute, **options), compute.done


def shards(cache: Path) -> list[Path]:
    return sorted(cache.rglob("*.npz"))


def test_values_stand_in_the_order_of_the_keys_and_each_key_is_computed_once():
    found, computed = values()
    assert found.tolist() == [[6, 3], [3, 0], [6, 3], [0, 0], [9, 1]]
    assert sorted(computed) == ["", "apple pie", "banana", "fig"]
    assert values()[1] == []
    assert values(["fig", "kiwi"])[1] == ["kiwi"]


@settings(deadline=None)
@given(st.lists(st.lists(st.text("ab\0", max_size=3), max_size=8), max_size=4))
def test_whatever_was_asked_before_the_values_are_right(tmp_path_factory, asked: list[list[str]]):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TAMIS_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setattr(store, "ROWS_PER_SHARD", 2)
        for texts in asked:
            found, _ = values(texts)
            assert [tuple(row) for row in found] == [(len(text), text.count("a")) for text in texts]


def test_positions_of_like_sizes_are_computed_together(monkeypatch):
    monkeypatch.setattr(store, "ROWS_PER_SHARD", 2)
    texts = ["a" * n for n in (5, 1, 4, 2, 3)]
    assert [len(text) for text in values(texts, sizes=np.array([len(text) for text in texts]))[1]] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("dtype", "value"), [("<f4", 0.5), ("<f4", [0.5, 1]), ("<u4", list(range(128))), ("<i8", 2**60)]
)
def test_values_of_any_type_and_width(dtype, value):
    entry = store.arrays("scores", "any", {"dtype": dtype}, dtype)
    found = entry.values(store.keys(["a", "b"]), lambda rows: np.array([value] * len(rows)))
    assert found.dtype == np.dtype(dtype)
    assert found.tolist() == [value, value]


def test_values_go_to_a_file_as_a_memory_map(tmp_path):
    found, _ = values(out=tmp_path / "v.npy")
    assert isinstance(found, np.memmap)
    np.testing.assert_array_equal(np.load(tmp_path / "v.npy"), values()[0])


def test_no_keys_give_no_values(tmp_path):
    assert len(values([])[0]) == 0
    values()
    assert values([], out=tmp_path / "v.npy")[0].shape == (0, 2)


def test_what_was_written_before_a_crash_is_kept(monkeypatch):
    monkeypatch.setattr(store, "ROWS_PER_SHARD", 2)
    texts = [f"text {i}" for i in range(8)]
    compute, calls = Counting(texts), []

    def dies(rows: np.ndarray) -> np.ndarray:
        calls.append(rows)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return compute(rows)

    with pytest.raises(KeyboardInterrupt):
        store.arrays("vectors", "counting", {"model": "counting"}).values(store.keys(texts), dies)
    assert len(values(texts)[1]) == 4


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-30])


def flip(path: Path) -> None:
    """One bit of the last value."""
    content = bytearray(path.read_bytes())
    at = content.rfind(np.float32(9).tobytes())
    content[at + 3] ^= 1
    path.write_bytes(content)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def without_values(path: Path) -> None:
    keys = np.load(path)["keys"]
    with open(path, "wb") as handle:
        np.savez(handle, keys=keys)


@pytest.mark.parametrize("damage", [cut, flip, empty, without_values])
def test_a_damaged_shard_is_said_once_and_computed_anew(cache, said, damage: Callable[[Path], None]):
    whole, _ = values()
    (shard,) = shards(cache)
    damage(shard)
    again, computed = values()
    np.testing.assert_array_equal(again, whole)
    assert sorted(computed) == ["", "apple pie", "banana", "fig"]
    assert len(said) == 1 and "damaged" in said[0] and "computed anew" in said[0]
    assert values()[1] == [] and len(said) == 1


def test_a_shard_of_another_shape_or_type_is_damage(cache, said):
    whole, _ = values(["fig"])
    for text, wrong in (("kiwi", np.zeros((1, 3), np.float32)), ("pear", np.zeros((1, 2), np.float64))):
        folder = shards(cache)[0].parent
        with open(folder / "zz.npz", "wb") as handle:
            np.savez(handle, keys=store.keys([text]), values=wrong)
        found, computed = values(["fig", text])
        np.testing.assert_array_equal(found[:1], whole)
        assert found.tolist()[1] == [4, text.count("a")] and text in computed
    assert len(said) == 2


def test_a_method_whose_values_do_not_fit_is_told(monkeypatch):
    monkeypatch.setattr(store, "ROWS_PER_SHARD", 1)
    entry = store.arrays("vectors", "uneven", {})
    with pytest.raises(DataError, match="gave values of different shapes"):
        entry.values(store.keys(["a", "bb"]), lambda rows: np.zeros((1, int(rows[0]) + 1)))
    with pytest.raises(DataError, match="2 values were computed for 1 rows"):
        entry.values(store.keys(["c"]), lambda rows: np.zeros((2, 1)))


def test_an_entry_that_is_deleted_while_it_is_filled_is_filled_again(monkeypatch):
    monkeypatch.setattr(store, "ROWS_PER_SHARD", 2)
    compute, calls = Counting(TEXTS), []

    def interrupted(rows: np.ndarray) -> np.ndarray:
        calls.append(rows)
        if len(calls) == 2:
            assert [entry.kind for entry in store.gc()] == ["vectors"]
        return compute(rows)

    found = store.arrays("vectors", "counting", {"model": "counting"}).values(store.keys(TEXTS), interrupted)
    assert found[:, 0].tolist() == [6, 3, 6, 0, 9]
    assert [entry.values for entry in store.entries()] == [4]


def test_a_store_that_keeps_nothing_is_one_sentence(monkeypatch):
    monkeypatch.setattr(store.Arrays, "add", lambda self, keys, values: None)
    with pytest.raises(DataError, match=r"loses again and again .* set TAMIS_CACHE"):
        values()


PROCESS = """
import sys, numpy as np
from curate.contract import store
store.ROWS_PER_SHARD = 7
texts = [f"text {i % 60}" for i in range(int(sys.argv[1]), int(sys.argv[1]) + 90)]
entry = store.arrays("vectors", "shared", {"a": 1})
found = entry.values(store.keys(texts), lambda rows: np.array([[float(texts[row].split()[1])] for row in rows]))
assert [f"text {int(value)}" for value in found[:, 0]] == texts
with store.writing("runs", "shared", {"a": 1}) as folder:
    (folder / "result.txt").write_text("the same\\n" * 1000)
assert (store.folder("runs", "shared", {"a": 1}) / "result.txt").read_text() == "the same\\n" * 1000
"""


def test_several_processes_use_one_entry_while_another_deletes_it(cache):
    environment = {**os.environ, "TAMIS_CACHE": str(cache)}
    processes = [
        subprocess.Popen([sys.executable, "-c", PROCESS, str(10 * number)], env=environment) for number in range(3)
    ]
    while any(process.poll() is None for process in processes):
        for entry in store.entries():
            assert entry.kind in ("vectors", "runs")
        time.sleep(0.02)
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert [path.name for path in cache.glob("*/.*")] == []


def test_readers_go_on_while_entries_are_deleted():
    stop, problems = threading.Event(), []

    def delete() -> None:
        while not stop.is_set():
            store.gc()
            time.sleep(0.2)  # a disk that many sync onto takes a tenth of that to write an entry

    deleting = threading.Thread(target=delete)
    deleting.start()
    try:
        for _ in range(20):
            try:
                assert values()[0][:, 0].tolist() == [6, 3, 6, 0, 9]
            except DataError as error:  # three times in a row deleted between writing and reading
                problems.append(error)
    finally:
        stop.set()
        deleting.join()
    assert len(problems) < 5


# --- folders ---------------------------------------------------------------------------------------------------------


def write(about: dict[str, int], text: str = "one run\n") -> None:
    with store.writing("runs", "lora", about) as folder:
        (folder / "deep").mkdir()
        (folder / "deep" / "run.json").write_text(text)


def test_a_folder_is_found_by_what_it_depends_on():
    assert store.folder("runs", "lora", {"seed": 1}) is None
    write({"seed": 1})
    found = store.folder("runs", "lora", {"seed": 1})
    assert found is not None and (found / "deep" / "run.json").read_text() == "one run\n"
    assert store.folder("runs", "lora", {"seed": 2}) is None


def test_a_folder_that_was_not_finished_is_not_there(cache):
    def stopped() -> None:
        with store.writing("runs", "lora", {}) as folder:
            (folder / "run.json").write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert store.folder("runs", "lora", {}) is None
    assert [path for path in cache.rglob("*") if path.is_file()] == []


def test_of_two_that_write_the_same_folder_the_first_stays():
    with store.writing("runs", "lora", {"seed": 1}) as folder:
        (folder / "run.json").write_text("mine")
        os.rename(folder, folder.with_name("aside"))
        write({"seed": 1}, "theirs")
        os.rename(folder.with_name("aside"), folder)
    found = store.folder("runs", "lora", {"seed": 1})
    assert found is not None and (found / "deep" / "run.json").read_text() == "theirs"


@pytest.mark.parametrize("damage", ["cut", "changed", "missing", "about"])
def test_a_damaged_folder_is_said_and_deleted(cache, said, damage: str):
    write({"seed": 1})
    file = next(cache.rglob("about.json" if damage == "about" else "run.json"))
    file.unlink() if damage == "missing" else file.write_text(
        {"cut": "one", "changed": "two run\n", "about": "{"}[damage]
    )
    assert store.folder("runs", "lora", {"seed": 1}) is None
    assert len(said) == 1 and file.name in said[0]
    assert store.entries() == []
    write({"seed": 1})
    assert store.folder("runs", "lora", {"seed": 1}) is not None


def test_an_error_inside_is_not_swallowed():
    with pytest.raises(FileExistsError), store.writing("runs", "lora", {}) as folder:
        folder.mkdir()


# --- listing and deleting --------------------------------------------------------------------------------------------


def age(cache: Path, kind: str, days: float) -> None:
    for place in (cache / kind).iterdir():
        for path in (place, place / "about.json"):
            if path.exists():
                then = time.time() - days * 86_400
                os.utime(path, (then, then))


def test_entries_are_listed_with_their_size_and_last_use(cache):
    assert store.entries() == []
    values()
    write({"seed": 1})
    (cache / "tiny" / "0f3a").mkdir(parents=True)
    (cache / "tiny" / "0f3a" / "model.safetensors").write_bytes(b"12345")
    tiny, runs, vectors = sorted(store.entries(), key=lambda entry: entry.bytes)
    assert (tiny.kind, tiny.name, tiny.bytes, tiny.values) == ("tiny", "0f3a", 5, 1)
    assert (runs.kind, runs.name, runs.values) == ("runs", "lora", 1)
    assert (vectors.kind, vectors.name, vectors.values) == ("vectors", "counting", 4)
    assert all(abs(entry.last_used - time.time()) < 60 for entry in store.entries())


def test_what_was_used_lately_stays(cache):
    values()
    write({"seed": 1})
    for kind in ("vectors", "runs"):
        age(cache, kind, days=40)
    assert [round((time.time() - entry.last_used) / 86_400) for entry in store.entries()] == [40, 40]
    values()
    assert [entry.kind for entry in store.gc(older_than_days=30)] == ["runs"]
    assert [entry.kind for entry in store.entries()] == ["vectors"]
    age(cache, "vectors", days=40)
    assert store.folder("runs", "lora", {"seed": 1}) is None
    assert [entry.kind for entry in store.gc()] == ["vectors"]
    assert store.entries() == []


def test_what_killed_processes_left_behind_is_deleted_after_a_day(cache):
    write({"seed": 1})
    for name in (".lora-1.99.tmp", ".lora-2.99.gone"):
        (cache / "runs" / name).mkdir()
    os.utime(cache / "runs" / ".lora-1.99.tmp", (1, 1))
    assert store.gc(older_than_days=1) == []
    assert [path.name for path in (cache / "runs").glob(".*")] == [".lora-2.99.gone"]
