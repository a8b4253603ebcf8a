"""LoRAs in and out in PEFT's form: `adapter_config.json`, `adapter_model.safetensors`, names as in `transformers`.

    lora_A [r, inputs], lora_B [outputs, r]             down, up        W' = W + (α/r) BA
    lora_embedding_A [r, pieces], ..._B [size, r]       down, up        of a table
    lora_magnitude_vector [outputs]                     length          DoRA
    modules_to_save                                     the head, and norms where they are trained

Where one weight of theirs holds several of ours (ModernBERT's `Wqkv` has query, key and value), one change of theirs
is as many of ours with one A, and several of ours are one of theirs of a higher rank: A₁ over A₂, B₁ and B₂ each in its
rows and its columns, nothing elsewhere.
"""

import json
import math
import re
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from kotya import folder as folders
from kotya.adapt.attach import NORM, targets
from kotya.adapt.lora import LoRAConfig
from kotya.errors import KotyaError
from kotya.files import umask, write_text
from kotya.interop.base import is_foreign
from kotya.interop.encoders import EMBEDDINGS, OUTPUT, family_of, theirs_says
from kotya.interop.family import CLASSES, Family, Head, names_of, validated
from kotya.interop.marian import read_json
from kotya.interop.stored import read_stored
from kotya.models.bert import BertConfig
from kotya.models.empty import build_empty
from kotya.tasks.classification import ClassificationFolder
from kotya.tasks.masked_lm import MaskedLMFolder
from kotya.tasks.settings import FolderConfig
from kotya.tasks.tagging import TaggingFolder
from kotya.text.vocabulary import Vocabulary

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."
"""What the names of all of their tensors begin with."""
TASK_TYPES: dict[Head, str] = {"classification": "SEQ_CLS", "tagging": "TOKEN_CLS"}

_LINEAR = re.compile(r"(.+)\.parts\.adapter\.(down|up|length)")
_TABLE = re.compile(r"(.+)\.parametrizations\.(\w+)\.0\.(down|up)")
_NORM = re.compile(r"(.+)\.parts\.adapter\.copy\.(\w+)")
_THEIRS = re.compile(
    r"(?P<module>.+)\.(?:lora_(?P<linear>[AB])\.weight|lora_embedding_(?P<table>[AB])"
    r"|lora_magnitude_vector(?:\.weight)?)"
)


@dataclass(frozen=True)
class Change:
    """Of one weight: (α/r) BA, and of DoRA the lengths of its rows."""

    down: Tensor
    up: Tensor
    length: Tensor | None
    table: bool
    """Whether the weight is one of rows that are looked up, so that the change is (BA)ᵀ."""


@dataclass(frozen=True)
class Names:
    """Ours and theirs, for one model."""

    family: Family
    settings: BertConfig
    head: Head
    pad: int

    def theirs(self, name: str) -> str:
        """Their weight that holds one of ours; a bare encoder has no prefix."""
        found = self.family.place(name, self.settings, self.head, self.pad).name
        return found.removeprefix(self.family.prefix) if self.head == "encoder" else found

    def part(self, name: str) -> tuple[int, int]:
        """Which of how many that are stacked there."""
        place = self.family.place(name, self.settings, self.head, self.pad)
        return place.part, place.parts

    def inside(self, theirs: str) -> bool:
        """Whether a weight of theirs is the encoder's, and not one of what stands on it."""
        return self.head == "encoder" or theirs.startswith(self.family.prefix)


# ── Out ───────────────────────────────────────────────────────────────────────────────────────────────────


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
    model = folders.load(path, base=origin).model
    names = _names(config, folders.read_vocabularies(origin)[0], path)
    changes, kept = _taken_apart(folders.read_weights(path / folders.WEIGHTS))
    before = folders.read_weights(origin / folders.WEIGHTS)
    if names.head not in TASK_TYPES:
        kept = {name: tensor for name, tensor in kept.items() if not _same(tensor, before.get(name))}
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


def _names(config: FolderConfig, vocabulary: Vocabulary, path: Path) -> Names:
    """Raises KotyaError for a model that none of their families is."""
    head, _ = theirs_says(config, path)
    next_sentence = isinstance(config, MaskedLMFolder) and config.next_sentence
    family = family_of(config.model, head, vocabulary, path, next_sentence=next_sentence)
    return Names(family, config.model, head, vocabulary.pad)


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


# ── In ────────────────────────────────────────────────────────────────────────────────────────────────────


