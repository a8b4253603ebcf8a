"""kotya: train, fine-tune, inspect and serve sequence models."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

__version__ = "0.1.0"
__all__ = ["__version__", "load"]


def load(path: str | Path | Sequence[str | Path], **options: Any) -> Any:
    """Open a model folder (or several, an ensemble) for use: `kotya.load("runs/ru-en").translate("Я видел котю на мате")`."""
    from kotya.inference.loading import load as load_folder

    return load_folder(path, **options)
