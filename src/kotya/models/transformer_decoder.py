"""The Transformer's decoder (Vaswani et al. 2017, section 3.1), over whole targets and token by token."""

from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from kotya.attention.caches import Cache, SelfCache, SourceCache, SourceIndex, column_mask
from kotya.attention.kernels import Mask, causal_mask, padding_mask
from kotya.attention.multihead import Padding
from kotya.models.seq2seq import Decoder, Memory, MemoryShape
from kotya.models.transformer_block import (
    BlockConfig,
    Embedding,
    FeedForward,
    Residual,
    TransformerPartConfig,
    attention_layer,
    normalization,
)


class TransformerDecoderConfig(TransformerPartConfig):
    """A Transformer decoder."""

    @property
    def output_size(self) -> int:
        return self.size

    def build(
        self, embedding: nn.Parameter, output: nn.Parameter, memory: MemoryShape, dropout: float
    ) -> "TransformerDecoder":
        config = self.block(dropout)
        return TransformerDecoder(
            Embedding(config, embedding), output, config, self.layers, memory_size=memory.size
        )


class DecoderLayer(nn.Module):
    """Masked self-attention, cross-attention over the memory, and feed-forward."""

    def __init__(self, config: BlockConfig, memory_size: int | None, layer: int) -> None:
        super().__init__()
        form = config.form(config.decoder_attention, layer)
        self.attention = attention_layer(config, rotary=config.positions == "rotary", form=form)
        self.attention_residual = Residual(config)
        across = config.form(config.cross_attention, layer)
        self.cross = attention_layer(config, rotary=False, memory_size=memory_size, form=across)
        self.cross_residual = Residual(config)
        self.feed_forward = FeedForward(config)
        self.feed_forward_residual = Residual(config)

    def forward(
        self,
        x: Float[Tensor, "rows length size"],
        memory: Memory,
        padding: Padding,
        positions: Int[Tensor, "#rows length"],
    ) -> Float[Tensor, "rows length size"]:
        """Over whole targets: the causal mask alone keeps real positions from padding on the right."""
        residual = self.attention_residual
        x = residual.after(x, self.attention(residual.before(x), None, causal=True, positions=positions))
        residual = self.cross_residual
        key, value = self.cross.keys_values(memory.keys, values=memory.values)
        query = self.cross.queries(residual.before(x))
        x = residual.after(x, self.cross.attend(query, key, value, padding, cross=True))
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
        x = residual.after(x, self.attention.extend(before, state.past[depth], positions, mask))
        residual = self.cross_residual
        query, source = state.index.spread(self.cross.queries(residual.before(x))), state.source[depth]
        places = state.index.spread(positions[:, :, None, None].float())[:, :, 0, 0].long()
        context = self.cross.across(query, source, state.source_mask(source), places)
        x = residual.after(x, state.index.gather(context, x.shape[1]))
        residual = self.feed_forward_residual
        return residual.after(x, self.feed_forward(residual.before(x)))


