"""φ: features whose products stand for a similarity of query and key, for softmax's exp(qᵀk/√d) or for another.

Those that are exponentials leave float32's range. So each is divided in the keys by e to its scale, the greatest
exponent that it had so far, and multiplied by it in the queries, whose own sum is then taken out: it cancels. All is
computed in float32.
"""

import math
from abc import ABC, abstractmethod
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from kotya.errors import KotyaError

Vectors = Float[Tensor, "rows length heads size"]
Featured = Float[Tensor, "rows heads length features"]
Scale = Float[Tensor, "rows heads features"]
Real = Bool[Tensor, "rows length"]


class FeatureMap(nn.Module, ABC):
    """φ, of which products stand for exp(qᵀk/√d), or for another similarity; never negative, computed in float32."""

    def __init__(self, count: int) -> None:
        """`count`: r, how many features a vector has."""
        super().__init__()
        self.count = count
        self.frozen = False
        """Whether they are those of a base that an adapter leaves as it is: none are drawn anew."""

    @abstractmethod
    def queries(self, x: Vectors, scale: Scale) -> Featured:
        """φ·e^scale of queries, each by itself: a factor of its own cancels out."""

    @abstractmethod
    def keys(self, x: Vectors, scale: Scale, real: Real | None = None) -> tuple[Featured, Scale]:
        """φ/e^scale of keys, and the scale, raised where these keys need it. Those that are not `real` have no φ."""

    def renew(self) -> None:
        """Before a forward pass in training."""

    def now(self) -> "FeatureMap":
        """As it is, whatever is drawn later: a graph keeps this for its backward."""
        return self


class Elu(FeatureMap):
    """φ(x) = elu(x) + 1 (Katharopoulos et al. 2020, equation 7)."""

    def queries(self, x: Vectors, scale: Scale) -> Featured:
        features: Featured = _EluAndOne.apply(x.transpose(1, 2).float())  # type: ignore[no-untyped-call]
        return features

    def keys(self, x: Vectors, scale: Scale, real: Real | None = None) -> tuple[Featured, Scale]:
        return _masked(self.queries(x, scale), real), scale


class _EluAndOne(torch.autograd.Function):
    """e^x below 0, since (e^x - 1) + 1 rounds small ones to 0; x + 1 above."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        features = x.clamp(max=0.0).exp_().add_(F.relu(x))
        ctx.save_for_backward(features)
        return features

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        """What is below 1 is its own slope."""
        (features,) = ctx.saved_tensors
        slope: Tensor = features.clamp(max=1.0)
        return gradient * slope


class Relu(FeatureMap):
    """φ(x) = max(x, 0), as Choromanski et al. 2021 have it among their generalised kernels, without a projection."""

    def queries(self, x: Vectors, scale: Scale) -> Featured:
        return F.relu(x.transpose(1, 2).float())

    def keys(self, x: Vectors, scale: Scale, real: Real | None = None) -> tuple[Featured, Scale]:
        return _masked(self.queries(x, scale), real), scale


def _masked(k: Tensor, real: Tensor | None) -> Tensor:
    """Features of keys, those of padding 0."""
    return k if real is None else k * real[:, None, :, None]


class Favor(FeatureMap):
    """FAVOR+ (Choromanski et al. 2021): φ(x) = exp(±ωᵀx′ - |x′|²/2), x′ = x/d^¼, for random orthogonal ω.

    E φ(q)ᵀφ(k) = exp(qᵀk/√d), exactly softmax's. Features come in pairs, of ω and of -ω (their Lemma 1, "hyperbolic"):
    half of the products, and a smaller error.
    """

    def __init__(self, size: int, features: int, *, redraw: int | None = None) -> None:
        """`features`: r, how many there are. `redraw`: after so many forward passes in training they are drawn anew.

        Raises KotyaError for an odd number.
        """
        if features % 2:
            raise KotyaError(f"{features} random features: they come in pairs")
        super().__init__(features)
        self.redraw = redraw
        # not trained, but weights all the same: they are saved with the others, and a run goes on with them
        self.omega = nn.Parameter(torch.empty(features // 2, size), requires_grad=False)
        self.passes = nn.Parameter(torch.zeros(()), requires_grad=False)
        self.draw()

    @torch.no_grad()
    def draw(self) -> None:
        """New random features, by PyTorch's default generator."""
        if not self.omega.is_meta:
            self.omega.copy_(orthogonal(*self.omega.shape))

    @torch.no_grad()
    def renew(self) -> None:
        if self.redraw is not None and not self.frozen:
            self.passes.add_(1.0)
            if int(self.passes) % self.redraw == 0:
                self.draw()

    def now(self) -> FeatureMap:
        if self.redraw is None or self.frozen:
            return self
        with torch.device("meta"):
            drawn = Favor(self.omega.shape[1], self.count)
        drawn.omega = nn.Parameter(self.omega.clone(), requires_grad=False)
        return drawn

    def _exponents(self, x: Tensor, above: Tensor, below: Tensor) -> Tensor:
        """ωᵀx′ and -ωᵀx′ side by side, with what is added to either."""
        projected = F.linear(x, self.omega.float() * x.shape[-1] ** -0.25)
        return torch.cat([projected + above, below - projected], dim=-1)

    def queries(self, x: Vectors, scale: Scale) -> Featured:
        """Without e to the -|x′|²/2, and with what makes their sum 1: a softmax, which no exponent can overflow."""
        above, below = scale[:, :, None].chunk(2, dim=-1)
        return self._exponents(x.transpose(1, 2).float(), above, below).softmax(-1)

    def keys(self, x: Vectors, scale: Scale, real: Real | None = None) -> tuple[Featured, Scale]:
        x = x.transpose(1, 2).float()
        less = x.square().sum(-1, keepdim=True) * (-(x.shape[-1] ** -0.5) / 2)
        exponents = self._exponents(x, less, less)
        if real is not None:
            exponents = exponents.masked_fill(~real[:, None, :, None], -math.inf)
        scale = torch.maximum(scale, exponents.detach().amax(2))
        return exponents.sub_(scale[:, :, None]).exp_(), scale


def orthogonal(features: int, size: int) -> Float[Tensor, "features size"]:
    """Random rows, each distributed as a normal vector; of each `size` of them every two are orthogonal.

    By PyTorch's default generator (Choromanski et al. 2021, section 2.4).
    """
    blocks = []
    for _ in range(-(-features // size)):
        q, r = torch.linalg.qr(torch.randn(size, size))
        blocks.append(
            (q * r.diagonal().sign()).T
        )  # without the signs no direction would be as likely as its opposite
    norms: Tensor = torch.randn(features, size).norm(dim=1, keepdim=True)
    return torch.cat(blocks)[:features] * norms
