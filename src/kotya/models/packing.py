"""A model laid out for use on a CPU: every weight matrix in the blocks that oneDNN's kernels read.

y = xWᵀ + b as before, up to the order of summation. On one core of 2 measured, products with few rows went from
60–95 to 95–108 GFLOP/s, most at the output, the widest matrix. A packed model predicts and is never trained or saved.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from kotya.models.seq2seq import Seq2Seq

_ROWS = 128
"""For how many rows oneDNN chooses the blocks; 64 to 320 gave the same speed, 1 gave two thirds of it."""


class PackedLinear(nn.Module):
    """A linear layer without gradients, its matrix repacked."""

    def __init__(
        self, weight: Float[Tensor, "outputs inputs"], bias: Float[Tensor, " outputs"] | None
    ) -> None:
        super().__init__()
        self.weight = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), _ROWS)
        self.bias = None if bias is None else bias.detach().clone()

    def forward(self, x: Float[Tensor, "*rows inputs"]) -> Float[Tensor, "*rows outputs"]:
        y: Tensor = torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, "none", [], "")
        return y


def pack(model: Seq2Seq) -> Seq2Seq:
    """Repack every linear layer of the model, in place, where it is on a CPU with oneDNN; elsewhere leave it."""
    device = next(model.parameters()).device
    if device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return model
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.Linear):
                setattr(module, name, PackedLinear(child.weight, child.bias))
    model.decoder.projection = PackedLinear(*model.decoder.output_weights())
    return model
