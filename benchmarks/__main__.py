"""`make bench`: every benchmark, ratios in one run, versions printed. `python -m benchmarks embed select` runs some.

Real texts are read from $TAMIS_DATA (folders as their repositories carry them); without it the docstrings of the installed
packages stand in.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
import sys

NAMES = (
    "startup",
    "render",
    "overlap",
    "embed",
    "select",
    "limits",
    "graph",
    "million",
    "trainer",
    "memory",
    "importers",
)
VERSIONS = (
    "polars",
    "numpy",
    "torch",
    "transformers",
    "sentence-transformers",
    "scikit-learn",
    "jinja2",
    "trl",
    "apricot-select",
    "submodlib-py",
)


def versions() -> str:
    found = []
    for name in VERSIONS:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            found.append(f"{name} not installed")
    return ", ".join(found)


def main() -> None:
    chosen = sys.argv[1:] or NAMES
    print(
        f"python {platform.python_version()}, {os.cpu_count()} cores, {platform.machine()}\n{versions()}\n", flush=True
    )
    for name in chosen:
        print(f"== {name}", flush=True)
        importlib.import_module(f"benchmarks.{name}").main()
        print(flush=True)


if __name__ == "__main__":
    main()
