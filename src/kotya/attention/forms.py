"""How a layer attends where it is not plain softmax attention over everything: by patterns, linearly, by Linformer.

Behind one interface for all roles: packed texts, padded rows (of an encoder, causal ones, and across), and decoding
with a cache that keeps no more than the form can still see.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from kotya.attention.caches import Cache, MixedSource, SourceCache
from kotya.attention.features import FeatureMap
from kotya.attention.head_patterns import HeadPatterns
from kotya.attention.kernels import Heads, Keys, Queries, attend, exact
from kotya.attention.linear import LinearCache, attend_linear
from kotya.attention.linformer import LengthProjection
from kotya.attention.packed import Packing, Tokens, attend_packed
from kotya.attention.pattern_cache import PatternCache, PatternSource
from kotya.errors import KotyaError

Text = Float[Tensor, "length heads head_size"]
Other = Float[Tensor, "read heads head_size"]
AnyText = Float[Tensor, "_ heads head_size"]
Projected = tuple[Tokens, Tokens, Tokens]
"""Queries, keys and values."""


class Form(nn.Module, ABC):
    """A way to read keys and values by queries."""

    def packed(
        self,
        query: Tokens,
        key: Tokens,
        value: Tokens,
        packing: Packing,
        *,
        causal: bool,
        dropout: float,
    ) -> Tokens:
        """Every sequence reads itself: as rows, those of near length together."""
        return packing.in_rows(partial(self.rows, causal=causal, dropout=dropout), query, key, value)

    @abstractmethod
    def rows(
        self,
        query: Queries,
        key: Keys,
        value: Keys,
        lengths: Int[Tensor, " rows"] | None,
        *,
        causal: bool = False,
        cross: bool = False,
        dropout: float = 0.0,
    ) -> Queries:
        """One text a row, padded; `lengths` are those of the keys."""

    @abstractmethod
    def weights(
        self, query: Queries, key: Keys, lengths: Int[Tensor, " rows"] | None, *, causal: bool, cross: bool
    ) -> Float[Tensor, "rows heads queries read"]:
        """The weights that it amounts to, for pictures: of keys, or of Linformer's mixtures of them."""

    @torch.no_grad()
    def sparse_weights(
        self, texts: Iterable[tuple[AnyText, ...]], queries: int, keys: int, *, causal: bool, cross: bool
    ) -> Float[Tensor, "rows heads queries keys"] | None:
        """The same of texts, one a row with room for that many, as one sparse tensor; None where most have weight.

        Of a text its queries and keys, and those of its global queries, where they have their own.
        """
        found = [self.sparse_text(*text, causal=causal, cross=cross) for text in texts]
        parts = [one for one in found if one is not None]
        if not parts or len(parts) < len(found):
            return None
        where = [F.pad(one.indices(), (0, 0, 1, 0), value=row) for row, one in enumerate(parts)]
        values = torch.cat([one.values() for one in parts])
        shape = len(parts), parts[0].shape[0], queries, keys
        return torch.sparse_coo_tensor(
            torch.cat(where, dim=1), values, shape, is_coalesced=True, check_invariants=True
        )

    def sparse_text(
        self, query: Text, key: Other, *wide: AnyText, causal: bool, cross: bool
    ) -> Float[Tensor, "heads queries keys"] | None:
        """Of one text."""
        return None

    @abstractmethod
    def new_cache(self, rows: int, heads: int, size: int, like: Float[Tensor, "*shape"]) -> Cache:
        """What causal decoding keeps, of a past without a token yet. Raises KotyaError where it has no causal form."""

    @abstractmethod
    def extend(
        self, past: Cache, query: Heads, key: Heads, value: Heads, positions: Int[Tensor, "rows n"]
    ) -> Heads:
        """n new positions a row behind the past, which takes their keys."""

    @abstractmethod
    def source(self, key: Keys, value: Keys, lengths: Int[Tensor, " rows"]) -> Cache:
        """What decoding keeps of texts that it reads across, one a row."""

    @abstractmethod
    def across(
        self, query: Queries, source: Cache, positions: Int[Tensor, "rows queries"]
    ) -> Float[Tensor, "rows queries heads head_size"]:
        """What queries read of it; `positions` are theirs in their own text."""


