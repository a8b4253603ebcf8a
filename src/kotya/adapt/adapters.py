"""Adapters: small layers put into a frozen model (Houlsby et al. 2019, section 2).

    h' = h + W_up activation(W_down h + b) + b'

    houlsby    behind attention and behind the feed-forward layer, before the residual sum; layer norms are trained
    pfeiffer   behind the feed-forward layer alone, as Pfeiffer et al. 2021; h is its output, before the residual sum
    parallel   beside the feed-forward layer: h' = FFN(x) + s · W_up activation(W_down x) (He et al. 2022)

Theirs, in the adapters they published, reads norm(x + FFN(x)) instead and adds to FFN(x) before the sum and the norm.

The weights begin so small that the model begins as the base, near enough. Recurrent and convolutional models have them
at the layers that stand where attention and feed-forward stand in a Transformer.
"""

from collections.abc import Callable
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from kotya.adapt.place import Part, Targets
from kotya.config import Config, DropoutRate
from kotya.dropout import Dropout

_STD = 1e-2
"""Of fresh weights, cut off at two deviations (section 3.6 of Houlsby et al.)."""

_ATTENTION = ("attention.output", "cross.output", "context", "combine")
_FEED_FORWARD = (
    "feed_forward",
    *("forwards.*.input", "backwards.*.input", "stack.layers.*.input", "readout_state"),
    *("encoder.layers.*.linear", "convolution.linear"),
)
TARGETS = {"houlsby": (*_ATTENTION, *_FEED_FORWARD), "pfeiffer": _FEED_FORWARD, "parallel": _FEED_FORWARD}
"""Where the adapters of a kind stand by default."""

_ACTIVATIONS: dict[str, Any] = {"relu": F.relu, "gelu": F.gelu, "tanh": torch.tanh}


class BottleneckConfig(Config):
    """Small layers with a narrow middle."""

    kind: Literal["houlsby", "pfeiffer", "parallel"]
    size: int = Field(64, ge=1)
    """Of the middle."""
    activation: Literal["relu", "gelu", "tanh"] = "gelu"
    dropout: DropoutRate = 0.0
    """On what is added."""
    scale: float | None = Field(None, gt=0)
    """s of what is added; by default 1, parallel 4 (He et al. 2022, section 4.5)."""
    targets: Targets | None = None
    """Names of layers, as far from the end as needed, `*` for anything; by default those of the kind."""
    norms: bool | None = None
    """Whether layer norms are trained too; by default of houlsby."""
    held: Literal["float32", "int8"] = "float32"
    """What the frozen linear layers are kept in; int8 takes a quarter of the memory, and some accuracy."""


class Bottleneck(Part):
    """One adapter: behind a layer, or beside it. `beside`: a weight of the base, whose device and type it shares."""

    def __init__(self, config: BottleneckConfig, inputs: int, outputs: int, beside: Tensor) -> None:
        super().__init__()
        self.parallel = config.kind == "parallel"
        self.activation: Callable[[Tensor], Tensor] = _ACTIVATIONS[config.activation]
        self.scale = config.scale or (4.0 if self.parallel else 1.0)
        like: dict[str, Any] = {"device": beside.device, "dtype": beside.dtype}
        self.down = nn.Linear(inputs if self.parallel else outputs, config.size, **like)
        self.up = nn.Linear(config.size, outputs, **like)
        self.dropout = Dropout(config.dropout)
        for layer in (self.down, self.up):
            nn.init.trunc_normal_(layer.weight, std=_STD, a=-2 * _STD, b=2 * _STD)
            nn.init.zeros_(layer.bias)

    def forward(
        self, x: Float[Tensor, "*rows inputs"], y: Float[Tensor, "*rows outputs"], base: nn.Module
    ) -> Float[Tensor, "*rows outputs"]:
        read = x if self.parallel else y
        added: Tensor = self.dropout(self.up(self.activation(self.down(read))))
        return y + (added if self.scale == 1.0 else self.scale * added)
