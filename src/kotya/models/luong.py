"""Luong's decoder (Luong et al. 2015): step, then look.

    h_t = f([y_{t-1}; h̃_{t-1}], h_{t-1})       the step; h̃_{t-1} is part of its input with input feeding (section 3.3)
    a_t = softmax(score(h_t, s_k))             from the *current* state; over all of the source or a window (3.1, 3.2)
    c_t = Σ_k a_tk s_k
    h̃_t = tanh(W_c [c_t; h_t]),   p(y_t) = softmax(W_s h̃_t)

Without input feeding nothing in the recurrence depends on attention: one call over the whole target, then attention
over all steps at once.
"""

from dataclasses import replace
from typing import Literal

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn

from kotya.attention.custom import ScoreName, build_score
from kotya.attention.deferred import in_loop
from kotya.attention.local import LocalWindow
from kotya.attention.soft import SoftAttention
from kotya.models.bridge import Bridge
from kotya.models.rnn_decoder import RecurrentConfig, RecurrentDecoder, RNNState
from kotya.models.seq2seq import Memory, MemoryShape


class LuongDecoderConfig(RecurrentConfig):
    """A recurrent decoder that attends after each step."""

    kind: Literal["luong"]
    layers: int = Field(1, ge=1)
    score: ScoreName = "bilinear"
    input_feeding: bool = False
    """Make h̃ part of the next step's input: the decoder knows where it looked, and trains several times slower."""
    attention: Literal["global", "local-m", "local-p"] = "global"
    """All of the source, or a window around the target's position or around a predicted one."""
    window: int = Field(10, ge=1)
    """D: how far a local window reaches to either side."""

    @property
    def output_size(self) -> int:
        return self.size

    def build(
        self, embedding: nn.Parameter, output: nn.Parameter, memory: MemoryShape, dropout: float
    ) -> "LuongDecoder":
        return LuongDecoder(self, embedding, output, memory, dropout)


class LuongDecoder(RecurrentDecoder):
    """Attention after the step."""

    def __init__(
        self,
        config: LuongDecoderConfig,
        embedding: nn.Parameter,
        output: nn.Parameter,
        memory: MemoryShape,
        dropout: float,
    ) -> None:
        bridge = Bridge(memory, config.cell, config.layers, config.size)
        super().__init__(config, embedding, output, dropout, bridge=bridge, layers=config.layers)
        window = None
        if config.attention != "global":
            window = LocalWindow(config.attention, config.size, config.window)
        self.cross = SoftAttention(build_score(config.score, config.size, memory.size), window)
        self.combine = nn.Linear(memory.size + config.size, config.size, bias=False)
        nn.init.xavier_uniform_(self.combine.weight)
        self.feed: nn.Linear | None = None
        if config.input_feeding:
            self.feed = nn.Linear(config.size, self.stack.first.cell.gates * config.size, bias=False)
            nn.init.xavier_uniform_(self.feed.weight)

    def start(self, memory: Memory) -> RNNState:
        state = super().start(memory)
        if self.feed is None:
            return state
        return replace(state, fed=state.hidden.new_zeros(len(state.hidden), self.size))

    def read(
        self, tokens: Int[Tensor, "rows n"], state: RNNState
    ) -> tuple[Float[Tensor, "rows n size"], RNNState]:
        x = self.stack.first.input(self.embedding(tokens.t()))
        if self.feed is not None:
            vectors, state = self._read_feeding(x, state)
            return self.dropout(vectors), state
        assert state.source is not None
        count = tokens.shape[1]
        outputs, hidden, cells = self.stack(x, state.hidden, state.cells)
        query = outputs.transpose(0, 1)
        positions = state.positions[:, None] + torch.arange(count, device=tokens.device)
        context = self.cross(query, state.source, state.index, positions)
        vectors = self.combine(torch.cat([context, query], dim=2)).tanh()
        state = replace(state, positions=state.positions + count, hidden=hidden, cells=cells)
        return self.dropout(vectors), state

    def _read_feeding(
        self, x: Float[Tensor, "n rows gates"], state: RNNState
    ) -> tuple[Float[Tensor, "rows n size"], RNNState]:
        """Step by step, since each step reads the attentional vector of the one before."""
        assert state.source is not None
        assert state.fed is not None
        assert self.feed is not None
        dtype = x.dtype
        stack = self.stack.steps(state.hidden, state.cells, dtype)
        attend = self.cross.steps(state.source, state.index)
        feed, combine = in_loop(self.feed, dtype), in_loop(self.combine, dtype)
        fed, positions, vectors = state.fed.to(dtype), state.positions, []
        for step in x.unbind(0):
            hidden = stack(step + feed(fed))
            fed = combine(torch.cat([attend(hidden, positions), hidden], dim=1)).tanh()
            positions = positions + 1
            vectors.append(fed)
        attend.close()
        hiddens, cells = stack.states()
        state = replace(state, positions=positions, hidden=hiddens, cells=cells, fed=fed)
        return torch.stack(vectors, dim=1), state
