"""What the training loop knows of a task: batches, named loss terms, and the metrics of a dev set."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

Indices = NDArray[np.int64]


@runtime_checkable
class Batch(Protocol):
    """Tensors of some examples."""

    tokens: int
    """Real target tokens, ends counted: what speed is measured in."""

    def to(self, device: torch.device) -> Any:
        """The same batch on a device."""


@dataclass(frozen=True)
class Evaluation:
    """What a dev set says of a model: metrics by name, and a few outputs to look at."""

    metrics: dict[str, float]
    samples: list[tuple[str, str, str]]
    """Source, output, reference."""


@runtime_checkable
class Task(Protocol):
    """A loss term is a sum over a batch; its weight, known before the forward pass, is what it is divided by, so that
    micro-batches and ranks add up to exactly what one batch gives."""

    metric: str
    """The metric that says which checkpoint is best."""

    lower_is_better: bool
    """Of that metric."""

    rounds: int
    """Of an epoch: a large corpus is drawn, sorted and sampled a part at a time."""

    def round(self, number: int) -> list[Indices]:
        """The examples of a round's batches; numbers run on from epoch to epoch. A pure function of (seed, number)."""

    def batch(self, indices: Indices, number: int) -> Any:
        """Examples of that round as tensors: a pure function of (seed, number, example)."""

    def weights(self, batch: Any) -> dict[str, float]:
        """What each loss term of the batch is divided by."""

    def losses(self, model: Any, batch: Any) -> dict[str, Float[Tensor, ""]]:
        """The summed loss terms. Those named `…nll` are for the report and have no gradient."""

    def evaluate(self, model: Any, autocast: Callable[[], Any]) -> Evaluation:
        """The metrics of the dev set."""
