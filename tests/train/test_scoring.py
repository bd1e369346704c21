from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from curate.contract.errors import ContractError, RequestError
from train.encode import RESPONSE
from train.models import save_model
from train.scoring import by_template
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


def test_nothing_scores_nothing(llama):
    assert evaluate(llama(), []).bits.shape == (0,)


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


@pytest.fixture
def phrased(llama, tokenizer, tmp_path):
    """A model's folder, and a table of two records in three templates each, one of them turned around."""
    save_model(llama(), tokenizer, tmp_path / "model")
    rows = [
        {
            "id": f"{record}:{template}", "template_set": "s", "template": template, "template_kind": kind,
            "choices": choices, "answer": answer if choices else None,
            "messages": [{"role": "user", "content": f"{template} {record}"}, {"role": "assistant", "content": target}],
        }
        for record, answer in (("the bees", 0), ("a hive", 1))
        for template, kind, choices, target in (
            ("short", "forward", ["no", "yes"], ["no", "yes"][answer]),
            ("long", "forward", ["no bees", "bees"], ["no bees", "bees"][answer]),
            ("turned", "inverted", None, record),
        )
    ]  # fmt: skip
    schema = pa.schema([("choices", pa.list_(pa.string()))])
    table = pa.Table.from_pylist(rows)
    assert table.schema.field("choices").type == schema.field("choices").type
    pq.write_table(table, tmp_path / "rows.parquet")
    return tmp_path, rows


def test_templates_are_scored_apart_and_their_spread_is_over_those_that_ask(phrased):
    folder, rows = phrased
    found = by_template.table(str(folder / "model"), folder / "rows.parquet")
    assert [one["template"] for one in found] == [
        "long", "short", "turned", "(mean)", "(median)", "(interquartile range)", "(worst)",
    ]  # fmt: skip
    by_name = {one["template"]: one for one in found}
    plain = {one["template"]: one for one in found[:3]}
    for name in ("short", "long", "turned"):
        part = folder / f"{name}.parquet"
        pq.write_table(pa.Table.from_pylist([row for row in rows if row["template"] == name]), part)
        assert plain[name]["bits_per_byte"] == pytest.approx(table(str(folder / "model"), part)[0]["bits_per_byte"])
        assert plain[name]["rows"] == 2
    bits = np.array([plain[name]["bits_per_byte"] for name in ("short", "long")])
    assert by_name["(mean)"]["bits_per_byte"] == pytest.approx(bits.mean())
    assert by_name["(worst)"]["bits_per_byte"] == pytest.approx(bits.max())
    assert by_name["(interquartile range)"]["bits_per_byte"] == pytest.approx(abs(bits[0] - bits[1]) / 2)
    assert plain["turned"]["accuracy"] is None


def test_accuracy_is_of_the_candidate_with_the_fewest_bits(phrased):
    folder, rows = phrased
    found = {one["template"]: one for one in by_template.table(str(folder / "model"), folder / "rows.parquet")}
    for name in ("short", "long"):
        right = []
        for row in (row for row in rows if row["template"] == name):
            bits = []
            for choice in row["choices"]:
                messages = [row["messages"][0], {"role": "assistant", "content": choice}]
                pq.write_table(pa.Table.from_pylist([{"id": "x", "messages": messages}]), folder / "one.parquet")
                one = table(str(folder / "model"), folder / "one.parquet")[0]
                bits.append(one["bits_per_byte"] * one["bytes"])
            right.append(int(np.argmin(bits)) == row["answer"])
        assert found[name]["accuracy"] == np.mean(right)


def test_a_table_that_was_not_rendered_is_refused(phrased, tmp_path):
    folder, rows = phrased
    bare = [{"id": row["id"], "messages": row["messages"]} for row in rows]
    pq.write_table(pa.Table.from_pylist(bare), tmp_path / "bare.parquet")
    with pytest.raises(ContractError, match="has no column `template`; give the folder that the render stage wrote"):
        by_template.table(str(folder / "model"), tmp_path / "bare.parquet")
