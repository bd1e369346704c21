"""Reasons that say which bound was crossed, as "share of repeated lines 0.42 > 0.30"."""

from __future__ import annotations


def crossed(what: str, value: float, sign: str, limit: float) -> str:
    """What was measured, its value, the sign and the limit. Both numbers have two decimals, and as many more as it takes to
    write the limit out and to tell the two apart."""
    wanted = len(f"{limit:.12f}".rstrip("0").partition(".")[2])
    decimals = next((n for n in range(max(2, wanted), 12) if f"{value:.{n}f}" != f"{limit:.{n}f}"), 12)
    return f"{what} {value:.{decimals}f} {sign} {limit:.{max(2, wanted)}f}"
