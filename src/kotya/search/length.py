"""Length penalties: log p falls with every piece, so a sum would prefer short outputs; score = log p / penalty(n).

Average: n^α. Wu et al. 2016 (equation 14): ((5 + n) / 6)^α. n counts the end.
"""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable


@runtime_checkable
class LengthPenalty(Protocol):
    """What the sum of log p is divided by; never falls with n."""

    def __call__(self, length: int) -> float: ...


@dataclass(frozen=True)
class NoPenalty:
    """The plain sum."""

    def __call__(self, length: int) -> float:
        return 1.0


@dataclass(frozen=True)
class Average:
    """n^α: with α = 1 the mean log p a piece."""

    alpha: float

    def __call__(self, length: int) -> float:
        return float(length**self.alpha)


@dataclass(frozen=True)
class Wu:
    """((5 + n) / 6)^α."""

    alpha: float

    def __call__(self, length: int) -> float:
        return float(((5 + length) / 6) ** self.alpha)
