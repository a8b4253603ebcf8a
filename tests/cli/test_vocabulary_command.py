"""`kotya vocabulary`: the sub-commands as a person calls them."""

import os
from pathlib import Path
from threading import Thread

import pytest
from typer.testing import CliRunner

from kotya.cli.vocabulary import app
from kotya.errors import KotyaError

LINES = "Zwei junge Männer, 25 Katzen.\n" * 5
LECTURE = ["cat=4", "mat=5", "mats=2", "mate=3", "ate=3", "eat=2"]


def run(*arguments: object, text: str | None = None) -> str:
    """What a sub-command writes to stdout."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], input=text)
    if result.exception is not None:
        raise result.exception
    return result.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vocabulary")
    (folder / "train.txt").write_text(LINES, encoding="utf-8")
    run("learn", folder / "train.txt", "--size", 320, "-o", folder / "tokenizer.json")
    return folder


@pytest.mark.parametrize("options", [[], ["--ids"]])
@pytest.mark.parametrize("more", [[], ["--dropout", "0.5"]])
def test_decode_undoes_encode(folder: Path, options: list[str], more: list[str]) -> None:
    pieces = run(
        "encode", folder, folder / "train.txt", *options, *more
    )  # a folder that holds one is fine too
    assert run("decode", folder / "tokenizer.json", *options, text=pieces) == LINES


def test_what_comes_through_a_pipe_is_learned_from(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    writer = Thread(target=(folder / "pipe").write_text, args=(LINES,))
    writer.start()
    run("learn", folder / "pipe", "--size", 320, "-o", folder / "piped.json")
    writer.join()
    assert (folder / "piped.json").read_bytes() == (folder / "tokenizer.json").read_bytes()


def test_codes_of_subword_nmt(folder: Path) -> None:
    (folder / "codes").write_text("#version: 0.2\nj u\nn g\nng e</w>\nju nge</w>\n")
    run("learn", folder / "train.txt", "--codes", folder / "codes", "-o", folder / "codes.json")
    assert run("encode", folder / "codes.json", text="junge\n") == "junge</w>\n"


def test_merges_of_the_lecture(tmp_path: Path) -> None:
    out = run("merges", *LECTURE, "--word", "mates", "--picture", tmp_path / "merges.svg")
    assert "a+t" in out
    assert "mate·s" in out
    assert (tmp_path / "merges.svg").exists()
    assert "mate·s" not in run("merges", *LECTURE, "--word", "mates", "--steps", 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["merges", "cat"], "'cat': a word and how often it occurs is expected, like cat=4"),
        (["merges", "cat=0"], "like cat=4"),
        (["encode", "nothing.json"], "nothing.json: there is no such vocabulary"),
        (["encode", "empty"], "a folder without source.tokenizer.json or tokenizer.json"),
        (["learn", "nothing.txt"], "nothing.txt: there is no such file"),
        (["decode", "tokenizer.json", "train.txt"], "train.txt:1: 'Zwei' is no piece"),
        (["decode", "tokenizer.json", "train.txt", "--ids"], "train.txt:1: 'Zwei' is no id"),
    ],
)
def test_mistakes(folder: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str) -> None:
    (folder / "empty").mkdir(exist_ok=True)
    monkeypatch.chdir(folder)
    with pytest.raises(KotyaError, match=message):
        run(*arguments)
