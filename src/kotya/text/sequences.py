"""A text or a pair as an encoder reads it: [CLS] A [SEP], [CLS] A [SEP] B [SEP], within the length it can read."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

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
    return [fit(vocabulary, pieces, longest) for pieces in _pieces(vocabulary, texts)]


def _pieces(vocabulary: Vocabulary, texts: Sequence[Sequence[str]]) -> Iterator[list[list[int]]]:
    """Of every text or pair its sides' pieces; texts and pairs may stand among each other."""
    encoded = iter(vocabulary.encode_batch([side for sides in texts for side in sides]))
    return (list(islice(encoded, len(sides))) for sides in texts)


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


def report_cut(sequences: Sequence[Encoded], longest: int) -> str:
    """How many there are, and how many of them did not fit, for the person."""
    cut = sum(one.cut > 0 for one in sequences)
    return f"{len(sequences):,} examples" + (f", {cut:,} of them cut to {longest:,} pieces" if cut else "")


def windows(
    vocabulary: Vocabulary, texts: Sequence[Sequence[str]], longest: int, stride: int | None
) -> list[list[Encoded]]:
    """Every text or pair in one sequence, its end cut off where it is too long; or, with a stride, in several.

    Then the last text is read in windows that begin `stride` pieces apart, together reaching its end; the first of a
    pair is in all of them, cut where it leaves less than half the room to a second text that is longer than that.
    """
    return [_windows(vocabulary, pieces, longest, stride) for pieces in _pieces(vocabulary, texts)]


def _windows(
    vocabulary: Vocabulary, texts: list[list[int]], longest: int, stride: int | None
) -> list[Encoded]:
    whole = fit(vocabulary, texts, longest)
    if not whole.cut or stride is None:
        return [whole]
    special = 2 if len(texts) == 1 else 2 + vocabulary.separators
    *before, last = texts
    room = longest - special
    first = [text[: room - min(len(last), room - room // 2)] for text in before]
    lost = sum(map(len, before)) - sum(map(len, first))
    room -= sum(map(len, first))
    found = []
    for start in range(0, max(1, len(last)), min(stride, max(1, room))):
        window = fit(vocabulary, [*first, last[start : start + room]], longest)
        found.append(replace(window, cut=lost))
        if start + room >= len(last):
            break
    return found
