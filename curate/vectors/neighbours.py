"""The nearest rows of every row by cosine: exact for a pool of usual size, by an inverted file for a large one.

When to use: for methods that need each row's neighbourhood and cannot hold all pairs: sparse facility location,
density. Below ``exact_below`` rows every pair is compared, in blocks, and each cosine serves both of its rows. Above it
the rows are put into about 2 sqrt(n) lists by spherical k-means, and a row meets the rows of the lists nearest to it.
Again each cosine serves both: two rows meet if either looks into the list of the other, so fewer probes find as much.
What a block brings is compared with the worst neighbour that a row has so far; few pairs pass, and only those are
sorted.

Cost, in seconds of one core at 384 dimensions, 16 neighbours and 16 probes (about half on two free ones): 50,000 rows
15, exact; 200,000 rows 20 and 400,000 rows 48, with recall 0.99 on jittered embeddings; a million about 170, by
extrapolation. Memory beside the vectors: 16 bytes a row and neighbour, 18 a row and probe, 200 KB a list to train on:
0.8 GB for a million.

    index, cosine = graph(unit(vectors, "density"), 17)
    say(f"recall {recall(vectors, index):.3f}")

Reference: Sivic and Zisserman 2003, "Video Google" (inverted file); Johnson, Douze and Jegou 2017, arXiv 1702.08734
(the same over vectors). Spherical k-means: Dhillon and Modha 2001.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from curate.contract.device import device
from curate.contract.draws import draws
from curate.contract.errors import ContractError, MethodError
from curate.contract.progress import bar, track
from curate.vectors.product import ahead, product

_BLOCK = 1_024  # rows and columns of a matrix product: its result, 4 MB, is read again from the cache
_TILE = 64  # sides of a product are filled up with zeros to a multiple: so no cosine depends on its place in it
_TRAINING_ROWS = 64  # a list
_ROUNDS = 5  # of Lloyd; three or eight change recall by less than 0.005
_TIE = 1e-6  # cosines closer than this are rounding
_MET = 2**25  # rows that rows of one block may meet before they are sorted, 8 bytes each
_NONE = np.iinfo(np.int64).max  # the key of a neighbour that is not yet found


def graph(
    vectors: np.ndarray,
    k: int,
    *,
    rows: np.ndarray | None = None,
    seed: int = 0,
    exact_below: int = 50_000,
    probes: int = 16,
) -> tuple[np.ndarray, np.ndarray]:
    """(index int32 (m, k), cosine float32 (m, k)): the k nearest rows of each of ``rows``, int64 (m,), or of every row, the
    row itself first, then by falling cosine, ties to the lower index.

    vectors: float32 (n, d), unit length or zero, as ``curate.vectors.unit.unit`` gives them. A row of zeros is like nothing:
    its cosines are 0, to itself too. exact_below: from so many rows on the search is approximate (``recall`` says how
    good), and rows of zeros are neighbours of each other alone. probes: lists that a row looks into; all of them find
    all. With ``rows`` no cosine serves both of its rows, so a row looks into more lists where its k nearest fill more than a
    few.

    Only the sample that the lists are trained on is drawn, by a hash of (seed, index). The number of threads changes
    nothing.
    """
    n = len(vectors)
    if not 1 <= k <= n:
        raise MethodError(f"neighbour graph: k {k} should be between 1 and the number of rows, {n}")
    if probes < 1:
        raise MethodError(f"neighbour graph: probes {probes} should be at least 1")
    filled = _not_zero(vectors)
    if rows is not None:
        return _graph_of(vectors, k, rows, filled, seed, 0 if n < exact_below else probes)
    nearest = _Nearest(n, k - 1)
    if k > 1 and n < exact_below:
        with bar(n, "neighbours") as advance:
            _all_pairs(vectors, [np.arange(n)], nearest, advance)
    elif k > 1 and device() == "cuda":
        nearest.keys[:] = _on_device(vectors, k - 1, "cuda")
    elif k > 1:
        _by_lists(vectors, np.flatnonzero(filled), nearest, seed, probes)
        nearest.keys[~filled] = _lowest(np.flatnonzero(~filled), k - 1)
        alone = np.flatnonzero(nearest.keys[:, -1] == _NONE)
        nearest.keys[alone] = _against_all(vectors, alone, k - 1).keys
    return _with_itself(np.arange(n), filled, nearest.keys)


def recall(vectors: np.ndarray, index: np.ndarray, *, rows: int = 1_000, seed: int = 0) -> float:
    """The share of the true nearest rows that ``index`` (m, k) holds, the row itself, which comes first, not counted.

    Measured on ``rows`` of the m, drawn by a hash of (seed, index), against all; on fewer where k is above 100. A row as near
    as the last true one, within 1e-6, is right too.
    """
    m, k = index.shape
    _not_zero(vectors)
    if k == 1:
        return 1.0
    drawn = np.sort(_drawn(m, seed, "neighbours.recall")[: max(1, min(rows, 100 * rows // k))])
    itself = index[drawn, 0]
    right = 0
    for row, others, least in zip(itself, index[drawn, 1:], _against_all(vectors, itself, k - 1).least, strict=True):
        right += int(np.count_nonzero(np.einsum("ij,j->i", vectors[others], vectors[row]) >= least - _TIE))
    return right / (len(drawn) * (k - 1))


def _graph_of(
    vectors: np.ndarray, k: int, rows: np.ndarray, filled: np.ndarray, seed: int, probes: int
) -> tuple[np.ndarray, np.ndarray]:
    """``graph`` of some rows alone. probes: 0 to compare them with all."""
    keys = np.empty((len(rows), k - 1), np.int64)
    if k > 1 and not probes:
        keys[:] = _against_all(vectors, rows, k - 1).keys
    elif k > 1 and device() == "cuda":
        keys[:] = _on_device(vectors, k - 1, "cuda", rows=rows)
    elif k > 1:
        keys[filled[rows]] = _looked_up(vectors, np.flatnonzero(filled), rows[filled[rows]], k - 1, seed, probes)
        keys[~filled[rows]] = _lowest(rows[~filled[rows]], k - 1)
        alone = np.flatnonzero(keys[:, -1] == _NONE)
        keys[alone] = _against_all(vectors, rows[alone], k - 1).keys
    return _with_itself(rows, filled[rows], keys)


def _with_itself(rows: np.ndarray, filled: np.ndarray, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(index, cosine): each of ``rows`` (m,) before its neighbours, of which ``keys`` (m, k - 1) are given."""
    index, cosine = (np.empty((len(keys), keys.shape[1] + 1), dtype=kind) for kind in (np.int32, np.float32))
    index[:, 0], cosine[:, 0] = rows, filled
    index[:, 1:], cosine[:, 1:] = _index(keys), _cosine(keys)
    return index, cosine


