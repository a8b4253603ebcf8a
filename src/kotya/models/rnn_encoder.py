"""A recurrent encoder: s_k = f(x_k, s_{k-1}), in one direction or in both (Bahdanau et al. 2015, section 3.2).

A bidirectional layer hands on both states of a position side by side, [→s_k; ←s_k]. What the source is *as a whole* is
where the layers ended (Sutskever et al. 2014). Read backwards, as Sutskever et al. did, the beginning of the source
comes last, near the beginning of the target; the end token stays at the end.
"""

from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from pydantic import Field, model_validator
from torch import Tensor, nn

from kotya.config import Config, wrong
from kotya.dropout import Dropout
from kotya.models.rnn import RecurrentLayer, TokenEmbedding
from kotya.models.seq2seq import CellKind, Encoder, Final, FinalShape, Memory, MemoryShape

Steps = Float[Tensor, "length rows size"]


class RNNEncoderConfig(Config):
    """A recurrent encoder."""

    kind: Literal["rnn"]
    cell: CellKind = "gru"
    size: int = Field(256, ge=1)
    """Width of a state, of each direction."""
    layers: int = Field(1, ge=1)
    embedding: int = Field(256, ge=1)
    """Width of the embeddings."""
    bidirectional: bool = False
    reverse_source: bool = False
    """Read the source from its end (Sutskever et al. 2014); for one direction only."""

    @model_validator(mode="after")
    def _one_way_to_reverse(self) -> "RNNEncoderConfig":
        if self.bidirectional and self.reverse_source:
            message = "true is for one direction; a bidirectional encoder reads both ways"
            raise wrong(("reverse_source",), message, self.reverse_source)
        return self

    @property
    def embedding_size(self) -> int:
        return self.embedding

    def build(self, embedding: nn.Parameter, dropout: float) -> "RNNEncoder":
        return RNNEncoder(self, embedding, dropout)


class RNNEncoder(Encoder):
    """A stack of recurrent layers over the source."""

    recurrent = True

    def __init__(self, config: RNNEncoderConfig, embedding: nn.Parameter, dropout: float) -> None:
        super().__init__()
        self.config = config
        ways = 2 if config.bidirectional else 1
        width = ways * config.size
        self.shape = MemoryShape(
            width,
            FinalShape(config.cell, config.layers, width, config.size if config.bidirectional else None),
        )
        self.embedding = TokenEmbedding(embedding, dropout)
        self.dropout = Dropout(dropout)
        inputs = [config.embedding, *[width] * (config.layers - 1)]
        self.forwards = nn.ModuleList(RecurrentLayer(config.cell, one, config.size) for one in inputs)
        self.backwards = nn.ModuleList(
            RecurrentLayer(config.cell, one, config.size) for one in inputs if config.bidirectional
        )

    def forward(self, source: Int[Tensor, "rows source"], lengths: Int[Tensor, " rows"]) -> Memory:
        x = self.embedding(source.t())
        last = lengths - 1
        backwards = reversal(lengths, source.shape[1], keep_last=self.config.reverse_source)
        if self.config.reverse_source:
            x = permute(x, backwards)
        hidden, cells = [], []
        for depth, layer in enumerate(self.forwards):
            if depth:
                x = self.dropout(x)
            states, memories = self._read(layer, x)
            ends = [(at(states, last), at(memories, last))]
            if self.config.bidirectional:
                back, back_memories = self._read(self.backwards[depth], permute(x, backwards))
                ends.append((at(back, last), at(back_memories, last)))
                states = torch.cat([states, permute(back, backwards)], dim=2)
            hidden.append(torch.cat([one for one, _ in ends if one is not None], dim=1))
            cells += (
                [torch.cat([two for _, two in ends if two is not None], dim=1)]
                if memories is not None
                else []
            )
            x = states
        if self.config.reverse_source:
            x = permute(x, backwards)
        final = Final(
            hidden=torch.stack(hidden, dim=1),
            cells=torch.stack(cells, dim=1) if cells else None,
            backward=ends[1][0] if self.config.bidirectional else None,
        )
        x = x.transpose(0, 1).contiguous()  # attention reads it at every step
        return Memory(keys=x, values=x, lengths=lengths, final=final)

    def _read(self, layer: nn.Module, x: Float[Tensor, "length rows inputs"]) -> tuple[Steps, Steps | None]:
        assert isinstance(layer, RecurrentLayer)
        zeros = x.new_zeros(x.shape[1], self.config.size)
        read: tuple[Tensor, Tensor | None] = layer(
            layer.input(x), zeros, zeros if layer.cell.has_memory else None
        )
        return read


def reversal(
    lengths: Int[Tensor, " rows"], longest: int, *, keep_last: bool
) -> Int[Tensor, " longest_times_rows"]:
    """Where each place of [longest, rows], flattened, is read from to turn every row around within its own length.

    Padding stays where it is; with `keep_last` the last real token does too. Turning twice changes nothing.
    """
    place = torch.arange(longest, device=lengths.device)[:, None]
    turned = lengths - (1 if keep_last else 0)
    from_place = torch.where(place < turned, turned - 1 - place, place)
    rows = len(lengths)
    return (from_place * rows + torch.arange(rows, device=lengths.device)).flatten()


class _Permute(torch.autograd.Function):
    """Reordered rows, by an order that undoes itself: so does the way back, without adding up by index."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, order: Tensor) -> Tensor:
        ctx.save_for_backward(order)
        return x.flatten(0, 1).index_select(0, order).view(x.shape)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (order,) = ctx.saved_tensors
        return gradient.flatten(0, 1).index_select(0, order).view(gradient.shape), None


def permute(x: Steps, order: Int[Tensor, " places"]) -> Steps:
    """Steps in the order of `reversal`."""
    permuted: Tensor = _Permute.apply(x, order)  # type: ignore[no-untyped-call]
    return permuted


def at(states: Steps | None, places: Int[Tensor, " rows"]) -> Float[Tensor, "rows size"] | None:
    """Each row's state at its own place."""
    if states is None:
        return None
    return states[places, torch.arange(len(places), device=places.device)]
