"""kotya: train, fine-tune, inspect and serve sequence models."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kotya.version import __version__

__all__ = ["__version__", "load"]


def load(path: str | Path | Sequence[str | Path], **options: Any) -> Any:
    """Open a model folder, or several as an ensemble: `kotya.load("runs/ru-en").translate("Я видел котю на мате")`."""
    from kotya.inference.loading import load_translator as load_folder

    return load_folder(path, **options)