class PeftJson(BaseModel):
    """What is read of `adapter_config.json`."""

    model_config = ConfigDict(extra="allow")

    r: int = Field(8, ge=1)
    lora_alpha: float = Field(8, gt=0)
    lora_dropout: float = Field(0.0, ge=0, lt=1)
    use_rslora: bool = False
    use_dora: bool = False
    task_type: str | None = None
    rank_pattern: dict[str, int] | None = None
    alpha_pattern: dict[str, float] | None = None
    bias: str = "none"
    init_lora_weights: bool | str = True

    def of(self, module: str) -> tuple[int, float]:
        """Rank and α of a module of theirs."""
        rank, alpha = self.rank_pattern or {}, self.alpha_pattern or {}
        return rank.get(_key(rank, module), self.r), alpha.get(_key(alpha, module), self.lora_alpha)


def _key(patterns: Mapping[str, object], module: str) -> str:
    return next((key for key in patterns if re.match(rf"(.*\.)?({key})$", module)), "")


SILENT = (
    *("peft_type", "peft_version", "auto_mapping", "base_model_name_or_path", "revision", "inference_mode"),
    *("target_modules", "exclude_modules", "modules_to_save", "layers_to_transform", "qalora_group_size"),
    *("megatron_config", "megatron_core", "runtime_config"),
)
"""Settings that say nothing that the names of the tensors do not say too."""
KEEPS_THE_BASE = (True, False, "gaussian", "orthogonal", "eva")
"""Ways to begin that leave the weights of the base as they were."""


@dataclass(frozen=True)
class ImportedAdapter:
    """An adapter of PEFT's, read and written."""

    config: FolderConfig
    tensors: dict[str, Tensor]


def is_peft(path: Path) -> bool:
    """Whether a folder holds an adapter of PEFT's."""
    return (path / CONFIG).exists()


def import_peft(source: Path, output: Path, base: Path | None) -> ImportedAdapter:
    """Write an adapter of PEFT's as one of ours for a model folder of ours, `base`, imported from what it was made for.

    Raises KotyaError without a base, and for what our adapters have not.
    """
    folders.check_free(output)
    if not is_peft(source):
        raise KotyaError(f"{source}: there is no {CONFIG}; --base is for adapters of PEFT's")
    said = _said(source)
    if base is None:
        raise KotyaError(f"{source}: an adapter of PEFT's; say whose: --base, a model folder")
    if is_foreign(base):
        raise KotyaError(f"{base}: a folder of Hugging Face's; `kotya import` makes the base of it")
    known, vocabularies = folders.read_config(base), folders.read_vocabularies(base)
    if known.adapter is not None:
        raise KotyaError(
            f"{base}: an adapter; what is adapted is a whole model (kotya merge makes one of it)"
        )
    weights, stored = source / WEIGHTS, _stored(source)
    config = _with_head(known, said, stored, vocabularies[0], source, base)
    names = _names(config, vocabularies[0], base)
    model = build_empty(lambda: config.build(vocabularies))
    ours: dict[str, list[str]] = {}
    for name, _ in model.named_parameters():
        for one in names_of(names.family, names.family.place(name, config.model, names.head, names.pad).name):
            ours.setdefault(one, []).append(name)
    changes, kept = _read(stored, ours, names, weights)
    if not changes:
        raise KotyaError(f"{weights}: there is no LoRA in it")
    before = folders.read_weights(base / folders.WEIGHTS)
    for name, _ in model.named_parameters():
        if name not in before and name not in kept:
            raise KotyaError(
                f"{weights}: {names.theirs(name)} is neither there nor in {base}: it was drawn at random where the "
                "adapter was trained; name its module in modules_to_save"
            )
    beside = folders.trained_beside(model, before)
    kept = {name: before[name] for name in beside if name not in kept} | {
        name: tensor
        for name, tensor in kept.items()
        if name in beside or _is_norm(name) or not _same(tensor, before.get(name))
    }
    rank, alpha = _uniform(said, changes, names, source / CONFIG)
    lora = LoRAConfig(
        kind="lora",
        rank=rank,
        alpha=alpha,
        dropout=said.lora_dropout,
        scaling="rank-stabilised" if said.use_rslora else "standard",
        dora=said.use_dora,
        norms=_trained_norms(kept, [name for name, _ in model.named_parameters()], weights),
        targets=_targets(model, changes, config.model.layers),
    )
    tensors = _put_together(changes, kept)
    config = config.model_copy(update={"adapter": folders.describe_base(base, output, lora)})
    folders.adapt(model, lora, dict(tensors), base, weights)
    folders.create(output, config=config, vocabularies=vocabularies, recipe=None, tensors=tensors)
    return ImportedAdapter(config, tensors)