class Patterned(Form):
    """Softmax attention over the keys that patterns show."""

    def __init__(self, patterns: HeadPatterns) -> None:
        super().__init__()
        self.patterns = patterns

    def packed(
        self,
        query: Tokens,
        key: Tokens,
        value: Tokens,
        packing: Packing,
        *,
        causal: bool,
        dropout: float,
    ) -> Tokens:
        return attend_packed(
            query, key, value, packing, causal=causal, patterns=self.patterns, dropout=dropout
        )

    def wide_places(self, packing: Packing, heads: int) -> Int[Tensor, " wide"]:
        """The packed tokens whose queries see a share of all keys, in any head."""
        texts = [self.patterns.wide(length, heads).any(0) for length in packing.lengths]
        return torch.cat(texts).nonzero()[:, 0].to(packing.device)

    def read_widely(
        self, output: Tokens, wide: Projected, packing: Packing, *, causal: bool, dropout: float
    ) -> Tokens:
        """The output of packed texts, with that of global queries in place, which read by these."""
        read = partial(self.patterns.read_widely, causal=causal, dropout=dropout)
        return packing.text_by_text(read, output, *wide)

    def rows(
        self,
        query: Queries,
        key: Keys,
        value: Keys,
        lengths: Int[Tensor, " rows"] | None,
        *,
        causal: bool = False,
        cross: bool = False,
        dropout: float = 0.0,
    ) -> Queries:
        """Row by row, without its padding. Padded queries of a text that reads itself are zero."""
        rows = []
        ends = [key.shape[1]] * len(key) if lengths is None else lengths.tolist()
        for q, k, v, end in zip(query.unbind(), key.unbind(), value.unbind(), ends, strict=True):
            queries = len(q) if cross else end
            read = self.patterns.attend(
                q[:queries], k[:end], v[:end], causal=causal, cross=cross, dropout=dropout
            )
            rows.append(F.pad(read, (0, 0, 0, 0, 0, len(q) - queries)))
        return torch.stack(rows)

    def weights(
        self, query: Queries, key: Keys, lengths: Int[Tensor, " rows"] | None, *, causal: bool, cross: bool
    ) -> Float[Tensor, "rows heads queries read"]:
        (rows, longest, heads), keys = query.shape[:3], key.shape[1]
        allowed = torch.zeros(rows, heads, longest, keys, dtype=torch.bool)
        for row, length in enumerate([keys] * rows if lengths is None else lengths.tolist()):
            queries = longest if cross else length
            mask = self.patterns.mask(queries, length, heads, causal=causal, cross=cross)
            allowed[row, :, :queries, :length] = mask
        allowed = allowed.to(query.device)
        blind = ~allowed.any(-1, keepdim=True)
        bias = torch.zeros(allowed.shape, device=query.device).masked_fill_(~(allowed | blind), -torch.inf)
        _, weights = exact(query, key, key, mask=bias)
        return weights.masked_fill(blind, 0.0)

    def sparse_text(
        self, query: Text, key: Other, *wide: AnyText, causal: bool, cross: bool
    ) -> Float[Tensor, "heads queries keys"]:
        return self.patterns.sparse_weights(query, key, *wide, causal=causal, cross=cross)

    def wide_weights(
        self,
        weights: Float[Tensor, "rows heads length length"],
        query: Queries,
        key: Keys,
        lengths: Int[Tensor, " rows"],
        *,
        causal: bool,
    ) -> Float[Tensor, "rows heads length length"]:
        """The weights of texts that read themselves, with those of global queries in place, which read by these."""
        theirs = self.weights(query, key, lengths, causal=causal, cross=False)
        wide = self.patterns.wide(query.shape[1], query.shape[2]).to(query.device)
        return torch.where(wide[:, :, None], theirs, weights)

    def new_cache(self, rows: int, heads: int, size: int, like: Float[Tensor, "*shape"]) -> Cache:
        return PatternCache.empty(self.patterns, rows, heads, size, like)

    def extend(
        self, past: Cache, query: Heads, key: Heads, value: Heads, positions: Int[Tensor, "rows n"]
    ) -> Heads:
        assert isinstance(past, PatternCache)
        return past.extend(query, key, value, positions)

    def source(self, key: Keys, value: Keys, lengths: Int[Tensor, " rows"]) -> Cache:
        if any(pattern.proportional() for pattern in self.patterns.patterns):
            raise KotyaError(
                "a window across two texts stands in proportion to the length of both, and search does not know how "
                "long its text will be; cross-attention that is decoded is full, global, random, linear or linformer"
            )
        self.patterns.check_decoded()
        return PatternSource(self.patterns, SourceCache.of(key, value), lengths)

    def across(
        self, query: Queries, source: Cache, positions: Int[Tensor, "rows queries"]
    ) -> Float[Tensor, "rows queries heads head_size"]:
        assert isinstance(source, PatternSource)
        return source.read(query, positions)


