"""What is drawn of an encoder is what it computes: parts that add up to its first vectors, a word's own pieces."""

from pathlib import Path

import numpy as np
import pytest
import torch

from kotya import folder
from kotya.attention.packed import Packing
from kotya.cli.main import run
from kotya.errors import KotyaError
from kotya.inference.attention import attend_text
from kotya.inference.contexts import ContextReader
from kotya.models.bert import BertConfig
from kotya.models.lm import LanguageModelConfig
from kotya.tasks.encoder_recipe import EncoderFolder
from kotya.tasks.language_model import LanguageModelFolder
from kotya.text.vocabulary import Vocabulary

SENTENCES = ["the bank of the river", "a riverbank by the bank .", "Bank ! bank"]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small encoder with random weights, whose word `river` is of several pieces."""
    torch.manual_seed(1)
    vocabulary = Vocabulary.learn_wordpiece(lambda: ["the bank of a by ! . ri ver"] * 3, 60, lowercase=True)
    config = EncoderFolder(
        model=BertConfig(size=16, heads=2, layers=2, feed_forward=24, max_length=20), pooler=True
    )
    both = (vocabulary, vocabulary)
    model = config.build(both)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    found = tmp_path_factory.mktemp("contexts") / "encoder"
    folder.create(found, config=config, vocabularies=both, recipe=None, tensors=folder.weights(model))
    return found


def test_the_parts_add_up_to_what_the_first_layer_reads(path: Path) -> None:
    reader = ContextReader(path)
    found = reader.inputs(["the bank", "of a river"])
    assert found.pieces[:4] == ["[CLS]", "the", "bank", "[SEP]"]
    assert found.segments == [0] * 4 + [1] * (len(found.pieces) - 4)
    total = torch.from_numpy(sum(found.parts.values()))  # type: ignore[arg-type]
    ids = torch.tensor(reader.vocabulary.ids(found.pieces))
    first, *_ = reader.encoder.every_layer(ids, Packing.of([len(ids)]), torch.tensor(found.segments))
    torch.testing.assert_close(reader.encoder.embedding.norm(total), first)


def test_a_word_is_the_mean_of_its_own_pieces_in_every_layer(path: Path) -> None:
    reader = ContextReader(path)
    for word, places in (("bank", (2, 9, 1)), ("river", None)):
        sentences = SENTENCES if places else SENTENCES[:1]
        vectors = reader.word(word, sentences)
        assert vectors.shape == (3, len(sentences), 16)
        for number, sentence in enumerate(sentences):
            ids = torch.tensor(reader.vocabulary.wrapped(reader.vocabulary.encode(sentence)))
            pieces = reader.vocabulary.pieces(ids.tolist())
            if places:
                rows = [pieces.index("bank", places[number] - 1)]
            else:
                rows = list(range(5, len(pieces) - 1))
                assert len(rows) > 1
            segments = torch.zeros_like(ids)
            layers = reader.encoder.every_layer(ids, Packing.of([len(ids)]), segments)
            for depth, layer in enumerate(layers):
                expected = layer[rows].mean(0).detach().numpy()
                np.testing.assert_allclose(vectors[depth, number], expected, atol=1e-5)


def test_heads_are_softmax_of_queries_and_keys(path: Path) -> None:
    """Of the first layer, by hand."""
    reader = ContextReader(path)
    pieces, layers = reader.attention(["the bank", "of a"])
    assert pieces[0] == "[CLS]"
    assert [tuple(layer.shape) for layer in layers] == [(2, len(pieces), len(pieces))] * 2
    one = reader._whole(["the bank", "of a"])
    ids, segments = torch.from_numpy(one.ids).long(), torch.from_numpy(one.segments())
    x = reader.encoder.every_layer(ids, Packing.of([len(ids)]), segments)[0]
    attention = reader.encoder.layers[0].get_submodule("attention")
    query, key = (attention.get_submodule(name)(x).unflatten(1, (2, 8)) for name in ("query", "key"))
    expected = (torch.einsum("qhd,khd->hqk", query, key).double() / 8**0.5).softmax(-1)
    torch.testing.assert_close(layers[0].double(), expected, atol=1e-6, rtol=1e-5)


def test_a_language_model_attends_to_what_is_before(tmp_path: Path) -> None:
    pieces, layers = attend_text(written(tmp_path / "lm"), ["a b a"])
    assert len(pieces) == layers[0].shape[1] > 3
    for layer in layers:
        assert torch.equal(layer, layer.tril())
        torch.testing.assert_close(layer.sum(-1), torch.ones(layer.shape[:2]))
    with pytest.raises(KotyaError, match="reads one text"):
        attend_text(tmp_path / "lm", ["a", "b"])


def written(path: Path) -> Path:
    """A language model of one layer in a folder."""
    vocabulary = Vocabulary.learn_masked(lambda: ["a b"], 300)
    config = LanguageModelFolder(model=LanguageModelConfig(size=8, heads=2, layers=1, feed_forward=8))
    both = (vocabulary, vocabulary)
    tensors = folder.weights(config.build(both))
    folder.create(path, config=config, vocabularies=both, recipe=None, tensors=tensors)
    return path


def test_a_letter_that_grows_when_made_small_moves_nothing(path: Path) -> None:
    reader = ContextReader(path)
    assert (
        reader._pieces("bank", "İİİİİ Bank of the bank")[1]
        < reader._pieces("the", "İİİİİ Bank of the bank")[0]
    )


def test_what_cannot_be_shown_is_named(path: Path, tmp_path: Path) -> None:
    reader = ContextReader(path)
    with pytest.raises(KotyaError, match="'bank' does not stand in 'a riverbank'"):
        reader.word("bank", ["a bank", "a riverbank"])
    with pytest.raises(KotyaError, match="the vocabulary has no piece for '水'"):
        ContextReader(path).word("水", ["the 水"])
    with pytest.raises(KotyaError, match="behind what the model reads"):
        reader.word("bank", [" ".join(["the"] * 30 + ["bank"])])
    with pytest.raises(KotyaError, match="longer than the 20 pieces"):
        reader.inputs(["the " * 30])
    with pytest.raises(KotyaError, match="language_model, where one over an encoder is needed"):
        ContextReader(written(tmp_path / "lm"))


def test_mixtures_of_all_pieces_have_no_map(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    vocabulary = Vocabulary.learn_wordpiece(lambda: ["the bank of a river"] * 3, 60, lowercase=True)
    model = BertConfig(size=8, heads=2, layers=1, feed_forward=8, max_length=20, attention="linformer")
    config, both = EncoderFolder(model=model, pooler=True), (vocabulary, vocabulary)
    tensors = folder.weights(config.build(both))
    folder.create(tmp_path / "mixed", config=config, vocabularies=both, recipe=None, tensors=tensors)
    output = ["--output", str(tmp_path / "picture.svg")]
    assert run(["show", "heads", str(tmp_path / "mixed"), "the bank", *output]) == 2
    assert "mixtures of all pieces (linformer)" in capsys.readouterr().err


def test_the_commands(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = ["--output", str(tmp_path / "picture.svg")]
    for arguments in (
        ["inputs", str(path), "the bank", "of a"],
        ["inputs", str(path), "the bank"],
        ["contexts", str(path)],
        ["heads", str(path), "the bank", "of a"],
        ["heads", str(written(tmp_path / "lm")), "a b"],
    ):
        assert run(["show", *arguments, *output]) == 0, capsys.readouterr().err
        assert (tmp_path / "picture.svg").stat().st_size > 5000
        (tmp_path / "picture.svg").unlink()
    assert run(["show", "heads", str(path), "the bank", "--target", "of a", *output]) == 2
    assert "is no translator" in capsys.readouterr().err
    assert run(["show", "contexts", str(path), "the bank", *output]) == 2
    assert "one sentence alone" in capsys.readouterr().err