def _stored(source: Path) -> dict[str, Tensor]:
    """Their tensors, by names as `transformers` has them."""
    path = source / WEIGHTS
    pickled = path.with_suffix(".bin")
    if not path.exists() and pickled.exists():
        raise KotyaError(f"{pickled}: a pickle, which kotya does not load; save it as safetensors")
    return {name.removeprefix(PREFIX): tensor for name, tensor in read_stored(path).items()}


def _said(source: Path) -> PeftJson:
    """`adapter_config.json`. Raises KotyaError for settings that kotya's LoRA has not."""
    path = source / CONFIG
    content = read_json(path)
    kind = content.get("peft_type")
    if kind != "LORA":
        raise KotyaError(f"{path}: adapters of type {kind!r} are not read; LORA is")
    said = validated(PeftJson, content, path)
    if said.task_type not in (None, "FEATURE_EXTRACTION", *TASK_TYPES.values()):
        raise KotyaError(f"{path}: task_type {said.task_type!r} is not read; SEQ_CLS and TOKEN_CLS are")
    if said.bias != "none":
        raise KotyaError(f"{path}: bias is {said.bias!r}; kotya's LoRA trains no biases ('none')")
    if said.init_lora_weights not in KEEPS_THE_BASE:
        raise KotyaError(
            f"{path}: init_lora_weights is {said.init_lora_weights!r}, which changes the base; save it as a LoRA"
        )
    for pattern in (*(said.rank_pattern or {}), *(said.alpha_pattern or {})):
        try:
            re.compile(pattern)
        except re.error as error:
            raise KotyaError(f"{path}: {pattern!r} is no pattern: {error}") from None
    for key, value in (said.model_extra or {}).items():
        if key not in SILENT and value not in (None, False, "", [], {}):
            raise KotyaError(f"{path}: {key} is {json.dumps(value)}; kotya's LoRA has no such thing")
    return said


def _with_head(
    known: FolderConfig,
    said: PeftJson,
    stored: Mapping[str, Tensor],
    vocabulary: Vocabulary,
    source: Path,
    base: Path,
) -> FolderConfig:
    """What the base becomes: a classifier or a tagger, where the adapter brings a head. Raises KotyaError."""
    if not isinstance(known.model, BertConfig):
        raise KotyaError(
            f"{base}: a model of the task {known.task}; adapters of PEFT's are read for encoders"
        )
    head = next((head for head, kind in TASK_TYPES.items() if kind == said.task_type), None)
    if head is None:
        return known

    def made(labels: list[str]) -> FolderConfig:
        if head == "tagging":
            return TaggingFolder(model=known.model, labels=labels)
        return ClassificationFolder(model=known.model, labels=labels if len(labels) > 1 else [], texts=None)

    output = _names(made([""]), vocabulary, base).theirs(OUTPUT)
    before, about = theirs_says(known, base)
    if output not in stored and before == head:
        return known
    if output not in stored:
        raise KotyaError(f"{source / WEIGHTS}: there is no {output} in it, and {base} has no such head")
    count = len(stored[output])
    if before == head and len(about["id2label"]) == count:
        return known  # the names of its labels are better than none
    return made([f"LABEL_{number}" for number in range(count)])


def _read(
    stored: Mapping[str, Tensor], ours: Mapping[str, list[str]], names: Names, path: Path
) -> tuple[dict[str, Change], dict[str, Tensor]]:
    """Their tensors as changes of our weights, and as weights of ours. Raises KotyaError for one that is neither."""
    found: dict[str, dict[str, Tensor]] = {}
    tables: set[str] = set()
    kept: dict[str, Tensor] = {}
    for name, tensor in stored.items():
        match = _THEIRS.fullmatch(name)
        if match is None:
            if name not in ours:
                raise KotyaError(
                    f"{path}: {name}: the model has no such weight, or no such part of an adapter"
                )
            kept |= dict.fromkeys(ours[name], tensor.to(torch.float32))
            continue
        module = match["module"]
        kind = {"A": "down", "B": "up", None: "length"}[match["linear"] or match["table"]]
        if match["table"]:
            tables.add(module)
        found.setdefault(module, {})[kind] = tensor.to(torch.float32)
    changes: dict[str, Change] = {}
    for module, parts in found.items():
        weights = ours.get(f"{module}.weight", [])
        fits = [name for name in weights if _adaptable(name, table=module in tables)]
        if not fits:
            raise KotyaError(f"{path}: {module}: kotya has no LoRA there")
        if "down" not in parts or "up" not in parts:
            raise KotyaError(f"{path}: {module}: one of its two matrices is missing")
        for name in fits:
            changes[name] = _unstacked(parts, name, names, table=module in tables, path=path)
    return changes, kept


