"""Low-rank adapters on the linear layers; the base stays as it is.

Each chosen W of shape (out, in) becomes W + (alpha / rank) · B·A with A (rank, in) drawn and B (out, rank) zero, so a run
starts exactly at its base and trains rank · (in + out) parameters a layer. ``targets`` empty means every linear layer but
the head. Learning rates lie about ten times above those of full fine-tuning.

    train: {model: …, tuning: {lora: {rank: 16}}}

Reference: Hu et al. 2021, arXiv 2106.09685; all linear layers: Dettmers et al. 2023, arXiv 2305.14314, section 4.
"""

from __future__ import annotations

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import PreTrainedModel

from curate.contract.draws import draw

LEARNING_RATE = 2e-4


def tune(
    model: PreTrainedModel,
    *,
    seed: int,
    rank: int = 16,
    alpha: float | None = None,
    dropout: float = 0.0,
    targets: list[str] | None = None,
) -> PeftModel:
    """Train low-rank adapters on every linear layer.

    rank: of the adapters; more is more able and dearer. alpha: the adapter counts alpha / rank times; null is 2 × rank. dropout:
    share of an adapter's inputs that a step leaves out. targets: the ends of the names of the layers that get one, as in
    [q_proj, v_proj]; null is every linear layer but the head.
    """
    config = LoraConfig(
        r=rank,
        lora_alpha=2 * rank if alpha is None else alpha,  # type: ignore[arg-type]  # peft only divides by it
        lora_dropout=dropout,
        target_modules=targets or "all-linear",
        task_type="CAUSAL_LM",
    )
    with torch.random.fork_rng():
        torch.manual_seed(draw(seed, "train.adapter", ""))
        return get_peft_model(model, config)  # type: ignore[return-value]
