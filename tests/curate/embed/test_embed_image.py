from __future__ import annotations

import base64
import io
import json
import re
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from curate.contract import methods
from curate.contract.errors import DataError, MethodError
from curate.embed import image
from curate.run.trace import reading
from curate.vectors import store

TINY = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random CLIP of 32 x 32 pixels and 12 dimensions, laid out as clip-ViT-B-32 is."""
    from tokenizers import Tokenizer, models
    from transformers import CLIPConfig, CLIPModel, CLIPProcessor, PreTrainedTokenizerFast
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    words = {"[PAD]": 0, "[BOS]": 1, "[EOS]": 2, "a": 3}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel(words, unk_token="a")),
        pad_token="[PAD]", bos_token="[BOS]", eos_token="[EOS]", model_max_length=12,
    )  # fmt: skip
    scaling = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    config = CLIPConfig(
        text_config={**TINY, "vocab_size": 20, "max_position_embeddings": 12, "bos_token_id": 1, "eos_token_id": 2},
        vision_config={**TINY, "image_size": 32, "patch_size": 8},
        projection_dim=12,
    )
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("clip")
    CLIPModel(config).save_pretrained(folder / "0_CLIPModel")
    CLIPProcessor(image_processor=scaling, tokenizer=tokenizer).save_pretrained(folder / "0_CLIPModel")
    module = {"idx": 0, "name": "0", "path": "0_CLIPModel", "type": "sentence_transformers.models.CLIPModel"}
    (folder / "modules.json").write_text(json.dumps([module]))
    return folder


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """0.png … 5.png: noise of different sizes, smooth enough that scaling keeps some of it."""
    folder, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for number in range(6):
        coarse = Image.fromarray(rng.integers(0, 255, (4, 4, 3), dtype=np.uint8))
        coarse.resize((30 + 9 * number, 70 - 8 * number)).save(folder / f"{number}.png")
    return folder


def rows(*values: object, field: str = "image") -> list[str]:
    return [json.dumps({"caption": "a", field: value}) for value in values]


NAMES = [f"{number}.png" for number in range(6)]


def test_vectors_are_those_of_sentence_transformers(clip: Path, pictures: Path) -> None:
    from sentence_transformers import SentenceTransformer

    found = image.embed(rows(*NAMES), model=str(clip), data=pictures)
    theirs = SentenceTransformer(str(clip), device="cpu").encode([Image.open(pictures / name) for name in NAMES])  # pyright: ignore
    assert found.dtype == np.float32 and found.shape == (6, 12)
    np.testing.assert_allclose(found, theirs, rtol=1e-4, atol=1e-5)
    assert np.abs(found[0] - found[1]).max() > 0.01


def test_a_vector_is_bitwise_the_same_whatever_its_neighbours_and_its_place(clip: Path, pictures: Path) -> None:
    whole = image.embed(rows(*NAMES), model=str(clip), data=pictures)
    order = [3, 0, 5, 5, 1]
    np.testing.assert_array_equal(
        image.embed(rows(*(NAMES[i] for i in order)), model=str(clip), data=pictures), whole[order]
    )
    np.testing.assert_array_equal(image.embed(rows(NAMES[4]), model=str(clip), data=pictures)[0], whole[4])
    many = image.embed(rows(*NAMES * 12), model=str(clip), data=pictures)
    np.testing.assert_array_equal(many, np.tile(whole, (12, 1)))
    assert image.embed([], model=str(clip)).shape == (0, 12)


def test_a_path_bytes_and_a_data_uri_are_one_picture(clip: Path, pictures: Path) -> None:
    encoded = base64.b64encode((pictures / "2.png").read_bytes()).decode()
    forms = rows(
        "2.png",
        str(pictures / "2.png"),
        {"path": "2.png"},
        {"bytes": encoded, "path": "elsewhere.png"},
        {"bytes": None, "path": "2.png"},
        f"data:image/png;base64,{encoded}",
        field="picture",
    )
    found = image.embed(forms, field="picture", model=str(clip), data=pictures)
    np.testing.assert_array_equal(found, np.tile(found[0], (len(forms), 1)))


def test_pictures_are_turned_upright_and_any_mode_is_read(clip: Path, tmp_path: Path, pictures: Path) -> None:
    picture = Image.open(pictures / "1.png")
    turned = Image.Exif()
    turned[0x0112] = 6  # to be shown turned by 90 degrees
    picture.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=turned)
    picture.convert("RGBA").save(tmp_path / "rgba.png")
    picture.convert("L").save(tmp_path / "grey.png")
    picture.convert("L").convert("RGB").save(tmp_path / "grey_in_rgb.png")
    paths = [pictures / "1.png", *(tmp_path / f"{name}.png" for name in ("turned", "rgba", "grey", "grey_in_rgb"))]
    found = image.embed(rows(*map(str, paths)), model=str(clip))
    np.testing.assert_array_equal(found[1:3], np.tile(found[0], (2, 1)))
    np.testing.assert_array_equal(found[3], found[4])
    assert (found[0] != found[3]).any()


def test_the_identity_names_what_the_vectors_depend_on(clip: Path, pictures: Path, tmp_path: Path) -> None:
    facts = image.identity(model=str(clip), data=pictures)
    assert facts["normalized"] is False and "pillow" in facts["versions"]
    assert str(pictures) not in json.dumps({**facts, "model": ""})
    assert image.identity(model=str(clip), data=tmp_path) == facts  # the bytes of a picture tell it, not where it lies
    assert image.identity(model=str(clip), data=pictures, field="picture") != facts
    assert image.identity(model=str(clip), data=pictures) == facts


def test_a_picture_that_was_replaced_under_its_path_is_seen_and_the_others_are_not_embedded_again(
    clip: Path, tmp_path: Path, pictures: Path
) -> None:
    for name in NAMES[:3]:
        (tmp_path / name).write_bytes((pictures / name).read_bytes())
    texts, options = pl.Series(rows(*NAMES[:3])), {"model": str(clip), "field": "image"}

    def vectors() -> tuple[np.ndarray, int, set[str]]:
        method, out = methods.find("embed", "image"), tmp_path / "v.npy"
        with reading([tmp_path]) as opened:
            facts = store.vectors(texts, method, options, out, data=tmp_path)
        return np.load(out), facts["embedded_now"], {path.name for path in opened}

    before, embedded, opened = vectors()
    assert embedded == 3 and opened >= set(NAMES[:3])
    (tmp_path / NAMES[1]).write_bytes((pictures / NAMES[4]).read_bytes())
    after, embedded, opened = vectors()
    assert embedded == 1 and opened >= set(NAMES[:3])
    np.testing.assert_array_equal(after[[0, 2]], before[[0, 2]])
    np.testing.assert_array_equal(after[1], image.embed(rows(NAMES[4]), model=str(clip), data=pictures)[0])


def test_a_picture_that_cannot_be_read_is_one_sentence_that_names_the_field_and_the_path(
    clip: Path, tmp_path: Path
) -> None:
    (tmp_path / "text.png").write_text("no picture")
    Image.new("RGB", (9, 9)).save(buffer := io.BytesIO(), "PNG")
    (tmp_path / "cut.png").write_bytes(buffer.getvalue()[:-30])
    for value, match in (
        ("gone.png", r"field `image` of a row names .*gone\.png, and there is no such file; put it there"),
        ("text.png", r"field `image` of a row holds .*text\.png, which cannot be read as an image"),
        ("cut.png", r"holds .*cut\.png, which cannot be read as an image"),
        ("", "it should be a path, a data URI, or a mapping"),
        (7, "holds 7; it should be a path"),
        ({"bytes": None, "path": None}, "it should be a path"),
        ({"bytes": "é", "path": "x.png"}, r"holds bytes of x\.png, which are not base64"),
        ("data:image/png;base64,????", r"bytes that begin '\?\?\?\?', which are not base64"),
        ("data:image/png;base64,QUJD", "bytes that begin 'QUJD', which cannot be read as an image"),
        (None, "has no field `image` with an image; it has caption, image; name another"),
    ):
        with pytest.raises(DataError, match=match) as caught:
            image.embed(rows(value), model=str(clip), data=tmp_path)
        assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match=r"has no field `image` with an image; it has no field at all"):
        image.embed(["{}"], model=str(clip), data=tmp_path)


def test_a_model_that_is_nowhere_or_not_safe_or_blind_is_one_sentence(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(
        MethodError, match=r"embed image: model 'nobody/nothing' is no folder .* could not be downloaded"
    ):
        image.identity(model="nobody/nothing")
    (tmp_path / "0_CLIPModel").mkdir()
    with pytest.raises(MethodError, match=r"has no modules\.json"):
        image.identity(model=str(tmp_path))
    (tmp_path / "modules.json").write_text((clip / "modules.json").read_text())
    with pytest.raises(MethodError, match=r"embed image: .* holds no weights"):
        image.identity(model=str(tmp_path))
    (tmp_path / "0_CLIPModel" / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(MethodError, match=r"pickled weights .*0_CLIPModel.*Tamis loads safetensors alone"):
        image.embed(rows("x.png"), model=str(tmp_path))
    weights = tmp_path / "0_CLIPModel" / "model.safetensors"
    weights.write_bytes(b"")
    with pytest.raises(MethodError, match=r"0_CLIPModel/model\.safetensors is cut short or no safetensors file"):
        image.identity(model=str(tmp_path))
    weights.write_bytes((clip / "0_CLIPModel" / "model.safetensors").read_bytes())
    with pytest.raises(MethodError, match="cannot be loaded by sentence-transformers"):
        image.embed(rows("x.png"), model=str(tmp_path))


def test_only_weights_that_images_go_through_must_be_there(clip: Path, pictures: Path, tmp_path: Path) -> None:
    shutil.copytree(clip, tmp_path, dirs_exist_ok=True)
    whole = load_file(clip / "0_CLIPModel" / "model.safetensors")

    def without(part: str) -> np.ndarray:
        left = {name: weight for name, weight in whole.items() if not name.startswith(part)}
        assert len(left) < len(whole)
        save_file(left, tmp_path / "0_CLIPModel" / "model.safetensors", {"format": "pt"})
        return image.embed(rows(*NAMES), model=str(tmp_path), data=pictures)

    found = image.embed(rows(*NAMES), model=str(clip), data=pictures)
    np.testing.assert_allclose(without("text_"), found, rtol=1e-4, atol=1e-5)  # the weights start at other addresses
    for part, n in (("vision_model.encoder.layers.1.", 16), ("visual_projection.", 1)):
        match = rf"0_CLIPModel/model\.safetensors lacks {n} of the [0-9]+ weights of CLIPModel \({re.escape(part)}"
        with pytest.raises(MethodError, match=match):
            without(part)


def test_a_model_that_reads_text_alone_is_refused(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sentence_transformers import SentenceTransformer

    monkeypatch.setattr(SentenceTransformer, "supports", lambda self, kind: False)
    image._load.cache_clear()
    with pytest.raises(MethodError, match="and no images; choose a model"):
        image.embed(rows("x.png"), model=str(clip))
    image._load.cache_clear()
