"""Word alignments: the attention of a forced pass, joined to words by the book, whatever stands beside it."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import kotya
from kotya import folder
from kotya.attention.reading import Reading
from kotya.attention.recorder import record_attention
from kotya.errors import KotyaError
from kotya.inference.alignment import Side, WordAlignment, best_links, join_pieces, symmetrized
from kotya.inference.evaluation import evaluate_alignments
from kotya.inference.translator import Translator
from kotya.metrics import alignment_scores
from kotya.tasks.translation import roles_of
from kotya.tasks.translation_recipe import TranslationFolder, TranslationRecipe
from kotya.text.alignments import render
from kotya.text.corpus import TextSource
from kotya.text.symmetrization import symmetrize
from kotya.text.vocabulary import Vocabulary
from training_corpus import content, sentences

TRANSFORMER = {"size": 32, "heads": 2, "feed_forward": 32, "encoder_layers": 1, "decoder_layers": 3}


def small(preset: str) -> dict[str, Any]:
    part = {"size": 16, "embedding": 16}
    return {"preset": preset, "encoder": part, "decoder": part, "share": "none"}


CNN = small("cnn") | {"decoder": {"size": 16, "embedding": 16, "score": "mlp"}}
"""Whose weights do not come out as 0 and 1."""

PAIRS = [
    ("кот  видит дом", "cat sees house"),
    ("собака", "the dog sees a garden\u00a0gate"),
    ("", "cat"),
    ("дом", ""),
    ("кот любит 猫 and unseen", "кот любит"),
    *[(line, line[::-1]) for line in sentences(12, 3)],
]


def write_folder(path: Path, model: Any, seed: int, **training: Any) -> Path:
    """A model nobody trained, with attention that differs from word to word."""
    torch.manual_seed(seed)
    vocabulary = Vocabulary.learn(lambda: [text for pair in PAIRS for text in pair], 290)
    recipe = TranslationRecipe.model_validate({**content(path, **training), "model": model})
    built = recipe.model.build(len(vocabulary), len(vocabulary)).eval()
    for parameter in built.parameters():
        parameter.data *= 2
    config = TranslationFolder(model=recipe.model, banned=list(roles_of(vocabulary).banned))
    folder.create(
        path,
        config=config,
        vocabularies=(vocabulary, vocabulary),
        recipe=recipe,
        tensors=folder.weights(built),
    )
    return path


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("model") / "transformer", TRANSFORMER, 1)


@pytest.fixture(scope="module")
def translator(path: Path) -> Translator:
    return kotya.load(path)


def by_the_book(path: Path, source: str, target: str, reading: Reading) -> np.ndarray[Any, Any]:
    """Word weights of one pair, alone, from maps of the whole model, in loops."""
    loaded = folder.load(path)
    vocabulary = loaded.vocabularies[0]
    x, y = vocabulary.encode(source), vocabulary.encode(target)
    with record_attention(loaded.model) as maps, torch.inference_mode():
        loaded.model(
            torch.tensor([[*x, vocabulary.end]]),
            torch.tensor([len(x) + 1]),
            torch.tensor([[vocabulary.begin, *y]]),
        )
    layers = [maps[f"decoder.layers.{n}.cross"][0][0].double().numpy() for n in range(3)]
    layer = np.mean(layers, 0) if reading.layer == "mean" else layers[reading.layer - (reading.layer > 0)]
    weights = layer.mean(0) if reading.head == "mean" else layer[reading.head - 1]
    x_words = [*vocabulary.words(x), len(source.split())]
    y_words = vocabulary.words(y)
    joined = np.zeros((len(target.split()), len(source.split()) + 1))
    for t, target_word in enumerate(y_words):
        for s, source_word in enumerate(x_words):
            step = t + (reading.step == "input")
            joined[target_word, source_word] += weights[step, s] / y_words.count(target_word)
    return joined


@pytest.mark.parametrize(
    "reading",
    [
        {},
        {"layer": 1, "head": 2},
        {"layer": -2, "step": "input"},
        {"layer": "mean", "head": 1, "step": "input"},
        {"layer": 3, "head": "mean"},
    ],
)
def test_weights_and_links_by_the_book(path: Path, translator: Translator, reading: dict[str, Any]) -> None:
    found = translator.align(PAIRS, **reading)
    for (source, target), one in zip(PAIRS, found, strict=True):
        expected = by_the_book(path, source, target, Reading(**reading))
        words = len(target.split())
        np.testing.assert_allclose(one.weights[:words], expected, atol=1e-5)
        assert len(one.weights) == words + ("step" not in reading)
        np.testing.assert_allclose(one.weights.sum(1), 1, atol=1e-5)
        assert (one.source, one.target) == (source.split(), target.split())
        best = {(int(row[:-1].argmax()), j) for j, row in enumerate(expected) if source.split()}
        assert one.links == best
        assert one.columns[-1] == "‹end›"
        assert len(one.rows) == len(one.weights)


@pytest.mark.parametrize("model", [TRANSFORMER, small("bahdanau"), small("luong-mlp"), CNN])
@pytest.mark.parametrize("step", ["output", "input"])
def test_only_at_the_input_the_word_itself_is_known(tmp_path: Path, model: Any, step: str) -> None:
    """With another word in its place no earlier row changes; its own does at the input, and does not at the output."""
    aligner = kotya.load(write_folder(tmp_path / "model", model, 2)).aligner(step=step)
    [source], [target] = (
        Side.of_texts(aligner.source, [text]) for text in ("кот любит 猫", "cat sees house")
    )
    changed = 3
    ids = [*target.ids]
    ids[changed] += 1
    before, after = (aligner._weights([(source, one)])[0] for one in (target, replace(target, ids=ids)))
    same = [torch.equal(one, other) for one, other in zip(before, after, strict=True)]
    assert all(same[: changed + (step == "output")])
    assert step == "output" or not same[changed]


@pytest.mark.parametrize("model", [TRANSFORMER, small("bahdanau"), small("luong-mlp")])
def test_a_pair_does_not_depend_on_its_neighbours(tmp_path: Path, model: Any) -> None:
    translator = kotya.load(write_folder(tmp_path / "model", model, 2))
    together = translator.align(PAIRS)
    for pair, one in zip(PAIRS, together, strict=True):
        [alone] = translator.align([pair])
        np.testing.assert_allclose(one.weights, alone.weights, atol=1e-5)


def test_answers_come_while_the_input_is_open(translator: Translator) -> None:
    aligner = translator.aligner()
    for answers in (
        aligner.align,
        lambda pairs: symmetrized(aligner, aligner, pairs, "union"),
        lambda pairs: translator.score(pairs),
    ):
        gate, closed = threading.Event(), []

        def typed(gate: threading.Event = gate, closed: list[bool] = closed) -> Iterator[tuple[str, str]]:
            yield "red blue", "blue red"
            closed.append(not gate.wait(30))

        first = iter(answers(typed()))
        next(first)
        assert not closed
        gate.set()
        assert list(first) == []


def test_an_unknown_piece_is_of_the_word_before_it() -> None:
    vocabulary = Vocabulary.learn(lambda: ["red blue red blue"] * 3, 290)
    ids = vocabulary.encode("red blue")
    side = Side.of_output(vocabulary, [vocabulary.unknown, *ids, vocabulary.unknown])
    assert min(side.word_of) == side.word_of[0] == 0
    assert side.word_of[-1] == side.word_of[-2] == 1


def test_alignments_are_those_of_the_chosen_hypotheses(translator: Translator) -> None:
    """Of beam search, every one of the n best: the pieces that were chosen are read, not the text cut anew."""
    lines = [source for source, _ in PAIRS[:6]]
    choice = translator.choice(beam=3, nbest=2, max_length_ratio=1, max_length_extra=3)
    plain = list(translator.candidates(lines, choice))
    for ahead in (1, 5):
        aligned = list(translator.aligned(iter(lines), choice, translator.aligner(), ahead=ahead))
        assert [[one.pieces for one, _ in found] for found in aligned] == [
            [one.pieces for one in found] for found in plain
        ]
        for line, found in zip(lines, aligned, strict=True):
            for candidate, alignment in found:
                assert alignment.source == line.split()
                assert alignment.target == candidate.text.split()
                ids = translator.target.ids(candidate.pieces)
                if translator.target.encode(candidate.text) == ids:
                    [forced] = translator.align([(line, candidate.text)])
                    np.testing.assert_allclose(alignment.weights, forced.weights, atol=1e-5)


def test_an_ensemble_is_the_mean_of_its_models(path: Path, translator: Translator, tmp_path: Path) -> None:
    other = write_folder(tmp_path / "other", TRANSFORMER, 7)
    one, two, both = (kotya.load(paths).align(PAIRS) for paths in (path, other, [path, other]))
    for a, b, mean in zip(one, two, both, strict=True):
        np.testing.assert_allclose((a.weights + b.weights) / 2, mean.weights, atol=1e-5)


def test_two_directions(translator: Translator) -> None:
    turned = [(target, source) for source, target in PAIRS]
    forward, backward = translator.align(PAIRS), translator.align(turned)
    aligner = translator.aligner()
    found = list(symmetrized(aligner, aligner, iter(PAIRS), "grow-diag-final-and"))
    for one, here, there in zip(found, forward, backward, strict=True):
        assert one.links == symmetrize(here.links, frozenset((j, i) for i, j in there.links))
        assert np.array_equal(one.weights, here.weights)


def test_what_a_model_was_taught_is_how_it_is_read(tmp_path: Path) -> None:
    guided = {"layer": 2, "head": 1, "step": "input", "weight": 0.1, "empty_word": True}
    path = write_folder(tmp_path / "guided", TRANSFORMER, 1, guided_alignment=guided)
    assert kotya.load(path).reading == Reading(layer=2, head=1, step="input", empty_word=True)
    assert kotya.load(path).aligner(head="mean").reading == Reading(
        layer=2, head="mean", step="input", empty_word=True
    )


def test_refused(translator: Translator, tmp_path: Path) -> None:
    for layer in (0, 4, -4):
        with pytest.raises(KotyaError, match=f"no layer {layer}: the decoder has 3"):
            translator.align(PAIRS, layer=layer)
    with pytest.raises(KotyaError, match="no head 3: the layer has 2"):
        translator.align(PAIRS, head=3)
    with pytest.raises(KotyaError, match=r"the target of pair 2 has .* pieces"):
        translator.align([("a", "b"), ("a", "b " * 5000)])
    with pytest.raises(KotyaError, match="without attention"):
        kotya.load(write_folder(tmp_path / "rnn", small("rnn"), 1)).align(PAIRS)


def test_joining_by_hand() -> None:
    pieces = np.array([[0.1, 0.2, 0.3, 0.4], [0.3, 0.2, 0.5, 0.0], [0.0, 0.0, 0.1, 0.9]])
    joined = join_pieces(pieces, [0, 0, 1, 2], [0, 0, 2], (3, 3))
    np.testing.assert_allclose(joined, [[0.4, 0.4, 0.2], [0, 0, 0], [0, 0.1, 0.9]])
    assert best_links(joined) == {
        (0, 0),
        (1, 2),
    }  # the word without pieces has none, and the end links nothing
    assert best_links(joined, empty_word=True) == {(0, 0)}


def test_the_error_rate_of_a_test_set(translator: Translator, tmp_path: Path) -> None:
    pairs = [pair for pair in PAIRS if all(pair)]
    for name, side in (("s", 0), ("t", 1)):
        (tmp_path / name).write_text("".join(pair[side] + "\n" for pair in pairs), encoding="utf-8")
    sure = [frozenset({(0, 0)}) for _ in pairs]
    for kind in ("sure", "possible"):
        (tmp_path / f"gold.{kind}").write_text("".join(render(one) + "\n" for one in sure))
    files = TextSource.of(tmp_path / "s"), TextSource.of(tmp_path / "t")
    report = evaluate_alignments(translator, None, *files, tmp_path / "gold", {})
    assert [(one.layer, one.step) for one, _ in report.rows] == [
        (layer, step) for layer in (1, 2, 3, "mean") for step in ("output", "input")
    ]
    for reading, scores in report.rows:
        links = [one.links for one in translator.align(pairs, **reading.model_dump())]
        assert scores == alignment_scores(links, sure, sure)
    [(_, both)] = evaluate_alignments(
        translator, translator, *files, tmp_path / "gold", {"layer": 1, "step": "input"}
    ).rows
    assert both.precision >= 0
    (tmp_path / "gold.possible").write_text("0-0\n" * (len(pairs) - 1) + "0-99\n")
    with pytest.raises(KotyaError, match=f"gold.possible:{len(pairs)}: the link 0-99 points outside"):
        evaluate_alignments(translator, None, *files, tmp_path / "gold", {})


def test_as_json(translator: Translator) -> None:
    [one] = translator.align(PAIRS[:1])
    values = WordAlignment(one.source, one.target, one.weights, frozenset({(2, 1), (0, 2)})).as_json()
    assert values["source"] == ["кот", "видит", "дом", "‹end›"]
    assert values["target"] == ["cat", "sees", "house", "‹end›"]
    assert values["links"] == [[0, 2], [2, 1]]
    np.testing.assert_allclose(values["weights"], one.weights, atol=1e-4)
