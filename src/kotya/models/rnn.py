"""Recurrent layers: h_t = f(x_t, h_{t-1}), with three kinds of f.

    tanh   h = tanh(Wx + Uh')                                         Elman 1990
    gru    r, z = σ(Wx + Uh'),  n = tanh(Wx + U(r∘h')),               Cho et al. 2014;
           h = (1-z)∘h' + z∘n                                         Bahdanau et al. 2015, A.1.1
    lstm   i, f, o = σ(Wx + Uh'),  g = tanh(Wx + Uh'),                Hochreiter and Schmidhuber 1997
           c = f∘c' + i∘g,  h = o∘tanh(c)

The gated unit is the papers': its reset stands before the product, cuDNN's behind it. What depends on x alone is one
product over all steps; the rest is a loop whose backward is written out, with the weight gradients taken once, over
all steps.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from kotya.attention.deferred import Deferred, Notes, in_loop
from kotya.dropout import Dropout
from kotya.models.seq2seq import CellKind

Weights = tuple[Tensor, ...]
Saved = tuple[Tensor, ...]
Product = Callable[[Tensor, Tensor], Tensor]
"""(a, h) → a + Uh, in a tensor of its own."""


def _tanh_(x: Tensor) -> Tensor:
    """tanh x = 2σ(2x) - 1, in place: on a CPU the sigmoid takes a sixth of the time of the tanh."""
    return x.mul_(2.0).sigmoid_().mul_(2.0).sub_(1.0) if x.device.type == "cpu" else x.tanh_()


class Cell(ABC):
    """One step without autograd, and the way back. `x` is Wx + b for all gates side by side."""

    gates: ClassVar[int]
    """How many times the size Wx is wide."""
    matrices: ClassVar[tuple[int, ...]]
    """The recurrent matrices, in gates each."""
    has_memory: ClassVar[bool] = False
    """Whether there is a second state c."""

    @abstractmethod
    def step(
        self, x: Tensor, hidden: Tensor, memory: Tensor | None, products: Sequence[Product]
    ) -> tuple[Tensor, Tensor | None, Saved]:
        """The next states, and what the way back needs."""

    @abstractmethod
    def back(
        self,
        gradient: Tensor,
        memory_gradient: Tensor | None,
        hidden: Tensor,
        memory: Tensor | None,
        saved: Saved,
        weights: Weights,
        out: Tensor,
    ) -> tuple[Tensor, Tensor | None]:
        """From the gradients of the new states those of the states before; that of x goes into `out`."""

    def note(self, notes: tuple[Notes, ...], gradient: Tensor, hidden: Tensor, saved: Saved) -> None:
        """What the gradients of the matrices will be made of."""
        notes[0].add(hidden, gradient)


class TanhCell(Cell):
    gates, matrices = 1, (1,)

    def step(
        self, x: Tensor, hidden: Tensor, memory: Tensor | None, products: Sequence[Product]
    ) -> tuple[Tensor, None, Saved]:
        new = _tanh_(products[0](x, hidden))
        return new, None, (new,)

    def back(
        self,
        gradient: Tensor,
        memory_gradient: Tensor | None,
        hidden: Tensor,
        memory: Tensor | None,
        saved: Saved,
        weights: Weights,
        out: Tensor,
    ) -> tuple[Tensor, None]:
        torch.ops.aten.tanh_backward(gradient, saved[0], grad_input=out)
        return out @ weights[0], None


class GRUCell(Cell):
    gates, matrices = 3, (2, 1)

    def step(
        self, x: Tensor, hidden: Tensor, memory: Tensor | None, products: Sequence[Product]
    ) -> tuple[Tensor, None, Saved]:
        size = hidden.shape[1]
        gates = products[0](x[:, : 2 * size], hidden).sigmoid_()
        kept = gates[:, :size] * hidden
        new = _tanh_(products[1](x[:, 2 * size :], kept))
        return torch.lerp(hidden, new, gates[:, size:]), None, (gates, kept, new)

    def back(
        self,
        gradient: Tensor,
        memory_gradient: Tensor | None,
        hidden: Tensor,
        memory: Tensor | None,
        saved: Saved,
        weights: Weights,
        out: Tensor,
    ) -> tuple[Tensor, None]:
        gates, _, new = saved
        size = hidden.shape[1]
        reset, update = gates[:, :size], gates[:, size:]
        through_update = gradient * update
        both, candidate = out[:, : 2 * size], out[:, 2 * size :]
        torch.ops.aten.tanh_backward(through_update, new, grad_input=candidate)
        kept_gradient = candidate @ weights[1]
        torch.mul(kept_gradient, hidden, out=out[:, :size])
        torch.mul(gradient, new - hidden, out=out[:, size : 2 * size])
        torch.ops.aten.sigmoid_backward(both, gates, grad_input=both)
        before = (gradient - through_update).addcmul_(kept_gradient, reset)
        return before.addmm_(both, weights[0]), None

    def note(self, notes: tuple[Notes, ...], gradient: Tensor, hidden: Tensor, saved: Saved) -> None:
        size = hidden.shape[1]
        notes[0].add(hidden, gradient[:, : 2 * size])
        notes[1].add(saved[1], gradient[:, 2 * size :])


class LSTMCell(Cell):
    """Gates in the order i, f, o, g."""

    gates, matrices, has_memory = 4, (4,), True

    def step(
        self, x: Tensor, hidden: Tensor, memory: Tensor | None, products: Sequence[Product]
    ) -> tuple[Tensor, Tensor, Saved]:
        assert memory is not None
        size = hidden.shape[1]
        gates = products[0](x, hidden)
        gates[:, : 3 * size].sigmoid_()
        _tanh_(gates[:, 3 * size :])
        i, f, o, g = gates.split(size, dim=1)
        new_memory = (f * memory).addcmul_(i, g)
        squashed = _tanh_(new_memory.clone())
        return o * squashed, new_memory, (gates, squashed)

    def back(
        self,
        gradient: Tensor,
        memory_gradient: Tensor | None,
        hidden: Tensor,
        memory: Tensor | None,
        saved: Saved,
        weights: Weights,
        out: Tensor,
    ) -> tuple[Tensor, Tensor]:
        assert memory is not None
        gates, squashed = saved
        size = hidden.shape[1]
        i, f, o, g = gates.split(size, dim=1)
        total = torch.ops.aten.tanh_backward(gradient * o, squashed)
        if memory_gradient is not None:
            total += memory_gradient
        di, df, do, dg = out.split(size, dim=1)
        torch.mul(total, g, out=di)
        torch.mul(total, memory, out=df)
        torch.mul(gradient, squashed, out=do)
        sigmoids = out[:, : 3 * size]
        torch.ops.aten.sigmoid_backward(sigmoids, gates[:, : 3 * size], grad_input=sigmoids)
        torch.ops.aten.tanh_backward(total * i, g, grad_input=dg)
        return out @ weights[0], total.mul_(f)


CELLS: dict[CellKind, type[Cell]] = {"tanh": TanhCell, "gru": GRUCell, "lstm": LSTMCell}


def _product(matrix: Tensor, x: Tensor, hidden: Tensor) -> Tensor:
    return torch.addmm(x, hidden, matrix.t())


def _module_product(matrix: nn.Module, x: Tensor, hidden: Tensor) -> Tensor:
    product: Tensor = matrix(hidden)
    return product.add_(x)


class _Sequence(torch.autograd.Function):
    """A layer over whole sequences: the loop, and the loop back."""

    @staticmethod
    def forward(
        ctx: Any, cell: Cell, x: Tensor, hidden: Tensor, memory: Tensor | None, *weights: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        ctx.set_materialize_grads(False)
        ctx.cell, ctx.types = cell, [weight.dtype for weight in weights]
        weights = tuple(weight.to(x.dtype) for weight in weights)
        products = [partial(_product, weight) for weight in weights]
        hiddens, memories, saved = [hidden], [memory], []
        for step in x.unbind(0):
            hidden, memory, kept = cell.step(step, hidden, memory, products)
            hiddens.append(hidden)
            memories.append(memory)
            saved.append(kept)
        ctx.weights, ctx.hiddens, ctx.memories, ctx.kept = weights, hiddens, memories, saved
        ctx.width = x.shape[1:]
        cells = [one for one in memories[1:] if one is not None]
        return torch.stack(hiddens[1:]), torch.stack(cells) if cells else None

    @staticmethod
    def backward(ctx: Any, gradient: Tensor | None, memory_gradient: Tensor | None) -> tuple[Any, ...]:
        cell, weights, hiddens, memories = ctx.cell, ctx.weights, ctx.hiddens, ctx.memories
        notes = tuple(Notes(learned) for learned in ctx.needs_input_grad[4:])
        carried, carried_memory = torch.zeros_like(hiddens[0]), None
        x_gradient = hiddens[0].new_empty(len(ctx.kept), *ctx.width)
        for t in range(len(ctx.kept) - 1, -1, -1):
            if gradient is not None:
                carried = carried.add_(gradient[t])
            if memory_gradient is not None:
                one = memory_gradient[t]
                carried_memory = one if carried_memory is None else carried_memory.add_(one)
            hidden, memory, saved, out = hiddens[t], memories[t], ctx.kept[t], x_gradient[t]
            carried, carried_memory = cell.back(carried, carried_memory, hidden, memory, saved, weights, out)
            cell.note(notes, out, hidden, saved)
        matrices = [
            note.settle().to(dtype) if note.learned else None
            for note, dtype in zip(notes, ctx.types, strict=True)
        ]
        return None, x_gradient, carried, carried_memory, *matrices


class _Step(torch.autograd.Function):
    """One step for a loop that has more in it than the recurrence; the matrices' gradients are deferred."""

    @staticmethod
    def forward(
        ctx: Any,
        cell: Cell,
        x: Tensor,
        hidden: Tensor,
        memory: Tensor | None,
        matrices: list[Deferred],
        *tickets: Tensor,
    ) -> tuple[Tensor, Tensor | None]:
        ctx.set_materialize_grads(False)
        weights = tuple(matrix.weight for matrix in matrices)
        new, new_memory, saved = cell.step(
            x, hidden, memory, [partial(_product, weight) for weight in weights]
        )
        ctx.cell, ctx.weights, ctx.notes = cell, weights, tuple(matrix.notes for matrix in matrices)
        ctx.save_for_backward(hidden, memory, *tickets)
        ctx.kept = saved if saved[0] is not new else None
        ctx.new = None if ctx.kept is not None else new.detach()
        return new, new_memory

    @staticmethod
    def backward(ctx: Any, gradient: Tensor | None, memory_gradient: Tensor | None) -> tuple[Any, ...]:
        hidden, memory, *tickets = ctx.saved_tensors
        if gradient is None:
            gradient = torch.zeros_like(hidden)
        saved = ctx.kept if ctx.kept is not None else (ctx.new,)
        out = gradient.new_empty(len(gradient), ctx.cell.gates * gradient.shape[1])
        before = ctx.cell.back(gradient, memory_gradient, hidden, memory, saved, ctx.weights, out)
        ctx.cell.note(ctx.notes, out, hidden, saved)
        return None, out, *before, None, *tickets


