"""kotya: train, fine-tune, inspect and serve sequence models."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kotya.version import __version__

__all__ = ["__version__", "load"]


def load(path: str | Path | Sequence[str | Path], **options: Any) -> Any:
    """Open a model folder, or several translators as an ensemble.

    `kotya.load("runs/ru-en").translate("Я видел котю на мате")`. What comes back is of the model's task: a Translator,
    Classifier, Ranker, Tagger, MaskFiller or Generator.
    """
    from kotya.inference.loading import load as load_folder

    return load_folder(path, **options)
