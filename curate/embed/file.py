"""Read ready vectors from a file, by row id.

When to use: vectors come from elsewhere: another model, another machine, a service, an earlier project.
Cost: a .npy is memory-mapped, so memory is one slice of rows; a Parquet file is held whole, 4 bytes x rows x dimensions (1.5 GB
for a million of 384). Both keep their ids, about 200 bytes each. Every file is read once to hash it.

    - embed: {file: {path: vectors.npy, ids: ids.txt}}
    - embed: {file: {path: vectors.parquet}}

A .npy is (rows, dimensions) of floats; ``ids`` names its rows, in the same order: a text file with an id a line, a .npy of
strings, or a Parquet file with a column ``id``. A .parquet has the columns ``id`` (text) and ``vector`` (a list of floats).
Rows that the pool does not have are not looked at. Reference: the .npy format, NumPy Enhancement Proposal 1.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from curate.contract.errors import DataError, MethodError, SourceError
from curate.contract.files import sha256

TEXT = "id"

_BATCH = 65_536  # rows of a Parquet file at a time


class _Index(NamedTuple):
    """row: where the vector of an id stands. vectors: (n, d), as they are in the file."""

    row: dict[str, int]
    vectors: np.ndarray


def identity(*, path: str, ids: str | None = None, data: Path | None = None) -> dict[str, Any]:
    """What the vectors depend on: the bytes of the files. Checks all of them but the values."""
    files = _files(path, ids, data)
    vectors = _index(*files).vectors
    return {
        "method": "file",
        "sha256": [sha256(file) for file in files if file is not None],
        "shape": list(vectors.shape),
        "dtype": str(vectors.dtype),
    }


def embed(texts: list[str], *, path: str, ids: str | None = None, data: Path | None = None) -> np.ndarray:
    """The vectors of the row ids ``texts``: float32 (n, d), as they stand in the file.

    path: a .npy or .parquet file. ids: of a .npy, the file that names its rows; null for Parquet. data: the folder that
    relative paths hang from.
    """
    file, names = _files(path, ids, data)
    index = _index(file, names)
    missing = [text for text in texts if text not in index.row]
    if missing:
        raise DataError(
            f"embed file: {file} has no vector for {len(missing):,} of the {len(texts):,} ids asked for, the first is "
            f"{missing[0]!r}; add them to the file, or leave those rows out with `where`"
        )
    rows = index.vectors[[index.row[text] for text in texts]]
    with np.errstate(over="ignore"):  # a float64 that float32 cannot hold becomes infinite, and is refused below
        vectors = rows.astype(np.float32)
    broken = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if len(broken):
        raise DataError(
            f"embed file: {file}: the vector of id {texts[broken[0]]!r} holds NaN or a value that is no finite float32; "
            "embed that row anew, or filter it out before this step"
        )
    return vectors


def _files(path: str, ids: str | None, data: Path | None) -> tuple[Path, Path | None]:
    """The files that the options name, if they are there and fit each other."""
    file, names = _existing(path, data), None if ids is None else _existing(ids, data)
    if file.suffix not in (".npy", ".parquet"):
        raise MethodError(
            f"embed file: path {path!r} should end in .npy or .parquet; convert the vectors to one of them"
        )
    if file.suffix == ".npy" and names is None:
        raise MethodError(f"embed file: {path!r} has no ids; name the file that has them, one a line, with `ids:`")
    if file.suffix == ".parquet" and names is not None:
        raise MethodError(f"embed file: {path!r} names its rows in its own column `id`; remove `ids: {ids}`")
    return file, names


def _existing(path: str, data: Path | None) -> Path:
    file = (data or Path()) / Path(path).expanduser()
    if not file.is_file():
        raise SourceError(
            f"embed file: there is no file {file}; check the path, which hangs from the recipe's data folder"
        )
    return file.resolve()


def _index(file: Path, names: Path | None) -> _Index:
    changed = tuple(path.stat().st_mtime_ns for path in (file, names) if path is not None)
    return _open(file, names, changed)


@lru_cache(maxsize=1)
def _open(file: Path, names: Path | None, changed: tuple[int, ...]) -> _Index:
    """Opened once for all the slices of a table."""
    keys, vectors = _parquet(file) if names is None else (_ids(names), _npy(file))
    if len(keys) != len(vectors):
        raise DataError(
            f"embed file: {file} holds {len(vectors):,} vectors and {names} {len(keys):,} ids; there should be one id a vector"
        )
    row: dict[str, int] = {}
    for number, key in enumerate(keys):
        if row.setdefault(key, number) != number:
            raise DataError(
                f"embed file: {names or file} holds {len(keys) - len(set(keys)):,} ids more than once, the first is {key!r}; "
                "keep one vector an id"
            )
    return _Index(row, vectors)


def _npy(file: Path) -> np.ndarray:
    vectors = _load(file, mmap_mode="r")
    if vectors.ndim != 2 or vectors.shape[1] == 0:
        raise DataError(f"embed file: {file} has the shape {vectors.shape}; it should be (rows, dimensions)")
    if vectors.dtype.kind != "f":
        raise DataError(f"embed file: {file} holds {vectors.dtype}; it should hold floats: float32 or float16")
    return vectors


def _ids(file: Path) -> list[str]:
    if file.suffix == ".parquet":
        return [key for batch in _batches(file, ["id"]) for key in _keys(batch, file)]
    if file.suffix == ".npy":
        names = _load(file)
        if names.ndim != 1 or names.dtype.kind != "U":
            raise DataError(
                f"embed file: {file} holds {names.dtype} of shape {names.shape}; ids should be strings of shape (rows,)"
            )
        return names.tolist()
    try:
        lines = file.read_text("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise SourceError(f"embed file: {file} is not UTF-8 text ({error}); ids are text, one a line") from error
    return lines[:-1] if lines[-1] == "" else lines


def _load(file: Path, **how: Any) -> np.ndarray:
    try:
        return np.load(file, allow_pickle=False, **how)
    except (ValueError, EOFError, OSError) as error:
        raise SourceError(
            f"embed file: {file} is not a .npy that can be read ({error}); write it with numpy.save, not of objects"
        ) from error


def _parquet(file: Path) -> tuple[list[str], np.ndarray]:
    """(ids, float vectors (n, d)), batch by batch into one array."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    keys: list[str] = []
    vectors: np.ndarray | None = None
    for batch in _batches(file, ["id", "vector"]):
        keys += (these := _keys(batch, file))
        column = batch.column("vector")
        kind = column.type
        if not (pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)) or (
            not pa.types.is_floating(kind.value_type)
        ):
            raise DataError(f"embed file: the column `vector` of {file} holds {kind}; it should hold lists of floats")
        lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False)  # pyright: ignore
        width = vectors.shape[1] if vectors is not None else int(next((n for n in lengths if n), 0))
        wrong = np.flatnonzero(lengths != max(width, 1))
        if len(wrong):
            raise DataError(
                f"embed file: {file}: the vector of id {these[wrong[0]]!r} has {lengths[wrong[0]]} values where others have "
                f"{width}; all should have the same number, one at least"
            )
        values = column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), width)
        if vectors is None:
            vectors = np.empty((pq.read_metadata(file).num_rows, width), dtype=values.dtype)
        vectors[len(keys) - len(these) : len(keys)] = values
    if vectors is None:
        raise DataError(f"embed file: {file} holds no row; write it again with the columns `id` and `vector`")
    return keys, vectors


def _batches(file: Path, columns: list[str]) -> Any:
    """Record batches of a Parquet file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(file) as source:
            there = source.schema_arrow.names
            absent = [column for column in columns if column not in there]
            if absent:
                raise DataError(
                    f"embed file: {file} has no column `{absent[0]}`; it has {', '.join(there)}, and should have "
                    + " and ".join(f"`{column}`" for column in columns)
                )
            yield from source.iter_batches(_BATCH, columns=columns)
    except (pa.ArrowException, OSError) as error:
        raise SourceError(f"embed file: {file} is not Parquet that can be read ({error}); get it again") from error


def _keys(batch: Any, file: Path) -> list[str]:
    import pyarrow as pa

    column = batch.column("id")
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        raise DataError(f"embed file: the column `id` of {file} holds {column.type}; it should hold text")
    if column.null_count:
        raise DataError(
            f"embed file: the column `id` of {file} holds {column.null_count:,} nulls in one batch; name every row"
        )
    return column.to_pylist()
