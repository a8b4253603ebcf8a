"""An imported MarianMT model is the original: the same ids, the same logits (promise 9)."""

import json
import shutil
import warnings
from pathlib import Path

import pytest
import torch
from transformers import MarianMTModel, MarianTokenizer

from kotya.errors import KotyaError
from kotya.interop.marian import GenerationConfig, Marian, _search, read_marian
from kotya.text.vocabulary import Vocabulary
from tiny_marian import ODD, sentences, write_marian


def their_ids(folder: Path, texts: list[str], *, target: bool = False) -> list[list[int]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it recommends a package
        tokenizer = MarianTokenizer.from_pretrained(folder)
    return tokenizer(text_target=texts)["input_ids"] if target else tokenizer(texts)["input_ids"]


def padded(rows: list[list[int]], pad: int) -> torch.Tensor:
    longest = max(map(len, rows))
    return torch.tensor([row + [pad] * (longest - len(row)) for row in rows])


def assert_same_logits(folder: Path, imported: Marian) -> None:
    """Both models on the same padded batch, every real position."""
    source = [[*imported.source.encode(text), imported.source.end] for text in sentences(6, 1)]
    target = [[imported.target.begin, *imported.target.encode(text)] for text in sentences(6, 2)]
    pad = imported.target.pad
    ids, inputs = padded(source, pad), padded(target, pad)
    lengths = torch.tensor([len(row) for row in source])
    mask = (torch.arange(ids.shape[1]) < lengths[:, None]).long()
    original = MarianMTModel.from_pretrained(folder).eval()
    with torch.no_grad():
        theirs = original(input_ids=ids, attention_mask=mask, decoder_input_ids=inputs).logits
        ours = imported.model.decoder.output(imported.model(ids, lengths, inputs))
    for row, tokens in enumerate(target):
        torch.testing.assert_close(ours[row, : len(tokens)], theirs[row, : len(tokens)], atol=1e-4, rtol=0)
    assert theirs.std() > 0.5  # else the comparison would say little


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"activation_function": "swish", "scale_embedding": False},
        {"activation_function": "gelu", "decoder_layers": 1},
        {"separate": True},
        {"separate": True, "tie_word_embeddings": False},
        {"algorithm": "bpe", "tie_word_embeddings": False},
    ],
    ids=str,
)
def test_same_logits_and_ids(tmp_path: Path, changes: dict) -> None:
    folder = write_marian(tmp_path / "marian", **changes)
    imported = read_marian(folder)
    assert_same_logits(folder, imported)
    texts = [*sentences(30, 1), *sentences(30, 7)]
    ours = [[*ids, imported.source.end] for ids in imported.source.encode_batch(texts)]
    assert ours == their_ids(folder, texts)
    ours = [[*ids, imported.target.end] for ids in imported.target.encode_batch(texts)]
    assert ours == their_ids(folder, texts, target=True)


def test_same_ids_of_odd_texts(marian: Path) -> None:
    vocabulary = read_marian(marian).source
    texts = [text for text in ODD if "</s>" not in text]  # they take it for the end, we for text
    assert [[*vocabulary.encode(text), vocabulary.end] for text in texts] == their_ids(marian, texts)


def test_text_like_a_special_piece_is_text(marian: Path) -> None:
    vocabulary = read_marian(marian).source
    special = {vocabulary.pad, vocabulary.begin, vocabulary.end}
    assert not special & set(vocabulary.encode("</s> <pad> <unk> <s>"))


@pytest.mark.parametrize("algorithm", ["unigram", "bpe"])
def test_language_codes_are_one_piece(tmp_path: Path, algorithm: str) -> None:
    folder = write_marian(tmp_path / "marian", codes=True, algorithm=algorithm)
    texts = [f"{code} {text}" for code in (">>eng<<", ">>fra<<") for text in sentences(10, 1)]
    vocabulary = read_marian(folder).source
    assert [[*vocabulary.encode(text), vocabulary.end] for text in texts] == their_ids(folder, texts)


def test_pieces_without_an_id_are_unknown(tmp_path: Path) -> None:
    """Pieces of the sentencepiece model that vocab.json lacks."""
    folder = write_marian(tmp_path / "marian")
    config, ids = (json.loads((folder / name).read_text()) for name in ("config.json", "vocab.json"))
    gone = [piece for piece in ids if piece.startswith("▁")][::3]
    kept = {piece: number for number, piece in enumerate(piece for piece in ids if piece not in gone)}
    last = len(kept) - 1
    config |= {"vocab_size": len(kept), "decoder_vocab_size": len(kept)}
    config |= {"pad_token_id": last, "decoder_start_token_id": last}
    (folder / "vocab.json").write_text(json.dumps(kept))
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "generation_config.json").unlink()
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    weights["model.shared.weight"] = weights["model.shared.weight"][: len(kept)].clone()
    weights["final_logits_bias"] = weights["final_logits_bias"][:, : len(kept)].clone()
    save_file(weights, folder / "model.safetensors")
    imported = read_marian(folder)
    assert len(imported.source) == len(kept)
    texts = sentences(50, 1)
    imported.source.save(tmp_path / "tokenizer.json")
    assert Vocabulary.load(tmp_path / "tokenizer.json").encode_batch(texts) == imported.source.encode_batch(
        texts
    )
    ours = [[*imported.source.encode(text), imported.source.end] for text in texts]
    assert ours == their_ids(folder, texts)
    assert any(imported.source.unknown in ids for ids in ours)


