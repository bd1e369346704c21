"""The vectors of a pool are finite real numbers."""

from __future__ import annotations

import re

import numpy as np
import polars as pl
import pytest

import tamis
from curate.contract.errors import ContractError
from curate.vectors.unit import unit

TABLE = pl.DataFrame({"id": [f"r{row}" for row in range(6)]})
WHOLE = np.arange(1, 19).reshape(6, 3)


@pytest.mark.parametrize(
    "vectors",
    [
        WHOLE.astype(np.complex128),
        WHOLE.astype(object),
        WHOLE.astype(str),
        WHOLE.astype("S3"),
        WHOLE > 3,
        WHOLE.astype("datetime64[s]"),
        WHOLE.astype("timedelta64[s]"),
        np.zeros((6, 3), dtype=[("x", "f4")]),
    ],
    ids=lambda vectors: str(vectors.dtype),
)
def test_vectors_that_are_no_real_numbers_are_one_sentence(vectors):
    with pytest.raises(
        ContractError,
        match=r"^the vectors of a pool are real numbers, and here they are " + re.escape(str(vectors.dtype)),
    ):
        tamis.pool(TABLE, vectors)
    with pytest.raises(
        ContractError, match="^k_center needs vectors of real numbers, and was given " + re.escape(str(vectors.dtype))
    ):
        tamis.select(tamis.Pool(TABLE, vectors), "k_center", budget=2)


@pytest.mark.parametrize("kind", ["int8", "int64", "uint16", "float16", "longdouble", ">f4"])
def test_other_numbers_are_copied_as_float32_and_chosen_from_alike(kind):
    pool = tamis.pool(TABLE, WHOLE.astype(kind))
    assert pool.vectors.dtype == np.float32 and (pool.vectors == WHOLE).all()
    assert (
        tamis.select(pool, budget=3).index.tolist()
        == tamis.select(tamis.pool(TABLE, WHOLE * 1.0), budget=3).index.tolist()
    )


@pytest.mark.parametrize("kind", ["float32", "float64"])
def test_floats_of_usual_size_are_not_copied(kind):
    vectors = WHOLE.astype(kind)
    assert tamis.pool(TABLE, vectors).vectors is vectors
    assert tamis.pool(TABLE[:0], vectors[:0]).vectors.shape == (0, 3)


@pytest.mark.parametrize(
    ("kind", "value"), [("float16", np.nan), ("float32", np.inf), ("float64", -np.inf), ("float64", 1e39)]
)
def test_a_vector_that_float32_cannot_hold_is_named_with_its_row_and_id(kind, value, monkeypatch):
    monkeypatch.setattr("curate.rows.pool._BLOCK", 2)
    vectors = WHOLE.astype(kind)
    vectors[4, 1] = value
    with pytest.raises(
        ContractError, match=r"are finite, and row 4 of 6 \(id r4\) holds NaN, infinity or a number above"
    ):
        tamis.pool(TABLE, vectors)


def test_unit_vectors_of_whole_numbers_have_length_one():
    assert np.linalg.norm(unit(WHOLE, "test"), axis=1) == pytest.approx(np.ones(6))
