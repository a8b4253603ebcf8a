"""Attention weights, recorded only when asked for: the fast path never pays for pictures.

    with record_attention(model) as maps:
        model(...)
    maps["decoder.layers.2.cross"][0]     # [rows, heads, queries, keys], one entry per call of that layer

While a recorder is open, in this thread or task only, attention takes the slower exact path that has the weights.
To record some layers alone, give them as an `nn.ModuleList`: the others keep their fast path. With `sparse=True` layers
that attend by a pattern are read block by block, and no more is made than the pairs that they keep.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from jaxtyping import Float
from torch import Tensor, nn

Maps = dict[str, list[Float[Tensor, "rows heads queries keys"]]]


@dataclass
class _Recorder:
    names: dict[nn.Module, str]
    differentiable: bool
    sparse: bool
    maps: Maps = field(default_factory=dict)


_open: ContextVar[_Recorder | None] = ContextVar("attention_recorder", default=None)


@contextmanager
def record_attention(
    model: nn.Module, *, differentiable: bool = False, sparse: bool = False
) -> Iterator[Maps]:
    """Record the attention weights of every attention layer of the model, by the layer's name in it.

    `differentiable`: the weights stay part of the graph, for a loss that is made of them.
    `sparse`: those of layers with a pattern are sparse COO tensors, which hold the pairs that have weight and are never
    part of the graph; others are as ever.
    """
    names = {module: name for name, module in model.named_modules()}
    recorder = _Recorder(names, differentiable, sparse)
    token = _open.set(recorder)
    try:
        yield recorder.maps
    finally:
        _open.reset(token)


def recording(layer: nn.Module) -> bool:
    """Whether this layer's weights are wanted now."""
    recorder = _open.get()
    return recorder is not None and layer in recorder.names


def sparsely() -> bool:
    """Whether weights that are wanted now may be sparse."""
    recorder = _open.get()
    return recorder is not None and recorder.sparse


def record(layer: nn.Module, weights: Float[Tensor, "rows heads queries keys"]) -> None:
    """Hand over one call's weights."""
    recorder = _open.get()
    assert recorder is not None
    name = recorder.names[layer]
    recorder.maps.setdefault(name, []).append(weights if recorder.differentiable else weights.detach())