def _adaptable(name: str, *, table: bool) -> bool:
    """Whether a LoRA of ours can stand at that weight."""
    if table:
        return name == EMBEDDINGS
    return name.endswith(".weight") and name.startswith(("encoder.layers.", "encoder.pooler.", "transform."))


def _unstacked(parts: Mapping[str, Tensor], name: str, names: Names, *, table: bool, path: Path) -> Change:
    down, up, length = parts["down"], parts["up"], parts.get("length")
    if table:
        if length is not None:
            raise KotyaError(
                f"{path}: DoRA on an embedding, {names.theirs(name)}; kotya's is for linear layers"
            )
        return Change(down, up, None, table=True)
    part, count = names.part(name)
    return Change(
        down,
        up.chunk(count)[part],
        None if length is None else length.flatten().chunk(count)[part],
        table=False,
    )


def _uniform(said: PeftJson, changes: Iterable[str], names: Names, path: Path) -> tuple[int, float]:
    """The one rank and α that all modules have. Raises KotyaError where there are several."""
    found = {said.of(names.theirs(name).removesuffix(".weight")) for name in changes}
    if len(found) > 1:
        raise KotyaError(
            f"{path}: rank_pattern or alpha_pattern: kotya's LoRA has one rank and one alpha everywhere"
        )
    return found.pop()


def _trained_norms(kept: Mapping[str, Tensor], every: Iterable[str], path: Path) -> bool:
    """Whether norms are among what is kept as a whole. Raises KotyaError for anything but them and heads."""
    norms = {name for name in every if _is_norm(name)}
    trained = norms & set(kept)
    for name in kept:
        if name not in norms and name.startswith("encoder.") and not name.startswith(folders.POOLER):
            raise KotyaError(
                f"{path}: {name} is kept as a whole; kotya's adapters have heads and the layers' norms"
            )
    if trained and trained != norms:
        raise KotyaError(f"{path}: {sorted(trained)[0]} is trained, but not the norms of all layers")
    return bool(trained)


def _same(tensor: Tensor, other: Tensor | None) -> bool:
    return other is not None and torch.equal(tensor, other)


def _is_norm(name: str) -> bool:
    """Whether a weight is of a norm that adapters may have of their own."""
    return fnmatchcase(name.rpartition(".")[0], NORM)


def _targets(model: nn.Module, changes: Mapping[str, Change], layers: int) -> tuple[str, ...]:
    """The layers as a recipe names them: by the ends of their names, where all blocks have them."""
    table = EMBEDDINGS.rpartition(".")[0]  # the module that looks it up
    whole = tuple(table if change.table else name.removesuffix(".weight") for name, change in changes.items())
    ends = [re.sub(r"^encoder\.layers\.\d+\.", "", name) for name in whole]
    short = tuple(
        dict.fromkeys(
            end if ends.count(end) == layers else name for name, end in zip(whole, ends, strict=True)
        )
    )
    found = targets(model, LoRAConfig(kind="lora", targets=short))
    return short if set(found) == set(whole) else whole


def _put_together(changes: Mapping[str, Change], kept: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """An adapter's tensors by the names that they have in our folder."""
    tensors: dict[str, Tensor] = {}
    for name, change in changes.items():
        module, _, attribute = name.rpartition(".")
        where = f"{module}.parametrizations.{attribute}.0" if change.table else f"{module}.parts.adapter"
        tensors |= {f"{where}.down": change.down, f"{where}.up": change.up}
        if change.length is not None:
            tensors[f"{where}.length"] = change.length
    for name, tensor in kept.items():
        module, _, attribute = name.rpartition(".")
        tensors[f"{module}.parts.adapter.copy.{attribute}" if _is_norm(name) else name] = tensor
    return {name: tensor.clone() for name, tensor in tensors.items()}
