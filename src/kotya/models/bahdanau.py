"""Bahdanau's decoder (Bahdanau et al. 2015, appendix A): look, then step.

h_0 = tanh(W_s ←s_1)                                   from the backward RNN's state at the first token (A.2.2)
a_t = softmax(score(h_{t-1}, s_k))                     from the *previous* state
c_t = Σ_k a_tk s_k
h_t = f(W E y_{t-1} + U h_{t-1} + C c_t)               the context is part of every gate of the step
t_t = maxout(U_o h_{t-1} + V_o E y_{t-1} + C_o c_t)    the readout: the larger one of every two (Goodfellow et al. 2013)
p(y_t) = softmax(W_o t_t)
"""

from dataclasses import replace
from typing import Literal

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn

from kotya.attention.custom import ScoreName, build_score
from kotya.attention.deferred import in_loop
from kotya.attention.soft import SoftAttention
from kotya.models.bridge import Bridge
from kotya.models.rnn_decoder import RecurrentConfig, RecurrentDecoder, RNNState
from kotya.models.seq2seq import MemoryShape


class BahdanauDecoderConfig(RecurrentConfig):
    """A recurrent decoder that attends before each step."""

    kind: Literal["bahdanau"]
    score: ScoreName = "mlp"
    readout: int = Field(256, ge=1)
    """l: how many of the 2l sums are left by the maxout."""

    @property
    def output_size(self) -> int:
        return self.readout

    def build(
        self, embedding: nn.Parameter, output: nn.Parameter, memory: MemoryShape, dropout: float
    ) -> "BahdanauDecoder":
        return BahdanauDecoder(self, embedding, output, memory, dropout)


class BahdanauDecoder(RecurrentDecoder):
    """Attention before the step."""

    knows_after = 2

    def __init__(
        self,
        config: BahdanauDecoderConfig,
        embedding: nn.Parameter,
        output: nn.Parameter,
        memory: MemoryShape,
        dropout: float,
    ) -> None:
        bridge = Bridge(memory, config.cell, 1, config.size, from_backward=True)
        super().__init__(config, embedding, output, dropout, bridge=bridge, layers=1)
        self.cross = SoftAttention(build_score(config.score, config.size, memory.size))
        self.context = nn.Linear(memory.size, self.stack.first.cell.gates * config.size, bias=False)
        self.readout_state = nn.Linear(config.size, 2 * config.readout)
        self.readout_embedding = nn.Linear(config.embedding, 2 * config.readout, bias=False)
        self.readout_context = nn.Linear(memory.size, 2 * config.readout, bias=False)
        for layer in (self.context, self.readout_state, self.readout_embedding, self.readout_context):
            nn.init.xavier_uniform_(layer.weight)
        nn.init.zeros_(self.readout_state.bias)

    def read(
        self, tokens: Int[Tensor, "rows n"], state: RNNState
    ) -> tuple[Float[Tensor, "rows n size"], RNNState]:
        embedded = self.embedding(tokens.t())
        before, contexts, state = self._steps(self.stack.first.input(embedded), state)
        sums = self.readout_state(before) + self.readout_embedding(embedded) + self.readout_context(contexts)
        largest = sums.unflatten(2, (-1, 2)).amax(-1)
        return self.dropout(largest).transpose(0, 1), state

    def _steps(
        self, x: Float[Tensor, "n rows gates"], state: RNNState
    ) -> tuple[Float[Tensor, "n rows size"], Float[Tensor, "n rows context"], RNNState]:
        """The states before every step, and the contexts they chose."""
        assert state.source is not None
        dtype = x.dtype
        stack = self.stack.steps(state.hidden, state.cells, dtype)
        attend = self.cross.steps(state.source, state.index)
        into = in_loop(self.context, dtype)
        positions, before, contexts = state.positions, [], []
        for step in x.unbind(0):
            hidden = stack.hidden[0]
            context = attend(hidden, positions)
            stack(step + into(context))
            positions = positions + 1
            before.append(hidden)
            contexts.append(context)
        attend.close()
        hiddens, cells = stack.states()
        state = replace(state, positions=positions, hidden=hiddens, cells=cells)
        return torch.stack(before), torch.stack(contexts), state
