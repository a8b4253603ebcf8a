"""An adapter of ours written in PEFT's form (see peft.py)."""

import json
import math
import re
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from kotya import folder as folders
from kotya.adapt.attach import detach
from kotya.adapt.lora import LoRAConfig
from kotya.errors import KotyaError
from kotya.files import umask, write_text
from kotya.interop.encoders import EMBEDDINGS, theirs_says
from kotya.interop.family import CLASSES
from kotya.interop.peft import CONFIG, PREFIX, TASK_TYPES, WEIGHTS, Change, Names, names_of_model, same
from kotya.tasks.encoder_recipe import ExtendConfig

_LINEAR = re.compile(r"(.+)\.parts\.adapter\.(down|up|length)")
_TABLE = re.compile(r"(.+)\.parametrizations\.(\w+)\.0\.(down|up)")
_NORM = re.compile(r"(.+)\.parts\.adapter\.copy\.(\w+)")


def export_peft(path: Path, output: Path, base: Path | None = None) -> str:
    """Write an adapter of ours as a folder that PEFT loads, whole or not at all; returns on which class it belongs.

    `base`: where the adapter's base lies, if not where it lay. Raises KotyaError for what PEFT has not.
    """
    folders.check_free(output)
    config = folders.read_config(path)
    if config.adapter is None:
        raise KotyaError(f"{path}: a whole model; PEFT's form is for adapters (--to huggingface writes it)")
    lora = config.adapter.adapt
    if not isinstance(lora, LoRAConfig):
        raise KotyaError(f"{path}: PEFT has no such adapters: of kind {lora.kind} here, LoRAs there")
    origin = folders.base_of(path, config.adapter, base)
    before_it = folders.read_config(origin).model
    extended = [
        key for key in ExtendConfig.model_fields if getattr(before_it, key) != getattr(config.model, key)
    ]
    if extended:
        raise KotyaError(
            f"{path}: made with another {' and '.join(extended)} than its base has (extend), and PEFT would find "
            "no such base; kotya merge, then --to huggingface"
        )
    model = folders.load(path, base=origin, held=False).model
    names = names_of_model(config, folders.read_vocabularies(origin)[0], path)
    detach(model)
    changes, kept = _taken_apart(folders.read_weights(path / folders.WEIGHTS))
    before = folders.read_weights(origin / folders.WEIGHTS)
    if names.head not in TASK_TYPES:
        kept = {name: tensor for name, tensor in kept.items() if not same(tensor, before.get(name))}
    _check_said(changes, kept, names, path)
    if names.head in TASK_TYPES:  # theirs keeps the whole of what stands on the encoder, trained or not
        kept |= {
            name: parameter.detach()
            for name, parameter in model.named_parameters()
            if not name.startswith(folders.ENCODER) or name.startswith(folders.POOLER)
            if not names.inside(names.theirs(name))
        }
    stacked = _stacked(changes, names, before)
    rank = max(len(change.down) for change in stacked.values())
    tensors = {
        f"{PREFIX}{module}.{kind}": tensor
        for module, change in stacked.items()
        for kind, tensor in _written(_widened(change, rank)).items()
    }
    tensors |= {PREFIX + names.theirs(name): tensor for name, tensor in kept.items()}
    said = {
        "peft_type": "LORA",
        "task_type": TASK_TYPES.get(names.head),
        "base_model_name_or_path": None,
        "r": rank,
        "lora_alpha": _whole(_alpha(lora, rank)),
        "lora_dropout": lora.dropout,
        "use_rslora": lora.scaling == "rank-stabilised",
        "use_dora": lora.dora,
        "bias": "none",
        "fan_in_fan_out": False,
        "init_lora_weights": True,
        "inference_mode": True,
        "target_modules": sorted(stacked),
        "modules_to_save": sorted({_module(names.theirs(name), names) for name in kept}) or None,
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(prefix=f".{output.name}-", dir=output.parent))
    try:
        write_text(building / CONFIG, json.dumps(said, ensure_ascii=False, indent=1))
        folders.save_weights(building / WEIGHTS, tensors, {"format": "pt"})
        building.chmod(0o777 & ~umask())
        building.rename(output)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    ending = next(ending for ending, head in CLASSES.items() if head == names.head)
    labels = theirs_says(config, path)[1].get("id2label")
    return names.family.stem + ending + (f" with num_labels={len(labels)}" if labels else "")