Stepper = Callable[[Tensor, Tensor, Tensor | None], tuple[Tensor, Tensor | None]]
"""(x of a step, h, c) → (h, c) after it."""


class RecurrentMatrix(nn.Linear):
    """U. In training the loop reads the weight and never calls the layer, so nothing can stand behind its output."""

    called = False


class RecurrentLayer(nn.Module):
    """One layer in one direction."""

    def __init__(self, kind: CellKind, inputs: int, size: int) -> None:
        super().__init__()
        self.cell, self.size = CELLS[kind](), size
        self.input = nn.Linear(inputs, self.cell.gates * size)
        self.recurrent = nn.ModuleList(
            RecurrentMatrix(size, gates * size, bias=False) for gates in self.cell.matrices
        )
        nn.init.xavier_uniform_(self.input.weight)
        nn.init.zeros_(self.input.bias)
        for weight in self.weights():
            for gate in weight.split(size):
                nn.init.orthogonal_(gate)

    def weights(self) -> list[Tensor]:
        """The recurrent matrices; none where the model is packed, and so cannot be trained."""
        return [matrix.weight for matrix in self.recurrent if isinstance(matrix, nn.Linear)]

    def forward(
        self,
        x: Float[Tensor, "length rows gates"],
        hidden: Float[Tensor, "rows size"],
        memory: Float[Tensor, "rows size"] | None,
    ) -> tuple[Float[Tensor, "length rows size"], Float[Tensor, "length rows size"] | None]:
        """States after every step, and LSTM's memories, from `input` of all steps."""
        hidden = hidden.to(x.dtype)
        memory = None if memory is None else memory.to(x.dtype)
        if torch.is_grad_enabled() and self.weights():
            states, memories = _Sequence.apply(self.cell, x, hidden, memory, *self.weights())  # type: ignore[no-untyped-call]
            return states, memories
        hiddens, cells = [], []
        step = self.stepper(x.dtype)
        for one in x.unbind(0):
            hidden, memory = step(one, hidden, memory)
            hiddens.append(hidden)
            cells += [] if memory is None else [memory]
        return torch.stack(hiddens), torch.stack(cells) if cells else None

    def stepper(self, dtype: torch.dtype) -> "Stepper":
        """The layer for a loop that has more in it than the recurrence; `dtype` is what it computes in."""
        if not torch.is_grad_enabled() or not self.weights():
            products = [partial(_module_product, matrix) for matrix in self.recurrent]
            return lambda x, hidden, memory: self.cell.step(x, hidden, memory, products)[:2]
        matrices = [Deferred(weight, dtype) for weight in self.weights()]
        tickets = [matrix.ticket for matrix in matrices]
        apply: Any = partial(_Step.apply, self.cell)
        return lambda x, hidden, memory: apply(x, hidden, memory, matrices, *tickets)


