"""What `kotya.load` returns for a tagger: the entities of texts, with their places in the text."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from unicodedata import category

import torch

from kotya.errors import KotyaError
from kotya.inference.arriving import arriving
from kotya.models.heads import TokenModel
from kotya.tasks.tagging import Tagged, TaggingFolder, tag_probabilities
from kotya.text.tags import check_entities, entities
from kotya.text.vocabulary import Vocabulary
from kotya.text.words import Part, parts

GROUP = 1024
"""Texts sorted into batches at a time."""

_ALONE = "\u3041-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
"""Han and kana, written without blanks between words: each character is a word."""
_IN_WORDS = rf"[^\W{_ALONE}]"
WORD = re.compile(rf"\w+://\S*\w|{_IN_WORDS}+(?:(?:[.&@'’\-\u2010\u2011]|(?<=\d)[,:](?=\d)){_IN_WORDS}+)*|\S")
"""Marks stand alone, as in corpora: `(Bonn),Oslo` is five words. Those inside of `U.S`, `o'clock`, `AT&T`, `Bonn-Oslo`,
`3,500`, `10:30` and addresses belong to the word."""
_JOINER, _TONES, _FLAGS = "\u200d", "\U0001f3fb-\U0001f3ff", "\U0001f1e6-\U0001f1ff"
_MORE = re.compile(rf".*(?:{_JOINER}.|[{_JOINER}{_TONES}]|(?<![{_FLAGS}])[{_FLAGS}]{{2}})", re.DOTALL)
"""Pictures of several characters: joined, in a tone of skin, or a flag."""


def word_spans(text: str) -> list[tuple[int, int]]:
    """Where its words stand, in characters [start, stop)."""
    found: list[tuple[int, int]] = []
    for start, stop in (word.span() for word in WORD.finditer(text)):
        if found and found[-1][1] == start and _goes_on(text[found[-1][0] : start], text[start]):
            found[-1] = (found[-1][0], stop)
        else:
            found.append((start, stop))
    return found


def _goes_on(word: str, character: str) -> bool:
    """Whether what comes behind a word is more of it: accents and vowel signs, letters behind those, pictures."""
    if category(character).startswith("M"):
        return True
    letters = re.fullmatch(f"{_IN_WORDS}{{2}}", word[0] + character)
    behind = letters is not None and category(word[-1]).startswith("M")
    return behind or _MORE.fullmatch(word + character) is not None


@dataclass(frozen=True)
class FoundEntity:
    """A stretch of a text that names something."""

    label: str
    text: str
    start: int
    """Characters [start, stop) of the text."""
    stop: int
    probability: float
    """Of the least sure of its words."""


def found_entities(text: str, spans: Sequence[tuple[int, int]], tagged: Tagged) -> list[FoundEntity]:
    """The entities of a text whose words stand at `spans`."""
    tags, sure = tagged
    return [
        FoundEntity(
            label,
            text[spans[start][0] : spans[stop - 1][1]],
            spans[start][0],
            spans[stop - 1][1],
            min(sure[start:stop]),
        )
        for start, stop, label in entities(tags)
    ]


class Tagger:
    """A model with its vocabulary."""

    def __init__(self, model: TokenModel, vocabulary: Vocabulary, config: TaggingFolder) -> None:
        self.model, self.vocabulary, self.config = model, vocabulary, config
        self.cut = 0
        """Texts so far with a word that is longer than the model reads, of which only the beginning was read."""

    def find(self, text: str) -> list[FoundEntity]:
        """The entities of one text."""
        return next(self.predict([text]))

    def predict(self, texts: Iterable[str]) -> Iterator[list[FoundEntity]]:
        """Those of many, in their order, as they come. Long texts are read in parts."""
        for group in arriving(map(self.checked, texts), GROUP):
            spans = [word_spans(text) for text in group]
            words = [
                [text[start:stop] for start, stop in some] for text, some in zip(group, spans, strict=True)
            ]
            for text, some, tagged in zip(group, spans, self._tag(words), strict=True):
                yield found_entities(text, some, tagged)

    def checked(self, text: str | Sequence[str]) -> str:
        """A text. Raises KotyaError where it is a pair."""
        if not isinstance(text, str):
            raise KotyaError(f"this model reads single texts, not {' | '.join(text)[:60]!r}")
        return text

    def tag(self, sentences: Iterable[Sequence[str]]) -> Iterator[list[str]]:
        """The tags, in IOB2, of sentences whose words are given."""
        for group in arriving(sentences, GROUP):
            for tags, _ in self._tag(group):
                yield tags

    @torch.inference_mode()
    def _tag(self, sentences: Sequence[Sequence[str]]) -> list[Tagged]:
        some, lengths = self.parts(sentences), [len(words) for words in sentences]
        return list(tag_probabilities(self.model, some, self.config.labels, lengths))

    def parts(self, sentences: Sequence[Sequence[str]]) -> list[list[Part]]:
        """What the model reads of sentences. Raises KotyaError where it does not name entities."""
        check_entities(self.config.labels)
        some = parts(self.vocabulary, sentences, self.config.longest)
        self.cut += sum(any(part.encoded.cut for part in one) for one in some)
        return some
