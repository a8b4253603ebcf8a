"""Masked language modelling's choice (Devlin et al. 2019, section 3.1): which pieces are hidden, and behind what.

Of the pieces of an example 15 % are chosen; of those 80 % become [MASK], 10 % a random piece, 10 % stay. With whole
words, words are chosen and all their pieces with them. A choice is a pure function of (seed, epoch, example).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from kotya.config import Config, wrong
from kotya.errors import KotyaError
from kotya.text.vocabulary import Vocabulary

Ids = NDArray[np.int64]


class MaskingConfig(Config):
    """How pieces are hidden."""

    rate: float = Field(0.15, gt=0, lt=1)
    """The share of pieces that is to be predicted."""
    mask: float = Field(0.8, ge=0, le=1)
    """Of those, the share that becomes [MASK]."""
    random: float = Field(0.1, ge=0, le=1)
    """Of those, the share that becomes a random piece; the rest stays as it is."""
    whole_words: bool = False

    @model_validator(mode="after")
    def _shares_fit(self) -> "MaskingConfig":
        if self.mask + self.random > 1:
            raise wrong(("random",), f"with mask {self.mask} that is more than all of them", self.random)
        return self


@dataclass(frozen=True)
class Masked:
    """An example with pieces hidden."""

    ids: Ids
    places: NDArray[np.int64]
    """Where the chosen pieces stand, in order."""
    targets: Ids
    """What stood there."""


class Masking:
    """Hides pieces of a vocabulary's texts."""

    def __init__(self, config: MaskingConfig, vocabulary: Vocabulary) -> None:
        """Raises KotyaError where the vocabulary has no mask."""
        if vocabulary.mask is None:
            raise KotyaError("the vocabulary has no mask: it is none of an encoder")
        self.config, self.mask = config, vocabulary.mask
        self.special = np.zeros(len(vocabulary), bool)
        self.special[list(vocabulary.roles.values())] = True
        self.ordinary = np.flatnonzero(~self.special)
        self.starts = vocabulary.word_starts()

    def hide(self, ids: Ids, key: Sequence[int]) -> Masked:
        """Hide pieces; special ones are never chosen. `key` is (seed, epoch, example, …)."""
        random = np.random.default_rng(key)
        open_places = np.flatnonzero(~self.special[ids])
        wanted = max(1, round(self.config.rate * len(open_places))) if len(open_places) else 0
        if self.config.whole_words:
            places = self._words(ids, open_places, wanted, random)
        else:
            places = np.sort(random.permutation(open_places)[:wanted])
        hidden, fate = ids.copy(), random.random(len(places))
        masked = fate < self.config.mask
        swapped = ~masked & (fate < self.config.mask + self.config.random)
        hidden[places[masked]] = self.mask
        hidden[places[swapped]] = random.choice(self.ordinary, int(swapped.sum()))
        return Masked(hidden, places, ids[places])

    def _words(self, ids: Ids, places: Ids, wanted: int, random: np.random.Generator) -> Ids:
        """Whole words in a drawn order, as long as they fit; where no word does, pieces."""
        begins = self.starts[ids[places]]
        begins[np.diff(places, prepend=-2) > 1] = True  # behind a special piece too
        words = np.split(places, np.flatnonzero(begins)[1:] if len(begins) and begins[0] else [])
        chosen: list[Ids] = []
        count = 0
        for number in random.permutation(len(words)):
            word = words[number]
            if count + len(word) <= wanted:
                chosen.append(word)
                count += len(word)
            if count >= wanted:
                break
        return np.sort(np.concatenate(chosen)) if chosen else np.sort(random.permutation(places)[:wanted])
