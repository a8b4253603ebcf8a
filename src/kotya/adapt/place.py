"""A place in a model where adapters stand: the module that was there, and what each adapter makes of its output.

    y' = part(x, y),  y = base(x)

The base is never written to, so taking an adapter away gives it back bit for bit. Several adapters may stand at one
place; a `Route` says which rows of a batch each of them works on, and without one there is only one to choose.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from pydantic import BeforeValidator, Field
from torch import Tensor, nn

from kotya.errors import KotyaError

Targets = Annotated[
    tuple[str, ...],
    BeforeValidator(lambda given: [given] if isinstance(given, str) else given),
    Field(min_length=1),
]
"""Patterns that name the places; one may stand without brackets."""
Vectors = Float[Tensor, "*rows inputs"]
Rows = Int[Tensor, " chosen"]


class Part(nn.Module, ABC):
    """What an adapter has at one place."""

    @abstractmethod
    def forward(
        self, x: Vectors, y: Float[Tensor, "*rows outputs"], base: nn.Module
    ) -> Float[Tensor, "*rows outputs"]:
        """The output instead of `y`, which the base makes of `x`."""


class WeightPart(Part):
    """One that can be said as another weight of a linear layer."""

    @abstractmethod
    def weight(self, base: Float[Tensor, "outputs inputs"]) -> Float[Tensor, "outputs inputs"]:
        """The weight instead of the base's."""


class Swapped(Part):
    """A trained copy of a small module, a norm, in place of the one of the base."""

    def __init__(self, copy: nn.Module) -> None:
        super().__init__()
        self.copy = copy

    def forward(self, x: Vectors, y: Float[Tensor, "*rows outputs"], base: nn.Module) -> Tensor:
        changed: Tensor = self.copy(x)
        return changed


@dataclass(frozen=True)
class Route:
    """Which rows of a batch each adapter works on. A batch of packed texts has two kinds of rows, tokens and texts."""

    rows: Mapping[int, Mapping[str, Rows]]
    """By how many rows there are in all: of every adapter in the batch, its own. (One token a text: both are alike.)"""


_ROUTE: ContextVar[Route | str | None] = ContextVar("adapters of the rows", default=None)


@contextmanager
def routed(route: Route | str) -> Iterator[None]:
    """Within it, in this thread, adapters work on the rows that the route says; or the one of that name on all."""
    token = _ROUTE.set(route)
    try:
        yield
    finally:
        _ROUTE.reset(token)


def chosen(name: str) -> bool:
    """Whether the adapter of that name works here where one works on all rows."""
    route = _ROUTE.get()
    assert not isinstance(route, Route)  # what is one for all rows is none of several adapters'
    return route is None or route == name


def _one(parts: nn.ModuleDict, route: str | None) -> Part | None:
    """The part that works on all rows; None where the adapter that was chosen has none here."""
    if route is None:
        if len(parts) != 1:
            raise KotyaError(f"{len(parts)} adapters stand at one place: say by `routed` which is to work")
        (part,) = parts.values()
    elif route in parts:
        part = parts[route]
    else:
        return None
    assert isinstance(part, Part)
    return part


def _changed(x: Tensor, y: Tensor, base: nn.Module, parts: nn.ModuleDict) -> Tensor:
    route = _ROUTE.get()
    if not isinstance(route, Route):
        part = _one(parts, route)
        return y if part is None else torch.as_tensor(part(x, y, base))
    for name, rows in route.rows[len(x)].items():
        if name in parts:
            y = y.index_copy(0, rows, parts[name](x.index_select(0, rows), y.index_select(0, rows), base))
    return y


class Adapted(nn.Module):
    """Any module that maps vectors to vectors."""

    def __init__(self, base: nn.Module) -> None:
        super().__init__()
        self.base, self.parts = base, nn.ModuleDict()

    def forward(self, x: Vectors) -> Float[Tensor, "*rows outputs"]:
        return _changed(x, self.base(x), self.base, self.parts)


class AdaptedLinear(nn.Linear):
    """A linear layer whose parts can be said as another weight: what reads the weight itself reads the changed one.

    So the recurrent kernels, which multiply by weights that they hold, and search, which lays them out anew, need to
    know nothing of adapters.
    """

    def __init__(self, base: nn.Linear) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = base.in_features, base.out_features
        self.base, self.parts = base, nn.ModuleDict()
        self.merged: Float[Tensor, "outputs inputs"] | None = None

    @property
    def weight(self) -> Float[Tensor, "outputs inputs"]:  # type: ignore[override]
        if self.merged is not None:
            return self.merged
        route = _ROUTE.get()
        assert not isinstance(route, Route)  # rows of several adapters have no one weight
        part = _one(self.parts, route)
        if part is None:
            return self.base.weight
        assert isinstance(part, WeightPart)
        return part.weight(self.base.weight)

    @property
    def bias(self) -> Float[Tensor, " outputs"] | None:  # type: ignore[override]
        return self.base.bias

    def forward(self, input: Vectors) -> Float[Tensor, "*rows outputs"]:
        if self.merged is not None:
            return F.linear(input, self.merged, self.bias)
        return _changed(input, self.base(input), self.base, self.parts)


def places(model: nn.Module) -> dict[str, Adapted | AdaptedLinear]:
    """By name, where adapters stand."""
    return {
        name: module for name, module in model.named_modules() if isinstance(module, Adapted | AdaptedLinear)
    }


@torch.no_grad()
def merge(model: nn.Module) -> None:
    """Compute the changed weights once, for use: then a layer costs what it did without its adapter."""
    for place in places(model).values():
        if isinstance(place, AdaptedLinear) and len(place.parts) == 1:
            place.merged = place.weight.detach().clone()


def unmerge(model: nn.Module) -> None:
    """Back to base and adapter apart: exact, since neither was written to."""
    for place in places(model).values():
        if isinstance(place, AdaptedLinear):
            place.merged = None
