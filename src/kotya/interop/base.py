"""A folder of Hugging Face's named as a recipe's base: imported once, kept, and put in its place."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

from kotya.interop.huggingface import import_model
from kotya.tasks.encoder_recipe import EncoderRecipe
from kotya.tasks.settings import TaskRecipe
from kotya.text.cache import cache_folder, content_hash
from kotya.version import __version__


def with_imported_base(recipe: TaskRecipe, say: Callable[[str], None]) -> TaskRecipe:
    """The recipe with kotya's own folder for its base, which is made where there is none yet. Raises KotyaError."""
    base = recipe.base if isinstance(recipe, EncoderRecipe) else None
    if base is None or not is_foreign(base):
        return recipe
    return recipe.model_copy(update={"base": imported(base, say)})


def imported(base: Path, say: Callable[[str], None]) -> Path:
    """kotya's own folder for one of Hugging Face's, made in the cache where it is not there yet. Raises KotyaError."""
    files = sorted(
        path for path in base.iterdir() if path.suffix in (".json", ".safetensors", ".txt", ".model")
    )
    told = json.dumps([__version__, *map(content_hash, files)])  # another kotya may read them otherwise
    name = hashlib.blake2b(told.encode(), digest_size=16).hexdigest()
    folder = cache_folder().parent / "bases" / name
    known = folder.exists()
    if not known:
        for note in import_model(str(base), folder).notes:
            say(f"{base}: {note}")
    say(f"{base}: {'imported before, to' if known else 'imported to'} {folder}")
    return folder


def is_foreign(path: Path) -> bool:
    """Whether a folder is one of Hugging Face's."""
    try:
        content = json.loads((path / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False  # whoever opens it says what is wrong
    return isinstance(content, dict) and "model_type" in content
