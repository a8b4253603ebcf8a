"""Sequences side by side without padding, shortest first: what encoders read in training and in use."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from kotya.attention.packed import Packing
from kotya.errors import Fault
from kotya.models.bert import MaskedLM
from kotya.models.heads import SequenceModel, TokenModel
from kotya.text.sequences import Encoded

TOKENS = 4096
"""Of a batch that is only read, where nobody says otherwise."""


@dataclass(frozen=True)
class PackedBatch:
    """Tensors of some sequences, and what the loss compares with."""

    ids: Int[Tensor, " tokens"]
    segments: Int[Tensor, " tokens"]
    """0 for the first text, 1 for the second."""
    packing: Packing
    targets: dict[str, Tensor] = field(default_factory=dict)
    """By a task's own names, in the order of the sequences."""

    @property
    def tokens(self) -> int:
        return len(self.ids)

    def to(self, device: torch.device) -> "PackedBatch":
        return replace(
            self,
            ids=self.ids.to(device, non_blocking=True),
            segments=self.segments.to(device, non_blocking=True),
            packing=Packing.of(self.packing.lengths, device),
            targets={name: value.to(device, non_blocking=True) for name, value in self.targets.items()},
        )


def by_length(lengths: Sequence[int]) -> NDArray[np.int64]:
    """The order in which sequences stand in a batch."""
    return np.argsort(np.asarray(lengths), kind="stable")


def pack(sequences: Sequence[Encoded], targets: dict[str, Tensor] | None = None) -> PackedBatch:
    """A batch of sequences that are in order of length (see by_length)."""
    ids = np.concatenate([one.ids for one in sequences]).astype(np.int64)
    segments = np.concatenate([one.segments() for one in sequences])
    packing = Packing.of(tuple(len(one) for one in sequences), torch.device("cpu"))
    return PackedBatch(torch.from_numpy(ids), torch.from_numpy(segments), packing, targets or {})


def shuffled(examples: int | NDArray[np.int64], size: int, key: tuple[int, int]) -> list[NDArray[np.int64]]:
    """Batches of `size` of the examples, or of so many, in an order that the key draws."""
    drawn = np.random.default_rng(key).permutation(examples)
    return np.array_split(drawn, range(size, len(drawn), size))


def full_batches(lengths: Sequence[int], tokens: int = TOKENS) -> Iterator[NDArray[np.int64]]:
    """Sequences in batches of up to so many tokens, longest batch first, each in order of length."""
    order = by_length(lengths)
    stop = len(order)
    while stop:
        start, total = stop, 0
        while start and (total + lengths[order[start - 1]] <= tokens or start == stop):
            start -= 1
            total += lengths[order[start]]
        yield order[start:stop]
        stop = start


def read(model: MaskedLM | SequenceModel | TokenModel, batch: PackedBatch) -> Float[Tensor, "rows size"]:
    """What a model over an encoder makes of a batch; models that know no second segment get none.

    Raises Fault in use where that is no number; in training the loss says so.
    """
    segments = batch.segments if model.encoder.config.segments > 1 else None
    output: Tensor = model(batch.ids, batch.packing, segments)
    return output if model.training else finite(output)


def finite(output: Tensor) -> Tensor:
    """The same. Raises Fault where some of it is no number."""
    if not output.isfinite().all():
        raise Fault(
            "what the model predicts is not a number (NaN); its weights are broken, or too large for the precision it "
            "is used in"
        )
    return output


def predict(
    model: SequenceModel,
    sequences: Sequence[Encoded],
    autocast: Callable[[], Any] = nullcontext,
    tokens: int = TOKENS,
) -> Float[Tensor, "sequences outputs"]:
    """What a model of whole sequences says of each, in their order, in float32 on the CPU."""
    device = next(model.parameters()).device
    found: list[Tensor] = []
    order: list[int] = []
    with autocast():
        for indices in full_batches([len(one) for one in sequences], tokens):
            batch = pack([sequences[i] for i in indices]).to(device)
            found.append(read(model, batch).float().cpu())
            order += indices.tolist()
    places = torch.empty(len(order), dtype=torch.long)
    places[order] = torch.arange(len(order))
    return torch.cat(found)[places]


@torch.inference_mode()
def predict_windows(
    model: SequenceModel, rows: Sequence[Sequence[Encoded]]
) -> Iterator[Float[Tensor, "windows outputs"]]:
    """What a model of whole sequences says of every window of every row."""
    outputs = predict(model, [one for row in rows for one in row])
    yield from outputs.split([len(row) for row in rows])
