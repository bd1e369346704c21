from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from curate.contract.errors import ContractError, RequestError
from train.encode import RESPONSE, Encoder
from train.models import predicting_states, save_model
from train.scoring import perplexity
from train.scoring.perplexity import evaluate, table


def test_bits_are_those_of_transformers_one_document_at_a_time(llama, documents):
    scores = evaluate(llama(), documents, dtype="float32")
    plain = llama(prepared=False).eval()
    for i, document in enumerate(documents):
        ids = torch.from_numpy(document.input_ids).long()
        with torch.no_grad():
            logp = plain(ids[None]).logits[0].double().log_softmax(-1)
        at = np.flatnonzero(document.role == RESPONSE)
        bits = -float(logp[at - 1, ids[at]].sum()) / math.log(2)
        assert scores.bits[i] == pytest.approx(bits, rel=1e-5)
        assert scores.tokens[i] == len(at)
        assert scores.bytes[i] == document.response_bytes


def test_neither_order_nor_packing_nor_neighbours_change_a_score(llama, documents):
    model = llama(dtype=torch.float64)
    whole = evaluate(model, documents, dtype="float32")
    alone = np.array([evaluate(model, [d], dtype="float32").bits[0] for d in documents])
    small = evaluate(model, documents[::-1], dtype="float32", pack_tokens=70).bits[::-1]
    np.testing.assert_allclose(alone, whole.bits, rtol=1e-12)
    np.testing.assert_allclose(small, whole.bits, rtol=1e-12)


def test_bfloat16_scores_stay_near_float32(llama, documents):
    model = llama()
    exact, half = (evaluate(model, documents, dtype=dtype).bits.sum() for dtype in ("float32", "bfloat16"))
    assert half == pytest.approx(exact, rel=2e-3)


def test_dropout_is_off_while_scoring_and_the_mode_stays(llama, documents):
    model = llama(attention_dropout=0.5)
    quiet = evaluate(model, documents).bits
    model.train()
    np.testing.assert_array_equal(evaluate(model, documents).bits, quiet)
    assert model.training


def test_nothing_scores_nothing(llama, documents):
    assert evaluate(llama(), []).bits.shape == (0,)
    silent = [replace(one, role=np.zeros_like(one.role)) for one in documents[:2]]
    assert evaluate(llama(), silent).bits.tolist() == [0, 0]


def test_candidates_that_share_their_prompt_share_its_pass(llama, tokenizer, conversation, monkeypatch):
    model, read = llama(dtype=torch.float64), []
    encoder = Encoder(tokenizer, "plain")
    texts = ["a", "b", "a river", "a river carries", "a", "glass", ""]
    rows = [
        (f"{prompt}/{i}", conversation(prompt, text))
        for prompt in ("Name it.", "Say it.")
        for i, text in enumerate(texts)
    ]
    rows.append(("turns", conversation("Name it.", "a river", "And then?", "the hills")))
    documents = encoder.encode_all(rows)[0]
    alone = np.array([evaluate(model, [one], dtype="float32").bits[0] for one in documents])
    monkeypatch.setattr(perplexity, "predicting_states", lambda *a: read.append(a[1].tokens) or predicting_states(*a))
    together = evaluate(model, documents, dtype="float32")
    np.testing.assert_allclose(together.bits, alone, rtol=1e-12)
    assert together.tokens.tolist() == [int((one.role == RESPONSE).sum()) for one in documents]
    length = {one.id: len(one.input_ids) for one in documents}
    bytes_of = {one.id: one.response_bytes for one in documents}
    assert bytes_of["Say it./2"] == len("a river")
    longest = ("Name it./3", "Name it./5", "Say it./3", "Say it./5", "turns")  # the others' texts begin one of these
    assert sum(read) == sum(length[name] for name in longest)


def test_a_table_is_scored_in_all_and_by_task(llama, documents, tokenizer, conversation, tmp_path):
    save_model(llama(), tokenizer, tmp_path / "model")
    rows = [{"id": str(i), "messages": conversation("a", f"bees {i}"), "task": "ab"[i % 2]} for i in range(6)]
    (tmp_path / "data").mkdir()
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "data/part.parquet")
    every, a, b = table(str(tmp_path / "model"), tmp_path / "data")
    assert (every["task"], a["task"], b["task"]) == ("all", "a", "b")
    assert (every["rows"], a["rows"], every["bytes"]) == (6, 3, 6 * len("bees 0"))
    total = a["bits_per_byte"] * a["bytes"] + b["bits_per_byte"] * b["bytes"]
    assert every["bits_per_byte"] == pytest.approx(total / every["bytes"])


def test_a_table_that_cannot_be_scored_is_refused(tmp_path):
    with pytest.raises(RequestError, match="no parquet file"):
        table("model", tmp_path / "none.parquet")
    pq.write_table(pa.table({"id": ["a"]}), tmp_path / "rows.parquet")
    with pytest.raises(ContractError, match="id and messages"):
        table("model", tmp_path / "rows.parquet")