def _not_zero(vectors: np.ndarray) -> np.ndarray:
    """bool (n,): which rows are not zero; ContractError where one is neither zero nor of length one."""
    if vectors.ndim != 2 or vectors.dtype != np.float32:
        raise ContractError(
            "neighbour graph needs float32 vectors of shape (rows, dimensions), and was given "
            f"{vectors.dtype} {vectors.shape}; scale them with curate.vectors.unit.unit"
        )
    squared = np.einsum("ij,ij->i", vectors, vectors)
    wrong = ~((np.abs(squared - 1) < 1e-3) | (squared == 0))
    if wrong.any():
        row = int(np.argmax(wrong))
        raise ContractError(
            "neighbour graph needs vectors of length one or zero, and the square of that of row "
            f"{row} of {len(vectors)} is {squared[row]:.4g}; scale them with curate.vectors.unit.unit"
        )
    return squared > 0


def _drawn(n: int, seed: int, stream: str) -> np.ndarray:
    """The rows in a random order: int64 (n,)."""
    return np.argsort(draws(seed, stream, map(str, range(n))), kind="stable")


class _Nearest:
    """The nearest rows of each row among those it has met.

    keys: int64 (n, k), rising: the cosine, turned so that a larger one is a smaller number, above the index of the
    other row. So one sort of integers puts cosines in falling order and ties to the lower index, and the result does
    not depend on the order of the meetings. least: float32 (n,), the cosine that a row must reach to be a neighbour.
    """

    def __init__(self, n: int, k: int):
        self.keys = np.full((n, k), _NONE, dtype=np.int64)
        self.least = np.full(n, -2, dtype=np.float32)

    def meet(
        self,
        rows: np.ndarray,
        others: np.ndarray,
        cosine: np.ndarray,
        first_time: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None,
        both: bool = True,
    ) -> None:
        """``rows`` (r,) met ``others`` (c,), with ``cosine`` (r, c): keeps the nearest for rows and, if ``both``, for
        others too.

        No pair may be kept twice: ``first_time(rows, others)`` says of pairs whether they meet for the first time.
        """
        if both:
            there, here = np.divmod(np.flatnonzero(cosine >= self.least[others]), cosine.shape[1])
            order = np.argsort(here, kind="stable")
            there, here = there[order], here[order]
            new = slice(None) if first_time is None else first_time(rows[there], others[here])
            self._keep(others[here[new]], rows[there[new]], cosine[there[new], here[new]])
        here, there = np.divmod(np.flatnonzero(cosine >= self._least(rows, cosine)[:, None]), cosine.shape[1])
        new = slice(None) if first_time is None else first_time(rows[here], others[there])
        self._keep(rows[here[new]], others[there[new]], cosine[here[new], there[new]])

    def _least(self, rows: np.ndarray, cosine: np.ndarray) -> np.ndarray:
        """What a cosine of this block must reach: where a row has met nearly nobody, the k-th largest maximum of 4 k
        groups of columns, which at least k reach. Else a first block would pass whole."""
        least, k = self.least[rows], self.keys.shape[1]
        each = cosine.shape[1] // (4 * k)
        if each > 1 and (least == -2).any():
            highest = cosine[:, : each * 4 * k].reshape(len(rows), each, 4 * k).max(axis=1)
            least = np.maximum(least, np.partition(highest, 3 * k, axis=1)[:, 3 * k])
        return least

    def _keep(self, rows: np.ndarray, others: np.ndarray, cosine: np.ndarray) -> None:
        """Pairs, those of one row side by side: sorts them in among what their rows have."""
        key = _key(cosine, others)
        better = key < self.keys[rows, -1]
        rows, key = rows[better], key[better]
        if len(rows) == 0:
            return
        first = np.flatnonzero(np.diff(rows, prepend=-1))
        count = np.diff(first, append=len(rows))
        changed, k = rows[first], self.keys.shape[1]
        table = np.full((len(changed), k + count.max()), _NONE, dtype=np.int64)
        table[:, :k] = self.keys[changed]
        table[np.repeat(np.arange(len(changed)), count), k + np.arange(len(rows)) - np.repeat(first, count)] = key
        table.sort(axis=1)
        self.keys[changed] = table[:, :k]
        self.least[changed] = np.where(table[:, k - 1] == _NONE, -2, _cosine(table[:, k - 1]))


