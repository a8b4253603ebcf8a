"""The made-up corpus as files."""

from pathlib import Path

import pytest

from training_corpus import sentences, write


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """train and dev, every target the source word by word, backwards."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "data"
    folder.mkdir()
    write(folder, "train", sentences(400, 1))
    write(folder, "dev", sentences(20, 2))
    return folder
