"""A pattern cut into blocks: which blocks of keys each block of queries needs, and what is allowed inside.

No n² tensor is ever made: blocks are listed pair by pair, and pairs that are alike inside share one tile. A pattern
that is a fixed share of all pairs (`Full`, `Causal` alone) has no layout: there is nothing to gain from one.
"""

from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from kotya.attention.counters import hashed
from kotya.attention.cuts import Cut
from kotya.attention.patterns import EVERYTHING, NOTHING, Bound, Grid


@dataclass(frozen=True)
class Layout:
    """Pairs of blocks, by the block of queries and then that of keys; wide queries are apart."""

    queries: Cut
    keys: Cut
    query: Int[Tensor, " pairs"]
    key: Int[Tensor, " pairs"]
    tile: Int[Tensor, " pairs"]
    """Which of the tiles is theirs."""
    tiles: Bool[Tensor, "tiles size size"]
    """What is allowed inside; keys past the end are not, queries past the end may be anything."""
    wide: tuple[int, ...]
    """The few queries that see a share of all keys; here they are as good as any."""

    @property
    def whole(self) -> Bool[Tensor, " pairs"]:
        """Pairs inside which everything is allowed."""
        return self.tiles.flatten(1).all(1)[self.tile]

    def mask(self) -> Bool[Tensor, "queries keys"]:
        """All of it but the wide queries, n² in size: for tests."""
        mask = torch.zeros(self.queries.count * self.queries.size, self.keys.count * self.keys.size).bool()
        by_block = mask.view(self.queries.count, self.queries.size, self.keys.count, self.keys.size)
        by_block.transpose(1, 2)[self.query, self.key] = self.tiles[self.tile]
        places = [cut.positions(torch.arange(cut.count)).flatten() for cut in (self.queries, self.keys)]
        ordered = torch.zeros(*(int(place.max()) + 1 if len(place) else 0 for place in places)).bool()
        ordered[places[0][:, None], places[1]] = mask
        return ordered[: self.queries.length, : self.keys.length]

    def beginning(self, length: int, wide: tuple[int, ...]) -> "Layout":
        """That of the first so many positions of a text that reads itself, by a pattern that does not know the end."""
        cut, whole = Cut(length, self.keys.size, self.keys.stride), max(self.keys.share, 1)
        there = (self.query % whole < cut.share) & (self.key % whole < cut.share)
        query, key = (
            number // whole * cut.share + number % whole for number in (self.query[there], self.key[there])
        )
        past = (cut.last(key) - (length - 1)).clamp(0, cut.size * cut.stride)
        kinds, tile = (self.tile[there] * (cut.size * cut.stride + 1) + past).unique(return_inverse=True)
        old, past = kinds // (cut.size * cut.stride + 1), kinds % (cut.size * cut.stride + 1)
        inside = past[:, None] <= torch.arange(cut.size - 1, -1, -1) * cut.stride
        tiles = self.tiles[old] & inside[:, None, :]
        kept = tiles.flatten(1).any(1)[tile]
        return Layout(cut, cut, query[kept], key[kept], tile[kept], tiles, wide)


def layout(bound: Bound, size: int, stride: int = 1) -> Layout | None:
    """The layout of a pattern in blocks of this many positions, or None where it has none.

    What two positions see of each other mostly does not depend on the length of their text, and hardly two texts are as
    long: so that of a somewhat longer text is made, and kept, and of it the beginning is taken.
    """
    pattern, place = bound.pattern, bound.place
    if place.cross or place.queries != place.keys or pattern.knows_the_end():
        return _layout(bound, size, stride)
    longer = _rounded(place.keys)
    whole = _kept(Bound(pattern, replace(place, queries=longer, keys=longer)), size, stride)
    return None if whole is None else whole.beginning(place.keys, pattern.wide(place))


def _rounded(length: int) -> int:
    """The next of four lengths between two powers of two: an eighth longer on average."""
    step = 1 << max(length.bit_length() - 3, 0)
    return -(-length // step) * step


def _layout(bound: Bound, size: int, stride: int) -> Layout | None:
    pattern, place = bound.pattern.narrow(), bound.place
    grid = Grid.of(place, size, stride)
    pairs = pattern.pairs(grid)
    if pairs is None:
        return None
    pairs = pairs[(pairs[:, 0] * (grid.keys.count + 1) + pairs[:, 1]).argsort()]
    kinds = pattern.kinds(pairs[:, 0], pairs[:, 1], grid)
    pairs, kinds = pairs[kinds != NOTHING], kinds[kinds != NOTHING]
    query, key = pairs.unbind(1)
    past = (grid.keys.last(key) - (place.keys - 1)).clamp(min=0)
    kinds = torch.where(past > 0, hashed((1,), hashed((), kinds) + past), kinds)
    _, tile = kinds.unique(return_inverse=True)
    example = _least_cut(tile, grid.queries.last(query) - (place.queries - 1))
    k = grid.keys.positions(key[example])[:, None, :]
    tiles = pattern.allows(grid.queries.positions(query[example])[:, :, None], k, place) & (k < place.keys)
    tiles |= (kinds[example] == EVERYTHING)[:, None, None]
    kept = tiles.flatten(1).any(1)[tile]
    wide = bound.pattern.wide(place)
    return Layout(grid.queries, grid.keys, query[kept], key[kept], tile[kept], tiles, wide)


def _least_cut(tile: Int[Tensor, " pairs"], past: Int[Tensor, " pairs"]) -> Int[Tensor, " tiles"]:
    """Of each tile's pairs the one whose queries end the least past the text: those there say nothing of the others."""
    order = past.clamp(min=0) * len(tile) + torch.arange(len(tile))
    tiles = int(tile.max()) + 1 if len(tile) else 0
    least = torch.zeros(tiles, dtype=torch.long).scatter_reduce(0, tile, order, "amin", include_self=False)
    return least % max(len(tile), 1)


_kept = lru_cache(1024)(_layout)
