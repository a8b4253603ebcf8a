"""What a decoder remembers between steps: the keys and values of its own past, and those of the source.

The past is right-aligned: every row's newest token stands in the last column, whenever the row began, so that
a step writes one column for all rows, and rows of any age share a batch. Columns before a row's first token are
masked.
The source is kept once a line, however many hypotheses a line has; `SourceIndex` says which row reads which line.

Memory is laid out column by column, [columns, rows, heads, size of a head]: a step writes one block, old columns are
dropped without a copy, and a single query reads its keys in two batched products, without one either.
"""

import math
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from kotya.attention.kernels import Heads

_GROWTH = 16

Columns = Float[Tensor, "_ _ heads head_size"]


@runtime_checkable
class Cache(Protocol):
    """What is kept of the past, or of the source, in one layer; of one kind in all rows."""

    def select(self, rows: Int[Tensor, " kept"], columns: int) -> Any:
        """Reorder, repeat or drop rows; none has read more than `columns` tokens."""
        ...

    def join(self, other: Any) -> Any:
        """The rows of both, this one's first."""
        ...


@dataclass
class SelfCache:
    """Keys and values of the tokens so far in one layer; `filled` columns of the buffers are in use."""

    keys: Columns
    values: Columns
    filled: int = 0

    @classmethod
    def empty(cls, rows: int, heads: int, size: int, like: Tensor) -> "SelfCache":
        shape = (0, rows, heads, size)
        return cls(like.new_empty(shape), like.new_empty(shape))

    def append(self, key: Heads, value: Heads) -> tuple[Heads, Heads]:
        """Write the new columns and return all of them; the buffers grow by half when full."""
        end = self.filled + key.shape[1]
        if end > self.keys.shape[0]:
            room = max(end + _GROWTH, self.keys.shape[0] * 3 // 2)
            self.keys, self.values = (_roomier(x, self.filled, room) for x in (self.keys, self.values))
        self.keys[self.filled : end] = key.transpose(0, 1)
        self.values[self.filled : end] = value.transpose(0, 1)
        self.filled = end
        return self.keys[:end].transpose(0, 1), self.values[:end].transpose(0, 1)

    def select(self, rows: Int[Tensor, " kept"], columns: int) -> "SelfCache":
        """Those rows, with their last `columns` columns: the ones before are empty in all of them."""
        first = self.filled - columns
        keys, values = (_selected(x[first : self.filled], rows) for x in (self.keys, self.values))
        return SelfCache(keys, values, columns)

    def join(self, other: "SelfCache") -> "SelfCache":
        """The rows of both; the younger one's columns stand at the end."""
        keys = _joined(self.keys[: self.filled], other.keys[: other.filled])
        values = _joined(self.values[: self.filled], other.values[: other.filled])
        return SelfCache(keys, values, max(self.filled, other.filled))


def _roomier(x: Columns, filled: int, room: int) -> Columns:
    larger = x.new_empty(room, *x.shape[1:])
    larger[:filled] = x[:filled]
    return larger


def _selected(x: Columns, rows: Int[Tensor, " kept"]) -> Columns:
    """Those rows of all columns, with room for one step more: beam search selects before every step."""
    selected = x.new_empty(len(x) + 1, len(rows), *x.shape[2:])
    torch.index_select(x, 1, rows, out=selected[:-1])
    return selected


def _joined(first: Columns, second: Columns) -> Columns:
    columns = max(len(first), len(second))
    joined = first.new_empty(columns + _GROWTH, first.shape[1] + second.shape[1], *first.shape[2:])
    for x, part in zip((first, second), joined.split((first.shape[1], second.shape[1]), dim=1), strict=True):
        part[: columns - len(x)] = 0
        part[columns - len(x) : columns] = x
    return joined


@dataclass
class SourceCache:
    """Keys and values of the source in one layer, one entry a line."""

    keys: Columns
    values: Columns

    @classmethod
    def of(cls, keys: Heads, values: Heads) -> "SourceCache":
        """From projections of the memory [lines, length, heads, size]."""
        return cls(keys.transpose(0, 1).contiguous(), values.transpose(0, 1).contiguous())

    def read(self) -> tuple[Heads, Heads]:
        """Keys and values [lines, length, heads, size]."""
        return self.keys.transpose(0, 1), self.values.transpose(0, 1)

    def select(self, lines: Int[Tensor, " kept"], columns: int) -> "SourceCache":
        """Those lines, none longer than `columns`."""
        keys, values = self.keys[:columns], self.values[:columns]
        return SourceCache(keys.index_select(1, lines), values.index_select(1, lines))

    def join(self, other: "SourceCache") -> "SourceCache":
        return SourceCache(_padded(self.keys, other.keys), _padded(self.values, other.values))


@dataclass
class MixedSource:
    """Linformer's mixtures of the source in one layer: as many of every line, however long it is."""

    mixtures: SourceCache

    def select(self, lines: Int[Tensor, " kept"], columns: int) -> "MixedSource":
        """Those lines, all mixtures of each."""
        return MixedSource(self.mixtures.select(lines, len(self.mixtures.keys)))

    def join(self, other: "MixedSource") -> "MixedSource":
        return MixedSource(self.mixtures.join(other.mixtures))


def _padded(first: Columns, second: Columns) -> Columns:
    """Lines of both, padded at the end to the longer length."""
    longest = max(len(first), len(second))
    joined = first.new_empty(longest, first.shape[1] + second.shape[1], *first.shape[2:])
    for x, part in zip((first, second), joined.split((first.shape[1], second.shape[1]), dim=1), strict=True):
        part[: len(x)] = x
        part[len(x) :] = 0
    return joined


@dataclass
class SourceIndex:
    """Which line each row reads, as a place in a grid [lines, widest]: rows of a line share its keys uncopied."""

    line: Int[Tensor, " rows"]
    lines: int
    widest: int = field(init=False)
    slot: Int[Tensor, " rows"] | None = field(init=False)

    def __post_init__(self) -> None:
        rows = len(self.line)
        if rows == self.lines and torch.equal(self.line, torch.arange(rows, device=self.line.device)):
            self.widest, self.slot = 1, None
            return
        count = torch.bincount(self.line, minlength=self.lines)
        self.widest = int(count.max())
        if rows == self.lines * self.widest and bool((self.line[1:] >= self.line[:-1]).all()):
            self.slot = None
            return
        order = torch.argsort(self.line, stable=True)
        first = torch.cumsum(count, 0) - count
        rank = torch.empty_like(self.line)
        rank[order] = torch.arange(rows, device=self.line.device) - first[self.line[order]]
        self.slot = self.line * self.widest + rank

    def spread(self, query: Heads) -> Heads:
        """Queries of rows [rows, 1 or n, heads, size] → queries of lines [lines, widest·n, heads, size]."""
        length = query.shape[1]
        if self.slot is not None:
            grid = query.new_zeros(self.lines * self.widest, *query.shape[1:])
            grid[self.slot] = query
            query = grid
        return query.reshape(self.lines, self.widest * length, *query.shape[2:])

    def gather(
        self, output: Float[Tensor, "lines many size"], length: int
    ) -> Float[Tensor, "rows length size"]:
        """The way back."""
        output = output.reshape(self.lines * self.widest, length, output.shape[-1])
        return output if self.slot is None else output[self.slot]


def used_columns(ages: Int[Tensor, " rows"], columns: int) -> Bool[Tensor, "rows columns"]:
    """Which of the last `columns` columns belong to rows of these ages (tokens so far)."""
    return torch.arange(columns, device=ages.device) >= (columns - ages)[:, None]


def column_mask(
    ages: Int[Tensor, " rows"], columns: int, dtype: torch.dtype
) -> Float[Tensor, "rows 1 1 columns"]:
    """0 in a row's own columns, -inf in the empty ones before."""
    used = used_columns(ages, columns)
    mask = torch.zeros(used.shape, dtype=dtype, device=ages.device)
    return mask.masked_fill_(~used, -math.inf)[:, None, None, :]
