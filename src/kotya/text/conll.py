"""CoNLL files: `token<TAB>tag` a line (or blanks between), a blank line between sentences; -DOCSTART- is no word."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from kotya.errors import KotyaError
from kotya.text.corpus import read_lines
from kotya.text.tags import Scheme, encode, entities, forbidden

DOCUMENT = "-DOCSTART-"


@dataclass(frozen=True)
class Sentence:
    """Words and their tags in IOB2; no tags where only words are read."""

    path: Path
    line: int
    """Where its first word stands."""
    words: tuple[str, ...]
    tags: tuple[str, ...]

    @property
    def place(self) -> str:
        """Where it stands."""
        return f"{self.path}:{self.line}"


def read_tagged(path: Path, scheme: Scheme) -> Iterator[Sentence]:
    """The sentences of a file: the first column is the word, the last its tag in the scheme.

    Raises KotyaError naming file and line where a line has one column, or a tag the scheme forbids.
    """
    for start, rows in blocks(read_lines(path)):
        for number, row in enumerate(rows, start=start):
            if len(row) < 2:
                raise KotyaError(
                    f"{path}:{number}: one column ({row[0]!r}), where a word and its tag are expected"
                )
        tags = [row[-1] for row in rows]
        wrong = forbidden(tags, scheme)
        if wrong is not None:
            place, why = wrong
            raise KotyaError(
                f"{path}:{start + place}: {why}; `scheme` says which the file is in: iob1, iob2, iobes"
            )
        if scheme != "iob2":
            tags = encode(entities(tags), len(tags), "iob2")
        yield Sentence(path, start, tuple(row[0] for row in rows), tuple(tags))


def blocks(lines: Iterable[str]) -> Iterator[tuple[int, list[list[str]]]]:
    """Lines between blank ones and those where a document begins, cut in columns, with the number of the first."""
    block: list[list[str]] = []
    number = 0
    for number, line in enumerate(lines, start=1):
        fields = [one for part in line.split("\t" if "\t" in line else " ") if (one := part.strip())]
        if fields and fields[0] != DOCUMENT:
            block.append(fields)
        elif block:
            yield number - len(block), block
            block = []
    if block:
        yield number - len(block) + 1, block
