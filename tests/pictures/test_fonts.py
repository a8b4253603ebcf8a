"""Letters that matplotlib's own font has not: found in an installed one, else refused, or left as text in an SVG."""

import warnings
from pathlib import Path

import numpy as np
import pytest

from kotya.errors import KotyaError
from kotya.pictures import fonts
from kotya.pictures.alignment import draw_alignment
from kotya.pictures.canvas import new_figure
from kotya.pictures.fonts import fallbacks, legible_words, width

CYRILLIC, CHINESE = ["котю", "‹end›"], ["猫", "坐在"]


@pytest.fixture
def no_chinese(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine without such a font."""
    real = fonts.letters.__wrapped__
    monkeypatch.setattr(fonts, "letters", lambda path: frozenset(one for one in real(path) if one < 0x3000))


def test_cyrillic_needs_no_other_font(no_chinese: None) -> None:
    assert fallbacks("Я видел котю на мате ‹end› «ё»") == ([], set())


def test_the_picture_says_which_letters_no_font_has(no_chinese: None, tmp_path: Path) -> None:
    for name in ("a.png", "a.pdf"):
        with pytest.raises(KotyaError, match="no font of this machine has 在 坐 猫; install one that has"):
            draw_alignment(np.eye(2), CHINESE, ["cat", "sat"], tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_an_svg_keeps_them_as_text(no_chinese: None, tmp_path: Path) -> None:
    path = tmp_path / "a.svg"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw_alignment(np.eye(2), CHINESE, CYRILLIC, path)
    written = path.read_text(encoding="utf-8")
    assert all(f">{word}</text>" in written for word in (*CHINESE, *CYRILLIC))


def test_an_installed_font_is_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The one that has most of what is missing, and then what has the rest."""
    from matplotlib.font_manager import fontManager

    has = {"STIXGeneral": "猫坐", "cmr10": "在", "cmss10": "坐在"}
    files = {font.fname: font.name for font in fontManager.ttflist}
    monkeypatch.setattr(fonts, "letters", lambda path: frozenset(map(ord, has.get(files.get(path, ""), ""))))
    assert fallbacks("猫坐在") in (
        (["STIXGeneral", "cmr10"], set()),
        (["STIXGeneral", "cmss10"], set()),
        (["cmss10", "STIXGeneral"], set()),
    )
    figure = new_figure(1, 1)
    text = figure.text(0, 0, "猫坐x")
    with legible_words(figure, tmp_path / "a.svg"):  # x is missing now
        assert text.get_fontfamily() == ["DejaVu Sans", "STIXGeneral"]


def test_wide_letters_take_two_columns() -> None:
    assert [width(text) for text in ("cat", "котю", "猫", "ねこ", "고양이", "")] == [3, 4, 2, 4, 6, 0]
