"""Block-sparse attention as Hugging Face's BigBird has it in use (Zaheer et al. 2020; `transformers`, in eval mode).

A block of queries sees its own block of keys and those beside it, the first and the last; these two see all.
Each has r random blocks besides, but outside training all of them are the first block, which so counts m = 1 + r times:

    out = Σ m_k exp(s_k) v_k / Σ m_k exp(s_k),   m_k = 1 + r in the first block and 1 elsewhere

That is a bias of log m on the scores of a key, but those of queries in the first and the last block. A text of up to
(5 + 2r) blocks sees all of itself, each key once.
"""

import math
from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from kotya.attention.block_patterns import Ends, Neighbours
from kotya.attention.blocks import attend_dense
from kotya.attention.caches import Cache
from kotya.attention.forms import AnyText, Form, Other
from kotya.attention.head_patterns import HeadPatterns, Kernel, choose, tell
from kotya.attention.kernels import Heads, Keys, Queries, exact
from kotya.attention.packed import Packing, Tokens, attend_packed
from kotya.attention.patterns import Full, Pattern
from kotya.errors import KotyaError

Text = Float[Tensor, "length heads head_size"]


class BlockSparse(Form):
    """Of whole texts that read themselves."""

    def __init__(self, size: int, random: int, layer: int, kernel: Kernel) -> None:
        """`size`: positions in a block. `random`: how often the first block counts beside its once."""
        super().__init__()
        self.size, self.random = size, random
        self.patterns = HeadPatterns((Neighbours(size) | Ends(size),), layer, kernel)

    @property
    def whole(self) -> int:
        """The longest text that sees all of itself."""
        return (5 + 2 * self.random) * self.size

    def packed(
        self,
        query: Tokens,
        key: Tokens,
        value: Tokens,
        packing: Packing,
        *,
        causal: bool,
        dropout: float,
    ) -> Tokens:
        self._check(causal, False)
        if packing.longest <= self.whole:
            self._by_dense(query, dropout)
            return attend_packed(query, key, value, packing, dropout=dropout)
        return packing.text_by_text(partial(self._read, dropout=dropout), query, key, value)

    def rows(
        self,
        query: Queries,
        key: Keys,
        value: Keys,
        lengths: Int[Tensor, " rows"] | None,
        *,
        causal: bool = False,
        cross: bool = False,
        dropout: float = 0.0,
    ) -> Queries:
        """Row by row, without its padding, whose queries give zero."""
        self._check(causal, cross)
        longest = key.shape[1]
        ends = [longest] * len(key) if lengths is None else lengths.tolist()
        rows = []
        for q, k, v, end in zip(query.unbind(), key.unbind(), value.unbind(), ends, strict=True):
            read = self._read(q[:end], k[:end], v[:end], dropout)
            rows.append(F.pad(read, (0, 0, 0, 0, 0, longest - end)))
        return torch.stack(rows)

    def _read(self, query: Text, key: Text, value: Text, dropout: float) -> Text:
        """One text."""
        if len(query) <= self.whole:
            self._by_dense(query, dropout)
            return attend_dense(query, key, value, None, dropout)
        return self.patterns.attend(
            query, key, value, dropout=dropout, key_bias=self._key_bias(len(key), key)
        )

    def _by_dense(self, query: Tensor, dropout: float) -> None:
        """Said of a short text. Raises KotyaError where the kernel that was asked for could not read a long one."""
        patterns = self.patterns
        choose(patterns.kernel, patterns.patterns[0], self.whole + 1, query.shape[-1], query.device, dropout)
        tell("dense", Full(), patterns.layer)

    def _key_bias(self, length: int, like: Tensor) -> Float[Tensor, " length"]:
        """log m of each key."""
        bias = like.new_zeros(length)
        bias[: self.size] = math.log(1 + self.random)
        return bias

    def pattern(self, length: int, *, causal: bool = False, cross: bool = False) -> Pattern:
        """Who sees whom in a text of this length. Raises KotyaError but for a whole text that reads itself."""
        self._check(causal, cross)
        return Full() if length <= self.whole else self.patterns.patterns[0]

    def weights(
        self, query: Queries, key: Keys, lengths: Int[Tensor, " rows"] | None, *, causal: bool, cross: bool
    ) -> Float[Tensor, "rows heads queries read"]:
        self._check(causal, cross)
        longest = key.shape[1]
        biases = [
            self._bias(length, longest, query.device)
            for length in ([longest] * len(key) if lengths is None else lengths.tolist())
        ]
        _, weights = exact(query, key, key, mask=torch.stack(biases)[:, None])
        return weights

    def sparse_text(
        self, query: Text, key: Other, *wide: AnyText, causal: bool, cross: bool
    ) -> Float[Tensor, "heads queries keys"]:
        self._check(causal, cross)
        if len(query) > self.whole:
            bias = self._key_bias(len(key), key)
            return self.patterns.sparse_weights(query, key, causal=False, cross=False, key_bias=bias)
        _, weights = exact(query[None], key[None], key[None])
        return weights[0].to_sparse()

    def _bias(self, length: int, longest: int, device: torch.device) -> Float[Tensor, "longest longest"]:
        """On the scores of one text, whose padding sees what the rest of it does."""
        bias = torch.full((longest, longest), -math.inf, device=device)
        bias[:, :length] = 0.0
        if length > self.whole:
            seen = self.patterns.patterns[0].bind(length, length).mask().to(device)
            narrow = torch.ones(length, 1, device=device)
            narrow[list(Ends(self.size).wide_of(length))] = 0.0
            times = self._key_bias(length, bias)
            bias[:length, :length] = (narrow * times).masked_fill(~seen, -math.inf)
        return bias

    def new_cache(self, rows: int, heads: int, size: int, like: Float[Tensor, "*shape"]) -> Cache:
        raise _of_whole_texts()

    def extend(
        self, past: Cache, query: Heads, key: Heads, value: Heads, positions: Int[Tensor, "rows n"]
    ) -> Heads:
        raise _of_whole_texts()

    def source(self, key: Keys, value: Keys, lengths: Int[Tensor, " rows"]) -> Cache:
        raise _of_whole_texts()

    def across(
        self, query: Queries, source: Cache, positions: Int[Tensor, "rows queries"]
    ) -> Float[Tensor, "rows queries heads head_size"]:
        raise _of_whole_texts()

    @staticmethod
    def _check(causal: bool, cross: bool) -> None:
        if causal or cross:
            raise _of_whole_texts()


def _of_whole_texts() -> KotyaError:
    return KotyaError(
        "block-sparse attention is of a whole text that reads itself: its last block is seen by all; "
        "the pattern bigbird has every role"
    )
