"""A convolutional encoder: all positions at once, a constant number of steps for any length (Gehring et al. 2017).

x_i = (v([x_{i-r}; …; x_{i+r}]) + x_i) √½      a layer (section 3.2); `cnn.py` has v
keys z = what comes out at the top, values (z + e) √½: what stands there as well as what is around it (3.3)
"""

from typing import Annotated

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Int
from pydantic import AfterValidator, Field
from torch import Tensor, nn

from kotya.models.cnn import HALF, ConvolutionalConfig, GatedConvolution, PositionedEmbedding, scaled_linear
from kotya.models.seq2seq import Encoder, Memory, MemoryShape


def _odd(kernel: int) -> int:
    if kernel % 2 == 0:
        raise ValueError(f"{kernel} has no middle: an encoder's kernel must be odd")
    return kernel


class CNNEncoderConfig(ConvolutionalConfig):
    """A stack of gated convolutions over the source."""

    kernel: Annotated[int, Field(ge=1), AfterValidator(_odd)] = 3
    """k: neighbours that a layer reads, odd, the same number on either side."""

    def build(self, embedding: nn.Parameter, dropout: float) -> "CNNEncoder":
        return CNNEncoder(self, embedding, dropout)


class CNNEncoder(Encoder):
    """Gated convolutions with residuals. Keys are z, what comes out at the top; values are z + e."""

    def __init__(self, config: CNNEncoderConfig, embedding: nn.Parameter, dropout: float) -> None:
        super().__init__()
        self.shape = MemoryShape(config.embedding)
        self.reach = config.kernel // 2
        self.embedding = PositionedEmbedding(embedding, config.max_length, dropout)
        self.inner = scaled_linear(config.embedding, config.size)
        self.layers = nn.ModuleList(
            GatedConvolution(config.size, config.kernel, dropout) for _ in range(config.layers)
        )
        self.outer = scaled_linear(config.size, config.embedding)

    def forward(self, source: Int[Tensor, "rows source"], lengths: Int[Tensor, " rows"]) -> Memory:
        length = source.shape[1]
        places = torch.arange(length, device=source.device)[None]
        embedded = self.embedding(source, places, length - 1)
        padding = self._padding(places, lengths)
        x = self.inner(embedded)
        for layer in self.layers:
            assert isinstance(layer, GatedConvolution)
            inputs = layer.dropout(x)
            if padding is not None:
                inputs = inputs.masked_fill(padding, 0.0)
            x = (layer(F.pad(inputs, (0, 0, self.reach, self.reach))) + x) * HALF
        keys = self.outer(x)
        return Memory(keys=keys, values=(keys + embedded) * HALF, lengths=lengths)

    @staticmethod
    def _padding(
        places: Int[Tensor, "1 source"], lengths: Int[Tensor, " rows"]
    ) -> Bool[Tensor, "rows source 1"] | None:
        """What no convolution may read; None where nothing is padded."""
        behind = places >= lengths[:, None]
        return behind[:, :, None] if bool(behind.any()) else None
