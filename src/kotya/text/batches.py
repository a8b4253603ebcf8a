"""Batches by token budget: examples of near length together, so that few positions are padding, in an order drawn by (seed, epoch)."""

import numpy as np
from numpy.typing import NDArray

from kotya.errors import KotyaError

Lengths = NDArray[np.int32]
Indices = NDArray[np.int64]


class Batches:
    """Every example once an epoch, in batches whose rows times longest row stay within `tokens` on either side, end included."""

    def __init__(self, source_lengths: Lengths, target_lengths: Lengths, *, tokens: int, seed: int) -> None:
        """Lengths are of the examples without end. Raises KotyaError where there is no example, or one alone is over the budget."""
        if len(source_lengths) == 0:
            raise KotyaError("there is no example to train on: cleaning dropped them all")
        # int32 is plenty and half the memory of what numpy would choose.
        self.source = np.asarray(source_lengths, dtype=np.int32) + np.int32(1)
        self.target = np.asarray(target_lengths, dtype=np.int32) + np.int32(1)
        self.tokens, self.seed = tokens, seed
        longest = max(int(self.source.max()), int(self.target.max()))
        if longest > tokens:
            raise KotyaError(
                f"an example has {longest:,} tokens but a batch holds {tokens:,}; "
                "raise training.tokens or lower data.cleaning.max_length"
            )

    def epoch(self, epoch: int) -> list[Indices]:
        """The batches of an epoch, as arrays of example indices: a pure function of (seed, epoch), so a slice of it resumes."""
        random = np.random.default_rng([self.seed, epoch])
        order = self.by_length(random)
        # The first batch is cut short by chance, so that batch boundaries fall elsewhere every epoch.
        cuts = self.cuts(order, first=random.uniform(0.25, 1.0))
        batches = [order[start:stop] for start, stop in zip(cuts, cuts[1:], strict=False)]
        return [batches[i] for i in random.permutation(len(batches))]

    def by_length(self, random: np.random.Generator) -> Indices:
        """Examples by target length, then by source length to and fro, so that neighbours are near on both sides; equal ones by chance."""
        shuffled = random.permutation(len(self.target))
        source, target = self.source[shuffled], self.target[shuffled]
        to_and_fro = np.where(target % 2 == 0, source, -source)
        return shuffled[np.lexsort((to_and_fro, target))]

    def cuts(self, order: Indices, first: float) -> list[int]:
        """Where batches begin and end in the order, each as long as the budget allows (the first, that share of it)."""
        source, target = self.source[order], self.target[order]
        cuts, budget = [0], max(self.tokens * first, float(max(source[0], target[0])))
        while cuts[-1] < len(order):
            start = cuts[-1]
            # No more rows than these can fit, since lengths only grow along the order.
            window = slice(start, start + int(budget) // int(target[start]) + 1)
            longest = np.maximum(np.maximum.accumulate(source[window]), np.maximum.accumulate(target[window]))
            cost = longest.astype(np.int64) * np.arange(1, len(longest) + 1)
            cuts.append(start + max(int(np.searchsorted(cost, budget, side="right")), 1))
            budget = float(self.tokens)
        return cuts


def padding(batches: list[Indices], source_lengths: Lengths, target_lengths: Lengths) -> float:
    """The share of positions, of both sides with their ends, that are padding."""
    real = total = 0
    for batch in batches:
        for lengths in (source_lengths, target_lengths):
            rows = np.asarray(lengths)[batch].astype(np.int64) + 1
            real += int(rows.sum())
            total += len(rows) * int(rows.max())
    return 1 - real / total
