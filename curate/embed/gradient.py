"""Embed records by the gradient that they would give a language model, projected at random (a part of LESS).

When to use: to find rows that would change a model as a few target examples would, or to spread a selection over what rows
teach rather than over what they are about. Try ``last_hidden`` first: it costs less, and its authors found it better.
Cost: a forward and a backward pass without the gradients of weights, about 4 x parameters x tokens operations: a model of
SmolLM2-135M's shape takes about 200 tokens a second on one core, and the projection adds 0.3 seconds a record. Memory: the
model, the activations of 1,024 tokens (of four rows where a row is longer), and at most 350 gradients of rank x (sum of
the attention layers' outputs) floats.

    - embed: {gradient: {model: HuggingFaceTB/SmolLM2-135M}}

Taken is the gradient of the mean loss over the tokens of the whole record, prompt and response alike, with respect to the
weights of all attention layers. Each weight's gradient is multiplied by ``rank`` random columns of signs, which makes it the
gradient of a fresh LoRA adapter's B, up to a scale; all of them together are multiplied by a matrix of random signs down to
``dim`` numbers and scaled to length one. Cosines of the result estimate cosines of the attention gradients.

What of LESS this is: its projected plain gradients, which it takes for target examples, at one model. What it is not: there
is no warm-up run, no division by Adam's moments, no sum over checkpoints, and no masking of the prompt. To come nearer,
train on a random part first and name what that run saved as ``model``. Two sets can be compared only with the same seed.

Reference: Xia et al. 2024, "LESS: Selecting Influential Data for Targeted Instruction Tuning", arXiv 2402.04333, section 4.1.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np

from curate.contract.draws import draw
from curate.contract.errors import MethodError
from curate.contract.progress import bar
from curate.embed.language_model import (
    check_length,
    language_model_folder,
    load,
    model_facts,
    token_batches,
    token_limit,
)

TEXT = "record"

_WHO = "embed gradient"
_ROWS = 64  # gradients projected together: one pass over the random signs serves them all
_BLOCK = 2_048  # numbers of a gradient multiplied at a time


def identity(
    *,
    model: str,
    revision: str | None = None,
    max_length: int = 2048,
    rank: int = 8,
    dim: int = 8192,
    dtype: Literal["auto", "bfloat16", "float32"] = "auto",
    seed: int = 0,
    data: Path | None = None,
) -> dict[str, Any]:
    """What the vectors depend on. Reads the weights once to hash them (a second per gigabyte); loads no model."""
    _check(rank, dim)
    facts = model_facts(_WHO, model, revision, max_length, dtype, data)
    projection = {"rank": rank, "dim": dim, "signs": "Rademacher", "seed": seed}
    loss = "mean over the tokens of the record"
    return {
        "method": "gradient", **facts, "loss": loss, "weights": "attention", "projection": projection, "normalized": True,
    }  # fmt: skip


def embed(
    texts: list[str],
    *,
    model: str,
    revision: str | None = None,
    max_length: int = 2048,
    rank: int = 8,
    dim: int = 8192,
    dtype: Literal["auto", "bfloat16", "float32"] = "auto",
    seed: int = 0,
    data: Path | None = None,
) -> np.ndarray:
    """float32 (n, dim) of length one; a text of fewer than two tokens predicts nothing and is a row of zeros.

    model: a folder, or a name on the Hub, of a causal language model; weights are read from safetensors alone and no code of
    the model's is run. revision: of a model on the Hub. max_length: tokens after which a text is cut, at most what the model
    can read. dtype: of the model; ``auto`` is bfloat16 where the processor multiplies it natively, else float32. data: the
    folder that the path of a local model hangs from. rank: columns that each weight's gradient is reduced to;
    more are nearer to the whole gradient and cost in proportion. dim: of the result, a multiple of 8; LESS takes 8192. seed:
    of the random signs.
    """
    _check(rank, dim)
    check_length(_WHO, max_length)
    import torch

    folder = language_model_folder(_WHO, model, revision, data)
    language_model, tokenizer = load(_WHO, folder, dtype)
    layers = _attention_layers(language_model, str(folder))
    vectors = np.zeros((len(texts), dim), dtype=np.float32)
    waiting: list[tuple[int, Any]] = []

    def project() -> None:
        """The gradients that wait become vectors. The product always has the same shape, whoever waits."""
        rows = torch.zeros((_ROWS, waiting[0][1].numel()), device=language_model.device)
        for place, (_, gradient) in enumerate(waiting):
            rows[place] = gradient
        done = _project(rows, dim, seed)[: len(waiting)].cpu().numpy()
        vectors[[number for number, _ in waiting]] = done
        waiting.clear()

    with bar(len(texts), "gradients") as advance:
        for index, ids, mask in token_batches(texts, tokenizer, token_limit(max_length, language_model.config)):
            gradients = _gradients(language_model, layers, ids, mask, rank, seed)
            for place, number in enumerate(index.tolist()):
                waiting.append((number, gradients[place]))
                if len(waiting) == _ROWS:
                    project()
            advance(len(index))
        if waiting:
            project()
    return vectors


def _check(rank: int, dim: int) -> None:
    if rank < 1:
        raise MethodError(f"embed gradient: rank {rank} should be 1 or more; 8 is usual")
    if dim < 8 or dim % 8:
        raise MethodError(f"embed gradient: dim {dim} should be a multiple of 8; 8192 is usual")


def _attention_layers(model: Any, name: str) -> dict[str, Any]:
    """The linear layers inside attention, by name, in the model's order. Tries whether the loss can be taken at all."""
    import torch
    from transformers.pytorch_utils import Conv1D

    from train.loading import not_finite
    from train.models import head_of

    owners = [path for path, module in model.named_modules() if "attention" in type(module).__name__.lower()]
    layers = {
        path: module
        for path, module in model.named_modules()
        if isinstance(module, torch.nn.Linear | Conv1D) and any(path.startswith(f"{owner}.") for owner in owners)
    }
    if not layers:
        raise MethodError(
            f"embed gradient: {type(model).__name__} of {name} has no linear layers in attention; choose a transformer"
        )
    ids = torch.arange(4, device=model.device)[None]
    with torch.no_grad():
        states = model.base_model(input_ids=ids, use_cache=False).last_hidden_state[0]
        if not states.isfinite().all():
            raise MethodError(
                f"embed gradient: {not_finite(model) or 'a hidden state'} of {name} is not finite; mend it"
            )
        linear = isinstance(model.get_output_embeddings(), torch.nn.Linear)
        logits = model(input_ids=ids, use_cache=False).logits[0].float()
        if not linear or not torch.allclose(head_of(model).logits(states), logits, rtol=1e-2, atol=1e-2):
            raise MethodError(
                f"embed gradient: the logits of {type(model).__name__} are no linear layer of its hidden states; "
                "choose another model"
            )
    return layers


