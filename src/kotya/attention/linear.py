"""Linear attention: softmax(QKᵀ)V ≈ Q′(K′ᵀV), normalised, with Q′ = φ(Q) and K′ = φ(K), at a cost linear in length.

out_i = φ(q_i)ᵀ S / φ(q_i)ᵀ z,   S = Σ_j φ(k_j) v_jᵀ,   z = Σ_j φ(k_j); for causal attention the sums end at i.

Texts are read chunk by chunk, features and all, and once more for the gradients, so that nothing is kept but query,
key, value and output. A causal chunk reads what came before it through the sums, itself through a triangle of scores.
The sums are all that decoding keeps: their size does not grow.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

Heads = Float[Tensor, "rows length heads head_size"]
Texts = Float[Tensor, "_ _ _ head_size"]
Featured = Float[Tensor, "*rows features"]
Sums = Float[Tensor, "rows heads features head_size_and_1"]
"""S, and z in the last column."""

_CHUNK = 128
"""Positions in a causal chunk, and the fewest in others."""
_CELLS = 2**15
"""Features of a head in another chunk; with 8 heads they fill a core's cache."""
_SMALLEST = 1e-30
"""Denominators below are taken for nothing: the query matches no key, and its output is zero."""


class FeatureMap(nn.Module, ABC):
    """φ, of which products stand for exp(qᵀk/√d), or for another similarity; never negative, computed in float32."""

    def __init__(self, count: int) -> None:
        """`count`: r, how many features a vector has."""
        super().__init__()
        self.count = count

    @abstractmethod
    def queries(self, x: Float[Tensor, "*rows size"]) -> Featured:
        """φ of queries, each by itself: a factor of its own cancels out."""

    @abstractmethod
    def keys(self, x: Float[Tensor, "*rows size"]) -> Featured:
        """φ of keys, each by itself, whatever stands beside it."""

    def renew(self) -> None:
        """Before a forward pass in training."""


class Elu(FeatureMap):
    """φ(x) = elu(x) + 1 (Katharopoulos et al. 2020, equation 7)."""

    def queries(self, x: Float[Tensor, "*rows size"]) -> Featured:
        return F.elu(x.float()) + 1.0

    def keys(self, x: Float[Tensor, "*rows size"]) -> Featured:
        return self.queries(x)


class Relu(FeatureMap):
    """φ(x) = max(x, 0), as Choromanski et al. 2021 have it among their generalised kernels, without a projection."""

    def queries(self, x: Float[Tensor, "*rows size"]) -> Featured:
        return F.relu(x.float())

    def keys(self, x: Float[Tensor, "*rows size"]) -> Featured:
        return self.queries(x)


class Favor(FeatureMap):
    """FAVOR+ (Choromanski et al. 2021): φ(x) = exp(ωᵀx′ - |x′|²/2), x′ = x/d^¼, for random orthogonal ω.

    E φ(q)ᵀφ(k) = exp(qᵀk/√d), exactly softmax's. No stabiliser looks at other keys: an exponent is |ω|²/2 at most.
    """

    def __init__(self, size: int, features: int, *, redraw: int | None = None) -> None:
        """`features`: r, how many there are. `redraw`: after so many forward passes in training they are drawn anew."""
        super().__init__(features)
        self.redraw = redraw
        # not trained, but weights all the same: they are saved with the others, and a run goes on with them
        self.omega = nn.Parameter(torch.empty(features, size), requires_grad=False)
        self.passes = nn.Parameter(torch.zeros(()), requires_grad=False)
        self.draw()

    @torch.no_grad()
    def draw(self) -> None:
        """New random features, by PyTorch's default generator."""
        if not self.omega.is_meta:
            self.omega.copy_(orthogonal(*self.omega.shape))

    @torch.no_grad()
    def renew(self) -> None:
        if self.redraw is not None:
            self.passes.add_(1.0)
            if int(self.passes) % self.redraw == 0:
                self.draw()

    def _projected(self, x: Tensor) -> Tensor:
        """ωᵀx′."""
        return F.linear(x.float(), self.omega.float() * x.shape[-1] ** -0.25)

    def queries(self, x: Float[Tensor, "*rows size"]) -> Featured:
        """Up to a factor: e to the -|x′|²/2, and what makes the greatest feature 1."""
        exponents = self._projected(x)
        features: Tensor = exponents.sub_(exponents.detach().amax(-1, keepdim=True)).exp_()
        return features

    def keys(self, x: Float[Tensor, "*rows size"]) -> Featured:
        # so that a sum over any number of keys stays below float32's e⁸⁸
        bound = (self.omega.float().square().sum(1).max() / 2 - 60.0).clamp(min=0.0)
        half_square = x.float().square().sum(-1, keepdim=True) * (x.shape[-1] ** -0.5 / 2)
        features: Tensor = self._projected(x).sub_(half_square + bound).exp_()
        return features


