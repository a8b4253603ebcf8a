"""WordPiece: the algorithm of the paper, one vocabulary from one text, offsets, roles that a file restores."""

import random
from pathlib import Path

import numpy as np
import pytest

from kotya.errors import KotyaError
from kotya.text.encoder_vocabulary import EncoderVocabularyConfig
from kotya.text.vocabulary import Vocabulary
from kotya.text.wordpiece import CONTINUES, SPECIALS

WORDS = [
    "walk",
    "walking",
    "walked",
    "talk",
    "talking",
    "talked",
    "Jürgen",
    "unbelievable",
    "believe",
    "able",
]


def corpus() -> list[str]:
    generator = random.Random(3)
    return [" ".join(generator.choices(WORDS, k=6)) + "." for _ in range(200)]


def learned(**options: object) -> Vocabulary:
    return EncoderVocabularyConfig.model_validate({"size": 300, **options}).make(corpus, Path())


@pytest.fixture(scope="module")
def wordpiece() -> Vocabulary:
    return learned(lowercase=True)


def longest_first(word: str, pieces: set[str]) -> list[str]:
    """The paper's greedy matching, written plainly."""
    found: list[str] = []
    while word:
        mark = CONTINUES if found else ""
        length = next((n for n in range(len(word), 0, -1) if mark + word[:n] in pieces), 0)
        if not length:
            return ["[UNK]"]
        found.append(mark + word[:length])
        word = word[length:]
    return found


@pytest.mark.parametrize("word", ["walking", "unwalkable", "talkwalk", "jurgen", "zoo", "believed"])
def test_a_word_is_its_longest_pieces_from_the_left(wordpiece: Vocabulary, word: str) -> None:
    pieces = set(wordpiece.pieces(range(len(wordpiece))))
    assert wordpiece.pieces(wordpiece.encode(word)) == longest_first(word, pieces)


def test_the_same_text_gives_the_same_vocabulary(wordpiece: Vocabulary) -> None:
    assert learned(lowercase=True).fingerprint == wordpiece.fingerprint
    assert learned(kind="bpe", size=400).fingerprint == learned(kind="bpe", size=400).fingerprint


@pytest.mark.parametrize("options", [{"lowercase": True}, {}, {"kind": "bpe", "size": 400}])
def test_a_file_restores_roles_and_template(options: dict[str, object], tmp_path: Path) -> None:
    vocabulary = learned(**options)
    vocabulary.save(tmp_path / "tokenizer.json")
    again = Vocabulary.load(tmp_path / "tokenizer.json")
    assert again.fingerprint == vocabulary.fingerprint
    assert again.roles == vocabulary.roles
    assert set(again.roles) == {"pad", "unknown", "begin", "end", "mask"}
    one, two = "walking talked.", "Jürgen"
    wrapped = vocabulary.wrapped(vocabulary.encode(one), vocabulary.encode(two))
    other_program = vocabulary.tokenizer.encode(one, two)
    assert other_program.ids == wrapped
    assert other_program.type_ids == [0] * (2 + len(vocabulary.encode(one))) + [1] * (
        1 + len(vocabulary.encode(two))
    )
    assert vocabulary.tokenizer.encode(one).ids == vocabulary.wrapped(vocabulary.encode(one))


def test_two_ends_between_texts_as_roberta(wordpiece: Vocabulary, tmp_path: Path) -> None:
    double = Vocabulary(wordpiece.tokenizer, pad=0, unknown=1, begin=2, end=3, mask=4, separators=2)
    double.save(tmp_path / "tokenizer.json")
    again = Vocabulary.load(tmp_path / "tokenizer.json")
    a, b = again.encode("walk"), again.encode("talk")
    assert again.wrapped(a, b) == [2, *a, 3, 3, *b, 3]
    assert again.tokenizer.encode("walk", "talk").ids == [2, *a, 3, 3, *b, 3]


@pytest.mark.parametrize("options", [{"lowercase": True}, {"kind": "bpe", "size": 400}])
def test_spans_are_places_in_the_text(options: dict[str, object]) -> None:
    vocabulary, text = learned(**options), "Walking  Jürgen, talked\u200b able."
    (ids, spans), _ = vocabulary.encode_spans([text, ""])
    assert ids == vocabulary.encode(text)
    covered = "".join(text[start:stop] for start, stop in dict.fromkeys(spans))
    assert "".join(covered.split()).replace("\u200b", "") == "".join(text.split()).replace("\u200b", "")


def test_text_is_never_taken_for_the_mask(wordpiece: Vocabulary) -> None:
    for vocabulary in (wordpiece, learned(kind="bpe", size=400)):
        ids = vocabulary.encode("[MASK] <mask> [CLS] [SEP] </s>")
        assert not set(ids) & {vocabulary.mask, vocabulary.begin, vocabulary.end, vocabulary.pad}


def test_where_words_begin(wordpiece: Vocabulary) -> None:
    starts = wordpiece.word_starts()
    ids = wordpiece.encode("unwalkable talking.")
    expected = [not piece.startswith("##") for piece in wordpiece.pieces(ids)]
    assert starts[ids].tolist() == expected
    bpe = learned(kind="bpe", size=400)
    ids = bpe.encode("unwalkable talking")
    assert np.flatnonzero(bpe.word_starts()[ids]).tolist() == [0, bpe.words(ids).index(1)]


def test_special_pieces_come_first(wordpiece: Vocabulary) -> None:
    assert tuple(wordpiece.pieces(range(5))) == SPECIALS


def test_bad_input() -> None:
    with pytest.raises(KotyaError, match="no text"):
        Vocabulary.learn_wordpiece(lambda: [""], 300, lowercase=True)
    with pytest.raises(KotyaError, match="no room"):
        Vocabulary.learn_wordpiece(corpus, 20, lowercase=True)
