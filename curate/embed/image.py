"""Embed the images of a pool with a sentence-transformers model that reads images, such as CLIP.

When to use: rows that hold an image beside their text, to select or cluster by what the images show.
Cost: reading and scaling an image takes some milliseconds, CLIP ViT-B/32 about 9 billion operations more. Memory: the model and
one image.

    - embed: {image: {field: image, model: sentence-transformers/clip-ViT-B-32}}

Read is one column of the raw row: a path, a data URI (``data:image/png;base64,…``), or a mapping with ``bytes`` (in base64) or
``path``, as the Hub's image columns are. Vectors are kept by the bytes of their pictures. A vector depends on its image and the
model alone, to the last bit: images go through the model one by one, since in a batch the same image gets other last bits in
another place.

Reference: Radford et al. 2021, "Learning Transferable Visual Models From Natural Language Supervision", arXiv 2103.00020.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
from functools import lru_cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from curate.contract.device import device as device_here
from curate.contract.errors import DataError, MethodError
from curate.contract.model_files import contents, find_model, need, revision_of, stamps, weights_sha256
from curate.contract.progress import bar, track
from curate.embed.encoders import normalizes, sentence_transformer

TEXT = "fields"

_WHO = "embed image"


def identity(
    *,
    field: str = "image",
    model: str = "sentence-transformers/clip-ViT-B-32",
    revision: str | None = None,
    data: Path | None = None,
) -> dict[str, Any]:
    """What the vectors depend on. Reads the weights once to hash them (a second per gigabyte); loads no model."""
    folder = _folder(model, revision, data)
    return {
        "method": "image",
        "field": field,
        "model": model,
        "revision": revision_of(folder),
        "weights_sha256": weights_sha256(folder),
        "configuration": contents(folder, "*.json", "*/*.json", "*/*.txt"),
        "dtype": "float32",
        "device": device_here(),
        "normalized": normalizes(_WHO, folder),
        "versions": {name: version(name) for name in _packages()},
    }


def embed(
    texts: list[str],
    *,
    field: str = "image",
    model: str = "sentence-transformers/clip-ViT-B-32",
    revision: str | None = None,
    data: Path | None = None,
) -> np.ndarray:
    """float32 (n, d), as the model's own modules say; CLIP's are not of unit length.

    texts: the raw columns of each row, as JSON. field: the column that holds the image. model: a folder, or a name on the Hub;
    weights are read from safetensors alone and no code of the model's is run. revision: of a model on the Hub. data: the folder
    that relative paths hang from, of images and of a local model.
    """
    folder = _folder(model, revision, data)
    import torch

    encoder = _load(folder, stamps(folder), device_here())
    vectors = np.empty((len(texts), encoder.get_embedding_dimension()), dtype=np.float32)
    with bar(len(texts), "images") as advance, torch.inference_mode():
        for number, text in enumerate(texts):
            features = encoder.preprocess([_image(text, field, data or Path())])
            features = {name: x.to(encoder.device) if hasattr(x, "to") else x for name, x in features.items()}
            vectors[number] = encoder(features)["sentence_embedding"][0].float().cpu().numpy()
            advance(1)
    return vectors


def content(
    texts: list[str],
    *,
    field: str = "image",
    model: str = "sentence-transformers/clip-ViT-B-32",
    revision: str | None = None,
    data: Path | None = None,
) -> list[bytes]:
    """What the vector of each row depends on: a digest of 16 bytes of its picture's."""
    del model, revision
    pictures = (_bytes(text, field, data or Path())[0] for text in track(texts, "reading images"))
    return [hashlib.blake2b(picture, digest_size=16).digest() for picture in pictures]


@lru_cache(maxsize=1)
def _load(folder: Path, _changed: tuple[int, ...], device: str) -> Any:
    """The SentenceTransformer, in float32; kept for the next slice of a table."""
    from PIL import Image

    encoder = sentence_transformer(_WHO, folder, device, Image.new("RGB", (64, 64)))
    if not encoder.supports("image"):
        raise MethodError(
            f"{_WHO}: {folder} reads {', '.join(map(str, encoder.modalities))} and no images; choose a model that "
            "reads them, such as sentence-transformers/clip-ViT-B-32"
        )
    return encoder


def _image(fields: str, field: str, data: Path) -> Any:
    """The picture of one row, upright, in RGB."""
    from PIL import Image, ImageOps

    picture, name = _bytes(fields, field, data)
    try:
        with Image.open(io.BytesIO(picture)) as image:
            return ImageOps.exif_transpose(image).convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise _unreadable(field, name, error) from error


def _bytes(fields: str, field: str, data: Path) -> tuple[bytes, str]:
    """A picture as it is stored, and how to name it. Opened by Python, so that a run notes which files it has read."""
    source, name = _source(fields, field, data)
    if isinstance(source, bytes):
        return source, name
    try:
        with open(source, "rb") as file:
            return file.read(), name
    except FileNotFoundError as error:
        raise DataError(
            f"{_WHO}: the field `{field}` of a row names {name}, and there is no such file; put it there, or filter "
            "the row out"
        ) from error
    except (OSError, ValueError) as error:
        raise _unreadable(field, name, error) from error


def _unreadable(field: str, name: str, error: Exception) -> DataError:
    return DataError(
        f"{_WHO}: the field `{field}` of a row holds {name}, which cannot be read as an image ({error}); mend it, "
        "or filter the row out"
    )


def _source(fields: str, field: str, data: Path) -> tuple[bytes | Path, str]:
    """The bytes of a picture or its path, and how to name it."""
    row = json.loads(fields) if fields else {}
    value = row.get(field) if isinstance(row, dict) else None
    if value is None:
        there = ", ".join(row) if row else "no field at all"
        raise DataError(
            f"{_WHO}: a row has no field `{field}` with an image; it has {there}; name another with `field:`, or "
            "leave such rows out with `where`"
        )
    path = value.get("path") if isinstance(value, dict) else None
    encoded = value.get("bytes") if isinstance(value, dict) else None
    if isinstance(value, str):
        if value.startswith("data:"):
            encoded = value.partition(",")[2]
        else:
            path = value
    if isinstance(encoded, str):
        name = f"bytes of {path}" if path else f"bytes that begin {encoded[:24]!r}"
        try:
            return base64.b64decode(encoded, validate=True), name
        except ValueError as error:
            raise DataError(
                f"{_WHO}: the field `{field}` of a row holds {name}, which are not base64 ({error}); mend them, or "
                "filter the row out"
            ) from error
    if isinstance(path, str) and path:
        file = data / Path(path).expanduser()
        return file, str(file)
    raise DataError(
        f"{_WHO}: the field `{field}` of a row holds {json.dumps(value)[:60]}; it should be a path, a data URI, or a "
        "mapping with `bytes` (in base64) or `path`"
    )


def _packages() -> list[str]:
    """Pictures are scaled by torchvision where it is installed, else by Pillow."""
    packages = ["pillow", "sentence-transformers", "torch", "transformers"]
    return packages + ["torchvision"] * bool(find_spec("torchvision"))


def _folder(model: str, revision: str | None, data: Path | None) -> Path:
    need(_WHO, "sentence_transformers", "sentence-transformers", "'tamis[embed]'")
    need(_WHO, "PIL", "Pillow", "pillow")
    return find_model(_WHO, model, revision=revision, data=data, must_have="modules.json", subfolders=True)
