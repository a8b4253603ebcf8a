"""Shapes and types are checked at call time, everywhere but in cli/, whose parser brings types of its own."""

from pathlib import Path

import pytest
from jaxtyping import install_import_hook

CHECKED = [
    "attention",
    "dropout",
    "folder",
    "inference",
    "interop",
    "metrics",
    "models",
    "pictures",
    "recipe",
    "search",
    "tasks",
    "text",
    "training",
]
install_import_hook(
    [f"kotya.{name}" for name in CHECKED],
    "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))",
)

from training_corpus import sentences, write  # noqa: E402 (it imports what is to be checked)


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """train and dev, every target the source word by word, backwards."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "data"
    folder.mkdir()
    write(folder, "train", sentences(400, 1))
    write(folder, "dev", sentences(20, 2))
    return folder
