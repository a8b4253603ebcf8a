"""Language modelling from left to right: the next piece from those before it, over documents.

loss = -Σ_t log p(x_t | x_<t), perplexity = exp(nll a piece). A document is begin, its pieces, end; it is read in
blocks, each piece predicted once, from those before it in its block and the one before the block.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from pydantic import model_validator
from torch import Tensor

from kotya.attention.packed import Packing
from kotya.errors import KotyaError
from kotya.models.empty import build_empty
from kotya.models.lm import LanguageModel, LanguageModelConfig
from kotya.search.hypothesis import Roles
from kotya.tasks.packed_batch import by_length, full_batches
from kotya.tasks.pretraining import (
    Chosen,
    Pretraining,
    Rounds,
    TextData,
    check_length,
    open_corpora,
    open_documents,
)
from kotya.tasks.settings import FolderConfig, Known, Prepared, TaskRecipe
from kotya.tasks.task import Evaluation, Indices
from kotya.text.corpus import read_lines
from kotya.text.documents import Documents
from kotya.text.encoder_vocabulary import EncoderVocabularyConfig
from kotya.text.pairs import Example, blocks
from kotya.text.vocabularies import Vocabularies
from kotya.text.vocabulary import Vocabulary


@dataclass(frozen=True)
class BlockBatch:
    """Blocks side by side, shortest first."""

    inputs: Int[Tensor, " tokens"]
    outputs: Int[Tensor, " tokens"]
    packing: Packing

    @property
    def tokens(self) -> int:
        return len(self.outputs)

    def to(self, device: torch.device) -> "BlockBatch":
        inputs, outputs = (x.to(device, non_blocking=True) for x in (self.inputs, self.outputs))
        return replace(self, inputs=inputs, outputs=outputs, packing=Packing.of(self.packing.lengths, device))


class Blocks:
    """Documents, and how a block of one is read."""

    def __init__(self, documents: Documents, vocabulary: Vocabulary) -> None:
        self.documents, self.vocabulary = documents, vocabulary
        self.bounds = documents.sentences[documents.documents]

    def batch(self, examples: Sequence[Example]) -> BlockBatch:
        """Inputs and what comes after each."""
        rows = [self._row(one.first[0]) for one in examples]
        rows = [rows[i] for i in by_length([len(row) for row in rows])]
        packing = Packing.of([len(row) - 1 for row in rows])
        inputs, outputs = (
            np.concatenate([row[side] for row in rows]) for side in (slice(-1), slice(1, None))
        )
        return BlockBatch(torch.from_numpy(inputs), torch.from_numpy(outputs), packing)

    def _row(self, span: tuple[int, int]) -> np.ndarray[Any, np.dtype[np.int64]]:
        """What came before, the block, and the end where the document ends."""
        start, stop = span
        begins, ends = self._is_bound(start), self._is_bound(stop)
        read = self.documents.read(start if begins else start - 1, stop)
        before = [self.vocabulary.begin] if begins else []
        after = [self.vocabulary.end] if ends else []
        return np.concatenate([before, read, after]).astype(np.int64)

    def _is_bound(self, place: int) -> bool:
        """Whether a document begins or ends there."""
        return bool(self.bounds[np.searchsorted(self.bounds, place)] == place)


class LanguageModelling:
    """The task, prepared."""

    metric = "perplexity"
    lower_is_better = True

    def __init__(
        self,
        train: Chosen,
        dev: Chosen,
        vocabulary: Vocabulary,
        training: Pretraining,
    ) -> None:
        length = training.length - 1  # the end behind the last block counts too
        self.blocks, self.dev = Blocks(train[0], vocabulary), Blocks(dev[0], vocabulary)
        self.drawn = Rounds(
            *train,
            lambda numbers, key: (one for number in numbers for one in blocks(train[0], number, length, key)),
            lambda one: one.pieces + 1,
            training,
        )
        self.dev_examples = [one for number in dev[1] for one in blocks(dev[0], number, length, None)]
        self.rounds = self.drawn.count

    def round(self, number: int) -> list[Indices]:
        return self.drawn.batches(number)

    def batch(self, indices: Indices, number: int) -> BlockBatch:
        examples = self.drawn.examples(number)
        return self.blocks.batch([examples[i] for i in indices])

    def weights(self, batch: BlockBatch) -> dict[str, float]:
        return dict.fromkeys(("cross_entropy", "nll"), float(batch.tokens))

    def losses(self, model: LanguageModel, batch: BlockBatch) -> dict[str, Float[Tensor, ""]]:
        loss, nll = model.loss(model(batch.inputs, batch.packing), batch.outputs)
        return {"cross_entropy": loss, "nll": nll}

    @torch.inference_mode()
    def evaluate(self, model: LanguageModel, autocast: Callable[[], Any]) -> Evaluation:
        """Of the dev set: the negative log-likelihood of a piece, ends counted, and the perplexity."""
        device = next(model.parameters()).device
        total = count = 0.0
        for indices in full_batches([one.pieces + 1 for one in self.dev_examples]):
            batch = self.dev.batch([self.dev_examples[i] for i in indices]).to(device)
            with autocast():
                total += float(self.losses(model, batch)["nll"])
            count += batch.tokens
        nll = total / count
        return Evaluation({"perplexity": math.exp(min(nll, 700.0)), "nll": nll}, [])


class LanguageModelFolder(FolderConfig):
    """`config.json` of a language model."""

    task: Literal["language_model"] = "language_model"
    model: LanguageModelConfig

    def build(self, vocabularies: Vocabularies) -> LanguageModel:
        return self.model.build(len(vocabularies[0]))


def roles_of(vocabulary: Vocabulary) -> Roles:
    """What search must know: no text holds padding, begin, the unknown piece or the mask."""
    banned = {number for name, number in vocabulary.roles.items() if name != "end"}
    return Roles(vocabulary.begin, vocabulary.end, tuple(sorted(banned - {vocabulary.end})))


class LanguageModelRecipe(TaskRecipe):
    """All of a run that learns to go on with a text."""

    task: Literal["language_model"]
    data: TextData
    vocabulary: EncoderVocabularyConfig | None = None
    model: LanguageModelConfig | None = None
    training: Pretraining

    @model_validator(mode="before")
    @classmethod
    def _vocabulary_by_default(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("base") is None:
            chosen = given.get("vocabulary") or {}
            if isinstance(chosen, dict) and chosen.get("file") is None:
                chosen = {"kind": "bpe", **chosen}
            return {**given, "vocabulary": chosen}
        return given

    def check(self) -> None:
        model = self.model
        if model is not None:
            build_empty(lambda: model.build(8))

    def prepare(
        self, known: Known | None, cache: Path, say: Callable[[str], None], *, progress: bool = True
    ) -> Prepared:
        root = self.data_root()
        files = self.data.paths(root)
        if known is not None:
            if not isinstance(known.config, LanguageModelFolder):
                raise KotyaError(
                    f"{self.base}: a model of the task {known.config.task}, not a language model"
                )
            vocabulary, model = known.vocabularies[0], known.config.model
        else:
            assert self.vocabulary is not None
            assert self.model is not None
            vocabulary = self.vocabulary.make(lambda: chain.from_iterable(map(read_lines, files)), root)
            model = self.model
        check_length(self.training.length, model.max_length)
        dev_file = root / self.data.dev if self.data.dev is not None else None
        train, dev = open_corpora(files, dev_file, vocabulary, cache, say, progress=progress)
        task = LanguageModelling(train, dev, vocabulary, self.training)
        return Prepared(task, LanguageModelFolder(model=model), (vocabulary, vocabulary))

    def measured_on(
        self, path: Path, known: Known, cache: Path, say: Callable[[str], None]
    ) -> LanguageModelling:
        vocabulary = known.vocabularies[0]
        dev = open_documents([path], vocabulary, cache, say)
        return LanguageModelling(dev, dev, vocabulary, self.training)
