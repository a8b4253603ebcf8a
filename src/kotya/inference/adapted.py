"""One base with several adapters: what `kotya.load(base, adapters=[…])` returns.

Requests for different adapters share a batch where they can: the products with the base's weights are one for all
rows, and each adapter changes its own. That is so for models of whole texts over one encoder (classification,
relevance). Others are grouped by adapter.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
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
from kotya.errors import KotyaError
from kotya.inference.arriving import arriving
from kotya.inference.classifier import GROUP, Classifier
from kotya.inference.generator import Generator
from kotya.inference.mask_filler import MaskFiller
from kotya.inference.ranker import Ranker
from kotya.inference.tagger import Tagger
from kotya.inference.translator import Translator
from kotya.models.empty import build_empty
from kotya.models.heads import SequenceModel
from kotya.tasks.classification import ClassificationFolder
from kotya.tasks.packed_batch import full_batches, pack
from kotya.tasks.relevance import RelevanceFolder
from kotya.tasks.settings import FolderConfig
from kotya.text.sequences import Encoded, windows
from kotya.text.vocabulary import Vocabulary

Model = Translator | Generator | Classifier | Ranker | Tagger | MaskFiller


class Adapters(Mapping[str, Model]):
    """Models by the names of their adapters' folders. `answer` takes requests for any of them."""

    def __init__(self, models: Mapping[str, Model], shared: "SharedEncoder | None" = None) -> None:
        self._models, self._shared = models, shared

    def __getitem__(self, name: str) -> Model:
        if name not in self._models:
            raise KotyaError(f"there is no adapter {name!r} here; there are {', '.join(self._models)}")
        return self._models[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._models)

    def __len__(self) -> int:
        return len(self._models)

    def answer(self, requests: Iterable[tuple[str, Any]]) -> Iterator[Any]:
        """What each request's model says of its text (or pair of texts), in their order, as they come.

        A translation, a prediction, a score, entities, fills: what the model gives for one text. Raises KotyaError for
        an adapter that is not here, or a text that its model does not read.
        """
        for group in arriving(requests, GROUP):
            for name, _ in group:
                self[name]
            answers: dict[int, Any] = {}
            if self._shared is not None:
                answers = dict(enumerate(self._shared.answer(group)))
            else:
                for name in dict.fromkeys(name for name, _ in group):
                    places = [place for place, (one, _) in enumerate(group) if one == name]
                    texts = [group[place][1] for place in places]
                    answers |= dict(zip(places, _answers(self[name], texts), strict=True))
            yield from (answers[place] for place in range(len(group)))


def _answers(model: Model, texts: Sequence[Any]) -> Iterable[Any]:
    match model:
        case Translator():
            return model.translate(texts)
        case Generator():
            return [found[0].text for found in model.continuations(texts)]
        case Ranker():
            return model.score(texts)
        case _:
            return model.predict(texts)


class OfOne(SequenceModel):
    """A model over the shared encoder, all rows of whose batches are those of its adapter."""

    def __init__(self, model: SequenceModel, slot: str) -> None:
        nn.Module.__init__(self)
        self.encoder, self.dropout, self.head, self.slot = model.encoder, model.dropout, model.head, slot

    def forward(
        self, ids: Int[Tensor, " tokens"], packing: Packing, segments: Int[Tensor, " tokens"] | None = None
    ) -> Float[Tensor, "sequences outputs"]:
        with routed(self.slot):
            return super().forward(ids, packing, segments)


