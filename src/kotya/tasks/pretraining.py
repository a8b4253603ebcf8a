"""Learning from plain text: corpora of documents, examples drawn from them round by round, batches by pieces."""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from pydantic import Field

from kotya.errors import KotyaError
from kotya.tasks.encoder_recipe import EncoderData, hold_out
from kotya.tasks.settings import TrainingConfig
from kotya.tasks.task import Indices
from kotya.text.documents import Documents
from kotya.text.pairs import Example
from kotya.text.vocabulary import Vocabulary

ROUND = 1 << 23  # pieces of documents that are drawn and cut at a time


class TextData(EncoderData):
    """Plain text, a sentence or a paragraph a line, a blank line between documents."""


class Pretraining(TrainingConfig):
    """How θ is learned from plain text."""

    tokens: int = Field(4096, ge=1)
    """A batch holds so many pieces at most, special ones counted, and one example at least."""
    length: int = Field(128, ge=8)
    """Pieces of an example, special ones counted."""


class Rounds:
    """Documents in a drawn order, cut into examples; a pure function of (seed, number). The last round is kept."""

    def __init__(
        self,
        documents: Documents,
        chosen: Sequence[int],
        cut: Callable[[list[int], tuple[int, int]], Iterator[Example]],
        size: Callable[[Example], int],
        training: Pretraining,
    ) -> None:
        """`cut` makes examples of documents, given their numbers and (seed, round); `size` counts all pieces of one."""
        self.chosen, self.cut, self.seed = np.array(chosen), cut, training.seed
        self.size, self.tokens = size, training.tokens
        self.count = max(1, min(documents.pieces // ROUND, len(chosen)))
        self._kept: tuple[int, list[Example]] = (-1, [])

    def examples(self, number: int) -> list[Example]:
        """The examples of a round, in an order drawn anew."""
        if self._kept[0] != number:
            epoch, part = divmod(number, self.count)
            drawn = np.random.default_rng([self.seed, epoch]).permutation(self.chosen)[part :: self.count]
            cut = list(self.cut(drawn.tolist(), (self.seed, number)))
            order = np.random.default_rng([self.seed, number, 1]).permutation(len(cut))
            self._kept = (number, [cut[i] for i in order])
        return self._kept[1]

    def batches(self, number: int) -> list[Indices]:
        """Which examples each batch of a round has: one, and as many more as the pieces allow."""
        ends = np.cumsum([self.size(one) for one in self.examples(number)])
        cuts = [0]
        while cuts[-1] < len(ends):
            before = ends[cuts[-1] - 1] if cuts[-1] else 0
            cuts.append(max(int(np.searchsorted(ends, before + self.tokens, "right")), cuts[-1] + 1))
        return [np.arange(start, stop) for start, stop in pairwise(cuts)]


Chosen = tuple[Documents, list[int]]
"""Documents, and the numbers of those to use, in order."""


def open_documents(
    paths: list[Path],
    vocabulary: Vocabulary,
    cache: Path,
    say: Callable[[str], None],
    *,
    progress: bool = False,
) -> Chosen:
    """All documents of some files. Raises KotyaError for bad input."""
    found = Documents.open_or_build(paths, vocabulary, cache, progress=progress)
    names = ", ".join(path.name for path in paths)
    say(f"{names}: {len(found):,} documents, {found.pieces:,} pieces")
    return found, list(range(len(found)))


def open_corpora(
    train: list[Path],
    dev: Path | None,
    vocabulary: Vocabulary,
    cache: Path,
    say: Callable[[str], None],
    *,
    progress: bool,
    least: int = 1,
) -> tuple[Chosen, Chosen]:
    """The documents to train on, and those of the dev set, without a file some of the others, `least` or more.

    Raises KotyaError.
    """
    documents, every = open_documents(train, vocabulary, cache, say, progress=progress)
    if dev is not None:
        return (documents, every), open_documents([dev], vocabulary, cache, say, progress=progress)
    kept, away = hold_out(len(documents), "documents (blank lines end them)", train[0], say, least=least)
    return (documents, kept), (documents, away)


def check_length(length: int, longest: int) -> None:
    """Raises KotyaError where examples are longer than the model reads."""
    if length > longest:
        raise KotyaError(f"training.length {length} is more than the model reads, {longest}")
