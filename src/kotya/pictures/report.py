"""Alignments of many sentences as one HTML page that needs nothing beside it: an inline SVG for each.

Words are text, so that every script is drawn by the reader's own fonts; only cells that one would see are written.
"""

from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kotya.errors import KotyaError
from kotya.files import check_file, replacing
from kotya.pictures.canvas import FAINT, INK, LINK, RULE, SHADES
from kotya.pictures.fonts import width as columns_of

CELL, LETTER = 26, 7.4
"""Pixels of a cell, and of a letter of average width."""
SEEN = 0.02
"""Weights below this are as good as white."""

_HEAD = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ font: 14px/1.5 system-ui, sans-serif; color: {ink}; background: #fff; margin: 2rem; }}
section {{ border-top: 1px solid {rule}; padding: .8rem 0; }}
section {{ content-visibility: auto; contain-intrinsic-size: auto 420px; }}
h2 {{ font-size: 13px; color: {faint}; margin: 0; font-weight: normal; }}
p {{ margin: 0; }}
svg {{ display: block; max-width: 100%; height: auto; overflow: visible; fill: {ink}; }}
svg {{ font: 13px system-ui, sans-serif; }}
svg .weight {{ font-size: 10px; text-anchor: middle; }}
code {{ color: {faint}; overflow-wrap: anywhere; }}
</style>
</head>
<body>
<h1>{title}</h1>
<p>{caption}</p>
"""


@dataclass(frozen=True)
class Entry:
    """One sentence."""

    weights: NDArray[np.floating[Any]]
    """Rows × columns, from 0 to 1."""
    columns: Sequence[str]
    rows: Sequence[str]
    links: AbstractSet[tuple[int, int]]
    """(column, row), framed."""


def check_report(path: Path) -> None:
    """Raises KotyaError where the name is no report's, or no file can be written there."""
    if path.suffix != ".html":
        raise KotyaError(f"{path}: a report of many sentences is an .html; a picture shows one sentence")
    check_file(path)


def write_report(entries: Iterable[Entry], path: Path, title: str, caption: str) -> None:
    """Write the page, whole or not at all; entries may be many, one is held at a time."""
    check_report(path)
    with replacing(path) as partial, open(partial, "w", encoding="utf-8") as file:
        colours = {"ink": INK, "rule": RULE, "faint": FAINT}
        file.write(_HEAD.format(title=escape(title), caption=escape(caption), **colours))
        for number, entry in enumerate(entries, start=1):
            file.writelines(section(number, entry))
        file.write("</body>\n</html>\n")


def section(number: int, entry: Entry) -> Iterator[str]:
    """One sentence's part of the page."""
    links = " ".join(f"{column}-{row}" for column, row in sorted(entry.links))
    yield f'<section id="s{number}">\n<h2><a href="#s{number}">{number}</a></h2>\n'
    yield from heat_map(entry)
    yield f"<code>{links}</code>\n</section>\n"


def heat_map(entry: Entry) -> Iterator[str]:
    """The cells, with their weight as a number where there is room for it and as a tooltip, and the words beside."""
    left = 12 + LETTER * max(map(columns_of, entry.rows), default=0)
    slanted = 0.72 * LETTER * max(map(columns_of, entry.columns), default=0)
    top = 20 + slanted
    across, down = CELL * len(entry.columns), CELL * len(entry.rows)
    width, height = left + across + slanted + 14, top + down + 2
    yield f'<svg width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}">\n'
    yield f'<rect x="{left:.1f}" y="{top:.1f}" width="{across}" height="{down}" fill="{SHADES[0]}" stroke="{RULE}"/>\n'
    for row, column in zip(*np.nonzero(entry.weights >= SEEN), strict=True):
        yield cell(
            left + CELL * column,
            top + CELL * row,
            float(entry.weights[row, column]),
            f"{entry.rows[row]} → {entry.columns[column]}",
        )
    for column, row in sorted(entry.links):
        x, y = left + CELL * column + 1.5, top + CELL * row + 1.5
        yield (
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{CELL - 3}" height="{CELL - 3}" fill="none" stroke="{LINK}" '
            'stroke-width="1.6"/>\n'
        )
    for row, word in enumerate(entry.rows):
        y = top + CELL * (row + 0.5) + 4.5
        yield f'<text x="{left - 6:.1f}" y="{y:.1f}" text-anchor="end">{escape(word)}</text>\n'
    for column, word in enumerate(entry.columns):
        x, y = left + CELL * (column + 0.5) + 3, top - 6
        yield f'<text transform="translate({x:.1f} {y:.1f}) rotate(-45)">{escape(word)}</text>\n'
    yield "</svg>\n"


def cell(x: float, y: float, weight: float, words: str) -> str:
    """A shaded cell."""
    drawn = (
        f"<g><title>{escape(words)}: {weight:.3f}</title>"
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{CELL}" height="{CELL}" fill="{colour(weight)}"/>'
    )
    if weight >= 0.095:
        ink = "#fff" if weight > 0.45 else INK
        number = f"{weight:.1f}".replace("0.", ".")
        middle = f'x="{x + CELL / 2:.1f}" y="{y + CELL / 2 + 3.5:.1f}"'
        drawn += f'<text class="weight" {middle} fill="{ink}">{number}</text>'
    return drawn + "</g>\n"


def colour(weight: float) -> str:
    """The shade of a weight, as in the other pictures."""
    place = min(max(weight, 0.0), 1.0) * (len(SHADES) - 1)
    below = min(int(place), len(SHADES) - 2)
    one, two = (bytes.fromhex(shade[1:]) for shade in SHADES[below : below + 2])
    mixed = (round(a + (b - a) * (place - below)) for a, b in zip(one, two, strict=True))
    return "#" + bytes(mixed).hex()