def test_the_first_file_that_says_how_to_search_counts() -> None:
    one, other = GenerationConfig(early_stopping=False), GenerationConfig(early_stopping=True)
    assert [_search(*both).stop for both in ((one, other), (other, one))] == ["full-beam", "first-beam"]
    assert _search(GenerationConfig(), other).stop == "first-beam"
    assert _search(GenerationConfig(early_stopping="never")).stop == "exact"
    with pytest.raises(KotyaError, match=r"length_penalty is -0\.5"):
        _search(GenerationConfig(length_penalty=-0.5))


def test_roles_and_banned_pieces(marian: Path) -> None:
    imported = read_marian(marian)
    ids = json.loads((marian / "vocab.json").read_text())
    for vocabulary in (imported.source, imported.target):
        assert vocabulary.end == ids["</s>"] == 0
        assert vocabulary.unknown == ids["<unk>"] == 1
        assert vocabulary.pad == vocabulary.begin == ids["<pad>"] == len(ids) - 1
    assert imported.banned == [ids["<pad>"]]
    assert imported.search.beam == 4


def test_pieces_of_the_other_language_are_written_without_a_space(marian: Path) -> None:
    imported = read_marian(marian)
    theirs = json.loads((marian / "vocab.json").read_text())
    for vocabulary in (imported.source, imported.target):
        every = list(range(len(vocabulary)))
        assert vocabulary.pieces(every) == sorted(theirs, key=theirs.__getitem__)
        assert vocabulary.ids(" ".join(vocabulary.pieces(every)).split(" ")) == every
        names = vocabulary.tokenizer.id_to_token
        other = [number for number in every if names(number).startswith(" ")]
        assert other
        assert vocabulary.ids(map(names, other)) == other
        assert vocabulary.words([i for i in other if theirs_starts(vocabulary, i)][:3]) == [0, 1, 2]


def theirs_starts(vocabulary: Vocabulary, number: int) -> bool:
    return vocabulary.pieces([number])[0].startswith("▁")


def break_json(folder: Path, name: str, **changes: object) -> None:
    path = folder / name
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "source.spm").unlink(), r"source\.spm: no such file"),
        (lambda folder: (folder / "vocab.json").unlink(), r"vocab\.json: no such file"),
        (lambda folder: (folder / "vocab.json").write_text("[1"), r"vocab\.json: not JSON"),
        (
            lambda folder: (folder / "vocab.json").write_text('{"a": 0}'),
            r"vocab\.json: its 1 ids are not 0 to",
        ),
        (lambda folder: (folder / "model.safetensors").unlink(), r"model\.safetensors: no such file"),
        (
            lambda folder: (folder / "model.safetensors").rename(folder / "pytorch_model.bin"),
            "pytorch_model.bin is a pickle",
        ),
        (lambda folder: cut(folder / "model.safetensors"), r"model\.safetensors: broken or cut off"),
        (lambda folder: break_json(folder, "config.json", d_model=32), "but config.json makes it"),
        (lambda folder: break_json(folder, "config.json", d_model="wide"), r"config\.json: d_model"),
        (lambda folder: break_json(folder, "config.json", encoder_attention_heads=3), "heads"),
        (lambda folder: break_json(folder, "config.json", activation_function="mish"), "'mish'"),
        (lambda folder: break_json(folder, "config.json", normalize_before=True), "normalize_before"),
        (lambda folder: break_json(folder, "config.json", encoder_layers=3), "is missing"),
        (lambda folder: break_json(folder, "config.json", pad_token_id=10_000), "pad cannot be 10000"),
    ],
)
def test_a_broken_folder_is_one_clear_error(marian: Path, tmp_path: Path, damage, message: str) -> None:
    folder = tmp_path / "broken"
    shutil.copytree(marian, folder)
    damage(folder)
    with pytest.raises(KotyaError, match=message) as caught:
        read_marian(folder)
    assert str(tmp_path) in str(caught.value) or "pad" in message
    assert "\n" not in str(caught.value)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])
