"""A person's way through the commands, on a tiny corpus: train, translate, score, evaluate, average, look, time."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from kotya.cli.main import run
from training_corpus import content, sentences, write

pytestmark = pytest.mark.usefixtures("unchecked")

Command = Callable[..., str]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A run of a few updates, that wrote TensorBoard's events too."""
    folder = tmp_path_factory.mktemp("commands")
    for name, count in (("train", 200), ("dev", 10), ("test", 12)):
        write(folder, name, sentences(count, len(name)))
    recipe = content(folder, tensorboard=True, updates=24, evaluate_every=12)
    recipe["data"]["test"] = {"source": "test.src", "target": "test.tgt"}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        assert run(["train", str(folder / "recipe.yaml"), "-o", str(folder / "run")]) == 0
        yield folder


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str]) -> Command:
    """Run a command that must succeed; returns what it printed."""

    def command(*arguments: object) -> str:
        capsys.readouterr()
        assert run([str(argument) for argument in arguments]) == 0, capsys.readouterr().err
        return capsys.readouterr().out

    return command


def test_tensorboard_has_the_curves(trained: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(trained / "run/tensorboard"))
    events.Reload()
    logged = [json.loads(line) for line in (trained / "run/metrics.jsonl").read_text().splitlines()]
    dev = {record["update"]: record["dev"]["BLEU"] for record in logged if "dev" in record}
    assert {one.step: pytest.approx(one.value, rel=1e-5) for one in events.Scalars("dev/BLEU")} == dev
    loss = {record["update"]: record["loss"] for record in logged if "loss" in record}
    assert events.Scalars("train/loss")
    for one in events.Scalars("train/loss"):
        assert one.value == pytest.approx(loss[one.step], rel=1e-5)


def test_translate_score_and_evaluate_agree(trained: Path, printed: Command) -> None:
    model, lines = trained / "run", trained / "test.src"
    rows = [
        row.split("\t") for row in printed("translate", model, lines, "--scores", "--pieces").splitlines()
    ]
    plain = printed("translate", model, lines).splitlines()
    assert len(rows) == len(plain) == 12
    pairs = trained / "pairs.tsv"
    pieces = [f"{source}\t{row[2]}" for source, row in zip(lines.read_text().splitlines(), rows, strict=True)]
    pairs.write_text("".join(line + "\n" for line in pieces), encoding="utf-8")
    scored = [row.split("\t") for row in printed("score", model, pairs, "--pieces").splitlines()]
    for row, score in zip(rows, scored, strict=True):
        assert float(row[0]) == pytest.approx(float(score[0]), abs=1e-4)
        assert float(row[1]) == pytest.approx(float(score[1]), abs=1e-4)
    report = json.loads(printed("evaluate", model, "--json"))
    assert {score["name"] for score in report["scores"]} >= {"BLEU", "chrF"}


@pytest.mark.parametrize("settings", [("--coverage-penalty", 0.3), ("--coverage-penalty", 0), ()])
@pytest.mark.parametrize("search", [("--beam", 4, "--nbest", 3), ("--sample", 3), ("--beam", 1)])
def test_score_prints_what_translate_printed(
    trained: Path, tmp_path: Path, printed: Command, settings: tuple[object, ...], search: tuple[object, ...]
) -> None:
    """Promise 3, through the commands: one sum and one score, also where the folder itself has a coverage penalty."""
    model, lines = tmp_path / "model", trained / "test.src"
    shutil.copytree(trained / "run", model)
    config = json.loads((model / "config.json").read_text())
    config["search"]["coverage_penalty"] = 0.2
    (model / "config.json").write_text(json.dumps(config))
    ranking = ("--normalization", "wu", "--length-penalty", 0.8, *settings)
    translated = printed("translate", model, lines, *search, *ranking, "--scores", "--pieces").splitlines()
    numbered = "--beam" not in search or "--nbest" in search
    rows = [row.split("\t") for row in translated]
    sources = lines.read_text().splitlines()
    given = [sources[int(row.pop(0)) - 1] for row in rows] if numbered else sources
    assert len(rows) == (36 if numbered else 12)
    pairs = tmp_path / "pairs.tsv"
    pairs.write_text(
        "".join(f"{source}\t{row[2]}\n" for source, row in zip(given, rows, strict=True)), encoding="utf-8"
    )
    scored = [row.split("\t") for row in printed("score", model, pairs, "--pieces", *ranking).splitlines()]
    for row, score in zip(rows, scored, strict=True):
        assert [float(score[0]), float(score[1])] == pytest.approx([float(row[0]), float(row[1])], abs=1e-4)


def test_samples_are_all_printed(trained: Path, printed: Command) -> None:
    rows = printed("translate", trained / "run", trained / "test.src", "--sample", 3).splitlines()
    assert [row.split("\t")[0] for row in rows] == [str(line) for line in range(1, 13) for _ in range(3)]
    best = printed("translate", trained / "run", trained / "test.src", "--sample", 3, "--mbr", "chrf")
    assert len(best.splitlines()) == 12


def test_average_makes_a_folder_that_translates(trained: Path, printed: Command) -> None:
    averaged = trained / "averaged"
    printed("average", trained / "run", trained / "run", "--output", averaged)
    lines = trained / "test.src"
    assert printed("translate", averaged, lines) == printed("translate", trained / "run", lines)


def test_pictures(trained: Path, printed: Command) -> None:
    for suffix, begins in (("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")):
        heads = trained / f"heads.{suffix}"
        printed(
            "show", "heads", trained / "run", "kot vidit dom", "--target", "house sees", "--output", heads
        )
        assert heads.read_bytes().startswith(begins)
    printed("show", "positions", "--output", trained / "positions.png")
    assert (trained / "positions.png").stat().st_size > 5000


def test_benchmark_reports_every_measurement(trained: Path, printed: Command) -> None:
    options = ("--beam", 1, "--beam", 2, "--batch", 4, "--repeats", 1)
    report = json.loads(printed("benchmark", trained / "run", *options, "--json"))
    kinds = [(one["what"], one.get("beam")) for one in report["measurements"]]
    assert kinds == [
        ("load", None),
        ("encode", None),
        ("translate", 1),
        ("translate", 2),
        ("training step", None),
    ]
    assert all(one["seconds"] > 0 for one in report["measurements"])
    assert "training step" in printed("benchmark", trained / "run", *options)
