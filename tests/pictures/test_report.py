"""The page of many sentences: its words, weights and links are there, and nothing beside it is needed."""

import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from kotya.errors import KotyaError
from kotya.pictures.report import CELL, Entry, colour, write_report

SVG = "{http://www.w3.org/2000/svg}"
ENTRIES = [
    Entry(
        np.array([[0.5, 0.49, 0.01], [0.0, 0.1, 0.9]]),
        ["котю", "<b>&", "‹end›"],
        ["猫", '"cat"'],
        {(0, 0), (1, 1)},
    ),
    Entry(np.zeros((0, 1)), ["‹end›"], [], set()),
]


@pytest.fixture
def page(tmp_path: Path) -> str:
    path = tmp_path / "a.html"
    write_report(iter(ENTRIES), path, "A < B", "each row & so on")
    assert [one.name for one in tmp_path.iterdir()] == ["a.html"]
    return path.read_text(encoding="utf-8")


def drawings(page: str) -> list[ElementTree.Element]:
    return [
        ElementTree.fromstring(svg.replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg"', 1))
        for svg in re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    ]


def test_words_weights_and_links(page: str) -> None:
    first, second = drawings(page)
    words = [text.text for text in first.iter(f"{SVG}text") if text.get("class") is None]
    assert words == ["猫", '"cat"', "котю", "<b>&", "‹end›"]
    shown = [title.text for title in first.iter(f"{SVG}title")]
    assert shown == ["猫 → котю: 0.500", "猫 → <b>&: 0.490", '"cat" → <b>&: 0.100', '"cat" → ‹end›: 0.900']
    frames = [one for one in first.iter(f"{SVG}rect") if one.get("fill") == "none"]
    assert len(frames) == 2
    assert float(frames[1].get("x", 0)) - float(frames[0].get("x", 0)) == CELL
    assert not list(second.iter(f"{SVG}title"))
    assert page.count("<section") == 2
    assert "<code>0-0 1-1</code>" in page
    assert "<title>A &lt; B</title>" in page
    assert "each row &amp; so on" in page


def test_it_needs_nothing_beside_it(page: str) -> None:
    assert not re.search(r"<script|<link|src=|url\(|https?://", page)


def test_shades_run_from_white_to_dark() -> None:
    shades = [colour(weight) for weight in np.linspace(0, 1, 50)]
    assert shades[0] == "#ffffff"
    light = [sum(bytes.fromhex(shade[1:])) for shade in shades]
    assert light == sorted(light, reverse=True)


def test_refused(tmp_path: Path) -> None:
    with pytest.raises(KotyaError, match=r"is an \.html"):
        write_report([], tmp_path / "a.png", "", "")
    with pytest.raises(KotyaError, match="no such folder"):
        write_report([], tmp_path / "none" / "a.html", "", "")

    def broken() -> object:
        yield ENTRIES[0]
        raise KotyaError("line 2")

    with pytest.raises(KotyaError, match="line 2"):
        write_report(broken(), tmp_path / "a.html", "", "")  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())
