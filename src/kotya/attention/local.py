"""Local attention (Luong et al. 2015, section 3.2): only the positions in a window around p_t are looked at.

    local-m   p_t = t                                                            (monotonic)
    local-p   p_t = S · σ(v_pᵀ tanh(W_p h_t)),  a_t(s) · exp(-(s - p_t)² / 2σ²),  σ = D/2   (predictive)

The window is [p_t - D, p_t + D]; S is the length of the source. A monotonic centre stays inside the source.
"""

import math
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from kotya.attention.kernels import exact_type

LocalKind = Literal["local-m", "local-p"]


class LocalWindow(nn.Module):
    """Where a query looks, and how its weights fall off from there."""

    def __init__(self, kind: LocalKind, query_size: int, width: int) -> None:
        super().__init__()
        self.side = width
        self.inner = nn.Linear(query_size, query_size, bias=False) if kind == "local-p" else None
        self.outer = nn.Linear(query_size, 1, bias=False) if kind == "local-p" else None

    def centre(
        self,
        query: Float[Tensor, "rows queries size"],
        positions: Int[Tensor, "rows queries"],
        lengths: Int[Tensor, " rows"],
    ) -> Float[Tensor, "rows queries"]:
        """p_t of every query; `positions` are their t, from 0."""
        if self.inner is None or self.outer is None:
            return torch.minimum(positions, lengths[:, None] - 1).float()
        predicted: Tensor = exact_type(self.outer(self.inner(query).tanh())[..., 0]).sigmoid()
        return predicted * lengths[:, None]

    def weights(
        self, scores: Float[Tensor, "rows queries source"], centre: Float[Tensor, "rows queries"]
    ) -> Float[Tensor, "rows queries source"]:
        """Softmax over the window; where p_t is predicted, times the Gaussian around it."""
        place = torch.arange(scores.shape[2], device=scores.device)
        distance = place - centre[:, :, None]
        weights = scores.masked_fill(distance.abs() > self.side, -math.inf).softmax(-1)
        if self.inner is None:
            return weights
        return weights * torch.exp(-0.5 * (distance / (self.side / 2)) ** 2)
