"""One encoder with several adapters in it, whose requests share batches.

The products with the encoder's own weights are one for all rows, and each adapter changes those of its own; every task
has a head. That is so for classification, relevance and tagging.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from kotya import folder as folders
from kotya.adapt.attach import SamePlace
from kotya.adapt.place import Route, routed
from kotya.attention.packed import Packing
from kotya.inference.classifier import Classifier
from kotya.inference.ranker import Ranker
from kotya.inference.tagger import FoundEntity, Tagger, found_entities, word_spans
from kotya.models.bert import Bert
from kotya.models.empty import build_empty
from kotya.models.heads import SequenceModel, TokenModel
from kotya.tasks.classification import ClassificationFolder
from kotya.tasks.encoder_recipe import TunedFolder
from kotya.tasks.packed_batch import PackedBatch, finite, full_batches, pack
from kotya.tasks.relevance import RelevanceFolder
from kotya.tasks.settings import FolderConfig
from kotya.tasks.tagging import TaggingFolder, likeliest, untagged, write
from kotya.text.sequences import Encoded, windows
from kotya.text.vocabulary import Vocabulary

Headed = SequenceModel | TokenModel
Asked = tuple[Sequence[Encoded], Callable[[list[Tensor]], Any]]
"""The sequences of a request, and what is said when the head's outputs for each of them are there."""


class TextsOfOne(SequenceModel):
    """A model over the shared encoder, all rows of whose batches are those of its adapter."""

    def __init__(self, model: SequenceModel, slot: str) -> None:
        nn.Module.__init__(self)
        self.encoder, self.dropout, self.head, self.slot = model.encoder, model.dropout, model.head, slot

    def forward(
        self, ids: Int[Tensor, " tokens"], packing: Packing, segments: Int[Tensor, " tokens"] | None = None
    ) -> Float[Tensor, "sequences outputs"]:
        with routed(self.slot):
            return super().forward(ids, packing, segments)


class TokensOfOne(TokenModel):
    """The same of a tagger."""

    def __init__(self, model: TokenModel, slot: str) -> None:
        nn.Module.__init__(self)
        self.encoder, self.transform, self.slot = model.encoder, model.transform, slot
        self.dropout, self.head = model.dropout, model.head

    def forward(
        self, ids: Int[Tensor, " tokens"], packing: Packing, segments: Int[Tensor, " tokens"] | None = None
    ) -> Float[Tensor, "tokens outputs"]:
        with routed(self.slot):
            return super().forward(ids, packing, segments)


class SharedEncoder:
    """Models over one encoder, each with its adapter in it and a head of its own."""

    def __init__(
        self, models: Mapping[str, Headed], configs: Mapping[str, FolderConfig], vocabulary: Vocabulary
    ) -> None:
        self.models, self.slots = models, slots(configs)
        self.predictors = {
            name: _predictor(models[name], self.slots[name], config, vocabulary)
            for name, config in configs.items()
        }
        self.encoder = next(iter(models.values())).encoder

    @torch.inference_mode()
    def answer(self, requests: Sequence[tuple[str, Any]]) -> list[Any]:
        """In their order; batches are full, whosesoever their rows."""
        asked = [_asked(self.predictors[name], texts) for name, texts in requests]
        names = [name for (name, _), (rows, _) in zip(requests, asked, strict=True) for _ in rows]
        flat = [row for rows, _ in asked for row in rows]
        outputs = dict[int, Tensor]()
        for indices in full_batches([len(row) for row in flat]):
            some = self._outputs(pack([flat[i] for i in indices]), [names[i] for i in indices])
            outputs |= zip(indices.tolist(), some, strict=True)
        ordered = iter([outputs[place] for place in range(len(flat))])
        return [say(list(islice(ordered, len(rows)))) for rows, say in asked]

    def _outputs(self, batch: PackedBatch, names: list[str]) -> list[Float[Tensor, "rows outputs"]]:
        """What each sequence's head says: a row a text, or a row a token."""
        lengths = batch.packing.lengths
        batch = batch.to(self.encoder.embedding.tokens.device)
        of_texts, of_tokens = np.array(names), np.repeat(names, lengths)
        texts, tokens = (
            {name: torch.from_numpy(np.flatnonzero(one == name)).to(batch.ids.device) for name in set(names)}
            for one in (of_texts, of_tokens)
        )
        hidden, pooled = self._read(batch, texts, tokens)
        found = dict[int, Tensor]()
        for name, some in texts.items():
            model, places = self.models[name], some.tolist()
            with routed(self.slots[name]):
                if isinstance(model, TokenModel):
                    assert hidden is not None
                    answers = finite(model.answer(hidden[tokens[name]]))
                    outputs = answers.cpu().split([lengths[i] for i in places])
                else:
                    outputs = finite(model.answer(pooled[some])).cpu().split(1)
            found |= zip(places, outputs, strict=True)
        return [found[place] for place in range(len(names))]

    def _read(
        self, batch: PackedBatch, texts: Mapping[str, Tensor], tokens: Mapping[str, Tensor]
    ) -> tuple[Float[Tensor, "tokens size"] | None, Float[Tensor, "sequences size"]]:
        """The vectors of tokens where any tagger needs them, and of texts."""
        encoder = self.encoder
        segments = batch.segments if encoder.config.segments > 1 else None
        by_text, by_token = (
            {self.slots[name]: rows for name, rows in one.items()} for one in (texts, tokens)
        )
        with routed(Route({len(batch.packing.lengths): by_text, batch.tokens: by_token})):
            if not any(isinstance(self.models[name], TokenModel) for name in texts):
                return None, encoder.read(batch.ids, batch.packing, segments)
            hidden = encoder(batch.ids, batch.packing, segments)
            return hidden, encoder.pooled(hidden, batch.packing)


