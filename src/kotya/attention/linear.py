"""Linear attention: softmax(QKᵀ)V ≈ Q′(K′ᵀV), normalised, with Q′ = φ(Q) and K′ = φ(K), at a cost linear in length.

out_i = φ(q_i)ᵀ S / φ(q_i)ᵀ z,   S = Σ_j φ(k_j) v_jᵀ,   z = Σ_j φ(k_j); for causal attention the sums end at i.

Texts are read chunk by chunk, features and all, and once more for the gradients, so that nothing is kept but query,
key, value and output, and in causal attention the sums before each chunk. There the positions of a block read what came
before the block through the sums, and each other through a triangle of scores. The sums are all that decoding keeps:
their size does not grow.

Features have a scale (features.py). When it rises, the sums fall with it, as in the online softmax (Milakov and
Gimelshein 2018): over whole texts no denominator of FAVOR+ is so below 1. All is computed in float32, whatever autocast
is on.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from kotya.attention.features import Featured, FeatureMap, Scale

P = ParamSpec("P")
R = TypeVar("R")
Heads = Float[Tensor, "rows length heads head_size"]
Texts = Float[Tensor, "_ _ _ head_size"]
Values = Float[Tensor, "_ _ _ value_size"]
Sums = Float[Tensor, "rows heads features value_size_and_1"]
"""S, and z in the last column."""

_BLOCK = 128
"""Positions that see each other through a triangle of scores; the fewest in a chunk."""
_CELLS, _ON_GPU = 2**17, 2**23
"""Features in a chunk: on a CPU of a head, what its cache holds; on a GPU of all heads and rows, work enough for it."""
_RISE = 40.0
"""In a causal chunk a scale rises by so much at most above the chunk's first key: denominators stay above e⁻⁴⁰."""
_SMALLEST = 1e-30
"""Denominators below are taken for nothing: the query matches no key, and its output is zero."""


def _without_autocast(compute: Callable[P, R]) -> Callable[P, R]:
    """Forward and backward in the types of their tensors, on the device of the first."""

    @wraps(compute)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        device = next(x.device.type for x in args if isinstance(x, Tensor))
        with torch.autocast(device, enabled=False):
            return compute(*args, **kwargs)

    return run


def attend_linear(
    query: Heads,
    key: Texts,
    value: Values,
    features: FeatureMap,
    *,
    causal: bool = False,
    lengths: Int[Tensor, " rows"] | None = None,
) -> Float[Tensor, "rows length heads value_size"]:
    """One text a row; `lengths`: how many keys each has, the others are padding."""
    function = _Causal if causal else _Whole
    output: Tensor = function.apply(query, key, value, features.now(), lengths)  # type: ignore[no-untyped-call]
    return output


