"""Where heavy products run: on a GPU where torch can use one, else on the processor. Asking does not import torch without need."""

from __future__ import annotations

from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

_FILES = (
    "/dev/nvidiactl",
    "/dev/dxg",
)  # one of them is there where a driver is; without it torch, slow to import, is not asked


@lru_cache(maxsize=1)
def device() -> str:
    """``cuda`` or ``cpu``."""
    if not find_spec("torch") or not any(Path(path).exists() for path in _FILES):
        return "cpu"
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
