"""LoRA: the change of a weight is of low rank, W' = W + (α/r) BA (Hu et al. 2022).

    rank-stabilised    W' = W + (α/√r) BA                              (Kalajdzievski 2023)
    DoRA               W' = m · V / ‖V‖,  V = W + (α/r) BA             (Liu et al. 2024; ‖·‖ a row's, without gradient)

B is zero at the start, so that training begins at the base exactly. A linear layer adds B(A x) to its output and never
forms BA; an embedding and what multiplies by a weight itself (the recurrent kernels) take the sum.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from kotya.adapt.place import Targets, WeightPart, chosen
from kotya.config import Config, DropoutRate
from kotya.dropout import Dropout
from kotya.errors import KotyaError

TARGETS = (
    *(f"{layer}.{name}" for layer in ("attention", "cross") for name in ("query", "value")),
    *("forwards.*.input", "forwards.*.recurrent.*", "backwards.*.input", "backwards.*.recurrent.*"),
    *("stack.layers.*.input", "stack.layers.*.recurrent.*"),
    *("encoder.layers.*.linear", "convolution.linear"),
)
"""Of Transformers what Hu et al. found to matter most; of others the recurrence, or the convolutions."""


class LoRAConfig(Config):
    """Changes of low rank."""

    kind: Literal["lora"]
    rank: int = Field(8, ge=1)
    alpha: float = Field(16.0, gt=0)
    dropout: DropoutRate = 0.0
    """On what A reads, where it reads vectors and is not part of a sum of weights."""
    targets: Targets | None = None
    """Names of layers, as far from the end as needed, `*` for anything; of a part of the model: every linear layer in
    it. By default queries and values, the recurrence, the convolutions."""
    scaling: Literal["standard", "rank-stabilised"] = "standard"
    """α/r, or α/√r, which lets high ranks learn as fast as low ones."""
    dora: bool = False
    """Direction and length of every row of a weight apart."""
    norms: bool = False
    """Whether layer norms are trained too."""
    held: Literal["float32", "int8"] = "float32"
    """What the frozen linear layers are kept in; int8 takes a quarter of the memory, and some accuracy."""

    @property
    def scale(self) -> float:
        return self.alpha / (math.sqrt(self.rank) if self.scaling == "rank-stabilised" else self.rank)


class LowRank(WeightPart):
    """(α/r) BA beside a linear layer."""

    def __init__(self, config: LoRAConfig, base: nn.Linear) -> None:
        super().__init__()
        self.scale, self.dropout = config.scale, Dropout(config.dropout)
        like: dict[str, Any] = {"device": base.weight.device, "dtype": kept_in(base.weight)}
        self.down = nn.Parameter(torch.empty(config.rank, base.in_features, **like))
        self.up = nn.Parameter(torch.zeros(base.out_features, config.rank, **like))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))
        length = base.weight.detach().to(self.up.dtype).norm(dim=1) if config.dora else None
        self.length = nn.Parameter(length) if length is not None else None

    def weight(self, base: Float[Tensor, "outputs inputs"]) -> Float[Tensor, "outputs inputs"]:
        changed = self._sum(base)
        if self.length is not None:
            changed = changed * self._factor(changed)[:, None]
        return changed.to(base.dtype)

    def forward(
        self, x: Float[Tensor, "*rows inputs"], y: Float[Tensor, "*rows outputs"], base: nn.Module
    ) -> Float[Tensor, "*rows outputs"]:
        assert isinstance(base, nn.Linear)
        low, up = F.linear(self.dropout(x), self.down.to(x.dtype)).to(y.dtype), self.up.to(y.dtype)
        # one product with the sum: y + s·(low Bᵀ)
        rows = torch.addmm(
            y.reshape(-1, base.out_features), low.reshape(-1, low.shape[-1]), up.t(), alpha=self.scale
        )
        changed = rows.view_as(y)
        if self.length is None:
            return changed
        bias = 0.0 if base.bias is None else base.bias.to(y.dtype)
        factor = self._factor(self._sum(base.weight)).to(y.dtype)
        return (changed - bias) * factor + bias

    def _sum(self, base: Float[Tensor, "outputs inputs"]) -> Float[Tensor, "outputs inputs"]:
        """V, in the type of the weights whatever the rest is computed in."""
        with torch.autocast(base.device.type, enabled=False):
            return torch.addmm(base.to(self.up.dtype), self.up, self.down, alpha=self.scale)

    def _factor(self, before: Float[Tensor, "outputs inputs"]) -> Float[Tensor, " outputs"]:
        """m / ‖V‖; the norm has no gradient (section 4.3 of the paper).

        A row of zeros has no direction: its factor is 1, so that it stays zero, and B learns as in plain LoRA.
        """
        assert self.length is not None
        norm = before.detach().norm(dim=1)
        none = norm == 0
        factor: Tensor = self.length.masked_fill(none, 1.0) / norm.masked_fill(none, 1.0)
        return factor


class LowRankTable(nn.Module):
    """E' = E + (α/r)(BA)ᵀ for a table of embeddings, a row a piece; a parametrisation of torch's.

    `name`: of the adapter that it belongs to.
    """

    def __init__(self, config: LoRAConfig, table: Float[Tensor, "pieces size"], name: str) -> None:
        super().__init__()
        self.scale, self.name = config.scale, name
        like: dict[str, Any] = {"device": table.device, "dtype": kept_in(table)}
        self.down = nn.Parameter(torch.zeros(config.rank, table.shape[0], **like))
        self.up = nn.Parameter(torch.randn(table.shape[1], config.rank, **like))

    def forward(self, table: Float[Tensor, "pieces size"]) -> Float[Tensor, "pieces size"]:
        if not chosen(self.name):
            return table
        with torch.autocast(table.device.type, enabled=False):  # it begins at the very table
            return torch.addmm(
                table, self.down.t().to(table.dtype), self.up.t().to(table.dtype), alpha=self.scale
            )


def kept_in(weight: Tensor) -> torch.dtype:
    """The type of what is trained beside such a weight: float32 at least, for small steps are lost in less."""
    return torch.promote_types(weight.dtype, torch.float32)


def check_rank(rank: int, shape: Sequence[int], name: str) -> None:
    """Raises KotyaError where a rank is no lower than that of the whole weight."""
    if rank > min(shape):
        raise KotyaError(f"{name}: a rank of {rank} is larger than the layer, {shape[0]} × {shape[1]}")


def scaled(config: LoRAConfig, tensors: Mapping[str, Tensor], weight: float) -> dict[str, Tensor]:
    """The tensors of a LoRA whose change is so many times that of this one.

    Raises KotyaError for one that is no such product: DoRA, norms, a head.
    """
    if config.dora or config.norms:
        raise KotyaError("only plain LoRAs add up: DoRA and trained norms do not")
    for name in tensors:
        if name.rpartition(".")[2] not in ("down", "up"):
            raise KotyaError(f"only LoRAs without weights of their own beside them add up; one has {name}")
    return {name: one * weight if name.endswith(".up") else one for name, one in tensors.items()}
