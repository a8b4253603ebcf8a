"""What the tests of imports share."""

from pathlib import Path

import pytest

from tiny_marian import write_marian


@pytest.fixture(scope="session")
def marian(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One such folder for all tests that only read it."""
    return write_marian(tmp_path_factory.mktemp("hugging-face") / "marian")
