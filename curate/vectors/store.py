"""Row-aligned vectors of texts, computed once per text, method and model, and shared by all works (curate/contract/store.py).

Texts are embedded in an order of their own (by length, then hash); since a row's vector depends on its text and the model
alone, that order shows nowhere.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from curate.contract import store
from curate.contract.code import source_and_versions
from curate.contract.errors import DataError
from curate.contract.methods import Method

_DIGEST = 16  # bytes


def vectors(texts: pl.Series, method: Method, options: dict[str, Any], out: Path, **filled: Any) -> dict[str, Any]:
    """Writes row-aligned vectors of ``texts`` to ``out`` (.npy, float32 (n, d)) and returns the facts they depend on.

    An embedder's file may define ``content(texts, **options) -> list[bytes]`` beside ``embed``: digests of 16 bytes of what
    each vector depends on, where that is more than the text. Cost: one pass of the model over the texts that the store does
    not know yet; memory: one shard beside the output, which is written through a memory map.
    """
    call = method.call_options(options, **filled)
    facts = dict(method.function("identity")(**call))
    source, _ = source_and_versions([method.path])
    entry = store.arrays("vectors", method.name, {"method": method.name, "source": source, "facts": facts})
    embed, embedded = method.function(), 0

    def compute(rows: np.ndarray) -> np.ndarray:
        nonlocal embedded
        embedded += len(rows)
        return embed(texts.gather(rows).to_list(), **call)

    lengths = texts.str.len_bytes().to_numpy()
    entry.values(_keys(texts, method, call), compute, sizes=lengths, out=out, label=f"embedding ({method.name})")
    return {**facts, "embedded_now": embedded}


def _keys(texts: pl.Series, method: Method, call: dict[str, Any]) -> np.ndarray:
    content = method.beside("content")
    if content is None:
        return store.keys(texts.to_list())
    digests = content(texts.to_list(), **call)
    if len(digests) != len(texts) or any(len(one) != _DIGEST for one in digests):
        raise DataError(
            f"embed {method.name}: `content` in {method.path} should give a digest of {_DIGEST} bytes for each of "
            f"{len(texts):,} texts"
        )
    return np.frombuffer(b"".join(digests), dtype="S16")