def slots(names: Iterable[str]) -> dict[str, str]:
    """What adapters are called inside the encoder: a folder's own name may be none that a module can have."""
    return {name: f"adapter{number}" for number, name in enumerate(names)}


def _predictor(
    model: Headed, slot: str, config: FolderConfig, vocabulary: Vocabulary
) -> Classifier | Ranker | Tagger:
    """For the texts of one adapter alone."""
    if isinstance(model, TokenModel):
        assert isinstance(config, TaggingFolder)
        return Tagger(TokensOfOne(model, slot), vocabulary, config)
    if isinstance(config, ClassificationFolder):
        return Classifier(TextsOfOne(model, slot), vocabulary, config)
    assert isinstance(config, RelevanceFolder)
    return Ranker(TextsOfOne(model, slot), vocabulary, config)


def _asked(predictor: Classifier | Ranker | Tagger, texts: Any) -> Asked:
    if not isinstance(predictor, Tagger):
        sides = predictor.checked(texts)
        [[row]] = windows(predictor.vocabulary, [sides], predictor.config.longest, None)
        predictor.cut += row.cut > 0
        return [row], lambda outputs: predictor.prediction(outputs[0])
    spans = word_spans(predictor.checked(texts))
    [some] = predictor.parts([[texts[start:stop] for start, stop in spans]])

    def said(outputs: list[Tensor]) -> list[FoundEntity]:
        tagged = untagged(len(spans))
        for part, logits in zip(some, outputs, strict=True):
            write(tagged, part, likeliest(logits[list(part.firsts)], predictor.config.labels))
        return found_entities(texts, spans, tagged)

    return [part.encoded for part in some], said


def share_encoder(
    base: Path, paths: Mapping[str, Path], device: str, dtype: torch.dtype
) -> SharedEncoder | None:
    """Adapters of one encoder in it side by side; None where they are of models that cannot share a batch.

    Raises KotyaError where a folder is no adapter of this base.
    """
    configs = {name: folders.read_config(path) for name, path in paths.items()}
    over_encoder = all(isinstance(one, TunedFolder) for one in configs.values())
    held = {one.adapter.adapt.held for one in configs.values() if one.adapter is not None}
    if (
        not over_encoder
        or len({one.model.model_dump_json() for one in configs.values()}) != 1
        or len(held) != 1
    ):
        return None
    place, vocabularies = folders.find_device(device), folders.read_vocabularies(base)
    models, called = dict[str, Headed](), slots(configs)
    encoder: Bert | None = None
    # taggers last: their encoders have no pooler
    for name in sorted(configs, key=lambda name: isinstance(configs[name], TaggingFolder)):
        config = configs[name]
        assert config.adapter is not None
        folders.base_of(paths[name], config.adapter, base)
        weights = paths[name] / folders.WEIGHTS
        tensors = folders.read_weights(weights)
        if any(".parts." not in one and one.startswith("encoder.") for one in tensors):
            return None  # a whole embedding, or a pooler that the base has not: not changed row by row
        built = build_empty(lambda config=config: config.build(vocabularies))  # type: ignore[misc]
        assert isinstance(built, Headed)
        try:
            with _without_pooler(encoder if isinstance(built, TokenModel) else None):
                folders.adapt(
                    built, config.adapter.adapt, tensors, base, weights, name=called[name], encoder=encoder
                )
        except SamePlace:  # no row takes both, but in one encoder both would have to stand
            return None
        encoder = built.encoder
        models[name] = built
    for built in models.values():
        built.to(place, dtype).eval().requires_grad_(False)
    return SharedEncoder(models, configs, vocabularies[0])


@contextmanager
def _without_pooler(encoder: Bert | None) -> Iterator[None]:
    """An encoder that is without its pooler for a while, so that a tagger's adapter finds no place there."""
    pooler = encoder.pooler if encoder is not None else None
    if encoder is not None:
        encoder.pooler = None
    try:
        yield
    finally:
        if encoder is not None:
            encoder.pooler = pooler
