"""What the pictures share: legible text, paths that are refused, files that are whole or not there."""

import warnings
from pathlib import Path

import numpy as np
import pytest

from kotya.errors import KotyaError
from kotya.pictures.alignment import draw_alignment
from kotya.pictures.canvas import check_path, legible, new_figure, save

STRANGE = ["a\x80b", "a\x00b", "\t", "\u200b", "\xad", "\u2028", "$x^2$", r"\alpha", "$", "a_b^c"]


@pytest.mark.parametrize("text", STRANGE)
def test_no_piece_makes_a_warning_or_a_formula(text: str, tmp_path: Path) -> None:
    path = tmp_path / "a.svg"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw_alignment(np.eye(2), [text, "b"], [text, "d"], path)
    assert path.stat().st_size > 1000


def test_what_is_legible_stays_as_it_is() -> None:
    assert legible("Я видел котю 猫 é — ‹end›") == "Я видел котю 猫 é — ‹end›"
    assert legible("a\x80b") == r"a\x80b"


def test_a_dollar_is_drawn_as_one() -> None:
    from matplotlib.cbook import is_math_text

    for text in ("$5 and $6", "$", r"\$"):
        assert not is_math_text(legible(text))
    figure = new_figure(2, 2)
    drawn = figure.text(0, 0, legible("$5 and $6"))
    assert drawn._preprocess_math(drawn.get_text()) == ("$5 and $6", False)


def test_refused(tmp_path: Path) -> None:
    with pytest.raises(KotyaError, match=r"a picture is a .png, .svg or .pdf"):
        check_path(tmp_path / "a.jpeg")
    with pytest.raises(KotyaError, match="no such folder"):
        check_path(tmp_path / "none" / "a.png")
    with pytest.raises(KotyaError, match="over a metre and a half"):
        new_figure(100, 1)


def test_a_picture_that_fails_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"old")
    figure = new_figure(1, 1)
    figure.text(0.1, 0.1, "$\\nosuchthing$")
    with pytest.raises(ValueError, match="nosuchthing"):
        save(figure, path)
    assert path.read_bytes() == b"old"
    assert [one.name for one in tmp_path.iterdir()] == ["a.png"]
