"""Tab-separated rows with named columns, each with the file and the line it stands at, for messages."""

from collections.abc import Iterator, Sequence
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
    """The wanted columns of every line; a name that stands twice among the columns stands twice among the wanted.

    Raises KotyaError naming file and line where a line has too few or too many columns, or one that is wanted is empty.
    """
    places = [_place(columns, wanted[:index].count(name), name) for index, name in enumerate(wanted)]
    for number, line in enumerate(read_lines(path), start=1):
        fields = line.split("\t")
        if len(fields) != len(columns):
            raise KotyaError(
                f"{path}:{number}: {len(fields)} columns (separated by tabs), where {len(columns)} are expected: "
                f"{', '.join(columns)}"
            )
        row = Row(path, number, tuple(fields[place].strip() for place in places))
        for name, value in zip(wanted, row.values, strict=True):
            if not value:
                raise KotyaError(f"{row.place}: the column {name!r} is empty")
        yield row


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
