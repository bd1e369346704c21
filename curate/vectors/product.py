"""Matrix products whose bits do not depend on the number of threads: cut into tiles of a fixed size, each made on one thread."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np

from curate.contract.threads import one_thread

_LEFT, _RIGHT = 512, 2_048  # sides of a tile: smaller ones cost a tenth more, larger ones leave processors idle
_ALONG = 16_384  # rows that are multiplied with one vector at a time
_AHEAD = 4  # results that wait for who uses them
_QUIET = partial(np.errstate, invalid="ignore")  # kernels compute lanes beyond a row's end too, of whatever lies there
_SMALL = 2**24  # multiplications, below which to start threads costs more than they save


def product(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """left (m, d) times right (n, d) transposed: (m, n); or times one vector (d,): (m,). Both of one type of floats, which is
    that of the result.

    ``product(x, x)``, of one array, is symmetric and takes half of the time. The work is shared among as many threads as the
    matrix library would use, and takes about as long as there.
    """
    if right.ndim == 1:
        out = np.empty(len(left), left.dtype)

        def along(at: int) -> None:
            with _QUIET():
                np.matmul(left[at : at + _ALONG], right, out=out[at : at + _ALONG])

        _share(along, range(0, len(left), _ALONG), left.size)
        return out
    out, same = np.empty((len(left), len(right)), left.dtype), left is right
    wide = _LEFT if same else _RIGHT

    def tile(place: tuple[int, int]) -> None:
        i, j = place
        cells = out[i : i + _LEFT, j : j + wide]
        with _QUIET():
            np.matmul(left[i : i + _LEFT], right[j : j + wide].T, out=cells)
        if same and i != j:
            out[j : j + wide, i : i + _LEFT] = cells.T

    places = [(i, j) for i in range(0, len(left), _LEFT) for j in range(i if same else 0, len(right), wide)]
    _share(tile, places, out.size * left.shape[1])
    return out


def ahead(work: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
    """(item, work(item)) of each item, in order: a few are made in other threads while the caller uses those before
    them."""
    with one_thread() as threads, ThreadPoolExecutor(threads) as pool:
        if threads == 1:
            yield from ((item, work(item)) for item in items)
            return
        waiting: deque[tuple[Any, Future[Any]]] = deque()
        for item in items:
            waiting.append((item, pool.submit(work, item)))
            if len(waiting) > _AHEAD:
                first, future = waiting.popleft()
                yield first, future.result()
        yield from ((item, future.result()) for item, future in waiting)


def _share(work: Callable[[Any], None], parts: Sequence[Any], multiplications: int) -> None:
    with one_thread() as threads:
        if threads == 1 or len(parts) < 2 or multiplications < _SMALL:
            for part in parts:
                work(part)
        else:
            with ThreadPoolExecutor(threads) as pool:
                list(pool.map(work, parts))  # the list, so that an error of one is raised
