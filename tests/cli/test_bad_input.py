"""Bad input: one clear line on stderr, 2 for the person and 1 for a fault, no traceback, nothing half-written."""

import re
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
from kotya.text.vocabulary import Vocabulary
from tiny_model import LINES, write_model
from training_corpus import content


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path / "model")


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


@pytest.mark.parametrize(
    ("model", "training", "message"),
    [
        ({"heads": 0}, {}, r"r\.yaml:\d+: model\.heads: 0 should be greater"),
        (
            {"preset": "luong-dot", "decoder": {"size": 48}},
            {},
            "score: dot needs queries",
        ),
        ({"preset": "luong-dot", "decoder": {"score": "none.Such"}}, {}, "--allow-code"),
        (None, {"guided_alignment": {"head": 3}}, "there is no head 3: the layer has 2"),
        (None, {"guided_alignment": {"layer": 2}}, "there is no layer 2"),
        ("rnn", {"guided_alignment": {}}, "without attention"),
        ({"cross_attention": "linformer"}, {"guided_alignment": {}}, "mixtures of the source"),
    ],
)
def test_a_model_that_cannot_be_leaves_no_folder(
    corpus: Path,
    tmp_path: Path,
    refused: Callable[..., str],
    model: dict[str, object] | str | None,
    training: dict[str, object],
    message: str,
) -> None:
    plan = content(corpus, **training)
    plan["model"] = model or plan["model"]
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(plan), encoding="utf-8")
    line = refused("train", tmp_path / "r.yaml", "-o", tmp_path / "run")
    assert re.search(message, line)
    assert not (tmp_path / "run").exists()
    assert not (tmp_path / "cache").exists()  # it was said before any work


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


MILLION = "kot " * 250_000


