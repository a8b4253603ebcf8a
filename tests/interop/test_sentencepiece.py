"""The tokenizer built from a sentencepiece model cuts as the sentencepiece library does."""

from collections.abc import Callable
from pathlib import Path

import pytest
import sentencepiece
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from kotya.errors import KotyaError
from kotya.interop.sentencepiece import SentencePieceModel, build_tokenizer
from tiny_marian import ODD, sentences, train_sentencepiece

Encode = Callable[[str], list[int]]


def pair(path: Path, **options: object) -> tuple[Tokenizer, sentencepiece.SentencePieceProcessor, Encode]:
    """Ours, theirs, and the ids that ours should give. Theirs shows an unknown piece as the text says it, so that
    "<s>" in a text looks like the piece of that name: only its own ids tell them apart."""
    pieces = train_sentencepiece(path, 1, **options)
    ids = {piece: number for number, piece in enumerate(sorted(pieces))}
    model = SentencePieceModel.read(path)
    tokenizer = build_tokenizer(model, ids, special={ids["<unk>"]}, unknown="<unk>")
    theirs = sentencepiece.SentencePieceProcessor(model_file=str(path))
    return tokenizer, theirs, lambda text: [ids[pieces[number]] for number in theirs.encode(text)]


@pytest.mark.parametrize("algorithm", ["unigram", "bpe"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"normalization_rule_name": "identity"},
        {"normalization_rule_name": "nfkc_cf", "remove_extra_whitespaces": False},
        {"add_dummy_prefix": False},
        {"byte_fallback": True, "vocab_size": 400},
    ],
    ids=str,
)
def test_cuts_as_sentencepiece(tmp_path: Path, algorithm: str, options: dict[str, object]) -> None:
    tokenizer, _, expected = pair(tmp_path / "m.spm", model_type=algorithm, **options)
    for text in [*sentences(50, 1), *sentences(20, 5), *ODD]:
        if "</s>" in text:
            continue  # Vocabulary keeps such pieces from being found in a text
        assert tokenizer.encode(text).ids == expected(text), text


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory):
    return pair(tmp_path_factory.mktemp("spm") / "m.spm", model_type="bpe")


@given(text=st.text(st.characters(max_codepoint=0x24F, exclude_characters="\n"), max_size=20))
@example(text="<s>")
@settings(max_examples=200, deadline=None)
def test_cuts_any_latin_text_as_sentencepiece(both, text: str) -> None:
    tokenizer, _, expected = both
    assert tokenizer.encode(text).ids == expected(text)


def test_decodes_as_sentencepiece(tmp_path: Path) -> None:
    tokenizer, theirs, _ = pair(tmp_path / "m.spm", model_type="bpe", byte_fallback=True, vocab_size=400)
    for text in [*sentences(20, 5), "日本語 x"]:
        assert tokenizer.decode(tokenizer.encode(text).ids) == theirs.decode(theirs.encode(text))


@pytest.mark.parametrize("size", [0, 10, 500])
def test_a_cut_file_is_named(tmp_path: Path, size: int) -> None:
    path = tmp_path / "m.spm"
    train_sentencepiece(path, 1)
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(KotyaError, match=r"m\.spm: not a sentencepiece model"):
        SentencePieceModel.read(path)


def test_another_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "m.spm"
    path.write_text("This is not a model.\n" * 100)
    with pytest.raises(KotyaError, match="not a sentencepiece model"):
        SentencePieceModel.read(path)
