"""How many tokens texts have: of a tokenizer, or white-space words, which need no model.

count(texts, "words")      count(texts, "models/tokenizer.json", folder)      count(texts, "HuggingFaceTB/SmolLM2-135M")
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from curate.contract import packaged
from curate.contract.errors import MissingExtra, RequestError
from curate.contract.files import sha256
from curate.contract.progress import track

WORDS = "words"
_SLICE = 4_096  # texts at a time
_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?(@[\w.-]+)?")


def count(texts: pl.Series, tokenizer: str = WORDS, folder: Path | None = None) -> np.ndarray:
    """Tokens of each text: int64 (n,). Null counts as empty; no token is added at the start or the end.

    tokenizer: "words" (parted by white space), the path of a tokenizer.json or of a folder that holds one, relative to
    folder, or a Hub id, as name/model or name/model@revision. Raises RequestError where there is no such tokenizer,
    MissingExtra without the package `tokenizers`. Cost: about a million words a second; of tokens, as the tokenizer needs.
    """
    if tokenizer == WORDS:
        return texts.fill_null("").str.count_matches(r"\S+").to_numpy().astype(np.int64)
    read = _read(tokenizer, folder)
    tokens = np.zeros(len(texts), np.int64)
    for start in track(range(0, len(texts), _SLICE), "counting tokens"):
        part = texts.slice(start, _SLICE).fill_null("").to_list()
        encoded = read.encode_batch_fast(part, add_special_tokens=False)
        tokens[start : start + len(part)] = [len(one) for one in encoded]
    return tokens


def counter(tokenizer: str = WORDS, folder: Path | None = None) -> Callable[[str], int]:
    """A function that counts the tokens of one text as ``count`` does, for texts that come one by one."""
    if tokenizer == WORDS:
        return lambda text: len(text.split())
    read = _read(tokenizer, folder)
    return lambda text: len(read.encode(text, add_special_tokens=False))


def problem(tokenizer: str, folder: Path | None = None) -> str | None:
    """What is wrong with a tokenizer's name, as far as it shows without a download."""
    if tokenizer == WORDS or _file(tokenizer, folder) is not None:
        return None
    if tokenizer.endswith(".json") or tokenizer.startswith((".", "/", "~")) or not _HUB_ID.fullmatch(tokenizer):
        return (
            f"there is no tokenizer at '{tokenizer}'; give \"words\", the path of a tokenizer.json relative to the recipe, or "
            "a Hub id"
        )
    return None


def fingerprint(tokenizer: str, folder: Path | None = None) -> str:
    """What changes when the tokenizer does: the hash of a local file; a Hub id is its own name."""
    file = _file(tokenizer, folder) if tokenizer != WORDS else None
    return sha256(file) if file else tokenizer


def _file(tokenizer: str, folder: Path | None) -> Path | None:
    path = (folder or Path()) / Path(tokenizer).expanduser()
    path = path / "tokenizer.json" if path.is_dir() else path
    return path if path.is_file() else None


def _read(tokenizer: str, folder: Path | None) -> Any:
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise MissingExtra(
            "counting tokens needs the package `tokenizers`; run: pip install 'tamis[train]', or say `tokenizer: words`"
        ) from error
    wrong = problem(tokenizer, folder)
    if wrong:
        raise RequestError(wrong)
    name, _, revision = tokenizer.partition("@")
    carried = None if revision else packaged.named(name)
    file = _file(tokenizer, folder)
    if file is None and carried and (place := packaged.find(carried, "tokenizer", RequestError)):
        file = place / "tokenizer.json"  # the same as the Hub's
    try:
        if file is not None:
            read = Tokenizer.from_file(str(file))
        else:
            read = Tokenizer.from_pretrained(name, revision=revision or "main")
    except Exception as error:  # the library raises bare exceptions, for a bad file as for a missing page
        why = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
        raise RequestError(
            f"the tokenizer '{tokenizer}' cannot be read ({why}); give \"words\", the path of a tokenizer.json, or a Hub id "
            "that this machine can reach"
        ) from error
    read.no_truncation()
    read.no_padding()
    return read
