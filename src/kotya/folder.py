"""The model folder: config.json, model.safetensors, tokenizer.json (or one a side), recipe.yaml.

The folder of an adapter holds what it adds to another folder, its base, which it knows by a hash of weights and
vocabulary: the head, the adapter's own layers, trained norms. Vocabulary and all other weights are the base's.

No pickle is ever loaded. Everything is written under another name first and renamed when it is whole and
on the disk, so that a folder is the old one or the new one, whatever is killed when.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from kotya import recipe as recipes
from kotya.adapt.attach import NAME, AdaptConfig, attach, own
from kotya.config import explain
from kotya.errors import Fault, KotyaError
from kotya.files import replacing, umask, write_text
from kotya.models.empty import build_empty
from kotya.models.packed_layers import stretched
from kotya.tasks.classification import ClassificationFolder
from kotya.tasks.encoder_recipe import EncoderFolder
from kotya.tasks.language_model import LanguageModelFolder
from kotya.tasks.masked_lm import MaskedLMFolder
from kotya.tasks.relevance import RelevanceFolder
from kotya.tasks.settings import AdapterOf, FolderConfig, TaskRecipe
from kotya.tasks.tagging import TaggingFolder
from kotya.tasks.translation_recipe import TranslationFolder
from kotya.text.cache import content_hash
from kotya.text.vocabularies import Vocabularies
from kotya.text.vocabulary import Vocabulary

WEIGHTS = "model.safetensors"
HEAD, TRANSFORM = "head.", "transform."
ENCODER, POOLER, FORM = "encoder.", "encoder.pooler.", ".attention.form."
"""What the names of an encoder's weights begin with in every model over one; what a base may lack."""
DECODER = "decoder."


FOLDERS: dict[str, type[FolderConfig]] = {
    "translation": TranslationFolder,
    "encoder": EncoderFolder,
    "masked_lm": MaskedLMFolder,
    "language_model": LanguageModelFolder,
    "classification": ClassificationFolder,
    "relevance": RelevanceFolder,
    "tagging": TaggingFolder,
}
"""What `config.json` says, by its task."""


@dataclass(frozen=True)
class LoadedModel:
    """A folder, read."""

    model: nn.Module
    config: FolderConfig
    vocabularies: Vocabularies
    recipe: TaskRecipe | None
    """None for an imported model."""


