"""What every task's recipe and every model folder have, whatever the task: the loop's settings, and where a run begins.

A task's recipe stands beside the task and prepares it. The settings of the loop are here and not beside it, because the
loop stands on a floor above.
"""

import os
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, model_validator
from torch import nn

from kotya.adapt.attach import AdaptConfig
from kotya.config import Config, wrong
from kotya.tasks.task import Task
from kotya.text.vocabularies import Vocabularies
from kotya.version import __version__

SECTIONS = ("task", "base", "extend", "data", "vocabulary", "model", "adapt", "training", "search")
"""Of a recipe, in the order they are written."""

Memory = Annotated[float, Field(ge=0, lt=1)]
"""Of one of Adam's two means."""


class TrainingConfig(Config):
    """How θ is learned, whatever the task."""

    updates: int | None = Field(None, ge=1)
    """Steps of the optimiser; this or `epochs`."""
    epochs: int | None = Field(None, ge=1)
    """Passes over the data."""
    minutes: float | None = Field(None, gt=0)
    """Stop after so long; never shapes the schedule."""
    accumulate: int = Field(1, ge=1)
    """Batches whose gradients make one update."""
    learning_rate: float = Field(1e-3, gt=0)
    """The highest, reached at the end of the warm-up."""
    schedule: Literal["inverse-sqrt", "cosine", "linear", "constant"] = "inverse-sqrt"
    """After the warm-up: √(warmup/update) as Vaswani et al. 2017, or down to nothing at the last update."""
    warmup: Annotated[int, Field(ge=1)] | Annotated[float, Field(gt=0, lt=1)] = 1000
    """Updates over which the learning rate rises from nothing; below 1, a share of all updates."""
    betas: tuple[Memory, Memory] = (0.9, 0.98)
    """Adam's two memories."""
    weight_decay: float = Field(0.0, ge=0)
    """AdamW's (Loshchilov and Hutter 2019), on matrices only."""
    clip: float = Field(1.0, gt=0)
    """The longest gradient, as a whole."""
    precision: Literal["auto", "float32", "bf16"] = "auto"
    """bf16: matrix products in bfloat16, weights and sums in float32. `auto`: bf16 where the device is fast in it."""
    compile: bool = False
    """torch.compile the model, for a GPU. On a CPU the eager steps are faster (4,445 tokens/s against 2,561)."""
    evaluate_every: int | None = Field(500, ge=1)
    """Updates between evaluations on the dev set, null for an epoch's; each writes a checkpoint."""
    patience: int | None = Field(None, ge=1)
    """Stop after so many evaluations without a better one."""
    average: int = Field(1, ge=1)
    """How many last checkpoints are averaged at the end; kept if better on dev than the best one."""
    seed: int = Field(1, ge=0, lt=1 << 32)
    tensorboard: bool = False
    """Also write TensorBoard's events (extra `tensorboard`)."""

    @model_validator(mode="after")
    def _has_one_end(self) -> "TrainingConfig":
        if self.updates is None and self.epochs is None:
            raise ValueError("when to stop is missing: `updates`, or `epochs`")
        if self.updates is not None and self.epochs is not None:
            raise wrong(("epochs",), "`updates` says already when to stop; give one of them", self.epochs)
        return self


class DataConfig(Config):
    """The corpora of a task."""

    root: Path | None = None
    """Where the paths below begin; without it the variable KOTYA_DATA, else the folder `data`."""

    @abstractmethod
    def learned_from(self, root: Path) -> dict[str, Path]:
        """The files that a model is made by, by their place in the recipe: all but the test set."""


class AdapterOf(Config):
    """Of a folder that holds an adapter and not a whole model: what it adapts, and how."""

    base: str
    """The folder of the base, as it lies from this one."""
    content: str
    """A hash of the base's weights and vocabulary: with others the adapter means nothing."""
    adapt: AdaptConfig


class FolderConfig(Config):
    """`config.json`: all that is needed to build and use the model."""

    format: Literal[1] = 1
    kotya: str = __version__
    task: str
    model: Any
    adapter: AdapterOf | None = None
    """Where most of the weights, and the vocabulary, are those of another folder."""

    @abstractmethod
    def build(self, vocabularies: Vocabularies) -> nn.Module:
        """The model with fresh weights."""


@dataclass(frozen=True)
class Known:
    """What a run begins with: what its folder says when it goes on, or the folder of its base."""

    config: FolderConfig
    vocabularies: Vocabularies


@dataclass(frozen=True)
class Prepared:
    """A task with its data read, and what the folder of its model will hold."""

    task: Task
    config: FolderConfig
    vocabularies: Vocabularies


class TaskRecipe(Config):
    """All of a run."""

    task: str
    base: Path | None = None
    """A model folder to begin with: its weights, settings and vocabulary; or, of an encoder, one of Hugging Face's."""
    data: DataConfig
    vocabulary: Any = None
    model: Any = None
    adapt: AdaptConfig | None = None
    """Train an adapter for the base instead of the base itself."""
    training: TrainingConfig

    @model_validator(mode="before")
    @classmethod
    def _vocabulary_by_default(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("base") is None:
            return {**given, "vocabulary": given.get("vocabulary") or {}}
        return given

    @model_validator(mode="after")
    def _base_or_model(self) -> "TaskRecipe":
        if self.base is None and self.model is None:
            raise ValueError("what to start from is missing: `base`, a model folder, or `model`")
        if self.base is None and self.adapt is not None:
            raise wrong(("adapt",), "there is no base to adapt; name its folder in `base`", None)
        for key in ("vocabulary", "model"):
            if self.base is not None and getattr(self, key) is not None:
                message = f"the base {self.base} brings its own; leave one of the two out"
                raise wrong((key,), message, self.base)
        return self

    @abstractmethod
    def check(self) -> None:
        """Raises KotyaError where the parts of the model do not fit, before any work."""

    @abstractmethod
    def prepare(
        self, known: Known | None, cache: Path, say: Callable[[str], None], *, progress: bool = True
    ) -> Prepared:
        """Read the data, learn the vocabularies and labels, or take those known. Raises KotyaError for bad input.

        `cache` is where token caches are kept; `say` tells the person what was found.
        """

    def data_root(self) -> Path:
        """The recipe's own root, else KOTYA_DATA, else `data`."""
        return self.data.root or Path(os.environ.get("KOTYA_DATA", "data"))

    def to_yaml(self) -> str:
        """The whole recipe, every setting written out: it rebuilds the run by itself."""
        content = self.model_dump(mode="json")  # nulls too: not all of them are what is meant without
        ordered = {name: content[name] for name in SECTIONS if content.get(name) is not None}
        return yaml.safe_dump(ordered, sort_keys=False, allow_unicode=True)
