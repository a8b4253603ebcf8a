"""The patterns of a layer's heads, and the choice of a kernel for them. All kernels have one result.

- `dense`: PyTorch's fused kernel under a mask of all pairs; for short texts, and for patterns that are a fixed share
  of all pairs.
- `blocks`: plain PyTorch over the blocks that a pattern keeps, at a cost linear in length; on any device.
- `flex`: FlexAttention over the same blocks, on a GPU.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from kotya.attention.blocks import KeyBias, attend_blocks, attend_dense, attend_wide, sparse_weights
from kotya.attention.kernels import exact
from kotya.attention.patterns import Causal, Full, Pattern, Place, Window
from kotya.errors import KotyaError

Kernel = Literal["auto", "dense", "blocks", "flex"]
Queries = Float[Tensor, "queries heads head_size"]
Keys = Float[Tensor, "keys heads head_size"]

SHORT = 512
"""The longest texts for which a mask of all pairs is cheaper than blocks."""

_FLEX_SIZE = 16
"""The smallest head that FlexAttention has a kernel for."""

_log = logging.getLogger("kotya")


@dataclass(frozen=True)
class HeadPatterns:
    """One pattern for all heads of a layer, or one for each of some equal groups of them."""

    patterns: tuple[Pattern, ...]
    layer: int = 0
    kernel: Kernel = "auto"

    def groups(self, heads: int, *, causal: bool) -> list[tuple[Pattern, tuple[int, ...]]]:
        """Each pattern with the heads it is of. Raises KotyaError where heads cannot share the patterns evenly."""
        return _groups(self.patterns, heads, causal)

    def mask(
        self, queries: int, keys: int, heads: int, *, causal: bool = False, cross: bool = False
    ) -> Bool[Tensor, "#heads queries keys"]:
        """All of it, on the CPU: for short texts and pictures."""
        groups = self.groups(heads, causal=causal)
        masks = [_seen(pattern, queries, keys, cross, self.layer, numbers) for pattern, numbers in groups]
        if len(masks) == 1:
            return masks[0]
        return torch.cat([mask.expand(heads // len(masks), -1, -1) for mask in masks])

    def band(self) -> tuple[int, int] | None:
        """How far all heads see to the left and to the right, where that is all there is to it."""
        (pattern, *others) = self.patterns
        plain = isinstance(pattern, Window) and pattern.dilation == 1 and not others
        return (pattern.left, pattern.right) if plain and isinstance(pattern, Window) else None

    def knows_the_end(self) -> bool:
        """Whether what two positions see of each other may change when their text grows."""
        return any(pattern.knows_the_end() for pattern in self.patterns)

    def check_decoded(self) -> None:
        """Raises KotyaError where they cannot be followed while a text grows."""
        if self.knows_the_end():
            raise KotyaError("a pattern of the end of a text is not decoded: the end is not known")

    def by_blocks(self, queries: int, keys: int) -> bool:
        """Whether texts of these lengths are read by blocks."""
        return self.kernel in ("blocks", "flex") or (self.kernel == "auto" and max(queries, keys) > SHORT)

    def tell(self, kernel: str, heads: int, *, causal: bool) -> None:
        """Say by which kernel they are computed here."""
        for pattern, _ in self.groups(heads, causal=causal):
            tell(kernel, pattern, self.layer)

    def attend(
        self,
        query: Queries,
        key: Keys,
        value: Keys,
        *,
        causal: bool = False,
        cross: bool = False,
        dropout: float = 0.0,
        key_bias: KeyBias = None,
    ) -> Queries:
        """One text. `key_bias` is added to all scores of a key, but those of wide queries; it has no gradient.

        Raises KotyaError where the kernel that was asked for cannot do it.
        """

        def narrow(pattern: Pattern, heads: tuple[int, ...], q: Queries, k: Keys, v: Keys) -> Queries:
            return self._narrow(q, k, v, pattern, heads, cross, dropout, key_bias)

        output = self._by_group(narrow, causal, query, key, value)
        return self.read_widely(output, query, key, value, causal=causal, cross=cross, dropout=dropout)

    def read_widely(
        self,
        output: Queries,
        query: Queries,
        key: Keys,
        value: Keys,
        *,
        causal: bool = False,
        cross: bool = False,
        dropout: float = 0.0,
    ) -> Queries:
        """The output of one text, with that of its wide queries in place, which read by these."""

        def wide(
            pattern: Pattern, heads: tuple[int, ...], o: Queries, q: Queries, k: Keys, v: Keys
        ) -> Queries:
            return attend_wide(
                o, q, k, v, pattern, cross=cross, layer=self.layer, heads=heads, dropout=dropout
            )

        return self._by_group(wide, causal, output, query, key, value)

    def _by_group(
        self, compute: Callable[..., Tensor], causal: bool, *read: Tensor, heads: int = 1
    ) -> Tensor:
        """What `compute` makes of every group's pattern, heads and part of what is read, joined on the axis `heads`."""
        groups = self.groups(read[0].shape[1], causal=causal)
        if len(groups) == 1:
            return compute(*groups[0], *read)
        outputs = [
            compute(pattern, numbers, *(x[:, numbers[0] : numbers[-1] + 1] for x in read))
            for pattern, numbers in groups
        ]
        return torch.cat(outputs, dim=heads)

    def sparse_weights(
        self,
        query: Queries,
        key: Keys,
        *wide: Float[Tensor, "_ heads head_size"],
        causal: bool,
        cross: bool,
        key_bias: KeyBias = None,
    ) -> Float[Tensor, "heads queries keys"]:
        """The weights by which one text is read, as a sparse tensor. `wide`: what global queries read by, if by others.

        Heads that are a fixed share of all pairs have them all. Raises KotyaError for patterns without blocks.
        """

        def of(pattern: Pattern, heads: tuple[int, ...], q: Queries, k: Keys, *wide: Queries) -> Tensor:
            if not isinstance(pattern, Full | Causal):
                return sparse_weights(
                    q,
                    k,
                    *wide,
                    pattern=pattern,
                    cross=cross,
                    layer=self.layer,
                    heads=heads,
                    key_bias=key_bias,
                )
            bias = None if key_bias is None else key_bias.expand(1, 1, 1, -1)
            _, weights = exact(q[None], k[None], k[None], mask=bias, causal=isinstance(pattern, Causal))
            return weights[0].to_sparse()

        return self._by_group(of, causal, query, key, *wide, heads=0).coalesce()

    def wide(self, length: int, heads: int) -> Bool[Tensor, "heads length"]:
        """Which queries of a text that reads itself see a share of all keys, in each head."""
        found = torch.zeros(heads, length, dtype=torch.bool)
        for pattern, numbers in self.groups(heads, causal=False):
            found[numbers[0] : numbers[-1] + 1, list(pattern.wide(Place(length, length)))] = True
        return found

    def _narrow(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        pattern: Pattern,
        heads: tuple[int, ...],
        cross: bool,
        dropout: float,
        key_bias: KeyBias,
    ) -> Tensor:
        """All queries but the wide ones, which are as good as any here."""
        kernel = choose(self.kernel, pattern, max(len(q), len(k)), q.shape[2], q.device, dropout)
        tell(kernel, pattern, self.layer)
        layer = self.layer
        if kernel == "blocks":
            return attend_blocks(
                q, k, v, pattern, cross=cross, layer=layer, heads=heads, dropout=dropout, key_bias=key_bias
            )
        if kernel == "flex":
            # with it comes PyTorch's compiler, seconds of importing
            from kotya.attention.flex import attend_flex

            return attend_flex(q, k, v, pattern, cross=cross, layer=layer, heads=heads, key_bias=key_bias)
        if isinstance(pattern, Full | Causal) and key_bias is None:
            return attend_dense(q, k, v, None, dropout, causal=isinstance(pattern, Causal))
        seen = _seen(pattern, len(q), len(k), cross, self.layer, heads)
        return attend_dense(q, k, v, seen.to(q.device), dropout, key_bias=key_bias)


