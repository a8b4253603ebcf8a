"""One step of attention in a training loop, forward and back, for the scores that need no autograd inside.

c = Σ_k a_k v_k, a = softmax(e): da_k = dcᵀv_k, de = a∘(da - Σ a da). The gradients of values and keys are sums over
all steps; they are taken once, when the loop has been gone back through: dV = Σ_t a_t dc_tᵀ is one batched product.

    products   e_k = hᵀk_k                dh = Σ_k de_k k_k,  dK = Σ_t de_t h_tᵀ, another batched product
    mlp        e_k = 2 wᵀσ(y_k), y = q + k_k  (see MLPScore)   dy_k = de_k · 2w∘σ(1-σ): dq is its sum over k, dk over t
"""

from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from kotya.attention.deferred import in_loop
from kotya.attention.kernels import exact_type
from kotya.attention.scores import MLPScore

Mask = Float[Tensor, "rows 1 source"]
Step = tuple[Float[Tensor, "rows size"], Float[Tensor, "rows 1 source"]]


@dataclass
class SourceNotes:
    """What the steps leave for the end."""

    weights: list[Tensor] = field(default_factory=list)
    context_gradients: list[Tensor] = field(default_factory=list)
    score_gradients: list[Tensor] = field(default_factory=list)
    queries: list[Tensor] = field(default_factory=list)
    prepared_gradient: Tensor | None = None
    outer_gradient: Tensor | None = None

    def add(self, weights: Tensor, context_gradient: Tensor) -> None:
        self.weights.append(weights)
        self.context_gradients.append(context_gradient)

    def values_gradient(self) -> Tensor:
        weights = torch.cat(self.weights, dim=1)
        total = torch.bmm(weights.transpose(1, 2), torch.cat(self.context_gradients, dim=1))
        self.weights, self.context_gradients = [], []
        return total


def _weights(scores: Tensor, mask: Tensor | None) -> Tensor:
    scores = exact_type(scores)
    return (scores if mask is None else scores + mask).softmax(-1)


def _score_gradient(
    gradient: Tensor, weights_gradient: Tensor | None, values: Tensor, weights: Tensor, notes: SourceNotes
) -> Tensor:
    """de [rows, 1, source] from dc [rows, size] and, where the weights themselves are in the loss, from da."""
    context_gradient = gradient[:, None]
    notes.add(weights.to(values.dtype), context_gradient)
    total = torch.bmm(context_gradient, values.transpose(1, 2)).to(weights.dtype)
    if weights_gradient is not None:
        total = total + weights_gradient
    return torch._softmax_backward_data(total, weights, -1, weights.dtype).to(values.dtype)


class _SettleProduct(torch.autograd.Function):
    """Hands out the ticket of every step; autograd comes back here after the last."""

    @staticmethod
    def forward(ctx: Any, prepared: Tensor, values: Tensor, notes: SourceNotes) -> Tensor:
        ctx.notes = notes
        return values.new_zeros(())

    @staticmethod
    def backward(ctx: Any, _: Tensor) -> tuple[Tensor, Tensor, None]:
        notes = ctx.notes
        gradients = torch.cat(notes.score_gradients, dim=1)
        prepared = torch.bmm(gradients.transpose(1, 2), torch.stack(notes.queries, dim=1))
        notes.score_gradients, notes.queries = [], []
        return prepared, notes.values_gradient(), None


