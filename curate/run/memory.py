"""The peak of a process's memory, stage by stage."""

from __future__ import annotations

import re
import resource
import sys
from contextlib import suppress
from pathlib import Path


def reset_peak() -> None:
    """Counts the peak from here, where the system can (Linux)."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # Linux: the peak counts from here


def peak_mb() -> int:
    """Peak resident memory of this process, in MB (10^6 bytes): of the stage on Linux, else of the run so far."""
    try:
        found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
        if found:
            return round(int(found.group(1)) * 1024 / 1e6)
    except OSError:
        pass
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak * (1 if sys.platform == "darwin" else 1024) / 1e6)
