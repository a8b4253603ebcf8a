"""Guided alignment (Chen, Matusov, Khadivi and Peter 2016): attention is taught the word alignments that are given.

    H = -Σ_t Σ_s A_ts log a_ts,  A_ts = 1 / |S_t| for s in S_t

S_t are the source pieces of the words that the word of target piece t is linked to; a target piece without links
teaches nothing or, with `empty_word`, is taught the end of the source, which then is what statistical aligners call the
empty word (Och and Ney 2003). In one head of a Transformer it is the loss of Garg et al. 2019.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import chain, repeat
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from kotya.attention.reading import GuidedAlignmentConfig, read, watch
from kotya.attention.recorder import Maps
from kotya.errors import KotyaError
from kotya.models.seq2seq import Seq2Seq
from kotya.text import alignments
from kotya.text.alignments import Links
from kotya.text.cache import ParallelTokens
from kotya.text.corpus import TextSource, parallel_marked

_SMALLEST = 1e-9
"""Where an attention weight is no more than this, its logarithm is taken as that of this."""


@dataclass(frozen=True)
class Corpus:
    """The two sides of a corpus, and the file of its alignments, where it has one."""

    source: TextSource
    target: TextSource
    alignments: Path | None


@dataclass(frozen=True)
class Guide:
    """Which source pieces the target pieces of a batch should look at, an entry a pair of pieces."""

    rows: Int[Tensor, " pairs"]
    steps: Int[Tensor, " pairs"]
    sources: Int[Tensor, " pairs"]
    shares: Float[Tensor, " pairs"]
    """1 over how many source pieces the target piece has."""
    pieces: int
    """Target pieces that have any: what the loss is divided by."""

    def to(self, device: torch.device) -> "Guide":
        rows, steps, sources, shares = (
            x.to(device, non_blocking=True) for x in (self.rows, self.steps, self.sources, self.shares)
        )
        return Guide(rows, steps, sources, shares, self.pieces)


class AlignedPairs:
    """The links of every pair of a training cache, packed."""

    def __init__(self, links: Iterator[Links]) -> None:
        counts, flat = [0], []
        for one in links:
            counts.append(len(one))
            flat.append(np.array(sorted(one), dtype=np.uint16).reshape(-1, 2))
        self._starts = np.cumsum(counts)
        self._flat = np.concatenate([np.empty((0, 2), dtype=np.uint16), *flat])

    def __getitem__(self, index: int) -> NDArray[np.uint16]:
        """Rows of (source word, target word)."""
        return self._flat[self._starts[index] : self._starts[index + 1]]

    @property
    def links(self) -> int:
        """All of them."""
        return len(self._flat)


class Guidance:
    """The links of the training pairs, and the attention that is taught them."""

    def __init__(self, config: GuidedAlignmentConfig, pairs: AlignedPairs, lag: int) -> None:
        self.config, self.pairs, self.lag = config, pairs, lag

    @classmethod
    def read(
        cls, config: GuidedAlignmentConfig, lag: int, corpora: Sequence[Corpus], train: ParallelTokens
    ) -> "Guidance":
        """The alignments of the pairs that cleaning kept; `lag` is the decoder's.

        Raises KotyaError where no corpus has any, or a file does not fit its corpus.
        """
        if not any(corpus.alignments for corpus in corpora):
            raise KotyaError(
                "training.guided_alignment needs word alignments: name a file of them in data.train, `alignments: …`"
            )
        pairs = AlignedPairs(kept(chain.from_iterable(map(aligned_lines, corpora)), train))
        if not pairs.links:
            raise KotyaError("the alignments of data.train have no link")
        return cls(config, pairs, lag)

    def guide(
        self, indices: Sequence[int], sources: Sequence[Sequence[int]], targets: Sequence[Sequence[int]]
    ) -> Guide:
        """What a batch should look at; `sources` and `targets` are the words of its pieces."""
        rows: list[int] = []
        steps: list[int] = []
        places: list[int] = []
        shares: list[float] = []
        pieces = 0
        for row, (index, source, target) in enumerate(zip(indices, sources, targets, strict=True)):
            wanted: dict[int, set[int]] = {}
            for i, j in self.pairs[index].tolist():
                wanted.setdefault(j, set()).add(i)
            for step, word in enumerate(target, start=self.lag):
                if step > len(target):
                    break  # the last piece, where its step would be one after the end
                found = [s for s, other in enumerate(source) if other in wanted.get(word, ())]
                if not found and wanted and self.config.empty_word:
                    found = [len(source)]
                if not found:
                    continue
                rows += [row] * len(found)
                steps += [step] * len(found)
                places += found
                shares += [1 / len(found)] * len(found)
                pieces += 1
        return Guide(
            torch.tensor(rows, dtype=torch.int64),
            torch.tensor(steps, dtype=torch.int64),
            torch.tensor(places, dtype=torch.int64),
            torch.tensor(shares, dtype=torch.float32),
            pieces,
        )

    def watch(self, model: Seq2Seq) -> AbstractContextManager[Maps]:
        """Record the attention that is taught, as part of the graph."""
        return watch(model.decoder, self.config, differentiable=True)

    def loss(self, maps: Maps, guide: Guide, times: int) -> Float[Tensor, ""]:
        """λH of a batch that was read so many times over (R-Drop's two): their mean."""
        weights = read(maps, self.config).float().unflatten(0, (times, -1))
        log_a = weights[:, guide.rows, guide.steps, guide.sources].clamp_min(_SMALLEST).log()
        total: Tensor = (log_a * guide.shares).sum()
        return -self.config.weight / times * total


def aligned_lines(corpus: Corpus) -> Iterator[tuple[str, str, Links]]:
    """The pairs of a corpus with their links, none where it has no file. Lines that are not UTF-8 are left out."""
    lines = alignments.read(corpus.alignments) if corpus.alignments else repeat(frozenset[tuple[int, int]]())
    number = 0
    for _, _, number, source, target in parallel_marked(corpus.source, corpus.target):
        links = next(lines, None)
        if links is None:
            raise KotyaError(
                f"{corpus.alignments} ends after line {number - 1:,} but {corpus.source} goes on; "
                "a line of alignments belongs to every pair"
            )
        if source is not None and target is not None:
            place = f"{corpus.alignments}:{number}"
            alignments.check_inside(links, len(source.split()), len(target.split()), place)
            yield source, target, links
    if corpus.alignments and next(lines, None) is not None:
        raise KotyaError(f"{corpus.source} ends after line {number:,} but {corpus.alignments} goes on")


def kept(lines: Iterator[tuple[str, str, Links]], train: ParallelTokens) -> Iterator[Links]:
    """The links of the pairs that cleaning kept, which stand in the order of the files.

    Whether a pair is kept depends on its text alone, and of equal ones the first is, so texts tell which it was.
    """
    for index in range(len(train)):
        text = train.text(index)
        yield next(links for source, target, links in lines if (source, target) == text)
    for _ in lines:  # to the end, where what is wrong with the files is found
        pass
