"""GGUF, the file format of llama.cpp, read with numpy: its facts, and its tensors as float32.

    facts, tensors = read(path)
    facts["llama.block_count"], tensors["blk.0.attn_q.weight"]()     # float32 (rows, columns), made when it is asked for

Of the formats of tensors those that a file of ours holds: F32, Q8_0 (32 numbers share a scale) and Q4_1 (32 numbers of 4 bits
share a scale and an offset). Source: the specification, github.com/ggml-org/ggml/blob/master/docs/gguf.md.
"""

from __future__ import annotations

import math
import mmap
import struct
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

Tensors = dict[str, Callable[[], np.ndarray]]

_NUMBERS = dict(enumerate("BbHhIif?  Qqd"))  # of a value's type: how struct calls it
_TEXT, _LIST = 8, 9
_BLOCK = 32  # numbers that share a scale
_FORMATS = {  # of a tensor: how many numbers stand together, and how
    0: (1, np.dtype("<f4")),
    3: (_BLOCK, np.dtype([("scale", "<f2"), ("offset", "<f2"), ("codes", "u1", _BLOCK // 2)])),
    8: (_BLOCK, np.dtype([("scale", "<f2"), ("codes", "i1", _BLOCK)])),
}


def read(path: Path) -> tuple[dict[str, Any], Tensors]:
    """(facts, tensors). ValueError for a file that is no GGUF of version 3 or holds tensors of another format."""
    with open(path, "rb") as file:
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    header = _Header(data)
    if data[:4] != b"GGUF" or header.number("I") != 3:
        raise ValueError(f"{path} is no GGUF file of version 3")
    count, entries = header.number("Q"), header.number("Q")
    facts = {header.text(): header.value(header.number("I")) for _ in range(entries)}
    told = []
    for _ in range(count):
        name = header.text()
        shape = [header.number("Q") for _ in range(header.number("I"))][::-1]
        told.append((name, shape, header.number("I"), header.number("Q")))
    start = header.at + -header.at % facts.get("general.alignment", 32)
    if other := [name for name, _, format, _ in told if format not in _FORMATS]:
        raise ValueError(f"{path} holds {other[0]} in a format that is not read here; F32, Q8_0 and Q4_1 are")
    return facts, {name: partial(_numbers, data, start + at, shape, format) for name, shape, format, at in told}


class _Header:
    """What stands before the tensors, read from front to back. at: the byte that is read next."""

    def __init__(self, data: mmap.mmap):
        self.data, self.at = data, 4

    def number(self, code: str) -> Any:
        (value,) = struct.unpack_from(f"<{code}", self.data, self.at)
        self.at += struct.calcsize(f"<{code}")
        return value

    def text(self) -> str:
        length = self.number("Q")
        self.at += length
        return self.data[self.at - length : self.at].decode("utf-8")

    def value(self, kind: int) -> Any:
        if kind == _TEXT:
            return self.text()
        if kind == _LIST:
            kind = self.number("I")
            return [self.value(kind) for _ in range(self.number("Q"))]
        return self.number(_NUMBERS[kind])


def _numbers(data: mmap.mmap, at: int, shape: list[int], format: int) -> np.ndarray:
    together, dtype = _FORMATS[format]
    blocks: Any = np.frombuffer(data, dtype, math.prod(shape) // together, at)
    if dtype.names is None:
        return blocks.reshape(shape)
    codes = blocks["codes"]
    if "offset" in dtype.names:  # the low halves of 16 bytes, then their high halves
        codes = np.concatenate([codes & 15, codes >> 4], axis=1)
    values = blocks["scale"].astype(np.float32)[:, None] * codes.astype(np.float32)
    if "offset" in dtype.names:
        values += blocks["offset"].astype(np.float32)[:, None]
    return values.reshape(shape)
