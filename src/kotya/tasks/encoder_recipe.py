"""What the recipes of all tasks over an encoder share: a base to start from, or a vocabulary and a model to begin anew.

base: runs/minilm                      an encoder that was pretrained or imported, with its vocabulary
model: bert-tiny                       or fresh weights, and a vocabulary learned from the training texts
"""

from abc import abstractmethod
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BeforeValidator, Field, ValidationError, model_validator
from torch import nn

from kotya.attention.choices import LayersAttention, LinformerConfig
from kotya.config import Config, explain, with_presets, wrong
from kotya.errors import KotyaError
from kotya.models.bert import PRESETS, BertConfig
from kotya.models.empty import build_empty
from kotya.tasks.settings import DataConfig, FolderConfig, Known, Memory, TaskRecipe, TrainingConfig
from kotya.tasks.task import Task
from kotya.text.encoder_vocabulary import EncoderVocabularyConfig, checked
from kotya.text.vocabularies import Vocabularies
from kotya.text.vocabulary import Vocabulary

EncoderModel = Annotated[BertConfig, BeforeValidator(with_presets(PRESETS, "bert"))]

_SMALL = 8
"""Pieces of a model that is built only to see whether it can be."""


class FineTuning(TrainingConfig):
    """How an encoder's θ is tuned to a task (Devlin et al. 2019, appendix A.3)."""

    examples: int = Field(32, ge=1)
    """How many a batch holds."""
    max_length: int | None = Field(None, ge=8)
    """Pieces of an example; longer ones are cut and counted. By default what the model can read."""
    learning_rate: float = Field(5e-5, gt=0)
    """The highest, reached at the end of the warm-up."""
    schedule: Literal["inverse-sqrt", "cosine", "linear", "constant"] = "linear"
    warmup: Annotated[int, Field(ge=1)] | Annotated[float, Field(gt=0, lt=1)] = 0.1
    betas: tuple[Memory, Memory] = (0.9, 0.999)
    weight_decay: float = Field(0.01, ge=0)
    evaluate_every: int | None = Field(None, ge=1)


def _listed(value: Any) -> Any:
    return tuple(value.split(",")) if isinstance(value, str) else value


Columns = Annotated[tuple[str, ...], BeforeValidator(_listed)]
"""Of a file, as a list or with commas between, as options have them."""


