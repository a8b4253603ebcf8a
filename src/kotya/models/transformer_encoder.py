"""The Transformer's encoder (Vaswani et al. 2017, section 3.1): every position reads every other."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from kotya.attention.kernels import Mask, padding_mask
from kotya.models.seq2seq import Encoder, Memory, MemoryShape
from kotya.models.transformer_block import (
    BlockConfig,
    Embedding,
    FeedForward,
    Residual,
    TransformerPartConfig,
    attention_layer,
    normalization,
)


class TransformerEncoderConfig(TransformerPartConfig):
    """A Transformer encoder."""

    def build(self, embedding: nn.Parameter, dropout: float) -> "TransformerEncoder":
        config = self.block(dropout)
        return TransformerEncoder(Embedding(config, embedding), config, self.layers)


class EncoderLayer(nn.Module):
    """Self-attention and feed-forward."""

    def __init__(self, config: BlockConfig) -> None:
        super().__init__()
        self.attention = attention_layer(config, rotary=config.positions == "rotary")
        self.attention_residual = Residual(config)
        self.feed_forward = FeedForward(config)
        self.feed_forward_residual = Residual(config)

    def forward(
        self, x: Float[Tensor, "rows length size"], mask: Mask | None, positions: Int[Tensor, "#rows length"]
    ) -> Float[Tensor, "rows length size"]:
        residual = self.attention_residual
        x = residual.after(x, self.attention(residual.before(x), mask, positions=positions))
        residual = self.feed_forward_residual
        return residual.after(x, self.feed_forward(residual.before(x)))


class TransformerEncoder(Encoder):
    """Embeddings and a stack of encoder layers."""

    def __init__(self, embedding: Embedding, config: BlockConfig, layers: int) -> None:
        super().__init__()
        self.shape = MemoryShape(config.size)
        self.embedding = embedding
        self.layers = nn.ModuleList(EncoderLayer(config) for _ in range(layers))
        self.norm = normalization(config) if config.norm == "pre" else nn.Identity()

    def forward(self, source: Int[Tensor, "rows source"], lengths: Int[Tensor, "rows"]) -> Memory:
        length = source.shape[1]
        positions = torch.arange(length, device=source.device)[None]
        x = self.embedding(source, positions, length - 1)
        mask = padding_mask(lengths, length, x.dtype)
        for layer in self.layers:
            x = layer(x, mask, positions)
        x = self.norm(x)
        return Memory(keys=x, values=x, lengths=lengths)
