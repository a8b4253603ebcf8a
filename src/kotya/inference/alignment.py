"""Word alignments out of attention: one forced pass over a source and its given target, with the recorder open.

From pieces to words: a source word gets the sum of its pieces' weights, a target word the mean of its pieces' rows, so
that rows still sum to 1. Each target word is linked to the source word with the most weight; what lies on the end of
the source links nothing; where it was taught to be the empty word, a word with most of its weight there has no link.
Nothing of this rides through search: a translation is found first, then read again.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from kotya.attention.reading import Reading, read, watch
from kotya.inference.arriving import arriving
from kotya.search.ensemble import Ensemble
from kotya.text.alignments import Links
from kotya.text.longest import check_length
from kotya.text.symmetrization import Heuristic, symmetrize
from kotya.text.vocabulary import Vocabulary

END = "‹end›"
_WINDOW = 512
_CELLS = 1 << 16
"""Lines × target positions × source positions at once: what one head holds."""

Weights = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Side:
    """One side of a pair: its words, its pieces, and the word each piece is of."""

    words: list[str]
    ids: Sequence[int]
    word_of: Sequence[int]

    @classmethod
    def of_texts(cls, vocabulary: Vocabulary, texts: Sequence[str]) -> "list[Side]":
        """Texts as the vocabulary cuts them."""
        encoded = vocabulary.encode_words(texts)
        return [cls(text.split(), ids, word_of) for text, (ids, word_of) in zip(texts, encoded, strict=True)]

    @classmethod
    def of_output(cls, vocabulary: Vocabulary, ids: Sequence[int]) -> "Side":
        """What search has found, in the very pieces it has chosen."""
        words = vocabulary.decode(ids).split()
        # a special piece, an unknown one for instance, is of the word before it
        word_of = list(accumulate(vocabulary.words(ids), max, initial=0))[1:]
        return cls(words, ids, [min(word, max(len(words) - 1, 0)) for word in word_of])


@dataclass(frozen=True)
class WordAlignment:
    """What the target words of a pair looked at."""

    source: list[str]
    """Words."""
    target: list[str]
    weights: Weights
    """Target words × (source words, the end); rows sum to 1. Read at the output, one more row is the target's end."""
    links: Links
    """(source word, target word), from 0."""

    @property
    def rows(self) -> list[str]:
        """What stands at every row of the weights."""
        return [*self.target, END][: len(self.weights)]

    @property
    def columns(self) -> list[str]:
        """What stands at every column."""
        return [*self.source, END]

    def as_json(self) -> dict[str, Any]:
        """As plain values, the weights to four digits."""
        return {
            "source": self.columns,
            "target": self.rows,
            "weights": [[round(float(weight), 4) for weight in row] for row in self.weights],
            "links": sorted(map(list, self.links)),
        }