def create(
    path: Path,
    *,
    config: FolderConfig,
    vocabularies: Vocabularies,
    recipe: TaskRecipe | None,
    tensors: Mapping[str, Tensor] | None,
) -> None:
    """Write a new folder, whole or not at all; without weights they follow later.

    Raises KotyaError where `path` holds something already.
    """
    check_free(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    try:
        save_config(building, config)
        if config.adapter is None:
            source, target = vocabularies
            if source.fingerprint == target.fingerprint:
                source.save(building / "tokenizer.json")
            else:
                source.save(building / "source.tokenizer.json")
                target.save(building / "target.tokenizer.json")
        if recipe is not None:
            write_text(building / "recipe.yaml", recipe.to_yaml())
        if tensors is not None:
            save_weights(building / WEIGHTS, tensors)
        building.chmod(0o777 & ~umask())
        building.rename(path)
    finally:
        shutil.rmtree(building, ignore_errors=True)


def is_free(path: Path) -> bool:
    """Whether a new folder can stand there: there is nothing, or an empty folder."""
    return not path.exists() or (path.is_dir() and not any(path.iterdir()))


def check_free(path: Path) -> None:
    """Raises KotyaError where a new folder would take the place of something."""
    if not is_free(path):
        raise KotyaError(f"{path}: there is something already; name another folder, or remove it")


def weights(model: nn.Module) -> dict[str, Tensor]:
    """Every parameter once; a shared matrix goes by the first of its names."""
    return {name: parameter.detach() for name, parameter in model.named_parameters()}


def save_weights(path: Path, tensors: Mapping[str, Tensor], about: dict[str, str] | None = None) -> None:
    """Write a safetensors file in place of the one that is there. Raises Fault where the disk does not take it.

    `about`: what other readers want to find in its header.
    """
    with replacing(path) as partial:
        try:
            save_file(
                {name: tensor.detach().contiguous().cpu() for name, tensor in tensors.items()}, partial, about
            )
        except SafetensorError as error:
            raise OSError(str(error)) from None


def load(
    path: Path,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    *,
    task: str | None = None,
    base: Path | None = None,
    held: bool = True,
) -> LoadedModel:
    """The model of a folder, ready for use. Raises KotyaError where it is no whole model folder, or of another task.

    `base`: where the base of an adapter lies, if not where it lay. `held`: whether that is kept in what the adapter
    says; else in float32. A folder runs no code of its own: one whose config names a person's own score loads only
    inside `own_code(True)`.
    """
    config = read_config(path)
    if task is not None and config.task != task:
        raise KotyaError(f"{path}: a model of the task {config.task}, where one of {task} is needed")
    if not (path / WEIGHTS).exists():
        raise KotyaError(f"{path}: there are no weights yet (model.safetensors); train or --resume it first")
    origin = path if config.adapter is None else base_of(path, config.adapter, base)
    vocabularies = read_vocabularies(origin)
    model = build_empty(lambda: config.build(vocabularies))
    place = find_device(device)
    tensors = read_weights(path / WEIGHTS)
    if config.adapter is None:
        check_numbers(tensors, path / WEIGHTS)
        assign(model, tensors, path / WEIGHTS)
    else:
        how = config.adapter.adapt if held else in_float32(config.adapter.adapt)
        adapt(model, how, tensors, origin, path / WEIGHTS)
    return LoadedModel(model.to(place, dtype).eval(), config, vocabularies, read_recipe(path))


def adapt(
    model: nn.Module,
    config: AdaptConfig,
    tensors: dict[str, Tensor],
    base: Path,
    path: Path,
    *,
    name: str = NAME,
    encoder: nn.Module | None = None,
) -> None:
    """Make a model built without memory that of a base with an adapter, whose weights are `tensors`, read from `path`.

    `encoder`: of another model over the same base, to which the adapter is added by its `name`.
    Raises KotyaError where they are not those it needs, Fault where one is not a number.
    """
    check_numbers(tensors, path)
    taken = base_weights(model, base)
    # an imported adapter may bring a pooler, which comes before that of the base
    poolers = {one for one in tensors if one.startswith(POOLER)}
    fresh = trained_beside(model, taken.keys() - poolers)
    assign(model, taken | {one: tensors[one] for one in fresh if one in tensors}, path)
    if encoder is not None:
        model.encoder = encoder
    attach(model, config, fresh=fresh, name=name)
    fill(own(model, name, fresh=fresh), tensors, path)


def in_float32(config: AdaptConfig) -> AdaptConfig:
    """The same adapter over a base whose whole weights are at hand."""
    return config.model_copy(update={"held": "float32"})


def base_weights(model: nn.Module, base: Path, config: FolderConfig | None = None) -> dict[str, Tensor]:
    """The weights of a base that the model has a place for: all of the encoder's, of a translator all there are.

    `config`: what the model is to be. Where its outputs mean something else than those of the base, as labels in
    another order do, their matrix is not taken, though it be as large.
    Raises KotyaError where one is missing or of another shape, and for a base that is itself an adapter.
    """
    check_whole(base)
    known = read_config(base)
    outputs = [(one.task, getattr(one, "labels", None)) for one in (config or known, known)]
    wanted = dict(model.named_parameters())
    tensors = stretched(read_weights(base / WEIGHTS), wanted)
    if getattr(known.model, "pooler", None) == "gelu":
        # ModernBERT's pooler is what stands before its masked pieces (Warner et al. 2024), and learned there
        transform = {name: one for name, one in tensors.items() if name.startswith(TRANSFORM)}
        tensors = {name.replace(TRANSFORM, POOLER): one for name, one in transform.items()} | tensors
    taken = {
        name: tensors[name]
        for name, parameter in wanted.items()
        if name in tensors
        and tensors[name].shape == parameter.shape
        and (outputs[0] == outputs[1] or not name.startswith(HEAD))
    }
    for name in wanted:
        if name.startswith(ENCODER) and name not in taken and POOLER not in name and FORM not in name:
            if name not in tensors:
                raise KotyaError(f"{base / WEIGHTS}: the encoder's weight {name} is missing")
            found, needed = (" × ".join(map(str, one.shape)) for one in (tensors[name], wanted[name]))
            raise KotyaError(
                f"{base}: {name} is {found}, but config.json and tokenizer.json make it {needed}; "
                "the files of this base do not belong together"
            )
    return taken


def trained_beside(model: nn.Module, taken: Iterable[str]) -> list[str]:
    """The weights that an adapter's folder holds besides its layers: the head, and what the base has not."""
    known = set(taken)
    return [
        name
        for name, _ in model.named_parameters()
        if name not in known or not name.startswith((ENCODER, DECODER))
    ]


def describe_base(base: Path, run: Path, config: AdaptConfig) -> AdapterOf:
    """What the folder of an adapter says of its base."""
    lies = os.path.relpath(base.resolve(), run.resolve())
    return AdapterOf(base=lies, content=base_content(base), adapt=config)


def base_content(base: Path) -> str:
    """A hash of what an adapter takes from its base: weights and vocabularies."""
    files = [base / WEIGHTS, *sorted(base.glob("*tokenizer.json"))]
    parts = [(path.name, content_hash(path)) for path in files]
    return hashlib.blake2b(json.dumps(parts).encode(), digest_size=16).hexdigest()


def base_of(path: Path, adapter: AdapterOf, given: Path | None = None) -> Path:
    """The folder of an adapter's base: the one given, or the one it was trained on. Raises KotyaError for another."""
    base = given if given is not None else path / adapter.base
    if not (base / WEIGHTS).exists():
        raise KotyaError(
            f"{path}: an adapter whose base was {base}, where there is no model; say where: --base or, to a "
            "command without it, adapter.base in its config.json (going on with its training: base=FOLDER)"
        )
    check_whole(base)
    if base_content(base) != adapter.content:
        raise KotyaError(
            f"{path}: an adapter for another base: weights or vocabulary of {base} are not those it was made for"
        )
    return base


def check_whole(base: Path) -> None:
    """Raises KotyaError where a folder is that of an adapter, and so no base."""
    if read_config(base).adapter is not None:
        raise KotyaError(f"{base}: an adapter, where a whole model is needed; kotya merge makes one of it")


def read_recipe(path: Path) -> TaskRecipe | None:
    """The recipe of a folder; None where it was imported."""
    file = path / "recipe.yaml"
    return recipes.read(file) if file.exists() else None


def read_config(path: Path) -> FolderConfig:
    """`config.json` of a folder."""
    file = path / "config.json"
    if not path.is_dir():
        raise KotyaError(f"{path}: there is no such model folder")
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        content = content if isinstance(content, dict) else {}
        task = content.get("task")
        if task not in FOLDERS and "model_type" in content:
            raise KotyaError(f"{path}: a folder of Hugging Face's; kotya import makes one of ours of it")
        if task not in FOLDERS:
            raise ValueError(f"its task is {task!r}, which is none of {', '.join(FOLDERS)}")
        return FOLDERS[task].model_validate(content)
    except FileNotFoundError:
        raise KotyaError(f"{path}: not a model folder: it has no config.json") from None
    except ValueError as error:  # no UTF-8, no JSON, or not what its task wants
        reason = explain(error, [FOLDERS[str(task)]])[1] if isinstance(error, ValidationError) else str(error)
        raise KotyaError(f"{file}: not the config of a kotya model ({reason})") from None


def save_config(path: Path, config: FolderConfig) -> None:
    """Write a folder's `config.json`."""
    write_text(path / "config.json", config.model_dump_json(indent=1))


def read_vocabularies(path: Path, base: Path | None = None) -> Vocabularies:
    """The vocabularies of a folder, or of its base; the very same object twice where they are joint.

    `base` is where an adapter's lies, if not where it was.
    """
    adapter = read_config(path).adapter
    if adapter is not None:
        return read_vocabularies(base_of(path, adapter, base))
    if (path / "tokenizer.json").exists():
        both = Vocabulary.load(path / "tokenizer.json")
        return both, both
    return Vocabulary.load(path / "source.tokenizer.json"), Vocabulary.load(path / "target.tokenizer.json")


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file."""
    try:
        return load_file(path)
    except FileNotFoundError:
        raise KotyaError(f"{path}: there is no such file") from None
    except (SafetensorError, OSError) as error:
        raise KotyaError(f"{path}: broken or cut short ({error})") from None


def check_numbers(tensors: dict[str, Tensor], path: Path) -> None:
    """Raises Fault where a weight is NaN: nothing that such a model says would be one; KotyaError for other types."""
    for name, tensor in tensors.items():
        if not tensor.is_floating_point():
            raise KotyaError(
                f"{path}: the weight {name} is of {tensor.dtype}, where numbers with a point are"
            )
        if tensor.numel() and tensor.amin().isnan():  # a pass over the memory, and no more of it
            raise Fault(f"{path}: the weight {name} is not a number (NaN); take an earlier checkpoint")


def assign(model: nn.Module, tensors: dict[str, Tensor], path: Path) -> None:
    """Give a model built without memory its weights. Raises KotyaError where they are not those it needs."""
    check_same(dict(model.named_parameters()), tensors, path)
    _materialise(model, tensors)


@torch.no_grad()
def fill(parameters: dict[str, nn.Parameter], tensors: dict[str, Tensor], path: Path) -> None:
    """Copy weights into parameters of the same names. Raises KotyaError where they are not the same."""
    check_same(parameters, tensors, path)
    for name, parameter in parameters.items():
        parameter.copy_(tensors[name])


def check_same(wanted: dict[str, nn.Parameter], tensors: dict[str, Tensor], path: Path) -> None:
    """Raises KotyaError naming a weight that is missing, too many or of another shape."""
    for name, parameter in wanted.items():
        if name not in tensors:
            raise KotyaError(f"{path}: the weight {name} is missing")
        if tensors[name].shape != parameter.shape:
            found, needed = (" × ".join(map(str, shape)) for shape in (tensors[name].shape, parameter.shape))
            raise KotyaError(
                f"{path}: {name} is {found} but config.json and the vocabulary make it {needed}; "
                "the files of this folder do not belong together"
            )
    extra = sorted(set(tensors) - set(wanted))
    if extra:
        raise KotyaError(f"{path}: the model has no weight {extra[0]!r}")


def _materialise(model: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Put the tensors in place of parameters on the meta device; shared ones stay shared, tables are made again."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    made: dict[int, nn.Parameter] = {}
    for module in model.modules():
        for key, parameter in list(module.named_parameters(recurse=False)):
            tensor = tensors[names[id(parameter)]]
            new = made.setdefault(id(parameter), nn.Parameter(tensor, requires_grad=parameter.requires_grad))
            setattr(module, key, new)
        for key, table in list(module.named_buffers(recurse=False)):
            # empty tables, filled on first use; they are not part of the weights
            setattr(module, key, torch.empty(table.shape, device="cpu"))


def find_device(name: str) -> torch.device:
    """A device by name: the CPU or an accelerator. Raises KotyaError where this machine has none such that computes.

    `auto` is what KOTYA_DEVICE names, else a GPU of CUDA's or ROCm's where there is one, else the CPU.
    """
    why = ""
    if name == "auto":
        said = os.environ.get("KOTYA_DEVICE", "auto")
        name = said if said != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
        why = "; KOTYA_DEVICE names it" if said != "auto" else "; --device cpu goes without it"
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    kinds = [accelerator.type] if accelerator is not None else []
    numbered = [f"{kind}:{number}" for kind in kinds for number in range(torch.accelerator.device_count())]
    if name not in ("cpu", *kinds, *numbered):
        raise KotyaError(f"there is no device {name!r} here; there is {', '.join(['cpu', *numbered])}{why}")
    device = torch.device(name)
    try:
        torch.ones(1, device=device).add(1.0).item()
    except RuntimeError as error:
        raise KotyaError(f"the device {name!r} does not compute: {str(error).splitlines()[0]}{why}") from None
    return device