class _ProductStep(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        ticket: Tensor,
        prepared: Tensor,
        values: Tensor,
        mask: Any,
        notes: SourceNotes,
    ) -> tuple[Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        scores = torch.bmm(query[:, None], prepared.transpose(1, 2))
        weights = _weights(scores, mask)
        ctx.save_for_backward(query, ticket, weights)
        ctx.prepared, ctx.values, ctx.notes = prepared, values, notes
        return torch.bmm(weights.to(values.dtype), values)[:, 0], weights

    @staticmethod
    def backward(ctx: Any, gradient: Tensor | None, weights_gradient: Tensor | None) -> tuple[Any, ...]:
        query, ticket, weights = ctx.saved_tensors
        if gradient is None:
            gradient = torch.zeros_like(ctx.values[:, 0])
        score_gradient = _score_gradient(gradient, weights_gradient, ctx.values, weights, ctx.notes)
        ctx.notes.score_gradients.append(score_gradient)
        ctx.notes.queries.append(query)
        return torch.bmm(score_gradient, ctx.prepared)[:, 0], ticket, None, None, None, None


class ProductSteps:
    """Scores that are a dot product with prepared keys."""

    def __init__(
        self,
        prepared: Float[Tensor, "rows source query_size"],
        values: Float[Tensor, "rows source size"],
        mask: Mask | None,
    ) -> None:
        notes = SourceNotes()
        ticket = _SettleProduct.apply(prepared, values, notes)  # type: ignore[no-untyped-call]
        self.rest = (ticket, prepared.detach(), values.detach(), mask, notes)

    def __call__(self, query: Float[Tensor, "rows query_size"]) -> Step:
        """The context of every row, and the weights."""
        step: Step = _ProductStep.apply(query, *self.rest)  # type: ignore[no-untyped-call]
        return step


class _SettleMLP(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, prepared: Tensor, values: Tensor, outer: Tensor, notes: SourceNotes) -> Tensor:
        ctx.notes = notes
        ctx.save_for_backward(prepared, outer)
        return values.new_zeros(())

    @staticmethod
    def backward(ctx: Any, _: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        notes = ctx.notes
        prepared, outer = ctx.saved_tensors
        prepared_gradient = (notes.prepared_gradient * (2.0 * outer)).to(prepared.dtype)
        outer_gradient = 2.0 * notes.outer_gradient
        notes.prepared_gradient = notes.outer_gradient = None
        return prepared_gradient, notes.values_gradient(), outer_gradient.to(outer.dtype), None


class _MLPStep(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        ticket: Tensor,
        prepared: Tensor,
        values: Tensor,
        outer: Tensor,
        mask: Any,
        notes: SourceNotes,
    ) -> tuple[Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        sigmoids = (prepared + query[:, None]).sigmoid_()
        scores = (sigmoids @ outer[:, None]).transpose(1, 2)
        weights = _weights(scores.mul_(2.0), mask)
        ctx.save_for_backward(ticket, weights, sigmoids)
        ctx.values, ctx.outer, ctx.notes = values, outer, notes
        return torch.bmm(weights.to(values.dtype), values)[:, 0], weights

    @staticmethod
    def backward(ctx: Any, gradient: Tensor | None, weights_gradient: Tensor | None) -> tuple[Any, ...]:
        ticket, weights, sigmoids = ctx.saved_tensors
        notes = ctx.notes
        if gradient is None:
            gradient = torch.zeros_like(ctx.values[:, 0])
        score_gradient = _score_gradient(gradient, weights_gradient, ctx.values, weights, notes)
        outer_gradient = exact_type(torch.bmm(score_gradient, sigmoids)[:, 0]).sum(0)
        slopes = torch.addcmul(sigmoids, sigmoids, sigmoids, value=-1.0)
        query_gradient = torch.bmm(score_gradient, slopes)[:, 0] * (2.0 * ctx.outer)
        column = score_gradient.transpose(1, 2)
        if notes.prepared_gradient is None:
            notes.prepared_gradient = exact_type(column * slopes)
            notes.outer_gradient = outer_gradient
        else:
            notes.prepared_gradient += slopes.mul_(column)
            notes.outer_gradient += outer_gradient
        return query_gradient, ticket, None, None, None, None, None


class MLPSteps:
    """Bahdanau's score."""

    def __init__(
        self,
        score: MLPScore,
        prepared: Float[Tensor, "rows source prepared"],
        values: Float[Tensor, "rows source size"],
        mask: Mask | None,
    ) -> None:
        notes = SourceNotes()
        self.query = in_loop(score.query, values.dtype)
        ticket = _SettleMLP.apply(prepared, values, score.outer, notes)  # type: ignore[no-untyped-call]
        outer = score.outer.detach().to(values.dtype)
        self.rest = (ticket, prepared.detach(), values.detach(), outer, mask, notes)

    def __call__(self, query: Float[Tensor, "rows query_size"]) -> Step:
        """The context of every row, and the weights."""
        step: Step = _MLPStep.apply(2.0 * self.query(query), *self.rest)  # type: ignore[no-untyped-call]
        return step
