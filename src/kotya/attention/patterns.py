"""Which keys a query may see: small values that say it exactly, and say which blocks of a big matrix matter at all.

    Full()  Causal()  Window(left, right, dilation)  Global(n)  Random(blocks)      and a | b, a & b
    (those that are made of blocks, as Random is, stand in block_patterns.py)
    Longformer (Beltagy et al. 2020)   Window(256, 256) | Global(1)
    BigBird (Zaheer et al. 2020)       Window(96, 96) | Global(64) | Random(3)
    a causal one                       … & Causal()

A pattern knows no lengths until it is bound to them. Positions are those within one sequence. In cross-attention, where
there are as many keys as the source has, a window stands around query · keys / queries.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from math import gcd
from zlib import crc32

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from kotya.attention.counters import hashed
from kotya.attention.cuts import Cut, Numbers
from kotya.errors import KotyaError

Positions = Int[Tensor, "*#shape"]
Allowed = Bool[Tensor, "*shape"]
Pairs = Int[Tensor, "pairs 2"]
"""(block of queries, block of keys)."""
Kinds = Int[Tensor, " pairs"]

_SMALLEST_SHARED = 16
"""Blocks of two sizes are cut into such as fit into both, if these are not smaller, or one of the two."""

NOTHING, EVERYTHING = 0, 1
"""Kinds of pairs of blocks: no query sees any key, every query sees every key."""


@dataclass(frozen=True)
class Place:
    """Where a pattern is used: between how many queries and keys, and in which layer and head of a model."""

    queries: int
    keys: int
    cross: bool = False
    """Whether queries and keys are two sequences."""
    layer: int = 0
    head: int = 0


@dataclass(frozen=True)
class Grid:
    """A place cut into blocks of queries and of keys."""

    place: Place
    queries: Cut
    keys: Cut

    @classmethod
    def of(cls, place: Place, size: int, stride: int = 1) -> "Grid":
        return cls(place, Cut(place.queries, size, stride), Cut(place.keys, size, stride))


class Pattern(ABC):
    """Says which keys a query may see. Immutable; equal patterns compare equal."""

    def __or__(self, other: "Pattern") -> "Pattern":
        """What either sees."""
        return next((part for part in (self, other) if isinstance(part, Full)), Either(self, other))

    def __and__(self, other: "Pattern") -> "Pattern":
        """What both see."""
        if isinstance(self, Full) or isinstance(other, Full) or self == other:
            return other if isinstance(self, Full) else self
        return Both(self, other)

    def bind(
        self, queries: int, keys: int, *, cross: bool | None = None, layer: int = 0, head: int = 0
    ) -> "Bound":
        """The pattern between two sequences; of one length they are taken for one and the same unless said otherwise.

        Raises KotyaError where the pattern makes no sense there.
        """
        place = Place(queries, keys, queries != keys if cross is None else cross, layer, head)
        self.check(place)
        return Bound(self, place)

    def check(self, place: Place) -> None:
        """Raises KotyaError where the pattern makes no sense at this place; most do everywhere."""
        return

    @abstractmethod
    def allows(self, query: Positions, key: Positions, place: Place) -> Allowed:
        """Whether each query may see each key, exactly; both are positions, broadcast together."""

    @abstractmethod
    def pairs(self, grid: Grid) -> Pairs | None:
        """Pairs of blocks, in any order: all in which a query may see a key, and perhaps others.

        None where they are a fixed share of all pairs, as with `Full`.
        """

    @abstractmethod
    def kinds(self, query: Numbers, key: Numbers, grid: Grid) -> Kinds:
        """What is allowed inside pairs of blocks: `NOTHING`, `EVERYTHING`, or equal numbers only where it is the same.

        Keys past the end of the text go on as before; queries there may see anything.
        """

    def of_kind(self, nothing: Allowed, everything: Allowed, *features: Numbers) -> Kinds:
        """Kinds of pairs, of those that are neither by features that say what is allowed inside."""
        kind = torch.full_like(features[0], crc32(repr(self).encode()))
        for feature in features:
            kind = hashed((), kind + hashed((0,), feature))
        kind = torch.where(everything, EVERYTHING, kind.clamp(min=EVERYTHING + 1))
        return torch.where(nothing, NOTHING, kind)

    def stride(self) -> int:
        """The stride of blocks that suits it best; 0: any."""
        return 0

    def grain(self) -> int | None:
        """The size of blocks that it is made of, where it is."""
        return None

    def drawn_by_head(self) -> bool:
        """Whether every head has its own."""
        return False

    def drawers(self, layer: int, heads: tuple[int, ...]) -> tuple[int, tuple[int, ...]]:
        """The layer and the heads by which it is drawn; one for all where they see alike."""
        return (layer, heads) if self.drawn_by_head() else (0, (0,))

    def wide(self, place: Place) -> tuple[int, ...]:
        """The few queries that see a fixed share of all keys, as `Global` ones do."""
        return ()

    def narrow(self) -> "Pattern":
        """A pattern that is the same for all queries but the wide ones, which see no share of all keys in it."""
        return self

    def widely(self, place: Place) -> "Pattern":
        """A pattern that is the same for the wide queries, and simpler where it can be."""
        return self

    def proportional(self) -> bool:
        """Whether between two texts it stands in proportion to their lengths."""
        return False

    def knows_the_end(self) -> bool:
        """Whether what two positions see of each other may change when their text grows."""
        return False

    def reach(self) -> int | None:
        """How many positions back a causal query may see, `lasting` ones aside; None: any number.

        This is of queries from `waiting` on.
        """
        return None

    def lasting(self) -> tuple[int, ...]:
        """The positions that are seen from any distance, in order."""
        return ()

    def waiting(self) -> int:
        """Up to which position there are queries that may see all that came before."""
        return 0

    def furthest(self) -> int:
        """The last position that is global; -1 without one."""
        return -1


@dataclass(frozen=True)
class Bound:
    """A pattern between two sequences of known lengths."""

    pattern: Pattern
    place: Place

    def allows(self, query: Positions, key: Positions) -> Allowed:
        """The exact oracle, for tests, pictures and masks of blocks."""
        return self.pattern.allows(query, key, self.place)

    def mask(self) -> Bool[Tensor, "queries keys"]:
        """All of it, n² in size: for pictures, tests and short texts."""
        queries, keys = torch.arange(self.place.queries), torch.arange(self.place.keys)
        return self.allows(queries[:, None], keys[None, :])


@dataclass(frozen=True)
class Full(Pattern):
    """Every query sees every key."""

    def allows(self, query: Positions, key: Positions, place: Place) -> Allowed:
        return torch.ones((), dtype=torch.bool).expand(torch.broadcast_shapes(query.shape, key.shape))

    def pairs(self, grid: Grid) -> None:
        return None

    def kinds(self, query: Numbers, key: Numbers, grid: Grid) -> Kinds:
        return torch.full(query.shape, EVERYTHING)


@dataclass(frozen=True)
class Causal(Pattern):
    """Nobody sees what comes after: k ≤ q."""

    def check(self, place: Place) -> None:
        if place.cross:
            raise KotyaError("a causal pattern is of one sequence; between two, nothing comes after anything")

    def allows(self, query: Positions, key: Positions, place: Place) -> Allowed:
        return key <= query

    def pairs(self, grid: Grid) -> None:
        return None

    def kinds(self, query: Numbers, key: Numbers, grid: Grid) -> Kinds:
        q, k = grid.queries, grid.keys
        return self.of_kind(
            k.first(key) > q.last(query), k.last(key) <= q.first(query), k.first(key) - q.first(query)
        )


def centre(query: Positions, place: Place) -> Positions:
    """Around which key the window of a query stands: its own, or in proportion, inside the other sequence."""
    if not place.cross:
        return query
    return (query * place.keys // max(place.queries, 1)).clamp(max=max(place.keys - 1, 0))


@dataclass(frozen=True)
class Window(Pattern):
    """A band: `left` keys before the query and `right` behind it, and its own; with a dilation every so-many-th key."""

    left: int
    right: int
    dilation: int = 1

    def __post_init__(self) -> None:
        if self.left < 0 or self.right < 0 or self.dilation < 1:
            raise KotyaError(
                f"{self}: a window reaches 0 or more keys to either side, and its dilation is 1 or more"
            )

    def allows(self, query: Positions, key: Positions, place: Place) -> Allowed:
        away = key - centre(query, place)
        inside = (away >= -self.left * self.dilation) & (away <= self.right * self.dilation)
        return inside if self.dilation == 1 else inside & (away % self.dilation == 0)

    def pairs(self, grid: Grid) -> Pairs:
        query = torch.arange(grid.queries.count)
        first, last = self._reach(query, grid)
        if self.dilation % grid.keys.stride or grid.place.cross:
            return grid.keys.between(first, last)
        # keys of other remainders than the query's are not seen
        return grid.keys.between(first, last, query // max(grid.queries.share, 1))

    def _reach(self, query: Numbers, grid: Grid) -> tuple[Positions, Positions]:
        """The first and the last key that a query in a block of them may see, past the ends perhaps."""
        ends = grid.queries.first(query), grid.queries.last(query).clamp(max=max(grid.place.queries - 1, 0))
        first, last = (centre(end, grid.place) for end in ends)
        return first - self.left * self.dilation, last + self.right * self.dilation

    def kinds(self, query: Numbers, key: Numbers, grid: Grid) -> Kinds:
        first, last = grid.keys.first(key), grid.keys.last(key)
        low, high = (centre(end(query), grid.place) for end in (grid.queries.first, grid.queries.last))
        left, right = self.left * self.dilation, self.right * self.dilation
        nothing = (last - low < -left) | (first - high > right)
        everything = (first - high >= -left) & (last - low <= right)
        if grid.place.cross:  # no two blocks of queries need stand alike to the keys
            return self.of_kind(nothing, everything & (self.dilation == 1), query, key)
        away = first - grid.queries.first(query)
        if grid.keys.stride % self.dilation == 0:  # within two blocks all are seen, or none
            nothing = nothing | (away % self.dilation != 0)
        else:
            everything = everything & False
        return self.of_kind(nothing, everything, away)

    def stride(self) -> int:
        return self.dilation

    def proportional(self) -> bool:
        return True

    def reach(self) -> int | None:
        return self.left * self.dilation


@dataclass(frozen=True)
class Global(Pattern):
    """Some positions see all and are seen by all: the first so many, or those that are named.

    Those that a text does not reach are not there; it may grow to them.
    """

    positions: int | tuple[int, ...]

    def __post_init__(self) -> None:
        named = self.positions if isinstance(self.positions, tuple) else (self.positions,)
        if min(named, default=0) < 0:
            raise KotyaError(f"{self}: positions are counted from 0")

    def among(self, position: Positions, length: int) -> Allowed:
        """Whether they are global in a text of that length."""
        if isinstance(self.positions, int):
            return position < self.positions
        return torch.isin(position, torch.tensor(self.positions, dtype=torch.long, device=position.device))

    def allows(self, query: Positions, key: Positions, place: Place) -> Allowed:
        return self.among(query, place.queries) | self.among(key, place.keys)

    def pairs(self, grid: Grid) -> None:
        return None  # for the queries' sake: see `wide`

    def kinds(self, query: Numbers, key: Numbers, grid: Grid) -> Kinds:
        held = []
        for cut, number in ((grid.queries, query), (grid.keys, key)):
            every = torch.tensor(self.wide_of(cut.length), dtype=torch.long)
            counts = torch.bincount(cut.of(every), minlength=cut.count + 1)[number]
            held.append((counts, torch.where(counts > 0, number, -1)))
        (queries, which), (keys, of) = held
        some = (queries > 0) | (keys > 0)
        return self.of_kind(~some, (queries == grid.queries.size) | (keys == grid.keys.size), which, of)

    def wide_of(self, length: int) -> tuple[int, ...]:
        """The global positions of a text, in order."""
        if isinstance(self.positions, int):
            return tuple(range(min(self.positions, length)))
        return tuple(position for position in sorted({*self.positions}) if position < length)

    def wide(self, place: Place) -> tuple[int, ...]:
        return self.wide_of(place.queries)

    def narrow(self) -> "Pattern":
        return Seen(self)

    def widely(self, place: Place) -> Pattern:
        return Full()

    def reach(self) -> int | None:
        return 0

    def lasting(self) -> tuple[int, ...]:
        return (
            tuple(range(self.positions))
            if isinstance(self.positions, int)
            else tuple(sorted({*self.positions}))
        )

    def waiting(self) -> int:
        # what the first so many see at all is lasting
        return 0 if isinstance(self.positions, int) else max(self.positions, default=-1) + 1

    def furthest(self) -> int:
        return self.positions - 1 if isinstance(self.positions, int) else max(self.positions, default=-1)


@dataclass(frozen=True)
class Seen(Pattern):
    """The other half of what is global: it is seen by all."""

    whole: Global

    def allows(self, query: Positions, key: Positions, place: Place) -> Allowed:
        return self.whole.among(key, place.keys).expand(torch.broadcast_shapes(query.shape, key.shape))

    def pairs(self, grid: Grid) -> Pairs:
        seen = torch.tensor(self.whole.wide_of(grid.place.keys), dtype=torch.long)
        blocks = grid.keys.of(seen).unique()
        return torch.cartesian_prod(torch.arange(grid.queries.count), blocks).view(-1, 2)

    def kinds(self, query: Numbers, key: Numbers, grid: Grid) -> Kinds:
        seen = torch.tensor(self.whole.wide_of(grid.place.keys), dtype=torch.long)
        counts = torch.bincount(grid.keys.of(seen), minlength=grid.keys.count + 1)[key]
        return self.of_kind(counts == 0, counts == grid.keys.size, key)


@dataclass(frozen=True)
class _Two(Pattern):
    """Of two patterns."""

    one: Pattern
    other: Pattern

    def check(self, place: Place) -> None:
        self.one.check(place)
        self.other.check(place)

    def stride(self) -> int:
        return gcd(self.one.stride(), self.other.stride())

    def grain(self) -> int | None:
        grains = [grain for grain in (self.one.grain(), self.other.grain()) if grain is not None]
        if not grains:
            return None
        # blocks that lie across each other cost less than very small ones
        shared = gcd(*grains)
        return shared if shared >= _SMALLEST_SHARED or shared in grains else max(grains)

    def drawn_by_head(self) -> bool:
        return self.one.drawn_by_head() or self.other.drawn_by_head()

    def proportional(self) -> bool:
        return self.one.proportional() or self.other.proportional()

    def knows_the_end(self) -> bool:
        return self.one.knows_the_end() or self.other.knows_the_end()

    def waiting(self) -> int:
        return max(self.one.waiting(), self.other.waiting())

    def furthest(self) -> int:
        return max(self.one.furthest(), self.other.furthest())

    def wide(self, place: Place) -> tuple[int, ...]:
        return tuple(sorted({*self.one.wide(place), *self.other.wide(place)}))

    def narrow(self) -> Pattern:
        return type(self)(self.one.narrow(), self.other.narrow())

    def widely(self, place: Place) -> Pattern:
        for part, rest in ((self.one, self.other), (self.other, self.one)):
            if {*rest.wide(place)} <= {*part.wide(place)}:
                simple = part.widely(place)
                return simple | rest if isinstance(self, Either) else simple & rest
        return self


class Either(_Two):
    """What one or the other sees."""

    def allows(self, query: Positions, key: Positions, place: Place) -> Allowed:
        return self.one.allows(query, key, place) | self.other.allows(query, key, place)

    def pairs(self, grid: Grid) -> Pairs | None:
        one, other = self.one.pairs(grid), self.other.pairs(grid)
        return None if one is None or other is None else torch.cat([one, other]).unique(dim=0)

    def kinds(self, query: Numbers, key: Numbers, grid: Grid) -> Kinds:
        one, other = self.one.kinds(query, key, grid), self.other.kinds(query, key, grid)
        mixed = self.of_kind(one == NOTHING, (one == EVERYTHING) | (other == EVERYTHING), one, other)
        return torch.where(one == NOTHING, other, torch.where((other == NOTHING), one, mixed))

    def reach(self) -> int | None:
        one, other = self.one.reach(), self.other.reach()
        return None if one is None or other is None else max(one, other)

    def lasting(self) -> tuple[int, ...]:
        return tuple(sorted({*self.one.lasting(), *self.other.lasting()}))


class Both(_Two):
    """What one and the other see."""

    def allows(self, query: Positions, key: Positions, place: Place) -> Allowed:
        return self.one.allows(query, key, place) & self.other.allows(query, key, place)

    def pairs(self, grid: Grid) -> Pairs | None:
        for part, rest in ((self.one, self.other), (self.other, self.one)):
            pairs = part.pairs(grid)
            if pairs is not None:
                return pairs[rest.kinds(pairs[:, 0], pairs[:, 1], grid) != NOTHING]
        return None

    def kinds(self, query: Numbers, key: Numbers, grid: Grid) -> Kinds:
        one, other = self.one.kinds(query, key, grid), self.other.kinds(query, key, grid)
        mixed = self.of_kind((one == NOTHING) | (other == NOTHING), one < 0, one, other)
        return torch.where(one == EVERYTHING, other, torch.where(other == EVERYTHING, one, mixed))

    def reach(self) -> int | None:
        reaches = [reach for reach in (self.one.reach(), self.other.reach()) if reach is not None]
        return min(reaches, default=None)

    def lasting(self) -> tuple[int, ...]:
        # past the shorter reach all must be lasting in that part
        parts = [part for part in (self.one, self.other) if part.reach() == self.reach()]
        return tuple(sorted(set.intersection(*({*part.lasting()} for part in parts))))
