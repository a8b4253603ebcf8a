"""Files written whole or not at all: under another name first, through to the disk, then renamed.

A file is the old one or the new one, whatever is killed when.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kotya.errors import Fault, KotyaError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Where to write a file that takes the place of `path` at the end.

    Raises KotyaError where no file can stand there, Fault where the disk does not take it.
    """
    check_file(path)
    partial = path.with_name(f".{path.name}.partial")
    try:
        yield partial
        partial.chmod(0o666 & ~umask())
        with open(partial, "rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        message = (
            f"{path}: could not be written ({error.strerror or error}); what was there before is untouched"
        )
        raise (KotyaError if isinstance(error, PermissionError) else Fault)(message) from None
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file in place of the one that is there. Raises as `replacing` does."""
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")


def check_file(path: Path) -> None:
    """Raises KotyaError where no file can be written, so that it is said before any work."""
    if path.is_dir():
        raise KotyaError(f"{path}: a folder, where a file is to be written")
    if not path.parent.is_dir():
        raise KotyaError(f"{path.parent}: there is no such folder to put {path.name} in")


def umask() -> int:
    """Which permissions new files do not get; libraries that write files for us choose others."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
