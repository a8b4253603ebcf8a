"""Greedy search: y_t = argmax p(y | y_<t, x), one row a line and nothing to reorder.

A line that ended stays as an idle row until a quarter of the rows are idle: dropping rows copies the caches of the
others, and waiting a little is cheaper than copying at every end.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from kotya.search.batch import Answer, Batch, Beginning, Growing
from kotya.search.candidates import best
from kotya.search.config import SearchConfig
from kotya.search.ensemble import Ensemble
from kotya.search.hypothesis import Hypothesis, Roles, SearchLine

_IDLE = 0.25


class Greedy(Batch):
    """A batch of greedy searches. Without `scores` no probability is computed at all: the highest logit is enough."""

    def __init__(self, ensemble: Ensemble, roles: Roles, config: SearchConfig, *, scores: bool) -> None:
        super().__init__(ensemble, roles)
        self.config, self.scores = config, scores
        self.penalty = config.penalty()
        self.rows: list[Growing] = []
        self.next = torch.empty(0, dtype=torch.long, device=ensemble.device)
        self.total = torch.empty(0, device=ensemble.device)

    def __len__(self) -> int:
        return sum(not row.over for row in self.rows)

    @torch.inference_mode()
    def admit(self, lines: Sequence[SearchLine]) -> list[Answer]:
        self._drop_idle()
        return [answer for beginning in self.begin(lines) for answer in self._enter(beginning)]

    def _enter(self, beginning: Beginning) -> list[Answer]:
        rows = [Growing(line, self.config.cap(line), list(line.prefix)) for line in beginning.lines]
        chosen, total = self._choose(beginning.logits, beginning.log_probability, rows)
        self.enter(beginning.state)
        self.rows += rows
        self.next, self.total = torch.cat([self.next, chosen]), torch.cat([self.total, total])
        return self._grow(rows, chosen, total)

    @torch.inference_mode()
    def step(self) -> list[Answer]:
        assert self.state is not None
        logits, self.state = self.ensemble.extend(self.next[:, None], self.state)
        self.next, self.total = self._choose(logits, self.total, self.rows)
        answers = self._grow(self.rows, self.next, self.total)
        if sum(row.over for row in self.rows) >= _IDLE * len(self.rows):
            self._drop_idle()
        return answers

    def _choose(self, logits: Tensor, total: Tensor, rows: list[Growing]) -> tuple[Tensor, Tensor]:
        """The next token of each row and the sum of log p with it; without `scores` 0, or NaN where a logit is."""
        scores = self.ban(logits.float().log_softmax(-1) if self.scores else logits)
        chosen = best(scores)
        if not self.scores:
            total = total + 0.0 * scores.gather(1, chosen[:, None])[:, 0]
        last = [i for i, row in enumerate(rows) if len(row.tokens) >= row.cap - 1]
        if last:
            chosen[last] = self.roles.end
        if self.scores:
            total = total + scores.gather(1, chosen[:, None])[:, 0]
        return chosen, total

    def _grow(self, rows: list[Growing], chosen: Tensor, total: Tensor) -> list[Answer]:
        ended = []
        for i, (row, token) in enumerate(zip(rows, chosen.tolist(), strict=True)):
            if row.over:
                continue
            if token != self.roles.end:
                row.tokens.append(token)
            else:
                ended.append(i)
        answers: list[Answer] = []
        sums = total.tolist() if ended else []
        for row, log_probability in ((rows[i], sums[i]) for i in ended):
            if math.isnan(log_probability):
                raise self.no_number(row.line)
            row.over = True
            length = len(row.tokens) + 1
            if not self.scores:
                log_probability = math.nan
            score = log_probability / self.penalty(length)
            answers.append(
                (row.line, [Hypothesis(row.tokens, log_probability, score, finished=length < row.cap)])
            )
        return answers

    def _drop_idle(self) -> None:
        """Idle rows leave, and the caches of the others close ranks."""
        kept = [i for i, row in enumerate(self.rows) if not row.over]
        if len(kept) == len(self.rows):
            return
        self.rows = [self.rows[i] for i in kept]
        if not kept:
            self.state = None
        elif self.state is not None:
            self.state = self.state.select(torch.tensor(kept, device=self.next.device))
        self.next, self.total = self.next[kept], self.total[kept]