@lru_cache(256)
def _groups(patterns: tuple[Pattern, ...], heads: int, causal: bool) -> list[tuple[Pattern, tuple[int, ...]]]:
    if heads % len(patterns):
        raise KotyaError(f"{heads} heads cannot share {len(patterns)} patterns evenly")
    share = heads // len(patterns)
    return [
        (pattern & Causal() if causal else pattern, tuple(range(number * share, (number + 1) * share)))
        for number, pattern in enumerate(patterns)
    ]


def choose(
    asked: Kernel, pattern: Pattern, length: int, head_size: int, device: torch.device, dropout: float
) -> Kernel:
    """The kernel for texts of a length on a device. Raises KotyaError where the one asked for cannot do it."""
    share = isinstance(pattern, Full | Causal)
    if asked == "auto":
        if share or length <= SHORT:
            return "dense"
        fused = device.type == "cuda" and dropout == 0.0 and head_size >= _FLEX_SIZE
        return "flex" if fused else "blocks"
    if asked in ("blocks", "flex") and share:
        raise KotyaError(f"the kernel {asked!r} leaves out blocks, and {pattern} has none to leave out")
    if asked == "flex" and device.type != "cuda":
        raise KotyaError(f"the kernel 'flex' needs a GPU: on {device.type} it has no backward; 'blocks' has")
    if asked == "flex" and head_size < _FLEX_SIZE:
        raise KotyaError(
            f"the kernel 'flex' needs heads of {_FLEX_SIZE} and more, and these have {head_size}"
        )
    if asked == "flex" and dropout > 0.0:
        raise KotyaError("the kernel 'flex' has no dropout on attention weights; set attention_dropout: 0")
    return asked


@cache
def tell(kernel: str, pattern: Pattern, layer: int) -> None:
    """Say by which kernel a layer computes a pattern: once for each."""
    _log.info("layer %d: %s by kernel %s", layer, pattern, kernel)


def _seen(
    pattern: Pattern, queries: int, keys: int, cross: bool, layer: int, heads: tuple[int, ...]
) -> Bool[Tensor, "#heads queries keys"]:
    """The mask of these heads, one for all of them unless every head draws its own.

    Those of short texts are kept, and a corner of one is that of a shorter text, but for where the end matters.
    """
    pattern.check(Place(queries, keys, cross))
    layer, heads = pattern.drawers(layer, heads)
    if max(queries, keys) > SHORT:
        return _made(pattern, queries, keys, cross, layer, heads)
    if cross or pattern.knows_the_end():
        return _kept(pattern, queries, keys, cross, layer, heads)
    return _kept(pattern, SHORT, SHORT, cross, layer, heads)[:, :queries, :keys]


def _made(
    pattern: Pattern, queries: int, keys: int, cross: bool, layer: int, heads: tuple[int, ...]
) -> Bool[Tensor, "heads queries keys"]:
    bounds = [pattern.bind(queries, keys, cross=cross, layer=layer, head=head) for head in heads]
    return torch.stack([bound.mask() for bound in bounds])


_kept = lru_cache(256)(_made)
