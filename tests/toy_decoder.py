"""A decoder small enough to know everything about: p(y_t | y_<t, x) is a table, so every output can be listed."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from torch import Tensor

from kotya.models.seq2seq import Decoder, Encoder, Memory, Seq2Seq
from kotya.search.batch import Batch
from kotya.search.hypothesis import Hypothesis, Roles, SearchLine
from kotya.search.schedule import search_lines

BEGIN, END, PIECES = 0, 1, 6
ROLES = Roles(BEGIN, END, (BEGIN,))


class ToyEncoder(Encoder):
    def forward(self, source: Tensor, lengths: Tensor) -> Memory:
        real = torch.arange(source.shape[1]) < lengths[:, None]
        total = (source * real * torch.arange(1, source.shape[1] + 1)).sum(1)
        x = total.float()[:, None, None].expand(-1, source.shape[1], 1)
        return Memory(keys=x, values=x, lengths=lengths)


@dataclass
class ToyState:
    positions: Tensor
    line: Tensor
    history: Tensor

    def select(self, rows: Tensor) -> "ToyState":
        return ToyState(self.positions[rows], self.line[rows], self.history[rows])

    def join(self, other: "ToyState") -> "ToyState":
        return ToyState(*(torch.cat([getattr(x, n) for x in (self, other)]) for n in self.__dict__))


class ToyDecoder(Decoder):
    """Logits are a fixed random function of the line and of a hash of all tokens so far."""

    def __init__(self, seed: int, sharpness: float) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.table = torch.nn.Parameter(sharpness * torch.randn(997, PIECES, generator=generator))

    def _logits(self, line: Tensor, history: Tensor) -> Tensor:
        return self.table[(line.long() * 31 + history) % 997]

    def forward(self, targets: Tensor, memory: Memory) -> Tensor:
        history = torch.zeros(len(targets), dtype=torch.long)
        hidden = []
        for column in targets.T:
            history = (history * 7 + column + 1) % 100_003
            hidden.append(self._logits(memory.keys[:, 0, 0], history))
        return torch.stack(hidden, 1)

    def output_weights(self) -> tuple[Tensor, None]:
        return torch.eye(PIECES), None

    def start(self, memory: Memory) -> ToyState:
        zeros = torch.zeros_like(memory.lengths)
        return ToyState(zeros, memory.keys[:, 0, 0], zeros.clone())

    def extend(self, tokens: Tensor, state: Any, *, all_positions: bool = False) -> tuple[Tensor, ToyState]:
        history, steps = state.history, []
        for column in tokens.T:
            history = (history * 7 + column + 1) % 100_003
            steps.append(self._logits(state.line, history))
        after = ToyState(state.positions + tokens.shape[1], state.line, history)
        return (torch.stack(steps, 1) if all_positions else steps[-1]), after


def toy(seed: int = 1, sharpness: float = 2.0) -> Seq2Seq:
    return Seq2Seq(ToyEncoder(), ToyDecoder(seed, sharpness)).eval()


def log_probabilities(models: list[Seq2Seq], source: list[int], outputs: list[list[int]]) -> list[float]:
    """Of each output with its end, in float64, from whole forward passes: the mean of the models' probabilities."""
    longest = max(map(len, outputs)) + 1
    padded = torch.tensor([[BEGIN, *tokens, *[END] * (longest - len(tokens))] for tokens in outputs])
    ids = torch.tensor([[*source, END]]).expand(len(outputs), -1)
    lengths = torch.full((len(outputs),), len(source) + 1)
    with torch.no_grad():
        each = [
            model.decoder.output(model(ids, lengths, padded[:, :-1])).double().softmax(-1) for model in models
        ]
    steps = torch.stack(each).mean(0).log().gather(2, padded[:, 1:, None])[..., 0]
    return [float(row[: len(tokens) + 1].sum()) for row, tokens in zip(steps, outputs, strict=True)]


def log_probability(models: list[Seq2Seq], source: list[int], tokens: list[int]) -> float:
    """Of one output."""
    return log_probabilities(models, source, [tokens])[0]


def ranked(
    models: list[Seq2Seq], source: list[int], outputs: list[list[int]], penalty: Callable[[int], float]
) -> list[tuple[float, list[int]]]:
    """Outputs with their scores, best first."""
    sums = log_probabilities(models, source, outputs)
    return sorted(
        ((total / penalty(len(tokens) + 1), tokens) for total, tokens in zip(sums, outputs, strict=True)),
        reverse=True,
    )


def every_output(longest: int) -> list[list[int]]:
    """All token sequences of fewer than `longest` tokens, so that with the end they have at most that many."""
    free = [token for token in range(PIECES) if token not in (BEGIN, END)]
    return [list(tokens) for length in range(longest) for tokens in product(free, repeat=length)]


def answers(
    make: Any, sources: list[list[int]], *, rows: int = 4, workers: int = 1
) -> list[list[Hypothesis]]:
    lines = [SearchLine(source, number=i) for i, source in enumerate(sources)]
    return list(search_lines(make, lines, rows=rows, workers=workers))


def one(batch: Batch, source: list[int], prefix: list[int] | None = None) -> list[Hypothesis]:
    [found] = search_lines(lambda: batch, [SearchLine(source, prefix or [])], rows=1)
    return found
