"""Parallel text for translation: where the corpora lie, and a dev set read whole."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator, model_validator

from kotya.config import Config, wrong
from kotya.errors import KotyaError
from kotya.tasks.guidance import Corpus
from kotya.tasks.settings import DataConfig
from kotya.text.cache import ParallelTokens, TokenCache
from kotya.text.cleaning import CleaningConfig
from kotya.text.corpus import TextSource, read_parallel
from kotya.text.longest import check_length
from kotya.text.vocabularies import VocabularyConfig
from kotya.text.vocabulary import Vocabulary

SIDES = ("source", "target")


class ParallelFiles(Config):
    """Parallel text: two aligned files, or the columns of a TSV. Paths are below the data root."""

    source: str | None = None
    target: str | None = None
    pairs: str | None = None
    """One TSV file instead of two."""
    columns: tuple[str, ...] = SIDES
    """The columns of the TSV in order; `-` is one not used."""

    @model_validator(mode="after")
    def _one_form(self) -> "ParallelFiles":
        if (self.pairs is None) == (self.source is None) or (self.source is None) != (self.target is None):
            raise ValueError("parallel text is `source` and `target`, or `pairs`")
        if self.pairs is None and self.columns != SIDES:
            raise wrong(
                ("columns",), "files of one side each have no columns; a TSV is `pairs`", self.columns
            )
        for side in SIDES:
            if self.columns.count(side) != 1:
                raise wrong(("columns",), f"{side} must stand there once: {list(self.columns)}", self.columns)
        return self

    def open(self, root: Path) -> tuple[TextSource, TextSource]:
        """The two sides."""
        if self.pairs is not None:
            source, target = TextSource.columns(root / self.pairs, self.columns, SIDES)
            return source, target
        assert self.source is not None
        assert self.target is not None
        return TextSource.of(root / self.source), TextSource.of(root / self.target)


class TrainingFiles(ParallelFiles):
    """Parallel text to learn from."""

    alignments: str | None = None
    """Word alignments of every pair, `i-j` (source-target, from 0), for `training.guided_alignment`."""

    def corpus(self, root: Path) -> Corpus:
        """The two sides and the alignments."""
        return Corpus(*self.open(root), root / self.alignments if self.alignments is not None else None)


class TranslationData(DataConfig):
    """The corpora."""

    train: list[TrainingFiles] = Field(min_length=1)
    """One corpus or several."""
    dev: ParallelFiles | None = None
    """What checkpoints are chosen by; without it, some training pairs are held out."""
    test: ParallelFiles | None = None
    """What `kotya evaluate` reports by default."""
    cleaning: CleaningConfig = CleaningConfig()

    def learned_from(self, root: Path) -> dict[str, Path]:
        """The files that a model is made by, by their place in the recipe: all but the test set."""
        parts: dict[str, ParallelFiles | None] = {f"train.{i}": one for i, one in enumerate(self.train)}
        return {
            f"{name}.{key}": root / file
            for name, part in (parts | {"dev": self.dev}).items()
            for key in ("source", "target", "pairs", "alignments")
            if (file := getattr(part, key, None)) is not None
        }

    @field_validator("train", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        return [value] if isinstance(value, dict) else value


@dataclass(frozen=True)
class Lines:
    """A dev set: texts, not cleaned."""

    sources: list[str]
    references: list[str]


def prepare(
    data: TranslationData,
    vocabulary: VocabularyConfig,
    cache: Path,
    root: Path,
    *,
    vocabularies: tuple[Vocabulary, Vocabulary] | None,
    progress: bool,
) -> tuple[tuple[Vocabulary, Vocabulary], ParallelTokens, Lines | None]:
    """Learn or read the vocabularies (or take those given) and encode the corpora.

    Raises KotyaError where the files are bad input, or a line of the dev set is too long for a model.
    """
    sides = [files.open(root) for files in data.train]
    columns = {(one.column, two.column) for one, two in sides}
    if len(columns) > 1:
        raise KotyaError("data.train: aligned files and TSV columns cannot be mixed in one list")
    source, target = (
        TextSource(tuple(path for pair in sides for path in pair[side].paths), sides[0][side].column)
        for side in range(2)
    )
    chosen = vocabularies or vocabulary.make(source, target, root)
    train = TokenCache.open_or_build(source, target, chosen, data.cleaning, cache, progress=progress)
    dev = None
    if data.dev is not None:
        files = data.dev.open(root)
        pairs = list(read_parallel(*files))
        dev = Lines([one for one, _ in pairs], [two for _, two in pairs])
        for name, vocabulary_of, lines in zip(files, chosen, (dev.sources, dev.references), strict=True):
            for number, pieces in enumerate(vocabulary_of.encode_batch(lines), start=1):
                check_length(pieces, f"{name}:{number}")
    return chosen, train, dev


def held_out_lines(train: ParallelTokens, start: int) -> Lines:
    """The last pairs of the training data, as texts."""
    pairs = [train.text(index) for index in range(start, len(train))]
    if not pairs:
        raise KotyaError("there is no dev set: name one in data.dev, or leave enough pairs to hold some out")
    return Lines([one for one, _ in pairs], [two for _, two in pairs])
