"""One base with several adapters: what `kotya.load(base, adapters=[…])` returns.

Requests for different adapters share a batch where they can, which is over one encoder (see shared_encoder.py). Others
are grouped by adapter.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from kotya.errors import KotyaError
from kotya.inference.arriving import arriving
from kotya.inference.classifier import GROUP, Classifier
from kotya.inference.generator import Generator
from kotya.inference.mask_filler import MaskFiller
from kotya.inference.ranker import Ranker
from kotya.inference.shared_encoder import SharedEncoder
from kotya.inference.tagger import Tagger
from kotya.inference.translator import Translator

Model = Translator | Generator | Classifier | Ranker | Tagger | MaskFiller


class Adapters(Mapping[str, Model]):
    """Models by the names of their adapters' folders. `answer` takes requests for any of them."""

    def __init__(self, models: Mapping[str, Model], shared: SharedEncoder | None = None) -> None:
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
