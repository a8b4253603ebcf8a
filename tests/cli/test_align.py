"""`kotya align`, `translate --alignments` and `evaluate --alignments`: what they print, draw and refuse."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

import kotya
from kotya import folder
from kotya.cli.main import run
from kotya.inference.alignment import symmetrized
from kotya.inference.loading import load_translator
from kotya.models.transformer import TransformerConfig
from kotya.tasks.translation_recipe import TranslationFolder
from kotya.text.alignments import Links, parse, render
from kotya.text.vocabulary import Vocabulary

PAIRS = [("kot vidit dom", "a cat sees"), ("дом", "house")]


@pytest.fixture
def here(tmp_path: Path) -> Path:
    vocabulary = Vocabulary.learn(lambda: [text for pair in PAIRS for text in pair], 280)
    small = TransformerConfig(size=16, heads=2, feed_forward=16, encoder_layers=1, decoder_layers=2)
    config = TranslationFolder(model=small, banned=[0, 1, 2])
    both = (vocabulary, vocabulary)
    for name in ("model", "other"):
        weights = folder.weights(small.build(len(vocabulary), len(vocabulary)))
        folder.create(tmp_path / name, config=config, vocabularies=both, recipe=None, tensors=weights)
    (tmp_path / "pairs").write_text("".join(f"{one}\t{two}\n" for one, two in PAIRS), encoding="utf-8")
    (tmp_path / "one").write_text("кот\tcat\n", encoding="utf-8")
    for side, name in enumerate(("source", "target")):
        (tmp_path / name).write_text("".join(pair[side] + "\n" for pair in PAIRS), encoding="utf-8")
    for kind in ("sure", "possible"):
        (tmp_path / f"gold.{kind}").write_text("0-0\n0-0\n")
    return tmp_path


@pytest.fixture
def said(here: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., list[str]]:
    """Run a command with its files in `here`; the lines it prints, or of its error."""

    def check(*arguments: str, code: int = 0) -> list[str]:
        names = {path.name for path in here.iterdir()} | {"gold", "a.png", "a.html", "a.svg", "a.gif"}
        given = [str(here / one) if one in names else one for one in arguments]
        assert run(given) == code
        output = capsys.readouterr()
        if code:
            assert len(output.err.splitlines()) == 1
            assert "unexpected" not in output.err
        return (output.err if code else output.out).splitlines()

    return check


def test_links_and_matrices(here: Path, said: Callable[..., list[str]]) -> None:
    expected = kotya.load(here / "model").align(PAIRS, layer=1, head=2, step="input")
    options = ("--layer", "1", "--head", "2", "--step", "input")
    assert said("align", "model", "pairs", *options) == [render(one.links) for one in expected]
    lines = said("align", "model", "pairs", *options, "--format", "json")
    assert [json.loads(line) for line in lines] == [one.as_json() for one in expected]


def test_both_directions(said: Callable[..., list[str]]) -> None:
    for heuristic in ("grow-diag-final-and", "union", "intersection"):
        lines = said("align", "model", "pairs", "--symmetrize", "model", "--heuristic", heuristic)
        assert len(lines) == 2
        assert parse(lines[1], "") == {(0, 0)}


def test_several_models_vote_in_either_direction(here: Path, said: Callable[..., list[str]]) -> None:
    pairs = [("kot vidit dom " * 7, "a cat sees the house " * 6)]
    (here / "long").write_text("\t".join(pairs[0]) + "\n", encoding="utf-8")

    def links(forward: Sequence[str], reverse: Sequence[str]) -> Links:
        one, other = (
            load_translator([here / name for name in names]).aligner() for names in (forward, reverse)
        )
        [found] = symmetrized(one, other, pairs, "union")
        return found.links

    both, back = ["model", "other"], ["other", "model", "model"]
    expected = links(both, back)
    lacking = ((["model"], back), (both, ["model"]), (both, ["other"]), (both, ["other", "model"]))
    assert expected not in [links(*given) for given in lacking]
    voting = ("--with", "other", *(word for one in back for word in ("--symmetrize", one)))
    [line] = said("align", "model", "long", *voting, "--heuristic", "union")
    assert parse(line, "") == expected
    [line] = said(
        *("evaluate", "model", "source", "target", "--alignments", "gold", "--json", "--layer", "2"), *voting
    )
    assert [row["step"] for row in json.loads(line)["alignments"]] == ["output", "input"]


def test_pictures(here: Path, said: Callable[..., list[str]]) -> None:
    assert said("align", "model", "one", "--picture", "a.png") == ["0-0"]
    assert (here / "a.png").read_bytes().startswith(b"\x89PNG")
    assert len(said("align", "model", "pairs", "--picture", "a.html", "--symmetrize", "model")) == 2
    page = (here / "a.html").read_text(encoding="utf-8")
    assert page.count("<svg") == 2
    assert "дом" in page


def test_with_translations(here: Path, said: Callable[..., list[str]]) -> None:
    plain = said("translate", "model", "source", "--beam", "2", "--scores", "--nbest", "2")
    lines = said("translate", "model", "source", "--beam", "2", "--scores", "--nbest", "2", "--alignments")
    assert [line.rpartition("\t")[0] for line in lines] == plain
    for line in lines:
        *_, text, links = line.split("\t")
        assert len(parse(links, "")) == len(text.split())
    [first, _] = said("translate", "model", "source", "--alignments", "--format", "json")
    assert json.loads(first.split("\t")[1])["source"] == ["kot", "vidit", "dom", "‹end›"]


def test_error_rates(said: Callable[..., list[str]]) -> None:
    table = said("evaluate", "model", "source", "target", "--alignments", "gold")
    assert table[0].split() == ["layer", "head", "step", "AER", "precision", "recall"]
    assert len(table) == 1 + 3 * 2 + 1
    [line] = said(
        *("evaluate", "model", "source", "target", "--alignments", "gold", "--layer", "2", "--json"),
        *("--symmetrize", "model"),
    )
    rows = json.loads(line)["alignments"]
    assert [(row["layer"], row["step"]) for row in rows] == [(2, "output"), (2, "input")]
    assert all(0 <= row["aer"] <= 100 for row in rows)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("align", "model", "source"), "source:1: no tab"),
        (("align", "model", "pairs", "--picture", "a.png"), "a picture shows one pair and there are more"),
        (("align", "model", "pairs", "--picture", "a.gif"), "a picture is a .png"),
        (("align", "model", "pairs", "--layer", "9"), "there is no layer 9"),
        (("align", "model", "pairs", "--layer", "top"), "--layer top: a number or mean"),
        (("align", "model", "pairs", "--head", "9"), "there is no head 9"),
        (("align", "model", "pairs", "--step", "both"), "step"),
        (("translate", "model", "source", "--layer", "1"), "add --alignments"),
        (("translate", "model", "source", "--alignments", "--trace", "x"), "do not go together"),
        (("evaluate", "model", "source", "target", "--step", "input"), "add --alignments GOLD"),
        (("evaluate", "model", "source", "target", "--alignments", "none"), "none.sure: there is no such"),
        (("evaluate", "model", "one", "one", "--alignments", "gold"), "has 2 lines but there are 1 pairs"),
        (("evaluate", "model", "source", "target", "--alignments", "gold", "--beam", "2"), "none is made"),
        (("evaluate", "model", "source", "target", "--alignments", "gold", "-o", "out"), "none is made"),
        (("evaluate", "model", "source", "target", "--set", "dev"), "--set names a set of the recipe"),
        (("align", "model", "pairs", "--heuristic", "union"), "add --symmetrize"),
        (("translate", "model", "source", "--trace", "x", "--workers", "2"), "has no --workers"),
        (("vocabulary", "learn", "source", "--codes", "x", "--size", "300"), "--codes brings its own"),
    ],
)
def test_refused(said: Callable[..., list[str]], arguments: tuple[str, ...], error: str) -> None:
    assert error in said(*arguments, code=2)[0]