def _gradients(model: Any, layers: dict[str, Any], ids: Any, mask: Any, rank: int, seed: int) -> Any:
    """float32 (rows, rank x sum of outputs): for each row and each layer, the gradient of its weight (out, in) times a matrix of
    signs (in, rank).

    One backward pass serves all rows, since a row's loss depends on its own tokens alone: the gradient of the weight is the sum
    over the row's tokens of (gradient at the layer's output) x (the layer's input).
    """
    import torch

    from train.cross_entropy import weighted_loss
    from train.models import head_of

    ids, mask = ids.to(model.device), mask.to(model.device)
    gradients: dict[str, Any] = {}

    def watch(name: str) -> Any:
        def forward(layer: Any, inputs: tuple[Any, ...], output: Any) -> None:
            reduced = inputs[0].detach().float() @ _columns(seed, name, inputs[0].shape[-1], rank, inputs[0].device)

            def backward(gradient: Any) -> None:
                gradients[name] = torch.einsum("bto,btr->bor", gradient.float(), reduced).flatten(1)

            output.register_hook(backward)

        return forward

    hooks = [layer.register_forward_hook(watch(name)) for name, layer in layers.items()]
    hooks.append(
        model.get_input_embeddings().register_forward_hook(lambda layer, inputs, output: output.requires_grad_())
    )
    try:
        with torch.enable_grad():
            states = model.base_model(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
            weights = mask[:, 1:].float()
            weights = weights / weights.sum(dim=1, keepdim=True).clamp(min=1)
            weighted_loss(
                states[:, :-1].flatten(0, 1), head_of(model), ids[:, 1:].flatten(), weights.flatten()
            ).backward()
    finally:
        for hook in hooks:
            hook.remove()
    return torch.cat([gradients[name] for name in layers], dim=1)


def _project(rows: Any, dim: int, seed: int) -> Any:
    """(n, p) times signs (p, dim), scaled to length one. The signs are drawn block by block and never held together."""
    import torch

    total = torch.zeros((len(rows), dim), device=rows.device)
    for start in range(0, rows.shape[1], _BLOCK):
        part = rows[:, start : start + _BLOCK]
        total += part @ _signs(seed, f"block {start}", part.shape[1], dim, rows.device)
    return torch.nn.functional.normalize(total)


@lru_cache(maxsize=1_024)
def _columns(seed: int, layer: str, height: int, rank: int, device: Any) -> Any:
    """The random columns of one layer; kept, since they are small and every batch needs them."""
    return _signs(seed, layer, height, rank, device)


def _signs(seed: int, stream: str, height: int, width: int, device: Any) -> Any:
    """float32 (height, width) of +1 and -1: the bits of a generator whose key is a hash of the seed and the stream."""
    import torch

    raw = np.random.Philox(key=draw(seed, "embed.gradient", stream)).random_raw(-(-height * width // 64))
    packed = torch.from_numpy(raw.astype("<u8").view(np.uint8)).to(device)
    bits = (packed[:, None] >> torch.arange(8, dtype=torch.uint8, device=device)) & 1
    return bits.flatten()[: height * width].view(height, width).float().mul_(2).sub_(1)
