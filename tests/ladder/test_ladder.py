"""A ladder of two small rungs: climbed, stopped, gone on with, measured once, and put into a table."""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from kotya import recipe as recipes
from kotya.errors import KotyaError
from kotya.metrics import Score
from kotya.tasks.translation_recipe import TranslationRecipe
from kotya.training.progress import Silent
from ladder.__main__ import climb_all
from ladder.climb import RECORD, Record, times
from ladder.page import page
from ladder.rungs import LADDERS, MULTI30K, Ladder, Mark
from training_corpus import content, sentences, write

ROOT = Path(__file__).parents[2]
SMALL = Ladder(
    corpus="toy",
    title="A toy",
    rungs=("low", "high"),
    page=Path("docs/results/toy.md"),
    marks={"high": (Mark(12.34, "theirs", "1 - "),)},
)


@pytest.fixture
def place(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write(corpus, "test", sentences(80, 3))
    (tmp_path / "recipes" / "toy").mkdir(parents=True)
    for rung, size in (("low", 8), ("high", 16)):
        set_recipe(corpus, rung, size)
    return tmp_path


def set_recipe(corpus: Path, rung: str, size: int, **training: Any) -> None:
    recipe = content(corpus, **({"updates": 6, "evaluate_every": 3} | training))
    recipe["data"]["test"] = {"source": "test.src", "target": "test.tgt"}
    recipe["model"]["size"] = size
    recipe["search"] = {"beam": 1, "max_length_ratio": 0, "max_length_extra": 5}
    Path("recipes/toy", f"{rung}.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")


def rows(text: str) -> list[list[str]]:
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith("|")
    ]


def climb() -> list[Record]:
    return climb_all(SMALL, Path("runs"), Silent(), device="cpu")


def test_climbed_with_a_stop_and_then_left_alone(place: Path) -> None:
    set_recipe(place / "data", "high", 16, minutes=1e-6)
    with pytest.raises(KotyaError, match="high: stopped after update 1; the same command goes on"):
        climb()
    text = SMALL.page.read_text(encoding="utf-8")
    assert [row[0] for row in rows(text)[2:]] == ["low"]
    assert "Not climbed yet: high." in text

    set_recipe(place / "data", "high", 16)
    records = climb()
    text = SMALL.page.read_text(encoding="utf-8")
    check_page(text, records)
    assert Path("docs/results/toy-lengths.png").stat().st_size > 5000

    kept = [place / "runs" / "toy" / rung / "model.safetensors" for rung in SMALL.rungs]
    before = [path.stat().st_mtime_ns for path in kept]
    assert climb() == records
    assert [path.stat().st_mtime_ns for path in kept] == before
    assert SMALL.page.read_text(encoding="utf-8") == text

    (place / "runs" / "toy" / "low" / RECORD).unlink()  # as if killed before it was measured
    again = climb()
    assert again[0].scores == records[0].scores
    assert again[0].minutes == records[0].minutes  # it was not trained again

    set_recipe(place / "data", "low", 8, learning_rate=0.5)
    with pytest.raises(KotyaError, match=r"learning_rate.*remove the folder to train it anew"):
        climb()


def check_page(text: str, records: list[Record]) -> None:
    header, _, *table = rows(text)
    assert header[0] == "recipe"
    assert header[-1] == "published BLEU"
    assert [row[0] for row in table] == ["low", "high"] == [record.rung for record in records]
    assert [row[-1] for row in table] == ["–", "12.34 (theirs)"]
    for row, record in zip(table, records, strict=True):
        assert row[1] == f"{record.parameters:,}"
        assert row[4] == f"{record.scores[0].value:.2f}"
        assert record.scores[0].signature in text
        assert (record.updates, record.lines, record.test, record.seed) == (6, 80, "test", 1)
    assert "(toy-lengths.png)" in text
    assert "Not climbed yet" not in text


def record(rung: str, **changes: Any) -> Record:
    scores = (Score("BLEU", 30.123, "nrefs:1"), Score("chrF", 50.0, "nrefs:1|chrF"))
    settings: dict[str, Any] = {
        "rung": rung, "parameters": 1_234_567, "updates": 10, "minutes": 12.34, "tokens_per_second": 4321.9,
        "trained_on": "2 cores", "seed": 1, "test": "test_2016_flickr", "lines": 1000, "beam": 5, "scores": scores,
        "date": "2026-01-01",
    }  # fmt: skip
    return Record(**(settings | changes))


def test_the_page_says_what_differs(tmp_path: Path) -> None:
    text = page(MULTI30K, [record("cnn", trained_on="a GPU"), record("rnn")], None)
    assert [row[0] for row in rows(text)[2:]] == ["rnn", "cnn"]  # the order of the ladder
    assert "- trained on: cnn a GPU; rnn 2 cores" in text
    assert "- beam: 5" in text
    assert "| rnn | 1,234,567 | 12.3 | 4,322 | 30.12 | 50.00 | 1 | 13.76 (LSTM), 20.61 (GRU) |" in text


def test_records_are_kept(tmp_path: Path) -> None:
    made = record("rnn")
    made.write(tmp_path / RECORD)
    assert Record.read(tmp_path / RECORD) == made
    (tmp_path / RECORD).write_text("{}")
    with pytest.raises(KotyaError, match="not the record of a rung"):
        Record.read(tmp_path / RECORD)


def test_times_leave_evaluations_out_of_the_speed(tmp_path: Path) -> None:
    log = tmp_path / "metrics.jsonl"
    log.write_text(
        '{"update": 1, "tokens": 100, "seconds_per_update": 1, "seconds": 1}\n'
        '{"update": 1, "dev": {"BLEU": 1}}\n'
        '{"update": 2, "tokens": 300, "seconds_per_update": 1, "seconds": 60}\n'
    )
    assert times(log) == (1.0, 200.0)


@pytest.mark.parametrize("ladder", LADDERS.values(), ids=lambda ladder: ladder.corpus)
def test_rungs_differ_in_model_and_training_only(ladder: Ladder) -> None:
    contents = [
        yaml.safe_load((ROOT / ladder.recipe(rung)).read_text(encoding="utf-8")) for rung in ladder.rungs
    ]
    for recipe in contents[1:]:
        for section in ("task", "data", "vocabulary", "search"):
            assert recipe[section] == contents[0][section]


@pytest.mark.parametrize(
    "path", sorted(ROOT.glob("recipes/*/*.yaml")), ids=lambda path: f"{path.parent.name}/{path.stem}"
)
def test_every_recipe_of_the_house_can_be_read_and_built(path: Path) -> None:
    recipe = recipes.read(path)
    if isinstance(recipe, TranslationRecipe) and recipe.model is not None:
        with torch.device("meta"):
            recipe.model.build(8000, 8000)