@dataclass
class TransformerState:
    """Keys and values of every layer, of the rows' own past and of the lines they read."""

    positions: Int[Tensor, " rows"]
    past: list[Cache]
    source: list[Cache]
    lengths: Int[Tensor, " lines"]
    index: SourceIndex
    dtype: torch.dtype
    """Of masks."""
    oldest: int = field(init=False)
    """The most tokens any row has read, known on the host."""
    aligned: bool = field(init=False)
    """Whether every row is as old as the oldest, so that no column needs masking."""
    _masks: dict[int, Mask | None] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        rows = len(self.positions)
        self.oldest = int(self.positions.max()) if rows else 0
        self.aligned = rows == 0 or int(self.positions.min()) == self.oldest

    def source_mask(self, source: Cache) -> Mask | None:
        """What hides the columns behind the ends of the lines."""
        if not isinstance(source, SourceCache):
            return None
        columns = len(source.keys)
        if columns not in self._masks:
            self._masks[columns] = padding_mask(self.lengths, columns, source.keys.dtype)
        return self._masks[columns]

    def select(self, rows: Int[Tensor, " kept"]) -> "TransformerState":
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
        return TransformerState(positions, past, source, lengths, SourceIndex(line, len(kept)), self.dtype)

    def join(self, other: "TransformerState") -> "TransformerState":
        """The rows of both, this one's first."""
        line = torch.cat([self.index.line, other.index.line + self.index.lines])
        return TransformerState(
            positions=torch.cat([self.positions, other.positions]),
            past=[mine.join(theirs) for mine, theirs in zip(self.past, other.past, strict=True)],
            source=[mine.join(theirs) for mine, theirs in zip(self.source, other.source, strict=True)],
            lengths=torch.cat([self.lengths, other.lengths]),
            index=SourceIndex(line, self.index.lines + other.index.lines),
            dtype=self.dtype,
        )

    def advance(self, new: int) -> tuple[Int[Tensor, "rows n"], Mask | None]:
        """Count n new tokens in every row; their positions, and what they may see of the past and of each other.

        Layers with patterns or linear forms know that by themselves: where all are such no mask of n² is made.
        """
        positions = self.positions[:, None] + torch.arange(new, device=self.positions.device)
        self.positions = self.positions + new
        self.oldest += new
        asked = any(isinstance(past, SelfCache) for past in self.past)
        if not asked or (self.aligned and new == 1):
            return positions, None
        mask = column_mask(self.positions, self.oldest, self.dtype)
        return positions, mask if new == 1 else mask + causal_mask(new, self.oldest, self.dtype, mask.device)


class TransformerDecoder(Decoder):
    """Embeddings, a stack of decoder layers, and the matrix that scores every piece of the vocabulary."""

    def __init__(
        self,
        embedding: Embedding,
        output: nn.Parameter,
        config: BlockConfig,
        layers: int,
        *,
        memory_size: int | None = None,
        output_bias: bool = False,
    ) -> None:
        super().__init__()
        self.config = config
        self.embedding = embedding
        self.layers = nn.ModuleList(DecoderLayer(config, memory_size, layer) for layer in range(layers))
        self.norm = normalization(config) if config.norm == "pre" else nn.Identity()
        self.output_weight = output
        self.output_bias = nn.Parameter(torch.zeros(len(output))) if output_bias else None

    def output_weights(self) -> tuple[Float[Tensor, "vocabulary size"], Float[Tensor, " vocabulary"] | None]:
        return self.output_weight, self.output_bias

    def forward(
        self, targets: Int[Tensor, "rows length"], memory: Memory
    ) -> Float[Tensor, "rows length size"]:
        length = targets.shape[1]
        positions = torch.arange(length, device=targets.device)[None]
        x = self.embedding(targets, positions, length - 1)
        padding = Padding.of(memory.lengths, memory.keys.shape[1], x.dtype)
        for layer in self.layers:
            x = layer(x, memory, padding, positions)
        hidden: Tensor = self.norm(x)
        return hidden

    def start(self, memory: Memory) -> TransformerState:
        rows = len(memory.lengths)
        layers = [layer for layer in self.layers if isinstance(layer, DecoderLayer)]
        return TransformerState(
            positions=torch.zeros_like(memory.lengths),
            past=[layer.attention.new_cache(rows, memory.keys) for layer in layers],
            source=[layer.cross.source(memory.keys, memory.values, memory.lengths) for layer in layers],
            lengths=memory.lengths,
            index=SourceIndex(torch.arange(rows, device=memory.lengths.device), rows),
            dtype=memory.keys.dtype,
        )

    def extend(
        self, tokens: Int[Tensor, "rows n"], state: TransformerState, *, all_positions: bool = False
    ) -> tuple[Float[Tensor, "rows *n vocabulary"], TransformerState]:
        new = tokens.shape[1]
        positions, mask = state.advance(new)
        x = self.embedding(tokens, positions, state.oldest - 1)
        for depth, layer in enumerate(self.layers):
            assert isinstance(layer, DecoderLayer)
            x = layer.extend(x, state, depth, positions, mask)
        hidden = self.norm(x if all_positions else x[:, -1])
        return self.output(hidden), state
