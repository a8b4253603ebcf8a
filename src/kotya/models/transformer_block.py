"""What Transformers are built of (Vaswani et al. 2017): embeddings, feed-forward layers, residuals, layer norm.

Post-norm, as in the paper: x ← norm(x + dropout(sublayer(x))). Pre-norm: x ← x + dropout(sublayer(norm(x))), with
one more norm at the end (Xiong et al. 2020). The modern block (RMSNorm, SwiGLU, no bias, rotary positions) is the
same code with other parts.
"""

import math
from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from pydantic import Field, model_validator
from torch import Tensor, nn

from kotya.attention.choices import (
    EVERYTHING,
    AttentionConfig,
    LayersAttention,
    form_of,
    not_across,
    not_by_kernel,
    not_causal,
    not_reached,
    not_shared,
    of_layer,
)
from kotya.attention.forms import Form
from kotya.attention.head_patterns import Kernel
from kotya.attention.multihead import MultiHeadAttention
from kotya.attention.positions import Layout, LearnedPositions, SinusoidalPositions
from kotya.config import Config, DropoutRate, wrong
from kotya.dropout import Dropout

Activation = Literal["relu", "gelu", "gelu_tanh", "swish", "swiglu", "geglu"]
Normalization = Literal["layer", "rms"]


class LayerConfig(Config):
    """What every layer of a Transformer is made of."""

    kind: str
    size: int = Field(256, ge=1)
    """Width of the residual stream."""
    heads: int = Field(4, ge=1)
    """Attention heads; they share the size between them."""
    feed_forward: int = Field(1024, ge=1)
    """Width inside the feed-forward layer."""
    dropout: DropoutRate = 0.1
    """On the embeddings and on the output of every sublayer (section 5.4 of the paper)."""
    attention_dropout: DropoutRate = 0.0
    """On the attention weights."""
    feed_forward_dropout: DropoutRate = 0.0
    """Inside the feed-forward layer, after the activation."""
    norm: Literal["post", "pre"] = "post"
    normalization: Normalization = "layer"
    activation: Activation = "relu"
    """`swiglu` and `geglu` have a gate, and a third matrix (Shazeer 2020)."""
    bias: bool = True
    """Biases on linear layers and norms."""


class BlockConfig(LayerConfig):
    """A layer, and the embeddings under the layers."""

    positions: Literal["sinusoidal", "learned", "rotary"] = "sinusoidal"
    position_layout: Layout = "interleaved"
    """Order of sines and cosines: the paper's, or MarianMT's halves."""
    max_length: int = Field(512, ge=1)
    """Trained positions, where positions are learned."""
    scale_embedding: bool = True
    """Multiply embeddings by √size."""
    encoder_attention: LayersAttention = EVERYTHING
    """Who sees whom in the source: a pattern, a linear form, or one for each layer."""
    decoder_attention: LayersAttention = EVERYTHING
    """The same in the target; nobody sees what comes after."""
    cross_attention: LayersAttention = EVERYTHING
    """How the target reads the source: full, global, random, linear or linformer."""
    kernel: Kernel = "auto"
    """How patterns are computed; `auto` takes the fastest, the result is the same."""

    @model_validator(mode="after")
    def _heads_share_the_size(self) -> "BlockConfig":
        check_heads(self.size, self.heads, rotary=self.positions == "rotary")
        for key, message in (
            ("decoder_attention", not_causal(self.decoder_attention)),
            ("cross_attention", not_across(self.cross_attention)),
            (
                "kernel",
                not_by_kernel(
                    self.kernel, self.encoder_attention + self.decoder_attention + self.cross_attention
                ),
            ),
        ):
            if message is not None:
                raise wrong((key,), message, None)
        for key in ("encoder_attention", "decoder_attention", "cross_attention"):
            message = not_shared(getattr(self, key), self.heads)
            if self.positions == "learned":
                message = message or not_reached(getattr(self, key), self.max_length)
            if message is not None:
                raise wrong((key,), message, None)
        return self

    def form(self, attention: tuple[AttentionConfig, ...], layer: int) -> Form | None:
        """How a layer attends; None where every query sees every key."""
        return form_of(
            of_layer(attention, layer),
            layer=layer,
            heads=self.heads,
            head_size=self.size // self.heads,
            max_length=self.max_length,
            kernel=self.kernel,
        )


