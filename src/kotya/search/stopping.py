"""When a line's beam search is over, before the length cap ends it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from kotya.search.length import LengthPenalty


@runtime_checkable
class StopRule(Protocol):
    """Looks at one line after a step."""

    def __call__(self, finished: Sequence[float], best_open: float, length: int, cap: int) -> bool:
        """Scores of the finished, best first; Σ log p of the best open one; its length; the line's length cap."""


@dataclass(frozen=True)
class Exact:
    """No open hypothesis can still enter the n best.

    log p can only fall and the penalty is largest at the cap, so log p / penalty(cap) bounds the score of all that
    grow out of a hypothesis; the coverage penalty is never positive.
    """

    penalty: LengthPenalty
    nbest: int

    def __call__(self, finished: Sequence[float], best_open: float, length: int, cap: int) -> bool:
        return len(finished) >= self.nbest and best_open / self.penalty(cap) <= finished[self.nbest - 1]


@dataclass(frozen=True)
class FirstBeam:
    """As many hypotheses as the beam is wide have finished."""

    beam: int

    def __call__(self, finished: Sequence[float], best_open: float, length: int, cap: int) -> bool:
        return len(finished) >= self.beam


@dataclass(frozen=True)
class FullBeam:
    """As many as the beam is wide have finished, and the best open one, if its sum stayed as it is, beats none of them.

    This is the rule of `transformers` (`early_stopping=False`): a third fewer steps than `exact` costs, because it does
    not think of what a longer output's larger penalty could still make good.
    """

    penalty: LengthPenalty
    beam: int

    def __call__(self, finished: Sequence[float], best_open: float, length: int, cap: int) -> bool:
        return len(finished) >= self.beam and best_open / self.penalty(length) <= finished[self.beam - 1]
