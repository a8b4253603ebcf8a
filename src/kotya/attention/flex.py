"""PyTorch's FlexAttention over our block layouts: on a GPU, one fused kernel for any pattern.

Its BlockMask is made from the blocks that a pattern lists, never from a mask over all pairs; inside blocks that are
seen in part the kernel asks the pattern, as a function of positions that it compiles: for the first length, which may
be the only one, and at the second for all.
"""

import math
from collections.abc import Callable
from functools import cache, lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, flex_attention

from kotya.attention.block_patterns import Ends, Neighbours, Random
from kotya.attention.layout import Layout, layout
from kotya.attention.patterns import Both, Causal, Either, Pattern, Place, Seen, Window
from kotya.errors import KotyaError

_BLOCK = 128
"""Positions in a block of FlexAttention."""

_COLUMNS = 8
"""More in a head, so that it stays aligned, where keys have a bias; one is used."""

_GRAPHS = 128
"""How many are compiled at most."""

Rule = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""(row, head, query, key) → whether it is seen: numbers, of which FlexAttention makes a kernel."""


def attend_flex(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    pattern: Pattern,
    *,
    cross: bool,
    layer: int,
    heads: tuple[int, ...],
    key_bias: Tensor | None = None,
) -> Tensor:
    """One text, [queries, heads, size], all but its wide queries; see `attend_blocks`."""
    size = query.shape[2]
    if key_bias is not None:
        query, key, value = _biased(query, key, value, key_bias)
    layer, heads = pattern.drawers(layer, heads)
    mask = block_mask(pattern, len(query), len(key), cross, layer, heads, query.device)
    output: Tensor = _compiled()(query, key, value, mask)
    return output[..., :size]


def _biased(query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """With columns that add the bias to the scores of each key: [q, 1] · [k, √d bias]."""
    size = query.shape[2]
    wider = size + _COLUMNS
    q = F.pad(query * math.sqrt(wider / size), (0, _COLUMNS), value=1.0)
    k, v = F.pad(key, (0, _COLUMNS)), F.pad(value, (0, _COLUMNS))
    k[..., size] = bias[:, None] * math.sqrt(wider)
    return q, k, v


@cache
def _compiled() -> Any:
    # a graph a kind of pattern and of call; past the limit PyTorch gives up
    limit = torch._dynamo.config.recompile_limit
    torch._dynamo.config.recompile_limit = max(limit, _GRAPHS)
    return torch.compile(_attend, fullgraph=True)


def _attend(query: Tensor, key: Tensor, value: Tensor, mask: BlockMask) -> Tensor:
    q, k, v = (x.transpose(0, 1)[None] for x in (query, key, value))
    output = flex_attention(q, k, v, block_mask=mask)
    assert isinstance(output, Tensor)
    return output[0].transpose(0, 1)


@lru_cache(64)
def block_mask(
    pattern: Pattern,
    queries: int,
    keys: int,
    cross: bool,
    layer: int,
    heads: tuple[int, ...],
    device: torch.device,
) -> BlockMask:
    """Which blocks of keys each block of queries needs. Raises KotyaError where nothing is gained by blocks."""
    bounds = [pattern.bind(queries, keys, cross=cross, layer=layer, head=head) for head in heads]
    cuts = []
    for bound in bounds:
        cut = layout(bound, _BLOCK)
        if cut is None:
            raise KotyaError(f"{pattern} sees a fixed share of all keys: there are no blocks to leave out")
        cuts.append(cut)
    part = [_listed(cut, ~cut.whole) for cut in cuts]
    whole = [_listed(cut, cut.whole) for cut in cuts]
    rule = _rule(pattern.narrow(), [bound.place for bound in bounds], device)
    counts, indices, whole_counts, whole_indices = (
        torch.stack([x[i] for x in found])[None].to(device) for found in (part, whole) for i in (0, 1)
    )
    return BlockMask.from_kv_blocks(
        counts,
        indices,
        whole_counts,
        whole_indices,
        BLOCK_SIZE=_BLOCK,
        mask_mod=rule,
        seq_lengths=(queries, keys),
    )


def _listed(cut: Layout, chosen: Tensor) -> tuple[Tensor, Tensor]:
    """How many blocks of keys each block of queries has among those chosen, and which, the rest any."""
    query, key = cut.query[chosen], cut.key[chosen]
    counts = torch.bincount(query, minlength=cut.queries.count)
    rank = torch.arange(len(query)) - (counts.cumsum(0) - counts)[query]
    indices = torch.zeros(cut.queries.count, cut.keys.count, dtype=torch.int32)
    indices[query, rank] = key.to(torch.int32)
    return counts.to(torch.int32), indices


def _rule(pattern: Pattern, places: list[Place], device: torch.device) -> Rule:
    """A narrow pattern as a function of single positions: lambdas, since what is compiled may call nothing else."""
    place = places[0]
    if isinstance(pattern, Either | Both):
        one, other = _rule(pattern.one, places, device), _rule(pattern.other, places, device)
        if isinstance(pattern, Either):
            return lambda row, head, q, k: one(row, head, q, k) | other(row, head, q, k)
        return lambda row, head, q, k: one(row, head, q, k) & other(row, head, q, k)
    if isinstance(pattern, Window):
        dilation, queries, keys = pattern.dilation, place.queries, place.keys
        low, high = -pattern.left * dilation, pattern.right * dilation
        if not place.cross and dilation == 1:
            return lambda row, head, q, k: (k - q >= low) & (k - q <= high)
        if not place.cross:
            return lambda row, head, q, k: (k - q >= low) & (k - q <= high) & ((k - q) % dilation == 0)
        centre: Callable[[Tensor], Tensor] = lambda q: torch.clamp(q * keys // queries, max=keys - 1)  # noqa: E731
        return lambda row, head, q, k: (
            (k - centre(q) >= low) & (k - centre(q) <= high) & ((k - centre(q)) % dilation == 0)
        )
    if isinstance(pattern, Neighbours):
        return _neighbouring(pattern.size, place)
    if isinstance(pattern, Random):
        return _drawn(pattern, places, device)
    if isinstance(pattern, Causal):
        return lambda row, head, q, k: k <= q
    assert isinstance(pattern, Seen)
    if isinstance(pattern.whole, Ends):
        size, last = pattern.whole.positions, place.keys
        return lambda row, head, q, k: (k < size) | (k // size == (last - 1) // size)
    if isinstance(pattern.whole.positions, int):
        count = pattern.whole.positions
        return lambda row, head, q, k: k < count
    named = torch.zeros(place.keys, dtype=torch.bool)
    named[list(pattern.whole.wide_of(place.keys))] = True
    named = named.to(device)
    return lambda row, head, q, k: named[k]


def _neighbouring(size: int, place: Place) -> Rule:
    queries, keys = place.queries, place.keys
    if not place.cross:
        return lambda row, head, q, k: (k // size - q // size).abs() <= 1
    return lambda row, head, q, k: (
        (k // size - torch.clamp(q * keys // queries, max=keys - 1) // size).abs() <= 1
    )


def _drawn(pattern: Random, places: list[Place], device: torch.device) -> Rule:
    """Whether a block has drawn another is looked up: what is compiled may not look for it in a list."""
    table = torch.stack([_table(pattern, place) for place in places]).to(device)
    heads, size = len(table), pattern.size
    return lambda row, head, q, k: table[head % heads, q // size, k // size]


def _table(pattern: Random, place: Place) -> Bool[Tensor, "query_blocks key_blocks"]:
    drawn, blocks = pattern.drawn(place), -(-place.keys // pattern.size)
    found = torch.zeros(len(drawn), blocks + 1, dtype=torch.bool).scatter_(1, drawn % (blocks + 1), True)
    found = found[:, :blocks]  # without the column of those that are none, -1
    return found if place.cross else found | found.T