def _taken_apart(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Change], dict[str, Tensor]]:
    """An adapter's tensors as the changes of weights, and what is kept as a whole; both by the weights' names."""
    found: dict[str, dict[str, Tensor]] = {}
    tables, kept = set(), {}
    for name, tensor in tensors.items():
        if (match := _LINEAR.fullmatch(name)) is not None:
            found.setdefault(f"{match[1]}.weight", {})[match[2]] = tensor
        elif (match := _TABLE.fullmatch(name)) is not None:
            tables.add(f"{match[1]}.{match[2]}")
            found.setdefault(f"{match[1]}.{match[2]}", {})[match[3]] = tensor
        else:
            match = _NORM.fullmatch(name)
            kept[name if match is None else f"{match[1]}.{match[2]}"] = tensor
    changes = {
        name: Change(parts["down"], parts["up"], parts.get("length"), name in tables)
        for name, parts in found.items()
    }
    return changes, kept


def _check_said(changes: Iterable[str], kept: Iterable[str], names: Names, path: Path) -> None:
    """Raises KotyaError for what we have and their form has not."""
    for name in changes:
        if not names.inside(names.theirs(name)) and names.head in TASK_TYPES:
            raise KotyaError(f"{path}: a LoRA on {name}, of the head, which PEFT keeps as a whole")
        if name == EMBEDDINGS and names.head == "masked_lm":
            raise KotyaError(
                f"{path}: a LoRA on {name}, which is the output's matrix too; PEFT changes it for one of the two"
            )
    if names.head == "masked_lm":
        for name in kept:
            if not names.inside(names.theirs(name)):
                raise KotyaError(
                    f"{path}: {name} is trained as a whole; PEFT keeps no part of a masked language model's head"
                )


def _stacked(changes: Mapping[str, Change], names: Names, base: Mapping[str, Tensor]) -> dict[str, Change]:
    """By the names of their modules. `base`: the weights of the base, by ours."""
    groups: dict[str, dict[int, str]] = {}
    for name in changes:
        groups.setdefault(names.theirs(name), {})[names.part(name)[0]] = name
    found: dict[str, Change] = {}
    for theirs, group in groups.items():
        first = next(iter(group.values()))
        change, (_, parts) = changes[first], names.part(first)
        if parts > 1:
            change = _as_one(group, changes, parts)
            if changes[first].length is not None:
                lengths = {
                    names.part(name)[0]: tensor.norm(dim=1)
                    for name, tensor in base.items()
                    if name.startswith("encoder.layers.") and names.theirs(name) == theirs
                }
                lengths |= {
                    part: length
                    for part, name in group.items()
                    if (length := changes[name].length) is not None
                }
                change = replace(change, length=torch.cat([lengths[part] for part in range(parts)]))
        found[theirs.removesuffix(".weight")] = change
    return found


def _as_one(group: Mapping[int, str], changes: Mapping[str, Change], parts: int) -> Change:
    """The changes of several weights that theirs stacks, as that of the stack."""
    downs = [changes[name].down for name in group.values()]
    rows, rank = next(iter(changes[name].up.shape for name in group.values()))
    up = downs[0].new_zeros(parts * rows, rank * len(group))
    for number, (part, name) in enumerate(group.items()):
        up[part * rows : (part + 1) * rows, number * rank : (number + 1) * rank] = changes[name].up
    return Change(torch.cat(downs), up, None, table=False)


def _widened(change: Change, rank: int) -> Change:
    """The same change at a higher rank, since all of theirs have one."""
    more = rank - len(change.down)
    down = torch.cat([change.down, change.down.new_zeros(more, change.down.shape[1])])
    up = torch.cat([change.up, change.up.new_zeros(len(change.up), more)], dim=1)
    return replace(change, down=down, up=up)


def _written(change: Change) -> dict[str, Tensor]:
    if change.table:
        return {"lora_embedding_A": change.down, "lora_embedding_B": change.up}
    length = {} if change.length is None else {"lora_magnitude_vector": change.length}
    return {"lora_A.weight": change.down, "lora_B.weight": change.up, **length}


def _alpha(lora: LoRAConfig, rank: int) -> float:
    """That which keeps the scale at another rank."""
    share = rank / lora.rank
    return lora.alpha * (math.sqrt(share) if lora.scaling == "rank-stabilised" else share)


def _whole(number: float) -> float:
    return int(number) if number == int(number) else number


def _module(theirs: str, names: Names) -> str:
    """Of a weight that is kept as a whole, the module that their configuration names."""
    return theirs.rpartition(".")[0] if names.inside(theirs) else theirs.partition(".")[0]
