"""One setting of the C library that makes small models train a seventh faster on Linux."""

from __future__ import annotations

import ctypes

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # mallopt's names for them, see man mallopt


def keep_freed_memory() -> None:
    """Lets this process keep the memory that it frees, up to 1 GiB, for its next allocation; a no-op without glibc.

    A training step frees all that it allocated, glibc hands it to the kernel, and the next step takes it back page by
    page: 7,600 page faults a step of 3,000 tokens, a tenth of the time. It is a setting of the whole process and stays.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library, another system
        return
    mallopt(_TRIM_THRESHOLD, 1 << 30)
    mallopt(_MMAP_THRESHOLD, 32 << 20)  # the most it takes