def _key(cosine: np.ndarray, index: np.ndarray) -> np.ndarray:
    """int64: falls with the cosine, then rises with the index. The bits of a float rise with it, those of a negative
    one once they are turned."""
    bits = (np.minimum(cosine, 1) + np.float32(0)).view(np.int32)  # -0 + 0 is 0
    return (~(bits ^ ((bits >> 31) & 0x7FFFFFFF))).astype(np.int64) << 32 | index


def _cosine(keys: np.ndarray) -> np.ndarray:
    bits = ~(keys >> 32).astype(np.int32)
    return (bits ^ ((bits >> 31) & 0x7FFFFFFF)).view(np.float32)


def _index(keys: np.ndarray) -> np.ndarray:
    return (keys & 0x7FFFFFFF).astype(np.int32)


def _filled_up(part: np.ndarray) -> np.ndarray:
    """The rows, and rows of zeros up to a multiple of _TILE."""
    missing = -len(part) % _TILE
    return np.concatenate([part, np.zeros((missing, part.shape[1]), dtype=part.dtype)]) if missing else part


def _blocks(rows: np.ndarray) -> list[np.ndarray]:
    return [rows[start : start + _BLOCK] for start in range(0, len(rows), _BLOCK)]


def _all_pairs(
    vectors: np.ndarray, lists: Iterable[np.ndarray], nearest: _Nearest, advance: Callable[[int], None]
) -> None:
    """All rows of a list meet each other once. A row is ready for others when it has met its own block."""

    def pairs() -> Iterator[tuple[np.ndarray, np.ndarray, int]]:
        """(block, block, how many rows have met all others after that)."""
        for blocks in map(_blocks, lists):
            yield from ((block, block, len(block) * (block is blocks[-1])) for block in blocks)
            for number, block in enumerate(blocks):
                for other in blocks[number + 1 :]:
                    yield block, other, len(block) * (other is blocks[-1])

    for (block, other, done), cosine in _met(vectors, pairs()):
        if block is other:
            np.fill_diagonal(cosine, -np.inf)
        nearest.meet(block, other, cosine, both=block is not other)
        advance(done)


