"""Coverage penalty (Wu et al. 2016, equation 14): β Σ_i log min(Σ_j a_ij, 1), a_ij target j's attention on source i.

A source position that got less than one whole attention from all target positions together costs score. The
attention is that of the last decoder layer, mean over its heads, of one forced pass over the hypotheses that just
ended: cached and whole decoding attend alike, so this is what the steps saw, and search keeps no attention.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from kotya.attention.reading import Reading, cross_layers, read, watch
from kotya.errors import KotyaError
from kotya.models.lm import LanguageModel
from kotya.models.seq2seq import Memory, Seq2Seq
from kotya.search.ensemble import Ensemble
from kotya.search.hypothesis import Roles

_LEAST = 1e-6
"""What a source position outside every window of local attention counts as having got."""


class Coverage:
    """β and what is needed to look at the attention."""

    def __init__(self, ensemble: Ensemble, roles: Roles, beta: float) -> None:
        self.ensemble, self.roles, self.beta = ensemble, roles, beta

    def __call__(self, ended: Sequence[tuple[list[Memory], int, list[int]]]) -> list[float]:
        """The penalties of hypotheses, each with the memories that hold its line, and the line's row there."""
        return [self._penalty(*one) for one in ended]

    def _penalty(self, memories: list[Memory], row: int, tokens: list[int]) -> float:
        inputs = torch.tensor([[self.roles.begin, *tokens]], device=self.ensemble.device)
        attention = torch.stack(
            [
                cross_attention(model, inputs, memory.line(row))
                for model, memory in zip(self.ensemble.models, memories, strict=True)
            ]
        ).mean(0)
        return self.beta * float(attention.sum(0).clamp(_LEAST, 1.0).log().sum())


def cross_attention(
    model: Seq2Seq | LanguageModel, inputs: Int[Tensor, "1 length"], memory: Memory
) -> Float[Tensor, "length source"]:
    """Attention of every target position on the source, mean over the heads of the last layer that looks there."""
    if not cross_layers(model.decoder):
        raise KotyaError(
            "the coverage penalty needs a decoder with attention over the source; this one has none"
        )
    last = Reading()
    with watch(model.decoder, last) as maps:
        model.decoder(inputs, memory)
    return read(maps, last)[0]
