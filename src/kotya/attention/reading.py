"""Which attention weights of a decoder are read as an alignment: a layer, a head, and the step of a target word.

A word y_t is chosen at the step that has read y_<t, and read at the next one. Read at the `output`, its alignment is
what the decoder looked at while it chose the word (Bahdanau et al. 2015). Read at the `input`, it is what it looked at
once it knew the word (Kobayashi et al. 2020; Chen et al. 2020), which is often the better alignment: one step later, or
two, where the decoder looks before it reads (Bahdanau's order).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Literal

import torch
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor, nn

from kotya.attention.forms import Linformer
from kotya.attention.recorder import Maps, record_attention
from kotya.config import Config, wrong
from kotya.errors import KotyaError


class Reading(Config):
    """How to read an alignment off attention over the source."""

    layer: int | Literal["mean"] = -1
    """Of those that look at the source, from 1 at the bottom; -1 is the last one, `mean` the mean of all."""
    head: int | Literal["mean"] = "mean"
    """From 1."""
    step: Literal["output", "input"] = "output"
    """Whether a target word's weights are those of the step that chose it, or of the first that looked knowing it."""
    empty_word: bool = False
    """Whether the end of the source stands for nothing: a word that has most of its weight there has no link."""

    def lag(self, knows_after: int) -> int:
        """How many steps after the one that chose a target piece its weights are read, in a decoder of that kind."""
        return knows_after if self.step == "input" else 0

    def __str__(self) -> str:
        """In words, for a table or a picture."""
        head = "mean of heads" if self.head == "mean" else f"head {self.head}"
        layer = {"mean": "mean of layers", -1: "last layer"}.get(self.layer, f"layer {self.layer}")
        return f"{layer}, {head}, at the {self.step}"


class GuidedAlignmentConfig(Reading):
    """The attention that is taught to be a given alignment (Chen et al. 2016; in one head: Garg et al. 2019)."""

    head: Annotated[int, Field(ge=1)] | Literal["mean"] = 1
    weight: float = Field(0.05, gt=0)
    """λ: what a target piece's alignment counts beside its cross-entropy."""
    empty_word: bool = False
    """Whether a word without links, in a pair that has some, is taught the end of the source, and read that way."""

    @model_validator(mode="after")
    def _layers_count_from_one(self) -> "GuidedAlignmentConfig":
        if self.layer == 0:
            raise wrong(("layer",), "0 is none: layers count from 1 at the bottom, from -1 at the top", 0)
        return self

    @property
    def reading(self) -> Reading:
        """The same attention, to be read."""
        return Reading(layer=self.layer, head=self.head, step=self.step, empty_word=self.empty_word)


def is_cross(name: str) -> bool:
    """Whether the attention layer of that name looks at the source; the others are self-attention."""
    return name.rpartition(".")[2] == "cross"


def cross_layers(decoder: nn.Module) -> list[nn.Module]:
    """The layers of a decoder that look at the source, bottom first."""
    return [module for name, module in decoder.named_modules() if is_cross(name)]


def chosen_layers(decoder: nn.Module, layer: int | Literal["mean"]) -> list[nn.Module]:
    """The layers that are read. Raises KotyaError where there is none such."""
    layers = cross_layers(decoder)
    if not layers:
        raise KotyaError("this model reads the source as one vector, without attention: it has no alignment")
    if layer != "mean" and (layer == 0 or abs(layer) > len(layers)):
        raise KotyaError(
            f"there is no layer {layer}: the decoder has {len(layers)} that look at the source, from 1; -1 is the last"
        )
    chosen = layers if layer == "mean" else [layers[layer - 1 if layer > 0 else layer]]
    if any(isinstance(getattr(one, "form", None), Linformer) for one in chosen):
        raise KotyaError("Linformer reads mixtures of the source, and not its words: it has no alignment")
    return chosen


def check_reading(decoder: nn.Module, reading: Reading) -> None:
    """Raises KotyaError where the decoder has no such layer or head."""
    for layer in chosen_layers(decoder, reading.layer):
        heads = getattr(layer, "heads", 1)
        if reading.head != "mean" and not 1 <= reading.head <= heads:
            raise KotyaError(f"there is no head {reading.head}: the layer has {heads}")


@contextmanager
def watch(decoder: nn.Module, reading: Reading, *, differentiable: bool = False) -> Iterator[Maps]:
    """Record what the reading needs and nothing else."""
    layers = nn.ModuleList(chosen_layers(decoder, reading.layer))
    with record_attention(layers, differentiable=differentiable) as maps:
        yield maps


def read(maps: Maps, reading: Reading) -> Float[Tensor, "rows queries keys"]:
    """The chosen head of the chosen layer, or a mean, of one pass over whole targets."""
    weights = [one_head(calls[-1], reading.head) for calls in maps.values()]
    return weights[0] if len(weights) == 1 else torch.stack(weights).mean(0)


def one_head(
    weights: Float[Tensor, "rows heads queries keys"], head: int | Literal["mean"]
) -> Float[Tensor, "rows queries keys"]:
    """A head by its number, or the mean of all."""
    if head == "mean":
        return weights.mean(1)
    if not 1 <= head <= weights.shape[1]:
        raise KotyaError(f"there is no head {head}: the layer has {weights.shape[1]}")
    return weights[:, head - 1]
