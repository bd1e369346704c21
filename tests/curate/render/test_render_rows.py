"""The render stage over tables."""

from __future__ import annotations

import json
from typing import Any

import orjson
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from curate.contract.errors import RequestError, TemplateError
from curate.render.rows import render_rows
from curate.rows.table import LOAD_SCHEMA, MESSAGES_TYPE, RENDER_SCHEMA
from curate.template.sets import load_set

SST2 = "flan/sentiment/sst2"


def table(*rows: tuple[str, dict[str, Any] | list[dict[str, str]]]) -> pl.DataFrame:
    """Records as loading leaves them: (set, fields), or (set, messages); ids r0, r1, …"""
    made = [
        {
            "id": f"r{i}",
            "source": "test",
            "template_set": name,
            "fields": json.dumps(row) if isinstance(row, dict) else "{}",
            "messages": row if isinstance(row, list) else None,
        }
        for i, (name, row) in enumerate(rows)
    ]
    return pl.DataFrame([{**dict.fromkeys(LOAD_SCHEMA), **row} for row in made], schema=LOAD_SCHEMA)


def sentences(n: int) -> pl.DataFrame:
    return table(*((SST2, {"sentence": f"film number {i} is what it is", "label": i % 2}) for i in range(n)))


def test_rows_gain_the_columns_of_the_contract_and_keep_the_others():
    kept, removed = render_rows(sentences(50))
    assert removed.height == 0
    assert set(kept.columns) == set(LOAD_SCHEMA) | set(RENDER_SCHEMA)
    assert {name: kept.schema[name] for name in RENDER_SCHEMA} == RENDER_SCHEMA
    assert kept.schema["messages"] == LOAD_SCHEMA["messages"]
    assert kept["id"].to_list() == kept["record"].to_list() == [f"r{i}" for i in range(50)]
    assert kept["source"].unique().to_list() == ["test"]
    for row in kept.iter_rows(named=True):
        assert [message["role"] for message in row["messages"]] == ["user", "assistant"]
        target = row["messages"][1]["content"]
        assert target == row["references"][0]
        assert (row["choices"] is None) == (row["answer"] is None) == (row["template_kind"] == "inverted")
        if row["choices"] is not None:
            assert row["choices"][row["answer"]] == target


def test_rows_that_no_template_takes_are_removed_with_stage_and_reason():
    kept, removed = render_rows(
        table(
            (SST2, {"sentence": "a film", "label": 7}), (SST2, {"sentence": "a film", "label": 1}), (SST2, {"label": 1})
        )
    )
    assert kept["id"].to_list() == ["r1"]
    assert removed.select("id", "stage", "reason").rows() == [
        ("r0", "render", "the label '7' is none of: negative, positive"),
        ("r2", "render", "the column `sentence` is missing; there are: label"),
    ]


def test_all_templates_give_a_row_each_with_the_template_in_the_id():
    kept, _ = render_rows(sentences(2), templates="all")
    assert kept["record"].unique(maintain_order=True).to_list() == ["r0", "r1"]
    assert kept["id"].to_list() == [
        f"{record}:{template}" for record, template in kept.select("record", "template").rows()
    ]
    assert kept["id"].n_unique() == kept.height > 16


def test_one_template_by_name_leaves_the_sets_without_it_in_removed():
    rows = table((SST2, {"sentence": "a film", "label": 1}), ("pools/alpaca", {"instruction": "a", "output": "b"}))
    kept, removed = render_rows(rows, templates="colon")
    assert kept.select("id", "template").rows() == [("r0", "colon")]
    assert removed.select("id", "reason").rows() == [("r1", "the template 'colon' does not apply")]


def test_an_unknown_template_is_an_error_that_lists_the_names():
    with pytest.raises(
        TemplateError, match=r"no template is called 'colo' in flan/sentiment/sst2; write one, all, or one of: carry_on"
    ):
        render_rows(sentences(1), templates="colo")


def test_a_row_is_rendered_the_same_whatever_stands_around_it():
    rows = sentences(300)
    kept, _ = render_rows(rows, seed=3)
    backwards, _ = render_rows(rows.reverse(), seed=3)
    part, _ = render_rows(rows[::7], seed=3)
    assert_frame_equal(backwards.reverse(), kept)
    assert_frame_equal(part, kept[::7])
    other, _ = render_rows(rows, seed=4)
    assert other["template"].to_list() != kept["template"].to_list()


