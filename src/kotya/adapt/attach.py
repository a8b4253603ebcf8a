"""Put an adapter into a model of any kind, and take it away again: find the places by name, freeze the rest.

A pattern names a layer by the end of its dotted name, `*` for anything: `attention.query` is that layer in every block,
`encoder.layers.0.*` all of one block. To LoRA what is named and is no layer stands for every linear layer inside.
"""

import copy
import difflib
from collections import Counter
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from itertools import chain
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import nn
from torch.nn.utils import parametrize

from kotya.adapt import adapters, lora
from kotya.adapt.adapters import Bottleneck, BottleneckConfig
from kotya.adapt.held import Int8Linear
from kotya.adapt.lora import LoRAConfig, LowRank, LowRankTable
from kotya.adapt.place import Adapted, AdaptedLinear, Part, Swapped, places
from kotya.config import Config
from kotya.errors import KotyaError

NAME = "adapter"
"""What an adapter is called in its model where there is only one, and in its folder."""
NORM = "*_residual.norm"
"""The norms that adapters train: those around the layers of a block."""
_STOPPED = "stopped by adapters"
"""The attribute of a model that has the names of the weights that were trained until an adapter came."""


class SamePlace(KotyaError):
    """Two adapters that each can be attached alone, and not both at once."""


class HeadConfig(Config):
    """Nothing inside the model: only what the base lacks is trained, the head of the task."""

    kind: Literal["head"]
    held: Literal["float32", "int8"] = "float32"
    """What the frozen linear layers are kept in."""


AdaptConfig = Annotated[LoRAConfig | BottleneckConfig | HeadConfig, Field(discriminator="kind")]


def attach(model: nn.Module, config: AdaptConfig, *, fresh: Iterable[str] = (), name: str = NAME) -> None:
    """Put an adapter into the model, in place, and freeze all but it and the `fresh` weights, those the base lacks.

    Several may be attached, one after the other, each by its own name; what is trained is the last one.
    Raises KotyaError, with the model as it was, for a target that names nothing, a rank larger than the layer, a name
    that is taken, and a model whose adapters are merged;
    SamePlace for two adapters at one place of which one is added to a weight and the other to an output.
    """
    fresh = set(fresh)
    if not name or "." in name:
        raise KotyaError(f"an adapter cannot be called {name!r}: a name has no dots")
    if name in _names(model):
        raise KotyaError(f"an adapter called {name!r} is in the model already: give this one another name")
    if any(isinstance(place, AdaptedLinear) and place.merged is not None for place in places(model).values()):
        raise KotyaError("adapters of the model are merged: unmerge comes before another is attached")
    found = targets(model, config, fresh=fresh)
    norms = _matching(model, NORM) if trains_norms(config) else []
    if not norms and getattr(config, "norms", None):
        raise KotyaError("adapt.norms: this model has no layer norms to train")
    if not isinstance(config, HeadConfig):
        for target in found:
            _check(_layer(model, target), target, config)
    _freeze(model, fresh)
    if config.held == "int8":
        _hold(model, fresh)
    if not isinstance(config, HeadConfig):
        for target in sorted(found, key=lambda one: -one.count(".")):  # inner first: an outer one renames it
            _put(model, target, name, config)
    for target in norms:
        swapped = copy.deepcopy(_base(_layer(model, target))).requires_grad_(True)
        _place(model, target, linear=False).parts[name] = Swapped(swapped)


def _names(model: nn.Module) -> set[str]:
    """What the adapters of a model are called."""
    tables = {one.name for one in model.modules() if isinstance(one, LowRankTable)}
    return tables | {name for place in places(model).values() for name in place.parts}


def targets(model: nn.Module, config: AdaptConfig, *, fresh: Iterable[str] = ()) -> list[str]:
    """The names of the layers that an adapter would change: none with `fresh` weights, which are trained as they are.

    Raises KotyaError for a pattern that names none.
    """
    if isinstance(config, HeadConfig):
        return []
    standard = lora.TARGETS if isinstance(config, LoRAConfig) else adapters.TARGETS[config.kind]
    patterns = config.targets or standard
    found: dict[str, None] = {}
    fresh = tuple(fresh)
    for pattern in patterns:
        matched = _matching(model, pattern)
        layers = [
            one
            for name in matched
            for one in _layers(model, name, config)
            if not any(weight.startswith(f"{one}.") for weight in fresh)
        ]
        if not layers and config.targets is not None:
            raise KotyaError(_no_layer(model, pattern, matched))
        found |= dict.fromkeys(layers)
    if not found:
        raise KotyaError(f"adapt: this model has none of the layers {', '.join(patterns)}; name targets")
    return list(found)


def trains_norms(config: AdaptConfig) -> bool:
    """Whether the adapter has layer norms of its own."""
    if isinstance(config, BottleneckConfig):
        return config.kind == "houlsby" if config.norms is None else config.norms
    return isinstance(config, LoRAConfig) and config.norms


