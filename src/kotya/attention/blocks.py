"""Attention over the blocks that a pattern keeps: softmax(QKᵀ/√d) V with cost and memory linear in length.

A loop over blocks of queries, each over the keys it sees: two matrix products and a softmax that stay in cache, for all
heads of a block at once, or for blocks of one head that follow each other and see alike. The backward computes the
weights again, so nothing is kept but query, key and value. The few queries that see a share of all keys (`Global` ones)
read apart, through PyTorch's fused kernel.

Plain PyTorch, for any device. A query that sees nothing gives zero, with zero gradient.
"""

import math
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from kotya.attention.kernels import exact_type
from kotya.attention.patterns import Full, Pattern
from kotya.attention.plan import Batch, Plan, Step
from kotya.attention.planner import plan
from kotya.attention.scratch import Scratch
from kotya.dropout import dropout_mask

Queries = Float[Tensor, "queries heads head_size"]
Keys = Float[Tensor, "keys heads head_size"]
KeyBias = Float[Tensor, " keys"] | None
"""Added to all scores of a key but those of wide queries: log m where it counts m times."""


def attend_blocks(
    query: Queries,
    key: Keys,
    value: Keys,
    pattern: Pattern,
    *,
    cross: bool = False,
    layer: int = 0,
    heads: tuple[int, ...],
    dropout: float = 0.0,
    key_bias: KeyBias = None,
) -> Queries:
    """One text, all its queries but the wide ones, which are as good as any: see `attend_wide`.

    `heads`: their numbers in the layer, by which random patterns are drawn.
    Raises KotyaError where the pattern makes no sense between texts of these lengths, or has no blocks.
    """
    if not len(query) or not len(key):
        return query * 0.0 + (key.sum() + value.sum()) * 0.0
    how = plan(
        pattern, len(query), len(key), cross, *pattern.drawers(layer, heads), query.dtype, query.device
    )
    output: Tensor = _Blocks.apply(query, key, value, key_bias, how, dropout)  # type: ignore[no-untyped-call]
    return output


def attend_wide(
    output: Queries,
    query: Queries,
    key: Keys,
    value: Keys,
    pattern: Pattern,
    *,
    cross: bool = False,
    layer: int = 0,
    heads: tuple[int, ...],
    dropout: float = 0.0,
) -> Queries:
    """The output with that of the few queries that see a share of all keys in its place."""
    if not len(key) or (found := _wide(pattern, query, key, cross, layer, heads)) is None:
        return output
    wide, seen = found
    if seen is not None:
        key, value = key[: seen.shape[2]], value[: seen.shape[2]]
    read = attend_dense(query.index_select(0, wide), key, value, seen, dropout)
    return output.index_copy(0, wide, read)


def _wide(
    pattern: Pattern, query: Tensor, key: Tensor, cross: bool, layer: int, heads: tuple[int, ...]
) -> tuple[Int[Tensor, " wide"], Bool[Tensor, "#heads wide keys"] | None] | None:
    """Which queries are wide, and what they see of the keys up to the last that one sees, or None where that is all.

    None where there are none.
    """
    place = pattern.bind(len(query), len(key), cross=cross).place
    places = pattern.wide(place)
    if not places:
        return None
    wide, pattern = torch.tensor(places), pattern.widely(place)
    if isinstance(pattern, Full):
        return wide.to(query.device), None
    layer, heads = pattern.drawers(layer, heads)
    bounds = [pattern.bind(len(query), len(key), cross=cross, layer=layer, head=head) for head in heads]
    seen = torch.stack([bound.allows(wide[:, None], torch.arange(len(key))) for bound in bounds])
    last = seen.any(1).any(0).nonzero()[-1:].sum()  # under `Causal` early ones see little
    seen = seen[:, :, : int(last) + 1]
    return wide.to(query.device), seen.to(query.device)


