from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from curate.contract.errors import TrainingError
from train.encode import END_OF_TURN, INSTRUCTION, RESPONSE, SYSTEM, TEMPLATE, Encoder

CHATS = ("plain", "chatml")
TRIMS = "{% for m in messages %}[{{ m.role }}]{{ m.content | trim }}{{ eos_token if m.role == 'assistant' else '' }}{% endfor %}"


def text_of(tokenizer, document, *roles) -> str:
    return tokenizer.decode(document.input_ids[np.isin(document.role, roles)])


@pytest.mark.parametrize("chat", CHATS)
def test_the_tokens_of_a_role_are_exactly_the_text_of_its_messages(tokenizer, conversation, chat):
    document = Encoder(tokenizer, chat).encode(
        conversation("How are bees?", " They hum.\n", "And\nglass?", "Clear", system="Be short.")
    )
    assert text_of(tokenizer, document, SYSTEM) == "Be short."
    assert text_of(tokenizer, document, INSTRUCTION) == "How are bees?And\nglass?"
    assert text_of(tokenizer, document, RESPONSE) == " They hum.\nClear"
    assert document.response_bytes == len(b" They hum.\nClear")
    assert sorted(set(document.turn[document.role == RESPONSE].tolist())) == [2, 4]


@pytest.mark.parametrize("chat", CHATS)
def test_every_assistant_turn_is_closed_exactly_once_even_when_padding_uses_the_same_token(
    tokenizer, conversation, chat
):
    tokenizer.pad_token = tokenizer.eos_token
    document = Encoder(tokenizer, chat).encode(conversation("a", "b", "c", "d", system=""))
    closing = np.flatnonzero(document.role == END_OF_TURN)
    expected = {"plain": "<|end|>", "chatml": "<|im_end|>"}[chat]
    assert document.turn[closing].tolist() == [2, 4]
    assert {tokenizer.convert_ids_to_tokens(int(i)) for i in document.input_ids[closing]} == {expected}
    assert all(document.role[at - 1] == RESPONSE for at in closing)


@pytest.mark.parametrize("chat", CHATS)
@pytest.mark.parametrize("turns", [1, 3])
def test_training_and_use_see_the_same_ids_before_a_response(tokenizer, conversation, chat, turns):
    encoder = Encoder(tokenizer, chat)
    messages = conversation(*["why", "so"] * turns, system="Be short.")
    trained = encoder.encode(messages)
    start = int(np.flatnonzero((trained.role == RESPONSE) & (trained.turn == len(messages) - 1))[0])
    np.testing.assert_array_equal(encoder.prompt(messages[:-1]), trained.input_ids[:start])


def test_a_prompt_has_the_ids_that_transformers_gives_it(tokenizer, conversation):
    for chat in CHATS:
        encoder = Encoder(tokenizer, chat)
        messages = conversation("How do bees find flowers?", system="Be short.")
        theirs = tokenizer.apply_chat_template(
            messages, chat_template=encoder.template, add_generation_prompt=True, return_dict=False
        )
        assert encoder.prompt(messages).tolist() == list(theirs)


def test_the_start_token_stands_once(tokenizer, conversation):
    document = Encoder(tokenizer, "plain").encode(conversation("a", "b", "c", "d"))
    assert (document.input_ids == tokenizer.bos_token_id).sum() == 1
    assert document.input_ids[0] == tokenizer.bos_token_id


def test_a_response_that_repeats_the_template_is_still_a_response(tokenizer, conversation):
    words = "User:\nhello\n\nAssistant:\nno"
    document = Encoder(tokenizer, "plain").encode(conversation(words, words))
    assert text_of(tokenizer, document, RESPONSE) == words
    assert text_of(tokenizer, document, INSTRUCTION) == words


def test_special_tokens_spelt_in_a_row_are_text_and_close_no_turn(tokenizer, conversation):
    said = "stop <|im_end|> now <|end|>"
    document = Encoder(tokenizer, "chatml").encode(conversation(said, said))
    assert text_of(tokenizer, document, RESPONSE) == said
    assert (document.role == END_OF_TURN).sum() == 1
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert (document.input_ids == end).sum() == 1 + 1  # the user's turn and the assistant's, both from the template


def test_a_token_across_template_and_content_is_the_templates(conversation):
    vocabulary = {"a": 0, ">": 1, "<e>": 2, "<": 3, "e": 4, ">a": 5}
    bpe = Tokenizer(models.BPE(vocabulary, [(">", "a")]))
    merging = PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token="<e>")
    chat = "{% for m in messages %}>{{ m.content }}{{ eos_token if m.role == 'assistant' else '' }}{% endfor %}"
    merging.chat_template = chat
    document = Encoder(merging).encode(conversation("aa", "aa"))
    assert merging.convert_ids_to_tokens(document.input_ids) == [">a", "a", ">", "a", "a", "<e>"]
    assert document.role.tolist() == [TEMPLATE, INSTRUCTION, TEMPLATE, RESPONSE, RESPONSE, END_OF_TURN]


def test_a_format_that_trims_gives_trimmed_segments(tokenizer, conversation, tmp_path):
    path = tmp_path / "trims.jinja"
    path.write_text(TRIMS)
    document = Encoder(tokenizer, str(path)).encode(conversation("  a ", " b\n"))
    assert text_of(tokenizer, document, RESPONSE) == "b"
    assert document.response_bytes == 1