@dataclass
class LinearCache:
    """What decoding keeps of a text: the sums so far."""

    sums: Sums
    scale: Scale
    """Logarithms of what they are divided by."""

    @classmethod
    def empty(
        cls, rows: int, heads: int, size: int, features: FeatureMap, device: torch.device
    ) -> "LinearCache":
        sums = torch.zeros(rows, heads, features.count, size + 1, device=device)
        return cls(sums, torch.full_like(sums[..., 0], torch.finfo(sums.dtype).min))

    @classmethod
    @_without_autocast
    def of(
        cls, key: Texts, value: Values, features: FeatureMap, lengths: Int[Tensor, " rows"] | None
    ) -> "LinearCache":
        """The sums of whole texts."""
        rows, _, heads, size = value.shape
        cache = cls.empty(rows, heads, size, features, key.device)
        for part in _chunks(key, features):
            k, scale = features.keys(key[:, part], cache.scale, _real(lengths, part))
            cache.raise_to(scale)
            cache.add(k, _with_ones(value, part))
        return cache

    def raise_to(self, scale: Scale) -> None:
        """Divide by more."""
        if scale is self.scale:
            return
        self.sums = self.sums * (self.scale - scale).exp()[..., None]
        self.scale = scale

    def add(self, key: Featured, value: Float[Tensor, "rows heads length value_size_and_1"]) -> None:
        """Keys and values more, at its own scale."""
        self.sums = self.sums + key.transpose(2, 3) @ value

    @_without_autocast
    def read(self, query: Heads, features: FeatureMap) -> Float[Tensor, "rows length heads value_size"]:
        """What queries see of it, all of them alike."""
        seen = features.queries(query, self.scale) @ self.sums
        return _ratio(seen).transpose(1, 2).to(query.dtype)

    @_without_autocast
    def extend(self, query: Heads, key: Heads, value: Values, features: FeatureMap) -> Values:
        """n new positions a row: they are added, and each sees those up to its own."""
        outputs = [
            _ratio(self.step(features.queries(query[:, part], scale), k, _with_ones(value, part), scale))
            for part, k, scale in _causal_parts(features, key, None, self.scale)
        ]
        return torch.cat(outputs, dim=2).transpose(1, 2).to(query.dtype)

    def step(
        self,
        query: Featured,
        key: Featured,
        value: Float[Tensor, "rows heads length value_size_and_1"],
        scale: Scale,
    ) -> Float[Tensor, "rows heads length value_size_and_1"]:
        """Numerators and denominators of new positions at a raised scale; they are added."""
        self.raise_to(scale)
        seen = _up_to(_triangle(query, key), query, key, value, self.sums)
        self.add(key, value)
        return seen

    def select(self, rows: Int[Tensor, " kept"], columns: int) -> "LinearCache":
        """Those rows, however many columns they are the sums of."""
        return LinearCache(self.sums.index_select(0, rows), self.scale.index_select(0, rows))

    def join(self, other: "LinearCache") -> "LinearCache":
        """The rows of both, this one's first."""
        return LinearCache(torch.cat([self.sums, other.sums]), torch.cat([self.scale, other.scale]))


