"""`tamis --help` against an interpreter that does nothing: at most 0.3 s above it."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path


def seconds(command: list[str], repeats: int = 7) -> float:
    """The fastest of several runs of a command."""
    found = []
    for _ in range(repeats):
        start = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        found.append(time.perf_counter() - start)
    return min(found)


def main() -> None:
    bare = seconds([sys.executable, "-c", "pass"])
    ours = seconds([str(Path(sys.executable).with_name("tamis")), "--help"])
    print(f"python -c pass {bare:.3f} s, tamis --help {ours:.3f} s: {ours - bare:.3f} s above it (at most 0.300)")


if __name__ == "__main__":
    main()
