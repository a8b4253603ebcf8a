"""Beam search: of all one-token extensions of the open hypotheses of a line, the `beam` likeliest stay open.

At each step the 2·beam best extensions by Σ log p are looked at. Those among the first `beam` that end are finished;
the first `beam` that do not end are the next open ones (so finished hypotheses take no place in the beam). Finished
hypotheses are ranked by their score, log p / penalty(n) + coverage (Wu et al. 2016), and the stop rule says when no
more are wanted.
"""

import math
from bisect import insort
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from kotya.errors import Fault
from kotya.models.seq2seq import Memory
from kotya.search.batch import Answer, Batch, Beginning
from kotya.search.candidates import top
from kotya.search.config import SearchConfig
from kotya.search.coverage import Coverage
from kotya.search.ensemble import Ensemble
from kotya.search.hypothesis import Hypothesis, Roles, SearchLine
from kotya.search.trace import LineTrace


@dataclass
class Searched:
    """A line in the beam."""

    line: SearchLine
    cap: int
    length: int
    """Tokens of its open hypotheses so far."""
    memories: list[Memory]
    place: int
    """Its row in the memories."""
    finished: list[Hypothesis] = field(default_factory=list)
    """Best first."""
    trace: LineTrace | None = None


@dataclass
class Extensions:
    """The best extensions of every line's open hypotheses, best first; impossible ones are −inf."""

    total: Float[Tensor, "lines many"]
    parent: Int[Tensor, "lines many"]
    token: Int[Tensor, "lines many"]


