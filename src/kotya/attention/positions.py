"""Where a token stands: sinusoidal and learned position embeddings, and rotary ones applied to queries and keys.

Sinusoidal (Vaswani et al. 2017, section 3.5): PE(pos, 2i) = sin(pos / 10000^(2i/size)), PE(pos, 2i+1) = cos(the same).
Rotary (Su et al. 2021): pairs of query and key features turn by an angle that grows with the position.
"""

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

Layout = Literal["interleaved", "halves"]


def sinusoidal(length: int, size: int, layout: Layout = "interleaved") -> Float[Tensor, "length size"]:
    """The table of sinusoids: `interleaved` is the order of the paper, `halves` (MarianMT) has all sines first.

    Computed in float64, because the angle of a late position loses its digits in float32.
    """
    position = torch.arange(length, dtype=torch.float64)[:, None]
    frequency = 10000.0 ** (-torch.arange(0, size, 2, dtype=torch.float64) / size)
    angle = position * frequency
    sine, cosine = angle.sin(), angle.cos()[:, : size // 2]
    if layout == "halves":
        return torch.cat([sine, cosine], dim=1).float()
    table = torch.empty(length, size, dtype=torch.float64)
    table[:, 0::2], table[:, 1::2] = sine, cosine
    return table.float()


class SinusoidalPositions(nn.Module):
    """The fixed table; it grows when a longer text comes, and is not part of the weights."""

    table: Tensor

    def __init__(self, size: int, layout: Layout) -> None:
        super().__init__()
        self.size, self.layout = size, layout
        self.register_buffer("table", torch.empty(0, size), persistent=False)

    def forward(self, positions: Int[Tensor, "*rows"], highest: int) -> Float[Tensor, "*rows size"]:
        """Embeddings of positions, none above `highest` (known on the host, so that a device need not be asked)."""
        table = self.table
        if highest >= len(table):
            longer = sinusoidal(max(512, 2 * (highest + 1)), self.size, self.layout)
            self.table = table = longer.to(table.device, table.dtype)
        return table[positions]


class LearnedPositions(nn.Module):
    """One trained vector a position, for at most `length` positions (Gehring et al. 2017, section 3.1)."""

    def __init__(self, size: int, length: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(length, size))

    def forward(self, positions: Int[Tensor, "*rows"], highest: int) -> Float[Tensor, "*rows size"]:
        """Embeddings of positions. A position past the last trained one takes the last one's vector."""
        if highest >= len(self.weight):
            positions = positions.clamp(max=len(self.weight) - 1)
        return self.weight[positions]


Rotation = tuple[Float[Tensor, "*positions half"], Float[Tensor, "*positions half"]]
"""Cosines and sines of the angles that the pairs of a head's features turn by, at every position."""


def rotation(
    positions: Int[Tensor, "*positions"], size: int, dtype: torch.dtype, base: float = 10000.0
) -> Rotation:
    """Angles position · base^(-2i/size), for heads of that size; taken in float32."""
    frequency = base ** (-torch.arange(0, size, 2, device=positions.device, dtype=torch.float32) / size)
    angle = positions[..., None].float() * frequency
    return angle.cos().to(dtype), angle.sin().to(dtype)


def turn(
    x: Float[Tensor, "*tokens heads head_size"], rotation: Rotation
) -> Float[Tensor, "*tokens heads head_size"]:
    """Turn each pair (x_i, x_{i+size/2}): then q·k depends on the distance only."""
    cosine, sine = (part[..., None, :] for part in rotation)
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cosine - second * sine, second * cosine + first * sine], dim=-1)


def rotate(
    x: Float[Tensor, "rows length heads size"], positions: Int[Tensor, "#rows length"], base: float = 10000.0
) -> Float[Tensor, "rows length heads size"]:
    """Turn by the angles of these positions."""
    return turn(x, rotation(positions, x.shape[-1], x.dtype, base))