class TokenEmbedding(nn.Module):
    """Token embeddings · √size, so that their elements are about 1, with dropout."""

    looks_up = "weight"

    def __init__(self, weight: nn.Parameter, dropout: float) -> None:
        super().__init__()
        self.weight, self.scale = weight, math.sqrt(weight.shape[1])
        self.dropout = Dropout(dropout)

    def forward(self, ids: Int[Tensor, "*shape"]) -> Float[Tensor, "*shape size"]:
        x = F.embedding(ids, self.weight) * self.scale
        kind = x.device.type
        if torch.is_autocast_enabled(kind):
            x = x.to(torch.get_autocast_dtype(kind))
        dropped: Tensor = self.dropout(x)
        return dropped


States = Float[Tensor, "rows layers size"]


class RecurrentStack(nn.Module):
    """Layers over one another in one direction: a decoder's."""

    def __init__(self, kind: CellKind, inputs: int, size: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            RecurrentLayer(kind, size if depth else inputs, size) for depth in range(layers)
        )
        self.dropout = Dropout(dropout)

    @property
    def first(self) -> RecurrentLayer:
        """The lowest layer, whose input the decoder puts together."""
        layer = self.layers[0]
        assert isinstance(layer, RecurrentLayer)
        return layer

    def forward(
        self, x: Float[Tensor, "length rows gates"], hidden: States, memory: States | None
    ) -> tuple[Float[Tensor, "length rows size"], States, States | None]:
        """Outputs of the highest layer, and where every layer ended; `x` is `first.input` of all steps."""
        hiddens, memories = [], []
        for depth, layer in enumerate(self.layers):
            assert isinstance(layer, RecurrentLayer)
            if depth:
                x = layer.input(self.dropout(x))
            x, cells = layer(x, hidden[:, depth], None if memory is None else memory[:, depth])
            hiddens.append(x[-1])
            memories += [] if cells is None else [cells[-1]]
        return x, torch.stack(hiddens, 1), torch.stack(memories, 1) if memories else None

    def steps(self, hidden: States, memory: States | None, dtype: torch.dtype) -> "StackSteps":
        """For a loop whose input depends on what came out before."""
        return StackSteps(self, hidden.to(dtype), None if memory is None else memory.to(dtype), dtype)


