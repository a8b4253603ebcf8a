"""How well a query h (the decoder's state) matches a key s (the encoder's): every score that the lecture shows.

    dot         score(h, s) = hᵀs                        (Luong et al. 2015, section 3.1)
    scaled-dot  score(h, s) = hᵀs / √size                (Vaswani et al. 2017, section 3.2.1)
    bilinear    score(h, s) = hᵀWs                       (Luong et al. 2015, "general")
    mlp         score(h, s) = w₂ᵀ tanh(W₁[h; s])         (Bahdanau et al. 2015, appendix A.1.2)

What depends on the keys alone is computed once a sentence by `prepare` and kept by the caller: in the decoder's state,
never on the module.
"""

import math
from abc import ABC, abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor, nn


class Score(nn.Module, ABC):
    """Any function of a query and a key, for all queries and keys of a row at once."""

    @abstractmethod
    def prepare(self, keys: Float[Tensor, "rows source key_size"]) -> Float[Tensor, "rows source prepared"]:
        """What of the score depends on the keys alone."""

    @abstractmethod
    def score(
        self, query: Float[Tensor, "rows queries query_size"], prepared: Float[Tensor, "rows source prepared"]
    ) -> Float[Tensor, "rows queries source"]:
        """The score of every query with every key; the keys as `prepare` made them."""


class DotScore(Score):
    """hᵀs, or hᵀs / √size. Query and key are of one size."""

    def __init__(self, size: int, *, scaled: bool = False) -> None:
        super().__init__()
        self.scale = 1.0 / math.sqrt(size) if scaled else 1.0

    def prepare(self, keys: Float[Tensor, "rows source size"]) -> Float[Tensor, "rows source size"]:
        return keys if self.scale == 1.0 else keys * self.scale

    def score(
        self, query: Float[Tensor, "rows queries size"], prepared: Float[Tensor, "rows source size"]
    ) -> Float[Tensor, "rows queries source"]:
        return query @ prepared.transpose(1, 2)


class BilinearScore(Score):
    """hᵀWs: the keys go through W once a sentence."""

    def __init__(self, query_size: int, key_size: int) -> None:
        super().__init__()
        self.key = nn.Linear(key_size, query_size, bias=False)

    def prepare(self, keys: Float[Tensor, "rows source key_size"]) -> Float[Tensor, "rows source query_size"]:
        prepared: Tensor = self.key(keys)
        return prepared

    def score(
        self,
        query: Float[Tensor, "rows queries query_size"],
        prepared: Float[Tensor, "rows source query_size"],
    ) -> Float[Tensor, "rows queries source"]:
        return query @ prepared.transpose(1, 2)


class MLPScore(Score):
    """w₂ᵀ tanh(W₁[h; s]) = w₂ᵀ tanh(W_h h + W_s s): the part of the keys is computed once a sentence.

    By tanh(x) = 2σ(2x) - 1, since the sigmoid takes a sixth of the time of the tanh on a CPU: what is prepared is
    2 W_s s, and the score is 2 w₂ᵀ σ(2 W_h h + 2 W_s s) - Σ w₂.
    """

    def __init__(self, query_size: int, key_size: int, size: int | None = None) -> None:
        """`size` is that of the hidden layer; as wide as the query where it is not given."""
        super().__init__()
        size = query_size if size is None else size
        self.query = nn.Linear(query_size, size, bias=False)
        self.key = nn.Linear(key_size, size, bias=False)
        self.outer = nn.Parameter(torch.empty(size))
        nn.init.uniform_(self.outer, -(size**-0.5), size**-0.5)

    def prepare(self, keys: Float[Tensor, "rows source key_size"]) -> Float[Tensor, "rows source size"]:
        prepared: Tensor = 2.0 * self.key(keys)
        return prepared

    def score(
        self, query: Float[Tensor, "rows queries query_size"], prepared: Float[Tensor, "rows source size"]
    ) -> Float[Tensor, "rows queries source"]:
        both = (2.0 * self.query(query))[:, :, None] + prepared[:, None]
        outer = self.outer.to(both.dtype)
        scores: Tensor = both.sigmoid() @ (2.0 * outer) - outer.sum()
        return scores
