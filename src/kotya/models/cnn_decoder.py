"""A convolutional decoder: gated convolutions over the past, attention in every layer (Gehring et al. 2017).

    h_i = v([x_{i-k+1}; …; x_i])                    `cnn.py` has v
    d_i = (W_d h_i + β_d + g_i) √½                  query: the layer's output and the last word's embedding (3.3)
    a_i = softmax_j(score(d_i, z_j))
    c_i = √m Σ_j a_ij v_j                           over the m source positions (3.4)
    x_i = ((W_c c_i + β_c + h_i) √½ + x_i) √½       into the next layer

What it remembers of its past is the last k - 1 inputs of every layer: a step costs the same, however long the text.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn

from kotya.attention.caches import SourceIndex
from kotya.attention.custom import ScoreName, build_score
from kotya.attention.scores import DotScore
from kotya.attention.soft import SoftAttention, Source
from kotya.dropout import Dropout
from kotya.models.bridge import summary, summary_size
from kotya.models.cnn import HALF, ConvolutionalConfig, GatedConvolution, PositionedEmbedding, scaled_linear
from kotya.models.seq2seq import Decoder, Memory, MemoryShape


class CNNDecoderConfig(ConvolutionalConfig):
    """A stack of gated convolutions over the target so far."""

    layers: int = Field(4, ge=1)
    kernel: int = Field(3, ge=1)
    """k: inputs that a layer reads, its own position and those before it."""
    attention: bool = True
    """Look at the source in every layer; else a summary of the source is added to every embedding."""
    score: ScoreName = "dot"

    @property
    def output_size(self) -> int:
        return self.embedding

    def build(
        self, embedding: nn.Parameter, output: nn.Parameter, memory: MemoryShape, dropout: float
    ) -> "CNNDecoder":
        return CNNDecoder(self, embedding, output, memory, dropout)


class CNNDecoderLayer(nn.Module):
    """A gated convolution over the past, and a step of attention to the source."""

    def __init__(self, config: CNNDecoderConfig, memory: MemoryShape, dropout: float) -> None:
        super().__init__()
        self.convolution = GatedConvolution(config.size, config.kernel, dropout)
        self.cross: SoftAttention | None = None
        if config.attention:
            self.query = scaled_linear(config.size, config.embedding)
            self.cross = SoftAttention(build_score(config.score, config.embedding, memory.size))
            self.context = scaled_linear(memory.size, config.size)

    def forward(
        self,
        inputs: Float[Tensor, "rows inputs size"],
        x: Float[Tensor, "rows n size"],
        embedded: Float[Tensor, "rows n embedding"],
        source: "Looked | None",
    ) -> Float[Tensor, "rows n size"]:
        """`inputs` are the k - 1 before the n, and the n themselves, after dropout; `x` are the n before it."""
        hidden = self.convolution(inputs)
        if self.cross is not None and source is not None:
            query = (self.query(hidden) + embedded) * HALF
            context = self.cross(query, source.source, source.index) * source.scale.to(hidden.dtype)
            hidden = (self.context(context) + hidden) * HALF
        total: Tensor = (hidden + x) * HALF
        return total


@dataclass
class Looked:
    """What a layer's attention reads: the source as its score made it ready, whose row is whose, and √m of each row."""

    source: Source
    index: SourceIndex
    scale: Float[Tensor, "rows 1 1"]


