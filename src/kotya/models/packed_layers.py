"""What BERT and the left-to-right language model share: embeddings and layers over packed texts, [tokens, size].

x = dropout(norm(token + segment + position)) (Devlin et al. 2019, figure 2), then layers of attention and feed-forward.
"""

from collections.abc import Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from pydantic import Field, model_validator
from torch import Tensor, nn

from kotya.attention.caches import Cache
from kotya.attention.choices import (
    EVERYTHING,
    AttentionConfig,
    LayersAttention,
    form_of,
    not_by_kernel,
    not_reached,
    not_shared,
    of_layer,
    patterned,
)
from kotya.attention.features import FeatureMap
from kotya.attention.forms import Form, Patterned
from kotya.attention.head_patterns import Kernel
from kotya.attention.kernels import Mask
from kotya.attention.linformer import LengthProjection
from kotya.attention.packed import Packing
from kotya.attention.positions import LearnedPositions, Rotation, rotation
from kotya.config import wrong
from kotya.dropout import Dropout
from kotya.errors import KotyaError
from kotya.models.transformer_block import (
    FeedForward,
    LayerConfig,
    Residual,
    attention_layer,
    check_heads,
    check_layers,
    normalization,
)


class StackConfig(LayerConfig):
    """A stack of layers over packed texts."""

    layers: int = Field(2, ge=1)
    positions: Literal["learned", "rotary"] = "learned"
    max_length: int = Field(512, ge=1)
    """Tokens of the longest text it reads: where positions are learned, there are so many."""
    rotary_base: float = Field(10000.0, gt=1)
    """Of rotary positions: the slowest pair of features turns once in about 2π times as many tokens."""
    norm_epsilon: float = Field(1e-12, gt=0)
    """Under the root of every norm."""
    initial_std: float = Field(0.02, gt=0)
    """Of fresh matrices and embeddings (Devlin et al. 2019; Radford et al. 2018), which are 768 wide and wider. With it
    scores of attention in a narrow model begin near 0 and learn slowly; 1/√size is the same to it."""
    attention: LayersAttention = EVERYTHING
    """Who sees whom: a pattern, a linear form, or one for each layer."""
    kernel: Kernel = "auto"
    """How patterns are computed; `auto` takes the fastest, the result is the same."""
    global_projections: bool = False
    """Whether global positions read with projections of their own, as Longformer's do."""

    @model_validator(mode="after")
    def _heads_share_the_size(self) -> "StackConfig":
        check_heads(self.size, self.heads, rotary=self.positions == "rotary")
        check_layers(self.attention, self.layers, "attention")
        every = tuple(self.attention_of(layer) for layer in range(self.layers))
        message = not_by_kernel(self.kernel, every)
        if message is not None:
            raise wrong(("kernel",), message, self.kernel)
        message = not_reached(every, self.max_length) or not_shared(every, self.heads)
        if message is not None:
            raise wrong(("attention",), message, None)
        if self.global_projections and not any(map(patterned, every)):
            message = "no layer attends by a pattern, so none has global positions: set it to false"
            raise wrong(("global_projections",), message, True)
        return self

    def attention_of(self, layer: int) -> AttentionConfig:
        """Who sees whom in a layer."""
        return of_layer(self.attention, layer)

    def form(self, layer: int) -> Form | None:
        """How a layer attends; None where every query sees every key."""
        return form_of(
            self.attention_of(layer),
            layer=layer,
            heads=self.heads,
            head_size=self.size // self.heads,
            max_length=self.max_length,
            kernel=self.kernel,
        )

    def new_norm(self) -> nn.Module:
        return normalization(self, self.norm_epsilon)


class PackedEmbedding(nn.Module):
    """Tokens, segments and positions."""

    looks_up = "tokens"

    def __init__(self, config: StackConfig, vocabulary: int, *, segments: int, norm: bool) -> None:
        super().__init__()
        self.max_length = config.max_length
        self.tokens = nn.Parameter(torch.empty(vocabulary, config.size))
        self.segments = nn.Parameter(torch.empty(segments, config.size)) if segments else None
        learned = config.positions == "learned"
        self.positions = LearnedPositions(config.size, config.max_length) if learned else None
        self.norm = config.new_norm() if norm else nn.Identity()
        self.dropout = Dropout(config.dropout)

    def forward(
        self,
        ids: Int[Tensor, "*tokens"],
        positions: Int[Tensor, "*tokens"],
        longest: int,
        segments: Int[Tensor, "*tokens"] | None = None,
    ) -> Float[Tensor, "*tokens size"]:
        """`longest`: one more than the highest position. Without segments every token is of segment 0."""
        x = F.embedding(ids, self.tokens)
        if self.segments is not None:
            x = x + (self.segments[0] if segments is None else F.embedding(segments, self.segments))
        elif segments is not None:
            raise KotyaError("the model has no segments (model.segments is 0), but the texts come with some")
        if self.positions is not None:
            if longest > self.max_length:
                raise KotyaError(f"a text of {longest} tokens; the model reads {self.max_length} at most")
            x = x + self.positions(positions, longest - 1)
        kind = x.device.type
        if torch.is_autocast_enabled(kind):
            # the residual stream takes the cheap type as a whole, as in a translator
            x = x.to(torch.get_autocast_dtype(kind))
        dropped: Tensor = self.dropout(self.norm(x))
        return dropped


