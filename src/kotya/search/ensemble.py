"""One model or several that predict together: p(y_t) is the mean of their probabilities.

This is all that search sees of models: encode lines, start, extend, select, join.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from kotya.errors import Fault
from kotya.models.lm import LanguageModel
from kotya.models.seq2seq import DecoderState, Memory, Seq2Seq


@dataclass
class EnsembleState:
    """The states of all models, row by row the same hypotheses."""

    states: list[Any]

    def select(self, rows: Int[Tensor, " kept"]) -> "EnsembleState":
        return EnsembleState([state.select(rows) for state in self.states])

    def join(self, other: "EnsembleState") -> "EnsembleState":
        pairs: zip[tuple[DecoderState, DecoderState]] = zip(self.states, other.states, strict=True)
        return EnsembleState([mine.join(theirs) for mine, theirs in pairs])


class Ensemble:
    """Models with equal target vocabularies. One model is an ensemble of one, at no cost.

    To a language model every source is the same: a prompt is a prefix of the output.
    """

    def __init__(self, models: Sequence[Seq2Seq | LanguageModel], end: int, name: str = "the model") -> None:
        """`name` is what errors call it."""
        self.models = list(models)
        self.end, self.name = end, name
        self.device = next(self.models[0].parameters()).device

    def encode(self, sources: Sequence[Sequence[int]]) -> list[Memory]:
        """A memory a model. Sources are without their end."""
        lengths = [len(source) + 1 for source in sources]
        longest = max(lengths)
        ids = [[*source, *[self.end] * (longest - len(source))] for source in sources]
        batch = torch.tensor(ids, device=self.device)
        counts = torch.tensor(lengths, device=self.device)
        return [model.encode(batch, counts) for model in self.models]

    def no_number(self, place: str) -> Fault:
        """The error for a probability that is NaN."""
        return Fault(
            f"{self.name}: what it predicts for {place} is not a number (NaN); "
            "its weights are broken, or too large for the precision it is used in"
        )

    def start(self, memories: Sequence[Memory]) -> EnsembleState:
        return EnsembleState(
            [model.decoder.start(memory) for model, memory in zip(self.models, memories, strict=True)]
        )

    def extend(
        self, tokens: Int[Tensor, "rows n"], state: EnsembleState, *, all_positions: bool = False
    ) -> tuple[Float[Tensor, "rows *n vocabulary"], EnsembleState]:
        """Logits (of several models: log of the mean probability, which is as good) and the state after the tokens."""
        logits, states = [], []
        for model, one in zip(self.models, state.states, strict=True):
            predicted, after = model.decoder.extend(tokens, one, all_positions=all_positions)
            logits.append(predicted)
            states.append(after)
        return mixed(logits), EnsembleState(states)


def mixed(logits: Sequence[Float[Tensor, "*rows vocabulary"]]) -> Float[Tensor, "*rows vocabulary"]:
    """log((p_1 + … + p_n) / n); the logits themselves where there is one model."""
    if len(logits) == 1:
        return logits[0]
    probabilities = torch.stack([one.float().log_softmax(-1) for one in logits])
    return probabilities.logsumexp(0) - math.log(len(logits))
