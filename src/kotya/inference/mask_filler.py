"""What `kotya.load` returns for a pretrained encoder: what may stand behind each [MASK] of a text."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

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

    def fill(self, text: str, *, top: int = 5) -> list[list[Fill]]:
        """For each [MASK] of a text the likeliest pieces."""
        return next(self.predict([text], top=top))

    def predict(self, texts: Iterable[str], *, top: int = 5) -> Iterator[list[list[Fill]]]:
        """For each text and each [MASK] in it the `top` likeliest pieces, in their order, as they come.

        Raises KotyaError for a text without [MASK], or longer than the model reads.
        """
        for group in arriving(map(self._encoded, texts), GROUP):
            yield from self._filled(group, top)

    def _encoded(self, text: str) -> Encoded:
        *before, last = text.split(MARK)
        if not before:
            raise KotyaError(f"there is no {MARK} in {text[:60]!r}: nothing to fill")
        # where spaces are part of pieces, the one before a word is part of what stands behind the mask
        parts = [*(part.rstrip() for part in before), last]
        assert self.vocabulary.mask is not None
        ids: list[int] = []
        for number, part in enumerate(self.vocabulary.encode_batch(parts)):
            ids += ([self.vocabulary.mask] if number else []) + part
        wrapped = self.vocabulary.wrapped(ids)
        longest = self.config.model.max_length
        if len(wrapped) > longest:
            raise KotyaError(
                f"{len(wrapped)} pieces are more than the {longest} that the model reads: {text[:60]!r}"
            )
        return Encoded(np.array(wrapped, np.int32), len(wrapped))

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
            likely, pieces = shares.topk(min(top, shares.shape[1]), dim=-1)
            rows = iter(zip(likely.tolist(), pieces.tolist(), strict=True))
            for i in indices:
                for _ in range(int(np.sum(group[i].ids == mask))):
                    some, ids = next(rows)
                    names = self.vocabulary.pieces(ids)
                    found[i].append([Fill(name, share) for name, share in zip(names, some, strict=True)])
        return found
