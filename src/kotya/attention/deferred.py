"""Weight gradients of a loop, computed once when the loop has been gone back through.

A recurrence multiplies by the same matrix W at every step: y_t = W x_t. Autograd would add up dW = Σ_t g_t x_tᵀ step by
step, a small product and a pass over the matrix each time. Here a step only notes its x_t and g_t, and one large
product over all steps gives the same sum.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


@dataclass
class Notes:
    """What the steps leave for the end: inputs and gradients, in any order but the same one."""

    learned: bool = True
    """Whether anybody will ask; of a frozen matrix nothing is kept."""
    inputs: list[Tensor] = field(default_factory=list)
    gradients: list[Tensor] = field(default_factory=list)

    def add(self, x: Tensor, gradient: Tensor) -> None:
        if self.learned:
            self.inputs.append(x)
            self.gradients.append(gradient)

    def settle(self) -> Tensor:
        """Σ_t g_t x_tᵀ; the notes are empty afterwards."""
        total = torch.cat(self.gradients).t() @ torch.cat(self.inputs)
        self.inputs, self.gradients = [], []
        return total


class _Settle(torch.autograd.Function):
    """Hands out a ticket that every step takes: autograd comes back here when all of them are done."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, notes: Notes) -> Tensor:
        ctx.notes, ctx.dtype = notes, weight.dtype
        return weight.new_zeros(())

    @staticmethod
    def backward(ctx: Any, _: Tensor) -> tuple[Tensor, None]:
        return ctx.notes.settle().to(ctx.dtype), None


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, ticket: Tensor, weight: Tensor, notes: Notes) -> Tensor:
        ctx.save_for_backward(x, ticket)
        ctx.weight, ctx.notes = weight, notes
        return F.linear(x, weight)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None]:
        x, ticket = ctx.saved_tensors
        ctx.notes.add(x, gradient)
        return gradient @ ctx.weight, ticket, None, None


class Deferred:
    """A matrix that a loop multiplies by, in the type that the loop computes in."""

    def __init__(self, weight: Float[Tensor, "outputs inputs"], dtype: torch.dtype) -> None:
        self.weight = weight.detach().to(dtype)
        self.notes = Notes(weight.requires_grad)
        self.ticket: Tensor = _Settle.apply(weight, self.notes)  # type: ignore[no-untyped-call]

    def __call__(self, x: Float[Tensor, "rows inputs"]) -> Float[Tensor, "rows outputs"]:
        """Wx for every row."""
        y: Tensor = _Linear.apply(x, self.ticket, self.weight, self.notes)  # type: ignore[no-untyped-call]
        return y


def in_loop(layer: nn.Module, dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    """A linear layer (an nn.Linear, or its packed form in use), for a loop that computes in `dtype`."""
    if not torch.is_grad_enabled() or not isinstance(layer, nn.Linear):
        return layer
    matrix, bias = Deferred(layer.weight, dtype), layer.bias
    if bias is None:
        return matrix
    offset = bias.to(dtype)
    return lambda x: matrix(x) + offset
