"""Attention weights, recorded only when asked for: the fast path never pays for pictures.

    with record_attention(model) as maps:
        model(...)
    maps["decoder.layers.2.cross"][0]     # [rows, heads, queries, keys], one entry per call of that layer

While a recorder is open, in this thread or task only, attention takes the slower exact path that has the weights.
To record some layers alone, give them as an `nn.ModuleList`: the others keep their fast path.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from jaxtyping import Float
from torch import Tensor, nn

Maps = dict[str, list[Float[Tensor, "rows heads queries keys"]]]
_open: ContextVar[tuple[dict[nn.Module, str], Maps, bool] | None] = ContextVar(
    "attention_recorder", default=None
)


@contextmanager
def record_attention(model: nn.Module, *, differentiable: bool = False) -> Iterator[Maps]:
    """Record the attention weights of every attention layer of the model, by the layer's name in it.

    `differentiable`: the weights stay part of the graph, for a loss that is made of them.
    """
    maps: Maps = {}
    names = {module: name for name, module in model.named_modules()}
    token = _open.set((names, maps, differentiable))
    try:
        yield maps
    finally:
        _open.reset(token)


def recording(layer: nn.Module) -> bool:
    """Whether this layer's weights are wanted now."""
    recorder = _open.get()
    return recorder is not None and layer in recorder[0]


def record(layer: nn.Module, weights: Float[Tensor, "rows heads queries keys"]) -> None:
    """Hand over one call's weights."""
    recorder = _open.get()
    assert recorder is not None
    names, maps, differentiable = recorder
    maps.setdefault(names[layer], []).append(weights if differentiable else weights.detach())
