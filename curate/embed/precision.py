"""The type that a model's large products run in."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path


def precision(dtype: str, device: str) -> str:
    """``bfloat16`` or ``float32``: "auto" is bfloat16 where the processor or the GPU multiplies it itself."""
    if dtype != "auto":
        return dtype
    if device == "cuda":
        import torch

        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    return "bfloat16" if processor_flags() & {"avx512_bf16", "amx_bf16"} else "float32"


@lru_cache(maxsize=1)
def processor_flags() -> frozenset[str]:
    """What the processor says it can do; nothing where the system does not tell."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return frozenset()
    return frozenset(next((line.partition(":")[2] for line in lines if line.startswith("flags")), "").split())