def _met(vectors: np.ndarray, pairs: Iterable[tuple[Any, ...]]) -> Iterator[tuple[Any, np.ndarray]]:
    """Each of some (rows (r,), others (c,), …), with their cosines (r, c), which are made while those before are looked at."""

    def cosines(pair: tuple[Any, ...]) -> np.ndarray:
        rows, others = pair[:2]
        return (_filled_up(vectors[rows]) @ _filled_up(vectors[others]).T)[: len(rows), : len(others)]

    return ahead(cosines, pairs)


def _on_device(
    vectors: np.ndarray, k: int, device: str, block: int = 1_024, rows: np.ndarray | None = None
) -> np.ndarray:
    """The keys of the k nearest other rows of ``rows`` (m,), or of every row, int64 (m, k), all pairs compared in the memory of a
    device. Ties beyond the k-th go as the device sorts them."""
    import torch

    rows = np.arange(len(vectors)) if rows is None else rows
    keys = np.empty((len(rows), k), np.int64)
    with torch.inference_mode(), bar(len(rows), "neighbours") as advance:
        points = torch.from_numpy(vectors).to(device)
        for start in range(0, len(rows), block):
            mine = torch.from_numpy(rows[start : start + block]).to(device)
            cosine = points[mine] @ points.T
            cosine[torch.arange(len(mine), device=device), mine] = -torch.inf
            value, index = cosine.topk(k, dim=1)
            keys[start : start + len(cosine)] = np.sort(_key(value.cpu().numpy(), index.cpu().numpy()), axis=1)
            advance(len(cosine))
    return keys


def _against_all(vectors: np.ndarray, rows: np.ndarray, k: int) -> _Nearest:
    """The k nearest of ``rows`` (m,), themselves left out: the first of the result is rows[0]."""
    nearest = _Nearest(len(rows), k)
    for here in _blocks(np.arange(len(rows))):
        part = _filled_up(vectors[rows[here]])
        for start in range(0, len(vectors), _BLOCK):
            other = vectors[start : start + _BLOCK]
            cosine = product(part, _filled_up(other))[: len(here), : len(other)]
            itself = np.flatnonzero((rows[here] >= start) & (rows[here] < start + len(other)))
            cosine[itself, rows[here[itself]] - start] = -np.inf
            nearest.meet(here, np.arange(start, start + len(other)), cosine, both=False)
    return nearest


def _by_lists(vectors: np.ndarray, rows: np.ndarray, nearest: _Nearest, seed: int, probes: int) -> None:
    """Each of ``rows`` meets the rows of the lists nearest to it, and the rows that look into its own."""
    if len(rows) == 0:
        return
    count = min(round(2 * len(rows) ** 0.5), 2**15 - 1)
    probes = min(probes, count)
    looks = np.full((len(vectors), probes), -1, dtype=np.int16)  # lists, the nearest first: in that one the row is kept
    looks[rows] = _nearest_lists(vectors, rows, _centres(vectors, rows, count, seed), probes)
    home = looks[:, 0].copy()
    order = np.argsort(looks, axis=None, kind="stable")
    ends = np.cumsum(np.bincount(looks.ravel() + 1, minlength=count + 1))
    with bar(2 * len(rows), "neighbours") as advance:
        looking = [order[ends[number] : ends[number + 1]] // probes for number in range(count)]
        members = [rows[home[rows] == number] for number, rows in enumerate(looking)]
        _all_pairs(vectors, members, nearest, advance)
        for (guests, mine, number, done), cosine in _met(vectors, _visits(looking, members, home)):
            nearest.meet(guests, mine, cosine, _not_met(number, home, looks))
            advance(done)


def _visits(
    looking: list[np.ndarray], members: list[np.ndarray], home: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray, int, int]]:
    """(guests, members, list, how many members have met all guests after that): all guests of a list meet all its members."""
    for number, (rows, mine) in enumerate(zip(looking, members, strict=True)):
        guests = _blocks(rows[home[rows] != number])
        for other in _blocks(mine):
            yield from ((block, other, number, len(other) * (block is guests[-1])) for block in guests)


def _not_met(number: int, home: np.ndarray, looks: np.ndarray) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Whether guests and members of a list meet there for the first time: else the member was a guest of the
    other's."""

    def first_time(guests: np.ndarray, members: np.ndarray) -> np.ndarray:
        first = np.ones(len(guests), dtype=bool)
        earlier = np.flatnonzero(home[guests] < number)
        first[earlier] = (looks[members[earlier]] != home[guests[earlier], None]).all(axis=1)
        return first

    return first_time


