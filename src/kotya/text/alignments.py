"""Word alignments as text, in the format of Pharaoh: `0-0 1-2 1-3`, source word - target word, counted from 0.

One sentence a line; an empty line is a sentence without links. A gold set is two such files, `.sure` and `.possible`
(Och and Ney 2003).
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from kotya.errors import KotyaError
from kotya.text.corpus import read_lines

Links = frozenset[tuple[int, int]]
"""Pairs of a source word and a target word."""
_LINK = re.compile(r"([0-9]+)-([0-9]+)", re.ASCII)


def parse(line: str, place: str) -> Links:
    """The links of one line. Raises KotyaError, naming `place`, for anything that is no link."""
    links = set()
    for written in line.split():
        found = _LINK.fullmatch(written)
        if found is None:
            raise KotyaError(f"{place}: {written!r} is no link; links are written i-j, words counted from 0")
        links.add((int(found[1]), int(found[2])))
    return frozenset(links)


def render(links: Iterable[tuple[int, int]]) -> str:
    """Links as one line, in order of source and target word."""
    return " ".join(f"{source}-{target}" for source, target in sorted(links))


def read(path: Path) -> Iterator[Links]:
    """The links of every line of a file (`.gz` too). Raises KotyaError naming file and line."""
    for number, line in enumerate(read_lines(path), start=1):
        yield parse(line, f"{path}:{number}")


def check_inside(links: Links, source: int, target: int, place: str) -> None:
    """Raises KotyaError where a link points outside a pair of so many words."""
    for i, j in sorted(links):
        if i >= source or j >= target:
            raise KotyaError(
                f"{place}: the link {i}-{j} points outside a pair of {source} and {target} words; "
                "words are what stands between spaces, the source first"
            )


@dataclass(frozen=True)
class Gold:
    """A sentence aligned by people: what is sure, and what is possible, which contains it."""

    sure: Links
    possible: Links


def read_gold(prefix: Path) -> list[Gold]:
    """The files `prefix.sure` and `prefix.possible`. Raises KotyaError where they do not belong together."""
    files = [prefix.with_name(f"{prefix.name}.{kind}") for kind in ("sure", "possible")]
    for file in files:
        if not file.exists():
            raise KotyaError(
                f"{file}: there is no such file; gold alignments are {prefix}.sure and {prefix}.possible"
            )
    gold = []
    for number, (sure, possible) in enumerate(zip_longest(*map(read, files)), start=1):
        if sure is None or possible is None:
            shorter, longer = files if sure is None else reversed(files)
            raise KotyaError(f"{shorter} ends after line {number - 1:,} but {longer} goes on")
        gold.append(Gold(sure, possible | sure))
    return gold