def orthogonal(features: int, size: int) -> Float[Tensor, "features size"]:
    """Random rows, each distributed as a normal vector; of each `size` of them every two are orthogonal.

    By PyTorch's default generator (Choromanski et al. 2021, section 2.4).
    """
    blocks = []
    for _ in range(-(-features // size)):
        q, r = torch.linalg.qr(torch.randn(size, size))
        blocks.append(
            (q * r.diagonal().sign()).T
        )  # without the signs no direction would be as likely as its opposite
    norms: Tensor = torch.randn(features, size).norm(dim=1, keepdim=True)
    return torch.cat(blocks)[:features] * norms


def attend_linear(
    query: Heads,
    key: Texts,
    value: Texts,
    features: FeatureMap,
    *,
    causal: bool = False,
    lengths: Int[Tensor, "rows"] | None = None,
) -> Heads:
    """One text a row; `lengths`: how many keys each has, the others are padding."""
    function = _Causal if causal else _Whole
    output: Tensor = function.apply(query, key, value, features, lengths)  # type: ignore[no-untyped-call]
    return output


@dataclass
class LinearCache:
    """What decoding keeps of a text: the sums so far."""

    sums: Sums

    @classmethod
    def empty(
        cls, rows: int, heads: int, size: int, features: FeatureMap, device: torch.device
    ) -> "LinearCache":
        return cls(torch.zeros(rows, heads, features.count, size + 1, device=device))

    @classmethod
    def of(
        cls, key: Texts, value: Texts, features: FeatureMap, lengths: Int[Tensor, "rows"] | None
    ) -> "LinearCache":
        """The sums of whole texts."""
        rows, _, heads, size = value.shape
        cache = cls.empty(rows, heads, size, features, key.device)
        for part in _chunks(key.shape[1], features):
            cache.sums += _keys(features, key, lengths, part).transpose(2, 3) @ _with_ones(value, part)
        return cache

    def read(self, query: Heads, features: FeatureMap) -> Heads:
        """What queries see of it, all of them alike."""
        return _ratio(features.queries(query).transpose(1, 2) @ self.sums).transpose(1, 2).to(query.dtype)

    def extend(self, query: Heads, key: Heads, value: Heads, features: FeatureMap) -> Heads:
        """n new positions a row: they are added, and each sees those up to its own."""
        parts = _chunks(query.shape[1], features, causal=True)
        return torch.cat([self._extend(query[:, p], key[:, p], value[:, p], features) for p in parts], dim=1)

    def _extend(self, query: Heads, key: Heads, value: Heads, features: FeatureMap) -> Heads:
        q, k = features.queries(query).transpose(1, 2), features.keys(key).transpose(1, 2)
        v = _with_ones(value, slice(None))
        seen = q @ self.sums + (q @ k.transpose(2, 3)).tril_() @ v
        self.sums = self.sums + k.transpose(2, 3) @ v
        return _ratio(seen).transpose(1, 2).to(query.dtype)

    def select(self, rows: Int[Tensor, "kept"], columns: int) -> "LinearCache":
        """Those rows, however many columns they are the sums of."""
        return LinearCache(self.sums.index_select(0, rows))

    def join(self, other: "LinearCache") -> "LinearCache":
        """The rows of both, this one's first."""
        return LinearCache(torch.cat([self.sums, other.sums]))


def _chunks(length: int, features: FeatureMap, *, causal: bool = False) -> list[slice]:
    size = _CHUNK if causal else min(max(_CELLS // features.count, _CHUNK), 4 * _CHUNK)
    return [slice(start, min(start + size, length)) for start in range(0, length, size)]


def _with_ones(x: Tensor, part: slice) -> Tensor:
    """[rows, heads, chunk, size + 1] in float32, the last column 1: it sums up the denominators."""
    return F.pad(x[:, part].transpose(1, 2).float(), (0, 1), value=1.0)


def _ratio(seen: Float[Tensor, "*rows size_and_1"]) -> Float[Tensor, "*rows size"]:
    """Numerators over the denominator in the last column; zero where there is nothing."""
    below = seen[..., -1:]
    return seen[..., :-1] / torch.where(below > _SMALLEST, below, torch.inf)


def _masked(k: Tensor, lengths: Tensor | None, part: slice) -> Tensor:
    """Features of a chunk of keys, those of padding 0."""
    if lengths is None:
        return k
    place = torch.arange(part.start, part.stop, device=k.device)
    return k * (place < lengths[:, None])[:, None, :, None]


def _queries(features: FeatureMap, query: Tensor, part: slice) -> Tensor:
    """φ of a chunk of queries, [rows, heads, chunk, features]."""
    return features.queries(query[:, part]).transpose(1, 2)


def _keys(features: FeatureMap, key: Tensor, lengths: Tensor | None, part: slice) -> Tensor:
    """φ of a chunk of keys, [rows, heads, chunk, features]; nothing in padding."""
    return _masked(features.keys(key[:, part]).transpose(1, 2), lengths, part)


class _Whole(torch.autograd.Function):
    """Every query sees every key. With a column of ones beside V the denominators are columns like others."""

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, features: FeatureMap, lengths: Tensor | None
    ) -> Tensor:
        output = torch.empty_like(query, memory_format=torch.contiguous_format)
        cache = LinearCache.of(key, value, features, lengths)
        for part in _chunks(query.shape[1], features):
            output[:, part] = cache.read(query[:, part], features)
        ctx.save_for_backward(query, key, value, output, lengths, cache.sums)
        ctx.features = features
        return output

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, output, lengths, sums = ctx.saved_tensors
        features: FeatureMap = ctx.features
        by_query, by_key, by_value = (torch.empty_like(x) for x in (query, key, value))
        by_sums = torch.zeros_like(sums)
        for part in _chunks(query.shape[1], features):
            with torch.enable_grad():
                x = _leaf(query, part)
                q = features.queries(x).transpose(1, 2)
            g = _by_seen(gradient[:, part], output[:, part], q.detach() @ sums[..., -1:])
            (by_query[:, part],) = torch.autograd.grad(q, x, g @ sums.transpose(2, 3))
            by_sums += q.detach().transpose(2, 3) @ g
        for part in _chunks(key.shape[1], features):
            with torch.enable_grad():
                x = _leaf(key, part)
                k = _masked(features.keys(x).transpose(1, 2), lengths, part)
            by_features = _with_ones(value, part) @ by_sums.transpose(2, 3)
            (by_key[:, part],) = torch.autograd.grad(k, x, by_features)
            by_value[:, part] = (k.detach() @ by_sums[..., :-1]).transpose(1, 2)
        return by_query, by_key, by_value, None, None


class _Causal(torch.autograd.Function):
    """Every query sees the keys up to its own: earlier chunks through their sums, its own through a triangle."""

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, features: FeatureMap, lengths: Tensor | None
    ) -> Tensor:
        output = torch.empty_like(query, memory_format=torch.contiguous_format)
        rows, length, heads, size = value.shape
        sums = LinearCache.empty(rows, heads, size, features, key.device).sums
        below = torch.empty(rows, heads, length, 1, device=query.device)
        for part in _chunks(length, features, causal=True):
            q, k = _queries(features, query, part), _keys(features, key, lengths, part)
            v = _with_ones(value, part)
            seen = ((q @ k.transpose(2, 3)).tril_() @ v).add_(q @ sums)
            sums += k.transpose(2, 3) @ v
            output[:, part] = _ratio(seen).transpose(1, 2)
            below[:, :, part] = seen[..., -1:]
        ctx.save_for_backward(query, key, value, output, lengths, below)
        ctx.features = features
        return output

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """By queries from the front, with the sums so far; by keys and values from the end, with what was asked."""
        query, key, value, output, lengths, below = ctx.saved_tensors
        features: FeatureMap = ctx.features
        by_query, by_key, by_value = (torch.empty_like(x) for x in (query, key, value))
        rows, length, heads, size = value.shape
        sums = LinearCache.empty(rows, heads, size, features, key.device).sums
        chunks = _chunks(length, features, causal=True)
        for part in chunks:
            with torch.enable_grad():
                x = _leaf(query, part)
                q = features.queries(x).transpose(1, 2)
            k, v = _keys(features, key, lengths, part), _with_ones(value, part)
            g = _by_seen(gradient[:, part], output[:, part], below[:, :, part])
            by_features = (g @ sums.transpose(2, 3)).add_((g @ v.transpose(2, 3)).tril_() @ k)
            (by_query[:, part],) = torch.autograd.grad(q, x, by_features)
            sums += k.transpose(2, 3) @ v
        by_sums = sums.zero_()
        for part in reversed(chunks):
            with torch.enable_grad():
                x = _leaf(key, part)
                k = _masked(features.keys(x).transpose(1, 2), lengths, part)
            q, v = _queries(features, query, part), _with_ones(value, part)
            g = _by_seen(gradient[:, part], output[:, part], below[:, :, part])
            by_features = (v @ by_sums.transpose(2, 3)).add_((v @ g.transpose(2, 3)).triu_() @ q)
            (by_key[:, part],) = torch.autograd.grad(k, x, by_features)
            asked = (k.detach() @ q.transpose(2, 3)).triu_()
            by_v = (k.detach() @ by_sums[..., :-1]).add_(asked @ g[..., :-1])
            by_value[:, part] = by_v.transpose(1, 2)
            by_sums += q.transpose(2, 3) @ g
        return by_query, by_key, by_value, None, None


def _leaf(x: Tensor, part: slice) -> Tensor:
    """A chunk as the leaf of a graph of its own."""
    return x[:, part].detach().requires_grad_()


def _by_seen(gradient: Tensor, output: Tensor, below: Tensor) -> Tensor:
    """The gradient by numerators and, in the last column, by denominators: [rows, heads, chunk, size + 1]."""
    g, out = (x.transpose(1, 2).float() for x in (gradient, output))
    g = g / torch.where(below > _SMALLEST, below, torch.inf)
    return torch.cat([g, -(g * out).sum(3, keepdim=True)], dim=3)


class LengthProjection(nn.Module):
    """Linformer (Wang et al. 2020): keys and values of n positions are mixed into k of them, K̄ = EK, V̄ = FV.

    E and F are learned, k × the longest text. It has no causal form: every mixture holds what comes after.
    """

    def __init__(self, length: int, size: int) -> None:
        """`length`: of the longest text. `size`: k."""
        super().__init__()
        self.length = length
        self.keys = nn.Parameter(torch.randn(size, length) / math.sqrt(size))
        self.values = nn.Parameter(torch.randn(size, length) / math.sqrt(size))

    def forward(
        self, key: Texts, value: Texts, lengths: Int[Tensor, "rows"] | None = None
    ) -> tuple[Texts, Texts]:
        """[rows, k, heads, size] each; padding takes no part."""
        length = key.shape[1]
        if lengths is not None:
            real = torch.arange(length, device=key.device) < lengths[:, None]
            key, value = (x * real[:, :, None, None] for x in (key, value))
        mixed = (
            (weights[:, :length].to(x.dtype) @ x.flatten(2)).unflatten(2, x.shape[2:])
            for weights, x in ((self.keys, key), (self.values, value))
        )
        return next(mixed), next(mixed)
