"""Recurrent decoders: h_t = f(y_{t-1}, h_{t-1}). Here is what they share, and the one without attention.

Without attention, all that is known of the source is h_0, the encoder's last state (Sutskever et al. 2014); or a
summary of the source is also part of the input of every step (Cho et al. 2014). Decoders with attention are in
`luong.py` and `bahdanau.py`.
"""

from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn

from kotya.attention.caches import SourceIndex
from kotya.attention.soft import SoftAttention, Source
from kotya.config import Config
from kotya.dropout import Dropout
from kotya.models.bridge import Bridge, summary, summary_size
from kotya.models.rnn import RecurrentStack, TokenEmbedding
from kotya.models.seq2seq import CellKind, Decoder, Memory, MemoryShape


class RecurrentConfig(Config):
    """What every recurrent decoder has."""

    cell: CellKind = "gru"
    size: int = Field(256, ge=1)
    """Width of a state."""
    embedding: int = Field(256, ge=1)
    """Width of the embeddings."""

    @property
    def embedding_size(self) -> int:
        return self.embedding


class RNNDecoderConfig(RecurrentConfig):
    """A recurrent decoder without attention: the source is one vector."""

    kind: Literal["rnn"]
    layers: int = Field(1, ge=1)
    feed_summary: bool = False
    """Show every step the summary of the source, not the first alone (Cho et al. 2014)."""

    @property
    def output_size(self) -> int:
        return self.size

    def build(
        self, embedding: nn.Parameter, output: nn.Parameter, memory: MemoryShape, dropout: float
    ) -> "RNNDecoder":
        return RNNDecoder(self, embedding, output, memory, dropout)


@dataclass
class RNNState:
    """The states of every layer, what else the next step reads, and the source where there is attention."""

    positions: Int[Tensor, " rows"]
    hidden: Float[Tensor, "rows layers size"]
    cells: Float[Tensor, "rows layers size"] | None
    """LSTM's."""
    fed: Float[Tensor, "rows fed"] | None
    """Also part of the next step's input: Cho's summary, Luong's attentional vector."""
    source: Source | None
    index: SourceIndex

    def select(self, rows: Int[Tensor, " kept"]) -> "RNNState":
        """Reorder, repeat or drop rows. Lines that no row reads any more leave."""
        kept, line = torch.unique(self.index.line[rows], return_inverse=True)
        source = self.source
        if source is not None and len(kept) < self.index.lines:
            source = source.select(kept)
        return RNNState(
            positions=self.positions[rows],
            hidden=self.hidden[rows],
            cells=None if self.cells is None else self.cells[rows],
            fed=None if self.fed is None else self.fed[rows],
            source=source,
            index=SourceIndex(line, len(kept)),
        )

    def join(self, other: "RNNState") -> "RNNState":
        """The rows of both, this one's first."""
        line = torch.cat([self.index.line, other.index.line + self.index.lines])
        source = None
        if self.source is not None and other.source is not None:
            source = self.source.join(other.source)
        return RNNState(
            positions=torch.cat([self.positions, other.positions]),
            hidden=torch.cat([self.hidden, other.hidden]),
            cells=_both(self.cells, other.cells),
            fed=_both(self.fed, other.fed),
            source=source,
            index=SourceIndex(line, self.index.lines + other.index.lines),
        )


def _both(first: Tensor | None, second: Tensor | None) -> Tensor | None:
    return None if first is None or second is None else torch.cat([first, second])


class RecurrentDecoder(Decoder):
    """Whole targets and single steps are the same code: `read` n tokens and go on from there."""

    recurrent = True

    def __init__(
        self,
        config: RecurrentConfig,
        embedding: nn.Parameter,
        output: nn.Parameter,
        dropout: float,
        *,
        bridge: Bridge,
        layers: int,
    ) -> None:
        super().__init__()
        self.size = config.size
        self.embedding = TokenEmbedding(embedding, dropout)
        self.stack = RecurrentStack(config.cell, config.embedding, config.size, layers, dropout)
        self.bridge = bridge
        self.dropout = Dropout(dropout)
        self.output_weight = output

    @abstractmethod
    def read(
        self, tokens: Int[Tensor, "rows n"], state: RNNState
    ) -> tuple[Float[Tensor, "rows n size"], RNNState]:
        """Hidden vectors after each of n tokens a row, and the state after all of them."""

    def output_weights(self) -> tuple[Float[Tensor, "vocabulary size"], None]:
        return self.output_weight, None

    def forward(
        self, targets: Int[Tensor, "rows length"], memory: Memory
    ) -> Float[Tensor, "rows length size"]:
        return self.read(targets, self.start(memory))[0]

    def start(self, memory: Memory) -> RNNState:
        hidden, cells = self.bridge(memory)
        rows = torch.arange(len(memory.lengths), device=memory.lengths.device)
        index = SourceIndex(rows, len(rows))
        cross = getattr(self, "cross", None)
        source = (
            cross.read(memory.keys, memory.values, memory.lengths)
            if isinstance(cross, SoftAttention)
            else None
        )
        return RNNState(torch.zeros_like(memory.lengths), hidden, cells, None, source, index)

    def extend(
        self, tokens: Int[Tensor, "rows n"], state: RNNState, *, all_positions: bool = False
    ) -> tuple[Float[Tensor, "rows *n vocabulary"], RNNState]:
        hidden, state = self.read(tokens, state)
        return self.output(hidden if all_positions else hidden[:, -1]), state


class RNNDecoder(RecurrentDecoder):
    """Without attention."""

    def __init__(
        self,
        config: RNNDecoderConfig,
        embedding: nn.Parameter,
        output: nn.Parameter,
        memory: MemoryShape,
        dropout: float,
    ) -> None:
        bridge = Bridge(memory, config.cell, config.layers, config.size)
        super().__init__(config, embedding, output, dropout, bridge=bridge, layers=config.layers)
        self.summary: nn.Linear | None = None
        if config.feed_summary:
            gates = self.stack.first.cell.gates * config.size
            self.summary = nn.Linear(summary_size(memory), gates, bias=False)
            nn.init.xavier_uniform_(self.summary.weight)

    def start(self, memory: Memory) -> RNNState:
        state = super().start(memory)
        return state if self.summary is None else replace(state, fed=self.summary(summary(memory)))

    def read(
        self, tokens: Int[Tensor, "rows n"], state: RNNState
    ) -> tuple[Float[Tensor, "rows n size"], RNNState]:
        x = self.stack.first.input(self.embedding(tokens.t()))
        if state.fed is not None:
            x = x + state.fed
        outputs, hidden, cells = self.stack(x, state.hidden, state.cells)
        positions = state.positions + tokens.shape[1]
        state = replace(state, positions=positions, hidden=hidden, cells=cells)
        return self.dropout(outputs).transpose(0, 1), state
