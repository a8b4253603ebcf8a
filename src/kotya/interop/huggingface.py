"""Opens a Hugging Face model, a local folder or a name on the hub, and hands it to the reader of its family."""

import re
from collections.abc import Callable
from pathlib import Path

from kotya import folder as folders
from kotya.errors import Fault, KotyaError
from kotya.interop.marian import Marian, read_json, read_marian
from kotya.tasks.translation_recipe import TranslationFolder

READERS: dict[str, Callable[[Path], Marian]] = {"marian": read_marian}
"""`model_type` of `config.json`, and who reads it."""

FILES = ["*.json", "*.safetensors", "*.spm"]


def import_model(source: str, output: Path) -> Marian:
    """Read the model that `source` names and write it to a new folder of kotya's. Raises KotyaError (see `read`)."""
    model = read(source)
    config = TranslationFolder(model=model.config, search=model.search, banned=model.banned)
    vocabularies = (model.source, model.target)
    folders.create(output, config=config, vocabularies=vocabularies, recipe=None, model=model.model)
    return model


def read(source: str) -> Marian:
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
