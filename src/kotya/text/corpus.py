"""Readers of text files: one sentence a line, plain or gzip, alone, in parallel, or as columns of a TSV; streaming.

Lines end with \\n or \\r\\n and nothing else, so that other line breaks inside a sentence never misalign files.
"""

import codecs
import gzip
import io
import sys
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any, BinaryIO

from kotya.errors import KotyaError


@dataclass(frozen=True)
class TextSource:
    """Lines of one side of a corpus: files one after another, each plain or .gz, or one column of TSV files."""

    paths: tuple[Path, ...]
    column: int | None = None
    """Which tab-separated column holds the text, from 0; None where the whole line is the text."""

    @classmethod
    def of(cls, source: "TextSource | Path | str | Sequence[Path | str]") -> "TextSource":
        """A source from what a person would write: a path, or several."""
        if isinstance(source, TextSource):
            return source
        paths = (source,) if isinstance(source, str | Path) else tuple(source)
        return cls(tuple(Path(path) for path in paths))

    @classmethod
    def columns(cls, path: Path, names: Sequence[str], wanted: Sequence[str]) -> "tuple[TextSource, ...]":
        """The wanted columns of a TSV whose columns are named in order (`[label, -, text]`; `-` is one not used).

        Raises KotyaError where a wanted column has no name in the list.
        """
        for name in wanted:
            if name not in names:
                raise KotyaError(f"{path}: columns {list(names)} do not say which one is {name!r}")
        return tuple(cls((Path(path),), names.index(name)) for name in wanted)

    def __str__(self) -> str:
        """The files, for a message."""
        return ", ".join(map(str, self.paths))

    def lines(self) -> Iterator[str]:
        """All lines in order. Raises KotyaError as read_lines does."""
        for path in self.paths:
            yield from read_lines(path, self.column)

    def valid_lines(self) -> Iterator[str]:
        """The lines that are UTF-8, for a reader that leaves it to another to stop at the rest or count them."""
        for path in self.paths:
            yield from (line for line in read_marked(path, self.column) if line is not None)


@dataclass
class Position:
    """How far into a file a reader is, in bytes of the file as it lies on the disk (compressed for .gz)."""

    done: int = 0


def read_lines(path: Path, column: int | None = None) -> Iterator[str]:
    """The lines of one file, without their line ends; with a column, that field of every line.

    Raises KotyaError for a file that is missing, empty, not gzip though named so, or not UTF-8 (naming the line), and
    for a line that has too few columns.
    """
    for number, line in enumerate(read_marked(path, column), start=1):
        if line is None:
            raise not_utf8(path, number)
        yield line


def read_input(path: Path | None) -> Iterator[str]:
    """Lines of a file, or of standard input where there is none, each as soon as it is there."""
    if path is not None:
        yield from read_lines(path)
        return
    for number, data in enumerate(iter(sys.stdin.buffer.readline, b""), start=1):
        line = decoded(data, number)
        if line is None:
            raise KotyaError(f"standard input, line {number}: not valid UTF-8")
        yield line


def read_marked(
    path: Path, column: int | None = None, position: Position | None = None
) -> Iterator[str | None]:
    """As read_lines, but a line that is not UTF-8 is None, for a caller that drops and counts such lines."""
    number = 0
    with open_binary(path) as (handle, raw):
        for number, data in enumerate(handle, start=1):
            if position is not None and number % 256 == 0:
                position.done = raw.tell()
            line = decoded(data, number)
            yield line if line is None or column is None else field(line, column, path, number)
    if number == 0:
        raise KotyaError(f"{path}: the file is empty; one sentence a line is expected")


def decoded(data: bytes, number: int) -> str | None:
    """A line as text, without its end; None where it is not UTF-8. A byte order mark is no part of line 1."""
    if number == 1:
        data = data.removeprefix(codecs.BOM_UTF8)
    try:
        return data.removesuffix(b"\n").removesuffix(b"\r").decode("utf-8")
    except UnicodeDecodeError:
        return None


def read_parallel(
    source: TextSource | Path | str | Sequence[Path | str],
    target: TextSource | Path | str | Sequence[Path | str],
) -> Iterator[tuple[str, str]]:
    """Pairs of aligned lines. Raises KotyaError naming both files and both counts where the counts differ."""
    source, target = TextSource.of(source), TextSource.of(target)
    for path, other, number, one, two in parallel_marked(source, target):
        if one is None:
            raise not_utf8(path, number)
        if two is None:
            raise not_utf8(other, number)
        yield one, two


def parallel_marked(
    source: TextSource, target: TextSource, position: Position | None = None
) -> Iterator[tuple[Path, Path, int, str | None, str | None]]:
    """Aligned lines with the two files and the line number they stand at; a line that is not UTF-8 is None.

    `position` counts bytes read of the source side. Raises KotyaError where counts differ.
    """
    if len(source.paths) != len(target.paths):
        raise KotyaError(
            f"{len(source.paths)} source files ({source}) but {len(target.paths)} target files ({target}); "
            "every source file needs its own target file"
        )
    before = 0
    for path, other in zip(source.paths, target.paths, strict=True):
        here = Position()
        missing: Any = object()
        ones, twos = read_marked(path, source.column, here), read_marked(other, target.column)
        for number, (one, two) in enumerate(zip_longest(ones, twos, fillvalue=missing), start=1):
            if one is missing or two is missing:
                count = number + sum(1 for _ in ones) + sum(1 for _ in twos)
                counts = (number - 1, count) if one is missing else (count, number - 1)
                raise KotyaError(
                    f"{path} has {counts[0]:,} lines but {other} has {counts[1]:,}; "
                    "line n of one must be the translation of line n of the other"
                )
            if position is not None:
                position.done = before + here.done
            yield path, other, number, one, two
        before += path.stat().st_size


def field(line: str, column: int, path: Path, number: int) -> str:
    """One tab-separated field of a line."""
    fields = line.split("\t")
    if column >= len(fields):
        raise KotyaError(
            f"{path}:{number}: column {column + 1} is wanted but the line has {len(fields)} (separated by tabs)"
        )
    return fields[column]


def not_utf8(path: Path, number: int) -> KotyaError:
    """The error for a line that is not UTF-8."""
    return KotyaError(
        f"{path}:{number}: not valid UTF-8; save the file as UTF-8, "
        "or set `invalid: drop` under data.cleaning to leave such lines out of training"
    )


@contextmanager
def open_binary(path: Path) -> Iterator[tuple[BinaryIO, BinaryIO]]:
    """A file opened for reading bytes, unpacked where its name ends in .gz, and the file as it lies on the disk."""
    try:
        raw = open(path, "rb", buffering=1 << 20)  # noqa: SIM115 (closed below, with the unpacking reader around it)
    except FileNotFoundError:
        raise KotyaError(f"{path}: there is no such file") from None
    except IsADirectoryError:
        raise KotyaError(f"{path}: a folder, where a text file is expected") from None
    except PermissionError:
        raise KotyaError(f"{path}: may not be read (permission denied)") from None
    with raw:
        if Path(path).suffix != ".gz":
            yield raw, raw
            return
        try:
            with (
                gzip.GzipFile(fileobj=raw, mode="rb") as unpacked,
                io.BufferedReader(unpacked, 1 << 18) as handle,
            ):
                yield handle, raw
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise KotyaError(f"{path}: not a whole gzip file ({error}); copy it again or unpack it") from None
