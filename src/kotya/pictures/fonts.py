"""Fonts that have every letter of a picture. matplotlib's own has Latin, Greek and Cyrillic; others must be installed.

An SVG can do without: its words stay text, drawn by the fonts of whoever looks at it.
"""

import unicodedata
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from kotya.errors import KotyaError

OWN = "DejaVu Sans"
_NO_LETTERS = "Last Resort"
"""A font of matplotlib that has a box for every letter there is."""


def width(text: str) -> int:
    """How many columns a word takes, as in a terminal: Chinese, Japanese and Korean letters take two."""
    return sum(2 if unicodedata.east_asian_width(one) in "WF" else 1 for one in text)


def fallbacks(characters: Iterable[str]) -> tuple[list[str], set[str]]:
    """Installed fonts that together have what matplotlib's own has not, and what none of them has."""
    from matplotlib.font_manager import findfont, fontManager

    missing = set(map(ord, characters)) - letters(str(findfont(OWN)))
    chosen: list[str] = []
    fonts = [font for font in fontManager.ttflist if not font.name.startswith(_NO_LETTERS)] if missing else []
    while missing and fonts:
        best = max(fonts, key=lambda font: (len(missing & letters(font.fname)), "Sans" in font.name))
        if not missing & letters(best.fname):
            break
        chosen.append(best.name)
        missing -= letters(best.fname)
    return chosen, set(map(chr, missing))


@lru_cache
def letters(path: str) -> frozenset[int]:
    """The code points that a font draws; none where it has pictures of fixed size only, as some for emoji have."""
    from matplotlib.ft2font import FT2Font

    font = FT2Font(path)
    return frozenset(font.get_charmap()) if font.scalable else frozenset()


@contextmanager
def legible_words(figure: Any, path: Path) -> Iterator[None]:
    """While a figure is saved: its words in fonts that have their letters, or as text in an SVG.

    Raises KotyaError where the picture's words could not be read.
    """
    from matplotlib import rc_context
    from matplotlib.text import Text

    texts = figure.findobj(Text)
    written = {one for text in texts for one in text.get_text() if not one.isspace()}
    families, missing = fallbacks(written)
    if missing and path.suffix != ".svg":
        raise KotyaError(
            f"{path}: no font of this machine has {' '.join(sorted(missing)[:8])}; install one that has (Noto Sans CJK "
            "for Chinese, Japanese and Korean), or write an .svg, which whoever looks at it has fonts for"
        )
    for text in texts if families else []:
        text.set_fontfamily([OWN, *families])
    with rc_context({"svg.fonttype": "none"} if missing else {}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")  # it is measured with a box in its place
        yield
