"""The head and the loss together, on supervised positions only, in chunks.

The logits of a pack are the largest thing in a small training step: T × V floats, with their softmax and its gradient
three times over. Here rows are taken a chunk at a time. One product gives a chunk's logits; block by block, small enough
for a core's cache, they become losses and are overwritten with their gradient; two more products take that to the hidden
states and to the head. So memory is one chunk, and the backward pass only scales what the forward pass left. The steps of
the softmax are written out because torch's ``log_softmax`` on a CPU takes several times as long as the exponentials in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

CHUNK = 1 << 23  # logits at once: 16 MiB in bfloat16
BLOCK = 1 << 19  # of them in float32 at once: 2 MiB
MIN_ROWS = 32


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
        return self.finish(_exact(hidden @ self.weight.T))

    def finish(self, products: Tensor) -> Tensor:
        """hidden · weightᵀ -> logits, in place."""
        if self.bias is not None:
            products += self.bias
        if self.scale != 1.0:
            products *= self.scale
        if self.softcap is not None:
            products.div_(self.softcap).tanh_().mul_(self.softcap)
        return products


def weighted_loss(hidden: Tensor, head: Head, targets: Tensor, weights: Tensor) -> Tensor:
    """Σ weight · −log p(target): hidden (n, d), targets int64 (n,), weights float (n,) -> a scalar, float32 at least.

    The gradient reaches ``hidden`` and the head's parameters. Time: three products of n × d × V; memory: a chunk.
    """
    return _WeightedLoss.apply(hidden, head.weight, head.bias, head, targets, weights)  # type: ignore[return-value]


@torch.no_grad()
def token_losses(hidden: Tensor, head: Head, targets: Tensor) -> Tensor:
    """−log p(target) in nats: hidden (n, d), targets int64 (n,) -> (n,), float32 at least. No gradient."""
    head = head.cast(hidden.dtype)
    parts = [_exact(hidden.new_zeros(0))]
    for rows in _slices(len(targets), CHUNK, head):
        products = hidden[rows] @ head.weight.T
        parts += [losses for _, losses, _ in _blocks(products, head, targets[rows])]
    return torch.cat(parts)


class _WeightedLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, head: Head, targets: Tensor, weights: Tensor
    ) -> Tensor:
        head = head.cast(hidden.dtype)
        total = _exact(hidden.new_zeros(()))
        weights = weights.to(total.dtype)
        to_hidden = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        to_weight = torch.zeros_like(weight) if ctx.needs_input_grad[1] else None
        to_bias = torch.zeros_like(bias) if bias is not None and ctx.needs_input_grad[2] else None
        for rows in _slices(len(targets), CHUNK, head):
            products = hidden[rows] @ head.weight.T
            for block, losses, gradient in _blocks(products, head, targets[rows], weights[rows]):
                total += losses @ weights[rows][block]
                if to_bias is not None:
                    to_bias += gradient.sum(0)
                products[block] = gradient.mul_(head.scale) if head.scale != 1.0 else gradient
            if to_hidden is not None:
                torch.mm(products, head.weight, out=to_hidden[rows])
            if to_weight is not None:
                to_weight += products.T @ hidden[rows]
        ctx.save_for_backward(to_hidden, to_weight, to_bias)
        return total

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        grads = (g if g is None else g.mul_(outer[0]) for g in ctx.saved_tensors)
        return (*grads, None, None, None)


def _blocks(
    products: Tensor, head: Head, targets: Tensor, weights: Tensor | None = None
) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """(rows, losses, d Σ weight · loss / d logits before the scale) a block; without weights the third is of no use."""
    for rows in _slices(len(targets), BLOCK, head):
        logits = head.finish(_exact(products[rows]))
        slope = 1 - (logits / head.softcap) ** 2 if head.softcap is not None and weights is not None else None
        top = logits.amax(dim=1, keepdim=True)
        target = targets[rows, None]
        at_target = logits.gather(1, target)
        powers = logits.sub_(top).exp_()
        sums = powers.sum(dim=1, keepdim=True)
        losses = (sums.log() + top - at_target)[:, 0]
        if weights is not None:  # weight · (softmax − one at the target), in the buffer of the exponentials
            weight = weights[rows, None]
            powers.mul_(weight / sums).scatter_add_(1, target, -weight)
            if slope is not None:
                powers *= slope
        yield rows, losses, powers


def _slices(n: int, elements: int, head: Head) -> list[slice]:
    """Rows of at most ``elements`` logits, at least MIN_ROWS rows."""
    rows = max(MIN_ROWS, elements // head.weight.shape[0])
    return [slice(start, min(start + rows, n)) for start in range(0, n, rows)]


def _exact(x: Tensor) -> Tensor:
    """In float32, or float64 where it was."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
