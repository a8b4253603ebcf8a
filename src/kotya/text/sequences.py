"""A text or a pair as an encoder reads it: [CLS] A [SEP], [CLS] A [SEP] B [SEP], within the length it can read."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kotya.text.vocabulary import Vocabulary


@dataclass(frozen=True)
class Encoded:
    """The ids of a sequence."""

    ids: NDArray[np.int32]
    second: int
    """Where the second text begins; the length where there is none."""
    cut: int = 0
    """Pieces that found no place."""

    def __len__(self) -> int:
        return len(self.ids)

    def segments(self) -> NDArray[np.int64]:
        """0 for the first text, 1 for the second."""
        return (np.arange(len(self.ids)) >= self.second).astype(np.int64)


def encode(vocabulary: Vocabulary, texts: Sequence[Sequence[str]], longest: int) -> list[Encoded]:
    """Texts (one each) or pairs (two each) as sequences of at most `longest` pieces, special ones counted."""
    sides = [vocabulary.encode_batch([sides[index] for sides in texts]) for index in range(len(texts[0]))]
    return [fit(vocabulary, list(pieces), longest) for pieces in zip(*sides, strict=True)]


def fit(vocabulary: Vocabulary, texts: Sequence[list[int]], longest: int) -> Encoded:
    """One or two encoded texts; where they do not fit, the longer one loses pieces at its end."""
    special = 2 if len(texts) == 1 else 2 + vocabulary.separators
    room, lengths = max(0, longest - special), [len(text) for text in texts]
    kept = list(lengths)
    if len(texts) == 1:
        kept[0] = min(lengths[0], room)
    elif sum(lengths) > room:
        shorter = min(*lengths, room // 2)
        side = lengths.index(min(lengths))
        kept[side], kept[1 - side] = shorter, room - shorter
    parts = [text[:count] for text, count in zip(texts, kept, strict=True)]
    ids = np.array(vocabulary.wrapped(*parts), np.int32)
    second = len(ids) if len(texts) == 1 else len(ids) - kept[1] - 1
    return Encoded(ids, second, sum(lengths) - sum(kept))
