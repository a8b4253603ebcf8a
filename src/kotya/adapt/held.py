"""A frozen linear layer held in int8: a quarter of the memory of float32.

    W ≈ s_i q_ij,  s_i = max_j |W_ij| / 127,  q = round(W / s)

Row by row, the weights alone (Dettmers et al. 2022, section 2.1). The product is computed in the type of its input; the
weight in that type lives as long as the product does, on the way back too.
"""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class _Product(torch.autograd.Function):
    """xWᵀ, with W made anew on the way back instead of kept."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, rounded: Tensor, scale: Tensor) -> Tensor:
        ctx.save_for_backward(rounded, scale)
        ctx.dtype = x.dtype
        return F.linear(x, _restored(rounded, scale, x.dtype))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        rounded, scale = ctx.saved_tensors
        return gradient @ _restored(rounded, scale, gradient.dtype), None, None


def _restored(rounded: Tensor, scale: Tensor, dtype: torch.dtype) -> Tensor:
    return (rounded.to(scale.dtype) * scale[:, None]).to(dtype)


class Int8Linear(nn.Linear):
    """A linear layer for use only; the weight it stands for can be read as that of any other."""

    def __init__(self, base: nn.Linear) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = base.in_features, base.out_features
        weight = base.weight.detach()
        scale = (weight.abs().amax(dim=1) / 127.0).clamp_min(torch.finfo(weight.dtype).tiny)
        self.scale = nn.Buffer(scale)
        self.rounded = nn.Buffer((weight / scale[:, None]).round_().to(torch.int8))
        self.offset = nn.Buffer(base.bias.detach()) if base.bias is not None else None

    @property
    def weight(self) -> Float[Tensor, "outputs inputs"]:  # type: ignore[override]
        return _restored(self.rounded, self.scale, self.scale.dtype)

    @property
    def bias(self) -> Float[Tensor, " outputs"] | None:  # type: ignore[override]
        return self.offset

    def forward(self, input: Float[Tensor, "*rows inputs"]) -> Float[Tensor, "*rows outputs"]:
        kind = input.device.type
        if torch.is_autocast_enabled(kind):
            input = input.to(torch.get_autocast_dtype(kind))
        product: Tensor = _Product.apply(input, self.rounded, self.scale)  # type: ignore[no-untyped-call]
        return product if self.offset is None else product + self.offset.to(product.dtype)
