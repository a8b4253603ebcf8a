"""Files written whole or not at all: under another name first, through to the disk, then renamed.

A file is the old one or the new one, whatever is killed when.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from kotya.errors import Fault, KotyaError

DEVICES = Path("/dev")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """The name under which to write a file, which takes the place of the one at `path` when the block ends well.

    A pipe or a device (`/dev/stdout`) is written to as it stands. Raises KotyaError where there can be no such file,
    Fault where the disk does not take it.
    """
    check_file(path)
    plain = (path.is_file() or not path.exists()) and DEVICES not in path.absolute().parents
    partial = path.with_name(f".{path.name}.partial") if plain else path
    try:
        yield partial
        if plain:
            partial.chmod(0o666 & ~umask())
            with open(partial, "rb") as file:
                os.fsync(file.fileno())
            partial.replace(path)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError) as error:
        raise KotyaError(f"{path}: cannot be written ({(error.strerror or str(error)).lower()})") from None
    except OSError as error:
        raise Fault(
            f"{path}: could not be written ({error.strerror or error}); what was there before is untouched"
        ) from None
    finally:
        if plain:
            with suppress(OSError):
                partial.unlink()


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
