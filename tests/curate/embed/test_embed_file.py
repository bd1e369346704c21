from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.contract import methods
from curate.contract.errors import DataError, MethodError, SourceError
from curate.embed import file
from curate.vectors import store

IDS = ["b", "a", "d", "ç", "e"]
VECTORS = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    np.save(tmp_path / "v.npy", VECTORS)
    (tmp_path / "ids.txt").write_text("\n".join(IDS) + "\n", "utf-8")
    return tmp_path


def parquet(path: Path, ids: list, vectors: list, kind: pa.DataType | None = None, rows: int = 2) -> Path:
    pq.write_table(pa.table({"other": ids, "id": ids, "vector": pa.array(vectors, kind)}), path, row_group_size=rows)
    return path


def test_every_form_of_the_files_gives_the_same_vectors(folder: Path) -> None:
    np.save(folder / "ids.npy", np.array(IDS))
    pl.DataFrame({"id": IDS, "x": 1}).write_parquet(folder / "ids.parquet")
    (folder / "windows.txt").write_bytes(b"\xef\xbb\xbf" + "\r\n".join(IDS).encode())
    for ids in ("ids.txt", "ids.npy", "ids.parquet", "windows.txt"):
        found = file.embed(IDS, path="v.npy", ids=ids, data=folder)
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, VECTORS)
    for number, kind in enumerate((pa.list_(pa.float32()), pa.large_list(pa.float64()), pa.list_(pa.float32(), 3))):
        parquet(folder / f"{number}.parquet", IDS, VECTORS.tolist(), kind)
        np.testing.assert_array_equal(file.embed(IDS, path=f"{number}.parquet", data=folder), VECTORS)


@given(st.lists(st.sampled_from(IDS), max_size=12))
def test_a_vector_is_found_by_its_id_in_any_order_and_again(tmp_path_factory, asked: list[str]) -> None:
    folder = tmp_path_factory.getbasetemp()
    if not (folder / "v.npy").exists():
        np.save(folder / "v.npy", VECTORS)
        (folder / "ids.txt").write_text("\n".join(IDS), "utf-8")
    found = file.embed(asked, path=str(folder / "v.npy"), ids=str(folder / "ids.txt"))
    assert found.shape == (len(asked), 3)
    np.testing.assert_array_equal(found, VECTORS[[IDS.index(id) for id in asked]].reshape(-1, 3))


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_floats_become_float32(folder: Path, dtype: type) -> None:
    np.save(folder / "v.npy", VECTORS.astype(dtype))
    found = file.embed(IDS, path="v.npy", ids="ids.txt", data=folder)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, VECTORS.astype(dtype).astype(np.float32))


def test_a_npy_is_mapped_and_opened_once_until_it_changes(folder: Path) -> None:
    options = {"path": "v.npy", "ids": "ids.txt", "data": folder}
    file._open.cache_clear()
    for id in IDS:
        file.embed([id], **options)
    assert file._open.cache_info().misses == 1
    assert isinstance(file._index(*file._files("v.npy", "ids.txt", folder)).vectors, np.memmap)
    np.save(folder / "new.npy", -VECTORS)
    os.utime(folder / "new.npy", ns=(1, 1))
    os.replace(folder / "new.npy", folder / "v.npy")
    np.testing.assert_array_equal(file.embed(["d"], **options)[0], -VECTORS[2])


def test_a_parquet_file_of_many_batches_is_one(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file, "_BATCH", 2)
    parquet(folder / "v.parquet", IDS, VECTORS.tolist(), rows=3)
    np.testing.assert_array_equal(file.embed(IDS[::-1], path="v.parquet", data=folder), VECTORS[::-1])


def test_the_identity_follows_the_bytes_and_not_the_place(folder: Path) -> None:
    facts = file.identity(path="v.npy", ids="ids.txt", data=folder)
    assert facts["shape"] == [5, 3] and facts["dtype"] == "float32" and len(facts["sha256"]) == 2
    (folder / "w.npy").write_bytes((folder / "v.npy").read_bytes())
    assert file.identity(path=str(folder / "w.npy"), ids=str(folder / "ids.txt")) == facts
    (folder / "ids.txt").write_text("\n".join(IDS[::-1]), "utf-8")
    assert file.identity(path="v.npy", ids="ids.txt", data=folder) != facts


