"""Sequences side by side, without padding: [tokens, …], where attention never crosses from one to the next.

Everything of a Transformer but attention runs on the tokens as they stand. Attention runs
- on CPU, on groups of equal or near length, a dense batched call each: heads are laid apart while the tokens are
  gathered into their groups, one copy for both; a group is padded while that costs less than one group more;
- on a GPU in half precision, in a kernel for sequences of any length (PyTorch's `varlen_attn`, FlashAttention);
  elsewhere, and with dropout on the weights, which that kernel has not, on the padded batch.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import accumulate
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from kotya.attention.head_patterns import HeadPatterns
from kotya.attention.kernels import ByHead, Mask, attend_by_head

_GROUP = 600
"""What one group more costs, in scores of one head that are computed in vain; 200 to 2,000 gave the same speed."""

_PADDING = 256
"""Tokens of padding that cost less than one part more, where a token costs the same in any text."""

Tokens = Float[Tensor, "tokens heads head_size"]


@dataclass(frozen=True)
class Packing:
    """Where sequences begin and end in [tokens, …]. What follows from the lengths is computed at need, once."""

    lengths: tuple[int, ...]
    """Of the sequences in order, in tokens, none empty; on the host."""
    device: torch.device

    @classmethod
    def of(cls, lengths: Sequence[int], device: torch.device | str = "cpu") -> "Packing":
        """Raises ValueError for an empty sequence."""
        if min(lengths, default=1) < 1:
            raise ValueError("a packed sequence has one token at least")
        return cls(tuple(lengths), torch.device(device))

    @property
    def tokens(self) -> int:
        return self.ends[-1] if self.lengths else 0

    @property
    def longest(self) -> int:
        return max(self.lengths, default=0)

    @cached_property
    def ends(self) -> list[int]:
        return list(accumulate(self.lengths))

    @cached_property
    def offsets(self) -> Int[Tensor, " bounds"]:
        """Where each sequence begins, and the number of tokens: one more than there are sequences."""
        return torch.tensor([0, *self.ends], dtype=torch.int32, device=self.device)

    @cached_property
    def starts(self) -> Int[Tensor, " sequences"]:
        """The place of each sequence's first token."""
        return self.offsets[:-1].long()

    @cached_property
    def counts(self) -> Int[Tensor, " sequences"]:
        """The lengths."""
        return torch.tensor(self.lengths, device=self.device)

    @cached_property
    def rows(self) -> Int[Tensor, " tokens"]:
        """Which sequence every token is of."""
        every = torch.arange(len(self.lengths), device=self.device)
        return every.repeat_interleave(self.counts, output_size=self.tokens)

    @cached_property
    def positions(self) -> Int[Tensor, " tokens"]:
        """Of every token in its own sequence, from 0."""
        return torch.arange(self.tokens, device=self.device) - self.starts[self.rows]

    @cached_property
    def slots(self) -> Int[Tensor, " tokens"]:
        """The place of every token in the padded batch, flattened."""
        return self.rows * self.longest + self.positions

    @property
    def even(self) -> bool:
        """Whether all are as long, so that one a row they have no padding."""
        return self.tokens == len(self.lengths) * self.longest

    def pad(self, x: Float[Tensor, " tokens *rest"]) -> Float[Tensor, "sequences longest *rest"]:
        """The sequences one a row, with zeros behind them; where they are even it is a view."""
        flat = x
        if not self.even:
            flat = x.new_zeros(len(self.lengths) * self.longest, *x.shape[1:]).index_copy(0, self.slots, x)
        padded: Tensor = flat.unflatten(0, (len(self.lengths), self.longest))
        return padded

    def unpad(self, x: Float[Tensor, "sequences longest *rest"]) -> Float[Tensor, " tokens *rest"]:
        """The way back."""
        if self.even:
            return x.flatten(0, 1)
        tokens: Tensor = x.flatten(0, 1).index_select(0, self.slots)
        return tokens

    @cached_property
    def alike(self) -> list["Packing"]:
        """Neighbours of near length together: a part ends where padding would be more than a quarter of its tokens."""
        parts: list[list[int]] = []
        longest = tokens = 0
        for length in self.lengths:
            longest, tokens = max(longest, length), tokens + length
            if not parts or longest * (len(parts[-1]) + 1) - tokens > max(_PADDING, tokens // 4):
                parts.append([])
                longest = tokens = length
            parts[-1].append(length)
        return [Packing.of(part, self.device) for part in parts] if len(parts) > 1 else [self]

    def in_rows(self, compute: Callable[..., Tokens], *xs: Tokens) -> Tokens:
        """`compute(*rows, lengths)` of the sequences one a row, part by part; its lengths are None without padding."""
        if len(self.alike) == 1:
            return self.unpad(compute(*map(self.pad, xs), None if self.even else self.counts))
        parts = zip(*(x.split([part.tokens for part in self.alike]) for x in xs), strict=True)
        return torch.cat([part.in_rows(compute, *some) for part, some in zip(self.alike, parts, strict=True)])

    def text_by_text(self, compute: Callable[..., Tokens], *xs: Tokens) -> Tokens:
        """`compute` of the sequences one after the other; where there is one, nothing is copied."""
        if len(self.lengths) == 1:
            return compute(*xs)
        texts = zip(*(x.split(self.lengths) for x in xs), strict=True)
        return torch.cat([compute(*text) for text in texts])

    @cached_property
    def _layouts(self) -> dict[int, "_Layout"]:
        return {}

    def layout(self, heads: int) -> "_Layout":
        """How so many heads lie in groups; made for the first layer, and kept for the others."""
        if heads not in self._layouts:
            self._layouts[heads] = _Layout(self, heads)
        return self._layouts[heads]


def attend_packed(
    query: Tokens,
    key: Tokens,
    value: Tokens,
    packing: Packing,
    *,
    causal: bool = False,
    patterns: HeadPatterns | None = None,
    dropout: float = 0.0,
) -> Tokens:
    """Every sequence reads itself; `patterns` say who sees whom, everybody everybody without them.

    `dropout` is on the weights.
    """
    if patterns is not None and patterns.by_blocks(packing.longest, packing.longest):
        # each is work enough
        attend_text = partial(patterns.attend, causal=causal, dropout=dropout)
        return packing.text_by_text(attend_text, query, key, value)
    band = None if patterns is None else patterns.band()
    varlen = (
        dropout == 0.0
        and _has_varlen(query)
        and (patterns is None or (band is not None and patterns.kernel == "auto"))
    )
    if patterns is not None:
        patterns.tell("varlen" if varlen else "dense", query.shape[1], causal=causal)
    if query.device.type == "cpu":
        return _grouped(query, key, value, packing, causal, patterns, dropout)
    if varlen:
        return _varlen(query, key, value, packing, causal, band)
    q, k, v = (packing.pad(x).transpose(1, 2) for x in (query, key, value))
    seen = Seen.of(packing.lengths, causal, patterns, q)
    output = attend_by_head(q, k, v, mask=seen.mask, causal=seen.causal, dropout=dropout)
    return packing.unpad(seen.blank(output).transpose(1, 2))


def attend_first(
    query: Float[Tensor, "sequences heads head_size"],
    key: Tokens,
    value: Tokens,
    packing: Packing,
    *,
    dropout: float = 0.0,
) -> Float[Tensor, "sequences heads head_size"]:
    """The same for the first tokens alone: every sequence is read, all of it, by one query."""
    if query.device.type == "cpu":
        layout = packing.layout(query.shape[1])
        groups = query.index_select(0, layout.order)[:, :, None].split([len(one) for one in layout.groups])
        outputs = [
            attend_by_head(q, k, v, mask=Seen.of(lengths, False, None, k).mask, dropout=dropout)
            for q, k, v, lengths in zip(
                groups, layout.spread(key), layout.spread(value), layout.groups, strict=True
            )
        ]
        return torch.cat(outputs)[:, :, 0].index_select(0, layout.order.argsort())
    k, v = (packing.pad(x).transpose(1, 2) for x in (key, value))
    mask = Seen.of(packing.lengths, False, None, k).mask
    return attend_by_head(query[:, :, None], k, v, mask=mask, dropout=dropout)[:, :, 0]


@dataclass(frozen=True)
class Seen:
    """What sequences, one a row and padded, may see of themselves."""

    mask: Mask | None
    causal: bool
    """Whether all that comes after is hidden too."""
    blind: Bool[Tensor, " rows #heads longest 1"] | None
    """Queries that see nothing, for which the mask shows everything; their output is zero."""

    @classmethod
    def of(cls, lengths: Sequence[int], causal: bool, patterns: HeadPatterns | None, query: ByHead) -> "Seen":
        """Of sequences of these lengths. Behind causal ones padding is harmless."""
        longest, device = max(lengths), query.device
        real = torch.arange(longest, device=device) < torch.tensor(lengths, device=device)[:, None]
        if patterns is None:
            padded = not causal and min(lengths) < longest
            return cls(_additive(real[:, None, None], query) if padded else None, causal, None)
        # a shorter text sees as a longer one does, but for where the end matters
        of_each = patterns.knows_the_end() and min(lengths) < longest
        masks = [
            F.pad(patterns.mask(length, length, query.shape[1], causal=causal), (0, longest - length) * 2)
            for length in (lengths if of_each else [longest])
        ]
        allowed = torch.stack(masks).to(device)
        if min(lengths) < longest:
            allowed = allowed & real[:, None, None]
        blind = ~allowed.any(-1, keepdim=True)
        if bool(blind.any()):
            return cls(_additive(allowed | blind, query), False, blind)
        return cls(_additive(allowed, query), False, None)

    def blank(self, output: ByHead) -> ByHead:
        """The output, zero where nothing is seen."""
        return output if self.blind is None else output.masked_fill(self.blind, 0.0)


def _additive(allowed: Tensor, like: Tensor) -> Mask:
    return torch.zeros(allowed.shape, dtype=like.dtype, device=like.device).masked_fill_(~allowed, -torch.inf)


# ── CPU: groups ───────────────────────────────────────────────────────────────────────────────────────────


def grouped(lengths: Sequence[int]) -> list[list[int]]:
    """Sequences by length, the longest first, in groups: one ends where its padding would cost more than a new one."""
    groups: list[list[int]] = []
    longest, waste = 0, 0
    for row in sorted(range(len(lengths)), key=lambda row: -lengths[row]):
        waste += longest**2 - lengths[row] ** 2
        if not groups or waste > _GROUP:
            groups.append([])
            longest, waste = lengths[row], 0
        groups[-1].append(row)
    return groups


class _Layout:
    """Slots, one for every head of every token and of the padding: [group][row, head, position] flattened."""

    def __init__(self, packing: Packing, heads: int) -> None:
        together = grouped(packing.lengths)
        self.order = torch.tensor([row for rows in together for row in rows])
        """The sequences, group by group."""
        self.groups = [[packing.lengths[row] for row in rows] for rows in together]
        """The lengths in every group."""
        self.shapes = [(len(lengths), heads, max(lengths)) for lengths in self.groups]
        tokens, filled = [], []
        for rows, lengths in zip(together, self.groups, strict=True):
            place = torch.arange(max(lengths))
            real = place < torch.tensor(lengths)[:, None]
            token = packing.starts[rows][:, None] + torch.where(real, place, 0)
            tokens.append((token[:, None] * heads + torch.arange(heads)[:, None]).flatten())
            filled.append(real[:, None].expand(-1, heads, -1).flatten())
        real = torch.cat(filled)
        self.token = torch.cat(tokens)
        """[slots]: which of [tokens·heads] stands there; in padding, the sequence's first token."""
        self.padding = (~real).nonzero()[:, 0]
        places = real.nonzero()[:, 0]
        self.slot = torch.empty_like(places).index_copy_(0, self.token[places], places)
        """[tokens·heads]: in which slot each stands."""

    def spread(self, x: Tensor) -> list[Tensor]:
        """[tokens, heads, size] → of every group [rows, heads, longest, size]."""
        slots: Tensor = _Spread.apply(x, self)  # type: ignore[no-untyped-call]
        groups = slots.split([math.prod(shape) for shape in self.shapes])
        return [group.view(*shape, -1) for group, shape in zip(groups, self.shapes, strict=True)]

    def collect(self, groups: list[Tensor], heads: int) -> Tensor:
        """The way back."""
        slots = torch.cat([group.flatten(0, 2) for group in groups])
        tokens: Tensor = _Collect.apply(slots, self).unflatten(0, (-1, heads))  # type: ignore[no-untyped-call]
        return tokens


class _Spread(torch.autograd.Function):
    """Padding repeats a token but no gradient comes back from there: nobody sees it, and nobody reads what it sees."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layout: _Layout) -> Tensor:
        ctx.layout, ctx.heads = layout, x.shape[1]
        return x.flatten(0, 1).index_select(0, layout.token)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient.index_select(0, ctx.layout.slot).unflatten(0, (-1, ctx.heads)), None


class _Collect(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, slots: Tensor, layout: _Layout) -> Tensor:
        ctx.layout = layout
        return slots.index_select(0, layout.slot)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient.index_select(0, ctx.layout.token).index_fill_(0, ctx.layout.padding, 0), None


def _grouped(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    packing: Packing,
    causal: bool,
    patterns: HeadPatterns | None,
    dropout: float,
) -> Tensor:
    heads = query.shape[1]
    layout = packing.layout(heads)
    outputs = []
    for q, k, v, lengths in zip(
        layout.spread(query), layout.spread(key), layout.spread(value), layout.groups, strict=True
    ):
        seen = Seen.of(lengths, causal, patterns, q)
        output = attend_by_head(q, k, v, mask=seen.mask, causal=seen.causal, dropout=dropout)
        outputs.append(seen.blank(output))
    return layout.collect(outputs, heads)


# ── GPU: a kernel for sequences of any length ─────────────────────────────────────────────────────────────


def _has_varlen(query: Tensor) -> bool:
    """FlashAttention computes in half precision, on NVIDIA's chips from Ampere on, heads of a multiple of 8."""
    half = query.dtype in (torch.float16, torch.bfloat16) and query.shape[2] % 8 == 0
    return half and query.is_cuda and torch.cuda.get_device_capability(query.device) >= (8, 0)


def _varlen(
    query: Tensor, key: Tensor, value: Tensor, packing: Packing, causal: bool, band: tuple[int, int] | None
) -> Tensor:
    from torch.nn.attention.varlen import varlen_attn

    left, right = (-1, -1) if band is None else band
    bounds, longest = packing.offsets, packing.longest
    output = varlen_attn(
        query, key, value, bounds, bounds, longest, longest, window_size=(left, 0 if causal else right)
    )
    assert isinstance(output, Tensor)
    return output
