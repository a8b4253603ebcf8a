"""Classification of a text or a pair (Devlin et al. 2019, section 4.1): a linear layer on the vector of [CLS].

Classes: loss = -w_y log softmax(Wc)_y, a weighted mean over the batch. Numbers (regression): loss = (wᵀc - y)².
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import field_validator, model_validator
from torch import Tensor

from kotya.config import wrong
from kotya.metrics import correlations, label_scores
from kotya.models.heads import SequenceModel
from kotya.tasks.encoder_recipe import FineTuning, TunedFolder, TuningRecipe, hold_out
from kotya.tasks.labels import Example, LabelledData, check_labels, class_weights, found_labels
from kotya.tasks.packed_batch import PackedBatch, by_length, pack, predict, read, shuffled
from kotya.tasks.settings import Known, Prepared
from kotya.tasks.task import Evaluation, Indices
from kotya.text.sequences import Encoded, encode, report_cut
from kotya.text.vocabularies import Vocabularies
from kotya.text.vocabulary import Vocabulary


class ClassificationTraining(FineTuning):
    """How a classifier is tuned."""

    class_weights: Literal["balanced"] | dict[str, float] | None = None
    """What an example of each class counts: as many as it is rare, or as given, 1 where nothing is."""

    @field_validator("class_weights", mode="before")
    @classmethod
    def _labels_are_text(cls, value: Any) -> Any:
        """YAML reads the labels 0 and 1 as numbers; yes and no as truth values, which say no more what stood there."""
        if isinstance(value, dict) and any(isinstance(label, bool) for label in value):
            raise ValueError("a label yes, no, on, off, true or false needs quotes: YAML reads a truth value")
        return {str(label): weight for label, weight in value.items()} if isinstance(value, dict) else value

    @field_validator("class_weights")
    @classmethod
    def _every_class_counts(cls, value: Any) -> Any:
        for label, weight in value.items() if isinstance(value, dict) else ():
            if not weight > 0:
                raise ValueError(f"{label}: {weight} should be greater than 0")
        return value


class ClassificationFolder(TunedFolder):
    """`config.json` of a classifier."""

    task: Literal["classification"] = "classification"
    labels: list[str]
    """Names of the classes in order; none where a number is predicted."""
    texts: Literal[1, 2] | None
    """2 where pairs are classified; None where an import does not say: either."""

    def build(self, vocabularies: Vocabularies) -> SequenceModel:
        return SequenceModel(self.model.build(len(vocabularies[0])), max(1, len(self.labels)))


class Classification:
    """The task, prepared."""

    lower_is_better = False
    rounds = 1

    def __init__(
        self,
        train: tuple[Sequence[Encoded], Sequence[float]],
        dev: tuple[Sequence[Encoded], Sequence[float]],
        examples: Sequence[Example],
        *,
        labels: Sequence[str],
        weights: Sequence[float] | None,
        training: FineTuning,
    ) -> None:
        """Sequences and their targets, numbers of classes or, without labels, what is to be predicted.

        `examples` are those of the dev set.
        """
        self.train, self.targets = train
        self.dev, self.gold = dev
        self.examples, self.labels = examples, labels
        self.size, self.seed = training.examples, training.seed
        self.class_weights = torch.tensor(weights) if weights is not None else None
        self.metric = "accuracy" if labels else "Pearson"

    def round(self, number: int) -> list[Indices]:
        return shuffled(len(self.train), self.size, (self.seed, number))

    def batch(self, indices: Indices, number: int) -> PackedBatch:
        ordered = indices[by_length([len(self.train[i]) for i in indices])]
        kind = torch.long if self.labels else torch.float
        targets = {"labels": torch.tensor([self.targets[i] for i in ordered], dtype=kind)}
        return pack([self.train[i] for i in ordered], targets)

    def weights(self, batch: PackedBatch) -> dict[str, float]:
        labels = batch.targets["labels"]
        if self.class_weights is None:
            return {"loss": float(len(labels))}
        return {"loss": float(self.class_weights[labels.cpu()].sum())}

    def losses(self, model: SequenceModel, batch: PackedBatch) -> dict[str, Float[Tensor, ""]]:
        outputs = read(model, batch).float()
        labels = batch.targets["labels"]
        if not self.labels:
            return {"loss": F.mse_loss(outputs[:, 0], labels, reduction="sum")}
        weight = self.class_weights.to(outputs.device) if self.class_weights is not None else None
        return {"loss": F.cross_entropy(outputs, labels, weight, reduction="sum")}

    @torch.inference_mode()
    def evaluate(self, model: SequenceModel, autocast: Callable[[], Any]) -> Evaluation:
        """Accuracy, macro F1 and Matthews' correlation of the dev set; of numbers, the two correlations."""
        outputs = predict(model, self.dev, autocast)
        if self.labels:
            found = outputs.argmax(-1).tolist()
            metrics, names = (
                label_scores(found, [int(one) for one in self.gold]),
                [self.labels[i] for i in found],
            )
        else:
            metrics, names = (
                correlations(outputs[:, 0].tolist(), self.gold),
                [f"{x:.2f}" for x in outputs[:, 0]],
            )
        shown = [len(self.dev) // 3, 2 * len(self.dev) // 3]
        return Evaluation(
            metrics, [(" | ".join(self.examples[i].texts), names[i], self.examples[i].label) for i in shown]
        )


class ClassificationRecipe(TuningRecipe):
    """All of a run that learns to classify."""

    task: Literal["classification"]
    data: LabelledData
    training: ClassificationTraining

    @model_validator(mode="after")
    def _numbers_have_no_classes(self) -> "ClassificationRecipe":
        if self.data.labels == "numbers" and self.training.class_weights is not None:
            given = self.training.class_weights
            raise wrong(("training", "class_weights"), "data.labels=numbers: there are no classes", given)
        return self

    def prepare(
        self, known: Known | None, cache: Path, say: Callable[[str], None], *, progress: bool = True
    ) -> Prepared:
        root = self.data_root()
        columns = self.data.columns_of(self.data.paths(root)[0])
        train = [one for path in self.data.paths(root) for one in self.data.read(path, columns)]
        labels = found_labels(train) if self.data.labels == "classes" else []
        weights = class_weights(self.training.class_weights, train, labels)
        if self.data.dev is not None:
            dev = self.data.read(root / self.data.dev, columns)
        else:
            kept, away = hold_out(len(train), "examples", self.data.paths(root)[0], say)
            train, dev = [train[i] for i in kept], [train[i] for i in away]
        vocabulary, model = self.origin(known, lambda: [text for one in train for text in one.texts])
        config = ClassificationFolder(
            model=model,
            max_length=self.training.max_length,
            labels=labels,
            texts=2 if len(train[0].texts) == 2 else 1,
        )
        sides = [self._encoded(one, config, vocabulary) for one in (train, dev)]
        cut = [report_cut(sequences, config.longest) for sequences, _ in sides]
        say(f"training data: {cut[0]}; dev: {cut[1]}")
        if labels:
            say(f"labels: {', '.join(labels)}")
        task = Classification(sides[0], sides[1], dev, labels=labels, weights=weights, training=self.training)
        return Prepared(task, config, (vocabulary, vocabulary))

    def measured_on(
        self, path: Path, known: Known, cache: Path, say: Callable[[str], None]
    ) -> Classification:
        config = known.config
        assert isinstance(config, ClassificationFolder)
        examples = self.data.read(path, self.data.columns_of(path, config.texts))
        encoded = self._encoded(examples, config, known.vocabularies[0])
        say(f"{path}: {report_cut(encoded[0], config.longest)}")
        return Classification(
            ([], []), encoded, examples, labels=config.labels, weights=None, training=self.training
        )

    def _encoded(
        self, examples: Sequence[Example], config: ClassificationFolder, vocabulary: Vocabulary
    ) -> tuple[list[Encoded], list[float]]:
        """Sequences and targets. Raises KotyaError naming the line of a label that training did not have."""
        if config.labels:
            check_labels(examples, config.labels)
        numbers = {label: number for number, label in enumerate(config.labels)}
        targets = [numbers[one.label] if numbers else float(one.label) for one in examples]
        return encode(vocabulary, [one.texts for one in examples], config.longest), targets
