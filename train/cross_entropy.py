"""The head and the loss together, on supervised positions only, in chunks.

The logits of a pack are the largest thing in a small training step: T × V floats, with their softmax and its gradient
three times over. Here rows are taken a chunk at a time; a chunk's logits, loss and gradient are computed in one buffer,
so memory is chunk × V, and the backward pass only scales what the forward pass left. ``log_softmax`` on a CPU took 8 times
as long as the exponentials in it; the steps are written out for that reason too.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

CHUNK_ELEMENTS = 1 << 21  # logits a chunk: 8 MiB of float32; at least MIN_ROWS rows
MIN_ROWS = 128


@dataclass(frozen=True)
class Head:
    """logits = scale · (hidden · weightᵀ + bias), then softcap · tanh(logits / softcap) where there is a softcap."""

    weight: Tensor  # (V, d)
    bias: Tensor | None = None  # (V,)
    scale: float = 1.0
    softcap: float | None = None

    def cast(self, dtype: torch.dtype) -> Head:
        """The same head with its large product in ``dtype``, outside the graph."""
        return replace(self, weight=self.weight.detach().to(dtype))

    def logits(self, hidden: Tensor) -> Tensor:
        """(n, d) -> (n, V), float32 at least. Called where no graph is built."""
        out = hidden @ self.weight.T
        out = out.to(torch.promote_types(out.dtype, torch.float32))
        if self.bias is not None:
            out += self.bias
        if self.scale != 1.0:
            out *= self.scale
        if self.softcap is not None:
            out = out.div_(self.softcap).tanh_().mul_(self.softcap)
        return out


def weighted_loss(hidden: Tensor, head: Head, targets: Tensor, weights: Tensor) -> Tensor:
    """Σ weight · −log p(target): hidden (n, d), targets int64 (n,), weights float (n,) -> a float32 scalar.

    The gradient reaches ``hidden`` and the head's parameters. Time: three products of n × d × V; memory: a chunk.
    """
    return _WeightedLoss.apply(hidden, head.weight, head.bias, head, targets, weights)  # type: ignore[return-value]


@torch.no_grad()
def token_losses(hidden: Tensor, head: Head, targets: Tensor) -> Tensor:
    """−log p(target) in nats: hidden (n, d), targets int64 (n,) -> float32 at least (n,). No gradient."""
    parts = [hidden.new_zeros(0, dtype=torch.promote_types(hidden.dtype, torch.float32))]
    head = head.cast(hidden.dtype)
    for rows in _chunks(len(targets), head):
        parts.append(_exponentials(head.logits(hidden[rows]), targets[rows])[0])
    return torch.cat(parts)


class _WeightedLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, head: Head, targets: Tensor, weights: Tensor
    ) -> Tensor:
        exact = torch.promote_types(hidden.dtype, torch.float32)
        total = hidden.new_zeros((), dtype=exact)
        to_hidden = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        to_weight = torch.zeros_like(weight) if ctx.needs_input_grad[1] else None
        to_bias = torch.zeros_like(bias) if bias is not None and ctx.needs_input_grad[2] else None
        low = head.cast(hidden.dtype)
        for rows in _chunks(len(targets), head):
            logits = low.logits(hidden[rows])
            slope = 1 - (logits / head.softcap) ** 2 if head.softcap is not None else None
            losses, powers, sums = _exponentials(logits, targets[rows])
            w = weights[rows].to(exact)
            total += losses @ w
            # d loss / d logits = weight · (softmax − one at the target), in the buffer of the exponentials
            gradient = powers.mul_((w / sums)[:, None])
            gradient[torch.arange(len(w), device=w.device), targets[rows]] -= w
            if slope is not None:
                gradient *= slope
            if head.scale != 1.0:
                gradient *= head.scale
            if to_bias is not None:
                to_bias += gradient.sum(0)
            gradient = gradient.to(hidden.dtype)
            if to_hidden is not None:
                torch.mm(gradient, low.weight, out=to_hidden[rows])
            if to_weight is not None:
                to_weight += gradient.T @ hidden[rows]
        ctx.save_for_backward(to_hidden, to_weight, to_bias)
        return total

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        grads = (g if g is None else g * outer[0].to(g.dtype) for g in ctx.saved_tensors)
        return (*grads, None, None, None)


def _chunks(n: int, head: Head) -> list[slice]:
    rows = max(MIN_ROWS, CHUNK_ELEMENTS // head.weight.shape[0])
    return [slice(start, min(start + rows, n)) for start in range(0, n, rows)]


def _exponentials(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(losses (n,), exp(logits − their maximum) (n, V) in the buffer of ``logits``, their sums (n,))."""
    top = logits.amax(dim=1, keepdim=True)
    at_target = logits.gather(1, targets[:, None])
    powers = logits.sub_(top).exp_()
    sums = powers.sum(dim=1)
    return sums.log() + (top - at_target)[:, 0], powers, sums
