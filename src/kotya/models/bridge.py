"""From any encoder's memory to any recurrent decoder's first state.

    h_0 = the encoder's last state, layer by layer, where cell, depth and width agree   (Sutskever et al. 2014)
    h_0 = tanh(W ←s_1), from the backward RNN's state at the first token               (Bahdanau et al. 2015, A.2.2)
    h_0 = tanh(W summary) otherwise                                                   (Cho et al. 2014)

The summary is where a recurrent encoder ended, all layers side by side, and the mean over real positions of any other.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from kotya.models.seq2seq import CellKind, Memory, MemoryShape

Layers = Float[Tensor, "rows layers size"]


class Bridge(nn.Module):
    """Makes the first state. `from_backward`: Bahdanau's way, where the encoder has a backward RNN."""

    def __init__(
        self, memory: MemoryShape, cell: CellKind, layers: int, size: int, *, from_backward: bool = False
    ) -> None:
        super().__init__()
        self.layers, self.size = layers, size
        self.states = 2 if cell == "lstm" else 1
        final = memory.final
        self.from_backward = from_backward and final is not None and final.backward is not None
        self.copies = (
            not self.from_backward
            and final is not None
            and (final.cell, final.layers, final.size) == (cell, layers, size)
        )
        self.linear: nn.Linear | None = None
        if not self.copies:
            width = summary_size(memory)
            if self.from_backward and final is not None and final.backward is not None:
                width = final.backward
            self.linear = nn.Linear(width, layers * size * self.states)
            nn.init.xavier_uniform_(self.linear.weight)
            nn.init.zeros_(self.linear.bias)

    def forward(self, memory: Memory) -> tuple[Layers, Layers | None]:
        """h and, for an LSTM, c of every layer."""
        final = memory.final
        if self.copies:
            assert final is not None
            return final.hidden, final.cells
        assert self.linear is not None
        if self.from_backward:
            assert final is not None
            assert final.backward is not None
            read = final.backward
        else:
            read = summary(memory)
        states = self.linear(read).tanh().unflatten(1, (self.states, self.layers, self.size))
        return states[:, 0], states[:, 1] if self.states == 2 else None


def summary_size(memory: MemoryShape) -> int:
    """Width of `summary`."""
    return memory.size if memory.final is None else memory.final.layers * memory.final.size


def summary(memory: Memory) -> Float[Tensor, "rows size"]:
    """The source as one vector."""
    if memory.final is not None:
        return memory.final.hidden.flatten(1)
    places = torch.arange(memory.values.shape[1], device=memory.lengths.device)
    real = (places < memory.lengths[:, None])[:, :, None]
    total = (memory.values * real).sum(1)
    return total / memory.lengths[:, None].to(total.dtype)