class EncoderData(DataConfig):
    """Files below the root."""

    train: tuple[str, ...] = Field(min_length=1)
    """One file or several."""
    dev: str | None = None
    """What checkpoints are chosen by; without it, a tenth of the training examples is held out."""
    test: str | None = None
    """What `kotya evaluate` reports by default."""

    @model_validator(mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        if isinstance(value, dict) and isinstance(value.get("train"), str):
            return {**value, "train": [value["train"]]}
        return value

    def learned_from(self, root: Path) -> dict[str, Path]:
        files = {f"train.{index}": file for index, file in enumerate(self.train)}
        if self.dev is not None:
            files["dev"] = self.dev
        return {key: root / file for key, file in files.items()}

    def paths(self, root: Path) -> list[Path]:
        """The training files."""
        return [root / file for file in self.train]


class ExtendConfig(Config):
    """A base made to read longer texts than it was trained on (Beltagy et al. 2020, section 5).

    What is not said stays as the base has it.
    """

    max_length: int = Field(ge=1)
    """Its learned positions are repeated up to here."""
    attention: LayersAttention | None = None
    """Who sees whom: a pattern, a linear form, or one for each layer; layers that are local stay so."""
    global_projections: bool | None = None
    """Whether global positions get projections of their own, which begin as copies of the others."""


class EncoderRecipe(TaskRecipe):
    """All of a run over an encoder."""

    data: EncoderData
    vocabulary: EncoderVocabularyConfig | None = None
    model: EncoderModel | None = None
    extend: ExtendConfig | None = None
    """What is changed in the base, so that it reads longer texts."""

    @model_validator(mode="after")
    def _only_a_base_is_extended(self) -> "EncoderRecipe":
        if self.base is None and self.extend is not None:
            raise wrong(("extend",), "there is no base to extend; a new model has model.max_length", None)
        return self

    @abstractmethod
    def measured_on(self, path: Path, known: Known, cache: Path, say: Callable[[str], None]) -> Task:
        """The task with this file as its dev set, and nothing to train on. Raises KotyaError for bad input."""

    def check(self) -> None:
        model = self.model
        if model is not None:
            build_empty(lambda: model.build(_SMALL))

    def origin(
        self, known: Known | None, lines: Callable[[], Iterable[str]]
    ) -> tuple[Vocabulary, BertConfig]:
        """The vocabulary and the encoder's settings: those known, or new ones from the texts. Raises KotyaError."""
        if known is not None:
            settings, place = known.config.model, self.base or Path("the folder")
            if not isinstance(settings, BertConfig):
                raise KotyaError(
                    f"{place}: a model of the task {known.config.task}, where a base is an encoder"
                )
            return checked(known.vocabularies[0], place), self._extended(settings, place)
        assert self.vocabulary is not None
        assert self.model is not None
        vocabulary = self.vocabulary.make(lines, self.data_root())
        return checked(vocabulary, self.data_root() / (self.vocabulary.file or "")), self.model

    def _extended(self, settings: BertConfig, place: Path) -> BertConfig:
        """The base's settings, changed for longer texts where the recipe says so. Raises KotyaError."""
        if self.extend is None:
            return settings
        if self.extend.max_length < settings.max_length:
            raise KotyaError(
                f"{place} reads {settings.max_length} tokens already: extend.max_length makes it more"
            )
        # validated anew: what was right for the base may be wrong with other attention
        changed = {**settings.model_dump(), **self.extend.model_dump(exclude_none=True)}
        try:
            extended = BertConfig.model_validate(changed)
        except ValidationError as error:
            raise KotyaError(f"{place} cannot be extended so: {explain(error, [BertConfig])[1]}") from None
        mixing = [
            layer
            for layer in range(settings.layers)
            if all(isinstance(one.attention_of(layer), LinformerConfig) for one in (settings, extended))
        ]
        if mixing and extended.max_length > settings.max_length:
            raise KotyaError(
                f"{place} cannot be extended so: Linformer's projections were learned for {settings.max_length} "
                "positions and have no others to repeat; extend.attention may be another"
            )
        return extended


class TuningRecipe(EncoderRecipe):
    """All of a run that tunes an encoder to a task."""

    training: FineTuning


class TunedFolder(FolderConfig):
    """`config.json` of an encoder that was tuned to a task."""

    model: BertConfig
    max_length: int | None = None
    """Pieces of the texts it was tuned on and reads, longer ones are cut; by default what the encoder can read."""

    @property
    def longest(self) -> int:
        """Pieces of the longest text it reads."""
        return min(self.max_length or self.model.max_length, self.model.max_length)


class EncoderFolder(FolderConfig):
    """`config.json` of an encoder alone, as an import may bring it: good for a base."""

    task: Literal["encoder"] = "encoder"
    model: BertConfig
    pooler: bool
    """Whether what turns the summary of a text into what its heads read came with it."""

    def build(self, vocabularies: Vocabularies) -> nn.Module:
        return nn.ModuleDict({"encoder": self.model.build(len(vocabularies[0]), pooler=self.pooler)})


def hold_out(
    count: int, what: str, place: Path, say: Callable[[str], None], *, least: int = 1
) -> tuple[list[int], list[int]]:
    """Numbers below `count` as those to train on and, drawn always alike, a tenth (1,000 at most) for a dev set.

    `least`: so many at least.

    Raises KotyaError where they are too few for that.
    """
    drawn = np.random.default_rng(0).permutation(count).tolist()
    away = min(1000, count // 10)
    if not away:
        raise KotyaError(
            f"{place}: {count} {what} are too few to hold one out; name a dev set in data.dev (--dev)"
        )
    away = max(away, least)
    say(f"dev set: {away:,} {what} held out of the training data")
    return sorted(drawn[away:]), sorted(drawn[:away])
