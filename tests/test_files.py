"""Files are the old ones or the new ones, whatever happens while they are written."""

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from kotya.errors import Fault, KotyaError
from kotya.files import replacing, write_text


@contextmanager
def largest(size: int) -> Iterator[None]:
    """No file of this process may grow past so many bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_file_is_replaced(tmp_path: Path) -> None:
    for text in ("old", "new: Я"):
        write_text(tmp_path / "a", text)
        assert (tmp_path / "a").read_text(encoding="utf-8") == text
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_what_fails_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write_text(path, "old")
    with suppress(KeyboardInterrupt), replacing(path) as partial:
        partial.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    with largest(100), pytest.raises(Fault, match=r"a: could not be written .* is untouched"):
        write_text(path, "new" * 100)
    with replacing(path) as partial:
        partial.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert [one.name for one in tmp_path.iterdir()] == ["a"]


def test_where_no_file_can_stand_is_the_person_s_mistake(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    for path, message in (
        (tmp_path / "folder", "folder: a folder, where a file"),
        (tmp_path / "none" / "a", "none: there is no such folder to put a in"),
        (tmp_path / "file" / "a", "file: there is no such folder to put a in"),
    ):
        with pytest.raises(KotyaError, match=message) as caught:
            write_text(path, "x")
        assert caught.value.exit_code == 2


def test_a_pipe_is_written_to_as_it_stands(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    reading = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    write_text(tmp_path / "pipe", "text")
    assert os.read(reading, 10) == b"text"
    os.close(reading)
    assert [one.name for one in tmp_path.iterdir()] == ["pipe"]