def test_conversations_keep_their_messages():
    messages = [{"role": "user", "content": "{{ a }}"}, {"role": "assistant", "content": "b"}]
    kept, _ = render_rows(table(("pools/messages", messages), ("pools/conversations", messages)), templates="all")
    assert kept["messages"].to_list() == [messages, messages]
    assert kept["template"].to_list() == ["as_is", "as_is"]
    assert kept["id"].to_list() == ["r0:as_is", "r1:as_is"]
    assert kept["references"].to_list() == [["b"], ["b"]]


def test_several_sets_stand_in_one_table():
    rows = table(
        (SST2, {"sentence": "a film", "label": 1}),
        ("cot/gsm8k", {"question": "1 + 1?", "answer": "1 + 1 = <<1+1=2>>2\n#### 2"}),
        ("pools/alpaca", {"instruction": "a", "input": None, "output": "b"}),
    )
    kept, removed = render_rows(rows)
    assert removed.height == 0
    assert kept["template_set"].to_list() == [SST2, "cot/gsm8k", "pools/alpaca"]


def test_a_set_of_the_recipe_is_read_beside_it(tmp_path):
    (tmp_path / "mine.yaml").write_text(
        "dataset: mine\nabout: a\ncolumns: {q: q, a: a}\nrecord: {prompt: '{{ q }}', response: '{{ a }}'}\n"
        "example: {q: x, a: y}\ntemplates: [{name: t, kind: forward, style: plain, input: 'Say {{ q }}', target: '{{ a }}'}]\n"
    )
    kept, _ = render_rows(table(("mine.yaml", {"q": "x", "a": "y"})), folder=tmp_path)
    assert kept["messages"].to_list() == [[{"role": "user", "content": "Say x"}, {"role": "assistant", "content": "y"}]]


@pytest.mark.parametrize("templates", ["one", "all"])
def test_an_empty_table_has_the_same_columns(templates):
    kept, removed = render_rows(sentences(3), templates=templates)
    none, none_removed = render_rows(sentences(0), templates=templates)
    assert none.schema == kept.schema
    assert none_removed.schema == removed.schema
    assert none.height == none_removed.height == 0


def test_texts_of_every_kind_come_through_unchanged():
    hard = ["", " ", "\x00", "\u2028", "🙂" * 3, "a\r\nb", '"', "{{ x }}", "{% raw %}"]
    rows = table(*(("pools/alpaca", {"instruction": f"say {text}", "output": f"{text}!"}) for text in hard))
    kept, _ = render_rows(rows, templates="instruction_only")
    assert [messages[0]["content"] for messages in kept["messages"].to_list()] == [f"say {text}" for text in hard]
    assert [messages[1]["content"] for messages in kept["messages"].to_list()] == [f"{text}!" for text in hard]


def test_an_integer_of_more_than_64_bits_keeps_its_digits():
    numbers = [2**70 + i for i in range(4)]
    rows = table(*(("pools/prompt_completion", {"prompt": number, "completion": "x"}) for number in numbers))
    kept, removed = render_rows(rows)
    assert not removed.height
    assert [messages[0]["content"] for messages in kept["messages"]] == [str(number) for number in numbers]


def test_templates_that_are_left_out_are_not_drawn(tmp_path):
    name = "flan/sentiment/sst2"
    known = [template.name for template in load_set(name).templates]
    fields = orjson.dumps({"sentence": "a quietly funny film about bees", "label": 1}).decode()
    table = pl.DataFrame(
        {"id": [f"{i:032x}" for i in range(400)], "template_set": [name] * 400, "fields": [fields] * 400}
    )
    table = table.with_columns(pl.lit(None, MESSAGES_TYPE).alias("messages"))
    all_, _ = render_rows(table)
    kept, removed = render_rows(table, leave_out={name: known[:2]})
    assert set(known[:2]) <= set(all_["template"])
    assert not set(known[:2]) & set(kept["template"])
    assert removed.height == 0
    with pytest.raises(RequestError, match="leaves flan/sentiment/sst2 no template"):
        render_rows(table, leave_out={name: known})
