"""Models of Hugging Face's in and out: a local folder, or a name on the hub, is handed to the reader of its family."""

import json
import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from kotya import folder as folders
from kotya.adapt.lora import LoRAConfig
from kotya.errors import Fault, KotyaError
from kotya.files import umask, write_text
from kotya.interop.encoders import FAMILIES, Imported, as_theirs, read_encoder
from kotya.interop.marian import read_json, read_marian
from kotya.tasks.translation_recipe import TranslationFolder

FILES = ["*.json", "*.safetensors", "*.spm", "spiece.model", "vocab.txt", "merges.txt"]


def _translator(folder: Path) -> Imported:
    found = read_marian(folder)
    config = TranslationFolder(model=found.config, search=found.search, banned=found.banned)
    return Imported(config, found.model, (found.source, found.target))


READERS: dict[str, Callable[[Path], Imported]] = {
    "marian": _translator,
    **dict.fromkeys(FAMILIES, read_encoder),
}
"""`model_type` of `config.json`, and who reads it."""


def import_model(source: str, output: Path) -> Imported:
    """Read the model that `source` names and write it to a new folder of kotya's. Raises KotyaError (see `read`)."""
    folders.check_free(output)
    found = read(source)
    folders.create(
        output,
        config=found.config,
        vocabularies=found.vocabularies,
        recipe=None,
        tensors=folders.weights(found.model),
    )
    return found


def read(source: str) -> Imported:
    """The model that `source` names: a folder, or `owner/name` on the hub, or `owner/name@revision`.

    Raises KotyaError where there is no such folder or name, or where it holds a family that is not read.
    """
    folder = Path(source) if Path(source).exists() else download(source)
    if not folder.is_dir():
        raise KotyaError(f"{folder}: not a folder; `kotya import` reads the folder of a Hugging Face model")
    family = read_json(folder / "config.json").get("model_type")
    if not isinstance(family, str) or family not in READERS:
        known = ", ".join(READERS)
        raise KotyaError(f"{folder}/config.json: models of type {family!r} are not read; these are: {known}")
    return READERS[family](folder)


def download(name: str) -> Path:
    """The hub's files of that name in its own cache, fetched where the cache lacks them."""
    if not re.fullmatch(r"[\w.-]+/[\w.-]+(@[\w./-]+)?", name):
        raise KotyaError(f"{name}: no such folder, and not a name on the Hugging Face hub (owner/name)")
    try:
        import huggingface_hub
        from huggingface_hub import errors
    except ModuleNotFoundError:
        raise KotyaError(
            f"{name}: names on the hub need the package huggingface_hub: pip install 'kotya[hub]'"
        ) from None
    repository, _, revision = name.partition("@")
    try:
        path = huggingface_hub.snapshot_download(repository, revision=revision or None, allow_patterns=FILES)
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError):
        raise KotyaError(f"{name}: no such folder, and the Hugging Face hub has no such model") from None
    except (errors.HfHubHTTPError, errors.LocalEntryNotFoundError, OSError) as problem:
        reason = str(problem).strip().splitlines()[0]
        raise Fault(
            f"{name}: no such folder, and the Hugging Face hub cannot be reached ({reason})"
        ) from None
    return Path(path)


def export_model(path: Path, output: Path) -> str:
    """Write a model folder of ours as one that `transformers` loads, whole or not at all; returns its class there.

    Raises KotyaError for a model that none of their families is, or where `output` holds something already.
    """
    folders.check_free(output)
    adapter = folders.read_config(path).adapter
    if adapter is not None:
        way = "--to peft writes a LoRA, and kotya merge makes a whole model of it"
        if not isinstance(adapter.adapt, LoRAConfig):
            way = f"adapters of kind {adapter.adapt.kind} have no form there"
        raise KotyaError(f"{path}: an adapter, no whole model; {way}")
    loaded = folders.load(path)
    found = as_theirs(loaded, path)
    output.parent.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(prefix=f".{output.name}-", dir=output.parent))
    try:
        for name, content in (("config.json", found.config), ("tokenizer_config.json", found.tokenizer)):
            write_text(building / name, json.dumps(content, ensure_ascii=False, indent=1))
        loaded.vocabularies[0].save(building / "tokenizer.json")
        folders.save_weights(building / folders.WEIGHTS, found.weights, {"format": "pt"})
        building.chmod(0o777 & ~umask())
        building.rename(output)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return str(found.config["architectures"][0])