class Linear(Form):
    """Q′(K′ᵀV)."""

    def __init__(self, features: FeatureMap) -> None:
        super().__init__()
        self.features = features

    def rows(
        self,
        query: Queries,
        key: Keys,
        value: Keys,
        lengths: Int[Tensor, " rows"] | None,
        *,
        causal: bool = False,
        cross: bool = False,
        dropout: float = 0.0,
    ) -> Queries:
        """It has no weights to drop."""
        self._renew()
        return attend_linear(query, key, value, self.features, causal=causal, lengths=lengths)

    def packed(
        self,
        query: Tokens,
        key: Tokens,
        value: Tokens,
        packing: Packing,
        *,
        causal: bool,
        dropout: float,
    ) -> Tokens:
        self._renew()  # once, in however many parts they are read

        def read(q: Queries, k: Keys, v: Keys, lengths: Int[Tensor, " rows"] | None) -> Queries:
            return attend_linear(q, k, v, self.features, causal=causal, lengths=lengths)

        return packing.in_rows(read, query, key, value)

    def _renew(self) -> None:
        if self.training:
            self.features.renew()

    def weights(
        self, query: Queries, key: Keys, lengths: Int[Tensor, " rows"] | None, *, causal: bool, cross: bool
    ) -> Float[Tensor, "rows heads queries read"]:
        """What is read of values that are each position's own unit vector."""
        units = torch.eye(key.shape[1], device=key.device)[:, None].expand(len(key), -1, key.shape[2], -1)
        read = attend_linear(query.float(), key, units, self.features, causal=causal, lengths=lengths)
        return read.transpose(1, 2)

    def new_cache(self, rows: int, heads: int, size: int, like: Float[Tensor, "*shape"]) -> Cache:
        return LinearCache.empty(rows, heads, size, self.features, like.device)

    def extend(
        self, past: Cache, query: Heads, key: Heads, value: Heads, positions: Int[Tensor, "rows n"]
    ) -> Heads:
        assert isinstance(past, LinearCache)
        return past.extend(query, key, value, self.features)

    def source(self, key: Keys, value: Keys, lengths: Int[Tensor, " rows"]) -> Cache:
        return LinearCache.of(key, value, self.features, lengths)

    def across(
        self, query: Queries, source: Cache, positions: Int[Tensor, "rows queries"]
    ) -> Float[Tensor, "rows queries heads head_size"]:
        assert isinstance(source, LinearCache)
        return source.read(query, self.features)


class Linformer(Form):
    """Softmax attention over k learned mixtures of all keys."""

    def __init__(self, projection: LengthProjection) -> None:
        super().__init__()
        self.projection = projection

    def rows(
        self,
        query: Queries,
        key: Keys,
        value: Keys,
        lengths: Int[Tensor, " rows"] | None,
        *,
        causal: bool = False,
        cross: bool = False,
        dropout: float = 0.0,
    ) -> Queries:
        k, v = self._mixed(key, value, lengths, causal)
        q, k, v = (x.transpose(1, 2) for x in (query, k, v))
        output = nn.functional.scaled_dot_product_attention(q, k, v, dropout_p=dropout)
        return output.transpose(1, 2)

    def _mixed(
        self, key: Keys, value: Keys, lengths: Int[Tensor, " rows"] | None, causal: bool
    ) -> tuple[Heads, Heads]:
        if causal:
            raise _no_causal_form()
        return self.projection(key, value, lengths)  # type: ignore[no-any-return]

    def weights(
        self, query: Queries, key: Keys, lengths: Int[Tensor, " rows"] | None, *, causal: bool, cross: bool
    ) -> Float[Tensor, "rows heads queries read"]:
        k, _ = self._mixed(key, key, lengths, causal)
        _, weights = exact(query, k, k)
        return weights

    def new_cache(self, rows: int, heads: int, size: int, like: Float[Tensor, "*shape"]) -> Cache:
        raise _no_causal_form()

    def extend(
        self, past: Cache, query: Heads, key: Heads, value: Heads, positions: Int[Tensor, "rows n"]
    ) -> Heads:
        raise _no_causal_form()

    def source(self, key: Keys, value: Keys, lengths: Int[Tensor, " rows"]) -> Cache:
        return MixedSource(SourceCache.of(*self._mixed(key, value, lengths, False)))

    def across(
        self, query: Queries, source: Cache, positions: Int[Tensor, "rows queries"]
    ) -> Float[Tensor, "rows queries heads head_size"]:
        assert isinstance(source, MixedSource)
        return attend(query, *source.mixtures.read())


def _no_causal_form() -> KotyaError:
    return KotyaError("Linformer has no causal form: each of its keys is a mixture of the whole text")
