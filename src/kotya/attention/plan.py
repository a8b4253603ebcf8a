"""Layouts made ready to be computed: step by step blocks of queries, and where their keys are read and gradients added.

Two ways of reading keys:
- `Bands`: the same for all heads. The keys of a block are a few runs of neighbours, mostly one, read where they stand;
  blocks that follow each other and see alike are one step.
- `Draws`: every head has its own blocks (random ones), which are gathered.

Plans hold no data and are kept: making one takes milliseconds, and texts of one length share it.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from jaxtyping import Bool, Float, Int, Num
from torch import Tensor

from kotya.attention.cuts import Cut
from kotya.attention.layout import Layout, layout
from kotya.attention.patterns import Pattern
from kotya.attention.scratch import Scratch
from kotya.errors import KotyaError

_BLOCK = 64
"""Queries in a block where the pattern leaves it open; twice as many in half precision and on a GPU, where products
cost less than what is around them."""
_SHORTEST = 8
"""Positions of a block, at least."""
_VECTOR = 16
"""What is read begins and ends at columns in such numbers: products of these widths are faster."""
_SCORES = 1 << 18
"""Scores of a head in one step, at most: more would not stay in cache."""
_KEPT = 64
"""Plans that are kept."""

Text = Num[Tensor, "length heads head_size"]
Blocks = Num[Tensor, "batch size head_size"]


@dataclass(frozen=True)
class Batch:
    """What is multiplied at once: of a step all blocks of one head, or one block of all heads."""

    number: int
    """Of the head, or of the block."""
    size: int
    by_head: bool


@dataclass(frozen=True)
class Run:
    """Neighbouring positions of one remainder: remainder + stride · (start … stop - 1)."""

    remainder: int
    start: int
    stop: int
    shift: int = 0
    """How far on they are for each further block of a step."""

    def __len__(self) -> int:
        return self.stop - self.start

    def of(self, views: Sequence[Tensor], batch: Batch) -> Blocks:
        """Their vectors; one view a remainder. They overlap where the shift is less than the length."""
        view = views[self.remainder]
        by_head, by_position, one = view.stride()
        by_block = self.shift * by_position
        step, chosen = (by_block, by_head) if batch.by_head else (by_head, by_block)
        start = view.storage_offset() + self.start * by_position + batch.number * chosen
        return view.as_strided((batch.size, len(self), view.shape[2]), (step, by_position, one), start)

    def shifted(self, run: "Run", count: int) -> "Run | None":
        """This run with the shift by which the other is its place in block `count`; None where there is none."""
        shift = self.shift if count > 1 else run.start - self.start
        follows = shift >= 0 and run.start == self.start + count * shift
        alike = self.remainder == run.remainder and len(self) == len(run)
        return replace(self, shift=shift) if follows and alike else None


@dataclass(frozen=True)
class Step:
    """Blocks of queries, and what they see."""

    queries: Run
    blind: Bool[Tensor, "#heads size 1"] | None
    """Queries that see nothing, where there are any."""

    def batches(self, heads: int) -> list[Batch]:
        return [Batch(0, heads, by_head=False)]


@dataclass(frozen=True)
class BandStep(Step):
    """Blocks that see alike: keys that are runs of neighbours."""

    runs: tuple[Run, ...]
    biases: tuple[tuple[int, Float[Tensor, "1 size _"]], ...]
    """To be added to scores from a column on: -inf where a key is not seen. What is not named is seen whole."""
    count: int = 1

    def batches(self, heads: int) -> list[Batch]:
        """As few as there can be."""
        if self.count < heads:
            return [Batch(block, heads, by_head=False) for block in range(self.count)]
        return [Batch(head, self.count, by_head=True) for head in range(heads)]

    def joined(self, step: "BandStep") -> "BandStep | None":
        """With one more block, which has the same biases, if all that it sees is as far on as before."""
        if len(step.runs) != len(self.runs) or (self.count + 1) * self.scores > _SCORES:
            return None
        queries = self.queries.shifted(step.queries, self.count)
        runs = [a.shifted(b, self.count) for a, b in zip(self.runs, step.runs, strict=True)]
        if queries is None or None in runs:
            return None
        found = tuple(run for run in runs if run is not None)
        return replace(self, queries=queries, runs=found, count=self.count + 1)

    @property
    def scores(self) -> int:
        """Of a block and a head."""
        return len(self.queries) * sum(map(len, self.runs))


@dataclass(frozen=True)
class DrawStep(Step):
    """Its keys are blocks of their own for each head, as many for all."""

    blocks: Int[Tensor, " heads_and_blocks"]
    """Of [heads · number of blocks], head by head."""
    tiles: Int[Tensor, " heads_and_partial"]
    """What is seen of the first of them; the others are seen whole."""


class Plan(ABC):
    """How a pattern is computed between two texts of known lengths."""

    def __init__(self, queries: Cut, keys: Cut, steps: Sequence[Step]) -> None:
        self.queries, self.keys, self.steps = queries, keys, steps

    def views(self, x: Text) -> list[Tensor]:
        """One view a remainder, [heads, positions, size]."""
        return [
            x[remainder :: self.queries.stride].transpose(0, 1) for remainder in range(self.queries.stride)
        ]

    @abstractmethod
    def lay(self, x: Text) -> list[Tensor]:
        """Keys or values, or room for their gradients, as steps read them."""

    @abstractmethod
    def collect(self, laid: list[Tensor], room: Text) -> Text:
        """Gradients that were added to the room that was laid."""

    @abstractmethod
    def read(self, step: Step, batch: Batch, laid: list[Tensor], scratch: Scratch, name: str) -> Blocks:
        """The keys or values of a batch; what does not stand together is gathered in the scratch of that name."""

    @abstractmethod
    def hide(self, step: Step, scores: Float[Tensor, "batch size columns"]) -> None:
        """Make scores of keys that are not seen -inf, in place."""

    @abstractmethod
    def add(self, step: Step, batch: Batch, laid: list[Tensor], x: Blocks) -> None:
        """Add gradients of the keys of a batch where they belong."""


class Bands(Plan):
    """Keys where they stand."""

    def lay(self, x: Text) -> list[Tensor]:
        return self.views(x)

    def collect(self, laid: list[Tensor], room: Text) -> Text:
        return room

    def read(self, step: Step, batch: Batch, laid: list[Tensor], scratch: Scratch, name: str) -> Blocks:
        assert isinstance(step, BandStep)
        runs = [run.of(laid, batch) for run in step.runs]
        if len(runs) == 1:
            return runs[0]
        room = scratch.take(name, batch.size, sum(map(len, step.runs)), runs[0].shape[2])
        return torch.cat(runs, dim=1, out=room)

    def hide(self, step: Step, scores: Float[Tensor, "batch size columns"]) -> None:
        assert isinstance(step, BandStep)
        for column, bias in step.biases:
            scores[:, :, column : column + bias.shape[2]].add_(bias)

    def add(self, step: Step, batch: Batch, laid: list[Tensor], x: Blocks) -> None:
        assert isinstance(step, BandStep)
        for run, added in zip(step.runs, x.split(list(map(len, step.runs)), dim=1), strict=True):
            room = run.of(laid, batch)
            if not batch.by_head:
                room.add_(added)
            elif not run.shift:
                room[0].add_(added.sum(0))
            else:  # no two blocks add to the same place at once
                for column in range(0, len(run), run.shift):
                    columns = slice(column, column + run.shift)
                    room[:, columns].add_(added[:, columns])


class Draws(Plan):
    """Keys gathered block by block, head by head."""

    def __init__(
        self,
        queries: Cut,
        keys: Cut,
        steps: Sequence[Step],
        tiles: Float[Tensor, "tiles size size"],
    ) -> None:
        super().__init__(queries, keys, steps)
        self.tiles = tiles

    def lay(self, x: Text) -> list[Tensor]:
        length, heads, size = x.shape
        laid = x.new_zeros(heads, self.keys.count * self.keys.size, size)
        laid[:, :length] = x.transpose(0, 1)
        return [laid.view(heads * self.keys.count, self.keys.size * size)]

    def collect(self, laid: list[Tensor], room: Text) -> Text:
        length, heads, size = room.shape
        return laid[0].view(heads, -1, size)[:, :length].transpose(0, 1)

    def read(self, step: Step, batch: Batch, laid: list[Tensor], scratch: Scratch, name: str) -> Blocks:
        assert isinstance(step, DrawStep)
        heads = len(laid[0]) // self.keys.count
        room = scratch.take(name, len(step.blocks), laid[0].shape[1])
        read = torch.index_select(laid[0], 0, step.blocks, out=room)
        return read.view(heads, len(step.blocks) // heads * self.keys.size, -1)

    def hide(self, step: Step, scores: Float[Tensor, "batch size columns"]) -> None:
        assert isinstance(step, DrawStep)
        heads, rows, _ = scores.shape
        size = self.keys.size
        bias = self.tiles.index_select(0, step.tiles).view(heads, -1, size, size)[:, :, :rows]
        cells = scores.view(heads, rows, -1, size)[:, :, : bias.shape[1]]
        cells.add_(bias.transpose(1, 2))

    def add(self, step: Step, batch: Batch, laid: list[Tensor], x: Blocks) -> None:
        assert isinstance(step, DrawStep)
        laid[0].index_add_(0, step.blocks, x.view(len(step.blocks), -1))


@lru_cache(_KEPT)
def plan(
    pattern: Pattern,
    queries: int,
    keys: int,
    cross: bool,
    layer: int,
    heads: tuple[int, ...],
    dtype: torch.dtype,
    device: torch.device,
) -> Plan:
    """The plan of a pattern for the layer and heads by which it is drawn; see `Pattern.drawers`.

    Raises KotyaError where the pattern makes no sense, or is a fixed share of all pairs: nothing is gained by blocks.
    """
    stride = 1 if cross or pattern.stride() >= keys else max(pattern.stride(), 1)
    # blocks no longer than a text, or than a remainder of a far dilation has positions
    grain, longest = pattern.grain(), max(queries, keys, 1)
    block = 2 * _BLOCK if dtype.itemsize == 2 or device.type != "cpu" else _BLOCK
    size = min(grain, longest) if grain else min(block, max(_SHORTEST, -(-keys // stride)))
    layouts = []
    for head in heads:
        cut = layout(pattern.bind(queries, keys, cross=cross, layer=layer, head=head), size, stride)
        if cut is None:
            raise KotyaError(f"{pattern} sees a fixed share of all keys: there are no blocks to leave out")
        layouts.append(cut)
    first = layouts[0]
    if pattern.drawn_by_head():
        steps, tiles = _draws(layouts, dtype, device)
        return Draws(first.queries, first.keys, steps, tiles)
    return Bands(first.queries, first.keys, _bands(first, dtype, device))


def _run(cut: Cut, block: int) -> Run:
    """The positions of a block, without what is past the end."""
    remainder, start = block // cut.share, block % cut.share * cut.size
    end = -(-(cut.length - remainder) // cut.stride)
    return Run(remainder, start, min(start + cut.size, end))


def _by_query(cut: Layout) -> list[tuple[int, list[tuple[int, int]]]]:
    """Each block of queries that sees something, with the blocks of keys that it sees and their tiles."""
    found: dict[int, list[tuple[int, int]]] = {}
    for query, key, tile in zip(cut.query.tolist(), cut.key.tolist(), cut.tile.tolist(), strict=True):
        found.setdefault(query, []).append((key, tile))
    return list(found.items())


def _additive(allowed: Tensor, dtype: torch.dtype) -> Tensor:
    return torch.zeros(allowed.shape, dtype=dtype).masked_fill_(~allowed, -torch.inf)


def _bands(cut: Layout, dtype: torch.dtype, device: torch.device) -> list[BandStep]:
    """Blocks of queries, those that see alike and follow each other together."""
    edges = [_edges(tile) for tile in cut.tiles]
    known: dict[object, _Parts] = {}
    steps: list[BandStep] = []
    seen_before: object = None
    for block, pairs in _by_query(cut):
        queries = _run(cut.queries, block)
        if queries.stop <= queries.start:
            continue
        runs: list[Run] = []
        parts = []
        for key, tile in pairs:
            low, high = edges[tile]
            run = _run(cut.keys, key)
            run = Run(run.remainder, run.start + low, min(run.start + high, run.stop))
            if runs and runs[-1].remainder == run.remainder and runs[-1].stop == run.start:
                runs[-1] = Run(run.remainder, runs[-1].start, run.stop)
            else:
                runs.append(run)
            parts.append((tile, low, low + len(run)))
        rows = len(queries)
        seen = (rows, *parts)
        if seen not in known:
            known[seen] = _Parts(cut.tiles, rows, parts, dtype, device)
        step = BandStep(queries, known[seen].blind, tuple(runs), known[seen].biases)
        joined = steps[-1].joined(step) if seen == seen_before else None
        if joined is None:
            steps.append(step)
        else:
            steps[-1] = joined
        seen_before = seen
    return steps


def _edges(tile: Bool[Tensor, "size size"]) -> tuple[int, int]:
    """The columns from which and up to which something is seen, and some more where products are faster by them."""
    columns = tile.any(0).nonzero()[:, 0].tolist()
    if not columns:
        return 0, 0
    low, high = columns[0] // _VECTOR * _VECTOR, -(-(columns[-1] + 1) // _VECTOR) * _VECTOR
    return low, min(high, tile.shape[1])


class _Parts:
    """Parts of tiles side by side: biases of neighbours that are not seen whole, joined, and who sees nothing."""

    def __init__(
        self,
        tiles: Bool[Tensor, "tiles size size"],
        rows: int,
        parts: Sequence[tuple[int, int, int]],
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        """A part: its tile, and from which column of it up to which."""
        allowed = [tiles[tile, :rows, low:high] for tile, low, high in parts]
        spans: list[tuple[int, list[Tensor]]] = []
        column, end = 0, -1
        for part in allowed:
            if not bool(part.all()):
                if column != end:
                    spans.append((column, []))
                spans[-1][1].append(part)
                end = column + part.shape[1]
            column += part.shape[1]
        self.biases = tuple(
            (start, _additive(torch.cat(found, dim=1)[None], dtype).to(device)) for start, found in spans
        )
        self.blind = _blind(torch.cat(allowed, dim=1)[None], device)


def _blind(allowed: Bool[Tensor, "heads size columns"], device: torch.device) -> Tensor | None:
    blind = ~allowed.any(2, keepdim=True)
    return blind.to(device) if bool(blind.any()) else None


def _draws(
    cuts: Sequence[Layout], dtype: torch.dtype, device: torch.device
) -> tuple[list[Step], Float[Tensor, "tiles size size"]]:
    """A step a block of queries, as many blocks for each head: what is lacking sees nothing, and stands first.

    Then come blocks of which a part is seen, and those that are seen whole; these need no bias.
    """
    share, size = cuts[0].keys.count, cuts[0].keys.size
    per_head, whole, tiles = [], [], [torch.zeros(1, size, size, dtype=torch.bool)]
    for cut in cuts:
        offset = sum(map(len, tiles))
        per_head.append({block: [(k, t + offset) for k, t in pairs] for block, pairs in _by_query(cut)})
        whole += [tile + offset for tile in cut.tiles.flatten(1).all(1).nonzero()[:, 0].tolist()]
        tiles.append(cut.tiles)
    allowed, seen_whole = torch.cat(tiles), set(whole)
    steps: list[Step] = []
    for block in range(cuts[0].queries.count):
        seen = [heads.get(block, []) for heads in per_head]
        count = max(map(len, seen))
        if not count:
            continue
        partial = max(count - sum(tile in seen_whole for _, tile in pairs) for pairs in seen)
        blocks, partly = [], []
        for head, pairs in enumerate(seen):
            ordered = [(0, 0)] * (count - len(pairs)) + sorted(pairs, key=lambda pair: pair[1] in seen_whole)
            blocks += [head * share + key for key, _ in ordered]
            partly.append([tile for _, tile in ordered[:partial]])
        queries = _run(cuts[0].queries, block)
        rows = len(queries)
        blind = None
        if partial == count:
            blind = _blind(allowed[torch.tensor(partly)][:, :, :rows].any(1), device)
        ids = torch.tensor(partly, dtype=torch.long, device=device).flatten()
        steps.append(DrawStep(queries, blind, torch.tensor(blocks, device=device), ids))
    return steps, _additive(allowed, dtype).to(device)
