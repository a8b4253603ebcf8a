"""Batches by token budget: examples of near length together, so that few positions are padding, in a drawn order."""

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from kotya.errors import KotyaError

Lengths = NDArray[np.int32]
Indices = NDArray[np.int64]


class Batches:
    """Examples in batches whose rows times longest row stay within `tokens` on either side."""

    def __init__(self, source_lengths: Lengths, target_lengths: Lengths, *, tokens: int) -> None:
        """Lengths are of the examples without end; the budget counts it. Raises as `check_lengths`."""
        check_lengths(source_lengths, target_lengths, tokens)
        # int32 is plenty and half the memory of what numpy would choose.
        self.source = np.asarray(source_lengths, dtype=np.int32) + np.int32(1)
        self.target = np.asarray(target_lengths, dtype=np.int32) + np.int32(1)
        self.tokens = tokens

    def draw(self, random: np.random.Generator) -> list[Indices]:
        """Every example once, as arrays of indices: a pure function of the generator's state; a slice resumes."""
        order = self.by_length(random)
        # The first batch is cut short by chance, so that batch boundaries fall elsewhere at every draw.
        cuts = self.cuts(order, first=random.uniform(0.25, 1.0))
        batches = [order[start:stop] for start, stop in pairwise(cuts)]
        return [batches[i] for i in random.permutation(len(batches))]

    def by_length(self, random: np.random.Generator) -> Indices:
        """Examples by the length of their longer side, within that by how much the sides differ; equal ones by chance.

        The difference runs to and fro, so that neighbours are near on both sides where the longer one grows too.
        """
        shuffled = random.permutation(len(self.target))
        longer = np.maximum(self.source, self.target)[shuffled]
        difference = (self.source - self.target)[shuffled]
        return shuffled[np.lexsort((np.where(longer % 2 == 0, difference, -difference), longer))]

    def cuts(self, order: Indices, first: float) -> list[int]:
        """Where batches begin and end in the order: as full as the budget allows (the first, that share of it), but for
        up to a tenth, where leaving rows to the next batch leaves the least padding."""
        source, target = self.source[order].astype(np.int64), self.target[order].astype(np.int64)
        longer = np.maximum(source, target)  # grows along the order
        cuts, budget = [0], max(int(self.tokens * first), int(longer[0]))
        while (start := cuts[-1]) < len(order):
            window = slice(start, start + budget // int(longer[start]))
            counts = np.arange(1, len(longer[window]) + 1)
            most = max(int((longer[window] * counts <= budget).sum()), 1)
            if start + most < len(order):
                sides = [side[window][:most] for side in (source, target)]
                positions = sum(np.maximum.accumulate(side) for side in sides) * counts[:most]
                real = sum(np.cumsum(side) for side in sides) / positions
                least = most - most // 10
                most -= int(np.argmax(real[least - 1 :][::-1]))
            cuts.append(start + most)
            budget = self.tokens
        return cuts


def check_lengths(source_lengths: Lengths, target_lengths: Lengths, tokens: int) -> None:
    """Raises KotyaError where there is no example, or one alone is over the budget."""
    if len(source_lengths) == 0:
        raise KotyaError("there is no example to train on: cleaning dropped them all")
    longest = max(int(np.max(source_lengths)), int(np.max(target_lengths))) + 1
    if longest > tokens:
        raise KotyaError(
            f"an example has {longest:,} tokens but a batch holds {tokens:,}; "
            "raise training.tokens or lower data.cleaning.max_length"
        )


def padding(batches: list[Indices], source_lengths: Lengths, target_lengths: Lengths) -> float:
    """The share of positions, of both sides with their ends, that are padding."""
    real = total = 0
    for batch in batches:
        for lengths in (source_lengths, target_lengths):
            rows = np.asarray(lengths)[batch].astype(np.int64) + 1
            real += int(rows.sum())
            total += len(rows) * int(rows.max())
    return 1 - real / total