class Aligner:
    """Reads pairs with a model, or with several whose attention is averaged."""

    def __init__(
        self, ensemble: Ensemble, vocabularies: tuple[Vocabulary, Vocabulary], reading: Reading
    ) -> None:
        self.ensemble, self.reading = ensemble, reading
        self.source, self.target = vocabularies

    def align(self, pairs: Iterable[tuple[str, str]], *, first: int = 1) -> Iterator[WordAlignment]:
        """The alignment of every pair, in their order, as they come; `first` is the number of the first.

        Raises KotyaError for a side of more than 4,096 pieces, after the alignments of the pairs before it.
        """
        for some in arriving(self._sides(pairs, first), _WINDOW):
            yield from self.read(some)

    def _sides(self, pairs: Iterable[tuple[str, str]], first: int) -> Iterator[tuple[Side, Side]]:
        """Pairs in pieces."""
        for number, (one, two) in enumerate(pairs, start=first):
            [source], [target] = Side.of_texts(self.source, [one]), Side.of_texts(self.target, [two])
            check_length(source.ids, f"the source of pair {number}")
            check_length(target.ids, f"the target of pair {number}")
            yield source, target

    def read(self, pairs: Sequence[tuple[Side, Side]]) -> list[WordAlignment]:
        """Pairs in pieces, those of near length together in a pass."""
        order = sorted(range(len(pairs)), key=lambda i: (len(pairs[i][1].ids), len(pairs[i][0].ids)))
        found: dict[int, WordAlignment] = {}
        while order:
            count = fitting([pairs[i] for i in reversed(order)])
            chosen, order = order[-count:], order[:-count]
            batch = [pairs[i] for i in chosen]
            weights = self._weights(batch).cpu().double().numpy()
            for row, (i, pair) in enumerate(zip(chosen, batch, strict=True)):
                found[i] = self._words(*pair, weights[row])
        return [found[i] for i in range(len(pairs))]

    @torch.inference_mode()
    def _weights(self, pairs: Sequence[tuple[Side, Side]]) -> Float[Tensor, "rows steps source"]:
        """Of each target piece, and read at the output of the end after them, on every source piece and the end.

        Raises Fault where it is NaN.
        """
        ensemble, begin, end = self.ensemble, self.target.begin, self.target.end
        memories = ensemble.encode([source.ids for source, _ in pairs])
        lags = [self.reading.lag(model.decoder.knows_after) for model in ensemble.models]
        steps = max(len(target.ids) for _, target in pairs) + (self.reading.step == "output")
        width = steps + max(lags)
        rows = [[begin, *target.ids, *[end] * (width - 1 - len(target.ids))] for _, target in pairs]
        inputs = torch.tensor(rows, device=ensemble.device)
        read_by_each = []
        for model, memory, later in zip(ensemble.models, memories, lags, strict=True):
            with watch(model.decoder, self.reading) as maps:
                model.decoder(inputs, memory)
            read_by_each.append(read(maps, self.reading)[:, later : later + steps].float())
        weights = torch.stack(read_by_each).mean(0)
        if weights.isnan().any():
            raise ensemble.no_number(f"what stands beside {' '.join(pairs[0][0].words)[:60]!r}")
        return weights

    def _words(self, source: Side, target: Side, weights: Weights) -> WordAlignment:
        """From steps and pieces to words."""
        columns = [*source.word_of, len(source.words)]
        rows, height = list(target.word_of), len(target.words)
        if self.reading.step == "output":
            rows, height = [*rows, height], height + 1
        weights = weights[: len(rows), : len(columns)]
        joined = join_pieces(weights, columns, rows, (height, len(source.words) + 1))
        links = best_links(joined[: len(target.words)], empty_word=self.reading.empty_word)
        return WordAlignment(source.words, target.words, joined, links)


def join_pieces(
    weights: Weights, columns: Sequence[int], rows: Sequence[int], shape: tuple[int, int]
) -> Weights:
    """From pieces to words: columns of one word are summed, rows of one word are averaged.

    `columns` and `rows` say which word each is of; a word without pieces, which normalisation may leave, has zeros.
    """
    height, width = shape
    summed = np.zeros((len(rows), width))
    np.add.at(summed.T, list(columns), weights.T)
    joined = np.zeros(shape)
    np.add.at(joined, list(rows), summed)
    pieces = np.bincount(np.asarray(rows, dtype=np.int64), minlength=height)
    return np.asarray(joined / np.maximum(pieces, 1)[:, None])


def best_links(weights: Weights, *, empty_word: bool = False) -> Links:
    """Each target word with the source word that has most of its weight.

    The last column, the end, links nothing; with `empty_word`, nor does a word that has most of its weight there.
    """
    words = weights[:, :-1]
    if not words.size:
        return frozenset()
    best = words.argmax(1)
    least = weights[:, -1] if empty_word else np.zeros(len(weights))
    return frozenset((int(i), j) for j, i in enumerate(best) if words[j, i] > least[j])


def symmetrized(
    forward: Aligner, reverse: Aligner, pairs: Iterable[tuple[str, str]], heuristic: Heuristic
) -> Iterator[WordAlignment]:
    """Alignments whose links are made of two directions; `reverse` translates the targets into the sources.

    The weights remain those of `forward`.
    """
    first = 1
    for some in arriving(pairs, _WINDOW):
        turned = reverse.align([(target, source) for source, target in some], first=first)
        for one, other in zip(forward.align(some, first=first), turned, strict=True):
            backward = frozenset((source, target) for target, source in other.links)
            yield replace(one, links=symmetrize(one.links, backward, heuristic))
        first += len(some)


def fitting(pairs: Sequence[tuple[Side, Side]]) -> int:
    """How many of the pairs, the first having the longest target, make one pass; one at least."""
    steps, longest = len(pairs[0][1].ids) + 1, 0
    for count, (source, _) in enumerate(pairs):
        longest = max(longest, len(source.ids) + 1)
        if count and (count + 1) * steps * longest > _CELLS:
            return count
    return len(pairs)
