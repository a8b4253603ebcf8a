"""How a pattern is computed: step by step blocks of queries, and where their keys are read and gradients added.

Two ways of reading keys:
- `Bands`: the same for all heads. The keys of a block are a few runs of neighbours, mostly one, read where they stand;
  blocks that follow each other and see alike are one step.
- `Draws`: every head has its own blocks (random ones), which are gathered.

Plans hold no data; they are made in planner.py.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int, Num
from torch import Tensor

from kotya.attention.cuts import Cut
from kotya.attention.scratch import Scratch

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


@dataclass(frozen=True)
class DrawStep(Step):
    """Its keys are blocks of their own for each head, as many for all."""

    blocks: Int[Tensor, " heads_and_blocks"]
    """Of [heads · number of blocks], head by head."""
    tiles: Int[Tensor, " heads_and_partial"]
    """What is seen of the first of them; the others are seen whole."""


@dataclass(frozen=True)
class LaidBias:
    """Of keys, on their scores."""

    laid: list[Tensor]
    end: int
    """From which key on it is zero."""


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

    def lay_bias(self, bias: Float[Tensor, " keys"], heads: int) -> LaidBias:
        """As steps read it; the same for all heads."""
        places = bias.nonzero()
        end = int(places[-1]) + 1 if len(places) else 0
        return LaidBias(self.lay(bias[:, None, None].expand(-1, heads, 1)), end)

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
    def lean(
        self, step: Step, batch: Batch, bias: LaidBias, scores: Float[Tensor, "batch size columns"]
    ) -> None:
        """Add the bias of each key to its scores, in place."""

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

    def lean(
        self, step: Step, batch: Batch, bias: LaidBias, scores: Float[Tensor, "batch size columns"]
    ) -> None:
        assert isinstance(step, BandStep)
        column = 0
        for run in step.runs:
            if run.remainder + run.start * self.keys.stride < bias.end:
                scores[:, :, column : column + len(run)].add_(run.of(bias.laid, batch).transpose(1, 2))
            column += len(run)

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

    def lean(
        self, step: Step, batch: Batch, bias: LaidBias, scores: Float[Tensor, "batch size columns"]
    ) -> None:
        assert isinstance(step, DrawStep)
        scores.add_(bias.laid[0].index_select(0, step.blocks).view(len(scores), 1, -1))

    def add(self, step: Step, batch: Batch, laid: list[Tensor], x: Blocks) -> None:
        assert isinstance(step, DrawStep)
        laid[0].index_add_(0, step.blocks, x.view(len(step.blocks), -1))
