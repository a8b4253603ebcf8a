"""What a decoder remembers between steps: the keys and values of its own past, and those of the source.

The past is right-aligned: every row's newest token stands in the last column, whenever the row began, so that
a step writes one column for all rows, and rows of any age share a batch. Columns before a row's first token are
masked.
The source is kept once a line, however many hypotheses a line has; `SourceIndex` says which row reads which line.
"""

import math
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from kotya.attention.kernels import Heads

_GROWTH = 16


def _fit_columns(x: Heads, columns: int) -> Heads:
    """Put empty columns before the first, so that the newest token of both stays in the last."""
    missing = columns - x.shape[1]
    if missing <= 0:
        return x
    return torch.cat([x.new_zeros(x.shape[0], missing, *x.shape[2:]), x], dim=1)


@dataclass
class SelfCache:
    """Keys and values of the tokens so far in one layer; `filled` columns of the buffers are in use."""

    keys: Heads
    values: Heads
    filled: int = 0

    @classmethod
    def empty(cls, rows: int, heads: int, size: int, like: Tensor) -> "SelfCache":
        shape = (rows, _GROWTH, heads, size)
        return cls(like.new_zeros(shape), like.new_zeros(shape))

    def append(self, key: Heads, value: Heads) -> tuple[Heads, Heads]:
        """Write the new columns and return all of them; the buffers grow by half when full."""
        end = self.filled + key.shape[1]
        if end > self.keys.shape[1]:
            room = max(end, self.keys.shape[1] * 3 // 2)
            self.keys, self.values = (_roomier(x, self.filled, room) for x in (self.keys, self.values))
        self.keys[:, self.filled : end] = key
        self.values[:, self.filled : end] = value
        self.filled = end
        return self.keys[:, :end], self.values[:, :end]

    def select(self, rows: Int[Tensor, "kept"], columns: int) -> "SelfCache":
        """Those rows, with their last `columns` columns: the ones before are empty in all of them."""
        first = self.filled - columns
        keys, values = (_selected(x, rows, first, self.filled) for x in (self.keys, self.values))
        return SelfCache(keys, values, columns)

    def join(self, other: "SelfCache") -> "SelfCache":
        columns = max(self.filled, other.filled)
        keys = torch.cat([_fit_columns(x.keys[:, : x.filled], columns) for x in (self, other)])
        values = torch.cat([_fit_columns(x.values[:, : x.filled], columns) for x in (self, other)])
        return SelfCache(keys, values, columns)


def _roomier(x: Heads, filled: int, room: int) -> Heads:
    larger = x.new_empty(x.shape[0], room, *x.shape[2:])
    larger[:, :filled] = x[:, :filled]
    return larger


def _selected(x: Heads, rows: Tensor, first: int, end: int) -> Heads:
    selected = x.new_empty(len(rows), end - first + _GROWTH, *x.shape[2:])
    torch.index_select(x[:, first:end], 0, rows, out=selected[:, : end - first])
    return selected


@dataclass
class SourceCache:
    """Keys and values of the source in one layer, one entry a line."""

    keys: Heads
    values: Heads

    def select(self, lines: Int[Tensor, "kept"]) -> "SourceCache":
        return SourceCache(self.keys[lines], self.values[lines])

    def join(self, other: "SourceCache") -> "SourceCache":
        return SourceCache(join_sources(self.keys, other.keys), join_sources(self.values, other.values))


def join_sources(
    first: Float[Tensor, "lines length *rest"], second: Float[Tensor, "others length2 *rest"]
) -> Float[Tensor, "all longest *rest"]:
    """Lines of both, padded on the right to the longer length."""
    longest = max(first.shape[1], second.shape[1])
    both = []
    for x in (first, second):
        missing = longest - x.shape[1]
        both.append(torch.cat([x, x.new_zeros(x.shape[0], missing, *x.shape[2:])], dim=1) if missing else x)
    return torch.cat(both)


@dataclass
class SourceIndex:
    """Which line each row reads, as a place in a grid [lines, widest]: rows of a line share its keys uncopied."""

    line: Int[Tensor, "rows"]
    lines: int
    widest: int = field(init=False)
    slot: Int[Tensor, "rows"] | None = field(init=False)

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


def used_columns(ages: Int[Tensor, "rows"], columns: int) -> Bool[Tensor, "rows columns"]:
    """Which of the last `columns` columns belong to rows of these ages (tokens so far)."""
    return torch.arange(columns, device=ages.device) >= (columns - ages)[:, None]


def column_mask(
    ages: Int[Tensor, "rows"], columns: int, dtype: torch.dtype
) -> Float[Tensor, "rows 1 1 columns"]:
    """0 in a row's own columns, -inf in the empty ones before."""
    used = used_columns(ages, columns)
    mask = torch.zeros(used.shape, dtype=dtype, device=ages.device)
    return mask.masked_fill_(~used, -math.inf)[:, None, None, :]