def test_the_store_reads_the_vectors_of_a_table(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAMIS_CACHE", str(folder / "cache"))
    monkeypatch.setattr("curate.contract.store.ROWS_PER_SHARD", 2)
    method = methods.find("embed", "file")
    assert method.text == "id"
    facts = store.vectors(
        pl.Series(["e", "b", "d"]), method, {"path": "v.npy", "ids": "ids.txt"}, folder / "out.npy", data=folder
    )
    assert facts["shape"] == [5, 3]
    np.testing.assert_array_equal(np.load(folder / "out.npy"), VECTORS[[4, 0, 2]])


def test_what_does_not_fit_is_one_sentence(folder: Path) -> None:
    def refused(error: type[Exception], match: str, asked: list[str] = IDS, **options) -> None:
        for call in (lambda: file.identity(**options, data=folder), lambda: file.embed(asked, **options, data=folder)):
            with pytest.raises(error, match=match) as caught:
                call()
            assert "\n" not in str(caught.value)

    refused(SourceError, r"there is no file .*nothing\.npy; check the path", path="nothing.npy", ids="ids.txt")
    refused(SourceError, r"there is no file .*nothing\.txt", path="v.npy", ids="nothing.txt")
    (folder / "v.csv").touch()
    refused(MethodError, r"'v\.csv' should end in \.npy or \.parquet", path="v.csv")
    refused(MethodError, "'v.npy' has no ids; name the file", path="v.npy")
    parquet(folder / "v.parquet", IDS, VECTORS.tolist())
    refused(MethodError, "in its own column `id`; remove `ids: ids.txt`", path="v.parquet", ids="ids.txt")

    np.save(folder / "flat.npy", VECTORS.ravel())
    refused(DataError, r"shape \(15,\); it should be \(rows, dimensions\)", path="flat.npy", ids="ids.txt")
    np.save(folder / "whole.npy", np.ones((5, 3), int))
    refused(DataError, "holds int64; it should hold floats", path="whole.npy", ids="ids.txt")
    np.save(folder / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    refused(SourceError, "not a .npy that can be read", path="objects.npy", ids="ids.txt")
    refused(DataError, r"ids should be strings of shape \(rows,\)", path="v.npy", ids="flat.npy")

    (folder / "few.txt").write_text("a\nb\n")
    refused(DataError, "holds 5 vectors and .*few.txt 2 ids", path="v.npy", ids="few.txt")
    (folder / "twice.txt").write_text("a\nb\nc\nb\na\n")
    refused(DataError, "holds 2 ids more than once, the first is 'b'", path="v.npy", ids="twice.txt")
    (folder / "latin.txt").write_bytes(b"\xe7\n")
    refused(SourceError, "is not UTF-8 text", path="v.npy", ids="latin.txt")


def test_parquet_that_does_not_fit_is_one_sentence(folder: Path) -> None:
    def refused(match: str, ids: list, vectors: list, error: type[Exception] = DataError) -> None:
        parquet(folder / "x.parquet", ids, vectors)
        with pytest.raises(error, match=match):
            file.identity(path="x.parquet", data=folder)

    refused("vector of id 'b' has 1 values where others have 2", ["a", "b"], [[1.0, 2.0], [1.0]])
    refused("vector of id 'c' has 3 values where others have 2", ["a", "b", "c"], [[1.0, 2.0], [1.0, 2.0], [1.0] * 3])
    refused("vector of id 'b' has 0 values where others have 2", ["a", "b"], [[1.0, 2.0], None])
    refused("holds list<.*int64>; it should hold lists of floats", ["a"], [[1, 2]])
    refused("holds double; it should hold lists of floats", ["a"], [1.0])
    refused("column `id` of .* holds int64; it should hold text", [1], [[1.0]])
    refused("holds 1 nulls", ["a", None], [[1.0], [2.0]])
    refused("2 ids more than once, the first is 'a'", ["a", "a", "a"], [[1.0]] * 3)
    pq.write_table(pa.table({"id": ["a"], "vectors": [[1.0]]}), folder / "y.parquet")
    with pytest.raises(DataError, match="has no column `vector`; it has id, vectors"):
        file.embed(["a"], path="y.parquet", data=folder)
    (folder / "z.parquet").write_bytes(b"PAR1")
    with pytest.raises(SourceError, match="is not Parquet that can be read"):
        file.embed(["a"], path="z.parquet", data=folder)
    pq.write_table(
        pa.table({"id": pa.array([], pa.string()), "vector": pa.array([], pa.list_(pa.float32()))}),
        folder / "e.parquet",
    )
    with pytest.raises(DataError, match="holds no row"):
        file.embed(["a"], path="e.parquet", data=folder)


def test_an_id_without_a_vector_and_a_vector_that_is_not_finite_are_named(folder: Path) -> None:
    with pytest.raises(DataError, match="has no vector for 2 of the 3 ids asked for, the first is 'zz'"):
        file.embed(["a", "zz", "y"], path="v.npy", ids="ids.txt", data=folder)
    broken = VECTORS.astype(np.float64)
    broken[2, 1] = np.nan
    broken[3, 0] = 1e300
    np.save(folder / "v.npy", broken)
    for id in ("d", "ç"):
        with pytest.raises(DataError, match=f"the vector of id '{id}' holds NaN or a value that is no finite float32"):
            file.embed(["a", id], path="v.npy", ids="ids.txt", data=folder)
    np.testing.assert_array_equal(file.embed(["a"], path="v.npy", ids="ids.txt", data=folder), VECTORS[1:2])
    parquet(folder / "n.parquet", ["a", "b"], [[1.0, None], [1.0, 2.0]])
    with pytest.raises(DataError, match="the vector of id 'a' holds NaN"):
        file.embed(["a"], path="n.parquet", data=folder)
