"""A text cut into blocks of positions, for patterns that are computed block by block.

With a stride the blocks are of every so-many-th position: positions r, r + stride, r + 2·stride … stand together, for
each remainder r. So the keys of a dilated window are neighbours, and a band of blocks holds them all.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

Numbers = Int[Tensor, "*#shape"]


@dataclass(frozen=True)
class Cut:
    """`length` positions in blocks of `size`, by remainders of `stride`: those of remainder 0 first."""

    length: int
    size: int
    stride: int = 1

    @property
    def share(self) -> int:
        """How many blocks each remainder has; the last of them may be cut short, or hold nothing at all."""
        return -(-self.length // (self.stride * self.size))

    @property
    def count(self) -> int:
        """How many blocks there are."""
        return self.share * self.stride

    def first(self, number: Numbers) -> Numbers:
        """The first position of a block."""
        share = max(self.share, 1)
        return number // share + number % share * (self.size * self.stride)

    def last(self, number: Numbers) -> Numbers:
        """The last position of a block, were it not cut short."""
        return self.first(number) + (self.size - 1) * self.stride

    def of(self, position: Numbers) -> Numbers:
        """In which block a position is."""
        return position % self.stride * self.share + position // (self.stride * self.size)

    def positions(self, number: Int[Tensor, "*blocks"]) -> Int[Tensor, "*blocks size"]:
        """All positions of a block, some past the end perhaps."""
        return self.first(number)[..., None] + torch.arange(self.size) * self.stride

    def between(
        self,
        first: Int[Tensor, " ranges"],
        last: Int[Tensor, " ranges"],
        remainders: Int[Tensor, " ranges"] | None = None,
    ) -> Int[Tensor, "pairs 2"]:
        """Which blocks hold a position from first to last: (range, block), for every range.

        Of all remainders, or of one for each range.
        """
        remainder = torch.arange(self.stride) if remainders is None else remainders[:, None]
        step = self.size * self.stride
        low = -(
            (remainder - first[:, None].clamp(min=0)) // self.stride
        )  # the first of its remainder in the range
        low = low // self.size
        high = (last[:, None].clamp(max=self.length - 1) - remainder) // step
        row = torch.arange(len(first))[:, None].expand_as(low)
        start = remainder * self.share
        return ranges(row.flatten(), (start + low).flatten(), (start + high).flatten())


def ranges(
    row: Int[Tensor, " rows"], first: Int[Tensor, " rows"], last: Int[Tensor, " rows"]
) -> Int[Tensor, "pairs 2"]:
    """(row, first), …, (row, last) of every row."""
    counts = (last - first + 1).clamp(min=0)
    before = counts.cumsum(0) - counts
    inside = torch.arange(int(counts.sum())) - before.repeat_interleave(counts)
    return torch.stack([row.repeat_interleave(counts), first.repeat_interleave(counts) + inside], dim=1)