@pytest.mark.parametrize(
    ("template", "complaint"),
    [
        ("{% for m in messages %}{{ m.content | title }}{{ eos_token }}{% endfor %}", "rewrites"),
        ("{{ messages[-1].content }}{{ eos_token }}", "leaves out"),
        ("{% for m in messages %}{{ m.content }}\n{% endfor %}", "no special token"),
        ("{% for m in messages %}{{ m.content }}{% endfor %}", "no special token|nothing behind"),
    ],
)
def test_a_format_that_cannot_be_taken_apart_is_refused(tokenizer, tmp_path, template, complaint):
    path = tmp_path / "bad.jinja"
    path.write_text(template)
    with pytest.raises(TrainingError, match=complaint):
        Encoder(tokenizer, str(path))


def test_bad_rows_are_named(tokenizer, conversation):
    encoder = Encoder(tokenizer, "plain")
    with pytest.raises(TrainingError, match="'r1' has a message of role 'tool'"):
        encoder.encode([{"role": "tool", "content": "x"}], "r1")
    with pytest.raises(TrainingError, match="'r2' has no messages"):
        encoder.encode([], "r2")
    with pytest.raises(TrainingError, match="NoneType"):
        encoder.encode([{"role": "user", "content": None}], "r3")
    with pytest.raises(TrainingError, match=r"neither a \.jinja file nor one of ours: chatml, plain"):
        Encoder(tokenizer, "alpaca")


@pytest.mark.parametrize("over_length", ["terminate", "keep", "drop"])
def test_long_documents_are_cut_as_asked_and_counted(tokenizer, conversation, over_length):
    rows = [
        ("short", conversation("a", "b")),
        ("long", conversation("a", "seven times eight " * 9)),
        ("prompt", conversation("bees " * 40, "b")),
    ]
    kept, counts = Encoder(tokenizer, "plain", max_length=40, over_length=over_length).encode_all(rows)
    if over_length == "drop":
        assert [d.id for d in kept] == ["short"]
        assert (counts["dropped"], counts["truncated"]) == (2, 0)
        return
    short, long = kept
    assert (counts["documents"], counts["truncated"], counts["without_response"], counts["dropped"]) == (2, 1, 1, 0)
    assert len(long.input_ids) == 40
    assert long.truncated
    assert not short.truncated
    assert (long.role[-1] == END_OF_TURN) == (over_length == "terminate")
    assert (long.input_ids[-1] == tokenizer.eos_token_id) == (over_length == "terminate")
    assert long.response_bytes == len(text_of(tokenizer, long, RESPONSE).encode())


def test_encoding_many_rows_equals_encoding_one_by_one(tokenizer, conversation):
    rows = [(str(i), conversation(f"bees {i}", "salt " * i, system=None if i % 2 else "x")) for i in range(1, 9)]
    encoder = Encoder(tokenizer, "chatml")
    for together, (id, messages) in zip(encoder.encode_all(rows)[0], rows, strict=True):
        alone = encoder.encode(messages, id)
        np.testing.assert_array_equal(together.input_ids, alone.input_ids)
        np.testing.assert_array_equal(together.role, alone.role)


text = st.text(st.characters(exclude_categories=["Cs", "Cn"]), max_size=30)


@settings(max_examples=60, deadline=None)
@given(st.lists(text, min_size=2, max_size=6).filter(lambda texts: len(texts) % 2 == 0), st.sampled_from(CHATS))
def test_any_text_comes_back_from_its_role(tokenizer, texts, chat):
    messages = [{"role": ("user", "assistant")[i % 2], "content": t} for i, t in enumerate(texts)]
    document = Encoder(tokenizer, chat).encode(messages)
    assert text_of(tokenizer, document, RESPONSE) == "".join(texts[1::2])
    whole = tokenizer.apply_chat_template(messages, chat_template=Encoder(tokenizer, chat).template, tokenize=False)
    assert whole.startswith(tokenizer.decode(document.input_ids))
    np.testing.assert_array_equal(document.turn, np.sort(document.turn))


@pytest.mark.shared
@pytest.mark.parametrize("name", ["tok_gpt2_fast/tokenizer.json.gz", "tok_neox20b/20B_tokenizer.json.gz"])
def test_published_tokenizers_give_back_responses_of_real_rows(name, conversation):
    folder = Path(os.environ.get("TAMIS_DATA", "/nonexistent"))
    if not (folder / name).is_file():
        pytest.skip("no $TAMIS_DATA")
    bpe = Tokenizer.from_str(gzip.decompress((folder / name).read_bytes()).decode())
    fast = PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token="<|endoftext|>")
    rows = json.loads(gzip.decompress((folder / "alpaca_5000/alpaca_5000.json.gz").read_bytes()))[:200]
    rows = [row for row in rows if row["output"].strip()]
    kept, _ = Encoder(fast, "plain", max_length=4096).encode_all(
        (str(i), conversation(row["instruction"], row["output"])) for i, row in enumerate(rows)
    )
    for document, row in zip(kept, rows, strict=True):
        assert text_of(fast, document, RESPONSE) == row["output"]
        assert text_of(fast, document, INSTRUCTION) == row["instruction"]
