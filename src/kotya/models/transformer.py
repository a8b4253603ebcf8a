"""The Transformer (Vaswani et al. 2017): attention, feed-forward layers, residuals, layer norm, and nothing recurrent.

Post-norm, as in the paper: x ← norm(x + dropout(sublayer(x))). Pre-norm: x ← x + dropout(sublayer(norm(x))), with
one more norm at the end (Xiong et al. 2020). The modern block (RMSNorm, SwiGLU, no bias, rotary positions) is the
same code with other parts.
"""

import math
from dataclasses import dataclass, field
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from pydantic import Field, model_validator
from torch import Tensor, nn

from kotya.attention.caches import SelfCache, SourceCache, SourceIndex, column_mask
from kotya.attention.kernels import Mask, causal_mask, padding_mask
from kotya.attention.multihead import MultiHeadAttention
from kotya.attention.positions import Layout, LearnedPositions, SinusoidalPositions
from kotya.config import Config, DropoutRate, wrong
from kotya.dropout import Dropout
from kotya.models.seq2seq import (
    Decoder,
    Encoder,
    Memory,
    MemoryShape,
    Seq2Seq,
    check_shared,
    embedding_weight,
)

Activation = Literal["relu", "gelu", "swish", "swiglu"]
Normalization = Literal["layer", "rms"]


class TransformerConfig(Config):
    """A Transformer encoder–decoder."""

    kind: Literal["transformer"] = "transformer"
    size: int = Field(256, ge=1)
    """Width of the residual stream."""
    heads: int = Field(4, ge=1)
    """Attention heads; they share the size between them."""
    feed_forward: int = Field(1024, ge=1)
    """Width inside the feed-forward layer."""
    encoder_layers: int = Field(3, ge=1)
    decoder_layers: int = Field(3, ge=1)
    dropout: DropoutRate = 0.1
    """On the embeddings and on the output of every sublayer (section 5.4 of the paper)."""
    attention_dropout: DropoutRate = 0.0
    """On the attention weights."""
    feed_forward_dropout: DropoutRate = 0.0
    """Inside the feed-forward layer, after the activation."""
    norm: Literal["post", "pre"] = "post"
    normalization: Normalization = "layer"
    activation: Activation = "relu"
    """`swiglu` has a gate, and a third matrix (Shazeer 2020)."""
    bias: bool = True
    """Biases on linear layers and norms."""
    positions: Literal["sinusoidal", "learned", "rotary"] = "sinusoidal"
    position_layout: Layout = "interleaved"
    """Order of sines and cosines: the paper's, or MarianMT's halves."""
    max_length: int = Field(512, ge=1)
    """Trained positions, where positions are learned."""
    share: Literal["all", "output", "none"] = "all"
    """One matrix for source, target and output (`all`, joint vocabularies only), for target and output, or none."""
    output_bias: bool = False
    scale_embedding: bool = True
    """Multiply embeddings by √size."""

    @model_validator(mode="after")
    def _heads_share_the_size(self) -> "TransformerConfig":
        check_heads(self.size, self.heads, rotary=self.positions == "rotary")
        return self

    def build(self, source_size: int, target_size: int) -> Seq2Seq:
        """A model with fresh weights (Glorot and Bengio 2010) for vocabularies of these sizes."""
        check_shared(self.share, source_size, target_size)
        source = Embedding(self, embedding_weight(source_size, self.size))
        target = source if self.share == "all" else Embedding(self, embedding_weight(target_size, self.size))
        output = target.weight if self.share != "none" else embedding_weight(target_size, self.size)
        encoder = TransformerEncoder(source, self)
        decoder = TransformerDecoder(target, output, self)
        return Seq2Seq(encoder, decoder)


