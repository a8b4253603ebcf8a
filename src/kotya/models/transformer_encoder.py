"""The Transformer's encoder (Vaswani et al. 2017, section 3.1): every position reads every other."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from kotya.attention.multihead import Padding
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

    def __init__(self, config: BlockConfig, layer: int) -> None:
        super().__init__()
        form = config.form(config.encoder_attention, layer)
        self.attention = attention_layer(config, rotary=config.positions == "rotary", form=form)
        self.attention_residual = Residual(config)
        self.feed_forward = FeedForward(config)
        self.feed_forward_residual = Residual(config)

    def forward(
        self, x: Float[Tensor, "rows length size"], padding: Padding, positions: Int[Tensor, "#rows length"]
    ) -> Float[Tensor, "rows length size"]:
        residual = self.attention_residual
        x = residual.after(x, self.attention(residual.before(x), padding, positions=positions))
        residual = self.feed_forward_residual
        return residual.after(x, self.feed_forward(residual.before(x)))


class TransformerEncoder(Encoder):
    """Embeddings and a stack of encoder layers."""

    def __init__(self, embedding: Embedding, config: BlockConfig, layers: int) -> None:
        super().__init__()
        self.shape = MemoryShape(config.size)
        self.embedding = embedding
        self.layers = nn.ModuleList(EncoderLayer(config, layer) for layer in range(layers))
        self.norm = normalization(config) if config.norm == "pre" else nn.Identity()

    def forward(self, source: Int[Tensor, "rows source"], lengths: Int[Tensor, " rows"]) -> Memory:
        length = source.shape[1]
        positions = torch.arange(length, device=source.device)[None]
        x = self.embedding(source, positions, length - 1)
        padding = Padding.of(lengths, length, x.dtype)
        for layer in self.layers:
            x = layer(x, padding, positions)
        x = self.norm(x)
        return Memory(keys=x, values=x, lengths=lengths)
