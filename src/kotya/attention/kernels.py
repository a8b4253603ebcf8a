"""Ways to compute softmax(QKᵀ/√d)V, all with one result (Vaswani et al. 2017, section 3.2.1).

- `fused`: PyTorch's `scaled_dot_product_attention`; every length, every device.
- `short`: plain batched products with a hand-written backward. The fused CPU kernel works in tiles made for long
  texts: at 16 tokens in bf16, forward and backward, it took 4 to 6 times as long as the formula written out.
  Chosen for training on CPU up to 128 keys.
- `single`: one query a row, as in a step of decoding: two batched products that read the cache where it lies, in half
  the time of the fused kernel on CPU.
- `exact`: the formula, with the weights returned; for the recorder.

Layout everywhere: [rows, length, heads, size of a head]. A mask is additive, [rows, 1 or heads, 1 or queries, keys], in
the type of the query. A query that may see nothing at all is not possible here: every source has its end token.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from kotya.dropout import dropout_mask

_SHORT = 128
_SMALLEST, _NARROW = 8, 64
"""Queries, from and below, whose weights lie across (see `_weigh`)."""
_KEPT = 512
"""The longest texts whose weights are kept for the backward where heads lie apart."""

Heads = Float[Tensor, "_ _ heads head_size"]
"""Queries, keys or values, split into heads."""
ByHead = Float[Tensor, "rows heads length head_size"]
Queries = Float[Tensor, "rows queries heads head_size"]
Keys = Float[Tensor, "rows keys heads head_size"]
Mask = Float[Tensor, "#rows #heads #queries keys"]


def exact_type(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """In float32 at least: there sums and exponentials are taken."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def padding_mask(
    lengths: Int[Tensor, " rows"], length: int, dtype: torch.dtype
) -> Float[Tensor, "rows 1 1 length"] | None:
    """0 at the real positions and -inf behind them; none where nothing is padded."""
    real = torch.arange(length, device=lengths.device) < lengths[:, None]
    if bool(real.all()):
        return None
    return torch.zeros(real.shape, dtype=dtype, device=lengths.device).masked_fill_(~real, -math.inf)[
        :, None, None, :
    ]


def causal_mask(
    queries: int, keys: int, dtype: torch.dtype, device: torch.device
) -> Float[Tensor, "1 1 queries keys"]:
    """-inf above the diagonal that ends in the last query and the last key: nobody sees what comes after."""
    mask = torch.full((queries, keys), -math.inf, dtype=dtype, device=device)
    return mask.triu_(keys - queries + 1)[None, None]


def attend(
    query: Queries,
    key: Keys,
    value: Keys,
    *,
    mask: Mask | None = None,
    causal: bool = False,
    dropout: float = 0.0,
) -> Queries:
    """Attention by whichever kernel is fastest here. `dropout` is on the weights."""
    training = torch.is_grad_enabled() and (query.requires_grad or key.requires_grad)
    if (
        training
        and query.device.type == "cpu"
        and key.shape[1] <= _SHORT
        and not torch.compiler.is_compiling()
    ):
        return short(query, key, value, mask=mask, causal=causal, dropout=dropout)
    if query.shape[1] == 1 and query.device.type == "cpu" and not torch.is_grad_enabled():
        return single(query, key, value, mask=mask)
    return fused(query, key, value, mask=mask, causal=causal, dropout=dropout)


def attend_by_head(
    query: Float[Tensor, "rows heads queries head_size"],
    key: ByHead,
    value: ByHead,
    *,
    mask: Mask | None = None,
    causal: bool = False,
    dropout: float = 0.0,
) -> Float[Tensor, "rows heads queries head_size"]:
    """The same where heads lie apart already, [rows, heads, length, size of a head]. Causal ones read themselves."""
    length = key.shape[2]
    training = torch.is_grad_enabled() and query.requires_grad
    if query.device.type == "cpu" and length <= (_KEPT if training else _SHORT):
        if causal:
            triangle = causal_mask(length, length, query.dtype, query.device)
            mask = triangle if mask is None else mask + triangle
        output: Tensor = _ShortByHead.apply(query, key, value, mask, dropout)  # type: ignore[no-untyped-call]
        return output
    if causal and mask is not None:
        mask, causal = mask + causal_mask(length, length, query.dtype, query.device), False
    return F.scaled_dot_product_attention(query, key, value, mask, dropout, causal)


def fused(
    query: Heads,
    key: Heads,
    value: Heads,
    *,
    mask: Mask | None = None,
    causal: bool = False,
    dropout: float = 0.0,
) -> Queries:
    """PyTorch's own kernel for this device."""
    if causal and (mask is not None or query.shape[1] != key.shape[1]):
        triangle = causal_mask(query.shape[1], key.shape[1], query.dtype, query.device)
        mask, causal = triangle if mask is None else mask + triangle, False
    output = F.scaled_dot_product_attention(
        query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2), mask, dropout, causal
    )
    return output.transpose(1, 2)


def single(
    query: Float[Tensor, "rows 1 heads head_size"], key: Keys, value: Keys, *, mask: Mask | None = None
) -> Float[Tensor, "rows 1 heads head_size"]:
    """One query a row. Rows and heads make one batch, without a copy where keys lie column by column."""
    rows, _, heads, size = query.shape
    q = query.reshape(rows * heads, 1, size) * (1.0 / math.sqrt(size))
    k, v = (x.transpose(1, 2).flatten(0, 1) for x in (key, value))
    scores = torch.bmm(q, k.transpose(1, 2))
    if mask is not None:
        scores.view(rows, heads, 1, -1).add_(mask)
    return torch.bmm(scores.softmax(-1), v).view(rows, 1, heads, size)