def _chunks(x: Texts, features: FeatureMap, *, causal: bool = False) -> list[slice]:
    """Of the positions of x: of whole blocks, on a CPU of at most four, in causal attention of one."""
    rows, length, heads, _ = x.shape
    if x.device.type == "cpu":
        blocks = min(_CELLS // features.count // _BLOCK, 1 if causal else 4)
    else:
        blocks = _ON_GPU // (rows * heads * features.count) // _BLOCK
    size = max(blocks, 1) * _BLOCK
    return [slice(start, min(start + size, length)) for start in range(0, length, size)]


def _blocks(x: Tensor) -> Tensor:
    """[rows, heads, chunk, size] → [rows, heads, blocks, block, size]; zeros behind the end."""
    size = min(x.shape[2], _BLOCK)
    if x.shape[2] % size:
        x = F.pad(x, (0, 0, 0, -x.shape[2] % size))
    blocks: Tensor = x.unflatten(2, (-1, size))
    return blocks


def _triangle(a: Tensor, b: Tensor) -> Tensor:
    """a_i·b_j for j ≤ i, block by block; of [rows, heads, chunk, size] each."""
    return (_blocks(a) @ _blocks(b).transpose(3, 4)).tril_()


def _up_to(triangle: Tensor, a: Tensor, b: Tensor, c: Tensor, sums: Tensor) -> Tensor:
    """Row i is Σ_j≤i (a_i·b_j) c_j + a_i·sums, with the `triangle` of a and b."""
    x, y, z = map(_blocks, (a, b, c))
    seen = triangle @ z + x @ _running(y[:, :, :-1], z[:, :, :-1], sums)
    return seen.flatten(2, 3)[:, :, : a.shape[2]]


def _from_on(triangle: Tensor, a: Tensor, b: Tensor, c: Tensor, sums: Tensor) -> Tensor:
    """Row j is Σ_i≥j (a_i·b_j) c_i + b_j·sums."""
    x, y, z = map(_blocks, (a, b, c))
    after = _running(x[:, :, 1:].flip(2), z[:, :, 1:].flip(2), sums).flip(2)
    seen = triangle.transpose(3, 4) @ z + y @ after
    return seen.flatten(2, 3)[:, :, : b.shape[2]]


def _running(y: Tensor, z: Tensor, sums: Tensor) -> Tensor:
    """`sums`, and block after block what they are with yᵀz of one more; [rows, heads, blocks and one, ...]."""
    if not y.shape[2]:
        return sums[:, :, None]
    return torch.cat([sums[:, :, None], y.transpose(3, 4) @ z], dim=2).cumsum(2)


def _causal_parts(
    features: FeatureMap, key: Tensor, lengths: Tensor | None, scale: Tensor
) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Chunks from the front, φ of their keys, and its scale, which began at `scale`.

    A chunk in which a later key would raise a scale so far that earlier ones vanish is cut in two, at need again.
    """
    left = _chunks(key, features, causal=True)[::-1]
    while left:
        part = left.pop()
        k, raised = features.keys(key[:, part], scale, _real(lengths, part))
        start, stop = part.start, part.stop
        if stop - start > 1 and raised is not scale:
            first = slice(start, start + 1)
            _, least = features.keys(key[:, first], scale, _real(lengths, first))
            if bool((raised - least > _RISE).any()):
                middle = (start + stop) // 2
                left += [slice(middle, stop), slice(start, middle)]
                continue
        scale = raised
        yield part, k, scale


def _with_ones(x: Tensor, part: slice) -> Tensor:
    """[rows, heads, chunk, size + 1] in float32, the last column 1: it sums up the denominators."""
    return F.pad(x[:, part].transpose(1, 2).float(), (0, 1), value=1.0)


def _ratio(seen: Float[Tensor, "*rows size_and_1"]) -> Float[Tensor, "*rows size"]:
    """Numerators over the denominator in the last column; zero where there is nothing."""
    below = seen[..., -1:]
    return seen[..., :-1] / torch.where(below > _SMALLEST, below, torch.inf)


def _real(lengths: Tensor | None, part: slice) -> Tensor | None:
    """[rows, chunk]: which positions are no padding."""
    if lengths is None:
        return None
    return torch.arange(part.start, part.stop, device=lengths.device) < lengths[:, None]


def _empty_output(query: Tensor, value: Tensor) -> Tensor:
    return query.new_empty(*query.shape[:3], value.shape[3])


class _Whole(torch.autograd.Function):
    """Every query sees every key. With a column of ones beside V the denominators are columns like others."""

    @staticmethod
    @_without_autocast
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, features: FeatureMap, lengths: Tensor | None
    ) -> Tensor:
        output = _empty_output(query, value)
        cache = LinearCache.of(key, value, features, lengths)
        for part in _chunks(query, features):
            output[:, part] = cache.read(query[:, part], features)
        ctx.save_for_backward(query, key, value, output, lengths, cache.sums, cache.scale)
        ctx.features = features
        return output

    @staticmethod
    @torch.autograd.function.once_differentiable
    @_without_autocast
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, output, lengths, sums, scale = ctx.saved_tensors
        features: FeatureMap = ctx.features
        by_query, by_key, by_value = (torch.empty_like(x) for x in (query, key, value))
        by_sums = torch.zeros_like(sums)
        for part in _chunks(query, features):
            with torch.enable_grad():
                x = _leaf(query, part)
                q = features.queries(x, scale)
            g = _by_seen(gradient[:, part], output[:, part], q.detach() @ sums[..., -1:])
            (by_query[:, part],) = torch.autograd.grad(q, x, g @ sums.transpose(2, 3))
            by_sums += q.detach().transpose(2, 3) @ g
        for part in _chunks(key, features):
            with torch.enable_grad():
                x = _leaf(key, part)
                k, _ = features.keys(x, scale, _real(lengths, part))
            by_features = _with_ones(value, part) @ by_sums.transpose(2, 3)
            (by_key[:, part],) = torch.autograd.grad(k, x, by_features)
            by_value[:, part] = (k.detach() @ by_sums[..., :-1]).transpose(1, 2)
        return by_query, by_key, by_value, None, None


@dataclass
class _Chunk:
    """A chunk of causal attention."""

    scale: Scale
    """Of the sums before it."""
    parts: list[tuple[slice, Scale]]
    """What it is cut into, mostly one, and their scales."""

    def before(
        self, sums: Sums, key: Texts, value: Values, features: FeatureMap, lengths: Tensor | None
    ) -> list[tuple[slice, Scale, Sums]]:
        """Each part with the sums before it at its scale; `sums`: those before the chunk."""
        cache, found = LinearCache(sums, self.scale), []
        for number, (part, scale) in enumerate(self.parts, 1):
            cache.raise_to(scale)
            found.append((part, scale, cache.sums))
            if number < len(self.parts):
                k, _ = features.keys(key[:, part], scale, _real(lengths, part))
                cache.add(k, _with_ones(value, part))
        return found


class _Causal(torch.autograd.Function):
    """Every query sees the keys up to its own: earlier chunks through their sums, its own through a triangle."""

    @staticmethod
    @_without_autocast
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, features: FeatureMap, lengths: Tensor | None
    ) -> Tensor:
        output = _empty_output(query, value)
        rows, length, heads, size = value.shape
        cache = LinearCache.empty(rows, heads, size, features, key.device)
        below = torch.empty(rows, heads, length, 1, device=query.device)
        firsts = {chunk.start for chunk in _chunks(key, features, causal=True)}
        chunks, sums = list[_Chunk](), []
        for part, k, scale in _causal_parts(features, key, lengths, cache.scale):
            if part.start in firsts:
                chunks.append(_Chunk(cache.scale, []))
                if any(ctx.needs_input_grad):
                    sums.append(cache.sums)
            chunks[-1].parts.append((part, scale))
            seen = cache.step(features.queries(query[:, part], scale), k, _with_ones(value, part), scale)
            output[:, part] = _ratio(seen).transpose(1, 2)
            below[:, :, part] = seen[..., -1:]
        ctx.save_for_backward(query, key, value, output, lengths, below, *sums)
        ctx.features, ctx.chunks = features, chunks
        return output

    @staticmethod
    @torch.autograd.function.once_differentiable
    @_without_autocast
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """From the end, with what was asked of the sums so far, and what they were before each chunk."""
        query, key, value, output, lengths, below, *before = ctx.saved_tensors
        features: FeatureMap = ctx.features
        by_query, by_key, by_value = (torch.empty_like(x) for x in (query, key, value))
        by_sums, later = None, None
        parts = (
            found
            for chunk, sums in zip(reversed(ctx.chunks), reversed(before), strict=True)
            for found in reversed(chunk.before(sums, key, value, features, lengths))
        )
        for part, scale, sums in parts:
            if by_sums is None:
                by_sums = torch.zeros_like(sums)
            elif scale is not later:
                by_sums = by_sums * (scale - later).exp()[..., None]
            later = scale
            with torch.enable_grad():
                x, y = _leaf(query, part), _leaf(key, part)
                q, (k, _) = features.queries(x, scale), features.keys(y, scale, _real(lengths, part))
            v, g = _with_ones(value, part), _by_seen(gradient[:, part], output[:, part], below[:, :, part])
            fq, fk = q.detach(), k.detach()
            pairs, weights = _triangle(g, v), _triangle(fq, fk)
            by_q = _up_to(pairs, g, v, fk, sums.transpose(2, 3))
            by_k = _from_on(pairs, g, v, fq, by_sums.transpose(2, 3))
            by_v = _from_on(weights, fq, fk, g[..., :-1], by_sums[..., :-1])
            by_query[:, part], by_key[:, part] = torch.autograd.grad((q, k), (x, y), (by_q, by_k))
            by_value[:, part] = by_v.transpose(1, 2)
            by_sums = by_sums + fq.transpose(2, 3) @ g
        return by_query, by_key, by_value, None, None


def _leaf(x: Tensor, part: slice) -> Tensor:
    """A chunk as the leaf of a graph of its own."""
    return x[:, part].detach().requires_grad_()


def _by_seen(gradient: Tensor, output: Tensor, below: Tensor) -> Tensor:
    """The gradient by numerators and, in the last column, by denominators: [rows, heads, chunk, size + 1]."""
    g, out = (x.transpose(1, 2).float() for x in (gradient, output))
    g = g / torch.where(below > _SMALLEST, below, torch.inf)
    return torch.cat([g, -(g * out).sum(3, keepdim=True)], dim=3)