def own(model: nn.Module, name: str = NAME, *, fresh: Iterable[str] = ()) -> dict[str, nn.Parameter]:
    """The weights that are an adapter's: in its parts, and the fresh ones. In the folder they go by these names."""
    mark, fresh = f".parts.{name}.", set(fresh)
    tables = {
        full for full, one in model.named_modules() if isinstance(one, LowRankTable) and one.name == name
    }
    return {
        _plain(full.replace(mark, f".parts.{NAME}.")): parameter
        for full, parameter in model.named_parameters()
        if mark in full or full in fresh or full.rpartition(".")[0] in tables
    }


def detach(model: nn.Module) -> None:
    """Take every adapter away: the modules of the base stand where they stood, and were never written to.

    What was trained before is trained again. Raises KotyaError for a base held in int8, whose weights are gone.
    """
    _check_whole(model)
    for name, place in reversed(places(model).items()):  # inner ones first
        _set(model, name, place.base)
    for module in list(model.modules()):
        for table in list(getattr(module, "parametrizations", {})):
            parametrize.remove_parametrizations(module, table, leave_parametrized=False)
    _thaw(model)


@torch.no_grad()
def absorb(model: nn.Module) -> None:
    """Make the adapters part of the model, in place: a model of the base's kind, with changed weights.

    Raises KotyaError, with the model as it was, for bottlenecks, which are layers of their own, for an embedding that
    shares its matrix with what it does not change, for several adapters at one place, and for a base held in int8.
    """
    _check_whole(model)
    found = places(model)
    for name, place in found.items():
        if len(place.parts) > 1:
            raise KotyaError(f"{name}: {len(place.parts)} adapters stand there; absorb one before the next")
    uses = Counter(id(one) for module in model.modules() for one in module.parameters(recurse=False))
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if name.endswith(".original") and uses[id(parameter)] > 1:
            raise KotyaError(
                f"{name.partition('.parametrizations.')[0]}: an embedding whose matrix is also that of a layer without "
                "the adapter, so the changed one has no place of its own in the base"
            )
    for name, place in found.items():
        if any(isinstance(part, Bottleneck) for part in place.parts.values()):
            raise KotyaError(
                f"{name}: a bottleneck is a layer of its own, which no weight of the base can hold"
            )
    settle(model)
    for module in list(model.modules()):
        for table in list(getattr(module, "parametrizations", {})):
            changed = getattr(module, table).detach().clone()
            parametrize.remove_parametrizations(module, table, leave_parametrized=False)
            setattr(module, table, nn.Parameter(changed))
    _thaw(model)


@torch.no_grad()
def settle(model: nn.Module) -> None:
    """Put in the place of every adapted linear layer and norm one that does the same, in place: base and adapter go.

    A model for use is so as small and as fast as its base. Bottlenecks, and changes of embeddings, stay what they are.
    """
    for name, place in reversed(places(model).items()):  # inner ones first
        (part,) = place.parts.values()
        if isinstance(place, AdaptedLinear):
            layer = nn.Linear(
                place.in_features, place.out_features, bias=place.bias is not None, device="meta"
            )
            layer.weight = nn.Parameter(place.weight.detach().clone())
            if place.bias is not None:
                layer.bias = nn.Parameter(place.bias.detach().clone())
            _set(model, name, layer)
        elif isinstance(part, Swapped):
            _set(model, name, part.copy)


def _matching(model: nn.Module, pattern: str) -> list[str]:
    return [
        name
        for name, _ in model.named_modules()
        if name
        and (fnmatchcase(_plain(name), pattern) or fnmatchcase(_plain(name), f"*.{pattern}"))
        and _of_model(name)
    ]


def _of_model(name: str) -> bool:
    """Whether it names what the model was made of, or a place; no part of an adapter, nor what a place stands for."""
    return ".parts." not in name and not name.endswith(".base")


def _plain(name: str) -> str:
    """A name as it is without the places around it."""
    return ".".join(part for part in name.split(".") if part != "base")


def _base(module: nn.Module) -> nn.Module:
    return module.base if isinstance(module, Adapted | AdaptedLinear) else module


def _layers(model: nn.Module, name: str, config: LoRAConfig | BottleneckConfig) -> list[str]:
    """The layer of that name, or every linear layer inside it; none that stands inside a place already."""
    module = _layer(model, name)
    if isinstance(config, BottleneckConfig):
        return [name] if _widths(module) is not None else []
    if isinstance(_base(module), nn.Linear) or _table(module) is not None:
        return [name]
    inside = [(f"{name}.{inner}", one) for inner, one in module.named_modules() if inner]
    return [full for full, one in inside if isinstance(_base(one), nn.Linear) and _of_model(full)]


def _no_layer(model: nn.Module, pattern: str, matched: Sequence[str]) -> str:
    if matched:
        return (
            f"adapt.targets: {pattern!r} names {matched[0]}, in which there is no layer to adapt "
            "(a head is trained as it is)"
        )
    ends = {
        ".".join(parts[-count:])
        for name, module in model.named_modules()
        if _of_model(name) and (_widths(module) is not None or _table(module) is not None)
        for parts in [_plain(name).split(".")]
        for count in range(1, len(parts) + 1)
    }
    near = difflib.get_close_matches(pattern, sorted(ends), n=3)
    hint = f"; the nearest: {', '.join(near)}" if near else ""
    return f"adapt.targets: {pattern!r} names no part of the model{hint}"


