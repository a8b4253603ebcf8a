"""Multi-head attention (Vaswani et al. 2017, section 3.2.2): every head has its own projection of query, key, value.

MultiHead(Q, K, V) = Concat(head_1, …, head_h) W_output,  head_i = softmax(q_i k_iᵀ/√d) v_i
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from kotya.attention.caches import Cache, SelfCache, SourceCache
from kotya.attention.forms import Form, Patterned, Projected
from kotya.attention.kernels import Heads, Keys, Mask, Queries, attend, exact, padding_mask
from kotya.attention.packed import Packing, Tokens, attend_first, attend_packed
from kotya.attention.positions import Rotation, rotate, rotation, turn
from kotya.attention.recorder import record, recording, sparsely


@dataclass(frozen=True)
class Padding:
    """Of a batch of texts, one a row: how long each is, and the mask that hides what is behind it."""

    lengths: Int[Tensor, " rows"]
    mask: Mask | None

    @classmethod
    def of(cls, lengths: Int[Tensor, " rows"], longest: int, dtype: torch.dtype) -> "Padding":
        return cls(lengths, padding_mask(lengths, longest, dtype))


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
        rotary_base: float = 10000.0,
        memory_size: int | None = None,
        form: Form | None = None,
        global_projections: bool = False,
    ) -> None:
        """`memory_size` is the width of what keys and values are projected from, where it is another than `size`.

        `form`: how it attends, where not every query sees every key. `global_projections`: global queries of its
        patterns have projections of their own, for themselves and for what they read (Beltagy et al. 2020, section
        3.1); it is of whole texts that read themselves.
        """
        super().__init__()
        assert isinstance(form, Patterned) or not global_projections
        read = size if memory_size is None else memory_size
        self.heads, self.dropout, self.rotary, self.rotary_base = heads, dropout, rotary, rotary_base
        self.head_size = size // heads
        self.query = nn.Linear(size, size, bias=bias)
        self.key = nn.Linear(read, size, bias=bias)
        self.value = nn.Linear(read, size, bias=bias)
        self.output = nn.Linear(size, size, bias=bias)
        self.form = form
        names = ("query", "key", "value") if global_projections else ()
        self.wide = nn.ModuleDict({name: nn.Linear(size, size, bias=bias) for name in names})

    def queries(
        self, x: Float[Tensor, "rows length size"], positions: Int[Tensor, "#rows length"] | None = None
    ) -> Heads:
        query = self.query(x).unflatten(-1, (self.heads, -1))
        return rotate(query, positions, self.rotary_base) if self.rotary and positions is not None else query

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
        if self.rotary and positions is not None:
            key = rotate(key, positions, self.rotary_base)
        return key, value

    def attend(
        self,
        query: Queries,
        key: Keys,
        value: Keys,
        padding: Padding | None,
        *,
        causal: bool = False,
        cross: bool = False,
    ) -> Float[Tensor, "rows queries size"]:
        """Of whole texts. `padding`: of the keys; `cross`: they are of another text."""
        dropout = self.dropout if self.training else 0.0
        mask, lengths = (None, None) if padding is None else (padding.mask, padding.lengths)
        if recording(self):
            context, weights = self._exactly(query, key, value, mask, lengths, causal, cross, dropout)
            record(self, weights)
        elif self.form is None:
            context = attend(query, key, value, mask=mask, causal=causal, dropout=dropout)
        else:
            context = self.form.rows(query, key, value, lengths, causal=causal, cross=cross, dropout=dropout)
        output: Tensor = self.output(context.flatten(2))
        return output

    def _exactly(
        self,
        query: Queries,
        key: Keys,
        value: Keys,
        mask: Mask | None,
        lengths: Int[Tensor, " rows"] | None,
        causal: bool,
        cross: bool,
        dropout: float,
    ) -> tuple[Queries, Float[Tensor, "rows heads queries read"]]:
        """With the weights, all of them."""
        if self.form is None:
            return exact(query, key, value, mask=mask, causal=causal, dropout=dropout)
        context = self.form.rows(query, key, value, lengths, causal=causal, cross=cross, dropout=dropout)
        weights = None
        if sparsely():
            ends = [key.shape[1]] * len(key) if lengths is None else lengths.tolist()
            texts = ((q if cross else q[:end], k[:end]) for q, k, end in zip(query, key, ends, strict=True))
            weights = self.form.sparse_weights(
                texts, query.shape[1], key.shape[1], causal=causal, cross=cross
            )
        if weights is None:
            weights = self.form.weights(query, key, lengths, causal=causal, cross=cross)
        return context, weights

    def step(
        self, query: Queries, key: Keys, value: Keys, mask: Mask | None
    ) -> Float[Tensor, "rows queries size"]:
        """Of queries that see all of the keys that the mask leaves."""
        if recording(self):
            context, weights = exact(query, key, value, mask=mask)
            record(self, weights)
        else:
            context = attend(query, key, value, mask=mask)
        output: Tensor = self.output(context.flatten(2))
        return output

    def source(
        self,
        keys: Float[Tensor, "lines source memory_size"],
        values: Float[Tensor, "lines source memory_size"],
        lengths: Int[Tensor, " lines"],
    ) -> Cache:
        """What cross-attention step by step keeps of what it reads."""
        key, value = self.keys_values(keys, values=values)
        return SourceCache.of(key, value) if self.form is None else self.form.source(key, value, lengths)

    def across(
        self, query: Queries, source: Cache, mask: Mask | None, positions: Int[Tensor, "lines queries"]
    ) -> Float[Tensor, "lines queries size"]:
        """Cross-attention of queries to it, by their positions; the mask hides what is behind the lines' ends."""
        if self.form is None:
            assert isinstance(source, SourceCache)
            return self.step(query, *source.read(), mask)
        output: Tensor = self.output(self.form.across(query, source, positions).flatten(2))
        return output

    def new_cache(self, rows: int, like: Float[Tensor, "*shape"]) -> Cache:
        """Of a past without a token yet, for self-attention step by step."""
        assert not self.wide, "no position of a text that grows reads all of it"
        if self.form is None:
            return SelfCache.empty(rows, self.heads, self.head_size, like)
        return self.form.new_cache(rows, self.heads, self.head_size, like)

    def extend(
        self,
        x: Float[Tensor, "rows n size"],
        past: Cache,
        positions: Int[Tensor, "rows n"],
        mask: Mask | None,
    ) -> Float[Tensor, "rows n size"]:
        """Self-attention of n new positions a row, behind the cached past, which takes the new keys."""
        query, (key, value) = self.queries(x, positions), self.keys_values(x, positions)
        if self.form is None:
            assert isinstance(past, SelfCache)
            return self.step(query, *past.append(key, value), mask)
        output: Tensor = self.output(self.form.extend(past, query, key, value, positions).flatten(2))
        return output

    def forward(
        self,
        x: Float[Tensor, "rows length size"],
        padding: Padding | None,
        *,
        causal: bool = False,
        positions: Int[Tensor, "#rows length"] | None = None,
    ) -> Float[Tensor, "rows length size"]:
        """Self-attention over whole texts."""
        if self.wide:
            rows, longest = x.shape[:2]
            packing = Packing.of([longest] * rows if padding is None else padding.lengths.tolist(), x.device)
            angles = None
            if self.rotary and positions is not None:
                tokens = positions.expand(rows, -1).flatten().index_select(0, packing.slots)
                angles = rotation(tokens, self.head_size, x.dtype, self.rotary_base)
            return packing.pad(self.packed(packing.unpad(x), packing, rotation=angles, causal=causal))
        key, value = self.keys_values(x, positions)
        return self.attend(self.queries(x, positions), key, value, padding, causal=causal)

    def packed(
        self,
        x: Float[Tensor, "tokens size"],
        packing: Packing,
        *,
        rotation: Rotation | None = None,
        causal: bool = False,
    ) -> Float[Tensor, "tokens size"]:
        """Self-attention of packed texts, each over itself."""
        query = self._turned(self.query, x, rotation)
        key, value = self._turned(self.key, x, rotation), self._turned(self.value, x)
        wide = self._wide(x, packing, rotation) if self.wide else None
        dropout = self.dropout if self.training else 0.0
        if recording(self):
            context = self._recorded(query, key, value, wide, packing, causal, dropout)
        elif self.form is None:
            context = attend_packed(query, key, value, packing, causal=causal, dropout=dropout)
        else:
            context = self.form.packed(query, key, value, packing, causal=causal, dropout=dropout)
        if wide is not None:
            assert isinstance(self.form, Patterned)
            context = self.form.read_widely(context, wide, packing, causal=causal, dropout=dropout)
        output: Tensor = self.output(context.flatten(1))
        return output

    def _turned(self, layer: nn.Module, x: Tensor, rotation: Rotation | None = None) -> Tokens:
        projected: Tensor = layer(x).unflatten(-1, (self.heads, -1))
        return projected if rotation is None else turn(projected, rotation)

    def _wide(self, x: Tensor, packing: Packing, rotation: Rotation | None) -> Projected | None:
        """What global queries read by, where there are any; other queries are zero, and not projected."""
        assert isinstance(self.form, Patterned)
        places = self.form.wide_places(packing, self.heads)
        if not len(places):
            return None
        layer, key = self.wide["query"], self._turned(self.wide["key"], x, rotation)
        if type(layer) is not nn.Linear:  # an adapter, which knows whose a row is by how many there are
            query = self._turned(layer, x, rotation)
        else:
            there = rotation and (rotation[0].index_select(0, places), rotation[1].index_select(0, places))
            few = self._turned(layer, x.index_select(0, places), there)
            query = torch.zeros_like(key).index_copy(0, places, few)
        return query, key, self._turned(self.wide["value"], x)

    def _recorded(
        self,
        query: Tokens,
        key: Tokens,
        value: Tokens,
        wide: Projected | None,
        packing: Packing,
        causal: bool,
        dropout: float,
    ) -> Tokens:
        """On the padded batch; the weights are [sequences, heads, longest, longest]."""
        if sparsely() and self.form is not None:
            read = (query, key, *(wide or ())[:2])
            texts = zip(*(x.split(packing.lengths) for x in read), strict=True)
            longest = packing.longest
            weights = self.form.sparse_weights(texts, longest, longest, causal=causal, cross=False)
            if weights is not None:
                record(self, weights)
                return self.form.packed(query, key, value, packing, causal=causal, dropout=dropout)
        q, k, v = (packing.pad(x) for x in (query, key, value))
        mask = padding_mask(packing.counts, packing.longest, q.dtype)
        context, weights = self._exactly(q, k, v, mask, packing.counts, causal, False, dropout)
        if wide is not None:
            assert isinstance(self.form, Patterned)
            q, k = (packing.pad(x) for x in wide[:2])
            weights = self.form.wide_weights(weights, q, k, packing.counts, causal=causal)
        record(self, weights)
        return packing.unpad(context)

    def first(
        self, x: Float[Tensor, "tokens size"], packing: Packing, *, rotation: Rotation | None = None
    ) -> Float[Tensor, "sequences size"]:
        """The same for the first token of every text alone, which reads all of it; nothing of it is recorded."""
        assert self.form is None
        query = self._turned(self.query, x.index_select(0, packing.starts))  # at 0, where nothing turns
        key, value = self._turned(self.key, x, rotation), self._turned(self.value, x)
        dropout = self.dropout if self.training else 0.0
        context = attend_first(query, key, value, packing, dropout=dropout)
        output: Tensor = self.output(context.flatten(1))
        return output