class Beam(Batch):
    """A batch of beam searches; line l's open hypotheses are the rows l·beam … l·beam + beam − 1, best first."""

    def __init__(
        self,
        ensemble: Ensemble,
        roles: Roles,
        config: SearchConfig,
        *,
        traces: dict[int, LineTrace] | None = None,
    ) -> None:
        """`traces`, if given, gets the beam tree of every line, by the line's number."""
        super().__init__(ensemble, roles)
        self.config, self.traces = config, traces
        self.penalty, self.stop = config.penalty(), config.stop_rule()
        self.coverage = (
            Coverage(ensemble, roles, config.coverage_penalty) if config.coverage_penalty else None
        )
        self.lines: list[Searched] = []
        self.tokens = torch.empty(0, 0, dtype=torch.long, device=ensemble.device)
        self.total = torch.empty(0, config.beam, device=ensemble.device)
        self.last = torch.empty(0, dtype=torch.long, device=ensemble.device)

    def __len__(self) -> int:
        return len(self.lines)

    @torch.inference_mode()
    def admit(self, lines: Sequence[SearchLine]) -> list[Answer]:
        answers = []
        for beginning in self.begin(lines):
            answers += self._enter(beginning)
        return answers

    def _enter(self, beginning: Beginning) -> list[Answer]:
        """The first step has one row a line; after it the rows are as many as the beam."""
        lines = [
            Searched(
                line,
                self.config.cap(line),
                len(line.prefix),
                beginning.memories if self.coverage else [],
                place,
                trace=None if self.traces is None else LineTrace(line),
            )
            for place, line in enumerate(beginning.lines)
        ]
        prefixes = [line.prefix for line in beginning.lines]
        tokens = torch.tensor(prefixes, dtype=torch.long, device=self.tokens.device).view(len(lines), -1)
        extensions = self._extensions(lines, beginning.logits, beginning.log_probability[:, None])
        lines, rows, tokens, total, last, answers = self._advance(lines, tokens, extensions)
        if lines:
            self.enter(beginning.state.select(rows))
            self.lines += lines
            self.tokens = _join(self.tokens, tokens)
            self.total, self.last = torch.cat([self.total, total]), torch.cat([self.last, last])
        return answers

    @torch.inference_mode()
    def step(self) -> list[Answer]:
        assert self.state is not None
        logits, state = self.ensemble.extend(self.last[:, None], self.state)
        extensions = self._extensions(self.lines, logits, self.total)
        self.lines, rows, self.tokens, self.total, self.last, answers = self._advance(
            self.lines, self.tokens, extensions
        )
        self.state = state.select(rows) if self.lines else None
        return answers

    def _extensions(
        self,
        lines: list[Searched],
        logits: Float[Tensor, "rows vocabulary"],
        total: Float[Tensor, "lines open"],
    ) -> Extensions:
        """The 2·beam best of each line. A row gives at most beam + 1 of those that matter: one of them may end."""
        open_rows, beam = total.shape[1], self.config.beam
        log_p = self.ban(logits.float().log_softmax(-1))
        last = [i for i, line in enumerate(lines) if line.length >= line.cap - 1]
        if last:
            _force(log_p.view(len(lines), open_rows, -1), last, self.roles.end)
        count = min(beam + 1, log_p.shape[1])
        values, ids = top(log_p, count)
        sums = (total.flatten()[:, None] + values).view(len(lines), -1)
        if self.traces is not None:
            _record_distributions(lines, log_p, open_rows)
        if sums.shape[1] < 2 * beam:
            missing = 2 * beam - sums.shape[1]
            sums = torch.nn.functional.pad(sums, (0, missing), value=-torch.inf)
            ids = torch.nn.functional.pad(ids.view(len(lines), -1), (0, missing))
        best, chosen = sums.topk(2 * beam, dim=1)
        parent = (chosen // count).clamp(max=open_rows - 1)
        return Extensions(best, parent, ids.view(len(lines), -1).gather(1, chosen))

    def _advance(
        self, lines: list[Searched], tokens: Int[Tensor, "rows columns"], extensions: Extensions
    ) -> tuple[list[Searched], Tensor, Tensor, Tensor, Tensor, list[Answer]]:
        """Finish what ended, keep the best of the rest: lines left, their rows' parents, tokens, sums, last tokens."""
        beam = self.config.beam
        ends = extensions.token == self.roles.end
        order = ends.long().argsort(dim=1, stable=True)[:, :beam]
        open_total = extensions.total.masked_fill(ends, -torch.inf).gather(1, order)
        open_rows = len(tokens) // len(lines)
        first_row = torch.arange(len(lines), device=order.device)[:, None] * open_rows
        rows = first_row + extensions.parent
        over = ends[:, :beam] & extensions.total[:, :beam].isfinite()
        self._finish(lines, tokens, extensions, rows, over)
        kept, answers = self._stop(lines, extensions, order, open_total)
        index = torch.tensor(kept, dtype=torch.long, device=order.device)
        parents = rows.gather(1, order)[index].flatten()
        last = extensions.token.gather(1, order)[index].flatten()
        lines = [lines[i] for i in kept]
        ages = torch.tensor([line.length for line in lines], device=order.device).repeat_interleave(beam)
        grown = torch.nn.functional.pad(tokens[parents], (0, 1))
        columns = 1 + max((line.length for line in lines), default=0)
        grown = grown[:, :columns]
        if lines:
            grown[torch.arange(len(parents), device=order.device), ages] = last
        for line in lines:
            line.length += 1
        return lines, parents, grown, open_total[index], last, answers

    def _finish(
        self,
        lines: list[Searched],
        tokens: Tensor,
        extensions: Extensions,
        rows: Tensor,
        over: Tensor,
    ) -> None:
        """Hypotheses that ended, into the lists of their lines."""
        places = over.nonzero()
        if not len(places):
            return
        texts = tokens[rows[places[:, 0], places[:, 1]]].tolist()
        sums = extensions.total[places[:, 0], places[:, 1]].tolist()
        ended = []
        for (i, _), text, log_probability in zip(places.tolist(), texts, sums, strict=True):
            line = lines[i]
            length = line.length + 1
            score = log_probability / self.penalty(length)
            ended.append(
                (line, Hypothesis(text[: line.length], log_probability, score, finished=length < line.cap))
            )
        if self.coverage:
            penalties = self.coverage([(line.memories, line.place, h.tokens) for line, h in ended])
            ended = [
                (line, replace(hypothesis, score=hypothesis.score + penalty))
                for (line, hypothesis), penalty in zip(ended, penalties, strict=True)
            ]
        for line, hypothesis in ended:
            insort(line.finished, hypothesis, key=lambda one: -one.score)

    def _stop(
        self, lines: list[Searched], extensions: Extensions, order: Tensor, open_total: Tensor
    ) -> tuple[list[int], list[Answer]]:
        """Which lines go on, and the answers of the others."""
        kept, answers = [], []
        highest = torch.stack([extensions.total[:, 0], open_total[:, 0]], dim=1).tolist()
        for i, (line, (best, best_open)) in enumerate(zip(lines, highest, strict=True)):
            if math.isnan(best):  # a NaN sorts before all numbers
                raise self.no_number(line.line)
            scores = [hypothesis.score for hypothesis in line.finished]
            hopeless = best_open == -torch.inf
            over = hopeless or self.stop(scores, best_open, line.length + 1, line.cap)
            if line.trace is not None:
                line.trace.step(extensions, i, order, self, over=over)
            if not over:
                kept.append(i)
                continue
            if not line.finished:
                raise Fault(
                    f"{self.ensemble.name}: every output for line {line.line.number + 1} has probability 0"
                )
            if line.trace is not None and self.traces is not None:
                self.traces[line.line.number] = line.trace
            answers.append((line.line, line.finished[: self.config.nbest]))
        return kept, answers


def _force(log_p: Float[Tensor, "lines open vocabulary"], lines: list[int], token: int) -> None:
    """Leave these lines only one token. In place."""
    forced = torch.full_like(log_p[lines], -torch.inf)
    forced[..., token] = log_p[lines][..., token]
    log_p[lines] = forced


def _join(first: Int[Tensor, "rows columns"], second: Int[Tensor, "others more"]) -> Int[Tensor, "all most"]:
    """Both, padded on the right to the wider one."""
    columns = max(first.shape[1], second.shape[1])
    padded = [torch.nn.functional.pad(x, (0, columns - x.shape[1])) for x in (first, second)]
    return torch.cat(padded)


def _record_distributions(lines: list[Searched], log_p: Tensor, open_rows: int) -> None:
    values, ids = log_p.topk(min(10, log_p.shape[1]), dim=1)
    values, ids = (x.view(len(lines), open_rows, -1) for x in (values, ids))
    for line, value, token in zip(lines, values.tolist(), ids.tolist(), strict=True):
        assert line.trace is not None
        line.trace.distributions(value, token)
