from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from train.batches import Stream, packs
from train.encode import END_OF_TURN, RESPONSE, Encoded
from train.objectives import response_only

IDS = [f"r{i}" for i in range(10)]


def ids_of(stream: Stream, steps: int) -> list[str]:
    return [stream.keys[i] for step in range(steps) for i in stream.step(step)]


def test_an_epoch_holds_every_row_once_and_batches_run_over_its_edge():
    taken = ids_of(Stream(IDS, 4, seed=1), 5)
    assert Counter(taken) == dict.fromkeys(IDS, 2)
    assert Counter(taken[:10]) == dict.fromkeys(IDS, 1)
    assert taken[:10] != taken[10:]


def test_the_order_depends_on_ids_and_seed_and_not_on_how_rows_came_in():
    forward, backward = Stream(IDS, 5, seed=1), Stream(IDS[::-1], 5, seed=1)
    assert ids_of(forward, 4) == ids_of(backward, 4)
    assert ids_of(forward, 4) != ids_of(Stream(IDS, 5, seed=2), 4)


def test_a_row_that_leaves_does_not_shuffle_the_others():
    all_of, without = ids_of(Stream(IDS, 10, seed=3), 1), ids_of(Stream(IDS[:-1], 9, seed=3), 1)
    assert [row for row in all_of if row != IDS[-1]] == without


def test_copies_of_a_row_are_drawn_apart():
    taken = ids_of(Stream(["a", "b", "a", "c", "a"], 5, seed=0), 1)
    assert len(set(taken)) == 5
    assert sum(key.split("\0")[0] == "a" for key in taken) == 3


def test_any_step_can_be_asked_for_first():
    one, other = Stream(IDS, 3, seed=5), Stream(IDS, 3, seed=5)
    in_turn = [other.step(step) for step in range(8)]
    assert [one.step(step) for step in (7, 0, 3)] == [in_turn[step] for step in (7, 0, 3)]


def _document(name: str, ids: list[int], role: list[int]) -> Encoded:
    return Encoded(name, np.array(ids, np.int32), np.array(role, np.uint8), np.zeros(len(ids), np.int32), 1)


def test_no_target_reaches_over_the_edge_of_a_document():
    """All roles are responses, so nothing but the edge keeps the first token of a document from being a target."""
    rows = [_document("a", [1, 2, 3], [3, 3, 3]), _document("b", [4, 5], [3, 4])]
    weights = [response_only.weights(d.role, d.turn) for d in rows]
    (pack,) = packs(rows, weights, [0, 1], 10)
    assert pack.input_ids.tolist() == [[1, 2, 3, 4, 5]]
    assert pack.positions.tolist() == [[0, 1, 2, 0, 1]]
    assert pack.documents.lengths == [3, 2]
    assert pack.documents.starts.tolist() == [0, 3, 5]
    assert pack.predictors.tolist() == [0, 1, 3]
    assert pack.targets.tolist() == [2, 3, 5]
    assert pack.owners.tolist() == [0, 0, 1]


def test_packing_keeps_every_target_with_its_document_and_weight(documents):
    weights = [response_only.weights(d.role, d.turn) * 0.5 for d in documents]
    seen = Counter()
    for pack in packs(documents, weights, range(len(documents)), 128):
        assert pack.tokens == sum(pack.documents.lengths)
        assert set(pack.weights.tolist()) == {0.5}
        for at, target, owner in zip(
            pack.predictors.tolist(), pack.targets.tolist(), pack.owners.tolist(), strict=True
        ):
            assert pack.input_ids[0, at + 1] == target
            assert pack.positions[0, at + 1] == pack.positions[0, at] + 1
            seen[owner] += 1
    expected = {i: int(np.isin(d.role[1:], (RESPONSE, END_OF_TURN)).sum()) for i, d in enumerate(documents)}
    assert seen == expected


def test_a_document_longer_than_a_pack_goes_alone(documents):
    longest = max(len(d.input_ids) for d in documents)
    weights = [response_only.weights(d.role, d.turn) for d in documents]
    out = packs(documents, weights, range(len(documents)), 8)
    assert max(pack.tokens for pack in out) == longest


def test_the_given_weights_are_left_as_they_are(documents):
    weights = [np.ones(len(d.input_ids), np.float32) for d in documents]
    packs(documents, weights, range(len(documents)), 256)
    assert all(w.min() == 1 for w in weights)


@pytest.mark.gpu
def test_packs_stand_on_the_device(documents):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    weights = [response_only.weights(d.role, d.turn) for d in documents]
    pack = packs(documents, weights, [0, 1], 256, "cuda")[0]
    assert {t.device.type for t in (pack.input_ids, pack.targets, pack.documents.starts)} == {"cuda"}