@dataclass
class CNNState:
    """The last k - 1 inputs of every layer, and the source."""

    positions: Int[Tensor, " rows"]
    past: list[Float[Tensor, "rows before size"]]
    sources: list[Source]
    """One a layer, or one for all where the score is a dot product, which leaves keys alone; none without attention."""
    summary: Float[Tensor, "rows embedding"] | None
    """Of the source, without attention."""
    index: SourceIndex
    oldest: int = 0
    """No row has read more tokens; known without asking a device."""

    def select(self, rows: Int[Tensor, " kept"]) -> "CNNState":
        """Reorder, repeat or drop rows. Lines that no row reads any more leave."""
        kept, line = torch.unique(self.index.line[rows], return_inverse=True)
        sources = self.sources
        if len(kept) < self.index.lines:
            sources = [source.select(kept) for source in sources]
        return CNNState(
            positions=self.positions[rows],
            past=[x[rows] for x in self.past],
            sources=sources,
            summary=None if self.summary is None else self.summary[rows],
            index=SourceIndex(line, len(kept)),
            oldest=self.oldest,
        )

    def join(self, other: "CNNState") -> "CNNState":
        """The rows of both, this one's first."""
        summary = None
        if self.summary is not None and other.summary is not None:
            summary = torch.cat([self.summary, other.summary])
        return CNNState(
            positions=torch.cat([self.positions, other.positions]),
            past=[torch.cat(both) for both in zip(self.past, other.past, strict=True)],
            sources=[mine.join(theirs) for mine, theirs in zip(self.sources, other.sources, strict=True)],
            summary=summary,
            index=SourceIndex(
                torch.cat([self.index.line, other.index.line + self.index.lines]),
                self.index.lines + other.index.lines,
            ),
            oldest=max(self.oldest, other.oldest),
        )

    def looked(self, layers: int) -> "list[Looked | None]":
        """For the attention of every layer."""
        if not self.sources:
            return [None] * layers
        scale = self.sources[0].lengths.float().sqrt()[self.index.line, None, None]
        seen = [Looked(source, self.index, scale) for source in self.sources]
        return [seen[depth % len(seen)] for depth in range(layers)]


class CNNDecoder(Decoder):
    """Whole targets and single steps are the same code: `read` n tokens after those that the state remembers."""

    def __init__(
        self,
        config: CNNDecoderConfig,
        embedding: nn.Parameter,
        output: nn.Parameter,
        memory: MemoryShape,
        dropout: float,
    ) -> None:
        super().__init__()
        self.config = config
        self.embedding = PositionedEmbedding(embedding, config.max_length, dropout)
        self.summary = None if config.attention else scaled_linear(summary_size(memory), config.embedding)
        self.inner = scaled_linear(config.embedding, config.size)
        self.layers = nn.ModuleList(CNNDecoderLayer(config, memory, dropout) for _ in range(config.layers))
        self.outer = scaled_linear(config.size, config.embedding)
        self.dropout = Dropout(dropout)
        self.output_weight = output

    def output_weights(self) -> tuple[Float[Tensor, "vocabulary size"], None]:
        return self.output_weight, None

    def forward(
        self, targets: Int[Tensor, "rows length"], memory: Memory
    ) -> Float[Tensor, "rows length size"]:
        return self.read(targets, self.start(memory))[0]

    def start(self, memory: Memory) -> CNNState:
        rows = len(memory.lengths)
        before = memory.keys.new_zeros(rows, self.config.kernel - 1, self.config.size)
        crosses = [layer.cross for layer in self.layers if isinstance(layer.cross, SoftAttention)]
        alike = all(isinstance(cross.score, DotScore) for cross in crosses)
        return CNNState(
            positions=torch.zeros_like(memory.lengths),
            past=[before] * len(self.layers),
            sources=[
                cross.read(memory.keys, memory.values, memory.lengths)
                for cross in (crosses[:1] if alike else crosses)
            ],
            summary=None if self.summary is None else self.summary(summary(memory)),
            index=SourceIndex(torch.arange(rows, device=memory.lengths.device), rows),
        )

    def read(
        self, tokens: Int[Tensor, "rows n"], state: CNNState
    ) -> tuple[Float[Tensor, "rows n size"], CNNState]:
        """Hidden vectors after each of n tokens a row, and the state after all of them."""
        new = tokens.shape[1]
        places = state.positions[:, None] + torch.arange(new, device=tokens.device)
        embedded = self.embedding(tokens, places, state.oldest + new - 1)
        if state.summary is not None:
            embedded = (embedded + state.summary[:, None]) * HALF
        x, past = self.inner(embedded), []
        looked = state.looked(len(self.layers))
        for layer, before, source in zip(self.layers, state.past, looked, strict=True):
            assert isinstance(layer, CNNDecoderLayer)
            inputs = torch.cat([before.to(x.dtype), layer.convolution.dropout(x)], dim=1)
            past.append(inputs[:, new:])
            x = layer(inputs, x, embedded, source)
        state = replace(state, positions=state.positions + new, past=past, oldest=state.oldest + new)
        hidden: Tensor = self.dropout(self.outer(x))
        return hidden, state

    def extend(
        self, tokens: Int[Tensor, "rows n"], state: CNNState, *, all_positions: bool = False
    ) -> tuple[Float[Tensor, "rows *n vocabulary"], CNNState]:
        hidden, state = self.read(tokens, state)
        return self.output(hidden if all_positions else hidden[:, -1]), state
