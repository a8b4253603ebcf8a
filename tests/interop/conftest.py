"""What the tests of imports share."""

from pathlib import Path

import pytest
import torch

from tiny_marian import write_marian


@pytest.fixture(scope="session")
def marian(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One such folder for all tests that only read it."""
    return write_marian(tmp_path_factory.mktemp("hugging-face") / "marian")


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)
