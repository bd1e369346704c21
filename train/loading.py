"""A model and its tokenizer, whole, or one sentence that says what of them is missing.

    model, tokenizer = language_model("train", folder, torch.float32, TrainingError)

transformers gives random numbers to weights that the files do not hold or hold in another shape, leaves out those that it
has no place for, and makes a tokenizer without words where its file is gone, each with a notice at most. Here all but the
second are refused; the second is said where it is layers that the configuration does not count, and is usual otherwise (a
head of another task, buffers of an old version). Not missing is what is tied to a weight that is there, what is never
saved, and what the model's own class excuses.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging

from curate.contract.errors import MethodError, TamisError
from curate.contract.model_files import INDEX, loading
from curate.contract.progress import say

_TELL: dict[str, Any] = {
    "output_loading_info": True,
    "ignore_mismatched_sizes": True,
}  # list what is wrong, do not raise
_SHOWN = 3  # names in a sentence
_AGAIN = "download or save the model again, or mend its config.json where that is of another model"


def language_model(
    who: str, folder: Path, dtype: torch.dtype, error: type[TamisError] = MethodError, *, head: bool = True
) -> tuple[Any, PreTrainedTokenizerBase]:
    """(causal language model on the CPU, tokenizer) of a folder that ``find_model`` found.

    head: the output layer is needed. Raises ``error`` for what cannot be loaded, is missing, or does not fit together.
    """
    how = "as a causal language model"
    words = "" if (folder / "tokenizer.json").is_file() else ", as it has no tokenizer.json"
    with quiet():
        with loading(who, folder, how, error):
            config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        with loading(who, folder, f"as a tokenizer{words}", error):
            tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        with loading(who, folder, how, error):
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                folder, config=config, dtype=dtype, use_safetensors=True, trust_remote_code=False, **_TELL
            )
    model, info = loaded
    body = "" if head or model.base_model is model else f"{model.base_model_prefix}."
    check_weights(who, folder, model, info, error, needed=lambda name: name.startswith(body))
    check_tokenizer(who, folder, tokenizer, model.get_input_embeddings(), error)
    return model, tokenizer


@contextmanager
def noted() -> Iterator[list[tuple[Path, PreTrainedModel, dict[str, Any]]]]:
    """(folder of the weights, model, what transformers says of them) of each model that another library loads inside.

    Weights of another shape are random then, as missing ones are: give all of it to ``check_weights``.
    """
    loads: list[tuple[Path, PreTrainedModel, dict[str, Any]]] = []
    before = PreTrainedModel.__dict__["from_pretrained"]

    def from_pretrained(cls: type[PreTrainedModel], path: Any, *args: Any, **options: Any) -> PreTrainedModel:
        model, info = before.__func__(cls, path, *args, **{**options, **_TELL})
        loads.append((Path(path, options.get("subfolder") or ""), model, info))
        return model

    PreTrainedModel.from_pretrained = classmethod(from_pretrained)  # type: ignore[assignment,method-assign]
    try:
        yield loads
    finally:
        PreTrainedModel.from_pretrained = before


def check_weights(
    who: str,
    folder: Path,
    model: PreTrainedModel,
    info: dict[str, Any],
    error: type[TamisError],
    needed: Callable[[str], bool] = lambda name: True,
) -> None:
    """Raises ``error`` where weights that are needed came from no file. The other arguments are what ``noted`` gives."""
    own = {name: place for place, name in enumerate(model.state_dict())}
    missing, wrong, other = info["missing_keys"], info["mismatched_keys"], sorted(info["unexpected_keys"])
    missing = sorted(filter(needed, missing), key=lambda name: own.get(name, len(own)))
    wrong = sorted((entry for entry in wrong if needed(entry[0])), key=lambda entry: own.get(entry[0], len(own)))
    kind = type(model).__name__
    file = next((path for path in (folder / "model.safetensors", folder / INDEX) if path.is_file()), folder)
    if missing:
        besides = f", and holds {len(other):,} that have no place in it ({_some(other)})" if other else ""
        raise error(
            f"{who}: {file} lacks {len(missing):,} of the {len(own):,} weights of {kind} ({_some(missing)}), which would be "
            f"random numbers{besides}; {_AGAIN}"
        )
    if wrong:
        name, there, asked = wrong[0]
        more = (
            f", and {len(wrong) - 1:,} more do not fit ({_some([entry[0] for entry in wrong[1:]])})"
            if wrong[1:]
            else ""
        )
        raise error(
            f"{who}: {file} holds {name} in the shape {tuple(there)} and {kind} has {tuple(asked)} there{more}; {_AGAIN}"
        )
    layers = {_pattern(name) for name in own}
    if beyond := [name for name in other if _pattern(name) in layers]:
        say(
            f"{who}: {file} also holds {len(beyond):,} weights of layers that config.json does not count ({_some(beyond)}); "
            "the model is loaded without them"
        )


def check_tokenizer(who: str, folder: Path, tokenizer: Any, embedding: Any, error: type[TamisError]) -> None:
    """Raises ``error`` for a tokenizer without words, and for one whose words the model has no vectors for.

    Tokens that were added to the tokenizer alone are usual (Gemma 3 has one for images): only a text that holds one raises.
    """
    words, added = tokenizer.get_vocab(), tokenizer.added_tokens_decoder
    if not any(number not in added and word.strip("▁") for word, number in words.items()):
        raise error(
            f"{who}: the tokenizer of {folder} has no words, only special tokens; put the tokenizer.json of the model there"
        )
    rows = getattr(embedding, "num_embeddings", None)
    if rows is None or max(words.values()) < rows:
        return
    beyond = {number: word for word, number in sorted(words.items(), key=lambda item: item[1]) if number >= rows}
    always = set(tokenizer("")["input_ids"])
    if foreign := [word for number, word in beyond.items() if number not in added or number in always]:
        raise error(
            f"{who}: the tokenizer of {folder} has {len(foreign):,} words that the model has no vector for ({_some(foreign)}), "
            f"since it has {rows:,} vectors; put the tokenizer.json of the same model there"
        )

    def refuse(_: nn.Module, inputs: tuple[Any, ...]) -> None:
        if met := [beyond[number] for number in inputs[0].unique().tolist() if number in beyond]:
            raise error(
                f"{who}: a text holds the token {met[0]}, for which the model of {folder} has no vector; take it out of the "
                "texts, or choose another model"
            )

    embedding.register_forward_pre_hook(refuse)


def not_finite(model: nn.Module) -> str | None:
    """The name of the first weight that holds NaN or infinity."""
    return next((name for name, weight in model.named_parameters() if not weight.isfinite().all()), None)


@contextmanager
def quiet() -> Iterator[None]:
    """transformers without its progress bars and notices, inside only."""
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:_SHOWN])
    return f"{shown} and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else shown


def _pattern(name: str) -> str:
    """The name of a weight without the number of its layer."""
    return re.sub(r"(?<=\.)\d+(?=\.)", "*", name)