@pytest.mark.parametrize(
    ("arguments", "place"),
    [
        (["translate", "model", "long"], "line 2"),
        (["translate", "model", "short", "--prefix", "long"], "the prefix of line 2"),
        (["translate", "model", "long", "--alignments"], "line 2"),
        (["translate", "model", "long", "--trace", "trace"], "line 2"),
        (["translate", "model", "long", "--sample", "2"], "line 2"),
        (["evaluate", "model", "long", "short"], "line 2"),
        (["score", "model", "long-source"], "the source of line 2"),
        (["score", "model", "long-target"], "the translation of line 2"),
        (["align", "model", "long-source"], "the source of pair 2"),
        (["align", "model", "long-target"], "the target of pair 2"),
        (["benchmark", "model", "long"], "line 2"),
        (["show", "heads", "model", MILLION], "line 1"),
        (["show", "heads", "model", MILLION, "--target", "kot"], "the sentence"),
        (["show", "heads", "model", "kot", "--target", MILLION], "the target"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_a_line_of_a_million_characters(
    tmp_path: Path, model: Path, refused: Callable[..., str], arguments: list[str], place: str
) -> None:
    files = {
        "short": "kot\nkot\n",
        "long": f"kot\n{MILLION}\n",
        "long-source": f"kot\tkot\n{MILLION}\tkot\n",
        "long-target": f"kot\tkot\nkot\t{MILLION}\n",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    names = [*files, "model", "trace"]
    line = refused(*(tmp_path / one if one in names else one for one in arguments))
    assert re.search(rf"{place} has \d+,\d+ pieces; a line may have 4,096", line)
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize("side", ["src", "tgt"])
def test_a_line_of_a_million_characters_in_the_dev_set(
    corpus: Path, tmp_path: Path, refused: Callable[..., str], side: str
) -> None:
    for name in ("dev.src", "dev.tgt"):
        with open(corpus / name, "a", encoding="utf-8") as file:
            file.write((MILLION if name.endswith(side) else "kot") + "\n")
    line = refused("train", recipe(corpus, tmp_path / "r.yaml"), "-o", tmp_path / "run")
    assert re.search(rf"dev.{side}:21 has [0-9,]+ pieces; a line may have 4,096", line)
    assert not (tmp_path / "run").exists()


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


def test_invalid_utf8_in_training_without_a_recipe_is_dropped_and_counted(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, added in (("train.src", b"\xff\nkot\n"), ("train.tgt", b"cat\n\xff\n")):
        with open(corpus / name, "ab") as file:
            file.write(added)
    files = ["--source", str(corpus / "train.src"), "--target", str(corpus / "train.tgt")]
    settings = ["training.epochs=1", "training.evaluate_every=50", "vocabulary.size=300", "model.size=16"]
    assert run(["train", *files, *settings, "-o", str(tmp_path / "run")]) == 0
    said = capsys.readouterr().err
    assert "400 pairs: transformer-tiny" in said
    assert "dropped: 2 not UTF-8, 121 duplicate" in said


@pytest.mark.usefixtures("unchecked")
def test_what_was_translated_is_printed_before_the_error(
    tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in").write_bytes(b"kot\n" * 40 + b"\xff\n" + b"kot\n" * 40)
    (tmp_path / "trace").write_text("old")
    for options in ([], ["--beam", "1"], ["--alignments"], ["--trace", str(tmp_path / "trace")]):
        assert run(["translate", str(model), str(tmp_path / "in"), *options]) == 2
        output = capsys.readouterr()
        assert len(output.out.splitlines()) == 40
        assert "in:41: not valid UTF-8" in output.err
    assert (tmp_path / "trace").read_text() == "old"
    assert not list(tmp_path.glob(".trace*"))


def test_a_trace_that_cannot_be_written(tmp_path: Path, model: Path, refused: Callable[..., str]) -> None:
    (tmp_path / "in").write_text("kot\n")
    line = refused("translate", model, tmp_path / "in", "--trace", tmp_path / "none" / "trace")
    assert "none: there is no such folder to put trace in" in line


def test_weights_that_are_no_numbers(tmp_path: Path, model: Path, refused: Callable[..., str]) -> None:
    (tmp_path / "in").write_text("kot\tkot\n")
    tensors = folder.read_weights(model / folder.WEIGHTS)
    next(iter(tensors.values())).view(-1)[7] = float("nan")
    folder.save_weights(model / folder.WEIGHTS, tensors)
    for command in ("translate", "score", "align", "benchmark"):
        line = refused(command, model, tmp_path / "in", code=1)
        assert f"{model / folder.WEIGHTS}: the weight " in line


def test_a_model_that_overflows(tmp_path: Path, model: Path, refused: Callable[..., str]) -> None:
    """Its weights are numbers; what comes of them is none."""
    (tmp_path / "in").write_text("kot\tkot\n")
    tensors = folder.read_weights(model / folder.WEIGHTS)
    for name in tensors:
        if name.endswith("weight"):
            tensors[name] = tensors[name] * 1e30
    folder.save_weights(model / folder.WEIGHTS, tensors)
    for options in (
        ("translate", "--beam", 3),
        ("translate", "--beam", 1),
        ("translate", "--sample", 2),
        ("score",),
    ):
        line = refused(options[0], model, tmp_path / "in", *options[1:], code=1)
        assert f"{model}: what it predicts for line 1 is not a number" in line


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
    Vocabulary.learn(lambda: LINES, 270).save(other / "tokenizer.json")
    assert "do not belong together" in refused("translate", other, tmp_path / "in")


def test_a_device_that_is_not_there(
    corpus: Path, tmp_path: Path, model: Path, refused: Callable[..., str]
) -> None:
    (tmp_path / "in").write_text("kot\n")
    path = recipe(corpus, tmp_path / "r.yaml")
    for device in ("cuda:99", "meta", "mkldnn", "tpu"):
        for command in (("translate", model, tmp_path / "in"), ("train", path, "-o", tmp_path / "run")):
            assert "there is no device" in refused(*command, "--device", device)
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
