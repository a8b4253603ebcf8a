"""Tagging words with the entities they belong to (Devlin et al. 2019, section 5.3): a linear layer on the vector of
each word's first piece.

loss = -Σ_words log softmax(Wh)_tag, over the words. Inside, tags are IOB2.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from kotya.errors import KotyaError
from kotya.metrics import entity_scores
from kotya.models.heads import TokenModel
from kotya.tasks.encoder_recipe import EncoderData, FineTuning, TunedFolder, TuningRecipe, hold_out
from kotya.tasks.packed_batch import PackedBatch, by_length, full_batches, pack, read, shuffled
from kotya.tasks.settings import Known, Prepared
from kotya.tasks.task import Evaluation, Indices
from kotya.text.conll import Sentence, read_tagged
from kotya.text.tags import OUTSIDE, Scheme, check_entities, entities
from kotya.text.vocabularies import Vocabularies
from kotya.text.words import Part, parts

Tagged = tuple[list[str], list[float]]
"""The tags of a sentence's words, and how likely each is."""


class TaggingData(EncoderData):
    """CoNLL files: a word and its tag a line, a blank line between sentences."""

    scheme: Scheme = "iob2"
    """What their tags are written in."""

    def read(self, path: Path) -> list[Sentence]:
        """The sentences of a file. Raises KotyaError naming file and line for bad input."""
        found = list(read_tagged(path, self.scheme))
        if not found:
            raise KotyaError(f"{path}: there is no sentence in it")
        return found


class TaggingFolder(TunedFolder):
    """`config.json` of a tagger."""

    task: Literal["tagging"] = "tagging"
    labels: list[str]
    """The tags in order, the first O."""

    def build(self, vocabularies: Vocabularies) -> TokenModel:
        return TokenModel(self.model.build(len(vocabularies[0]), pooler=False), len(self.labels))


