"""p(y|x, θ): an encoder reads x into a memory, a decoder predicts y from it, token by token.

log p(y|x) = Σ_t log p(y_t | y_<t, x). Any encoder goes with any decoder that speaks the protocol below.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from kotya.errors import KotyaError
from kotya.models.cross_entropy import linear_cross_entropy

CellKind = Literal["tanh", "gru", "lstm"]


@dataclass(frozen=True)
class Final:
    """Where a recurrent encoder ended, layer by layer; what a decoder without attention has of the source.

    A bidirectional one has both directions side by side: the forward one after the last real token, the backward one
    after the first.
    """

    hidden: Float[Tensor, "rows layers size"]
    cells: Float[Tensor, "rows layers size"] | None = None
    """LSTM's."""
    backward: Float[Tensor, "rows one_way"] | None = None
    """The backward RNN's state at the first token, in the top layer: Bahdanau's decoder starts from it."""


@dataclass(frozen=True)
class Memory:
    """What an encoder hands on: keys to match and values to read. ConvS2S's values are not its keys; others' are."""

    keys: Float[Tensor, "rows source size"]
    values: Float[Tensor, "rows source size"]
    lengths: Int[Tensor, " rows"]
    final: Final | None = None
    """None where nothing recurs: the summary is then the mean of the values over real positions."""

    def line(self, row: int) -> "Memory":
        """One line's memory, without its padding."""
        rows, length = slice(row, row + 1), int(self.lengths[row])
        final = self.final
        if final is not None:
            parts = (final.hidden, final.cells, final.backward)
            final = Final(*(None if part is None else part[rows] for part in parts))  # type: ignore[arg-type]
        return Memory(self.keys[rows, :length], self.values[rows, :length], self.lengths[rows], final)


@dataclass(frozen=True)
class FinalShape:
    """What a recurrent encoder's `Final` will be like."""

    cell: CellKind
    layers: int
    size: int
    """Of both directions together."""
    backward: int | None
    """Width of the backward RNN, where there is one."""


@dataclass(frozen=True)
class MemoryShape:
    """What a decoder must know of the memories it will read, before it is built."""

    size: int
    """Width of keys and of values."""
    final: FinalShape | None = None


@runtime_checkable
class DecoderState(Protocol):
    """All that a decoder remembers between steps, held by the caller. A state passed in is consumed."""

    @property
    def positions(self) -> Int[Tensor, " rows"]:
        """Tokens read so far in every row."""

    def select(self, rows: Int[Tensor, " kept"]) -> "DecoderState":
        """Reorder, repeat or drop rows."""

    def join(self, other: Any) -> "DecoderState":
        """Append the other's rows, of whatever age."""


class Encoder(nn.Module, ABC):
    """Reads a source into a memory."""

    shape: MemoryShape
    recurrent: ClassVar[bool] = False
    """Whether it loops over positions: torch.compile would unroll that anew for every length."""

    @abstractmethod
    def forward(self, source: Int[Tensor, "rows source"], lengths: Int[Tensor, " rows"]) -> Memory:
        """Ids with the end piece last, padded on the right with anything; `lengths` counts the real ones."""


class Decoder(nn.Module, ABC):
    """Whole targets in training, one or more tokens at a time in search: both give the same logits (promise 2)."""

    recurrent: ClassVar[bool] = False
    """As of an encoder."""
    knows_after: ClassVar[int] = 1
    """How many steps after it was chosen a token is known to attention: 2 where a step attends before it reads."""

    def __init__(self) -> None:
        super().__init__()
        self.projection: nn.Module | None = None
        """What computes the logits in a packed model, in place of `output_weights`."""

    @abstractmethod
    def forward(
        self, targets: Int[Tensor, "rows length"], memory: Memory
    ) -> Float[Tensor, "rows length size"]:
        """Hidden vectors over whole targets (begin + y without its last); padding on the right is harmless."""

    @abstractmethod
    def output_weights(self) -> tuple[Float[Tensor, "vocabulary size"], Float[Tensor, " vocabulary"] | None]:
        """The matrix and bias that turn a hidden vector into logits."""

    @abstractmethod
    def start(self, memory: Memory) -> DecoderState:
        """The state before the first token, one row a line of the memory."""

    @abstractmethod
    def extend(
        self, tokens: Int[Tensor, "rows n"], state: Any, *, all_positions: bool = False
    ) -> tuple[Float[Tensor, "rows *n vocabulary"], DecoderState]:
        """Read n tokens a row; logits after the last one [rows, vocabulary] or after each [rows, n, vocabulary]."""

    def output(self, hidden: Float[Tensor, "*rows size"]) -> Float[Tensor, "*rows vocabulary"]:
        """Logits; apart from the hidden vectors, so that the loss can be fused with it."""
        if self.projection is not None:
            logits: Tensor = self.projection(hidden)
            return logits
        weight, bias = self.output_weights()
        return F.linear(hidden, weight, bias)


def embedding_weight(vocabulary: int, size: int) -> nn.Parameter:
    """A fresh matrix of embeddings, or of the output, whose rows have length 1 or so."""
    weight = nn.Parameter(torch.empty(vocabulary, size))
    nn.init.normal_(weight, std=size**-0.5)
    return weight


def check_shared(share: str, source: int, target: int) -> None:
    """One matrix for both sides has as many rows as either has pieces. Raises KotyaError where they differ."""
    if share == "all" and source != target:
        raise KotyaError(
            f"share: all is one matrix for both languages, but there are {source:,} source and {target:,} target "
            "pieces; with a vocabulary each, say share: output (or none)"
        )


class Seq2Seq(nn.Module):
    """An encoder and a decoder."""

    def __init__(self, encoder: Encoder, decoder: Decoder) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder

    def compile(self, *args: Any, **options: Any) -> None:
        """torch.compile of the parts, each by itself, as the loss calls them; recurrent ones stay as they are."""
        for part in (self.encoder, self.decoder):
            if not part.recurrent:
                part.compile(*args, **options)

    def encode(self, source: Int[Tensor, "rows source"], lengths: Int[Tensor, " rows"]) -> Memory:
        memory: Memory = self.encoder(source, lengths)
        return memory

    def forward(
        self,
        source: Int[Tensor, "rows source"],
        lengths: Int[Tensor, " rows"],
        targets: Int[Tensor, "rows target"],
    ) -> Float[Tensor, "rows target size"]:
        """Hidden vectors of the decoder over whole targets (teacher forcing)."""
        hidden: Tensor = self.decoder(targets, self.encode(source, lengths))
        return hidden

    def loss(
        self,
        hidden: Float[Tensor, "tokens size"],
        targets: Int[Tensor, " tokens"],
        *,
        smoothing: float = 0.0,
    ) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """Summed smoothed cross-entropy and summed negative log-likelihood of the given positions, in nats."""
        weight, bias = self.decoder.output_weights()
        return linear_cross_entropy(hidden, weight, bias, targets, smoothing=smoothing)
