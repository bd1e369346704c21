"""Load, check and save models: safetensors only, float32 master weights, never code from a repository.

``prepare`` puts our attention into a model and then tries it on a few tokens: a document must come out of a pack as it
comes out alone, must not change by a bit when its neighbour does, and our head must give the model's own logits. So an
architecture that cannot be packed is refused with a sentence, not trained wrong.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from curate.contract.errors import TrainingError
from curate.contract.files import whole
from curate.contract.model_files import find_model
from train import attention
from train.attention import Documents
from train.cross_entropy import Head
from train.loading import language_model, not_finite, quiet

if TYPE_CHECKING:
    from train.batches import Pack

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # else cuBLAS may add in another order from run to run

MODEL_FILES = ("*.safetensors", "*.json", "*.jinja")  # what a model's results depend on
_READY = "_tamis_ready"


def load_model(name_or_path: str, *, device: str | None = None) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A causal language model from a folder or the Hub, in float32, prepared for packs, with its tokenizer.

    device: "cpu", "cuda"; None takes a GPU where there is one. Raises TrainingError for weights that are not safetensors,
    or of which some are missing, for repositories that bring code, and for architectures that cannot be packed.
    """
    folder = find_model("train", name_or_path, error=TrainingError)
    model, tokenizer = language_model("train", folder, torch.float32, TrainingError)
    nn.Module.to(model, device or ("cuda" if torch.cuda.is_available() else "cpu"))
    return prepare(model), tokenizer


def save_model(model: nn.Module, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """A folder that ``from_pretrained`` loads: safetensors and tokenizer, whole or absent. Adapters must be merged before."""
    with quiet(), whole(folder) as temporary:
        core(model).save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
        if folder.exists():
            shutil.rmtree(folder)


def merge(model: Any) -> PreTrainedModel:
    """Adapters folded into the weights of their layers, in place; a model without adapters as it is."""
    return model.merge_and_unload() if hasattr(model, "merge_and_unload") else model


def core(model: Any) -> Any:
    """The transformers model under an adapter."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def prepare(model: PreTrainedModel) -> PreTrainedModel:
    """Installs packed attention and tries it, in place; once a model. Leaves the model in evaluation mode."""
    if getattr(model, _READY, False):
        return model
    kind = type(model).__name__
    try:
        model.set_attn_implementation(attention.NAME)
        if not isinstance(model.get_output_embeddings(), nn.Linear):
            raise TrainingError("its output layer is not a linear one")
        model.eval()
        _try_packs(model)
    except (TrainingError, ValueError, TypeError, NotImplementedError) as error:
        raise TrainingError(f"{kind} cannot be trained on packed documents: {error}") from error
    setattr(model, _READY, True)
    return model


def check_ready(model: nn.Module) -> None:
    if not getattr(core(model), _READY, False):
        raise TrainingError(f"{type(core(model)).__name__} was not prepared; call train.models.prepare(model) first")


def predicting_states(model: nn.Module, pack: Pack, compute: torch.dtype) -> Tensor:
    """The last hidden states at a pack's predictors: (n, d). The head is left to the loss.

    compute bfloat16: the layers run under autocast and the states come in bfloat16; else all in the model's own type.
    """
    half = compute == torch.bfloat16
    with torch.autocast(pack.input_ids.device.type, dtype=torch.bfloat16, enabled=half):
        states = _states(model, pack.input_ids, pack.positions, pack.documents)
    states = states.index_select(0, pack.predictors)
    return states.to(torch.bfloat16) if half else states


def head_of(model: nn.Module) -> Head:
    """The output layer, with the scale and the soft cap that some architectures put behind it (Cohere, Granite, Gemma)."""
    linear = core(model).get_output_embeddings()
    config = core(model).config.get_text_config()
    scale = getattr(config, "logit_scale", None) or 1.0
    return Head(
        linear.weight,
        getattr(linear, "bias", None),
        scale=scale / (getattr(config, "logits_scaling", None) or 1.0),
        softcap=getattr(config, "final_logit_softcapping", None),
    )


def compute_dtype(choice: Literal["auto", "float32", "bfloat16"], device: torch.device) -> torch.dtype:
    """What the large products run in; weights, gradients and moments stay float32 either way.

    "auto": bfloat16 on a GPU that has it and on a CPU with units for it (amx_bf16 or avx512_bf16), else float32. Told by
    the processor's flags, never by timing. It pays more the larger the model; benchmarks/trainer.py prints both.
    """
    if choice == "float32":
        return torch.float32
    if choice == "bfloat16":
        return torch.bfloat16
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    flags = getattr(torch.cpu, "get_capabilities", dict)()
    return torch.bfloat16 if flags.get("amx_bf16") or flags.get("avx512_bf16") else torch.float32


def _states(model: nn.Module, ids: Tensor, positions: Tensor, documents: Documents) -> Tensor:
    body = core(model).base_model
    return body(input_ids=ids, position_ids=positions, use_cache=False, documents=documents).last_hidden_state[0]


@torch.no_grad()
def _try_packs(model: PreTrainedModel) -> None:
    """Two short documents: packed, packed with another neighbour, and alone."""
    vocabulary = model.get_input_embeddings().weight.shape[0]  # type: ignore[union-attr]
    device = next(model.parameters()).device
    first, other, second = ((torch.arange(n) * step + 1) % vocabulary for n, step in ((5, 3), (5, 7), (7, 5)))

    def states(*documents: Tensor) -> Tensor:
        lengths = [len(document) for document in documents]
        positions = torch.cat([torch.arange(n) for n in lengths])
        ids = torch.cat(documents)
        return _states(model, ids[None].to(device), positions[None].to(device), Documents.of(lengths, device))[-7:]

    packed, alone = states(first, second), states(second)
    if not alone.isfinite().all():
        raise TrainingError(f"{not_finite(model) or 'a hidden state'} is not finite")
    if not torch.equal(packed, states(other, second)):
        raise TrainingError("a document changes with its neighbour in the pack")
    if not torch.allclose(packed, alone, rtol=1e-3, atol=1e-3):
        raise TrainingError("a document does not come out of a pack as it comes out alone")
    lengths = Documents.of([7], device)
    logits = model(
        input_ids=second[None].to(device),
        position_ids=torch.arange(7, device=device)[None],
        use_cache=False,
        documents=lengths,
    ).logits[0]
    if not torch.allclose(head_of(model).logits(alone), logits.to(torch.float32), rtol=1e-3, atol=1e-3):
        raise TrainingError("its logits are not a linear layer of its hidden states")