class Tagging:
    """The task, prepared."""

    metric = "F1"
    lower_is_better = False
    rounds = 1

    def __init__(
        self,
        train: Sequence[tuple[Part, Sequence[int]]],
        dev: Sequence[Sequence[Part]],
        sentences: Sequence[Sentence],
        *,
        labels: Sequence[str],
        training: FineTuning,
    ) -> None:
        """Parts of sentences with the numbers of their words' tags; the sentences of the dev set, and their parts."""
        self.train, self.dev, self.sentences = train, dev, sentences
        self.labels, self.size, self.seed = labels, training.examples, training.seed

    def round(self, number: int) -> list[Indices]:
        return shuffled(len(self.train), self.size, (self.seed, number))

    def batch(self, indices: Indices, number: int) -> PackedBatch:
        ordered = indices[by_length([len(self.train[i][0].encoded) for i in indices])]
        chosen = [self.train[i] for i in ordered]
        targets = {
            "words": torch.from_numpy(places([part for part, _ in chosen])),
            "tags": torch.tensor([tag for _, tags in chosen for tag in tags], dtype=torch.long),
        }
        return pack([part.encoded for part, _ in chosen], targets)

    def weights(self, batch: PackedBatch) -> dict[str, float]:
        return {"loss": float(len(batch.targets["tags"]))}

    def losses(self, model: TokenModel, batch: PackedBatch) -> dict[str, Float[Tensor, ""]]:
        logits = read(model, batch)[batch.targets["words"]].float()
        return {"loss": F.cross_entropy(logits, batch.targets["tags"], reduction="sum")}

    @torch.inference_mode()
    def evaluate(self, model: TokenModel, autocast: Callable[[], Any]) -> Evaluation:
        """Precision, recall and F1 of the dev set's entities."""
        with autocast():
            tagged = list(tag_words(model, self.dev, self.labels, [len(one.words) for one in self.sentences]))
        found = [entities(tags) for tags in tagged]
        gold = [entities(one.tags) for one in self.sentences]
        shown = [len(found) // 3, 2 * len(found) // 3]
        samples = []
        for i in shown:
            words = self.sentences[i].words
            samples.append((" ".join(words), shown_entities(words, found[i]), shown_entities(words, gold[i])))
        return Evaluation(entity_scores(found, gold), samples)


def places(chosen: Sequence[Part]) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Where the words' first pieces stand in a batch of these parts."""
    before = np.cumsum([0, *(len(part.encoded) for part in chosen[:-1])])
    rows = [start + np.array(part.firsts, np.int64) for start, part in zip(before, chosen, strict=True)]
    return np.concatenate(rows)


def tag_words(
    model: TokenModel, sentences: Sequence[Sequence[Part]], labels: Sequence[str], lengths: Sequence[int]
) -> Iterator[list[str]]:
    """The tags of every sentence's words, as many as `lengths` says; the parts of long ones joined."""
    for tags, _ in tag_probabilities(model, sentences, labels, lengths):
        yield tags


def tag_probabilities(
    model: TokenModel, sentences: Sequence[Sequence[Part]], labels: Sequence[str], lengths: Sequence[int]
) -> Iterator[Tagged]:
    """As `tag_words`, and how likely each tag is. A word without a piece is O for sure."""
    device = next(model.parameters()).device
    flat = [(number, part) for number, some in enumerate(sentences) for part in some]
    found = [untagged(length) for length in lengths]
    for indices in full_batches([len(part.encoded) for _, part in flat]):
        chosen = [flat[i] for i in indices]
        batch = pack([part.encoded for _, part in chosen]).to(device)
        words = torch.from_numpy(places([part for _, part in chosen])).to(device)
        answers = likeliest(read(model, batch)[words], labels)
        for number, part in chosen:
            write(found[number], part, answers)
    yield from found


def untagged(words: int) -> Tagged:
    """Of a sentence none of whose words has been read."""
    return [OUTSIDE] * words, [1.0] * words


def likeliest(logits: Float[Tensor, "words outputs"], labels: Sequence[str]) -> Iterator[tuple[str, float]]:
    """Of every word its tag, and how likely that is."""
    shares, tags = logits.float().softmax(-1).max(-1)
    yield from zip([labels[tag] for tag in tags.tolist()], shares.tolist(), strict=True)


def write(found: Tagged, part: Part, answers: Iterator[tuple[str, float]]) -> None:
    """What the words of a part are, into its sentence's tags."""
    for word in part.words:
        found[0][word], found[1][word] = next(answers)


def shown_entities(words: Sequence[str], found: Sequence[tuple[int, int, str]]) -> str:
    """Entities for the person to look at."""
    return ", ".join(f"{' '.join(words[start:stop])} ({label})" for start, stop, label in found) or "none"


class TaggingRecipe(TuningRecipe):
    """All of a run that learns to tag."""

    task: Literal["tagging"]
    data: TaggingData

    def prepare(
        self, known: Known | None, cache: Path, say: Callable[[str], None], *, progress: bool = True
    ) -> Prepared:
        root = self.data_root()
        train = [one for path in self.data.paths(root) for one in self.data.read(path)]
        labels = found_tags(train)
        if self.data.dev is not None:
            dev = self.data.read(root / self.data.dev)
        else:
            kept, away = hold_out(len(train), "sentences", self.data.paths(root)[0], say)
            train, dev = [train[i] for i in kept], [train[i] for i in away]
        check_tags(dev, labels)
        vocabulary, model = self.origin(known, lambda: [" ".join(one.words) for one in train])
        config = TaggingFolder(model=model, max_length=self.training.max_length, labels=labels)
        sides = [parts(vocabulary, [one.words for one in side], config.longest) for side in (train, dev)]
        read_so = [report_parts(some, config.longest) for some in sides]
        say(f"training data: {read_so[0]}; dev: {read_so[1]}; types: {', '.join(types_of(labels))}")
        numbers = {label: number for number, label in enumerate(labels)}
        examples = [
            (part, [numbers[one.tags[word]] for word in part.words])
            for one, some in zip(train, sides[0], strict=True)
            for part in some
        ]
        if not any(part.words for part, _ in examples):
            raise KotyaError(f"{train[0].path}: the vocabulary has no piece for any word in it")
        task = Tagging(examples, sides[1], dev, labels=labels, training=self.training)
        return Prepared(task, config, (vocabulary, vocabulary))

    def measured_on(self, path: Path, known: Known, cache: Path, say: Callable[[str], None]) -> Tagging:
        config, sentences = known.config, self.data.read(path)
        assert isinstance(config, TaggingFolder)
        check_entities(config.labels)
        check_tags(sentences, config.labels)
        some = parts(known.vocabularies[0], [one.words for one in sentences], config.longest)
        say(f"{path}: {report_parts(some, config.longest)}")
        return Tagging([], some, sentences, labels=config.labels, training=self.training)


def found_tags(sentences: Sequence[Sentence]) -> list[str]:
    """O, and B and I of every type. Raises KotyaError where there is no entity."""
    types = sorted({tag[2:] for one in sentences for tag in one.tags if tag != OUTSIDE})
    if not types:
        raise KotyaError(f"{sentences[0].path}: there is no entity in it: every tag is O")
    return [OUTSIDE, *(f"{letter}-{kind}" for kind in types for letter in "BI")]


def types_of(labels: Sequence[str]) -> list[str]:
    """What entities the tags tell apart, each once."""
    return list(dict.fromkeys(label[2:] for label in labels if label != OUTSIDE))


def report_parts(sentences: Sequence[Sequence[Part]], longest: int) -> str:
    """How many sentences, and how they are read, for the person."""
    split = sum(len(some) > 1 for some in sentences)
    cut = sum(any(part.encoded.cut for part in some) for some in sentences)
    return (
        f"{len(sentences):,} sentences"
        + (f", {split:,} of them in parts of {longest} pieces" if split else "")
        + (f", {cut:,} with a word that is longer and was cut" if cut else "")
    )


def check_tags(sentences: Sequence[Sentence], labels: Sequence[str]) -> None:
    """Raises KotyaError naming file and line where a type is none of the training data's."""
    known = types_of(labels)
    for one in sentences:
        for place, tag in enumerate(one.tags):
            if tag != OUTSIDE and tag[2:] not in known:
                raise KotyaError(
                    f"{one.path}:{one.line + place}: the type {tag[2:]!r} stands nowhere in the training data; "
                    f"there are {', '.join(known)}"
                )