def check_layers(attention: tuple[AttentionConfig, ...], layers: int, key: str) -> None:
    """Raises a ValidationError where there is neither one for all layers nor one for each."""
    if len(attention) not in (1, layers):
        message = f"{len(attention)} entries for {layers} layers: give one for all, or one a layer"
        raise wrong((key,), message, len(attention))


def check_heads(size: int, heads: int, *, rotary: bool = False) -> None:
    """Raises a ValidationError where the heads cannot share the size, or sines and cosines find no pairs in it."""
    if size % heads:
        raise wrong(
            ("heads",), f"{heads} heads cannot share size {size}: it must be a multiple of them", heads
        )
    if size % 2 or (rotary and size // heads % 2):
        even = f"size {size} (rotary positions: that of a head, {size // heads}) must be even"
        raise wrong(("size",), f"{even}: sines and cosines come in pairs", size)


class TransformerPartConfig(Config):
    """A Transformer encoder or decoder beside another kind of part; what is not here is as in the paper."""

    kind: Literal["transformer"]
    size: int = Field(256, ge=1)
    """Width of the residual stream, embeddings included."""
    heads: int = Field(4, ge=1)
    feed_forward: int = Field(1024, ge=1)
    layers: int = Field(3, ge=1)
    norm: Literal["post", "pre"] = "post"

    @model_validator(mode="after")
    def _heads_share_the_size(self) -> "TransformerPartConfig":
        check_heads(self.size, self.heads)
        return self

    @property
    def embedding_size(self) -> int:
        return self.size

    def block(self, dropout: float) -> BlockConfig:
        """The block of these sizes, the rest as in the paper."""
        return BlockConfig(
            kind=self.kind,
            size=self.size,
            heads=self.heads,
            feed_forward=self.feed_forward,
            norm=self.norm,
            dropout=dropout,
        )


def normalization(config: LayerConfig, epsilon: float | None = None) -> nn.Module:
    """Layer norm (Ba et al. 2016), or RMSNorm (Zhang and Sennrich 2019), which only scales.

    `epsilon` under the root: 1e-5 unless said, of RMSNorm 1e-6.
    """
    if config.normalization == "rms":
        return nn.RMSNorm(config.size, eps=epsilon or 1e-6)
    return nn.LayerNorm(config.size, eps=epsilon or 1e-5, bias=config.bias)


def linear(inputs: int, outputs: int, bias: bool) -> nn.Linear:
    layer = nn.Linear(inputs, outputs, bias=bias)
    nn.init.xavier_uniform_(layer.weight)
    if bias:
        nn.init.zeros_(layer.bias)
    return layer


class Embedding(nn.Module):
    """Token embedding · √size + position, with dropout on the sum."""

    looks_up = "weight"

    def __init__(self, config: BlockConfig, weight: nn.Parameter) -> None:
        super().__init__()
        self.weight = weight
        self.scale = math.sqrt(config.size) if config.scale_embedding else 1.0
        self.dropout = Dropout(config.dropout)
        self.positions: SinusoidalPositions | LearnedPositions | None = None
        if config.positions == "sinusoidal":
            self.positions = SinusoidalPositions(config.size, config.position_layout)
        elif config.positions == "learned":
            self.positions = LearnedPositions(config.size, config.max_length)
            nn.init.normal_(self.positions.weight, std=config.size**-0.5)

    def forward(
        self, ids: Int[Tensor, "rows length"], positions: Int[Tensor, "#rows length"], highest: int
    ) -> Float[Tensor, "rows length size"]:
        x = F.embedding(ids, self.weight) * self.scale
        if self.positions is not None:
            x = x + self.positions(positions, highest)
        kind = x.device.type
        if torch.is_autocast_enabled(kind):
            # the residual stream takes the cheap type as a whole: nothing is cast back and forth between layers
            x = x.to(torch.get_autocast_dtype(kind))
        dropped: Tensor = self.dropout(x)
        return dropped


def gelu_tanh(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """GELU by way of tanh (Hendrycks and Gimpel 2016), as BERT's first code and BigBird have it."""
    return F.gelu(x, approximate="tanh")


SMOOTH: dict[str, Callable[[Tensor], Tensor]] = {"gelu": F.gelu, "gelu_tanh": gelu_tanh, "swish": F.silu}


class FeedForward(nn.Module):
    """FFN(x) = activation(x W_inner) W_outer, or with a gate: (activation(x W_gate) · x W_inner) W_outer."""

    def __init__(self, config: LayerConfig) -> None:
        super().__init__()
        self.width = config.size
        self.activation = config.activation
        self.inner = linear(config.size, config.feed_forward, config.bias)
        gated = config.activation in ("swiglu", "geglu")
        self.gate = linear(config.size, config.feed_forward, config.bias) if gated else None
        self.outer = linear(config.feed_forward, config.size, config.bias)
        self.dropout = Dropout(config.feed_forward_dropout)

    def forward(self, x: Float[Tensor, "*tokens size"]) -> Float[Tensor, "*tokens size"]:
        inner = self.inner(x)
        if self.activation == "relu":
            hidden = self.dropout.relu(inner)
        elif self.gate is not None:
            gate = self.gate(x)
            hidden = self.dropout((F.silu(gate) if self.activation == "swiglu" else F.gelu(gate)) * inner)
        else:
            hidden = self.dropout(SMOOTH[self.activation](inner))
        output: Tensor = self.outer(hidden)
        return output


class Residual(nn.Module):
    """What stands around every sublayer: a norm before it or after it, dropout, and the sum with its input."""

    def __init__(self, config: LayerConfig, norm: nn.Module | None = None) -> None:
        """`norm`: another than that of the config."""
        super().__init__()
        self.norm = normalization(config) if norm is None else norm
        self.pre = config.norm == "pre"
        self.dropout = Dropout(config.dropout)

    def before(self, x: Float[Tensor, "*tokens size"]) -> Float[Tensor, "*tokens size"]:
        normed: Tensor = self.norm(x) if self.pre else x
        return normed

    def after(
        self, x: Float[Tensor, "*tokens size"], output: Float[Tensor, "*tokens size"]
    ) -> Float[Tensor, "*tokens size"]:
        total = self.dropout.add(x, output)
        normed: Tensor = total if self.pre else self.norm(total)
        return normed


def attention_layer(
    config: LayerConfig,
    *,
    rotary: bool,
    rotary_base: float = 10000.0,
    memory_size: int | None = None,
    form: Form | None = None,
    global_projections: bool = False,
) -> MultiHeadAttention:
    attention = MultiHeadAttention(
        config.size,
        config.heads,
        dropout=config.attention_dropout,
        bias=config.bias,
        rotary=rotary,
        rotary_base=rotary_base,
        memory_size=memory_size,
        form=form,
        global_projections=global_projections,
    )
    # as if query, key and value were one stacked matrix; with full gain the loss fell more slowly on every trial
    for layer in (attention.query, attention.key, attention.value):
        nn.init.xavier_uniform_(layer.weight, gain=2**-0.5)
    nn.init.xavier_uniform_(attention.output.weight)
    if config.bias:
        for layer in (attention.query, attention.key, attention.value, attention.output):
            nn.init.zeros_(layer.bias)
    return attention
