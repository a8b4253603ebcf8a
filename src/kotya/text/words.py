"""Words of a sentence as pieces, for tagging: which piece is the first of each word, and long sentences in parts.

A sentence longer than an encoder reads is cut between words; each part is read by itself, and every word stands in
exactly one. A word of which no piece is left (a control character) is in none, and is no entity.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kotya.text.sequences import Encoded
from kotya.text.vocabulary import Vocabulary

_AT_ONCE = 1000
"""Sentences; the places of their pieces take far more room than what is kept of them."""


@dataclass(frozen=True)
class Part:
    """A sentence, or a part of a long one."""

    encoded: Encoded
    words: tuple[int, ...]
    """Which words of the sentence it has, in order."""
    firsts: tuple[int, ...]
    """Where the first piece of each stands in the sequence."""


def parts(vocabulary: Vocabulary, sentences: Sequence[Sequence[str]], longest: int) -> list[list[Part]]:
    """For every sentence its parts, each of at most `longest` pieces, special ones counted."""
    found: list[list[Part]] = []
    for start in range(0, len(sentences), _AT_ONCE):
        some = sentences[start : start + _AT_ONCE]
        texts = [" ".join(words) for words in some]
        found += [
            _parts(vocabulary, text, words, ids, spans, longest - 2)
            for text, words, (ids, spans) in zip(texts, some, vocabulary.encode_spans(texts), strict=True)
        ]
    return found


def _parts(
    vocabulary: Vocabulary,
    text: str,
    words: Sequence[str],
    ids: list[int],
    spans: list[tuple[int, int]],
    room: int,
) -> list[Part]:
    starts = [0]
    for word in words:
        starts.append(starts[-1] + len(word) + 1)
    pieces: list[list[int]] = [[] for _ in words]
    for piece, (start, stop) in zip(ids, spans, strict=True):
        # a piece belongs to the word in which it ends; a lone space, as the spaces that begin pieces, to the next word
        place = stop if text[start:stop].isspace() else max(start, start + len(text[start:stop].rstrip()) - 1)
        pieces[bisect_right(starts, place) - 1].append(piece)
    found: list[Part] = []
    chosen: list[int] = []
    firsts: list[int] = []
    row: list[int] = []
    cut = 0
    for number, some in enumerate(pieces):
        if row and len(row) + len(some[:room]) > room:
            found.append(_part(vocabulary, row, chosen, firsts, cut))
            chosen, firsts, row, cut = [], [], [], 0
        if some:
            chosen.append(number)
            firsts.append(1 + len(row))
            row += some[:room]
            cut += len(some[room:])
    if row:
        found.append(_part(vocabulary, row, chosen, firsts, cut))
    return found


def _part(vocabulary: Vocabulary, row: list[int], words: list[int], firsts: list[int], cut: int) -> Part:
    ids = np.array(vocabulary.wrapped(row), np.int32)
    return Part(Encoded(ids, len(ids), cut), tuple(words), tuple(firsts))
