"""Alignments as pictures: one pair as a heat map, any number of pairs as a page."""

from collections.abc import Iterable, Iterator
from itertools import chain, islice
from pathlib import Path

from kotya.attention.reading import Reading
from kotya.errors import KotyaError
from kotya.inference.alignment import WordAlignment
from kotya.pictures.alignment import draw_alignment
from kotya.pictures.canvas import check_path
from kotya.pictures.report import Entry, check_report, write_report

PAGE = ".html"


def check_illustration(path: Path, pairs: Iterator[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """The pairs, or a KotyaError before any work: a wrong name, or several pairs (or none) for a picture of one."""
    if path.suffix == PAGE:
        check_report(path)
        return pairs
    check_path(path)
    first = list(islice(pairs, 2))
    if len(first) != 1:
        many = "there are more" if first else "there is none"
        raise KotyaError(f"{path}: a picture shows one pair and {many}; an .html shows any number")
    return chain(first, pairs)


def illustrate(
    found: Iterable[WordAlignment], path: Path, title: str, reading: Reading, *, framed: bool
) -> None:
    """Draw alignments; `framed` frames the links, where they are not simply each row's darkest cell."""
    caption = "each row: where the decoder looked " + (
        "for that word" if reading.step == "output" else "when it had read that word"
    )
    if path.suffix == PAGE:
        entries = (
            Entry(one.weights, one.columns, one.rows, one.links if framed else frozenset()) for one in found
        )
        write_report(entries, path, title, f"{caption} ({reading})")
        return
    for one in found:
        links = one.links if framed else frozenset[tuple[int, int]]()
        draw_alignment(one.weights, one.columns, one.rows, path, links=links, caption=caption)