@torch.no_grad()
def sparse_weights(
    query: Queries,
    key: Keys,
    *wide: Float[Tensor, "_ heads head_size"],
    pattern: Pattern,
    cross: bool = False,
    layer: int = 0,
    heads: tuple[int, ...],
    key_bias: KeyBias = None,
) -> Float[Tensor, "heads queries keys"]:
    """The weights by which one text is read, as a sparse tensor of the pairs that have weight.

    `wide`: queries and keys of the wide queries, where they have their own. Raises KotyaError as `attend_blocks` does.
    """
    query, key = exact_type(query), exact_type(key)
    found = _wide(pattern, query, key, cross, layer, heads) if len(key) else None
    apart = torch.zeros(0, dtype=torch.long, device=query.device) if found is None else found[0]
    parts = list(_narrow_weights(query, key, key_bias, pattern, cross, layer, heads, apart))
    if found is not None:
        places, seen = found
        q, k = map(exact_type, wide or (query, key))
        k = k if seen is None else k[: seen.shape[2]]
        scores = torch.einsum("qhd,khd->hqk", q.index_select(0, places), k) / math.sqrt(q.shape[2])
        if seen is not None:
            scores = scores.masked_fill(~seen, -torch.inf)
        weights = scores.softmax(2).nan_to_num(0.0)  # where nothing is seen softmax is NaN
        head, i, j = weights.nonzero(as_tuple=True)
        parts.append((torch.stack([head, places[i], j]), weights[head, i, j]))
    indices, values = (torch.cat(x, dim=-1) for x in zip(*parts, strict=True))
    shape = len(heads), len(query), len(key)
    return torch.sparse_coo_tensor(indices, values, shape, check_invariants=True).coalesce()


def _narrow_weights(
    query: Tensor,
    key: Tensor,
    key_bias: KeyBias,
    pattern: Pattern,
    cross: bool,
    layer: int,
    heads: tuple[int, ...],
    apart: Int[Tensor, " wide"],
) -> Iterator[tuple[Int[Tensor, "3 pairs"], Float[Tensor, " pairs"]]]:
    """Step by step (head, query, key) and weight, but of the queries that are apart."""
    yield torch.zeros(3, 0, dtype=torch.long, device=query.device), query.new_zeros(0)
    if not len(query) or not len(key):
        return
    how = plan(
        pattern, len(query), len(key), cross, *pattern.drawers(layer, heads), query.dtype, query.device
    )
    rows, columns = (
        torch.arange(len(x), device=x.device)[:, None, None].expand(-1, len(heads), 1) for x in (query, key)
    )
    views, laid = how.views(rows), how.lay(columns)
    scratch = Scratch(columns)
    for step, batch, _, _, weights, _ in _weights(how, query, key, key_bias, 0.0, 0):
        row, column = step.queries.of(views, batch), how.read(step, batch, laid, scratch, "columns")
        kept = (weights > 0.0) & ~torch.isin(row, apart)
        n, i, j = kept.nonzero(as_tuple=True)
        head = torch.full_like(n, batch.number) if batch.by_head else n
        yield torch.stack([head, row[n, i, 0], column[n, j, 0]]), weights[n, i, j]


def attend_dense(
    query: Queries,
    key: Keys,
    value: Keys,
    seen: Bool[Tensor, "#heads queries keys"] | None,
    dropout: float = 0.0,
    *,
    causal: bool = False,
    key_bias: KeyBias = None,
) -> Queries:
    """The same over all keys, through PyTorch's fused kernel, where `seen` says who sees what, or all is causal."""
    blind = None if seen is None else ~seen.any(2, keepdim=True)
    if seen is not None and blind is not None:
        seen = seen | blind
    q, k, v = (x.transpose(0, 1)[None] for x in (query, key, value))
    mask = seen if seen is None or key_bias is None else torch.where(seen, key_bias, -torch.inf)
    output = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout, is_causal=causal)[0]
    if blind is not None:
        output = output.masked_fill(blind, 0.0)
    return output.transpose(0, 1)


