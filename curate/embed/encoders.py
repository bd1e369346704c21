"""Models of sentence-transformers, loaded without code of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from curate.contract.model_files import loading


def sentence_transformer(who: str, folder: Path, device: str) -> Any:
    """The SentenceTransformer in a folder, in float32, ready to infer. MethodError where it cannot be loaded."""
    import torch
    from sentence_transformers import SentenceTransformer

    from train.models import quiet

    with loading(who, folder, "by sentence-transformers"), quiet():
        return SentenceTransformer(
            str(folder), device=device, trust_remote_code=False, local_files_only=True,
            model_kwargs={"use_safetensors": True, "dtype": torch.float32},
        ).eval()  # fmt: skip