def stretched(tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of a base as a model for longer texts wants them (Beltagy et al. 2020, section 5).

    Learned positions are repeated as often as they have to be, and the projections of global positions begin as copies
    of the others.
    """
    fitted = dict(tensors)
    for name, parameter in wanted.items():
        if name.endswith("embedding.positions.weight") and name in tensors:
            known = tensors[name]
            if 0 < len(known) < len(parameter):
                fitted[name] = known.repeat(-(-len(parameter) // len(known)), 1)[: len(parameter)]
        elif ".wide." in name and name not in tensors and (twin := name.replace(".wide.", ".")) in tensors:
            fitted[name] = tensors[twin].clone()  # of its own: both may be trained, or written to one file
    return fitted


class PackedLayer(nn.Module):
    """Self-attention and feed-forward."""

    def __init__(
        self,
        config: StackConfig,
        *,
        causal: bool = False,
        form: Form | None = None,
        rotary_base: float | None = None,
        first_norm: bool = True,
    ) -> None:
        """`form`: where not every token sees every other. `first_norm`: whether one stands before attention."""
        super().__init__()
        self.causal = causal
        self.head_size = config.size // config.heads
        self.attention = attention_layer(
            config,
            rotary=config.positions == "rotary",
            rotary_base=rotary_base or config.rotary_base,
            form=form,
            global_projections=config.global_projections and isinstance(form, Patterned),
        )
        self.attention_residual = Residual(config, config.new_norm() if first_norm else nn.Identity())
        self.feed_forward = FeedForward(config)
        self.feed_forward_residual = Residual(config, config.new_norm())

    def forward(
        self, x: Float[Tensor, "tokens size"], packing: Packing, rotations: "Rotations"
    ) -> Float[Tensor, "tokens size"]:
        residual = self.attention_residual
        turned = rotations.of(self) if self.attention.rotary else None
        before = residual.before(x)
        read = self.attention.packed(before, packing, rotation=turned, causal=self.causal)
        x = residual.after(x, read)
        residual = self.feed_forward_residual
        return residual.after(x, self.feed_forward(residual.before(x)))

    def first(
        self, x: Float[Tensor, "tokens size"], packing: Packing, rotations: "Rotations"
    ) -> Float[Tensor, "sequences size"]:
        """The same, of the first token of every text alone: the others are read and not worked on."""
        residual = self.attention_residual
        turned = rotations.of(self) if self.attention.rotary else None
        read = self.attention.first(residual.before(x), packing, rotation=turned)
        chosen = residual.after(x.index_select(0, packing.starts), read)
        residual = self.feed_forward_residual
        return residual.after(chosen, self.feed_forward(residual.before(chosen)))

    def extend(
        self,
        x: Float[Tensor, "rows n size"],
        past: Cache,
        positions: Int[Tensor, "rows n"],
        mask: Mask | None,
    ) -> Float[Tensor, "rows n size"]:
        """The same for n new positions a row, behind the cached past, which takes the new keys."""
        residual = self.attention_residual
        x = residual.after(x, self.attention.extend(residual.before(x), past, positions, mask))
        residual = self.feed_forward_residual
        return residual.after(x, self.feed_forward(residual.before(x)))


class Rotations:
    """The angles of all tokens, taken once for all layers that turn with one base."""

    def __init__(self, positions: Int[Tensor, " tokens"], dtype: torch.dtype) -> None:
        self.positions, self.dtype = positions, dtype
        self.known: dict[float, Rotation] = {}

    def of(self, layer: PackedLayer) -> Rotation:
        base = layer.attention.rotary_base
        if base not in self.known:
            self.known[base] = rotation(self.positions, layer.head_size, self.dtype, base)
        return self.known[base]


def initialise(model: nn.Module, std: float) -> None:
    """Fresh weights, in place: matrices from a normal distribution of deviation `std`, biases 0, norms 1.

    What attention forms have of their own stays as they made it.
    """
    for module in model.modules():
        if isinstance(module, nn.LayerNorm | nn.RMSNorm | LengthProjection | FeatureMap):
            continue
        for name, parameter in module.named_parameters(recurse=False):
            if name == "bias":
                nn.init.zeros_(parameter)
            else:
                nn.init.normal_(parameter, std=std)
