"""Shapes and types are checked at call time, everywhere but in cli/, whose parser brings types of its own."""

import os
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = (
    "1"  # of processes that tests start, too; a second thread gains nothing at these sizes
)

import pytest
import torch
from jaxtyping import install_import_hook

CHECKED = [
    "attention",
    "dropout",
    "files",
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


@pytest.fixture(autouse=True)
def fresh_state() -> None:
    """No test depends on what the ones before it drew, or on the threads that a command set."""
    torch.manual_seed(1)
    torch.set_num_threads(1)


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """train and dev, every target the source word by word, backwards."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "data"
    folder.mkdir()
    write(folder, "train", sentences(400, 1))
    write(folder, "dev", sentences(20, 2))
    return folder
