"""Embed the images of a pool with a sentence-transformers model that reads images, such as CLIP.

When to use: rows that hold an image beside their text, to select or cluster by what the images show.
Cost: reading and scaling an image takes some milliseconds, CLIP ViT-B/32 about 9 billion operations more. Memory: the model and
one image.

    - embed: {image: {field: image, model: sentence-transformers/clip-ViT-B-32}}

Read is one column of the raw row: a path, a data URI (``data:image/png;base64,…``), or a mapping with ``bytes`` (in base64) or
``path``, as the Hub's image columns are. Vectors are kept by the row's raw columns, so a picture that is replaced under the same
path is not seen; give it another name. A vector depends on its image and the model alone, to the last bit: images go through the
model one by one, since in a batch the same image gets other last bits in another place.

Reference: Radford et al. 2021, "Learning Transferable Visual Models From Natural Language Supervision", arXiv 2103.00020.
"""

from __future__ import annotations

import base64
import io
import json
from functools import lru_cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from curate.contract.device import device as _device
from curate.contract.errors import DataError, MethodError, MissingExtra
from curate.contract.files import digest
from curate.contract.progress import bar
from curate.embed.last_hidden import contents, model_folder

TEXT = "fields"


def identity(
    *,
    field: str = "image",
    model: str = "sentence-transformers/clip-ViT-B-32",
    revision: str | None = None,
    base: Path | None = None,
) -> dict[str, Any]:
    """What the vectors depend on. Reads the weights once to hash them (a second per gigabyte); loads no model."""
    _need_extra()
    folder = model_folder("embed image", model, revision, base, "modules.json")
    modules = json.loads((folder / "modules.json").read_text("utf-8"))
    return {
        "method": "image",
        "field": field,
        "base": digest(str((base or Path()).resolve())),  # the same relative path elsewhere is another picture
        "model": model,
        "revision": folder.name if folder.parent.name == "snapshots" else None,
        "weights_sha256": contents(folder, "*.safetensors", "*/*.safetensors"),
        "configuration": contents(folder, "*.json", "*/*.json", "*/*.txt"),
        "dtype": "float32",
        "device": _device(),
        "normalized": any(module["type"].endswith(".Normalize") for module in modules),
        "versions": {name: version(name) for name in _packages()},
    }


def embed(
    texts: list[str],
    *,
    field: str = "image",
    model: str = "sentence-transformers/clip-ViT-B-32",
    revision: str | None = None,
    base: Path | None = None,
) -> np.ndarray:
    """float32 (n, d), as the model's own modules say; CLIP's are not of unit length.

    texts: the raw columns of each row, as JSON. field: the column that holds the image. model: a folder, or a name on the Hub;
    weights are read from safetensors alone and no code of the model's is run. revision: of a model on the Hub. base: the folder
    that relative paths hang from, of images and of a local model.
    """
    _need_extra()
    import torch

    folder = model_folder("embed image", model, revision, base, "modules.json")
    changed = tuple(path.stat().st_mtime_ns for path in sorted(folder.rglob("*.safetensors")))
    encoder = _load(folder, changed, _device())
    vectors = np.empty((len(texts), encoder.get_embedding_dimension()), dtype=np.float32)
    with bar(len(texts), "images") as advance, torch.inference_mode():
        for number, text in enumerate(texts):
            features = encoder.preprocess([_image(text, field, base or Path())])
            features = {name: x.to(encoder.device) if hasattr(x, "to") else x for name, x in features.items()}
            vectors[number] = encoder(features)["sentence_embedding"][0].float().cpu().numpy()
            advance(1)
    return vectors


@lru_cache(maxsize=1)
def _load(folder: Path, changed: tuple[int, ...], device: str) -> Any:
    """The SentenceTransformer, in float32; kept for the next slice of a table."""
    import torch
    from sentence_transformers import SentenceTransformer

    from train.models import quiet

    try:
        with quiet():
            encoder = SentenceTransformer(
                str(folder), device=device, trust_remote_code=False, local_files_only=True,
                model_kwargs={"use_safetensors": True, "dtype": torch.float32},
            ).eval()  # fmt: skip
    except (OSError, ValueError, ImportError, KeyError) as error:
        first = str(error).strip().split("\n")[0]
        raise MethodError(f"embed image: {folder} cannot be loaded by sentence-transformers ({first})") from error
    if not encoder.supports("image"):
        raise MethodError(
            f"embed image: {folder} reads {', '.join(map(str, encoder.modalities))} and no images; choose a model that "
            "reads them, such as sentence-transformers/clip-ViT-B-32"
        )
    return encoder


def _image(fields: str, field: str, base: Path) -> Any:
    """The picture of one row, upright, in RGB."""
    from PIL import Image, ImageOps

    source, name = _source(fields, field, base)
    try:
        with Image.open(source) as image:
            return ImageOps.exif_transpose(image).convert("RGB")
    except FileNotFoundError as error:
        raise DataError(
            f"embed image: the field `{field}` of a row names {name}, and there is no such file; put it there, or filter "
            "the row out"
        ) from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(
            f"embed image: the field `{field}` of a row holds {name}, which cannot be read as an image ({error}); mend it, "
            "or filter the row out"
        ) from error


def _source(fields: str, field: str, base: Path) -> tuple[Any, str]:
    """What Pillow opens, and how to name it."""
    row = json.loads(fields) if fields else {}
    value = row.get(field) if isinstance(row, dict) else None
    if value is None:
        there = ", ".join(row) if row else "no field at all"
        raise DataError(
            f"embed image: a row has no field `{field}` with an image; it has {there}; name another with `field:`, or "
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
            return io.BytesIO(base64.b64decode(encoded, validate=True)), name
        except ValueError as error:
            raise DataError(
                f"embed image: the field `{field}` of a row holds {name}, which are not base64 ({error}); mend them, or "
                "filter the row out"
            ) from error
    if isinstance(path, str) and path:
        file = base / Path(path).expanduser()
        return file, str(file)
    raise DataError(
        f"embed image: the field `{field}` of a row holds {json.dumps(value)[:60]}; it should be a path, a data URI, or a "
        "mapping with `bytes` (in base64) or `path`"
    )


def _packages() -> list[str]:
    """Pictures are scaled by torchvision where it is installed, else by Pillow."""
    packages = ["pillow", "sentence-transformers", "torch", "transformers"]
    return packages + ["torchvision"] * bool(find_spec("torchvision"))


def _need_extra() -> None:
    if not find_spec("sentence_transformers"):
        raise MissingExtra("embed image needs sentence-transformers; run: pip install 'tamis[embed]'")
    if not find_spec("PIL"):
        raise MissingExtra("embed image needs Pillow; run: pip install pillow")
