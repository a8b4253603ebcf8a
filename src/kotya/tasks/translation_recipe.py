"""The recipe of a translator: its data, vocabularies, model and search; what it prepares and what its folder says."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from kotya.attention.reading import GuidedAlignmentConfig, check_reading
from kotya.config import with_presets, wrong
from kotya.errors import KotyaError
from kotya.models.composed import PRESETS, ModelConfig
from kotya.models.empty import build_empty
from kotya.models.seq2seq import Decoder, Seq2Seq
from kotya.search.config import SearchConfig
from kotya.tasks.guidance import Guidance
from kotya.tasks.parallel import TranslationData, prepare
from kotya.tasks.settings import FolderConfig, Known, Prepared, TaskRecipe, TrainingConfig
from kotya.tasks.translation import Translation, roles_of
from kotya.text.cleaning import describe
from kotya.text.vocabularies import Vocabularies, VocabularyConfig

_HELD_OUT = 1000
_SMALL = 8
"""Pieces of a model that is built only to see whether it can be."""


class TranslationTraining(TrainingConfig):
    """How a translator's θ is learned."""

    tokens: int = Field(4096, ge=1)
    """A batch holds at most so many positions on either side, padding included."""
    label_smoothing: float = Field(0.1, ge=0, lt=1)
    r_drop: float = Field(0.0, ge=0)
    """α of R-Drop (Wu et al. 2021; 5 there); costs a second pass. 0 is none."""
    guided_alignment: GuidedAlignmentConfig | None = None
    """Teach a layer's attention the word alignments that `data.train` gives (Chen et al. 2016)."""

    @model_validator(mode="after")
    def _attention_is_seen(self) -> "TranslationTraining":
        if self.compile and self.guided_alignment is not None:
            message = (
                "a compiled model hands over no attention weights; guided_alignment needs compile: false"
            )
            raise wrong(("compile",), message, self.compile)
        return self


class TranslationFolder(FolderConfig):
    """`config.json` of a translator."""

    task: Literal["translation"] = "translation"
    model: ModelConfig
    search: SearchConfig = SearchConfig()
    """How it is meant to be searched."""
    banned: list[int]
    """Target ids that no output holds."""

    def build(self, vocabularies: Vocabularies) -> Seq2Seq:
        source, target = vocabularies
        return self.model.build(len(source), len(target))


class TranslationRecipe(TaskRecipe):
    """All of a run that learns to translate."""

    task: Literal["translation"]
    data: TranslationData
    vocabulary: VocabularyConfig | None = None
    model: Annotated[ModelConfig, BeforeValidator(with_presets(PRESETS, "transformer"))] | None = None
    training: TranslationTraining
    search: SearchConfig | None = None
    """How the model is meant to be searched; by default as its base is, or by a beam of 5."""

    @model_validator(mode="after")
    def _parts_fit(self) -> "TranslationRecipe":
        if self.search is not None and self.search.nbest > self.search.beam:
            message = f"{self.search.nbest} outputs a line are more than the beam holds, {self.search.beam}"
            raise wrong(("search", "nbest"), message, self.search.nbest)
        shared = self.vocabulary is None or self.vocabulary.shared
        if self.model is not None and self.model.share == "all" and not shared:
            message = "all needs one vocabulary for both languages; with two, say `output` or `none`"
            raise wrong(("model", "share"), message, self.model.share)
        return self

    def check(self) -> None:
        if self.model is not None:
            self._check(self.model)

    def _check(self, config: ModelConfig) -> None:
        decoder = _decoder(config)
        if self.training.guided_alignment is not None:
            check_reading(decoder, self.training.guided_alignment)

    def prepare(
        self, known: Known | None, cache: Path, say: Callable[[str], None], *, progress: bool = True
    ) -> Prepared:
        root, training = self.data_root(), self.training
        model, vocabulary = self.model, self.vocabulary or VocabularyConfig()
        search = self.search or SearchConfig()
        if model is None:
            assert known is not None
            if not isinstance(known.config, TranslationFolder):
                raise KotyaError(f"{self.base}: a model of the task {known.config.task}, not a translator")
            model, search = known.config.model, self.search or known.config.search
            self._check(model)
        vocabularies, tokens, dev = prepare(
            self.data,
            vocabulary,
            cache,
            root,
            vocabularies=known.vocabularies if known is not None else None,
            progress=progress,
        )
        say(f"training data: {describe(tokens.report)}")
        guidance = None
        if training.guided_alignment is not None:
            corpora = [files.corpus(root) for files in self.data.train]
            lag = training.guided_alignment.lag(_decoder(model).knows_after)
            guidance = Guidance.read(training.guided_alignment, lag, corpora, tokens)
        task = Translation(
            vocabularies,
            tokens,
            dev,
            tokens=training.tokens,
            seed=training.seed,
            smoothing=training.label_smoothing,
            r_drop=training.r_drop,
            dropout=vocabulary.dropout,
            held_out=0 if dev else min(_HELD_OUT, len(tokens) // 10),
            guidance=guidance,
        )
        banned = list(roles_of(vocabularies[1]).banned)
        config = TranslationFolder(model=model, search=search, banned=banned)
        return Prepared(task, config, vocabularies)


def _decoder(config: ModelConfig) -> Decoder:
    """The model's, without memory behind its weights."""
    return build_empty(lambda: config.build(_SMALL, _SMALL)).decoder
