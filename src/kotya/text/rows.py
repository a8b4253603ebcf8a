"""Tab-separated rows with named columns, each with the file and the line it stands at, for messages."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

from kotya.errors import KotyaError
from kotya.text.corpus import read_lines

UNUSED = "-"


@dataclass(frozen=True)
class Row:
    """The used columns of a line, in the order they are asked for."""

    path: Path
    line: int
    values: tuple[str, ...]

    @property
    def place(self) -> str:
        """Where it stands."""
        return f"{self.path}:{self.line}"


def read_rows(path: Path, columns: Sequence[str], wanted: Sequence[str]) -> Iterator[Row]:
    """The wanted columns of every line of a file; see `pick`.

    Raises KotyaError naming file and line where a line has too few or too many columns, or one that is wanted is empty.
    """
    picked = pick(read_lines(path), columns, wanted, lambda number: f"{path}:{number}")
    for number, values in enumerate(picked, start=1):
        row = Row(path, number, values)
        for name, value in zip(wanted, values, strict=True):
            if not value:
                raise KotyaError(f"{row.place}: the column {name!r} is empty")
        yield row


def pick(
    lines: Iterable[str], columns: Sequence[str], wanted: Sequence[str], place: Callable[[int], str]
) -> Iterator[tuple[str, ...]]:
    """The wanted columns of tab-separated lines; a name that is wanted twice stands twice among the columns.

    `place` says where the line of a number stands, from 1 on. Raises KotyaError there where a line has too few or too
    many columns.
    """
    places = [_place(columns, wanted[:index].count(name), name) for index, name in enumerate(wanted)]
    for number, line in enumerate(lines, start=1):
        fields = line.split("\t")
        if len(fields) != len(columns):
            raise KotyaError(
                f"{place(number)}: {len(fields)} columns (separated by tabs), where {len(columns)} are expected: "
                f"{', '.join(columns)}"
            )
        yield tuple(fields[index].strip() for index in places)


def finite(value: str) -> float | None:
    """The number that stands there, if it is one."""
    try:
        number = float(value)
    except ValueError:
        return None
    return number if isfinite(number) else None


def _place(columns: Sequence[str], before: int, name: str) -> int:
    return [index for index, column in enumerate(columns) if column == name][before]


def count_columns(path: Path) -> int:
    """Of the first line of a file."""
    return next(read_lines(path)).count("\t") + 1
