"""Examples for pretraining, cut from documents: pairs for next-sentence prediction, full sentences, or plain blocks.

Pairs (Devlin et al. 2019, appendix A.2): sentences of a document fill A and B up to the length; in half of the pairs B
is what follows A, in the other half it comes from another document. What is too long loses pieces at either end of the
longer side. Full sentences (Liu et al. 2019, section 4.1) run on from document to document, with an end between them.
Blocks are for predicting the next piece. All of it is a pure function of (seed, epoch, document).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from kotya.text.documents import Documents

SHORT = 0.1  # of the pairs are filled to a random shorter length

Span = tuple[int, int]
"""Pieces of the corpus, [start, stop)."""


@dataclass(frozen=True)
class Example:
    """What a sequence is made of: spans of the corpus."""

    first: tuple[Span, ...]
    """Side A, or all there is; an end stands between spans."""
    second: Span | None = None
    """Side B."""
    follows: bool = True
    """Whether B is what comes after A."""

    @property
    def pieces(self) -> int:
        """Without special ones."""
        return sum(stop - start for start, stop in [*self.first, *([self.second] if self.second else [])])


def pairs(
    documents: Documents, number: int, among: NDArray[np.int64], length: int, key: tuple[int, int]
) -> Iterator[Example]:
    """The pairs of a document, of at most `length` pieces without special ones; `key` is (seed, epoch).

    B from elsewhere is from another of the documents `among`, which are in order and have `number` too. A document of
    one sentence has nothing that follows: its B is always from elsewhere.
    """
    random = np.random.default_rng([*key, number])
    first, last = int(documents.documents[number]), int(documents.documents[number + 1])
    place, alone = first, len(among) == 1
    while place < last:
        target = length if random.random() >= SHORT else int(random.integers(2, length + 1))
        stop = _fill(documents, place, last, target)
        lone = stop == place + 1 == last
        if lone and place > first:
            place -= 1  # the last sentence is left over: it comes with the one before it
        elif stop == place + 1 and not lone:
            stop += 1  # two at least, so that the coin alone says which kind of pair it is
        if stop - place == 1 and alone:
            return
        cut = place + int(random.integers(1, max(2, stop - place)))
        one = _span(documents, place, cut)
        follows = stop - place > 1 and (alone or random.random() < 0.5)
        if follows:
            two = _span(documents, cut, stop)
        else:
            two = _elsewhere(documents, number, among, max(1, target - (one[1] - one[0])), random)
        place = stop if follows or lone else cut
        one, two = _trimmed(one, two, length, random)
        yield Example((one,), two, follows)


def _fill(documents: Documents, place: int, last: int, target: int) -> int:
    """The sentence before which as many pieces as wanted are reached, at most the end of the document."""
    wanted = int(documents.sentences[place]) + target
    return min(int(np.searchsorted(documents.sentences[place + 1 : last + 1], wanted)) + place + 1, last)


def _span(documents: Documents, place: int, stop: int) -> Span:
    return int(documents.sentences[place]), int(documents.sentences[stop])


def _elsewhere(
    documents: Documents, number: int, among: NDArray[np.int64], target: int, random: np.random.Generator
) -> Span:
    """Sentences from a random place of another document."""
    drawn = int(random.integers(len(among) - 1))
    other = int(among[drawn + (drawn >= np.searchsorted(among, number))])
    first, last = int(documents.documents[other]), int(documents.documents[other + 1])
    place = int(random.integers(first, last))
    return _span(documents, place, _fill(documents, place, last, target))


def _trimmed(one: Span, two: Span, length: int, random: np.random.Generator) -> tuple[Span, Span]:
    """Both within the length: the longer side loses first, at its ends by chance."""
    sizes = [one[1] - one[0], two[1] - two[0]]
    excess = max(0, sum(sizes) - length)
    longer = int(sizes[1] > sizes[0])
    lost = [0, 0]
    lost[longer] = min(excess, abs(sizes[0] - sizes[1]))
    rest = excess - lost[longer]
    lost = [lost[0] + rest // 2 + (rest % 2) * (1 - longer), lost[1] + rest // 2 + (rest % 2) * longer]
    kept = []
    for (start, stop), count in zip((one, two), lost, strict=True):
        front = int(random.binomial(count, 0.5))
        kept.append((start + front, stop - (count - front)))
    return kept[0], kept[1]


def full_sentences(documents: Documents, order: Iterable[int], length: int) -> Iterator[Example]:
    """Whole sentences, document after document in the order given, as many as fit; a longer sentence is cut."""
    spans: list[Span] = []
    free = length
    for number in order:
        if spans:
            free -= 1  # the end between documents
        joins = False
        for sentence in range(int(documents.documents[number]), int(documents.documents[number + 1])):
            start, stop = _span(documents, sentence, sentence + 1)
            for begin in range(start, stop, length):
                end = min(begin + length, stop)
                if end - begin > free:
                    yield Example(tuple(spans))
                    spans, free, joins = [], length, False
                if joins:
                    spans[-1] = (spans[-1][0], end)
                else:
                    spans.append((begin, end))
                free, joins = free - (end - begin), True
    if spans:
        yield Example(tuple(spans))


def blocks(documents: Documents, number: int, length: int, key: tuple[int, int] | None) -> Iterator[Example]:
    """A document in spans of `length` pieces; the first is cut short by chance, without a key it is not."""
    first, last = (int(documents.sentences[documents.documents[number + side]]) for side in (0, 1))
    cut = length
    if key is not None:
        cut = int(np.random.default_rng([*key, number]).integers(1, length + 1))
    edges = [first, *range(min(first + cut, last), last, length), last]
    for start, stop in pairwise(edges):
        yield Example(((start, stop),))
