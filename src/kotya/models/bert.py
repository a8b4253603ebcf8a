"""BERT (Devlin et al. 2019): a Transformer encoder that reads a text in both directions, and its two objectives.

Masked language model: p(x_i | the text with x_i masked) = softmax(E norm(gelu(W h_i)) + b), E the token embeddings.
Next sentence: p(the second text follows the first) from the pooled vector, tanh(W h_[CLS]).
The modern encoder (Warner et al. 2024, ModernBERT) is the same code by other settings: pre-norm, rotary positions,
GeGLU, no biases, and layers that read a window around each token between those that read all.
"""

from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from pydantic import Field, model_validator
from torch import Tensor, nn

from kotya.attention.choices import AttentionConfig, WindowConfig
from kotya.attention.packed import Packing
from kotya.attention.recorder import recording
from kotya.config import DropoutRate, wrong
from kotya.models.cross_entropy import linear_cross_entropy
from kotya.models.packed_layers import PackedEmbedding, PackedLayer, Rotations, StackConfig, initialise
from kotya.models.transformer_block import Activation, gelu_tanh


class BertConfig(StackConfig):
    """A BERT."""

    kind: Literal["bert"] = "bert"
    attention_dropout: DropoutRate = 0.1
    """On the attention weights."""
    activation: Activation = "gelu"
    """`swiglu` and `geglu` have a gate, and a third matrix (Shazeer 2020)."""
    segments: int = Field(2, ge=0)
    """Kinds of segment embeddings: 2 for pairs of texts, 0 for none."""
    local: int | None = Field(None, ge=2)
    """How wide a window local layers read: half of it to either side. None: every layer reads the whole text."""
    global_every: int = Field(3, ge=1)
    """Where there are local layers: the first of so many reads the whole text."""
    local_rotary_base: float = Field(10000.0, gt=1)
    """Of rotary positions in local layers."""
    pooler: Literal["tanh", "relu", "gelu", "gelu_tanh", "none"] = "tanh"
    """What turns the summary of a text into what its heads read: BERT's and RoBERTa's tanh(Wx + b), DistilBERT's with
    relu, BigBird's with gelu_tanh, ModernBERT's norm(gelu(Wx)); `none`: the summary itself."""
    pooling: Literal["first", "mean"] = "first"
    """The summary of a text: the vector of its first token, or the mean over its tokens."""

    @model_validator(mode="after")
    def _local_layers_turn(self) -> "BertConfig":
        if self.local is not None and self.local % 2:
            raise wrong(("local",), f"{self.local} is odd; a window has as much on either side", self.local)
        return self

    def is_local(self, layer: int) -> bool:
        """Whether it reads a window only."""
        return self.local is not None and layer % self.global_every != 0

    def attention_of(self, layer: int) -> AttentionConfig:
        if self.local is None or not self.is_local(layer):
            return super().attention_of(layer)
        return WindowConfig(kind="window", left=self.local // 2, right=self.local // 2)

    def build(self, vocabulary: int, *, pooler: bool = True) -> "Bert":
        """A model with fresh weights. `pooler`: whether a head is to read its pooled vectors."""
        return Bert(self, vocabulary, pooler=pooler)


def _published(layers: int, size: int) -> BertConfig:
    """Sizes of Devlin et al. 2019 and Turc et al. 2019: heads of 64, four times as wide inside."""
    return BertConfig(layers=layers, size=size, heads=size // 64, feed_forward=4 * size)


PRESETS: dict[str, BertConfig] = {
    "bert-tiny": _published(2, 128),
    "bert-mini": _published(4, 256),
    "bert-small": _published(4, 512),
    "bert-base": _published(12, 768),
    "bert-large": _published(24, 1024),
}

_GATES: dict[str, Any] = {"tanh": torch.tanh, "relu": F.relu, "gelu": F.gelu, "gelu_tanh": gelu_tanh}


class Bert(nn.Module):
    """The encoder: packed texts to a vector a token."""

    def __init__(self, config: BertConfig, vocabulary: int, *, pooler: bool) -> None:
        super().__init__()
        self.config = config
        self.embedding = PackedEmbedding(config, vocabulary, segments=config.segments, norm=True)
        self.layers = nn.ModuleList(self._layer(depth) for depth in range(config.layers))
        self.norm = config.new_norm() if config.norm == "pre" else nn.Identity()
        self.pooler = None
        if pooler and config.pooler != "none":
            self.pooler = Transform(config, config.pooler, norm=config.pooler == "gelu")
        initialise(self, config.initial_std)

    def _layer(self, depth: int) -> PackedLayer:
        config = self.config
        # the embedding ends with a norm: the first layer of a pre-norm model has none of its own
        first_norm = config.norm == "post" or depth > 0
        base = config.local_rotary_base if config.is_local(depth) else config.rotary_base
        return PackedLayer(config, form=config.form(depth), rotary_base=base, first_norm=first_norm)

    def forward(
        self, ids: Int[Tensor, " tokens"], packing: Packing, segments: Int[Tensor, " tokens"] | None = None
    ) -> Float[Tensor, "tokens size"]:
        """The last layer's vectors. Raises KotyaError for a text longer than learned positions reach."""
        x, rotations = self._embedded(ids, packing, segments)
        for layer in self.layers:
            x = layer(x, packing, rotations)
        hidden: Tensor = self.norm(x)
        return hidden

    def every_layer(
        self, ids: Int[Tensor, " tokens"], packing: Packing, segments: Int[Tensor, " tokens"] | None = None
    ) -> list[Float[Tensor, "tokens size"]]:
        """The embeddings, and what each layer made of them; the last is what `forward` gives."""
        x, rotations = self._embedded(ids, packing, segments)
        vectors = [x]
        for layer in self.layers:
            vectors.append(layer(vectors[-1], packing, rotations))
        vectors[-1] = self.norm(vectors[-1])
        return vectors

    def read(
        self, ids: Int[Tensor, " tokens"], packing: Packing, segments: Int[Tensor, " tokens"] | None = None
    ) -> Float[Tensor, "sequences size"]:
        """The pooled vectors of whole texts, of which nothing else is wanted.

        Where the first token stands for its text, the last layer works for it alone (of 6 layers, an eighth of the
        work); unless that is not one that reads everything, or its attention is being recorded.
        """
        *layers, last = self.layers
        assert isinstance(last, PackedLayer)
        if self.config.pooling == "mean" or last.attention.form is not None or recording(last.attention):
            return self.pooled(self(ids, packing, segments), packing)
        x, rotations = self._embedded(ids, packing, segments)
        for layer in layers:
            x = layer(x, packing, rotations)
        return self._through_pooler(self.norm(last.first(x, packing, rotations)))

    def _embedded(
        self, ids: Tensor, packing: Packing, segments: Tensor | None
    ) -> tuple[Float[Tensor, "tokens size"], Rotations]:
        x = self.embedding(ids, packing.positions, packing.longest, segments)
        return x, Rotations(packing.positions, x.dtype)

    def pooled(
        self, hidden: Float[Tensor, "tokens size"], packing: Packing
    ) -> Float[Tensor, "sequences size"]:
        """A vector a text."""
        if self.config.pooling == "first":
            return self._through_pooler(hidden.index_select(0, packing.starts))
        sums = hidden.new_zeros(len(packing.lengths), hidden.shape[1]).index_add(0, packing.rows, hidden)
        return self._through_pooler(sums / packing.counts[:, None].to(hidden.dtype))

    def _through_pooler(self, summary: Tensor) -> Tensor:
        pooled: Tensor = summary if self.pooler is None else self.pooler(summary)
        return pooled


class Transform(nn.Module):
    """activation(Wx + b), and perhaps a norm: what stands between hidden vectors and a head."""

    def __init__(
        self, config: BertConfig, activation: Literal["tanh", "relu", "gelu", "gelu_tanh"], *, norm: bool
    ) -> None:
        super().__init__()
        self.activation = activation
        self.dense = nn.Linear(config.size, config.size, bias=config.bias)
        self.norm = config.new_norm() if norm else nn.Identity()

    def forward(self, x: Float[Tensor, "*rows size"]) -> Float[Tensor, "*rows size"]:
        transformed: Tensor = self.norm(_GATES[self.activation](self.dense(x)))
        return transformed


class MaskedLM(nn.Module):
    """BERT with what it is pretrained by: it says which tokens were masked, and whether the second text follows."""

    def __init__(self, encoder: Bert, *, next_sentence: bool) -> None:
        """For `next_sentence` the encoder must have its pooler, where its config names one."""
        super().__init__()
        config = encoder.config
        self.encoder = encoder
        gelu: Literal["gelu", "gelu_tanh"] = "gelu_tanh" if config.activation == "gelu_tanh" else "gelu"
        self.transform = Transform(config, gelu, norm=True)
        self.output_bias = nn.Parameter(torch.zeros(len(encoder.embedding.tokens)))
        self.next_sentence = nn.Linear(config.size, 2) if next_sentence else None
        initialise(self.transform, config.initial_std)
        if self.next_sentence is not None:
            initialise(self.next_sentence, config.initial_std)

    def forward(
        self, ids: Int[Tensor, " tokens"], packing: Packing, segments: Int[Tensor, " tokens"] | None = None
    ) -> Float[Tensor, "tokens size"]:
        """The encoder's last layer; `masked_loss` and `logits` take the rows that matter."""
        hidden: Tensor = self.encoder(ids, packing, segments)
        return hidden

    def masked_loss(
        self, hidden: Float[Tensor, "masked size"], targets: Int[Tensor, " masked"]
    ) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """Summed cross-entropy at masked positions, differentiable and not, in nats; no logits are kept."""
        transformed = self.transform(hidden)
        return linear_cross_entropy(transformed, self.encoder.embedding.tokens, self.output_bias, targets)

    def logits(self, hidden: Float[Tensor, "*rows size"]) -> Float[Tensor, "*rows vocabulary"]:
        """Of every piece at these positions."""
        return F.linear(self.transform(hidden), self.encoder.embedding.tokens, self.output_bias)

    def next_sentence_logits(
        self, hidden: Float[Tensor, "tokens size"], packing: Packing
    ) -> Float[Tensor, "sequences 2"]:
        """Of column 0, that the second text follows, and of 1, that it was drawn at random."""
        assert self.next_sentence is not None
        logits: Tensor = self.next_sentence(self.encoder.pooled(hidden, packing))
        return logits
