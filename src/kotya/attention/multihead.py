"""Multi-head attention (Vaswani et al. 2017, section 3.2.2): every head has its own projection of query, key, value.

MultiHead(Q, K, V) = Concat(head_1, …, head_h) W_output,  head_i = softmax(q_i k_iᵀ/√d) v_i
"""

from jaxtyping import Float, Int
from torch import Tensor, nn

from kotya.attention.kernels import Heads, Keys, Mask, Queries, attend, exact
from kotya.attention.packed import Packing, attend_first, attend_packed
from kotya.attention.positions import Rotation, rotate, turn
from kotya.attention.recorder import record, recording


class MultiHeadAttention(nn.Module):
    """Self-attention when keys and values are projected from the same text as the queries, else cross-attention.

    The three steps stand apart (`queries`, `keys_values`, `attend`), because a decoder projects keys and values once
    and keeps them, and queries anew at every step.
    """

    def __init__(
        self,
        size: int,
        heads: int,
        *,
        dropout: float,
        bias: bool,
        rotary: bool,
        memory_size: int | None = None,
    ) -> None:
        """`memory_size` is the width of what keys and values are projected from, where it is another than `size`."""
        super().__init__()
        read = size if memory_size is None else memory_size
        self.heads, self.dropout, self.rotary = heads, dropout, rotary
        self.query = nn.Linear(size, size, bias=bias)
        self.key = nn.Linear(read, size, bias=bias)
        self.value = nn.Linear(read, size, bias=bias)
        self.output = nn.Linear(size, size, bias=bias)

    def queries(
        self, x: Float[Tensor, "rows length size"], positions: Int[Tensor, "#rows length"] | None = None
    ) -> Heads:
        query = self.query(x).unflatten(-1, (self.heads, -1))
        return rotate(query, positions) if self.rotary and positions is not None else query

    def keys_values(
        self,
        x: Float[Tensor, "rows length size"],
        positions: Int[Tensor, "#rows length"] | None = None,
        *,
        values: Float[Tensor, "rows length size"] | None = None,
    ) -> tuple[Heads, Heads]:
        """Both projected from `x`, or the values from `values`."""
        key = self.key(x).unflatten(-1, (self.heads, -1))
        value = self.value(x if values is None else values).unflatten(-1, (self.heads, -1))
        return (rotate(key, positions) if self.rotary and positions is not None else key), value

    def attend(
        self, query: Queries, key: Keys, value: Keys, mask: Mask | None, *, causal: bool = False
    ) -> Float[Tensor, "rows queries size"]:
        dropout = self.dropout if self.training else 0.0
        if recording(self):
            context, weights = exact(query, key, value, mask=mask, causal=causal, dropout=dropout)
            record(self, weights)
        else:
            context = attend(query, key, value, mask=mask, causal=causal, dropout=dropout)
        output: Tensor = self.output(context.flatten(2))
        return output

    def forward(
        self,
        x: Float[Tensor, "rows length size"],
        mask: Mask | None,
        *,
        causal: bool = False,
        positions: Int[Tensor, "#rows length"] | None = None,
    ) -> Float[Tensor, "rows length size"]:
        """Self-attention over whole texts."""
        key, value = self.keys_values(x, positions)
        return self.attend(self.queries(x, positions), key, value, mask, causal=causal)

    def packed(
        self,
        x: Float[Tensor, "tokens size"],
        packing: Packing,
        *,
        rotation: Rotation | None = None,
        causal: bool = False,
        window: int | None = None,
    ) -> Float[Tensor, "tokens size"]:
        """Self-attention of packed texts, each over itself."""
        query, key, value = (
            layer(x).unflatten(-1, (self.heads, -1)) for layer in (self.query, self.key, self.value)
        )
        if rotation is not None:
            query, key = turn(query, rotation), turn(key, rotation)
        context = attend_packed(
            query,
            key,
            value,
            packing,
            causal=causal,
            window=window,
            dropout=self.dropout if self.training else 0.0,
            layer=self if recording(self) else None,
        )
        output: Tensor = self.output(context.flatten(1))
        return output

    def first(
        self,
        x: Float[Tensor, "tokens size"],
        packing: Packing,
        *,
        rotation: Rotation | None = None,
        window: int | None = None,
    ) -> Float[Tensor, "sequences size"]:
        """The same for the first token of every text alone; nothing of it is recorded."""
        query = self.query(x.index_select(0, packing.starts)).unflatten(-1, (self.heads, -1))
        key, value = (layer(x).unflatten(-1, (self.heads, -1)) for layer in (self.key, self.value))
        if rotation is not None:
            key = turn(key, rotation)  # a first token stands at 0, where nothing turns
        dropout = self.dropout if self.training else 0.0
        context = attend_first(query, key, value, packing, window=window, dropout=dropout)
        output: Tensor = self.output(context.flatten(1))
        return output