def _looked_up(vectors: np.ndarray, others: np.ndarray, rows: np.ndarray, k: int, seed: int, probes: int) -> np.ndarray:
    """The keys of the k nearest ``others`` of each of ``rows`` (m,), of the lists that it looks into: int64 (m, k), _NONE where
    these hold fewer. Rows that look into the same list meet it together; what a row has met is sorted once."""
    keys = np.full((len(rows), k), _NONE, np.int64)
    if len(rows) == 0:
        return keys
    count = min(round(2 * len(others) ** 0.5), 2**15 - 1)
    probes = min(count, probes + 4 * k * count // len(others))
    centres = _centres(vectors, others, count, seed)
    home = _nearest_lists(vectors, others, centres, 1)[:, 0]
    members = np.split(others[np.argsort(home, kind="stable")], np.cumsum(np.bincount(home, minlength=count))[:-1])
    size = np.array([len(part) for part in members])
    looks = _nearest_lists(vectors, rows, centres, probes)
    order = np.argsort(looks[:, 0], kind="stable")
    block = max(1, _MET // int(size[looks].sum(axis=1).max()))
    with bar(len(rows), "neighbours") as advance:
        for here in (order[at : at + block] for at in range(0, len(order), block)):
            ends = np.cumsum(size[looks[here]], axis=1)
            met = np.full((len(here), max(k, int(ends.max()))), _NONE, np.int64)
            guest, place = np.divmod(np.argsort(looks[here], axis=None, kind="stable"), probes)
            lists, first = np.unique(looks[here][guest, place], return_index=True)
            for number, some in zip(lists.tolist(), np.split(np.arange(len(guest)), first[1:]), strict=True):
                who, part = guest[some], members[number]
                cosine = product(_filled_up(vectors[rows[here[who]]]), _filled_up(vectors[part]))
                key = _key(cosine[: len(who), : len(part)], part)
                key[part == rows[here[who], None]] = _NONE
                start = ends[who, place[some]] - len(part)
                met[who[:, None], start[:, None] + np.arange(len(part))] = key
            met.partition(k - 1, axis=1)
            keys[here] = np.sort(met[:, :k], axis=1)
            advance(len(here))
    return keys


def _centres(vectors: np.ndarray, rows: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Directions of ``count`` groups of a sample of ``rows``, spherical k-means: float32 (count, d)."""
    drawn = _drawn(len(vectors), seed, "neighbours.lists")
    sample = vectors[drawn[np.isin(drawn, rows, kind="table")][: _TRAINING_ROWS * count]]
    centres = sample[:count].copy()
    for _ in track(range(_ROUNDS), "lists"):
        columns = _filled_up(centres)
        group = [
            product(_filled_up(part), columns)[: len(part), :count].argmax(axis=1)
            for part in (sample[start : start + _BLOCK] for start in range(0, len(sample), _BLOCK))
        ]
        group = np.concatenate(group)
        order = np.argsort(group, kind="stable")
        filled, first = np.unique(group[order], return_index=True)
        total = np.add.reduceat(sample[order], first, axis=0)
        length = np.linalg.norm(total, axis=1, keepdims=True)
        centres[filled] = np.where(length > 0, total / np.where(length > 0, length, 1), centres[filled])
    return centres


def _nearest_lists(vectors: np.ndarray, rows: np.ndarray, centres: np.ndarray, probes: int) -> np.ndarray:
    """The ``probes`` lists nearest to each of ``rows``, the nearest first: int32 (m, probes)."""
    columns, lists = _filled_up(centres), np.arange(len(centres))
    out = np.empty((len(rows), probes), dtype=np.int32)

    def cosines(here: np.ndarray) -> np.ndarray:
        return (_filled_up(vectors[rows[here]]) @ columns.T)[: len(here), : len(centres)]

    blocks = _blocks(np.arange(len(rows)))
    for here, cosine in track(ahead(cosines, blocks), "nearest lists", len(blocks)):
        nearest = _Nearest(len(here), probes)
        nearest.meet(np.arange(len(here)), lists, cosine, both=False)
        out[here] = _index(nearest.keys)
    return out


def _lowest(rows: np.ndarray, k: int) -> np.ndarray:
    """The keys of the k lowest rows but itself, at cosine 0, for each of ``rows``: int64 (m, k)."""
    index = np.arange(k) + (np.arange(k) >= rows[:, None])
    return _key(np.zeros(index.shape, dtype=np.float32), index)
