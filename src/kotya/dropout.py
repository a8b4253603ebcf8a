"""Dropout (Srivastava et al. 2014), cheap enough for a CPU: one random byte an element, compared with a threshold.

Drawing a float per element took 15 % of a training step on CPU; bytes from numpy's SFC64 take a tenth of that. The byte
fixes the granularity: the probability is rounded to a multiple of 1/256, from 1/256 (if it is not 0) to 255/256, and
kept values are scaled by exactly what that rounding keeps. Seeds come from PyTorch's default generator, so
`torch.manual_seed` rules it.
"""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

_LEVELS = 256


def _native(x: Tensor) -> bool:
    """On other devices, and inside a compiled graph, PyTorch's own dropout is the fast one."""
    return x.device.type != "cpu" or torch.compiler.is_compiling()


def _threshold(probability: float) -> int:
    """The bytes, of 256, that drop an element."""
    return min(max(round(probability * _LEVELS), 1), _LEVELS - 1) if probability > 0.0 else 0


def dropout_mask(
    shape: torch.Size, probability: float, dtype: torch.dtype, *, seed: int | None = None
) -> Tensor:
    """A mask of zeros and of 1/(kept share), of the given shape and type, on the CPU; always the same by a seed."""
    threshold = _threshold(probability)
    count = shape.numel()
    drawn = int(torch.empty((), dtype=torch.int64).random_()) if seed is None else seed
    words = np.random.SFC64(drawn).random_raw((count + 7) // 8)
    kept = words.view(np.uint8)[:count] >= threshold
    mask = torch.from_numpy(kept.view(np.uint8)).view(shape).to(dtype)
    return mask.mul_(_LEVELS / (_LEVELS - threshold))


class _AddDropped(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, residual: Tensor, x: Tensor, probability: float) -> Tensor:
        mask = dropout_mask(x.shape, probability, x.dtype)
        ctx.save_for_backward(mask)
        return torch.addcmul(residual, x, mask)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        (mask,) = ctx.saved_tensors
        return gradient, gradient * mask, None


class _DroppedRelu(torch.autograd.Function):
    """relu and dropout in one and in place: the output is positive exactly where both let the value through."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, probability: float) -> Tensor:
        mask = dropout_mask(x.shape, probability, x.dtype)
        output = x.relu_().mul_(mask)
        ctx.scale = _LEVELS / (_LEVELS - _threshold(probability))
        ctx.mark_dirty(x)
        ctx.save_for_backward(output)
        return output

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (output,) = ctx.saved_tensors
        return torch.ops.aten.threshold_backward(gradient, output, 0.0).mul_(ctx.scale), None


class _Dropped(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, probability: float) -> Tensor:
        mask = dropout_mask(x.shape, probability, x.dtype)
        ctx.save_for_backward(mask)
        return x * mask

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (mask,) = ctx.saved_tensors
        return gradient * mask, None


class Dropout(nn.Module):
    """Zeroes each element with a probability while training and scales the rest, so that the expectation stays.

    On CPU the probability is rounded to a multiple of 1/256, and one above 0 to 1/256 at least.
    """

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def extra_repr(self) -> str:
        return f"{self.probability}"

    @property
    def active(self) -> bool:
        return self.training and self.probability > 0.0

    def forward(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        if not self.active:
            return x
        if _native(x):
            return F.dropout(x, self.probability)
        output: Tensor = _Dropped.apply(x, self.probability)  # type: ignore[no-untyped-call]
        return output

    def add(self, residual: Float[Tensor, "*shape"], x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """residual + dropout(x)."""
        if not self.active:
            return residual + x
        if _native(x) or residual.dtype != x.dtype:
            return residual + self.forward(x)
        output: Tensor = _AddDropped.apply(residual, x, self.probability)  # type: ignore[no-untyped-call]
        return output

    def relu(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """dropout(relu(x)): the inside of the feed-forward layer. `x` is overwritten."""
        if not self.active:
            return F.relu(x, inplace=True)
        if _native(x):
            return F.dropout(F.relu(x), self.probability)
        output: Tensor = _DroppedRelu.apply(x, self.probability)  # type: ignore[no-untyped-call]
        return output
