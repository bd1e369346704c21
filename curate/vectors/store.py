"""The feature store: a vector is computed once per text, method and model, and shared by all works.

``<cache>/features/<method>-<key>/`` holds shards of (hash of the text, vector), each whole or absent, so that a killed run
loses at most one shard. Texts are embedded in an order of their own (by length, then hash), in shards of fixed size;
since a row's vector depends on its text and the model alone, that order shows nowhere.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from curate.contract.files import cache_folder, digest, sha256, whole, write_json
from curate.contract.methods import Method
from curate.contract.progress import bar

_ROWS_PER_SHARD = 4096


def vectors(texts: pl.Series, method: Method, options: dict[str, Any], out: Path, **filled: Any) -> dict[str, Any]:
    """Writes row-aligned vectors of ``texts`` to ``out`` (.npy, float32 (n, d)) and returns the facts they depend on.

    Cost: one pass of the model over the texts that the store does not know yet; memory: one shard beside the output,
    which is written through a memory map.
    """
    call = method.call_options(options, **filled)
    facts = dict(method.function("identity")(**call))
    key = digest({"method": method.name, "source": sha256(method.path), "facts": facts})
    folder = cache_folder() / "features" / f"{method.name}-{key}"
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "about.json", facts)

    wanted = pl.DataFrame({"key": _keys(texts.to_list()), "row": np.arange(len(texts), dtype=np.int64), "text": texts})
    first = wanted.unique("key", keep="first", maintain_order=True)
    missing = first.join(_known(folder).select("key"), on="key", how="anti")
    missing = missing.with_columns(pl.col("text").str.len_bytes().alias("length")).sort("length", "key")
    with bar(missing.height, f"embedding ({method.name})") as advance:
        for start in range(0, missing.height, _ROWS_PER_SHARD):
            part = missing.slice(start, _ROWS_PER_SHARD)
            _write(folder, part["key"].to_list(), method.function()(part["text"].to_list(), **call))
            advance(part.height)
    _gather(folder, wanted.select("key", "row"), out)
    return {**facts, "embedded_now": missing.height}


def _keys(texts: Sequence[str]) -> list[bytes]:
    return [hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest() for text in texts]


def _write(folder: Path, keys: list[bytes], values: np.ndarray) -> None:
    shard = np.zeros(len(keys), dtype=[("key", "V16"), ("vector", "<f4", (values.shape[1],))])
    shard["key"] = np.frombuffer(b"".join(keys), dtype="V16")
    shard["vector"] = values
    name = hashlib.blake2b(b"".join(keys), digest_size=16).hexdigest()
    with whole(folder / f"{name}.npy") as temporary, open(temporary, "wb") as handle:
        np.save(handle, shard)


def _known(folder: Path) -> pl.DataFrame:
    """Where each known key stands: key, shard, position."""
    frames = [pl.DataFrame(schema={"key": pl.Binary, "shard": pl.Int32, "position": pl.Int64})]
    for number, path in enumerate(sorted(folder.glob("*.npy"))):
        shard = np.load(path, mmap_mode="r")
        raw = shard["key"].tobytes()
        keys = [raw[at : at + 16] for at in range(0, len(raw), 16)]
        frames.append(
            pl.DataFrame(
                {
                    "key": keys,
                    "shard": np.full(len(keys), number, np.int32),
                    "position": np.arange(len(keys), dtype=np.int64),
                }
            )
        )
    return pl.concat(frames).unique("key", keep="first", maintain_order=True)


def _gather(folder: Path, wanted: pl.DataFrame, out: Path) -> None:
    paths = sorted(folder.glob("*.npy"))
    places = wanted.join(_known(folder), on="key", how="left")
    width = np.load(paths[0], mmap_mode="r")["vector"].shape[1] if paths else 0
    with whole(out) as temporary:
        target = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.float32, shape=(wanted.height, width))
        for (number,), group in places.group_by("shard"):
            shard = np.load(paths[int(str(number))], mmap_mode="r")
            target[group["row"].to_numpy()] = shard["vector"][group["position"].to_numpy()]
        target.flush()
        del target
