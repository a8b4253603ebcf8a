"""Sampling: y_t ~ p(y | y_<t, x)^(1/temperature), cut to a top k (Fan et al. 2018) or a nucleus (Holtzman et al. 2020).

The uniform number behind each draw is a hash of (seed, line, draw, step), so a line's samples depend on nothing else.
Log p of a sample is the model's own, whatever it was drawn from.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor

from kotya.models.seq2seq import Memory
from kotya.search.batch import Answer, Batch, Beginning, Growing
from kotya.search.config import SamplingConfig, SearchConfig
from kotya.search.coverage import Coverage
from kotya.search.ensemble import Ensemble
from kotya.search.hypothesis import Hypothesis, Roles, SearchLine

_WORD = (1 << 64) - 1


def uniform(*numbers: int) -> float:
    """A number in [0, 1) that looks random: the mixing of splitmix64 (Steele et al. 2014) over the arguments."""
    state = 0x9E3779B97F4A7C15
    for number in numbers:
        state = (state ^ (number & _WORD)) * 0xBF58476D1CE4E5B9 & _WORD
        state = (state ^ (state >> 27)) * 0x94D049BB133111EB & _WORD
        state ^= state >> 31
    return (state >> 11) / (1 << 53)


def narrowed(
    log_p: Float[Tensor, "rows vocabulary"], config: SamplingConfig
) -> Float[Tensor, "rows vocabulary"]:
    """The distribution drawn from: tempered, cut, and summing to 1."""
    tempered = (log_p / config.temperature).softmax(-1)
    if config.top_k and config.top_k < tempered.shape[1]:
        least = tempered.topk(config.top_k, dim=-1).values[:, -1:]
        tempered = tempered.masked_fill(tempered < least, 0.0)
        tempered = tempered / tempered.sum(-1, keepdim=True)
    if config.top_p < 1.0:
        ordered, places = tempered.sort(dim=-1, descending=True)
        before = ordered.cumsum(-1) - ordered
        ordered = ordered.masked_fill(before >= config.top_p, 0.0)
        tempered = torch.zeros_like(tempered).scatter(1, places, ordered)
        tempered = tempered / tempered.sum(-1, keepdim=True)
    return tempered


def draw(probabilities: Float[Tensor, "rows vocabulary"], numbers: Sequence[float]) -> Int[Tensor, " rows"]:
    """The piece in whose share of [0, 1) the row's number falls."""
    bounds = probabilities.double().cumsum(-1)
    wanted = torch.tensor(numbers, dtype=torch.float64, device=bounds.device)[:, None] * bounds[:, -1:]
    place: Tensor = torch.searchsorted(bounds, wanted, right=True)[:, 0]
    return place.clamp(max=bounds.shape[1] - 1)


@dataclass
class Sampled(Growing):
    """One of a line's draws."""

    draw: int = 0
    rest: list["Sampled"] = field(default_factory=list)
    """All draws of the line."""
    memories: list[Memory] = field(default_factory=list)
    place: int = 0
    """Its line's row in the memories."""
    hypothesis: Hypothesis | None = None


class Sampling(Batch):
    """A batch of lines being sampled, `samples` rows a line."""

    def __init__(
        self, ensemble: Ensemble, roles: Roles, config: SearchConfig, sampling: SamplingConfig
    ) -> None:
        super().__init__(ensemble, roles)
        self.config, self.sampling = config, sampling
        self.penalty = config.penalty()
        self.coverage = (
            Coverage(ensemble, roles, config.coverage_penalty) if config.coverage_penalty else None
        )
        self.rows: list[Sampled] = []
        self.next = torch.empty(0, dtype=torch.long, device=ensemble.device)
        self.total = torch.empty(0, device=ensemble.device)

    def __len__(self) -> int:
        return len({row.line.number for row in self.rows if not row.over})

    @torch.inference_mode()
    def admit(self, lines: Sequence[SearchLine]) -> list[Answer]:
        return [answer for beginning in self.begin(lines) for answer in self._enter(beginning)]

    def _enter(self, beginning: Beginning) -> list[Answer]:
        rows: list[Sampled] = []
        memories = beginning.memories if self.coverage else []
        for place, line in enumerate(beginning.lines):
            cap = self.config.cap(line)
            draws = [
                Sampled(line, cap, list(line.prefix), draw=i, memories=memories, place=place)
                for i in range(self.sampling.samples)
            ]
            for one in draws:
                one.rest = draws
            rows += draws
        origin = torch.arange(len(beginning.lines), device=self.next.device)
        origin = origin.repeat_interleave(self.sampling.samples)
        chosen, total = self._choose(beginning.logits[origin], beginning.log_probability[origin], rows)
        self.enter(beginning.state.select(origin))
        self.rows += rows
        self.next, self.total = torch.cat([self.next, chosen]), torch.cat([self.total, total])
        answers = self._grow(rows, chosen, total)
        self._drop_idle()
        return answers

    @torch.inference_mode()
    def step(self) -> list[Answer]:
        assert self.state is not None
        logits, self.state = self.ensemble.extend(self.next[:, None], self.state)
        self.next, self.total = self._choose(logits, self.total, self.rows)
        answers = self._grow(self.rows, self.next, self.total)
        self._drop_idle()
        return answers

    def _choose(self, logits: Tensor, total: Tensor, rows: list[Sampled]) -> tuple[Tensor, Tensor]:
        log_p = self.ban(logits.float().log_softmax(-1))
        numbers = [uniform(self.sampling.seed, row.line.number, row.draw, len(row.tokens)) for row in rows]
        chosen = draw(narrowed(log_p, self.sampling), numbers)
        last = [i for i, row in enumerate(rows) if len(row.tokens) >= row.cap - 1]
        if last:
            chosen[last] = self.roles.end
        return chosen, total + log_p.gather(1, chosen[:, None])[:, 0]

    def _grow(self, rows: list[Sampled], chosen: Tensor, total: Tensor) -> list[Answer]:
        answers: list[Answer] = []
        for row, token, log_probability in zip(rows, chosen.tolist(), total.tolist(), strict=True):
            if token != self.roles.end:
                row.tokens.append(token)
                continue
            if math.isnan(log_probability):
                raise self.no_number(row.line)
            row.over = True
            length = len(row.tokens) + 1
            score = log_probability / self.penalty(length)
            if self.coverage:
                score += self.coverage([(row.memories, row.place, row.tokens)])[0]
            row.hypothesis = Hypothesis(row.tokens, log_probability, score, finished=length < row.cap)
            if all(one.over for one in row.rest):
                answers.append((row.line, [one.hypothesis for one in row.rest if one.hypothesis]))
        return answers

    def _drop_idle(self) -> None:
        kept = [i for i, row in enumerate(self.rows) if not row.over]
        if len(kept) == len(self.rows):
            return
        self.rows = [self.rows[i] for i in kept]
        index = torch.tensor(kept, dtype=torch.long, device=self.next.device)
        self.state = self.state.select(index) if kept and self.state is not None else None
        self.next, self.total = self.next[index], self.total[index]
