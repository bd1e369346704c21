from __future__ import annotations

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from curate.contract.threads import one_thread
from curate.vectors import product as products
from curate.vectors.product import product


def blas_threads() -> set[int]:
    return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("m", "n", "d"), [(1, 1, 3), (0, 2, 3), (2, 0, 3), (50, 7, 5), (9, 70, 4), (33, 33, 1)])
def test_a_product_in_tiles_is_the_product(m, n, d, dtype, monkeypatch):
    for name, size in (("_LEFT", 8), ("_RIGHT", 16), ("_ALONG", 7), ("_SMALL", 0)):
        monkeypatch.setattr(products, name, size)
    rng = np.random.default_rng(m + n)
    left, right = rng.normal(size=(m, d)).astype(dtype), rng.normal(size=(n, d)).astype(dtype)
    for threads in (1, 3):
        with threadpool_limits(threads):
            both, itself, along = product(left, right), product(left, left), product(left, left[0] if m else right[0])
        assert both.dtype == itself.dtype == along.dtype == dtype
        np.testing.assert_allclose(both, left @ right.T, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(itself, left @ left.T, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(itself, itself.T)
        np.testing.assert_allclose(along, left @ (left[0] if m else right[0]), rtol=1e-5, atol=1e-6)


def test_a_product_has_the_same_bits_on_one_to_four_threads_where_that_of_the_library_has_not():
    rng = np.random.default_rng(0)
    left, right = (rng.normal(size=(rows, 96)).astype(np.float32) for rows in (2_100, 5_000))
    ours, its = [], []
    for threads in (1, 2, 4):
        with threadpool_limits(threads):
            ours.append((product(left, right), product(left, left), product(right, left[0])))
            its.append(left @ right.T)
    for others in zip(*ours, strict=True):
        assert len({other.tobytes() for other in others}) == 1
    if len({other.tobytes() for other in its}) == 1:
        pytest.skip("this matrix library gives the same bits by itself")


def test_one_thread_may_be_entered_again_and_gives_the_threads_back():
    with threadpool_limits(3):
        with one_thread() as before:
            with one_thread() as again:
                assert (before, again, blas_threads()) == (3, 3, {1})
            assert blas_threads() == {1}
        with pytest.raises(ZeroDivisionError), one_thread():
            raise ZeroDivisionError
        assert 3 in blas_threads()