class SharedEncoder:
    """Classifiers and rankers over one encoder, each with its adapter in it and a head of its own."""

    def __init__(
        self, models: Mapping[str, SequenceModel], configs: Mapping[str, FolderConfig], vocabulary: Vocabulary
    ) -> None:
        self.models = models
        self.slots = slots(models)
        self.predictors: dict[str, Classifier | Ranker] = {}
        for name, model in models.items():
            config, one = configs[name], OfOne(model, self.slots[name])
            if isinstance(config, ClassificationFolder):
                self.predictors[name] = Classifier(one, vocabulary, config)
            else:
                assert isinstance(config, RelevanceFolder)
                self.predictors[name] = Ranker(one, vocabulary, config)
        self.encoder = next(iter(models.values())).encoder

    @torch.inference_mode()
    def answer(self, requests: Sequence[tuple[str, Any]]) -> list[Any]:
        """In their order; batches are full, whosesoever their rows."""
        rows: list[Encoded] = []
        for name, texts in requests:
            predictor = self.predictors[name]
            sides = predictor.checked(texts)
            [[row]] = windows(predictor.vocabulary, [sides], predictor.config.longest, None)
            predictor.cut += row.cut > 0
            rows.append(row)
        answers: dict[int, Any] = {}
        for indices in full_batches([len(row) for row in rows]):
            names = [requests[i][0] for i in indices]
            for place, outputs in zip(indices, self._outputs([rows[i] for i in indices], names), strict=True):
                answers[int(place)] = self.predictors[requests[place][0]].prediction(outputs[None])
        return [answers[place] for place in range(len(rows))]

    def _outputs(self, rows: list[Encoded], names: list[str]) -> list[Float[Tensor, " outputs"]]:
        """What each row's head says."""
        encoder = self.encoder
        device = encoder.embedding.tokens.device
        batch = pack(rows).to(device)
        segments = batch.segments if encoder.config.segments > 1 else None
        lengths = np.array([len(row) for row in rows])
        texts, tokens = np.array(names), np.repeat(names, lengths)
        chosen = {
            name: (torch.from_numpy(np.flatnonzero(texts == name)).to(device), tokens == name)
            for name in dict.fromkeys(names)
        }
        by_text = {self.slots[name]: some for name, (some, _) in chosen.items()}
        by_token = {
            self.slots[name]: torch.from_numpy(np.flatnonzero(mask)).to(device)
            for name, (_, mask) in chosen.items()
        }
        with routed(Route({len(rows): by_text, len(tokens): by_token})):
            pooled = encoder.read(batch.ids, batch.packing, segments)
        found: dict[int, Tensor] = {}
        for name, (some, _) in chosen.items():
            outputs = self.models[name].answer(pooled.index_select(0, some)).float().cpu()
            found |= dict(zip(some.tolist(), outputs, strict=True))
        return [found[place] for place in range(len(rows))]


def slots(names: Iterable[str]) -> dict[str, str]:
    """What adapters are called inside the encoder: a folder's own name may be none that a module can have."""
    return {name: f"adapter{number}" for number, name in enumerate(names)}


def share_encoder(
    base: Path, paths: Mapping[str, Path], device: str, dtype: torch.dtype
) -> SharedEncoder | None:
    """Adapters of one encoder in it side by side; None where they are of models that cannot share a batch.

    Raises KotyaError where a folder is no adapter of this base.
    """
    configs = {name: folders.read_config(path) for name, path in paths.items()}
    sequence = all(isinstance(one, ClassificationFolder | RelevanceFolder) for one in configs.values())
    held = {one.adapter.adapt.held for one in configs.values() if one.adapter is not None}
    if not sequence or len({one.model.model_dump_json() for one in configs.values()}) != 1 or len(held) != 1:
        return None
    place, vocabularies = folders.find_device(device), folders.read_vocabularies(base)
    models, called = dict[str, SequenceModel](), slots(configs)
    encoder: nn.Module | None = None
    for name, config in configs.items():
        assert config.adapter is not None
        folders.base_of(paths[name], config.adapter, base)
        weights = paths[name] / folders.WEIGHTS
        tensors = folders.read_weights(weights)
        apart = [one for one in tensors if ".parts." not in one and not one.startswith("head.")]
        if apart:  # an embedding's, or a pooler that the base has not: not changed row by row
            return None
        built = build_empty(lambda config=config: config.build(vocabularies))  # type: ignore[misc]
        assert isinstance(built, SequenceModel)
        try:
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
