"""What a family of encoders on Hugging Face is: how its `config.json` says what we say, and where its weights lie.

A reader and a writer know families only through this, so that one table of names serves both ways.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

import torch
from pydantic import BaseModel, ValidationError
from torch import Tensor

from kotya.config import explain
from kotya.errors import KotyaError
from kotya.models.bert import BertConfig
from kotya.models.transformer_block import Activation

Head = Literal["encoder", "masked_lm", "classification", "tagging"]
"""What stands on an encoder: nothing, what it was pretrained by, classes or a number a text, tags."""
POOLED: tuple[Head, ...] = ("encoder", "classification")
"""What stands on a pooler, or is one."""

CLASSES: dict[str, Head] = {
    "Model": "encoder",
    "ForMaskedLM": "masked_lm",
    "ForPreTraining": "masked_lm",
    "ForSequenceClassification": "classification",
    "ForTokenClassification": "tagging",
}
"""What the names of their classes end with; of two with one head the first is written."""

ACTIVATIONS: dict[str, Activation] = {"relu": "relu", "gelu": "gelu", "swish": "swish", "silu": "swish"}
"""Their names, and ours."""


@dataclass(frozen=True)
class Place:
    """Where a weight of ours is among theirs: a part of the rows of the one of that name."""

    name: str
    part: int = 0
    parts: int = 1
    """How many of ours are stacked there."""
    skipped: int = 0
    """Rows before it that are never read."""


class Family(ABC):
    """BERT, RoBERTa and so on."""

    model_type: ClassVar[str]
    prefix: ClassVar[str]
    """Of the encoder's weights in a model with a head; a bare encoder's have none."""
    stem: ClassVar[str]
    """What the names of its classes begin with."""

    @abstractmethod
    def settings(self, content: dict[str, Any], head: Head, path: Path) -> BertConfig:
        """What the `config.json` of a model with that head says.

        Raises KotyaError where it asks for what kotya's encoder does not do.
        """

    def under(self, model: BertConfig, head: Head) -> BertConfig:
        """The encoder of a model of this family, as it is under a head of another kind."""
        return model

    @abstractmethod
    def place(self, name: str, model: BertConfig, head: Head, pad: int) -> Place:
        """Of a weight of ours: `encoder.layers.0.attention.query.bias` and so on; `pad`, the id of padding."""

    @abstractmethod
    def lacks(self, model: BertConfig, head: Head) -> str | None:
        """What such a model has that this family has not; None where it can be written as one."""

    @abstractmethod
    def content(self, model: BertConfig, pad: int) -> dict[str, Any]:
        """The same in a `config.json`, but for what concerns vocabulary and head."""


def names_of(family: Family, name: str) -> tuple[str, ...]:
    """One of their names with the encoder's prefix, as it is and as a bare encoder has it."""
    bare = name.removeprefix(family.prefix)
    return (name,) if bare == name else (name, bare)


def ours_of(
    family: Family,
    stored: Mapping[str, Tensor],
    wanted: Mapping[str, Tensor],
    model: BertConfig,
    head: Head,
    pad: int,
    path: Path,
) -> tuple[dict[str, Tensor], list[str]]:
    """Our weights, in float32, and the names of theirs that nobody asked for.

    `wanted`: ours by name, of the right shape. Raises KotyaError where one is missing or of another shape.
    """
    stored = {_renamed(name): tensor for name, tensor in stored.items()}
    read: set[str] = set()
    found: dict[str, Tensor] = {}
    for name, shape in ((name, tensor.shape) for name, tensor in wanted.items()):
        place = family.place(name, model, head, pad)
        theirs = next((one for one in names_of(family, place.name) if one in stored), None)
        if theirs is None:
            raise KotyaError(f"{path}: {place.name} is missing")
        read.add(theirs)
        tensor = stored[theirs][place.skipped :]
        if len(tensor) % place.parts == 0:
            tensor = tensor.chunk(place.parts)[place.part]
        if tensor.shape != shape:
            have, need = (" × ".join(map(str, one)) for one in (stored[theirs].shape, shape))
            raise KotyaError(f"{path}: {theirs} is {have}, but config.json makes {name} of it, {need}")
        found[name] = tensor.to(torch.float32, copy=True).contiguous()
    return found, sorted(set(stored) - read)


def _renamed(name: str) -> str:
    """Checkpoints made from TensorFlow's call a norm's scale and shift gamma and beta."""
    for old, new in ((".gamma", ".weight"), (".beta", ".bias")):
        if name.endswith(old):
            return name.removesuffix(old) + new
    return name


def theirs_of(
    family: Family, ours: Mapping[str, Tensor], model: BertConfig, head: Head, pad: int
) -> dict[str, Tensor]:
    """The weights of theirs that hold ours."""
    rows: dict[str, list[tuple[int, Tensor]]] = {}
    for name, tensor in ours.items():
        place = family.place(name, model, head, pad)
        theirs = place.name.removeprefix(family.prefix) if head == "encoder" else place.name
        if place.skipped:
            tensor = torch.cat([tensor.new_zeros(place.skipped, *tensor.shape[1:]), tensor])
        rows.setdefault(theirs, []).append((place.part, tensor))
    return {
        name: torch.cat([tensor for _, tensor in sorted(parts, key=lambda one: one[0])])
        for name, parts in rows.items()
    }


Read = TypeVar("Read", bound=BaseModel)


def validated(kind: type[Read], content: dict[str, Any], path: Path) -> Read:
    """What is read of a file. Raises KotyaError naming the first key that is wrong."""
    try:
        return kind.model_validate(content)
    except ValidationError as problem:
        first = problem.errors()[0]
        raise KotyaError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None


def tying(head: Head) -> tuple[bool, ...]:
    """Which `tie_word_embeddings` are read: what fills in masks has the embeddings for its output, others have none."""
    return (True,) if head == "masked_lm" else (True, False)


def only(path: Path, settings: BaseModel, **expected: Iterable[Any]) -> None:
    """Raises KotyaError where a setting is none of those that are read."""
    for key, values in expected.items():
        found = getattr(settings, key)
        if found not in values:
            known = ", ".join(map(repr, values))
            raise KotyaError(f"{path}: {key} is {found!r}; read is {known}")


def build_settings(path: Path, **settings: Any) -> BertConfig:
    """Raises KotyaError where they do not fit together."""
    try:
        return BertConfig(**settings)
    except ValidationError as problem:
        raise KotyaError(f"{path}: {explain(problem, [BertConfig])[1]}") from None
