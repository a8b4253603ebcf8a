"""Relevance of documents to a query by a cross-encoder (Nogueira and Cho 2019): a number read from [CLS] of the pair.

pointwise: loss = -y log σ(s) - (1-y) log(1-σ(s))
pairwise:  loss = -log σ(s₊ - s₋), of a relevant and another document of one query (RankNet, Burges et al. 2005)
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from kotya.errors import KotyaError
from kotya.metrics import ranking_scores
from kotya.models.heads import SequenceModel
from kotya.tasks.encoder_recipe import FineTuning, TunedFolder, TuningRecipe, hold_out
from kotya.tasks.packed_batch import PackedBatch, by_length, pack, predict, read, shuffled
from kotya.tasks.rankings import Judgement, RelevanceData, by_query, check_judged
from kotya.tasks.settings import Known, Prepared
from kotya.tasks.task import Evaluation, Indices
from kotya.text.sequences import Encoded, encode, report_cut
from kotya.text.vocabularies import Vocabularies
from kotya.text.vocabulary import Vocabulary


class RelevanceTraining(FineTuning):
    """How a ranker is tuned."""

    loss: Literal["pointwise", "pairwise"] = "pointwise"
    """Each document by itself, or each relevant one against another of its query; then an example is such a pair."""


class RelevanceFolder(TunedFolder):
    """`config.json` of a ranker."""

    task: Literal["relevance"] = "relevance"

    def build(self, vocabularies: Vocabularies) -> SequenceModel:
        return SequenceModel(self.model.build(len(vocabularies[0])), 1)


class Relevance:
    """The task, prepared."""

    metric = "MAP"
    lower_is_better = False
    rounds = 1

    def __init__(
        self,
        train: tuple[Sequence[Judgement], Sequence[Encoded]],
        dev: tuple[Sequence[Judgement], Sequence[Encoded]],
        *,
        training: RelevanceTraining,
    ) -> None:
        self.judgements, self.train = train
        self.dev_judgements, self.dev = dev
        self.pairwise = training.loss == "pairwise"
        self.size, self.seed = training.examples, training.seed
        self.rivals: dict[int, list[int]] = {}
        """Of every relevant example those of its query that are not."""
        if self.pairwise:
            for rows in by_query(self.judgements).values():
                others = [i for i in rows if self.judgements[i].label <= 0]
                if others:
                    self.rivals |= {i: others for i in rows if self.judgements[i].label > 0}
        self.examples = np.array(sorted(self.rivals) if self.pairwise else range(len(self.train)))

    def round(self, number: int) -> list[Indices]:
        return shuffled(self.examples, self.size, (self.seed, number))

    def batch(self, indices: Indices, number: int) -> PackedBatch:
        chosen = indices.tolist()
        if self.pairwise:
            chosen += [self._rival(index, number) for index in chosen]
        order = by_length([len(self.train[i]) for i in chosen])
        labels = torch.tensor([float(self.judgements[chosen[i]].label > 0) for i in order])
        places = torch.empty(len(order), dtype=torch.long)
        places[torch.from_numpy(order)] = torch.arange(len(order))
        return pack([self.train[chosen[i]] for i in order], {"labels": labels, "places": places})

    def _rival(self, index: int, number: int) -> int:
        others = self.rivals[index]
        return others[int(np.random.default_rng([self.seed, number, index]).integers(len(others)))]

    def weights(self, batch: PackedBatch) -> dict[str, float]:
        return {"loss": len(batch.targets["labels"]) / (2 if self.pairwise else 1)}

    def losses(self, model: SequenceModel, batch: PackedBatch) -> dict[str, Float[Tensor, ""]]:
        scores = read(model, batch).float()[:, 0]
        if self.pairwise:
            better, worse = scores[batch.targets["places"]].chunk(2)
            return {"loss": F.softplus(worse - better).sum()}
        labels = batch.targets["labels"]
        return {"loss": F.binary_cross_entropy_with_logits(scores, labels, reduction="sum")}

    @torch.inference_mode()
    def evaluate(self, model: SequenceModel, autocast: Callable[[], Any]) -> Evaluation:
        """MAP, MRR@10 and NDCG@10 of the dev set's queries that have a relevant document."""
        scores = predict(model, self.dev, autocast)[:, 0].tolist()
        found: dict[str, dict[str, float]] = {}
        gold: dict[str, dict[str, int]] = {}
        for one, score in zip(self.dev_judgements, scores, strict=True):
            found.setdefault(one.query_id, {})[one.document_id] = score
            gold.setdefault(one.query_id, {})[one.document_id] = one.label
        queries = list(by_query(self.dev_judgements).values())
        samples = []
        for rows in (queries[len(queries) // 3], queries[2 * len(queries) // 3]):
            first = max(rows, key=lambda i: scores[i])
            wanted = max(rows, key=lambda i: self.dev_judgements[i].label)
            one = self.dev_judgements[first]
            samples.append((one.query, one.document, self.dev_judgements[wanted].document))
        return Evaluation(ranking_scores(found, gold), samples)


def held_out(
    rows: Sequence[Judgement], path: Path, say: Callable[[str], None]
) -> tuple[list[Judgement], list[Judgement]]:
    """What to train on, and a dev set of queries that have a relevant document. Raises KotyaError for too few."""
    check_judged(rows, "training")
    queries = list(by_query(rows).values())
    judged = [number for number, some in enumerate(queries) if any(rows[i].label > 0 for i in some)]
    _, away = hold_out(len(judged), "queries with a relevant document", path, say)
    dev = {judged[number] for number in away}
    sides: tuple[list[Judgement], list[Judgement]] = ([], [])
    for number, some in enumerate(queries):
        sides[number in dev].extend(rows[i] for i in some)
    return sides


class RelevanceRecipe(TuningRecipe):
    """All of a run that learns to rank."""

    task: Literal["relevance"]
    data: RelevanceData
    training: RelevanceTraining

    def prepare(
        self, known: Known | None, cache: Path, say: Callable[[str], None], *, progress: bool = True
    ) -> Prepared:
        root = self.data_root()
        train = [one for path in self.data.paths(root) for one in self.data.read(path)]
        if self.data.dev is not None:
            dev = self.data.read(root / self.data.dev)
        else:
            train, dev = held_out(train, self.data.paths(root)[0], say)
        vocabulary, model = self.origin(
            known, lambda: [text for one in train for text in (one.query, one.document)]
        )
        config = RelevanceFolder(model=model, max_length=self.training.max_length)
        sides = [self._encoded(*one, config, vocabulary, say) for one in ((train, "training"), (dev, "dev"))]
        task = Relevance((train, sides[0]), (dev, sides[1]), training=self.training)
        if not len(task.examples):
            raise KotyaError(
                f"{self.data.paths(root)[0]}: no query has a relevant document beside another, so there are no pairs; "
                "training.loss=pointwise needs none"
            )
        return Prepared(task, config, (vocabulary, vocabulary))

    def measured_on(self, path: Path, known: Known, cache: Path, say: Callable[[str], None]) -> Relevance:
        config, rows = known.config, self.data.read(path)
        assert isinstance(config, RelevanceFolder)
        encoded = self._encoded(rows, "test", config, known.vocabularies[0], say)
        return Relevance(([], []), (rows, encoded), training=self.training)

    def _encoded(
        self,
        rows: Sequence[Judgement],
        name: str,
        config: RelevanceFolder,
        vocabulary: Vocabulary,
        say: Callable[[str], None],
    ) -> list[Encoded]:
        for line in check_judged(rows, name):
            say(line)
        found = encode(vocabulary, [(one.query, one.document) for one in rows], config.longest)
        say(f"{name} data: {report_cut(found, config.longest)}")
        return found
