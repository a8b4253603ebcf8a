"""LoRAs in and out in PEFT's form: `adapter_config.json`, `adapter_model.safetensors`, names as in `transformers`.

    lora_A [r, inputs], lora_B [outputs, r]             down, up        W' = W + (α/r) BA
    lora_embedding_A [r, pieces], ..._B [size, r]       down, up        of a table
    lora_magnitude_vector [outputs]                     length          DoRA
    modules_to_save                                     the head, and norms where they are trained

Where one weight of theirs holds several of ours (ModernBERT's `Wqkv` has query, key and value), one change of theirs
is as many of ours with one A, and several of ours are one of theirs of a higher rank: A₁ over A₂, B₁ and B₂ each in its
rows and its columns, nothing elsewhere.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from kotya.interop.encoders import family_of, theirs_says
from kotya.interop.family import Family, Head
from kotya.models.bert import BertConfig
from kotya.tasks.settings import FolderConfig
from kotya.text.vocabulary import Vocabulary

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."
"""What the names of all of their tensors begin with."""
TASK_TYPES: dict[Head, str] = {"classification": "SEQ_CLS", "tagging": "TOKEN_CLS"}


@dataclass(frozen=True)
class Change:
    """Of one weight: (α/r) BA, and of DoRA the lengths of its rows."""

    down: Tensor
    up: Tensor
    length: Tensor | None
    table: bool
    """Whether the weight is one of rows that are looked up, so that the change is (BA)ᵀ."""


@dataclass(frozen=True)
class Names:
    """Ours and theirs, for one model."""

    family: Family
    settings: BertConfig
    head: Head
    pad: int

    def theirs(self, name: str) -> str:
        """Their weight that holds one of ours; a bare encoder has no prefix."""
        found = self.family.place(name, self.settings, self.head, self.pad).name
        return found.removeprefix(self.family.prefix) if self.head == "encoder" else found

    def part(self, name: str) -> tuple[int, int]:
        """Which of how many that are stacked there."""
        place = self.family.place(name, self.settings, self.head, self.pad)
        return place.part, place.parts

    def inside(self, theirs: str) -> bool:
        """Whether a weight of theirs is the encoder's, and not one of what stands on it."""
        return self.head == "encoder" or theirs.startswith(self.family.prefix)


def names_of_model(config: FolderConfig, vocabulary: Vocabulary, path: Path) -> Names:
    """Of a model of ours. Raises KotyaError for a model that none of their families is."""
    head, _ = theirs_says(config, path)
    family = family_of(config, head, vocabulary, path)
    return Names(family, config.model, head, vocabulary.pad)


def same(tensor: Tensor, other: Tensor | None) -> bool:
    """Whether there is another and it holds the very same numbers."""
    return other is not None and torch.equal(tensor, other)
