"""What both sides of ConvS2S are made of: embedded positions and gated convolutions (Gehring et al. 2017).

    e_i = w_i + p_i                                             token and learned position (section 3.1)
    v(x) = a · σ(b),  [a; b] = W [x_{i-r}; …; x_{i+r}] + β      gated convolution over k inputs (3.2)

Every sum of two is scaled by √½, so that the variance stays (3.4). A convolution is one matrix product over k
neighbours laid side by side: forward and back on a CPU it takes as long as `F.conv1d` in float32, a little less in
bfloat16, and it is packed for search like any other linear layer.
The paper divides the gradient that reaches the encoder by the number of attention layers (3.4): under Adam that changes
nothing but the clipping, and is left out. So is its weight normalisation (4.2).
"""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn

from kotya.attention.positions import LearnedPositions
from kotya.config import Config
from kotya.dropout import Dropout

HALF = math.sqrt(0.5)
"""What a sum of two is scaled by."""


class ConvolutionalConfig(Config):
    """What both sides have."""

    kind: Literal["cnn"]
    size: int = Field(256, ge=1)
    """Channels of a layer."""
    embedding: int = Field(256, ge=1)
    """Width of the embeddings, of an encoder's keys and values, and of what the output is computed from."""
    layers: int = Field(6, ge=1)
    max_length: int = Field(512, ge=1)
    """Trained positions; later ones take the last one's vector."""

    @property
    def embedding_size(self) -> int:
        return self.embedding


def scaled_linear(inputs: int, outputs: int, *, gain: float = 1.0) -> nn.Linear:
    """Normal weights that keep the variance of what goes through; a gated output needs a gain of 4 (section 3.5)."""
    layer = nn.Linear(inputs, outputs)
    nn.init.normal_(layer.weight, std=math.sqrt(gain / inputs))
    nn.init.zeros_(layer.bias)
    return layer


class PositionedEmbedding(nn.Module):
    """e = token + position, with dropout."""

    looks_up = "weight"

    def __init__(self, weight: nn.Parameter, length: int, dropout: float) -> None:
        super().__init__()
        self.weight = weight
        self.positions = LearnedPositions(weight.shape[1], length)
        nn.init.normal_(self.positions.weight, std=weight.shape[1] ** -0.5)
        self.dropout = Dropout(dropout)

    def forward(
        self, ids: Int[Tensor, "rows length"], positions: Int[Tensor, "#rows length"], highest: int
    ) -> Float[Tensor, "rows length size"]:
        x = F.embedding(ids, self.weight) + self.positions(positions, highest)
        kind = x.device.type
        if torch.is_autocast_enabled(kind):
            x = x.to(torch.get_autocast_dtype(kind))
        dropped: Tensor = self.dropout(x)
        return dropped


class GatedConvolution(nn.Module):
    """v([x_1; …; x_k]) = a · σ(b) at every place where k inputs stand side by side."""

    def __init__(self, size: int, kernel: int, dropout: float) -> None:
        super().__init__()
        self.kernel = kernel
        self.dropout = Dropout(dropout)
        self.linear = scaled_linear(kernel * size, 2 * size, gain=4.0 * (1.0 - dropout))

    def forward(self, x: Float[Tensor, "rows inputs size"]) -> Float[Tensor, "rows outputs size"]:
        """outputs = inputs - k + 1: what stands outside the text is the caller's to put there."""
        outputs = x.shape[1] - self.kernel + 1
        windows = torch.cat([x[:, first : first + outputs] for first in range(self.kernel)], dim=2)
        gated: Tensor = F.glu(self.linear(windows), dim=-1)
        return gated
