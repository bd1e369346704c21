"""GGUF files, written here byte by byte."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from smollm2 import F32, Q4_1, Q8_0, q4_1, q8_0, write_gguf

from curate.contract import gguf


def test_facts_keep_their_types(tmp_path: Path) -> None:
    facts = {"text": "é\n", "number": 7, "real": 0.5, "yes": True, "texts": ["a", "", "bc"], "numbers": [3, 1]}
    write_gguf(tmp_path / "file", facts, {})
    assert gguf.read(tmp_path / "file") == (facts, {})


def test_numbers_are_scale_times_code_and_an_offset(tmp_path: Path) -> None:
    eight, four = [*range(-16, 16)], [*range(16), *range(15, -1, -1)]
    plain = np.arange(6, dtype=np.float32).reshape(2, 3)
    tensors = {
        "plain": (F32, (2, 3), plain.tobytes()),
        "eight": (Q8_0, (2, 32), q8_0(0.25, eight) + q8_0(3.0, eight)),
        "four": (Q4_1, (1, 64), q4_1(0.5, -1.0, four) + q4_1(2.0, 0.0, reversed(four))),
    }
    write_gguf(tmp_path / "file", {"a": 1}, tensors)
    read = {name: numbers() for name, numbers in gguf.read(tmp_path / "file")[1].items()}
    assert all(numbers.dtype == np.float32 for numbers in read.values())
    assert (read["plain"] == plain).all()
    assert (read["eight"] == np.array([np.multiply(eight, 0.25), np.multiply(eight, 3.0)])).all()
    assert (read["four"] == np.array([[*(np.multiply(four, 0.5) - 1), *np.multiply(four[::-1], 2.0)]])).all()


def test_other_files_and_formats_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"GGML" + bytes(100))
    with pytest.raises(ValueError, match="is no GGUF file of version 3"):
        gguf.read(tmp_path / "file")
    write_gguf(tmp_path / "file", {}, {"rounded": (2, (1, 32), bytes(18))})
    with pytest.raises(ValueError, match=r"holds rounded in a format that is not read here; F32, Q8_0 and Q4_1 are"):
        gguf.read(tmp_path / "file")
