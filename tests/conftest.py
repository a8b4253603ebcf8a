"""For all tests."""

import os
from collections.abc import Iterator
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = (
    "1"  # of processes that tests start, too; a second thread gains nothing at these sizes
)

os.environ.setdefault("KOTYA_DEVICE", "cpu")  # promises that are bit for bit are the CPU's

import pytest
import torch

import checks

checks.check()

from training_corpus import sentences, write  # noqa: E402 (it imports what is to be checked)


@pytest.fixture(autouse=True)
def fresh_state() -> None:
    """No test depends on what the ones before it drew, or on the threads that a command set."""
    torch.manual_seed(1)
    torch.set_num_threads(1)


@pytest.fixture
def unchecked() -> Iterator[None]:
    """Of a test of whole trainings: its calls go unchecked."""
    with checks.unchecked():
        yield


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """train and dev, every target the source word by word, backwards."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "data"
    folder.mkdir()
    write(folder, "train", sentences(400, 1))
    write(folder, "dev", sentences(20, 2))
    return folder
