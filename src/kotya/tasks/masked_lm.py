"""Masked language modelling, with next-sentence prediction or without (Devlin et al. 2019; Liu et al. 2019).

    mlm = -Σ_masked log p(x_t | x̃),  nsp = -log p(follows | [CLS]),  loss = w₁ mlm / masked + w₂ nsp / pairs

With nsp: 0 the examples are full sentences, as RoBERTa's. The output layer runs on masked positions only.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from kotya.errors import KotyaError
from kotya.models.bert import BertConfig, MaskedLM
from kotya.tasks.encoder_recipe import EncoderRecipe
from kotya.tasks.packed_batch import PackedBatch, by_length, full_batches, pack, read
from kotya.tasks.pretraining import (
    Chosen,
    Pretraining,
    Rounds,
    TextData,
    check_length,
    open_corpora,
    open_documents,
)
from kotya.tasks.settings import FolderConfig, Known, Prepared
from kotya.tasks.task import Evaluation, Indices
from kotya.text.corpus import read_lines
from kotya.text.documents import Documents
from kotya.text.masking import Masking, MaskingConfig
from kotya.text.pairs import Example, full_sentences, pairs
from kotya.text.sequences import Encoded
from kotya.text.vocabularies import Vocabularies
from kotya.text.vocabulary import Vocabulary

_SPAN = 1 << 16
_DEV = (0, 0)  # the key of the dev set's pairs and masks: always the same


class MaskedLMTraining(Pretraining):
    """How an encoder is pretrained."""

    mlm: float = Field(1.0, gt=0)
    """Weight of predicting what is masked."""
    nsp: float = Field(1.0, ge=0)
    """Weight of next-sentence prediction; 0 for none, and full sentences."""
    masking: MaskingConfig = MaskingConfig()


class MaskedLMFolder(FolderConfig):
    """`config.json` of a pretrained encoder."""

    task: Literal["masked_lm"] = "masked_lm"
    model: BertConfig
    next_sentence: bool
    """Whether it also says which sentence follows."""

    def build(self, vocabularies: Vocabularies) -> MaskedLM:
        encoder = self.model.build(len(vocabularies[0]), pooler=self.next_sentence)
        return MaskedLM(encoder, next_sentence=self.next_sentence)


class Sequences:
    """Examples as an encoder reads them."""

    def __init__(self, documents: Documents, vocabulary: Vocabulary) -> None:
        self.documents, self.vocabulary = documents, vocabulary

    def read(self, example: Example) -> Encoded:
        """[CLS] A [SEP] B [SEP]; between the spans of A an end too."""
        end = self.vocabulary.end
        first: list[int] = []
        for number, span in enumerate(example.first):
            first += ([end] if number else []) + self.documents.read(*span).tolist()
        if example.second is None:
            ids = self.vocabulary.wrapped(first)
            return Encoded(np.array(ids, np.int32), len(ids))
        second = self.documents.read(*example.second).tolist()
        ids = self.vocabulary.wrapped(first, second)
        return Encoded(np.array(ids, np.int32), len(ids) - len(second) - 1)


class MaskedLanguageModel:
    """The task, prepared."""

    metric = "accuracy"
    lower_is_better = False

    def __init__(
        self,
        train: Chosen,
        dev: Chosen,
        vocabulary: Vocabulary,
        training: MaskedLMTraining,
    ) -> None:
        self.training, self.vocabulary = training, vocabulary
        self.masking = Masking(training.masking, vocabulary)
        self.sequences = Sequences(train[0], vocabulary)
        self.dev = Sequences(dev[0], vocabulary)
        self.drawn = Rounds(*train, lambda numbers, key: self._cut(train, numbers, key), self._size, training)
        self.dev_examples = list(self._cut(dev, dev[1], _DEV))
        self.rounds = self.drawn.count

    def _cut(self, chosen: Chosen, numbers: list[int], key: tuple[int, int]) -> Iterator[Example]:
        documents, length = chosen[0], self.training.length
        if not self.training.nsp:
            yield from full_sentences(documents, numbers, length - 2)
            return
        among = np.array(chosen[1])
        for number in numbers:
            yield from pairs(documents, number, among, length - 2 - self.vocabulary.separators, key)

    def _size(self, one: Example) -> int:
        """Its pieces, one in front, an end behind each span, and what stands between two texts."""
        ends = len(one.first) + (self.vocabulary.separators if one.second is not None else 0)
        return 1 + one.pieces + ends

    def round(self, number: int) -> list[Indices]:
        return self.drawn.batches(number)

    def batch(self, indices: Indices, number: int) -> PackedBatch:
        examples = self.drawn.examples(number)
        keys = [(self.training.seed, number, int(index)) for index in indices]
        return self._masked(self.sequences, [examples[i] for i in indices], keys)

    def _masked(
        self, sequences: Sequences, examples: Sequence[Example], keys: Sequence[tuple[int, int, int]]
    ) -> PackedBatch:
        read = [sequences.read(one) for one in examples]
        order = by_length([len(one) for one in read])
        hidden = [self.masking.hide(read[i].ids.astype(np.int64), keys[i]) for i in order]
        starts = np.cumsum([0, *(len(read[i]) for i in order[:-1])])
        places = np.concatenate([start + one.places for start, one in zip(starts, hidden, strict=True)])
        follows = [
            int(not examples[i].follows) for i in order
        ]  # 0 follows, 1 is random, as in BERT's own weights
        targets = {
            "places": torch.from_numpy(places),
            "pieces": torch.from_numpy(np.concatenate([one.targets for one in hidden])),
            "follows": torch.tensor(follows),
        }
        rows = [
            Encoded(one.ids.astype(np.int32), read[i].second) for i, one in zip(order, hidden, strict=True)
        ]
        return pack(rows, targets)

    def weights(self, batch: PackedBatch) -> dict[str, float]:
        masked, pairs_of = float(max(1, len(batch.targets["pieces"]))), float(len(batch.targets["follows"]))
        return {"mlm": masked, "mlm_nll": masked, "nsp": pairs_of, "nsp_nll": pairs_of}

    def losses(self, model: MaskedLM, batch: PackedBatch) -> dict[str, Float[Tensor, ""]]:
        hidden = read(model, batch)
        chosen = hidden.index_select(0, batch.targets["places"])
        loss, nll = model.masked_loss(chosen, batch.targets["pieces"])
        terms = {"mlm": self.training.mlm * loss, "mlm_nll": nll}
        if self.training.nsp:
            logits = model.next_sentence_logits(hidden, batch.packing).float()
            nsp = F.cross_entropy(logits, batch.targets["follows"], reduction="sum")
            terms |= {"nsp": self.training.nsp * nsp, "nsp_nll": nsp.detach()}
        return terms

    @torch.inference_mode()
    def evaluate(self, model: MaskedLM, autocast: Callable[[], Any]) -> Evaluation:
        """Of the dev set, masked always alike: how many masked pieces are right, their nll, and of pairs how many."""
        device = next(model.parameters()).device
        sums = dict.fromkeys(("right", "masked", "nll", "pairs", "pairs right"), 0.0)
        for indices in full_batches([one.pieces + 3 for one in self.dev_examples]):
            keys = [(*_DEV, int(i)) for i in indices]
            batch = self._masked(self.dev, [self.dev_examples[i] for i in indices], keys).to(device)
            with autocast():
                hidden = read(model, batch)
                log_p = model.logits(hidden.index_select(0, batch.targets["places"])).float().log_softmax(-1)
                if self.training.nsp:
                    answers = model.next_sentence_logits(hidden, batch.packing).argmax(-1)
                    sums["pairs right"] += float((answers == batch.targets["follows"]).sum())
            pieces = batch.targets["pieces"]
            sums["right"] += float((log_p.argmax(-1) == pieces).sum())
            sums["nll"] -= float(log_p.gather(1, pieces[:, None]).sum())
            sums["masked"] += len(pieces)
            sums["pairs"] += len(batch.targets["follows"])
        metrics = {"accuracy": 100 * sums["right"] / sums["masked"], "nll": sums["nll"] / sums["masked"]}
        if self.training.nsp:
            metrics["nsp accuracy"] = 100 * sums["pairs right"] / sums["pairs"]
        return Evaluation(metrics, [])


def _check_pieces(path: Path, documents: Documents, vocabulary: Vocabulary) -> None:
    """Raises KotyaError where there is nothing to mask."""
    special = list(vocabulary.roles.values())
    for start in range(0, documents.pieces, _SPAN):  # as a rule the first says it
        if not np.isin(documents.read(start, start + _SPAN), special).all():
            return
    raise KotyaError(f"{path}: the vocabulary knows no piece of it, so there is nothing to mask")


def _check_documents(path: Path, chosen: Chosen, say: Callable[[str], None]) -> None:
    """Raises KotyaError where there is nothing for next-sentence prediction to tell apart."""
    documents, numbers = chosen
    if len(numbers) == 1:
        raise KotyaError(
            f"{path}: one document, where next-sentence prediction takes every other B from another; end documents "
            "with blank lines, or leave it out: training.nsp=0"
        )
    single = int((np.diff(documents.documents)[np.asarray(numbers)] < 2).sum())
    if single == len(numbers):
        raise KotyaError(
            f"{path}: every document is a single sentence, which nothing follows; blank lines stand between documents "
            "and not between sentences; or leave next-sentence prediction out: training.nsp=0"
        )
    if 2 * single > len(numbers):
        say(f"{path}: {single:,} of {len(numbers):,} documents are single sentences: nothing follows theirs")


class MaskedLMRecipe(EncoderRecipe):
    """All of a run that pretrains an encoder."""

    task: Literal["masked_lm"]
    data: TextData
    training: MaskedLMTraining

    def prepare(
        self, known: Known | None, cache: Path, say: Callable[[str], None], *, progress: bool = True
    ) -> Prepared:
        root, files = self.data_root(), self.data.paths(self.data_root())
        vocabulary, model = self.origin(known, lambda: chain.from_iterable(map(read_lines, files)))
        check_length(self.training.length, model.max_length)
        dev_file = root / self.data.dev if self.data.dev is not None else None
        least = 2 if self.training.nsp else 1  # B from elsewhere is from another document
        train, dev = open_corpora(files, dev_file, vocabulary, cache, say, progress=progress, least=least)
        for path, chosen in ((files[0], train), (dev_file or files[0], dev)):
            _check_pieces(path, chosen[0], vocabulary)
            if self.training.nsp:
                _check_documents(path, chosen, say)
        task = MaskedLanguageModel(train, dev, vocabulary, self.training)
        config = MaskedLMFolder(model=model, next_sentence=self.training.nsp > 0)
        return Prepared(task, config, (vocabulary, vocabulary))

    def measured_on(
        self, path: Path, known: Known, cache: Path, say: Callable[[str], None]
    ) -> MaskedLanguageModel:
        vocabulary = known.vocabularies[0]
        dev = open_documents([path], vocabulary, cache, say)
        _check_pieces(path, dev[0], vocabulary)
        if self.training.nsp:
            _check_documents(path, dev, say)
        return MaskedLanguageModel(dev, dev, vocabulary, self.training)
