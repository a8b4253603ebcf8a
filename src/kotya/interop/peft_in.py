"""An adapter of PEFT's read as one of ours (see peft.py)."""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from kotya import folder as folders
from kotya.adapt.attach import NORM, targets
from kotya.adapt.lora import LoRAConfig
from kotya.errors import KotyaError
from kotya.interop.base import is_foreign
from kotya.interop.encoders import EMBEDDINGS, OUTPUT, theirs_says
from kotya.interop.family import names_of, validated
from kotya.interop.marian import read_json
from kotya.interop.peft import CONFIG, PREFIX, TASK_TYPES, WEIGHTS, Change, Names, names_of_model, same
from kotya.interop.stored import read_stored
from kotya.models.bert import BertConfig
from kotya.models.empty import build_empty
from kotya.tasks.classification import ClassificationFolder
from kotya.tasks.settings import FolderConfig
from kotya.tasks.tagging import TaggingFolder
from kotya.text.vocabulary import Vocabulary

_THEIRS = re.compile(
    r"(?P<module>.+)\.(?:lora_(?P<linear>[AB])\.weight|lora_embedding_(?P<table>[AB])"
    r"|lora_magnitude_vector(?:\.weight)?)"
)


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
    names = names_of_model(config, vocabularies[0], base)
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
        if name in beside or _is_norm(name) or not same(tensor, before.get(name))
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

    encoder = names_of_model(known, vocabulary, base).family.under(known.model, head)

    def made(labels: list[str]) -> FolderConfig:
        if head == "tagging":
            return TaggingFolder(model=encoder, labels=labels)
        return ClassificationFolder(model=encoder, labels=labels if len(labels) > 1 else [], texts=None)

    output = names_of_model(made([""]), vocabulary, base).theirs(OUTPUT)
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
