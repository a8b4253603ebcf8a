"""Attention with one head and any score: c_t = Σ_k a_tk s_k, a_t = softmax_k(score(h_t, s_k)) (Bahdanau et al. 2015).

The softmax is over the real positions of the source. `SoftAttention` answers all queries of a text at once, or, where
each query depends on the answer before, one at a time (`steps`), with the gradients of keys and values then taken once
for all steps.
"""

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from kotya.attention.caches import SourceIndex
from kotya.attention.kernels import exact_type
from kotya.attention.local import LocalWindow
from kotya.attention.recorder import record, recording
from kotya.attention.scores import BilinearScore, DotScore, MLPScore
from kotya.attention.stepwise import MLPSteps, ProductSteps

Queries = Float[Tensor, "rows queries query_size"]


@dataclass
class Source:
    """What attention reads of the source, an entry a line."""

    prepared: Float[Tensor, "lines source prepared"]
    """The keys as the score made them ready."""
    values: Float[Tensor, "lines source size"]
    lengths: Int[Tensor, " lines"]
    mask: Float[Tensor, "lines 1 source"] | None = field(init=False)
    """0 at real positions, -inf behind them; None where nothing is padded."""

    def __post_init__(self) -> None:
        real = torch.arange(self.values.shape[1], device=self.lengths.device) < self.lengths[:, None]
        self.mask = None
        if not bool(real.all()):
            zeros = torch.zeros(real.shape, device=real.device)
            self.mask = zeros.masked_fill_(~real, -math.inf)[:, None]

    def select(self, lines: Int[Tensor, " kept"]) -> "Source":
        """Those lines, and no more columns than they fill."""
        lengths = self.lengths[lines]
        longest = int(lengths.max()) if len(lines) else 0
        return Source(self.prepared[lines, :longest], self.values[lines, :longest], lengths)

    def join(self, other: "Source") -> "Source":
        """The lines of both, this one's first."""
        return Source(
            _joined(self.prepared, other.prepared),
            _joined(self.values, other.values),
            torch.cat([self.lengths, other.lengths]),
        )


def _joined(
    first: Float[Tensor, "lines source size"], second: Float[Tensor, "others longer size"]
) -> Float[Tensor, "all longest size"]:
    longest = max(first.shape[1], second.shape[1])
    padded = [nn.functional.pad(x, (0, 0, 0, longest - x.shape[1])) for x in (first, second)]
    return torch.cat(padded)


class SoftAttention(nn.Module):
    """A score, and perhaps a window to which it is confined."""

    def __init__(self, score: nn.Module, window: LocalWindow | None = None) -> None:
        """`score` speaks the contract of `Score`; a person's own need not derive from it."""
        super().__init__()
        self.score: Any = score
        self.window = window

    def read(
        self,
        keys: Float[Tensor, "rows source key_size"],
        values: Float[Tensor, "rows source size"],
        lengths: Int[Tensor, " rows"],
    ) -> Source:
        """A memory, made ready once a sentence."""
        return Source(self.score.prepare(keys), values, lengths)

    def forward(
        self,
        query: Queries,
        source: Source,
        index: SourceIndex,
        positions: Int[Tensor, "rows queries"] | None = None,
    ) -> Float[Tensor, "rows queries size"]:
        """The context of every query; `positions` are their places in the target, which a window needs."""
        context, weights = self.attend(query, source, index, positions)
        if recording(self):
            record(self, weights[:, None])
        return context

    def attend(
        self,
        query: Queries,
        source: Source,
        index: SourceIndex,
        positions: Int[Tensor, "rows queries"] | None = None,
    ) -> tuple[Float[Tensor, "rows queries size"], Float[Tensor, "lines many source"]]:
        """Contexts, and the weights in the order of `index`'s grid: rows, where every row has a line of its own."""
        count = query.shape[1]
        query = index.spread(query[:, :, None])[:, :, 0]
        scores: Tensor = exact_type(self.score.score(query, source.prepared))
        if source.mask is not None:
            scores = scores + source.mask
        if self.window is None:
            weights = scores.softmax(-1)
        else:
            assert positions is not None
            places = index.spread(positions[:, :, None, None].float())[:, :, 0, 0].long()
            weights = self.window.weights(scores, self.window.centre(query, places, source.lengths))
        context = weights.to(source.values.dtype) @ source.values
        return index.gather(context, count), weights

    def steps(self, source: Source, index: SourceIndex) -> "Steps":
        """For queries that come one at a time."""
        return Steps(self, source, index)


class Steps:
    """Attention in a loop over the target; `close` when the loop is over."""

    def __init__(self, attention: SoftAttention, source: Source, index: SourceIndex) -> None:
        self.attention, self.source, self.index = attention, source, index
        self.recording = recording(attention)
        self.weights: list[Tensor] = []
        self.fast = self._fast() if torch.is_grad_enabled() else None

    def _fast(self) -> MLPSteps | ProductSteps | None:
        """The hand-written step for the scores it knows."""
        score, source = self.attention.score, self.source
        if self.attention.window is not None:
            return None
        if type(score) is MLPScore:
            return MLPSteps(score, source.prepared, source.values, source.mask)
        if type(score) in (DotScore, BilinearScore):
            return ProductSteps(source.prepared, source.values, source.mask)
        return None

    def __call__(
        self, query: Float[Tensor, "rows query_size"], positions: Int[Tensor, " rows"]
    ) -> Float[Tensor, "rows size"]:
        """The context of the next query of every row."""
        if self.fast is not None:
            context, weights = self.fast(query)
        else:
            contexts, weights = self.attention.attend(
                query[:, None], self.source, self.index, positions[:, None]
            )
            context = contexts[:, 0]
        if self.recording:
            self.weights.append(weights)
        return context

    def close(self) -> None:
        """Hand all steps' weights to the recorder as one map."""
        if self.recording:
            record(self.attention, torch.cat(self.weights, dim=1)[:, None])