def _check(module: nn.Module, target: str, config: LoRAConfig | BottleneckConfig) -> None:
    """Raises KotyaError for a layer that cannot have this adapter, or not beside the one that it has."""
    table = _table(module)
    if isinstance(config, LoRAConfig) and table is not None:
        if parametrize.is_parametrized(module, table):
            raise SamePlace(
                f"{target}: two adapters that cannot stand at one place, both change the whole table"
            )
        if config.dora:
            raise KotyaError(f"{target}: an embedding; DoRA is for linear layers")
        lora.check_rank(config.rank, getattr(module, table).shape, target)
        return
    linear = isinstance(config, LoRAConfig)
    if isinstance(module, Adapted | AdaptedLinear) and isinstance(module, AdaptedLinear) != linear:
        raise SamePlace(
            f"{target}: two adapters that cannot stand at one place, one changes the weight and one the output"
        )
    base = _base(module)
    if isinstance(config, LoRAConfig) and isinstance(base, nn.Linear):
        lora.check_rank(config.rank, (base.out_features, base.in_features), target)


def _put(model: nn.Module, target: str, name: str, config: LoRAConfig | BottleneckConfig) -> None:
    module = _layer(model, target)
    table = _table(module)
    if isinstance(config, LoRAConfig) and table is not None:
        parametrization = LowRankTable(config, getattr(module, table), name)
        parametrize.register_parametrization(module, table, parametrization, unsafe=True)
        return
    place = _place(model, target, linear=isinstance(config, LoRAConfig))
    base = place.base
    part: Part
    if isinstance(config, LoRAConfig):
        assert isinstance(base, nn.Linear)
        part = LowRank(config, base)
    else:
        widths = _widths(base)
        assert widths is not None
        numbers = (one for one in chain(base.parameters(), base.buffers()) if one.is_floating_point())
        part = Bottleneck(config, *widths, next(numbers))
    place.parts[name] = part


def _place(model: nn.Module, target: str, *, linear: bool) -> Adapted | AdaptedLinear:
    """The place at a layer, made where there is none."""
    module = _layer(model, target)
    if isinstance(module, Adapted | AdaptedLinear):
        return module
    made: Adapted | AdaptedLinear
    if linear:
        assert isinstance(module, nn.Linear)
        made = AdaptedLinear(module)
    else:
        made = Adapted(module)
    _set(model, target, made)
    return made


def _freeze(model: nn.Module, fresh: set[str]) -> None:
    """Train only the fresh weights; the model notes what of its own was trained until now.

    Random features that would be drawn anew in training stay what they are, too.
    """
    stopped: set[str] = vars(model).setdefault(_STOPPED, set())
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and name not in fresh:
            parameter.requires_grad_(False)
            if _of_model(name) and ".parametrizations." not in name:
                stopped.add(_plain(name))
    for name, module in model.named_modules():
        if hasattr(module, "frozen") and not any(one.startswith(f"{name}.") for one in fresh):
            module.frozen = True


def _thaw(model: nn.Module) -> None:
    """Once no adapter is there any more, train what was trained before the first."""
    for name in vars(model).pop(_STOPPED, ()):
        model.get_parameter(name).requires_grad_(True)
    for module in model.modules():
        if hasattr(module, "frozen"):
            module.frozen = False  # type: ignore[assignment]


def _check_whole(model: nn.Module) -> None:
    """Raises KotyaError where weights of the base are held in int8 and nowhere else."""
    for name, module in model.named_modules():
        if isinstance(module, Int8Linear):
            raise KotyaError(
                f"{name.removesuffix('.base')}: held in int8, which cannot be undone; load the base again"
            )


def _hold(model: nn.Module, fresh: set[str]) -> None:
    """Every frozen linear layer in int8."""
    for name, module in list(model.named_modules()):
        held = (
            isinstance(module, Int8Linear | AdaptedLinear) or f"{name}.weight" in fresh or ".parts." in name
        )
        if isinstance(module, nn.Linear) and not held:
            _set(model, name, Int8Linear(module))


def _layer(model: nn.Module, name: str) -> nn.Module:
    return model.get_submodule(name)


def _set(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, attribute = name.rpartition(".")
    setattr(model.get_submodule(parent), attribute, module)


def _table(module: nn.Module) -> str | None:
    """The attribute that holds the rows of an embedding: a matrix that is looked up, not multiplied by."""
    if isinstance(module, nn.Linear | Part | LowRankTable) or not getattr(module, "looks_up", None):
        return None
    return str(module.looks_up)


def _widths(module: nn.Module) -> tuple[int, int] | None:
    """Of what a layer reads and writes, where it maps vectors to vectors."""
    if isinstance(module, nn.Linear):
        return (module.in_features, module.out_features) if getattr(module, "called", True) else None
    if isinstance(module, Adapted):
        return _widths(module.base)
    width = getattr(module, "width", None)
    return (width, width) if isinstance(width, int) else None
