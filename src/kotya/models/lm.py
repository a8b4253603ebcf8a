"""The left-to-right language model (Radford et al. 2018): BERT's layers with the causal mask guess the next token.

log p(x) = Σ_t log p(x_t | x_<t), p = softmax(E h_t), E the token embeddings. It is trained on packed texts and searched
as a translator's decoder is, with a memory that holds nothing.
"""

from typing import Literal

import torch
from jaxtyping import Float, Int
from pydantic import model_validator
from torch import Tensor, nn

from kotya.attention.caches import SourceIndex
from kotya.attention.choices import not_causal
from kotya.attention.packed import Packing
from kotya.config import wrong
from kotya.models.cross_entropy import linear_cross_entropy
from kotya.models.packed_layers import PackedEmbedding, PackedLayer, Rotations, StackConfig, initialise
from kotya.models.seq2seq import Decoder, Memory
from kotya.models.transformer_block import Activation
from kotya.models.transformer_decoder import TransformerState


class LanguageModelConfig(StackConfig):
    """A language model."""

    kind: Literal["lm"] = "lm"
    norm: Literal["post", "pre"] = "pre"
    activation: Activation = "gelu"
    """`swiglu` and `geglu` have a gate, and a third matrix (Shazeer 2020)."""
    norm_epsilon: float = 1e-5
    """Under the root of every norm."""

    @model_validator(mode="after")
    def _causal(self) -> "LanguageModelConfig":
        message = not_causal(self.attention)
        if message is not None:
            raise wrong(("attention",), message, None)
        if self.global_projections:
            message = "a language model has none: while a text grows, no position of it reads all"
            raise wrong(("global_projections",), message, True)
        return self

    def build(self, vocabulary: int) -> "LanguageModel":
        """A model with fresh weights."""
        return LanguageModel(self, vocabulary)


class LanguageDecoder(Decoder):
    """The whole of it, in the form that search knows."""

    def __init__(self, config: LanguageModelConfig, vocabulary: int) -> None:
        super().__init__()
        self.config = config
        pre = config.norm == "pre"
        self.embedding = PackedEmbedding(config, vocabulary, segments=0, norm=not pre)
        self.layers = nn.ModuleList(
            PackedLayer(config, causal=True, form=config.form(layer)) for layer in range(config.layers)
        )
        self.norm = config.new_norm() if pre else nn.Identity()
        initialise(self, config.initial_std)

    def output_weights(self) -> tuple[Float[Tensor, "vocabulary size"], None]:
        return self.embedding.tokens, None

    def read(self, ids: Int[Tensor, " tokens"], packing: Packing) -> Float[Tensor, "tokens size"]:
        """Hidden vectors of packed texts. Raises KotyaError for one longer than learned positions reach."""
        x = self.embedding(ids, packing.positions, packing.longest)
        rotations = Rotations(packing.positions, x.dtype)
        for layer in self.layers:
            x = layer(x, packing, rotations)
        hidden: Tensor = self.norm(x)
        return hidden

    def forward(
        self, targets: Int[Tensor, "rows length"], memory: Memory
    ) -> Float[Tensor, "rows length size"]:
        rows, length = targets.shape
        hidden = self.read(targets.flatten(), Packing.of([length] * rows, targets.device))
        whole: Tensor = hidden.unflatten(0, (rows, length))
        return whole

    def start(self, memory: Memory) -> TransformerState:
        rows = len(memory.lengths)
        layers = [layer for layer in self.layers if isinstance(layer, PackedLayer)]
        return TransformerState(
            positions=torch.zeros_like(memory.lengths),
            past=[layer.attention.new_cache(rows, memory.keys) for layer in layers],
            source=[],
            lengths=memory.lengths,
            index=SourceIndex(torch.arange(rows, device=memory.lengths.device), rows),
            dtype=memory.keys.dtype,
        )

    def extend(
        self, tokens: Int[Tensor, "rows n"], state: TransformerState, *, all_positions: bool = False
    ) -> tuple[Float[Tensor, "rows *n vocabulary"], TransformerState]:
        positions, mask = state.advance(tokens.shape[1])
        x = self.embedding(tokens, positions, state.oldest)
        for layer, past in zip(self.layers, state.past, strict=True):
            assert isinstance(layer, PackedLayer)
            x = layer.extend(x, past, positions, mask)
        hidden = self.norm(x if all_positions else x[:, -1])
        return self.output(hidden), state


class LanguageModel(nn.Module):
    """p(x), over packed texts in training and token by token in search."""

    def __init__(self, config: LanguageModelConfig, vocabulary: int) -> None:
        super().__init__()
        self.decoder = LanguageDecoder(config, vocabulary)

    def forward(self, ids: Int[Tensor, " tokens"], packing: Packing) -> Float[Tensor, "tokens size"]:
        """Hidden vectors; that of a token predicts the next one."""
        return self.decoder.read(ids, packing)

    def encode(self, source: Int[Tensor, "rows source"], lengths: Int[Tensor, " rows"]) -> Memory:
        """A memory of nothing for every row.

        What is searched for as a line's source is the begin piece and the prompt; search caps lengths by it.
        """
        nothing = self.decoder.embedding.tokens.new_empty(len(source), 0, self.decoder.config.size)
        return Memory(nothing, nothing, torch.zeros_like(lengths))

    def loss(
        self, hidden: Float[Tensor, "tokens size"], targets: Int[Tensor, " tokens"], *, smoothing: float = 0.0
    ) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """Summed smoothed cross-entropy and summed negative log-likelihood of the given positions, in nats."""
        return linear_cross_entropy(hidden, *self.decoder.output_weights(), targets, smoothing=smoothing)
