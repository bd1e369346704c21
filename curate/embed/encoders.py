"""Models of sentence-transformers, loaded whole and without code of their own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from curate.contract.errors import MethodError
from curate.contract.model_files import loading


def sentence_transformer(who: str, folder: Path, device: str, example: Any) -> Any:
    """The SentenceTransformer in a folder, in float32, ready to infer. MethodError where it cannot be loaded or lacks weights.

    example: something that it will read. Only weights that have a say in its vector are needed: encoders often lack a pooler,
    and one that reads images needs nothing for texts.
    """
    import torch
    from sentence_transformers import SentenceTransformer

    from train.loading import check_weights, noted, quiet

    _modules(who, folder)
    with loading(who, folder, "by sentence-transformers"), quiet(), noted() as loads:
        encoder = SentenceTransformer(
            str(folder), device=device, trust_remote_code=False, local_files_only=True,
            model_kwargs={"use_safetensors": True, "dtype": torch.float32},
        ).eval()  # fmt: skip
        for place, model, info in loads:
            gaps = bool(info["missing_keys"] or info["mismatched_keys"])
            parts = _parts_with_a_say(encoder, model, example) if gaps else set()
            check_weights(who, place, model, info, MethodError, lambda name, parts=parts: name.split(".")[0] in parts)
    return encoder


def normalizes(who: str, folder: Path) -> bool:
    """Whether a module of the SentenceTransformer in a folder scales its vectors to length one."""
    return any(kind == "Normalize" for kind, _ in _modules(who, folder))


def _modules(who: str, folder: Path) -> list[tuple[str, Path]]:
    """(kind, folder) of each module, none where modules.json is not needed. MethodError where one has lost its configuration."""
    path = folder / "modules.json"
    if not path.is_file():
        if (folder / "config_sentence_transformers.json").is_file() or (folder / "sentence_bert_config.json").is_file():
            raise MethodError(f"{who}: {path} is not there, which says how tokens become a vector; put it back")
        return []
    with loading(who, folder, "by sentence-transformers"):
        modules = [(module["type"].split(".")[-1], folder / module["path"]) for module in json.loads(path.read_bytes())]
    for kind, place in modules:
        if kind in ("Pooling", "Dense") and not (place / "config.json").is_file():
            raise MethodError(f"{who}: {place / 'config.json'} is not there, which {path.name} asks for; put it back")
    return modules


def _parts_with_a_say(encoder: Any, model: Any, example: Any) -> set[str]:
    """The names of a model's children whose weights the vector of ``example`` has a gradient in."""
    import torch

    features = encoder.preprocess([example])
    with torch.enable_grad():
        features = {name: x.to(encoder.device) if hasattr(x, "to") else x for name, x in features.items()}
        encoder(features)["sentence_embedding"].sum().backward()
    parts = {name.split(".")[0] for name, weight in model.named_parameters() if weight.grad is not None}
    encoder.zero_grad()
    return parts