def check_heads(size: int, heads: int, *, rotary: bool = False) -> None:
    """Raises a ValidationError where the heads cannot share the size, or sines and cosines find no pairs in it."""
    if size % heads:
        raise wrong(
            ("heads",), f"{heads} heads cannot share size {size}: it must be a multiple of them", heads
        )
    if size % 2 or (rotary and size // heads % 2):
        even = f"size {size} (rotary positions: that of a head, {size // heads}) must be even"
        raise wrong(("size",), f"{even}: sines and cosines come in pairs", size)


class TransformerPartConfig(Config):
    """A Transformer encoder or decoder beside another kind of part; what is not here is as in the paper."""

    kind: Literal["transformer"]
    size: int = Field(256, ge=1)
    """Width of the residual stream, embeddings included."""
    heads: int = Field(4, ge=1)
    feed_forward: int = Field(1024, ge=1)
    layers: int = Field(3, ge=1)
    norm: Literal["post", "pre"] = "post"

    @model_validator(mode="after")
    def _heads_share_the_size(self) -> "TransformerPartConfig":
        check_heads(self.size, self.heads)
        return self

    @property
    def embedding_size(self) -> int:
        return self.size

    def whole(self, dropout: float) -> TransformerConfig:
        """The same as the config of a whole Transformer."""
        return TransformerConfig(
            size=self.size,
            heads=self.heads,
            feed_forward=self.feed_forward,
            encoder_layers=self.layers,
            decoder_layers=self.layers,
            norm=self.norm,
            dropout=dropout,
        )


class TransformerEncoderConfig(TransformerPartConfig):
    """A Transformer encoder."""

    def build(self, embedding: nn.Parameter, dropout: float) -> "TransformerEncoder":
        config = self.whole(dropout)
        return TransformerEncoder(Embedding(config, embedding), config)


class TransformerDecoderConfig(TransformerPartConfig):
    """A Transformer decoder."""

    @property
    def output_size(self) -> int:
        return self.size

    def build(
        self, embedding: nn.Parameter, output: nn.Parameter, memory: MemoryShape, dropout: float
    ) -> "TransformerDecoder":
        config = self.whole(dropout)
        return TransformerDecoder(Embedding(config, embedding), output, config, memory_size=memory.size)


PRESETS: dict[str, TransformerConfig] = {
    "transformer-tiny": TransformerConfig(
        size=128, heads=4, feed_forward=512, encoder_layers=3, decoder_layers=3
    ),
    "transformer-small": TransformerConfig(
        size=256, heads=4, feed_forward=1024, encoder_layers=3, decoder_layers=3
    ),
    "transformer-base": TransformerConfig(
        size=512, heads=8, feed_forward=2048, encoder_layers=6, decoder_layers=6
    ),
    "transformer-big": TransformerConfig(
        size=1024, heads=16, feed_forward=4096, encoder_layers=6, decoder_layers=6, dropout=0.3
    ),
}


def normalization(config: TransformerConfig) -> nn.Module:
    """Layer norm (Ba et al. 2016), or RMSNorm (Zhang and Sennrich 2019), which only scales."""
    if config.normalization == "rms":
        return nn.RMSNorm(config.size, eps=1e-6)
    return nn.LayerNorm(config.size, bias=config.bias)


def linear(inputs: int, outputs: int, bias: bool) -> nn.Linear:
    layer = nn.Linear(inputs, outputs, bias=bias)
    nn.init.xavier_uniform_(layer.weight)
    if bias:
        nn.init.zeros_(layer.bias)
    return layer


class Embedding(nn.Module):
    """Token embedding · √size + position, with dropout on the sum."""

    def __init__(self, config: TransformerConfig, weight: nn.Parameter) -> None:
        super().__init__()
        self.weight = weight
        self.scale = math.sqrt(config.size) if config.scale_embedding else 1.0
        self.dropout = Dropout(config.dropout)
        self.positions: SinusoidalPositions | LearnedPositions | None = None
        if config.positions == "sinusoidal":
            self.positions = SinusoidalPositions(config.size, config.position_layout)
        elif config.positions == "learned":
            self.positions = LearnedPositions(config.size, config.max_length)
            nn.init.normal_(self.positions.weight, std=config.size**-0.5)

    def forward(
        self, ids: Int[Tensor, "rows length"], positions: Int[Tensor, "#rows length"], highest: int
    ) -> Float[Tensor, "rows length size"]:
        x = F.embedding(ids, self.weight) * self.scale
        if self.positions is not None:
            x = x + self.positions(positions, highest)
        kind = x.device.type
        if torch.is_autocast_enabled(kind):
            # the residual stream takes the cheap type as a whole: nothing is cast back and forth between layers
            x = x.to(torch.get_autocast_dtype(kind))
        dropped: Tensor = self.dropout(x)
        return dropped


class FeedForward(nn.Module):
    """FFN(x) = activation(x W_inner) W_outer, or with a gate: (swish(x W_gate) · x W_inner) W_outer."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.activation = config.activation
        self.inner = linear(config.size, config.feed_forward, config.bias)
        self.gate = (
            linear(config.size, config.feed_forward, config.bias) if config.activation == "swiglu" else None
        )
        self.outer = linear(config.feed_forward, config.size, config.bias)
        self.dropout = Dropout(config.feed_forward_dropout)

    def forward(self, x: Float[Tensor, "rows length size"]) -> Float[Tensor, "rows length size"]:
        inner = self.inner(x)
        if self.activation == "relu":
            hidden = self.dropout.relu(inner)
        elif self.gate is not None:
            hidden = self.dropout(F.silu(self.gate(x)) * inner)
        else:
            hidden = self.dropout(F.gelu(inner) if self.activation == "gelu" else F.silu(inner))
        output: Tensor = self.outer(hidden)
        return output


class Residual(nn.Module):
    """What stands around every sublayer: a norm before it or after it, dropout, and the sum with its input."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.norm = normalization(config)
        self.pre = config.norm == "pre"
        self.dropout = Dropout(config.dropout)

    def before(self, x: Float[Tensor, "rows length size"]) -> Float[Tensor, "rows length size"]:
        normed: Tensor = self.norm(x) if self.pre else x
        return normed

    def after(
        self, x: Float[Tensor, "rows length size"], output: Float[Tensor, "rows length size"]
    ) -> Float[Tensor, "rows length size"]:
        total = self.dropout.add(x, output)
        normed: Tensor = total if self.pre else self.norm(total)
        return normed


def _attention(
    config: TransformerConfig, *, rotary: bool, memory_size: int | None = None
) -> MultiHeadAttention:
    attention = MultiHeadAttention(
        config.size,
        config.heads,
        dropout=config.attention_dropout,
        bias=config.bias,
        rotary=rotary,
        memory_size=memory_size,
    )
    # as if query, key and value were one stacked matrix; with full gain the loss fell more slowly on every trial
    for layer in (attention.query, attention.key, attention.value):
        nn.init.xavier_uniform_(layer.weight, gain=2**-0.5)
    nn.init.xavier_uniform_(attention.output.weight)
    if config.bias:
        for layer in (attention.query, attention.key, attention.value, attention.output):
            nn.init.zeros_(layer.bias)
    return attention


class EncoderLayer(nn.Module):
    """Self-attention and feed-forward."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.attention = _attention(config, rotary=config.positions == "rotary")
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

    def __init__(self, embedding: Embedding, config: TransformerConfig) -> None:
        super().__init__()
        self.shape = MemoryShape(config.size)
        self.embedding = embedding
        self.layers = nn.ModuleList(EncoderLayer(config) for _ in range(config.encoder_layers))
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


class DecoderLayer(nn.Module):
    """Masked self-attention, cross-attention over the memory, and feed-forward."""

    def __init__(self, config: TransformerConfig, memory_size: int | None) -> None:
        super().__init__()
        self.attention = _attention(config, rotary=config.positions == "rotary")
        self.attention_residual = Residual(config)
        self.cross = _attention(config, rotary=False, memory_size=memory_size)
        self.cross_residual = Residual(config)
        self.feed_forward = FeedForward(config)
        self.feed_forward_residual = Residual(config)

    def forward(
        self,
        x: Float[Tensor, "rows length size"],
        memory: Memory,
        mask: Mask | None,
        positions: Int[Tensor, "#rows length"],
    ) -> Float[Tensor, "rows length size"]:
        """Over whole targets: the causal mask alone keeps real positions from padding on the right."""
        residual = self.attention_residual
        x = residual.after(x, self.attention(residual.before(x), None, causal=True, positions=positions))
        residual = self.cross_residual
        key, value = self.cross.keys_values(memory.keys, values=memory.values)
        x = residual.after(x, self.cross.attend(self.cross.queries(residual.before(x)), key, value, mask))
        residual = self.feed_forward_residual
        return residual.after(x, self.feed_forward(residual.before(x)))

    def extend(
        self,
        x: Float[Tensor, "rows n size"],
        state: "TransformerState",
        depth: int,
        positions: Int[Tensor, "rows n"],
        mask: Mask | None,
    ) -> Float[Tensor, "rows n size"]:
        """The same for n new positions; the past is read from the state, and the new keys are written to it."""
        residual = self.attention_residual
        before = residual.before(x)
        key, value = state.past[depth].append(*self.attention.keys_values(before, positions))
        query = self.attention.queries(before, positions)
        x = residual.after(x, self.attention.attend(query, key, value, mask))
        residual = self.cross_residual
        query = state.index.spread(self.cross.queries(residual.before(x)))
        context = self.cross.attend(query, *state.source[depth].read(), state.source_mask)
        x = residual.after(x, state.index.gather(context, x.shape[1]))
        residual = self.feed_forward_residual
        return residual.after(x, self.feed_forward(residual.before(x)))


@dataclass
class TransformerState:
    """Keys and values of every layer, of the rows' own past and of the lines they read."""

    positions: Int[Tensor, "rows"]
    past: list[SelfCache]
    source: list[SourceCache]
    lengths: Int[Tensor, "lines"]
    index: SourceIndex
    oldest: int = field(init=False)
    """The most tokens any row has read, known on the host."""
    aligned: bool = field(init=False)
    """Whether every row is as old as the oldest, so that no column needs masking."""
    source_mask: Mask | None = field(init=False)

    def __post_init__(self) -> None:
        rows = len(self.positions)
        self.oldest = int(self.positions.max()) if rows else 0
        self.aligned = rows == 0 or int(self.positions.min()) == self.oldest
        self.source_mask = None
        if self.source:
            keys = self.source[0].keys
            self.source_mask = padding_mask(self.lengths, len(keys), keys.dtype)

    def select(self, rows: Int[Tensor, "kept"]) -> "TransformerState":
        """Reorder, repeat or drop rows. Lines that no row reads any more leave, and so do columns."""
        positions = self.positions[rows]
        columns = int(positions.max()) if len(rows) else 0
        kept, line = torch.unique(self.index.line[rows], return_inverse=True)
        source, lengths = self.source, self.lengths
        if len(kept) < self.index.lines:
            lengths = lengths[kept]
            longest = int(lengths.max()) if len(kept) else 0
            source = [cache.select(kept, longest) for cache in source]
        past = [cache.select(rows, columns) for cache in self.past]
        return TransformerState(positions, past, source, lengths, SourceIndex(line, len(kept)))

    def join(self, other: "TransformerState") -> "TransformerState":
        """The rows of both, this one's first."""
        line = torch.cat([self.index.line, other.index.line + self.index.lines])
        return TransformerState(
            positions=torch.cat([self.positions, other.positions]),
            past=[mine.join(theirs) for mine, theirs in zip(self.past, other.past, strict=True)],
            source=[mine.join(theirs) for mine, theirs in zip(self.source, other.source, strict=True)],
            lengths=torch.cat([self.lengths, other.lengths]),
            index=SourceIndex(line, self.index.lines + other.index.lines),
        )

    def advance(self, new: int, dtype: torch.dtype) -> tuple[Int[Tensor, "rows n"], Mask | None]:
        """Count n new tokens in every row; their positions, and what they may see of the past and of each other."""
        positions = self.positions[:, None] + torch.arange(new, device=self.positions.device)
        self.positions = self.positions + new
        self.oldest += new
        if self.aligned and new == 1:
            return positions, None
        mask = column_mask(self.positions, self.oldest, dtype)
        return positions, mask if new == 1 else mask + causal_mask(new, self.oldest, dtype, mask.device)


class TransformerDecoder(Decoder):
    """Embeddings, a stack of decoder layers, and the matrix that scores every piece of the vocabulary."""

    def __init__(
        self,
        embedding: Embedding,
        output: nn.Parameter,
        config: TransformerConfig,
        *,
        memory_size: int | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.embedding = embedding
        self.layers = nn.ModuleList(DecoderLayer(config, memory_size) for _ in range(config.decoder_layers))
        self.norm = normalization(config) if config.norm == "pre" else nn.Identity()
        self.output_weight = output
        self.output_bias = nn.Parameter(torch.zeros(len(output))) if config.output_bias else None

    def output_weights(self) -> tuple[Float[Tensor, "vocabulary size"], Float[Tensor, "vocabulary"] | None]:
        return self.output_weight, self.output_bias

    def forward(
        self, targets: Int[Tensor, "rows length"], memory: Memory
    ) -> Float[Tensor, "rows length size"]:
        length = targets.shape[1]
        positions = torch.arange(length, device=targets.device)[None]
        x = self.embedding(targets, positions, length - 1)
        mask = padding_mask(memory.lengths, memory.keys.shape[1], x.dtype)
        for layer in self.layers:
            x = layer(x, memory, mask, positions)
        hidden: Tensor = self.norm(x)
        return hidden

    def start(self, memory: Memory) -> TransformerState:
        rows, heads = len(memory.lengths), self.config.heads
        layers = [layer for layer in self.layers if isinstance(layer, DecoderLayer)]
        size = self.config.size // heads
        return TransformerState(
            positions=torch.zeros_like(memory.lengths),
            past=[SelfCache.empty(rows, heads, size, memory.keys) for _ in layers],
            source=[
                SourceCache.of(*layer.cross.keys_values(memory.keys, values=memory.values))
                for layer in layers
            ],
            lengths=memory.lengths,
            index=SourceIndex(torch.arange(rows, device=memory.lengths.device), rows),
        )

    def extend(
        self, tokens: Int[Tensor, "rows n"], state: TransformerState, *, all_positions: bool = False
    ) -> tuple[Float[Tensor, "rows *n vocabulary"], TransformerState]:
        new = tokens.shape[1]
        positions, mask = state.advance(new, state.past[0].keys.dtype)
        x = self.embedding(tokens, positions, state.oldest - 1)
        for depth, layer in enumerate(self.layers):
            assert isinstance(layer, DecoderLayer)
            x = layer.extend(x, state, depth, positions, mask)
        hidden = self.norm(x if all_positions else x[:, -1])
        return self.output(hidden), state
