"""One thread for the matrix library, where the same bytes must come out on any number of them.

A library such as OpenBLAS cuts a product among its threads, and the cut decides in which order the float32 products of a cell
are added: of 2,000 x 2,000 cosines some in a hundred differ in the last bit between one thread and two. What is cut by us, in
pieces of a fixed size (``curate.vectors.product``), or not at all, does not.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from threading import Lock
from typing import Any

import numpy as np  # noqa: F401 - its matrix library is found once it is loaded
from threadpoolctl import ThreadpoolController


class _Inside:
    """Who is inside now: the first to come limits the library, the last to go gives it back its threads."""

    lock, many = Lock(), 0
    limit: Any = None


@contextmanager
def one_thread() -> Iterator[int]:
    """numpy's matrix library works on one thread inside, and on as many as before afterwards. Gives how many these were, for
    threads of Python that share the work. May be entered again inside, and from several threads of Python at once.

    Not held: libraries that threadpoolctl does not know, as Accelerate on a Mac. Entering costs 20 microseconds."""
    with _Inside.lock:
        if not _Inside.many:
            _Inside.limit = _library().limit(limits=1)
        _Inside.many += 1
        limit = _Inside.limit
    try:
        yield limit.get_original_num_threads()["blas"] or 1
    finally:
        with _Inside.lock:
            _Inside.many -= 1
            if not _Inside.many:
                limit.restore_original_limits()


@lru_cache(maxsize=1)
def _library() -> ThreadpoolController:
    return ThreadpoolController().select(user_api="blas")
