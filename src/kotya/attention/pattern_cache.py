"""What decoding keeps under a pattern: the keys that a later query can still see, and no others; and of a source, all.

Behind a window they roll: old columns leave, once no query is to come that sees all. Positions that are seen from any
distance (`Global` ones) stand in a store of their own. Where a pattern may look back any number of positions, all are
kept, and nothing twice.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from kotya.attention.caches import SelfCache, SourceCache
from kotya.attention.head_patterns import HeadPatterns
from kotya.attention.kernels import Heads, Keys, Queries, attend
from kotya.attention.patterns import Place

Positions = Int[Tensor, "rows n"]
_SLACK = 64
"""Columns that may be kept in vain, so that they leave many at a time."""


@dataclass
class PatternCache:
    """Keys and values of one layer: the newest columns, and those positions that are seen from afar."""

    patterns: HeadPatterns
    recent: SelfCache
    lasting: Int[Tensor, " lasting"]
    """Which these are, in order; none where all columns are kept."""
    store: Float[Tensor, "2 rows room heads head_size"]
    """Their keys and values, with room for those at least that a row has reached."""

    @classmethod
    def empty(cls, patterns: HeadPatterns, rows: int, heads: int, size: int, like: Tensor) -> "PatternCache":
        patterns.check_decoded()
        lasting = set[int]()
        if _reach(patterns) is not None:
            lasting.update(*(pattern.lasting() for pattern in patterns.patterns))
        recent = SelfCache.empty(rows, heads, size, like)
        positions = torch.tensor(sorted(lasting), dtype=torch.long, device=like.device)
        return cls(patterns, recent, positions, like.new_zeros(2, rows, 0, heads, size))

    def extend(self, query: Heads, key: Heads, value: Heads, positions: Positions) -> Heads:
        """n new positions a row: they are added, and each sees of those up to its own what the pattern shows."""
        self._remember(key, value, positions)
        new = query.shape[1]
        if new > 1 and not bool(positions[:, 0].any()):
            texts = [
                self.patterns.attend(q, k, v, causal=True) for q, k, v in zip(query, key, value, strict=True)
            ]
            self.recent.append(key, value)
            output = torch.stack(texts)
        else:
            keys, values = self.recent.append(key, value)
            output = self._read(query, keys, values, positions)
        self._forget(positions)
        return output

    def _remember(self, key: Heads, value: Heads, positions: Positions) -> None:
        reached = int(torch.searchsorted(self.lasting, positions.max(), right=True))
        self.store = _widened(self.store, reached)
        row, column = torch.isin(positions, self.lasting).nonzero(as_tuple=True)
        place = torch.searchsorted(self.lasting, positions[row, column])
        self.store[0, row, place] = key[row, column]
        self.store[1, row, place] = value[row, column]

    def _read(self, query: Heads, keys: Heads, values: Heads, positions: Positions) -> Heads:
        columns = keys.shape[1]
        ages = positions[:, -1:] + 1
        place = torch.arange(columns, device=keys.device) - columns + ages
        store = self.lasting[: self.store.shape[2]]
        # a position in both is read from the store
        place = place.masked_fill(torch.isin(place, store), -1)
        place = torch.cat([store.expand(len(place), -1), place], dim=1)
        keys, values = (
            torch.cat([old[:, : len(store)], new], dim=1)
            for old, new in zip(self.store, (keys, values), strict=True)
        )
        allowed = self._allowed(positions, place, query.shape[2])
        return _attended(query, keys, values, allowed)

    def _allowed(
        self, query: Positions, key: Int[Tensor, "rows columns"], heads: int
    ) -> Bool[Tensor, " rows #heads n columns"]:
        length = int(query.max()) + 1
        q, k = query[:, :, None], key[:, None]
        masks = []
        for pattern, numbers in self.patterns.groups(heads, causal=True):
            layer, drawn = pattern.drawers(self.patterns.layer, numbers)
            places = [Place(length, length, layer=layer, head=head) for head in drawn]
            shown = torch.stack([pattern.allows(q, k.clamp(min=0), place) for place in places], dim=1)
            masks.append(
                shown if len(self.patterns.patterns) == 1 else shown.expand(-1, len(numbers), -1, -1)
            )
        return torch.cat(masks, dim=1) & (k >= 0)[:, None]

    def _forget(self, positions: Positions) -> None:
        kept = _reach(self.patterns)
        if kept is None or self.recent.filled <= kept + _SLACK:
            return
        # no row may have a query before it that sees all
        if int(positions[:, -1].min()) + 1 >= max(pattern.waiting() for pattern in self.patterns.patterns):
            rows = torch.arange(self.recent.keys.shape[1], device=self.recent.keys.device)
            self.recent = self.recent.select(rows, kept)

    def select(self, rows: Int[Tensor, " kept"], columns: int) -> "PatternCache":
        """Those rows, with their last `columns` columns at most."""
        recent = self.recent.select(rows, min(columns, self.recent.filled))
        return PatternCache(self.patterns, recent, self.lasting, self.store.index_select(1, rows))

    def join(self, other: "PatternCache") -> "PatternCache":
        """The rows of both, this one's first."""
        reached = max(self.store.shape[2], other.store.shape[2])
        store = torch.cat([_widened(cache.store, reached) for cache in (self, other)], dim=1)
        return PatternCache(self.patterns, self.recent.join(other.recent), self.lasting, store)


