"""Translation: pairs of sentences, next-token cross-entropy with teacher forcing, BLEU on a dev set.

loss = Σ_t -log p(y_t | y_<t, x), smoothed. With R-Drop (Wu et al. 2021) every pair is read twice under different
dropout, and the two distributions are drawn together: + α/2 · ½(KL(p₁‖p₂) + KL(p₂‖p₁)), half the paper's loss.
Attention may be taught given word alignments beside (see guidance).
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from kotya.attention.recorder import Maps
from kotya.metrics import translation_scores
from kotya.models.seq2seq import Seq2Seq
from kotya.search.config import SearchConfig
from kotya.search.ensemble import Ensemble
from kotya.search.greedy import Greedy
from kotya.search.hypothesis import Roles, SearchLine
from kotya.search.schedule import search_lines
from kotya.tasks.guidance import Guidance, Guide
from kotya.tasks.parallel import Lines, held_out_lines
from kotya.tasks.task import Evaluation, Indices
from kotya.text.batches import Batches, check_lengths
from kotya.text.cache import ParallelTokens
from kotya.text.vocabulary import Vocabulary

ROUND = 1 << 17  # pairs that are drawn, sorted by length and segmented at a time
_DEV_POSITIONS = 4096
"""Of a batch of the dev set, padding counted, unless one line has more."""
_KL_CHUNK = 512

Ids = Sequence[int] | NDArray[np.int64]


@dataclass(frozen=True)
class TranslationBatch:
    """Pairs, padded on the right."""

    source: Int[Tensor, "rows source"]
    lengths: Int[Tensor, " rows"]
    inputs: Int[Tensor, "rows target"]
    """begin + y"""
    real: Int[Tensor, " tokens"]
    """Where the real ones of the flattened target positions are."""
    outputs: Int[Tensor, " tokens"]
    """y + end, at the real positions."""
    guide: Guide | None = None
    """What the attention should be, where it is taught."""

    @property
    def tokens(self) -> int:
        return len(self.outputs)

    def to(self, device: torch.device) -> "TranslationBatch":
        guide = self.guide.to(device) if self.guide is not None else None
        tensors = {name: value for name, value in vars(self).items() if isinstance(value, Tensor)}
        moved = {name: value.to(device, non_blocking=True) for name, value in tensors.items()}
        return replace(self, **moved, guide=guide)


class Translation:
    """The task, prepared: vocabularies learned, corpora encoded."""

    metric = "BLEU"
    lower_is_better = False

    def __init__(
        self,
        vocabularies: tuple[Vocabulary, Vocabulary],
        train: ParallelTokens,
        dev: Lines | None,
        *,
        tokens: int,
        seed: int,
        smoothing: float,
        r_drop: float,
        dropout: float,
        held_out: int = 0,
        guidance: Guidance | None = None,
    ) -> None:
        self.source, self.target = vocabularies
        self.guidance = guidance
        self.train, self.seed = train, seed
        self.smoothing, self.r_drop, self.dropout = smoothing, r_drop, dropout
        self.tokens, self.kept = tokens, len(train) - held_out
        self.rounds = max(1, -(-self.kept // ROUND))
        check_lengths(train.source_lengths[: self.kept], train.target_lengths[: self.kept], tokens)
        self.dev = dev or held_out_lines(train, self.kept)
        self._sampled: tuple[int, dict[int, tuple[Ids, Ids]]] = (-1, {})

    def round(self, number: int) -> list[Indices]:
        epoch, part = divmod(number, self.rounds)
        drawn = np.random.default_rng([self.seed, epoch]).permutation(self.kept)[part :: self.rounds]
        if self.dropout:  # batches are made by the lengths of the segmentations that were drawn
            sampled = self._sample(number, drawn)
            lengths = [np.array([len(sampled[int(i)][side]) for i in drawn], np.int32) for side in range(2)]
        else:
            lengths = [side[drawn] for side in (self.train.source_lengths, self.train.target_lengths)]
        batches = Batches(*lengths, tokens=self.tokens)
        return [drawn[batch] for batch in batches.draw(np.random.default_rng([self.seed, epoch, part]))]

    def batch(self, indices: Indices, number: int) -> TranslationBatch:
        if self.dropout:
            if self._sampled[0] != number:
                self.round(number)
            pairs = [self._sampled[1][int(index)] for index in indices]
        else:
            pairs = [(self.train.source(int(index)), self.train.target(int(index))) for index in indices]
        batch = collate(pairs, self.source.end, self.target)
        return (
            batch
            if self.guidance is None
            else replace(batch, guide=self._guide(self.guidance, indices, pairs))
        )

    def _guide(self, guidance: Guidance, indices: Indices, pairs: Sequence[tuple[Ids, Ids]]) -> Guide:
        sources = [self.source.words([int(i) for i in source]) for source, _ in pairs]
        targets = [self.target.words([int(i) for i in target]) for _, target in pairs]
        return guidance.guide([int(index) for index in indices], sources, targets)

    def _sample(self, number: int, drawn: Indices) -> dict[int, tuple[Ids, Ids]]:
        """BPE-dropout's segmentations of a round; they are kept until the next one."""
        if self._sampled[0] != number:
            self._sampled = (number, {int(i): self._sample_pair(number, int(i)) for i in drawn})
        return self._sampled[1]

    def _sample_pair(self, number: int, index: int) -> tuple[Ids, Ids]:
        texts = self.train.text(index)
        sides = enumerate(zip((self.source, self.target), texts, strict=True))
        source, target = (
            vocabulary.sample(text, self.dropout, self.seed, number, 2 * index + side)
            for side, (vocabulary, text) in sides
        )
        if max(len(source), len(target)) < self.tokens:
            return source, target
        return self.train.source(index), self.train.target(index)  # spelled out it would not fit into a batch

    def weights(self, batch: TranslationBatch) -> dict[str, float]:
        weights = dict.fromkeys(("cross_entropy", "r_drop", "nll"), float(batch.tokens))
        if batch.guide is not None:
            # a batch without links has a term of 0, and 0 over anything is 0
            weights["guided_alignment"] = batch.guide.pieces or 1e-9
        return weights

    def losses(self, model: Seq2Seq, batch: TranslationBatch) -> dict[str, Float[Tensor, ""]]:
        with self._watching(model) as maps:
            terms = self._translation_losses(model, batch)
        if self.guidance is not None and batch.guide is not None:
            times = 2 if self.r_drop else 1
            terms["guided_alignment"] = self.guidance.loss(maps, batch.guide, times)
        return terms

    def _watching(self, model: Seq2Seq) -> AbstractContextManager[Maps]:
        return nullcontext({}) if self.guidance is None else self.guidance.watch(model)

    def _translation_losses(self, model: Seq2Seq, batch: TranslationBatch) -> dict[str, Float[Tensor, ""]]:
        if not self.r_drop:
            hidden = model(batch.source, batch.lengths, batch.inputs).flatten(0, 1)
            loss, nll = model.loss(at(hidden, batch.real), batch.outputs, smoothing=self.smoothing)
            return {"cross_entropy": loss, "nll": nll}
        source, lengths, inputs = (torch.cat([x, x]) for x in (batch.source, batch.lengths, batch.inputs))
        first, second = model(source, lengths, inputs).flatten(0, 1).chunk(2)
        both = [at(first, batch.real), at(second, batch.real)]
        loss, nll = model.loss(torch.cat(both), torch.cat([batch.outputs] * 2), smoothing=self.smoothing)
        divergence = symmetric_divergence(model, *both)
        return {"cross_entropy": loss / 2, "r_drop": self.r_drop / 2 * divergence, "nll": nll / 2}

    @torch.inference_mode()
    def evaluate(self, model: Seq2Seq, autocast: Callable[[], Any]) -> Evaluation:
        """Greedy translations of the dev set: BLEU, chrF; and the negative log-likelihood of a reference token."""
        with autocast():
            nll = self._likelihood(model)
        hypotheses = list(self._translate(model))
        metrics = {score.name: score.value for score in translation_scores(hypotheses, self.dev.references)}
        shown = [len(hypotheses) // 3, 2 * len(hypotheses) // 3]
        samples = [(self.dev.sources[i], hypotheses[i], self.dev.references[i]) for i in shown]
        return Evaluation({**metrics, "nll": nll}, samples)

    def _likelihood(self, model: Seq2Seq) -> float:
        sources = self.source.encode_batch(self.dev.sources)
        targets = self.target.encode_batch(self.dev.references)
        longer = np.array([max(map(len, pair)) + 1 for pair in zip(sources, targets, strict=True)])
        left = np.argsort(-longer, kind="stable")
        device = next(model.parameters()).device
        total = count = 0.0
        while len(left):  # the first is the longest
            rows = max(_DEV_POSITIONS // int(longer[left[0]]), 1)
            pairs, left = [(sources[i], targets[i]) for i in left[:rows]], left[rows:]
            batch = collate(pairs, self.source.end, self.target).to(device)
            hidden = model(batch.source, batch.lengths, batch.inputs).flatten(0, 1)
            total += float(model.loss(at(hidden, batch.real), batch.outputs)[1])
            count += batch.tokens
        return total / count

    def _translate(self, model: Seq2Seq) -> Iterator[str]:
        lines = (
            SearchLine(ids, number=i) for i, ids in enumerate(self.source.encode_batch(self.dev.sources))
        )
        ensemble = Ensemble([model], self.source.end)
        make = partial(Greedy, ensemble, roles_of(self.target), SearchConfig(beam=1), scores=False)
        workers = torch.get_num_threads() if ensemble.device.type == "cpu" else 1
        for hypotheses in search_lines(make, lines, rows=64, workers=workers):
            yield self.target.decode(hypotheses[0].tokens)


def roles_of(target: Vocabulary) -> Roles:
    """What search must know of a target vocabulary: no output holds padding, begin or the unknown piece."""
    banned = {target.pad, target.begin} | ({target.unknown} if target.unknown is not None else set())
    return Roles(target.begin, target.end, tuple(sorted(banned - {target.end})))


def collate(pairs: Sequence[tuple[Ids, Ids]], source_end: int, target: Vocabulary) -> TranslationBatch:
    """Pairs of ids (without begin and end) as a batch."""
    lengths = np.array([len(source) + 1 for source, _ in pairs])
    target_lengths = np.array([len(y) + 1 for _, y in pairs])
    source_ids = np.full((len(pairs), int(lengths.max())), source_end, np.int64)
    inputs = np.full((len(pairs), int(target_lengths.max())), target.end, np.int64)
    outputs = np.full_like(inputs, target.end)
    inputs[:, 0] = target.begin
    for row, (x, y) in enumerate(pairs):
        source_ids[row, : len(x)] = x
        inputs[row, 1 : len(y) + 1] = y
        outputs[row, : len(y)] = y
    real = np.flatnonzero(np.arange(inputs.shape[1]) < target_lengths[:, None])
    return TranslationBatch(
        source=torch.from_numpy(source_ids),
        lengths=torch.from_numpy(lengths),
        inputs=torch.from_numpy(inputs),
        real=torch.from_numpy(real),
        outputs=torch.from_numpy(outputs.ravel()[real]),
    )


def at(hidden: Float[Tensor, "positions size"], real: Int[Tensor, " tokens"]) -> Float[Tensor, "tokens size"]:
    """The real positions; all of them where nothing is padded."""
    return hidden if len(real) == len(hidden) else hidden.index_select(0, real)


def symmetric_divergence(
    model: Seq2Seq, first: Float[Tensor, "tokens size"], second: Float[Tensor, "tokens size"]
) -> Float[Tensor, ""]:
    """Σ ½(KL(p₁‖p₂) + KL(p₂‖p₁)) over positions; a chunk at a time, computed again in the backward pass, not kept."""

    def of_chunk(one: Tensor, two: Tensor) -> Tensor:
        p, q = (model.decoder.output(hidden).float().log_softmax(-1) for hidden in (one, two))
        return 0.5 * ((p.exp() - q.exp()) * (p - q)).sum()

    chunks = zip(first.split(_KL_CHUNK), second.split(_KL_CHUNK), strict=True)
    parts = [checkpoint(of_chunk, one, two, use_reentrant=False) for one, two in chunks]
    total: Tensor = torch.stack(parts).sum()
    return total
