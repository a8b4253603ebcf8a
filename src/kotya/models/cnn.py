"""Convolutions on either side (ConvS2S, Gehring et al. 2017): all positions at once, attention in every layer.

    e_i = w_i + p_i                                             token and learned position (section 3.1)
    v(x) = a · σ(b),  [a; b] = W [x_{i-r}; …; x_{i+r}] + β      gated convolution over k inputs (3.2)
    d_i = (W_d h_i + β_d + g_i) √½                              query: the layer's output and the last word's embedding
    c_i = √m Σ_j a_ij (z_j + e_j) √½                            over the m source positions (3.3, 3.4)
    a_i = softmax_j(score(d_i, z_j))

Every sum of two is scaled by √½, so that the variance stays (3.4). What a decoder remembers of its past is the last
k - 1 inputs of every layer. A convolution is one matrix product over k neighbours laid side by side.
The paper divides the encoder's gradient by twice the number of attention layers; under Adam that would change nothing
but the clipping, and is left out.
"""

import math
from dataclasses import dataclass, field
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from pydantic import AfterValidator, Field
from torch import Tensor, nn

from kotya.attention.caches import SourceIndex
from kotya.attention.custom import ScoreName, build_score
from kotya.attention.positions import LearnedPositions
from kotya.attention.soft import SoftAttention, Source
from kotya.config import Config
from kotya.dropout import Dropout
from kotya.models.bridge import summary, summary_size
from kotya.models.seq2seq import Decoder, Encoder, Memory, MemoryShape

_HALF = math.sqrt(0.5)


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


def _linear(inputs: int, outputs: int, *, gain: float = 1.0) -> nn.Linear:
    """Normal weights that keep the variance of what goes through; a gated output needs a gain of 4 (section 3.5)."""
    layer = nn.Linear(inputs, outputs)
    nn.init.normal_(layer.weight, std=math.sqrt(gain / inputs))
    nn.init.zeros_(layer.bias)
    return layer


class PositionedEmbedding(nn.Module):
    """e = token + position, with dropout."""

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
        self.linear = _linear(kernel * size, 2 * size, gain=4.0 * (1.0 - dropout))

    def forward(self, x: Float[Tensor, "rows inputs size"]) -> Float[Tensor, "rows outputs size"]:
        """outputs = inputs - k + 1: what stands outside the text is the caller's to put there."""
        outputs = x.shape[1] - self.kernel + 1
        windows = torch.cat([x[:, first : first + outputs] for first in range(self.kernel)], dim=2)
        gated: Tensor = F.glu(self.linear(windows), dim=-1)
        return gated


class CNNEncoder(Encoder):
    """Gated convolutions with residuals. Keys are z, what comes out at the top; values are z + e."""

    def __init__(self, config: CNNEncoderConfig, embedding: nn.Parameter, dropout: float) -> None:
        super().__init__()
        self.shape = MemoryShape(config.embedding)
        self.reach = config.kernel // 2
        self.embedding = PositionedEmbedding(embedding, config.max_length, dropout)
        self.inner = _linear(config.embedding, config.size)
        self.layers = nn.ModuleList(
            GatedConvolution(config.size, config.kernel, dropout) for _ in range(config.layers)
        )
        self.outer = _linear(config.size, config.embedding)

    def forward(self, source: Int[Tensor, "rows source"], lengths: Int[Tensor, "rows"]) -> Memory:
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
            x = (layer(F.pad(inputs, (0, 0, self.reach, self.reach))) + x) * _HALF
        keys = self.outer(x)
        return Memory(keys=keys, values=(keys + embedded) * _HALF, lengths=lengths)

    @staticmethod
    def _padding(
        places: Int[Tensor, "1 source"], lengths: Int[Tensor, "rows"]
    ) -> Bool[Tensor, "rows source 1"] | None:
        """What no convolution may read; None where nothing is padded."""
        behind = places >= lengths[:, None]
        return behind[:, :, None] if bool(behind.any()) else None


class CNNDecoderLayer(nn.Module):
    """A gated convolution over the past, and a step of attention to the source."""

    def __init__(self, config: CNNDecoderConfig, memory: MemoryShape, dropout: float) -> None:
        super().__init__()
        self.convolution = GatedConvolution(config.size, config.kernel, dropout)
        self.cross: SoftAttention | None = None
        if config.attention:
            self.query = _linear(config.size, config.embedding)
            self.cross = SoftAttention(build_score(config.score, config.embedding, memory.size))
            self.context = _linear(memory.size, config.size)

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
            query = (self.query(hidden) + embedded) * _HALF
            context = self.cross(query, source.source, source.index) * source.scale.to(hidden.dtype)
            hidden = (self.context(context) + hidden) * _HALF
        total: Tensor = (hidden + x) * _HALF
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

    positions: Int[Tensor, "rows"]
    past: list[Float[Tensor, "rows before size"]]
    sources: list[Source]
    """One a layer, or one for all where the score learns nothing; none without attention."""
    summary: Float[Tensor, "rows embedding"] | None
    """Of the source, without attention."""
    index: SourceIndex
    oldest: int = field(init=False)
    """The most tokens any row has read, known on the host."""

    def __post_init__(self) -> None:
        self.oldest = int(self.positions.max()) if len(self.positions) else 0

    def select(self, rows: Int[Tensor, "kept"]) -> "CNNState":
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
        )

    def looked(self, depth: int) -> Looked | None:
        """For the attention of a layer."""
        if not self.sources:
            return None
        source = self.sources[depth if len(self.sources) > 1 else 0]
        scale = source.lengths.float().sqrt()[self.index.line]
        return Looked(source, self.index, scale[:, None, None])


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
        self.summary = None if config.attention else _linear(summary_size(memory), config.embedding)
        self.inner = _linear(config.embedding, config.size)
        self.layers = nn.ModuleList(CNNDecoderLayer(config, memory, dropout) for _ in range(config.layers))
        self.outer = _linear(config.size, config.embedding)
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
        learned = any(True for cross in crosses for _ in cross.parameters())
        return CNNState(
            positions=torch.zeros_like(memory.lengths),
            past=[before] * len(self.layers),
            sources=[
                cross.read(memory.keys, memory.values, memory.lengths)
                for cross in (crosses if learned else crosses[:1])
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
            embedded = (embedded + state.summary[:, None]) * _HALF
        x, past = self.inner(embedded), []
        for depth, layer in enumerate(self.layers):
            assert isinstance(layer, CNNDecoderLayer)
            inputs = torch.cat([state.past[depth].to(x.dtype), layer.convolution.dropout(x)], dim=1)
            past.append(inputs[:, new:])
            x = layer(inputs, x, embedded, state.looked(depth))
        state = CNNState(state.positions + new, past, state.sources, state.summary, state.index)
        hidden: Tensor = self.dropout(self.outer(x))
        return hidden, state

    def extend(
        self, tokens: Int[Tensor, "rows n"], state: CNNState, *, all_positions: bool = False
    ) -> tuple[Float[Tensor, "rows *n vocabulary"], CNNState]:
        hidden, state = self.read(tokens, state)
        return self.output(hidden if all_positions else hidden[:, -1]), state
