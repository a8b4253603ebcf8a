"""Bad input: one clear line on stderr, 2 for the person and 1 for a fault, no traceback, nothing half-written."""

import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from kotya import folder
from kotya.cli.main import run
from kotya.folder import FolderConfig
from kotya.models.transformer import TransformerConfig
from kotya.text.vocabulary import Vocabulary
from training_corpus import content

LINES = ["kot vidit dom", "sobaka lyubit sad"] * 10


@pytest.fixture
def model(tmp_path: Path) -> Path:
    vocabulary = Vocabulary.learn(LINES, 280)
    small = TransformerConfig(size=16, heads=2, feed_forward=16, encoder_layers=1, decoder_layers=1)
    config = FolderConfig(task="translation", model=small, banned=[0, 1, 2])
    built = small.build(len(vocabulary), len(vocabulary))
    path = tmp_path / "model"
    folder.create(path, config=config, vocabularies=(vocabulary, vocabulary), recipe=None, model=built)
    return path


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run a command that must fail with a code and one line; returns the line."""

    def check(*arguments: object, code: int = 2) -> str:
        assert run([str(argument) for argument in arguments]) == code
        output = capsys.readouterr()
        line: str = output.err.splitlines()[-1]
        assert line.startswith("kotya: ")
        assert "Traceback" not in output.err
        assert "unexpected" not in line
        return line

    return check


def recipe(corpus: Path, path: Path, **training: object) -> Path:
    path.write_text(yaml.safe_dump(content(corpus, **training)), encoding="utf-8")
    return path


def test_an_unknown_recipe_key(corpus: Path, tmp_path: Path, refused: Callable[..., str]) -> None:
    path = recipe(corpus, tmp_path / "r.yaml", updatse=3)
    line = refused("train", path, "-o", tmp_path / "run")
    assert f"{path}:" in line
    assert "the nearest is 'updates'" in line
    assert not (tmp_path / "run").exists()


def test_a_missing_file(corpus: Path, tmp_path: Path, model: Path, refused: Callable[..., str]) -> None:
    (corpus / "train.tgt").unlink()
    assert "train.tgt" in refused("train", recipe(corpus, tmp_path / "r.yaml"), "-o", tmp_path / "run")
    assert not (tmp_path / "run").exists()
    assert "none.txt" in refused("translate", model, tmp_path / "none.txt")
    assert "none.yaml" in refused("train", tmp_path / "none.yaml")
    assert "none" in refused("vocabulary", "learn", tmp_path / "none.txt", "-o", tmp_path / "v.json")


def test_unequal_line_counts(corpus: Path, tmp_path: Path, refused: Callable[..., str]) -> None:
    with open(corpus / "train.tgt", "a", encoding="utf-8") as file:
        file.write("one more\n")
    line = refused("train", recipe(corpus, tmp_path / "r.yaml"), "-o", tmp_path / "run")
    assert "400" in line
    assert "401" in line
    assert not (tmp_path / "run").exists()
    line = refused(
        "train", "--source", corpus / "train.src", "--target", corpus / "train.tgt", "-o", tmp_path / "run"
    )
    assert "401" in line


def test_an_empty_file(corpus: Path, tmp_path: Path, model: Path, refused: Callable[..., str]) -> None:
    (corpus / "train.src").write_text("")
    assert "empty" in refused("train", recipe(corpus, tmp_path / "r.yaml"), "-o", tmp_path / "run")
    (tmp_path / "empty").write_text("")
    assert "empty" in refused("translate", model, tmp_path / "empty")
    (tmp_path / "empty.yaml").write_text("")
    assert "sections" in refused("train", tmp_path / "empty.yaml")


def test_a_line_of_a_million_characters(tmp_path: Path, model: Path, refused: Callable[..., str]) -> None:
    (tmp_path / "long").write_text("kot\n" + "kot " * 250_000 + "\n", encoding="utf-8")
    assert "line 2" in refused("translate", model, tmp_path / "long")


def test_a_line_of_a_million_characters_in_training_is_dropped_and_counted(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("train.src", "train.tgt"):
        with open(corpus / name, "a", encoding="utf-8") as file:
            file.write("kot " * 250_000 + "\n")
    path = recipe(corpus, tmp_path / "r.yaml", updates=2, evaluate_every=2)
    assert run(["train", str(path), "-o", str(tmp_path / "run")]) == 0
    assert "1 too long" in capsys.readouterr().err


def test_invalid_utf8(corpus: Path, tmp_path: Path, model: Path, refused: Callable[..., str]) -> None:
    (tmp_path / "latin").write_bytes("kot\nкот\n".encode("koi8-r"))
    assert "latin:2" in refused("translate", model, tmp_path / "latin")
    (corpus / "train.src").write_bytes(b"\xff\xfe\n" * 400)
    assert "train.src:1" in refused("train", recipe(corpus, tmp_path / "r.yaml"), "-o", tmp_path / "run")


def test_a_folder_that_is_no_model(tmp_path: Path, refused: Callable[..., str]) -> None:
    for command in ("translate", "evaluate", "benchmark"):
        assert "not a model folder" in refused(command, tmp_path)
        assert "no such model folder" in refused(command, tmp_path / "nowhere")
    assert "config.json" in refused("import", tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_truncated_weights_and_a_vocabulary_that_does_not_fit(
    tmp_path: Path, model: Path, refused: Callable[..., str]
) -> None:
    (tmp_path / "in").write_text("kot\n")
    cut, other = tmp_path / "cut", tmp_path / "other"
    shutil.copytree(model, cut)
    shutil.copytree(model, other)
    weights = cut / folder.WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-50])
    assert "model.safetensors" in refused("translate", cut, tmp_path / "in")
    Vocabulary.learn(LINES, 270).save(other / "tokenizer.json")
    assert "do not belong together" in refused("translate", other, tmp_path / "in")


def test_a_device_that_is_not_there(
    corpus: Path, tmp_path: Path, model: Path, refused: Callable[..., str]
) -> None:
    (tmp_path / "in").write_text("kot\n")
    assert "there is no device" in refused("translate", model, tmp_path / "in", "--device", "cuda:7")
    path = recipe(corpus, tmp_path / "r.yaml")
    assert "there is no device" in refused("train", path, "-o", tmp_path / "run", "--device", "tpu")
    assert not (tmp_path / "run").exists()


def test_options_out_of_range(tmp_path: Path, model: Path, refused: Callable[..., str]) -> None:
    (tmp_path / "in").write_text("kot\n")
    for said, *wrong in (
        ("--beam", "--beam", "0"),
        ("--stop never", "--stop", "never"),
        ("widen the beam", "--nbest", "9", "--beam", "2"),
        ("draw more", "--nbest", "9", "--sample", "2"),
        ("add --sample", "--mbr", "chrf"),
        ("--temperature is of sampling", "--temperature", "0.5"),
        ("--top-k is of sampling", "--top-k", "3"),
        ("--seed is of sampling", "--seed", "3", "--mbr", "bleu"),
        ("there are chrf, bleu", "--sample", "2", "--mbr", "ter"),
        ("--beam is of search", "--sample", "2", "--beam", "3"),
    ):
        assert said in refused("translate", model, tmp_path / "in", *wrong)


def test_a_full_disk_while_saving(corpus: Path, tmp_path: Path) -> None:
    """Files may not grow past 20 kB: the first checkpoint fails, and the folder is as it was before."""
    path = recipe(corpus, tmp_path / "r.yaml", updates=4, evaluate_every=2)
    run_folder = tmp_path / "run"
    assert run(["train", str(path), "-o", str(run_folder)]) == 0
    before = (run_folder / folder.WEIGHTS).read_bytes()
    shutil.rmtree(run_folder / "checkpoints")

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    command = [sys.executable, "-m", "kotya", "train", str(path), "-o", str(run_folder), "--resume"]
    done = subprocess.run(command, capture_output=True, text=True, preexec_fn=limit)
    assert done.returncode == 1
    assert "could not be written" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert (run_folder / folder.WEIGHTS).read_bytes() == before
    assert not [file for file in run_folder.rglob("*") if "partial" in file.name]
    assert not list((run_folder / "checkpoints").glob("[0-9]*"))