class StackSteps:
    """A stack that is going on; it holds where every layer is."""

    def __init__(
        self, stack: RecurrentStack, hidden: States, memory: States | None, dtype: torch.dtype
    ) -> None:
        layers = [layer for layer in stack.layers if isinstance(layer, RecurrentLayer)]
        self.dropout = stack.dropout
        self.hidden = list(hidden.unbind(1))
        self.memory: list[Tensor | None] = [None] * len(layers)
        if memory is not None:
            self.memory = [*memory.unbind(1)]
        self.inputs = [in_loop(layer.input, dtype) if depth else None for depth, layer in enumerate(layers)]
        self.step = [layer.stepper(dtype) for layer in layers]

    def __call__(self, x: Float[Tensor, "rows gates"]) -> Float[Tensor, "rows size"]:
        """One step; the highest layer's state."""
        for depth, (into, step) in enumerate(zip(self.inputs, self.step, strict=True)):
            if into is not None:
                x = into(self.dropout(x))
            x, self.memory[depth] = step(x, self.hidden[depth], self.memory[depth])
            self.hidden[depth] = x
        return x

    def states(self) -> tuple[States, States | None]:
        """Where every layer is."""
        memories = [one for one in self.memory if one is not None]
        return torch.stack(self.hidden, 1), torch.stack(memories, 1) if memories else None
