"""What `kotya.load` returns for a classifier: labels with probabilities, or numbers, for texts and pairs."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from kotya.errors import KotyaError
from kotya.inference.arriving import arriving
from kotya.models.heads import SequenceModel
from kotya.tasks.classification import ClassificationFolder
from kotya.tasks.packed_batch import predict_windows
from kotya.text.sequences import windows
from kotya.text.vocabulary import Vocabulary

GROUP = 1024
"""Texts sorted into batches at a time."""

Texts = str | tuple[str, ...]
"""One text, or the two of a pair."""


@dataclass(frozen=True)
class Prediction:
    """What is said of a text or a pair."""

    label: str | None
    """The likeliest; None where a number is predicted."""
    probabilities: dict[str, float]
    number: float | None = None


class Classifier:
    """A model with its vocabulary."""

    def __init__(self, model: SequenceModel, vocabulary: Vocabulary, config: ClassificationFolder) -> None:
        self.model, self.vocabulary, self.config = model, vocabulary, config
        self.cut = 0
        """Texts so far that were longer than the model reads, and of which only the beginning was read."""

    def classify(self, texts: Texts, *, stride: int | None = None) -> Prediction:
        """One text, or a pair."""
        return next(self.predict([texts], stride=stride))

    def predict(self, texts: Iterable[Texts], *, stride: int | None = None) -> Iterator[Prediction]:
        """Many, in their order, as they come.

        With `stride` a text that is too long is read in windows that begin so many pieces apart, and the mean of their
        answers counts. Raises KotyaError for a text where the model needs a pair, or the other way round.
        """
        for group in arriving(map(self.checked, texts), GROUP):
            rows = windows(self.vocabulary, group, self.config.longest, stride)
            self.cut += sum(any(one.cut for one in row) for row in rows)
            for outputs in predict_windows(self.model, rows):
                yield self.prediction(outputs)

    def checked(self, texts: Texts) -> tuple[str, ...]:
        """The one or two sides of what is to be read. Raises KotyaError where the model reads the other."""
        sides = (texts,) if isinstance(texts, str) else texts
        expected = (self.config.texts,) if self.config.texts else (1, 2)
        if len(sides) not in expected:
            wanted = {(1,): "single texts", (2,): "pairs of texts", (1, 2): "texts or pairs of them"}[
                expected
            ]
            raise KotyaError(
                f"this model reads {wanted}, not {len(sides)} at once: {' | '.join(sides)[:60]!r}"
            )
        return sides

    def prediction(self, outputs: Float[Tensor, "windows outputs"]) -> Prediction:
        """What the model's outputs for the windows of a text mean."""
        if not self.config.labels:
            return Prediction(None, {}, float(outputs.mean(0)[0]))
        shares = outputs.softmax(-1).mean(0).tolist()
        found = dict(zip(self.config.labels, shares, strict=True))
        return Prediction(max(found, key=found.__getitem__), found)
