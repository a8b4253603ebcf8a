"""Cross-entropy over the vocabulary straight from hidden vectors, with label smoothing (Szegedy et al. 2016, sec. 7).

With z = Wh + b and target y, loss = (1-ε)·(-log p_y) + ε/V·Σ_v(-log p_v), p = softmax(z). The gradient by z is
p - (1-ε)·1[y] - ε/V, so it is formed together with the loss, a chunk of rows at a time: the matrix of all logits
(4,096 tokens × 8,000 pieces = 131 MB) never exists, and the backward pass has nothing left to compute.
"""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

_CHUNK = 512


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, smoothing: float
    ) -> tuple[Tensor, Tensor]:
        wants, wants_weight, wants_bias = (ctx.needs_input_grad[i] for i in range(3))
        grows = wants or wants_weight or wants_bias
        dtype = hidden.dtype
        w = weight.to(dtype)
        b = None if bias is None else bias.to(dtype)
        vocabulary = len(weight)
        loss = torch.zeros((), device=hidden.device)
        likelihood = torch.zeros((), device=hidden.device)
        hidden_gradient = torch.empty_like(hidden) if wants else None
        weight_gradient = torch.zeros_like(weight) if wants_weight else None
        bias_gradient = torch.zeros_like(bias) if wants_bias and bias is not None else None
        # the mean logit of a row, Σ_v z_v / V, is h against the mean row of the matrix: no pass over the logits
        mean_weight = w.mean(0, dtype=torch.float32)
        mean_bias = 0.0 if b is None else b.mean(dtype=torch.float32)
        for start in range(0, len(hidden), _CHUNK):
            h, y = hidden[start : start + _CHUNK], targets[start : start + _CHUNK, None]
            z = F.linear(h, w, b)
            p = z.softmax(-1)
            # log Σ exp z from the likeliest piece, whose p is never below 1/V: p_y may be too small for its type
            log_normaliser = z.amax(-1, keepdim=True).float() - p.amax(-1, keepdim=True).float().log_()
            likelihood += (log_normaliser - z.gather(1, y).float()).sum()
            if smoothing:
                loss += smoothing * (
                    log_normaliser.sum() - (h.float() @ mean_weight).sum() - len(h) * mean_bias
                )
            if grows:
                if smoothing:
                    p.sub_(smoothing / vocabulary)
                rows = torch.arange(len(h), device=h.device)
                p[rows, y[:, 0]] -= 1.0 - smoothing
                if hidden_gradient is not None:
                    torch.mm(p, w, out=hidden_gradient[start : start + _CHUNK])
                if weight_gradient is not None:
                    weight_gradient += p.t() @ h
                if bias_gradient is not None:
                    bias_gradient += p.sum(0)
        loss += (1.0 - smoothing) * likelihood
        ctx.save_for_backward(hidden_gradient, weight_gradient, bias_gradient)
        ctx.mark_non_differentiable(likelihood)
        return loss, likelihood

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        return *(None if g is None else g.mul_(gradient.to(g.dtype)) for g in ctx.saved_tensors), None, None


def linear_cross_entropy(
    hidden: Float[Tensor, "tokens size"],
    weight: Float[Tensor, "vocabulary size"],
    bias: Float[Tensor, " vocabulary"] | None,
    targets: Int[Tensor, " tokens"],
    *,
    smoothing: float = 0.0,
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """The summed smoothed loss (differentiable) and the summed negative log-likelihood (not), both in nats.

    Computes in the type of `hidden`; sums in float32. `targets` are ids below the size of the vocabulary.
    """
    kind = hidden.device.type
    if torch.is_autocast_enabled(kind):
        hidden = hidden.to(torch.get_autocast_dtype(kind))
    with torch.autocast(kind, enabled=False):
        loss, likelihood = _LinearCrossEntropy.apply(hidden, weight, bias, targets, smoothing)  # type: ignore[no-untyped-call]
    return loss, likelihood
