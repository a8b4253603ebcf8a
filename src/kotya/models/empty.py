"""A model that takes no memory: for weights that come from elsewhere, or only to see whether its parts fit."""

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

Model = TypeVar("Model", bound=nn.Module)


def build_empty(build: Callable[[], Model]) -> Model:
    """What `build` makes, on the meta device. Raises KotyaError where parts do not fit, as `build` does."""
    with torch.device("meta"), _NoDrawing():
        return build()


class _NoDrawing(TorchFunctionMode):
    """Fresh weights are not drawn: a file has them. (On the meta device drawing would import torch's compiler.)"""

    def __torch_function__(
        self, function: Any, types: Any, arguments: tuple[Any, ...] = (), named: dict[str, Any] | None = None
    ) -> Any:
        if getattr(function, "__name__", "") in ("normal_", "uniform_"):
            return arguments[0] if arguments else (named or {})["tensor"]
        return function(*arguments, **(named or {}))
