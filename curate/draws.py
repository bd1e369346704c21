"""Every random draw is a hash of (seed, name of the stream, row id).

So a draw does not depend on the order of the rows, on the number of workers or on what else was drawn, and two arms of a
study that ask for the same stream see the same numbers. Shared by ``curate`` and ``train``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np


def draw(seed: int, stream: str, key: str) -> int:
    """One draw, uniform over the 64-bit unsigned integers."""
    digest = hashlib.blake2b(f"{seed}\0{stream}\0{key}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def draws(seed: int, stream: str, keys: Iterable[str]) -> np.ndarray:
    """A draw a key: uint64 (n,), uniform. About 1 microsecond a key."""
    prefix = hashlib.blake2b(f"{seed}\0{stream}\0".encode(), digest_size=8)
    out = bytearray()
    for key in keys:
        one = prefix.copy()
        one.update(key.encode("utf-8", "surrogatepass"))
        out += one.digest()
    return np.frombuffer(bytes(out), dtype="<u8")


def uniform(seed: int, stream: str, keys: Iterable[str]) -> np.ndarray:
    """A draw a key: float64 (n,), uniform on [0, 1), 53 random bits."""
    return (draws(seed, stream, keys) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def shuffled(seed: int, stream: str, keys: Iterable[str]) -> np.ndarray:
    """A random order of the keys: int64 (n,). The order of the input does not matter beyond equal keys; ties go by key."""
    keys = list(keys)
    return np.lexsort((np.asarray(keys, dtype=object).astype(str), draws(seed, stream, keys))).astype(np.int64)
