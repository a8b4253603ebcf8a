"""The demo from end to end, with a model too small to learn: what it leaves behind, and that it says so."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import kotya
from kotya.demo import run as demo
from kotya.demo.grammar import make_corpus
from kotya.errors import Fault, KotyaError
from kotya.training.progress import Silent


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], demo.Outcome]:
    """The demo with a corpus of 500 pairs and two updates."""
    recipe: dict[str, Any] = {
        **demo.RECIPE,
        "vocabulary": {"size": 350},
        "model": {"preset": "transformer-tiny", "size": 16, "feed_forward": 16},
        "training": {"updates": 2, "evaluate_every": 2, "precision": "float32", "tokens": 256},
        "search": {"beam": 1, "max_length_extra": 3, "max_length_ratio": 0.5},
    }
    monkeypatch.setattr(demo, "RECIPE", recipe)
    monkeypatch.setattr(demo, "make_corpus", partial(make_corpus, 500, 10, 30))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return lambda: demo.run(tmp_path / "kotya-demo", Silent(), lambda _: None)


def test_leaves_a_model_and_a_picture_and_runs_again(
    tiny: Callable[[], demo.Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "GOOD", 0.0)
    for _ in range(2):
        done = tiny()
        assert done.picture.read_bytes().startswith(b"\x89PNG")
        assert done.translations[0][0].russian == "Я видел котю на мате"
        again = kotya.load(done.model).translate([pair.russian for pair, _ in done.translations])
        assert again == [translation for _, translation in done.translations]
        done.picture.unlink()


def test_a_bad_translator_is_a_fault(tiny: Callable[[], demo.Outcome]) -> None:
    with pytest.raises(Fault, match=r"held-out BLEU is .*, under 90"):
        tiny()


@pytest.mark.parametrize("name", ["model/thesis.txt", "data/train.ru"])
def test_leaves_alone_what_no_demo_made(tiny: Callable[[], demo.Outcome], tmp_path: Path, name: str) -> None:
    kept = tmp_path / "kotya-demo" / name
    kept.parent.mkdir(parents=True)
    kept.write_text("years of work")
    with pytest.raises(KotyaError, match="no demo made"):
        tiny()
    assert kept.read_text() == "years of work"
