"""Lines that are being searched together: what greedy search, beam search and sampling share.

A batch takes new lines whenever it has room and gives finished ones away at once. A line may stand in several rows.
"""

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from kotya.errors import Fault
from kotya.models.seq2seq import Memory
from kotya.search.ensemble import Ensemble, EnsembleState
from kotya.search.hypothesis import Hypothesis, Roles, SearchLine

Answer = tuple[SearchLine, list[Hypothesis]]


class Batch(ABC):
    """A running batch over one ensemble."""

    def __init__(self, ensemble: Ensemble, roles: Roles) -> None:
        self.ensemble, self.roles = ensemble, roles
        self.state: EnsembleState | None = None

    @abstractmethod
    def __len__(self) -> int:
        """Lines in work."""

    @abstractmethod
    def admit(self, lines: Sequence[SearchLine]) -> list[Answer]:
        """Read new lines and join them to the batch; those that were over at once come back."""

    @abstractmethod
    def step(self) -> list[Answer]:
        """One token more for every row; lines that are over leave."""

    def enter(self, state: EnsembleState) -> None:
        """Join rows to the running ones."""
        self.state = state if self.state is None else self.state.join(state)

    def begin(self, lines: Sequence[SearchLine]) -> list["Beginning"]:
        """Read lines, and their forced prefixes, in groups of equal prefix length."""
        groups: dict[int, list[SearchLine]] = defaultdict(list)
        for line in lines:
            groups[len(line.prefix)].append(line)
        return [self._begin(group) for group in groups.values()]

    def _begin(self, lines: list[SearchLine]) -> "Beginning":
        ensemble = self.ensemble
        memories = ensemble.encode([line.source for line in lines])
        inputs = torch.tensor([[self.roles.begin, *line.prefix] for line in lines], device=ensemble.device)
        if inputs.shape[1] == 1:
            logits, state = ensemble.extend(inputs, ensemble.start(memories))
            return Beginning(lines, memories, state, logits, torch.zeros(len(lines), device=logits.device))
        logits, state = ensemble.extend(inputs, ensemble.start(memories), all_positions=True)
        chosen = logits[:, :-1].float().log_softmax(-1).gather(2, inputs[:, 1:, None])
        return Beginning(lines, memories, state, logits[:, -1], chosen[..., 0].sum(1))

    def no_number(self, line: SearchLine) -> Fault:
        """The error for a line whose probabilities are NaN."""
        return self.ensemble.no_number(f"line {line.number + 1}")

    def ban(self, scores: Float[Tensor, "rows vocabulary"]) -> Float[Tensor, "rows vocabulary"]:
        """No output holds these. After normalisation: the probability of the others does not change. In place."""
        for banned in self.roles.banned:
            scores[:, banned] = -torch.inf
        return scores


@dataclass
class Beginning:
    """Lines that were read, each in one row, and what comes first."""

    lines: list[SearchLine]
    memories: list[Memory]
    state: EnsembleState
    logits: Float[Tensor, "rows vocabulary"]
    log_probability: Float[Tensor, " rows"]
    """Of the forced prefix."""


@dataclass
class Growing:
    """A line and its one growing output, for searches with a row an output."""

    line: SearchLine
    cap: int
    tokens: list[int] = field(default_factory=list)
    over: bool = False