def _reach(patterns: HeadPatterns) -> int | None:
    """How many columns a coming query may see; None: any number."""
    reaches = [pattern.reach() for pattern in patterns.patterns]
    return None if None in reaches else max(reach for reach in reaches if reach is not None)


def _attended(
    query: Queries, keys: Keys, values: Keys, allowed: Bool[Tensor, " rows #heads queries keys"]
) -> Queries:
    """Over the keys that are allowed; zero where none is."""
    blind = ~allowed.any(-1, keepdim=True)
    mask = torch.zeros(allowed.shape, dtype=query.dtype, device=query.device)
    output = attend(query, keys, values, mask=mask.masked_fill_(~(allowed | blind), -torch.inf))
    return output.masked_fill(blind.transpose(1, 2), 0.0)


def _widened(store: Tensor, reached: int) -> Tensor:
    """With room for so many positions, and half as many as it had where it has to grow."""
    _, rows, room, heads, size = store.shape
    if reached <= room:
        return store
    return torch.cat(
        [store, store.new_zeros(2, rows, max(reached, room * 3 // 2) - room, heads, size)], dim=2
    )


@dataclass
class PatternSource:
    """Keys and values of the source in one layer, one entry a line, of which patterns show a part to each query."""

    patterns: HeadPatterns
    kept: SourceCache
    lengths: Int[Tensor, " lines"]

    def read(self, query: Queries, positions: Int[Tensor, "lines queries"]) -> Queries:
        """Queries of every line, which stand at these positions of their own texts."""
        keys, values = self.kept.read()
        highest = int(positions.max()) + 1
        allowed = torch.stack(
            [
                self._allowed(places, length, keys, highest)
                for places, length in zip(positions, self.lengths.tolist(), strict=True)
            ]
        )
        return _attended(query, keys, values, allowed)

    def _allowed(
        self, query: Int[Tensor, " queries"], length: int, keys: Keys, highest: int
    ) -> Bool[Tensor, "heads queries keys"]:
        """In one line."""
        key, heads = torch.arange(keys.shape[1], device=keys.device), keys.shape[2]
        shown = []
        for pattern, numbers in self.patterns.groups(heads, causal=False):
            layer, drawn = pattern.drawers(self.patterns.layer, numbers)
            bounds = [pattern.bind(highest, length, cross=True, layer=layer, head=head) for head in drawn]
            seen = torch.stack([bound.allows(query[:, None], key) for bound in bounds])
            shown.append(seen.expand(len(numbers), -1, -1))
        return torch.cat(shown) & (key < length)

    def select(self, lines: Int[Tensor, " kept"], columns: int) -> "PatternSource":
        """Those lines, none longer than `columns`."""
        return PatternSource(self.patterns, self.kept.select(lines, columns), self.lengths[lines])

    def join(self, other: "PatternSource") -> "PatternSource":
        return PatternSource(
            self.patterns, self.kept.join(other.kept), torch.cat([self.lengths, other.lengths])
        )
