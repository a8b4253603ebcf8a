"""Patterns that are made of blocks of positions: random blocks, neighbouring blocks, the blocks at both ends of a text.

BigBird's own (Zaheer et al. 2020, section 2)    Neighbours(64) | Ends(64) | Random(3)
"""

from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Int
from torch import Tensor

from kotya.attention.counters import draw_distinct, hashed
from kotya.attention.cuts import Numbers, ranges
from kotya.attention.patterns import Allowed, Global, Grid, Kinds, Pairs, Pattern, Place, Positions, centre
from kotya.errors import KotyaError


@dataclass(frozen=True)
class Random(Pattern):
    """Blocks of keys drawn by a hash of (seed, layer, head, block of the query), the same in training and in use.

    A block of queries draws among the blocks before it, and sees those too that have drawn it: so what is drawn stays
    as it is when a text grows, and under `Causal` each block has `blocks` of them. Between two sequences it draws
    among all.
    """

    blocks: int
    seed: int = 0
    size: int = 64
    """Positions in a block."""

    def __post_init__(self) -> None:
        if self.blocks < 0 or self.size < 1:
            raise KotyaError(f"{self}: blocks are 0 or more, of one position at least")

    def drawn(self, place: Place) -> Int[Tensor, "query_blocks drawn"]:
        """The blocks of keys that each block of queries drew; -1 where there were fewer."""
        return _draw(self, *self._blocks(place))[0]

    def _numbers(self, place: Place) -> Int[Tensor, " pairs"]:
        """What is seen in its own blocks, as single numbers: query · number of key blocks + key."""
        return _draw(self, *self._blocks(place))[1]

    def _blocks(self, place: Place) -> tuple[int, int, bool, int, int]:
        """All of a place that is drawn by: the same while a text grows within a block."""
        queries, keys = (-(-length // self.size) for length in (place.queries, place.keys))
        return queries, keys, place.cross, place.layer, place.head

    def allows(self, query: Positions, key: Positions, place: Place) -> Allowed:
        keys = -(-place.keys // self.size)
        numbers = self._numbers(place).to(query.device)
        drawn = torch.isin(query // self.size * keys + key // self.size, numbers)
        return drawn & (key // self.size < keys)

    def pairs(self, grid: Grid) -> Pairs:
        keys = max(-(-grid.place.keys // self.size), 1)
        numbers = self._numbers(grid.place)
        by_query, by_key = (
            cut.between(first * self.size, first * self.size + self.size - 1)
            for cut, first in ((grid.queries, numbers // keys), (grid.keys, numbers % keys))
        )
        # every block of queries of a pair of its own with every block of keys of it
        counts = torch.bincount(by_key[:, 0], minlength=len(numbers))
        start = counts.cumsum(0) - counts
        number = by_query[:, 0]
        joined = ranges(by_query[:, 1], start[number], start[number] + counts[number] - 1)
        pairs: Tensor = torch.stack([joined[:, 0], by_key[joined[:, 1], 1]], dim=1).unique(dim=0)
        return pairs

    def kinds(self, query: Numbers, key: Numbers, grid: Grid) -> Kinds:
        block = grid.keys.size
        if grid.keys.stride > 1 or (block % self.size and self.size % block):
            pairs = self.pairs(grid)  # blocks that lie across each other: no two are alike
            drawn: Tensor = torch.isin(
                query * grid.keys.count + key, pairs @ torch.tensor([grid.keys.count, 1])
            )
            return self.of_kind(~drawn, drawn & False, query, key)
        inner = torch.arange(0, block, self.size)
        q, k = (number[:, None] * block + inner for number in (query, key))
        cells = self.allows(q[:, :, None], k[:, None, :], grid.place).flatten(1)
        drawn_cells = (cells * hashed((), torch.arange(cells.shape[1]))).sum(1)
        return self.of_kind(~cells.any(1), cells.all(1), drawn_cells)

    def stride(self) -> int:
        return 1

    def grain(self) -> int | None:
        return self.size

    def drawn_by_head(self) -> bool:
        return self.blocks > 0


@lru_cache(1024)
def _draw(
    pattern: Random, queries: int, keys: int, cross: bool, layer: int, head: int
) -> tuple[Int[Tensor, "query_blocks drawn"], Int[Tensor, " pairs"]]:
    """What is drawn, and the same as numbers. Kept: a step of decoding in each layer and head asks for it again."""
    below = torch.full((queries,), keys) if cross else torch.arange(queries)
    drawn = draw_distinct((pattern.seed, layer, head), below, pattern.blocks)
    query = torch.arange(len(drawn))[:, None].expand_as(drawn)
    query, key = query[drawn >= 0], drawn[drawn >= 0]
    numbers = query * keys + key
    return drawn, numbers if cross else torch.cat([numbers, key * keys + query])


@dataclass(frozen=True)
class Neighbours(Pattern):
    """The block of the query and those beside it."""

    size: int
    """Positions in a block."""

    def __post_init__(self) -> None:
        if self.size < 1:
            raise KotyaError(f"{self}: a block has one position at least")

    def allows(self, query: Positions, key: Positions, place: Place) -> Allowed:
        return (key // self.size - centre(query, place) // self.size).abs() <= 1

    def _middle(self, query: Numbers, grid: Grid) -> tuple[Positions, Positions]:
        """In which of its own blocks the first and the last query of blocks of them stand."""
        ends = grid.queries.first(query), grid.queries.last(query).clamp(max=max(grid.place.queries - 1, 0))
        first, last = (centre(end, grid.place) // self.size for end in ends)
        return first, last

    def pairs(self, grid: Grid) -> Pairs:
        first, last = self._middle(torch.arange(grid.queries.count), grid)
        pairs: Tensor = grid.keys.between((first - 1) * self.size, (last + 2) * self.size - 1)
        return pairs

    def kinds(self, query: Numbers, key: Numbers, grid: Grid) -> Kinds:
        first, last = self._middle(query, grid)
        low, high = (end(key) // self.size for end in (grid.keys.first, grid.keys.last))
        nothing = (high < first - 1) | (low > last + 1)
        everything = (low >= last - 1) & (high <= first + 1)
        if grid.place.cross:  # no two blocks of queries need stand alike to the keys
            return self.of_kind(nothing, everything, query, key)
        start = grid.queries.first(query)
        return self.of_kind(nothing, everything, grid.keys.first(key) - start, start % self.size)

    def stride(self) -> int:
        return 1

    def grain(self) -> int:
        return self.size

    def proportional(self) -> bool:
        return True

    def reach(self) -> int:
        return 2 * self.size - 1


@dataclass(frozen=True)
class Ends(Global):
    """The first block of a text and the last, which may be cut short, are global. `positions`: in a block."""

    positions: int

    def __post_init__(self) -> None:
        if self.positions < 1:
            raise KotyaError(f"{self}: a block has one position at least")

    def _last(self, length: int) -> int:
        """Where the last block begins."""
        return max(length - 1, 0) // self.positions * self.positions

    def among(self, position: Positions, length: int) -> Allowed:
        return (position < self.positions) | (position >= self._last(length))

    def wide_of(self, length: int) -> tuple[int, ...]:
        return tuple(range(min(self.positions, length))) + tuple(
            range(max(self._last(length), self.positions), length)
        )

    def grain(self) -> int:
        return self.positions

    def knows_the_end(self) -> bool:
        return True

    def reach(self) -> None:
        return None  # while a text grows, whatever is last is the end
