"""Adapters made part of their base: a model folder like any other, as fast as the base, that needs no base any more.

Several LoRAs of one base add up: W' = W + Σ_i w_i (α_i/r_i) B_i A_i.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from torch import Tensor, nn

from kotya import folder as folders
from kotya.adapt.attach import absorb, attach, own
from kotya.adapt.lora import LoRAConfig, scaled
from kotya.errors import KotyaError
from kotya.models.empty import build_empty
from kotya.tasks.settings import AdapterOf


def merge(adapters: Sequence[tuple[Path, float]], output: Path, *, base: Path | None = None) -> None:
    """Write the base of the adapters, changed by the sum of them, each as often as its weight says.

    Raises KotyaError where they are of different bases or tasks, or cannot be added to weights.
    """
    folders.check_free(output)
    (first, weight), *others = adapters
    config = folders.read_config(first)
    adapter = adapter_of(first)
    origin = folders.base_of(first, adapter, base)
    for path, _ in others:
        folders.base_of(path, adapter_of(path), origin)
        if folders.read_config(path).task != config.task:
            raise KotyaError(f"{path}: its task is not that of {first}; only LoRAs of one task add up")
    read = [folders.read_weights(path / folders.WEIGHTS) for path, _ in adapters]
    if others or weight != 1.0:
        read = [scaled_by(one, path, tensors) for (path, one), tensors in zip(adapters, read, strict=True)]
    # the whole weights are at hand
    changes = [folders.in_float32(adapter_of(path).adapt) for path, _ in adapters]
    vocabularies = folders.read_vocabularies(origin)
    model = build_empty(lambda: config.build(vocabularies))
    folders.adapt(model, changes[0], read[0], origin, first / folders.WEIGHTS)
    merged_in(model, first)
    for (path, _), change, tensors in zip(others, changes[1:], read[1:], strict=True):
        attach(model, change)
        folders.check_numbers(tensors, path / folders.WEIGHTS)
        folders.fill(own(model), tensors, path / folders.WEIGHTS)
        merged_in(model, path)
    folders.create(
        output,
        config=config.model_copy(update={"adapter": None}),
        vocabularies=vocabularies,
        recipe=None,
        tensors=folders.weights(model),
    )


def merged_in(model: nn.Module, path: Path) -> None:
    """Make the adapter of that folder part of its model. Raises KotyaError where it cannot be."""
    with naming(path):
        absorb(model)
    for name, tensor in folders.weights(model).items():
        if not tensor.isfinite().all():
            raise KotyaError(f"{path}: {name} would be no number any more: the adapter weighs too much")


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Says which folder's adapter an error is about."""
    try:
        yield
    except KotyaError as error:
        raise KotyaError(f"{path}: {error}") from None


def adapter_of(path: Path) -> AdapterOf:
    """What a folder says of its base. Raises KotyaError where it holds a whole model."""
    adapter = folders.read_config(path).adapter
    if adapter is None:
        raise KotyaError(f"{path}: a whole model, no adapter")
    return adapter


def scaled_by(weight: float, path: Path, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a LoRA that counts so much. Raises KotyaError where it does not add up."""
    lora = plain_lora(path)
    with naming(path):
        return scaled(lora, tensors, weight)


def plain_lora(path: Path) -> LoRAConfig:
    """How a folder adapts its base. Raises KotyaError where that is no LoRA."""
    adapt = adapter_of(path).adapt
    if not isinstance(adapt, LoRAConfig):
        raise KotyaError(f"{path}: an adapter of kind {adapt.kind}; only LoRAs add up")
    return adapt
