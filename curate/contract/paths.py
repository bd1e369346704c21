"""Folders that ship with Tamis, in a checkout and in a wheel: ``library("templates")``."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent.parent


def library(name: str) -> Path:
    """The folder ``templates``, ``data_cards`` or ``examples``. In a checkout that at the top, in a wheel curate/_data/NAME."""
    checkout = _PACKAGE.parent / name
    if (_PACKAGE.parent / "pyproject.toml").is_file() and checkout.is_dir():
        return checkout
    return _PACKAGE / "_data" / name
