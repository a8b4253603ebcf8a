"""What `kotya.load` returns for a pretrained encoder: what may stand behind each [MASK] of a text."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import count

import numpy as np
import torch

from kotya.errors import KotyaError
from kotya.inference.arriving import arriving
from kotya.models.bert import MaskedLM
from kotya.tasks.masked_lm import MaskedLMFolder
from kotya.tasks.packed_batch import full_batches, pack, read
from kotya.text.sequences import Encoded
from kotya.text.vocabulary import Vocabulary

GROUP = 1024
"""Texts sorted into batches at a time."""
MARK = "[MASK]"
"""How a mask is written in a text, whatever the vocabulary calls it."""


@dataclass(frozen=True)
class Fill:
    """A piece that may stand behind a mask."""

    piece: str
    probability: float


class MaskFiller:
    """A model with its vocabulary."""

    def __init__(self, model: MaskedLM, vocabulary: Vocabulary, config: MaskedLMFolder) -> None:
        self.model, self.vocabulary, self.config = model, vocabulary, config
        self.cut = 0
        """Texts so far that were longer than the model reads, and of which only a part was read."""

    def fill(self, text: str, *, top: int = 5) -> list[list[Fill]]:
        """For each [MASK] of a text the likeliest pieces."""
        return next(self.predict([text], top=top))

    def predict(
        self, texts: Iterable[str], *, top: int = 5, place: Callable[[int], str] = "text {}".format
    ) -> Iterator[list[list[Fill]]]:
        """For each text and each [MASK] in it the `top` likeliest pieces, in their order, as they come.

        Of a text that is too long, what stands around its masks is read. Raises KotyaError for a text without [MASK],
        or whose masks stand farther apart than the model reads; `place` says there which text that is, from 1 on.
        """
        places = map(place, count(1))
        for group in arriving(map(self._encoded, texts, places), GROUP):
            yield from self._filled(group, top)

    def _encoded(self, text: str, place: str) -> Encoded:
        *before, last = text.split(MARK)
        if not before:
            raise KotyaError(f"{place}: there is no {MARK} in {text[:60]!r}: nothing to fill")
        # where spaces are part of pieces, the one before a word is part of what stands behind the mask
        first, *others = [*(part.rstrip() for part in before), last]
        assert self.vocabulary.mask is not None
        ids, masks = self.vocabulary.encode(first), list[int]()
        for part in others:
            masks.append(len(ids))
            ids += [self.vocabulary.mask, *self.vocabulary.encode_behind(part)]
        room = self.config.model.max_length - len(self.vocabulary.wrapped([]))
        if masks[-1] - masks[0] >= room:
            raise KotyaError(
                f"{place}: the {MARK} of {text[:60]!r} stand farther apart than the {room} pieces the model reads"
            )
        start = min(max(0, (masks[0] + masks[-1] + 1 - room) // 2), max(0, len(ids) - room))
        wrapped = np.array(self.vocabulary.wrapped(ids[start : start + room]), np.int32)
        self.cut += len(ids) > room
        return Encoded(wrapped, len(wrapped), max(0, len(ids) - room))

    @torch.inference_mode()
    def _filled(self, group: list[Encoded], top: int) -> list[list[list[Fill]]]:
        device, mask = next(self.model.parameters()).device, self.vocabulary.mask
        assert mask is not None
        found: list[list[list[Fill]]] = [[] for _ in group]
        for indices in full_batches([len(one) for one in group]):
            batch = pack([group[i] for i in indices]).to(device)
            places = torch.eq(batch.ids, mask).nonzero()[:, 0]
            shares = self.model.logits(read(self.model, batch)[places]).float().softmax(-1)
            shares[:, list(self.vocabulary.roles.values())] = 0.0
            ordinary = shares.shape[1] - len(set(self.vocabulary.roles.values()))
            likely, pieces = shares.topk(min(top, ordinary), dim=-1)
            rows = iter(zip(likely.tolist(), pieces.tolist(), strict=True))
            for i in indices:
                for _ in range(int(np.sum(group[i].ids == mask))):
                    some, ids = next(rows)
                    names = self.vocabulary.pieces(ids)
                    found[i].append([Fill(name, share) for name, share in zip(names, some, strict=True)])
        return found
