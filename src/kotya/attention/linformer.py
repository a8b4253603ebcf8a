"""Linformer (Wang et al. 2020): attention to k mixtures of all positions instead of to the positions themselves."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from kotya.errors import KotyaError

Texts = Float[Tensor, "_ _ _ head_size"]


class LengthProjection(nn.Module):
    """Keys and values of n positions are mixed into k of them, K̄ = EK, V̄ = FV (their section 4).

    E and F are learned, k × the longest text. It has no causal form: every mixture holds what comes after.
    """

    def __init__(self, length: int, size: int) -> None:
        """`length`: of the longest text. `size`: k."""
        super().__init__()
        self.length = length
        self.keys = nn.Parameter(torch.randn(size, length) / math.sqrt(size))
        self.values = nn.Parameter(torch.randn(size, length) / math.sqrt(size))

    def forward(
        self, key: Texts, value: Texts, lengths: Int[Tensor, " rows"] | None = None
    ) -> tuple[Texts, Texts]:
        """[rows, k, heads, size] each; padding takes no part. Raises KotyaError for a text longer than the longest."""
        length = key.shape[1]
        if length > self.length:
            raise KotyaError(
                f"a text of {length} pieces: Linformer's projections were learned for {self.length} at most; "
                "a model for longer texts needs a greater max_length"
            )
        if lengths is not None:
            real = torch.arange(length, device=key.device) < lengths[:, None]
            key, value = (x * real[:, :, None, None] for x in (key, value))
        mixed = (
            (weights[:, :length].to(x.dtype) @ x.flatten(2)).unflatten(2, x.shape[2:])
            for weights, x in ((self.keys, key), (self.values, value))
        )
        return next(mixed), next(mixed)