def exact(
    query: Queries,
    key: Keys,
    value: Keys,
    *,
    mask: Mask | None = None,
    causal: bool = False,
    dropout: float = 0.0,
) -> tuple[Queries, Float[Tensor, "rows heads queries keys"]]:
    """The formula as it stands, and the weights before dropout: softmax over the keys in float32."""
    scores = torch.einsum("rqhs,rkhs->rhqk", query, key).float() / math.sqrt(query.shape[-1])
    if mask is not None:
        scores = scores + mask
    if causal:
        scores = scores + causal_mask(query.shape[1], key.shape[1], scores.dtype, scores.device)
    weights = scores.softmax(-1)
    kept = F.dropout(weights, dropout) if dropout else weights
    return torch.einsum("rhqk,rkhs->rqhs", kept.to(value.dtype), value), weights


def _weigh(
    q: Tensor, k: Tensor, v: Tensor, heads: int, mask: Tensor | None, dropout: float
) -> tuple[Tensor, Tensor, Tensor | None]:
    """WV with W = dropout(softmax(QKᵀ/√d + mask)), of [rows·heads, length, size]; the weights, and what was dropped.

    Of short queries the weights are [keys, queries] and not [queries, keys]: PyTorch's softmax over the last of few
    columns works element by element (15 keys, float32: 454 against 108 µs; its gradient, 188 against 24).
    """
    across = _SMALLEST <= q.shape[1] < _NARROW
    scores = torch.bmm(k, q.transpose(1, 2)) if across else torch.bmm(q, k.transpose(1, 2))
    scores.mul_(1.0 / math.sqrt(q.shape[-1]))
    if mask is not None:
        scores.unflatten(0, (-1, heads)).add_(mask.transpose(2, 3) if across else mask)
    # over few columns it is three times as slow in bf16 as in float32, there and back
    few = q.shape[1] < _NARROW // 2 and scores.dtype == torch.bfloat16
    kind = torch.float32 if few else scores.dtype
    weights = scores.softmax(1 if across else 2, kind).to(scores.dtype)
    drop = dropout_mask(weights.shape, dropout, weights.dtype) if dropout > 0.0 else None
    dropped = weights if drop is None else weights * drop
    return torch.bmm(dropped.transpose(1, 2) if across else dropped, v), weights, drop


def _weigh_backward(
    g: Tensor, q: Tensor, k: Tensor, v: Tensor, weights: Tensor, drop: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients by q, k and v from that by the output."""
    across = _SMALLEST <= q.shape[1] < _NARROW
    dropped = weights if drop is None else weights * drop
    value_gradient = torch.bmm(dropped if across else dropped.transpose(1, 2), g)
    weight_gradient = torch.bmm(v, g.transpose(1, 2)) if across else torch.bmm(g, v.transpose(1, 2))
    if drop is not None:
        weight_gradient.mul_(drop)
    scores = torch._softmax_backward_data(weight_gradient, weights, 1 if across else 2, weights.dtype)
    scores.mul_(1.0 / math.sqrt(q.shape[-1]))
    by_query, by_key = (scores.transpose(1, 2), scores) if across else (scores, scores.transpose(1, 2))
    return torch.bmm(by_query, k), torch.bmm(by_key, q), value_gradient


class _Short(torch.autograd.Function):
    """The weights are kept for the backward, being small here."""

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, dropout: float
    ) -> Tensor:
        heads = query.shape[2]
        q, k, v = (_by_head(x) for x in (query, key, value))
        output, weights, drop = _weigh(q, k, v, heads, mask, dropout)
        ctx.save_for_backward(q, k, v, weights, drop)
        ctx.heads = heads
        return _by_length(output, heads)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        gradients = _weigh_backward(_by_head(gradient), *ctx.saved_tensors)
        return *(_by_length(x, ctx.heads) for x in gradients), None, None


class _ShortByHead(torch.autograd.Function):
    """The same where the heads lie apart already."""

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, dropout: float
    ) -> Tensor:
        q, k, v = (x.flatten(0, 1) for x in (query, key, value))
        output, weights, drop = _weigh(q, k, v, query.shape[1], mask, dropout)
        ctx.save_for_backward(q, k, v, weights, drop)
        ctx.shape = query.shape[:2]
        return output.view_as(query)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        gradients = _weigh_backward(gradient.flatten(0, 1), *ctx.saved_tensors)
        return *(x.unflatten(0, ctx.shape) for x in gradients), None, None


def _by_head(x: Tensor) -> Tensor:
    """[rows, length, heads, size] → [rows·heads, length, size]."""
    return x.transpose(1, 2).reshape(-1, x.shape[1], x.shape[3])


def _by_length(x: Tensor, heads: int) -> Tensor:
    """[rows·heads, length, size] → [rows, length, heads, size]."""
    return x.view(-1, heads, x.shape[1], x.shape[2]).transpose(1, 2).contiguous()


def short(
    query: Heads,
    key: Heads,
    value: Heads,
    *,
    mask: Mask | None = None,
    causal: bool = False,
    dropout: float = 0.0,
) -> Queries:
    """The formula in five batched products, forward and backward, for short texts on CPU."""
    if causal:
        triangle = causal_mask(query.shape[1], key.shape[1], query.dtype, query.device)
        mask = triangle if mask is None else mask + triangle
    output: Tensor = _Short.apply(query, key, value, mask, dropout)  # type: ignore[no-untyped-call]
    return output