class _Blocks(torch.autograd.Function):
    """Every step of a plan, and the same steps again for the gradients."""

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, key_bias: KeyBias, how: Plan, dropout: float
    ) -> Tensor:
        ctx.save_for_backward(query, key, value, key_bias)
        ctx.how, ctx.dropout = how, dropout
        ctx.seed = int(torch.empty((), dtype=torch.int64).random_()) if dropout > 0.0 else 0
        output = torch.zeros_like(query, memory_format=torch.contiguous_format)
        views = how.views(output)
        v, scratch = how.lay(value), Scratch(query)
        for step, batch, _, _, weights, drop in _weights(how, query, key, key_bias, dropout, ctx.seed):
            dropped = weights if drop is None else weights.mul_(drop)
            values = how.read(step, batch, v, scratch, "values")
            step.queries.of(views, batch).copy_(scratch.product("output", dropped, values))
        return output

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, key_bias = ctx.saved_tensors
        how: Plan = ctx.how
        by_query = torch.zeros_like(query, memory_format=torch.contiguous_format)
        by_key, by_value = (torch.zeros_like(x, memory_format=torch.contiguous_format) for x in (key, value))
        g, dq, v = how.views(gradient), how.views(by_query), how.lay(value)
        dk, dv = how.lay(by_key), how.lay(by_value)
        scale, scratch = 1.0 / math.sqrt(query.shape[2]), Scratch(query)
        for step, batch, q, k, weights, drop in _weights(how, query, key, key_bias, ctx.dropout, ctx.seed):
            above, values = step.queries.of(g, batch), how.read(step, batch, v, scratch, "values")
            dropped = weights if drop is None else weights * drop
            how.add(step, batch, dv, scratch.product("added", dropped.transpose(1, 2), above))
            by_weights = scratch.product("weights", above, values.transpose(1, 2))
            if drop is not None:
                by_weights.mul_(drop)
            scores = torch._softmax_backward_data(
                by_weights, weights, 2, weights.dtype, grad_input=by_weights
            )
            step.queries.of(dq, batch).copy_(scratch.product("queries", scores, k, scale))
            how.add(step, batch, dk, scratch.product("added", scores.transpose(1, 2), q, scale))
        return by_query, how.collect(dk, by_key), how.collect(dv, by_value), None, None, None


def _weights(
    how: Plan, query: Tensor, key: Tensor, key_bias: KeyBias, dropout: float, seed: int
) -> Iterator[tuple[Step, Batch, Tensor, Tensor, Tensor, Tensor | None]]:
    """Batch by batch of each step its queries, its keys, softmax(QKᵀ/√d + bias), and what dropout leaves of it."""
    views, laid = how.views(query), how.lay(key)
    bias = None if key_bias is None else how.lay_bias(key_bias, query.shape[1])
    scale, scratch = 1.0 / math.sqrt(query.shape[2]), Scratch(query)
    for step in how.steps:
        for batch in step.batches(query.shape[1]):
            q, k = step.queries.of(views, batch), how.read(step, batch, laid, scratch, "keys")
            scores = scratch.product("scores", q, k.transpose(1, 2), scale)
            if bias is not None:
                how.lean(step, batch, bias, scores)
            how.hide(step, scores)
            if step.blind is not None:
                scores.masked_fill_(step.blind, 0.0)
            weights = torch.softmax(scores, 2, out=scores)
            if step.blind is not None:
                weights.masked_fill_(step.blind, 0.0)
            drop = _drop(weights, dropout, seed) if dropout > 0.0 else None
            seed += 1
            yield step, batch, q, k, weights, drop


def _drop(weights: Tensor, dropout: float, seed: int) -> Tensor:
    """Always the same mask for one seed: the backward draws it again."""
    if weights.device.type == "cpu":
        return dropout_mask(weights.shape, dropout, weights.dtype, seed=seed)
    generator = torch.Generator(weights.device).manual_seed(seed)
    kept = torch.empty_like(weights).bernoulli_(1.0 - dropout, generator=generator)
    return kept.div_(1.0 - dropout)
