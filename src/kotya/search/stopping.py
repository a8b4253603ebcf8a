"""When a line's beam search is over, before the length cap ends it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from kotya.search.length import LengthPenalty


@runtime_checkable
class StopRule(Protocol):
    """Looks at one line after a step."""

    def __call__(self, finished: Sequence[float], best_open: float, cap: int) -> bool:
        """Scores of the finished hypotheses, best first; Σ log p of the best open one; the line's length cap."""


@dataclass(frozen=True)
class Exact:
    """No open hypothesis can still enter the n best.

    log p can only fall and the penalty is largest at the cap, so log p / penalty(cap) bounds the score of all that
    grow out of a hypothesis; the coverage penalty is never positive.
    """

    penalty: LengthPenalty
    nbest: int

    def __call__(self, finished: Sequence[float], best_open: float, cap: int) -> bool:
        return len(finished) >= self.nbest and best_open / self.penalty(cap) <= finished[self.nbest - 1]


@dataclass(frozen=True)
class FirstBeam:
    """As many hypotheses as the beam is wide have finished."""

    beam: int

    def __call__(self, finished: Sequence[float], best_open: float, cap: int) -> bool:
        return len(finished) >= self.beam
