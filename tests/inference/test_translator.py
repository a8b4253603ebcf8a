"""A model folder, opened and used: promises 1 and 3 on a real Transformer, options, and what is refused."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import kotya
from kotya import folder
from kotya.errors import Fault, KotyaError
from kotya.inference.translator import Translator
from kotya.models.transformer import TransformerConfig
from kotya.search.config import SearchConfig
from kotya.tasks.translation import roles_of
from kotya.tasks.translation_recipe import TranslationFolder
from kotya.text.vocabulary import Vocabulary

WORDS = ["a", "cat", "sat", "on", "the", "mat"]
LINES = [" ".join(WORDS[i % 5 : i % 5 + 1 + i % 9]) for i in range(11)] + [""]


def write_folder(path: Path, seed: int, lines: list[str]) -> Path:
    torch.manual_seed(seed)
    vocabulary = Vocabulary.learn(lambda: lines, 300)
    model = TransformerConfig(size=32, heads=2, feed_forward=32, encoder_layers=1, decoder_layers=2)
    config = TranslationFolder(
        model=model,
        search=SearchConfig(max_length_ratio=1, max_length_extra=6),
        banned=list(roles_of(vocabulary).banned),
    )
    built = model.build(len(vocabulary), len(vocabulary)).eval()
    for parameter in built.parameters():
        parameter.data *= 1.5  # outputs that differ from line to line
    folder.create(
        path, config=config, vocabularies=(vocabulary, vocabulary), recipe=None, tensors=folder.weights(built)
    )
    return path


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("model") / "first", 1, LINES)


@pytest.fixture(scope="module")
def translator(path: Path) -> Translator:
    return kotya.load(str(path))


def test_the_model_s_own_nbest_gives_way_to_a_smaller_beam(translator: Translator) -> None:
    own = Translator(
        translator.ensemble.models, (translator.source, translator.target), SearchConfig(beam=4, nbest=3), ()
    )
    assert own.choice(beam=1).search.nbest == 1
    assert own.choice(samples=2).search.nbest == 2
    assert own.choice().search.nbest == 3
    with pytest.raises(KotyaError, match="--nbest 3"):
        own.choice(beam=1, nbest=3)


@pytest.mark.parametrize("options", [{"beam": 1}, {"beam": 4}, {"samples": 2, "seed": 3}])
def test_a_line_does_not_depend_on_its_neighbours(translator: Translator, options: dict[str, int]) -> None:
    """Promise 1."""
    choice = translator.choice(scores=True, **options)
    together = list(translator.candidates(LINES, choice))
    for number, line in enumerate(LINES):
        if "samples" not in options:  # a sample depends on its line's number too
            [alone] = translator.candidates([line], choice)
            assert alone[0].pieces == together[number][0].pieces
            assert alone[0].log_probability == pytest.approx(together[number][0].log_probability, abs=1e-4)
    again = list(translator.candidates(iter(LINES), choice, workers=2))
    assert [found[0].pieces for found in again] == [found[0].pieces for found in together]


@pytest.mark.parametrize("coverage", [0.0, 0.4])
@pytest.mark.parametrize("options", [{"beam": 1}, {"beam": 4, "nbest": 3}, {"samples": 3, "nbest": 3}])
def test_a_score_is_what_search_said(
    translator: Translator, options: dict[str, int], coverage: float
) -> None:
    """Promise 3."""
    ranked = {"normalization": "wu", "length_penalty": 0.7, "coverage_penalty": coverage}
    choice = translator.choice(scores=True, **ranked, **options)
    said = [
        (line, candidate)
        for line, found in zip(LINES, translator.candidates(LINES, choice), strict=True)
        for candidate in found
    ]
    pairs = [(line, " ".join(candidate.pieces)) for line, candidate in said]
    for (_, candidate), score in zip(
        said, translator.score(pairs, pieces=True, config=choice.search), strict=True
    ):
        assert score.log_probability == pytest.approx(candidate.log_probability, abs=1e-4)
        assert score.score == pytest.approx(candidate.score, abs=1e-4)


def test_an_ensemble_of_one_model_twice_is_that_model(path: Path, translator: Translator) -> None:
    twice = kotya.load([path, path])
    assert twice.translate(LINES, beam=3) == translator.translate(LINES, beam=3)


def test_an_ensemble_of_different_vocabularies_is_refused(path: Path, tmp_path: Path) -> None:
    other = write_folder(tmp_path / "other", 2, ["other words entirely"])
    with pytest.raises(KotyaError, match=r"other: its source vocabulary is not that of .*first"):
        kotya.load([path, other])


def test_prefixes_are_begun_with_and_counted(translator: Translator) -> None:
    found = translator.translate(LINES[:3], prefixes=["a cat", "", "the"])
    assert found[0].startswith("a cat")
    assert found[2].startswith("the")
    with pytest.raises(KotyaError, match="2 prefixes but more lines"):
        translator.translate(LINES[:3], prefixes=["a", "b"])
    with pytest.raises(KotyaError, match="3 lines but more prefixes"):
        translator.translate(LINES[:3], prefixes=["a"] * 4)


def test_least_risk_is_one_of_the_samples(translator: Translator) -> None:
    choice = translator.choice(samples=6, nbest=6)
    samples = [{one.text for one in found} for found in translator.candidates(LINES[:4], choice)]
    for chosen, drawn in zip(translator.translate(LINES[:4], samples=6, mbr="chrf"), samples, strict=True):
        assert chosen in drawn


def test_the_trace_ends_in_what_is_translated(translator: Translator) -> None:
    for beam in (1, 3):
        choice = translator.choice(beam=beam)
        for line, (candidates, tree) in zip(LINES[:3], translator.trace(LINES[:3], choice), strict=True):
            assert candidates[0].text == translator.translate(line, beam=beam)
            assert tree["hypotheses"][0]["pieces"] == candidates[0].pieces


def test_a_reader_that_fails_is_heard_after_what_is_owed(translator: Translator) -> None:
    def failing() -> Iterator[str]:
        yield from LINES[:5]
        raise KotyaError("line 6 is bad")

    def pairs() -> Iterator[tuple[str, str]]:
        return ((line, "a cat") for line in failing())

    choice = translator.choice(beam=2)
    for found in (
        translator.candidates(failing(), choice, workers=2),
        translator.candidates(iter(LINES), choice, prefixes=failing()),
        translator.trace(failing(), choice),
        translator.aligned(failing(), choice, translator.aligner(), ahead=3),
        translator.aligner().align(pairs()),
        translator.score(pairs()),
    ):
        for _ in range(5):
            next(found)
        with pytest.raises(KotyaError, match="line 6 is bad"):
            next(found)


def test_a_line_too_long_is_heard_after_what_is_owed(translator: Translator) -> None:
    long = "a " * 5000
    choice = translator.choice(beam=2)
    for found in (
        translator.candidates([*LINES[:5], long], choice),
        translator.candidates(LINES, choice, prefixes=[*[""] * 5, long]),
        translator.aligner().align([("a", "cat")] * 5 + [("a", long)]),
        translator.score([("a", "cat")] * 5 + [(long, "a")]),
        translator.score([("a", "cat")] * 5 + [("a", long)]),
        translator.score([("a", "a")] * 5 + [("a", "a " * 5000)], pieces=True),
    ):
        for _ in range(5):
            next(found)
        with pytest.raises(KotyaError, match=r"(line|pair) 6 has \d,\d+ pieces; a line may have 4,096"):
            next(found)


def test_attention_that_is_no_number_is_said(path: Path) -> None:
    broken = kotya.load(path)
    with torch.inference_mode():
        next(broken.ensemble.models[0].decoder.parameters()).fill_(torch.nan)
    with pytest.raises(
        Fault, match=r"first: what it predicts for what stands beside 'a cat' is not a number"
    ):
        broken.align([("a cat", "a mat")])


def test_wrong_wishes_are_refused(translator: Translator) -> None:
    with pytest.raises(KotyaError, match="nbest 9"):
        translator.choice(beam=2, nbest=9)
    with pytest.raises(KotyaError, match=r"line 2 has 5,\d+ pieces"):
        translator.translate(["a", "a " * 5000])
