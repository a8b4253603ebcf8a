"""What an encoder adds up for every piece of a text, where its heads look, and what its layers make of one word in
several sentences.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from kotya import folder
from kotya.attention.packed import Packing
from kotya.attention.recorder import record_attention
from kotya.errors import KotyaError
from kotya.models.bert import Bert
from kotya.tasks.packed_batch import pack
from kotya.text.sequences import Encoded, encode
from kotya.text.vocabulary import Vocabulary

Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class Inputs:
    """The parts of every piece's first vector; their sum goes through a norm into the first layer."""

    pieces: list[str]
    segments: list[int]
    """0 for the first text, 1 for the second."""
    parts: dict[str, Vectors]
    """By name (token, segment, position), [pieces, size]; a model that has no such part lacks it."""


class ContextReader:
    """An encoder with its vocabulary, whatever stands on it."""

    def __init__(self, path: Path) -> None:
        """Raises KotyaError where the folder is no model over an encoder."""
        loaded = folder.load(path)
        encoder = getattr(loaded.model, "encoder", None)
        if loaded.config.task == "encoder":
            encoder = loaded.model.get_submodule("encoder")
        if not isinstance(encoder, Bert):
            raise KotyaError(
                f"{path}: a model of the task {loaded.config.task}, where one over an encoder is needed"
            )
        self.encoder: Bert = encoder
        self.vocabulary: Vocabulary = loaded.vocabularies[0]

    @torch.inference_mode()
    def inputs(self, texts: Sequence[str]) -> Inputs:
        """Of a text or a pair. Raises KotyaError where it is longer than the model reads."""
        one = self._whole(texts)
        ids, segments = torch.from_numpy(one.ids).long(), torch.from_numpy(one.segments())
        table = self.encoder.embedding
        parts = {"token": table.tokens[ids]}
        if table.segments is not None:
            parts["segment"] = table.segments[segments.clamp(max=len(table.segments) - 1)]
        if table.positions is not None:
            parts["position"] = table.positions(torch.arange(len(ids)), len(ids) - 1)
        vectors = {name: part.float().numpy() for name, part in parts.items()}
        return Inputs(self.vocabulary.pieces(one.ids.tolist()), segments.tolist(), vectors)

    @torch.inference_mode()
    def attention(self, texts: Sequence[str]) -> tuple[list[str], list[Float[Tensor, "heads pieces pieces"]]]:
        """The pieces of a text or a pair, and each layer's weights. Raises KotyaError as `inputs` does."""
        batch = pack([self._whole(texts)])
        segments = batch.segments if self.encoder.config.segments else None
        with record_attention(self.encoder) as maps:
            self.encoder(batch.ids, batch.packing, segments)
        return self.vocabulary.pieces(batch.ids.tolist()), [calls[0][0].float() for calls in maps.values()]

    def _whole(self, texts: Sequence[str]) -> Encoded:
        (one,) = encode(self.vocabulary, [tuple(texts)], self.encoder.config.max_length)
        if one.cut:
            raise KotyaError(
                f"the text is longer than the {self.encoder.config.max_length} pieces that are read"
            )
        return one

    @torch.inference_mode()
    def word(self, word: str, sentences: Sequence[str]) -> NDArray[np.float32]:
        """What the embeddings and then each layer make of a word: [1 + layers, sentences, size], means of its pieces.

        Raises KotyaError naming a sentence that lacks the word, or is longer than the model reads.
        """
        places = [self._pieces(word, sentence) for sentence in sentences]
        encoded = encode(self.vocabulary, [(one,) for one in sentences], self.encoder.config.max_length)
        found = []
        for one, (first, last) in zip(encoded, places, strict=True):
            batch = pack([one])
            segments = batch.segments if self.encoder.config.segments else None
            layers = self.encoder.every_layer(batch.ids, Packing.of([len(one)]), segments)
            if last >= len(one) - 1:
                raise KotyaError(f"{word!r} stands behind what the model reads of a sentence")
            found.append(torch.stack([layer[first : last + 1].mean(0) for layer in layers]))
        return torch.stack(found, dim=1).float().numpy()

    def _pieces(self, word: str, sentence: str) -> tuple[int, int]:
        """The first and the last piece of a word's first place in a sentence, [CLS] counted."""
        alone = re.search(rf"(?<![^\W_]){re.escape(word)}(?![^\W_])", sentence, re.IGNORECASE)
        if alone is None:
            raise KotyaError(f"the word {word!r} does not stand in {sentence!r}")
        start, stop = alone.span()
        ((ids, spans),) = self.vocabulary.encode_spans([sentence])
        inside = [number for number, (one, other) in enumerate(spans) if one < stop and other > start]
        if all(ids[number] == self.vocabulary.unknown for number in inside):
            raise KotyaError(f"the vocabulary has no piece for {word!r}")
        return inside[0] + 1, inside[-1] + 1
