"""Documents and what is cut from them: nothing lost, true and random pairs half and half, lengths, purity."""

import gzip
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from kotya.errors import KotyaError
from kotya.text.documents import Documents, sentences
from kotya.text.pairs import Example, blocks, full_sentences, pairs
from kotya.text.vocabulary import Vocabulary

LENGTH = 24


def byte_level(lines: list[str]) -> Vocabulary:
    """As RoBERTa's."""
    engine = Tokenizer(models.BPE())
    engine.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    roles = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    engine.train_from_iterator(lines, trainers.BpeTrainer(vocab_size=300, special_tokens=roles))
    return Vocabulary(engine, begin=0, pad=1, end=2, unknown=3, mask=4)


VOCABULARIES = {
    "wordpiece": lambda lines: Vocabulary.learn_wordpiece(lambda: lines, 60, lowercase=True),
    "bpe": lambda lines: Vocabulary.learn(lambda: lines, 320),
    "bytes": byte_level,
}


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory) -> Documents:
    """60 documents of 1 to 12 sentences of 1 to 15 pieces, each piece a number."""
    folder = tmp_path_factory.mktemp("documents")
    random = np.random.default_rng(5)
    texts = []
    for number in range(60):
        lines = [
            " ".join(str(random.integers(10)) for _ in range(random.integers(1, 16)))
            for _ in range(1 + number % 12)
        ]
        texts.append("\n".join(lines) + "\n")
    (folder / "a.txt").write_text("\n".join(texts[:40]))
    with gzip.open(folder / "b.txt.gz", "wt") as file:
        file.write("\n\n".join(texts[40:]))
    vocabulary = Vocabulary.learn_wordpiece(lambda: texts, 60, lowercase=True)
    found = Documents.open_or_build(
        [folder / "a.txt", folder / "b.txt.gz"], vocabulary, folder / "c", progress=False
    )
    words = " ".join(texts).split()
    assert vocabulary.pieces(found.read(0, found.pieces).tolist()) == words
    assert len(found) == 60
    assert np.diff(found.documents).tolist() == [1 + number % 12 for number in range(60)]
    return found


def every_pair(documents: Documents, epoch: int) -> list[tuple[int, Example]]:
    every = np.arange(len(documents))
    return [(d, one) for d in every.tolist() for one in pairs(documents, d, every, LENGTH, (1, epoch))]


def document_of(documents: Documents, piece: int) -> int:
    starts = documents.sentences[documents.documents]
    return int(np.searchsorted(starts, piece, side="right")) - 1


def test_half_of_the_pairs_follow(documents: Documents) -> None:
    """Of documents that have more than one sentence; within four standard errors."""
    found = [one.follows for epoch in range(30) for d, one in every_pair(documents, epoch) if d % 12 > 0]
    assert abs(np.mean(found) - 0.5) < 4 * (0.25 / len(found)) ** 0.5


def test_what_a_pair_is(documents: Documents) -> None:
    full = total = 0
    for number, one in every_pair(documents, 0):
        assert one.second is not None
        (first,), second = one.first, one.second
        assert first[1] > first[0]
        assert second[1] > second[0]
        assert one.pieces <= LENGTH
        assert document_of(documents, first[0]) == document_of(documents, first[1] - 1) == number
        other = document_of(documents, second[0])
        assert other == document_of(documents, second[1] - 1)
        assert (other == number) == one.follows
        if one.follows:
            assert second[0] >= first[1]
        total += 1
        full += one.pieces == LENGTH
    assert full / total > 0.3  # the rest was drawn short, or its document ended


def test_one_pair_in_ten_is_drawn_short(tmp_path: Path) -> None:
    """Of a document so long that its end hardly counts, where the rest is full."""
    (tmp_path / "long.txt").write_text("\n\n".join(["1\n2\n3\n4\n5\n" * 400] * 2))
    vocabulary = Vocabulary.learn_wordpiece(lambda: ["1 2 3 4 5"], 20, lowercase=True)
    found = Documents.open_or_build([tmp_path / "long.txt"], vocabulary, tmp_path / "c", progress=False)
    sizes = [one.pieces for epoch in range(8) for _, one in every_pair(found, epoch)]
    short = np.mean([size < LENGTH - 2 for size in sizes])
    assert abs(short - 0.1 * (LENGTH - 4) / (LENGTH - 1)) < 4 * (0.09 / len(sizes)) ** 0.5


def test_every_sentence_is_read_in_an_epoch(documents: Documents) -> None:
    """Trimming takes ends off; but no sentence is passed over."""
    touched = np.zeros(len(documents.sentences) - 1, bool)
    for epoch in range(8):
        for _, one in every_pair(documents, epoch):
            for start, stop in (*one.first, one.second):
                low, high = np.searchsorted(documents.sentences, [start, stop - 1], side="right") - 1
                touched[low : high + 1] = True
    assert touched.all()


def test_a_pure_function_of_seed_epoch_and_document(documents: Documents) -> None:
    every = np.arange(len(documents))
    again = list(pairs(documents, 23, every, LENGTH, (1, 4)))
    assert again == [one for d, one in every_pair(documents, 4) if d == 23]
    assert again != list(pairs(documents, 23, every, LENGTH, (1, 5)))
    assert again != list(pairs(documents, 23, every, LENGTH, (2, 4)))


def test_the_second_side_is_from_the_documents_at_hand(documents: Documents) -> None:
    """A dev set that is held out is not read in training, and every other document is drawn from."""
    kept = np.array([d for d in range(len(documents)) if d % 5])
    drawn = set()
    for epoch in range(20):
        for number in kept.tolist():
            for one in pairs(documents, number, kept, LENGTH, (1, epoch)):
                assert one.second is not None
                drawn.add(document_of(documents, one.second[0]))
    assert drawn == set(kept.tolist())


def test_full_sentences_hold_every_piece_once(documents: Documents) -> None:
    order = np.random.default_rng(1).permutation(len(documents)).tolist()
    found = list(full_sentences(documents, order, LENGTH))
    pieces = [piece for one in found for start, stop in one.first for piece in range(start, stop)]
    assert sorted(pieces) == list(range(documents.pieces))
    begins = set(documents.sentences.tolist())
    for one in found:
        assert one.pieces + len(one.first) - 1 <= LENGTH  # an end between two documents
        assert all(start in begins for start, _ in one.first)
        assert len({document_of(documents, start) for start, _ in one.first}) == len(one.first)


def test_sentences_longer_than_the_length_are_cut(documents: Documents) -> None:
    found = list(full_sentences(documents, range(len(documents)), 4))
    pieces = [piece for one in found for start, stop in one.first for piece in range(start, stop)]
    assert pieces == list(range(documents.pieces))
    assert max(one.pieces for one in found) == 4


@pytest.mark.parametrize("key", [None, (1, 2)])
def test_blocks_hold_every_piece_once(documents: Documents, key: tuple[int, int] | None) -> None:
    for number in range(len(documents)):
        found = [one.first[0] for one in blocks(documents, number, 10, key)]
        edges = documents.sentences[documents.documents[number : number + 2]].tolist()
        assert [found[0][0], found[-1][1]] == edges
        assert all(one[1] == two[0] for one, two in pairwise(found))
        assert all(0 < stop - start <= 10 for start, stop in found)


def test_sentences_of_a_paragraph() -> None:
    line = 'He left . She said " no . " Then ? Yes! (It was 3.5 m.) Ende…  Так. 好。是。'
    assert "".join("".join(sentences(line)).split()) == "".join(line.split())
    assert sentences(" One.  Two! 3.5 m (three.) Four ") == ["One.", " Two!", " 3.5 m (three.)", " Four"]
    assert sentences("好。是。") == ["好。", "是。"]


@pytest.mark.parametrize("kind", ["wordpiece", "bpe", "bytes"])
def test_a_paragraph_has_the_pieces_of_its_text(tmp_path: Path, kind: str) -> None:
    """Although it is encoded a sentence at a time; a space before a sentence may be part of its first piece."""
    text = "The old bank. The river, the bank! (The end.) The old river."
    vocabulary = VOCABULARIES[kind]([text] * 9)
    (tmp_path / "text").write_text(text + "\n")
    found = Documents.open_or_build([tmp_path / "text"], vocabulary, tmp_path / "c", progress=False)
    assert len(found.sentences) - 1 == 4
    assert found.read(0, found.pieces).tolist() == vocabulary.encode(text)


def test_a_document_without_end_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kotya.text.documents.LARGEST", 20)
    (tmp_path / "text").write_text("a b c d e f g\n" * 10 + "\na b\n")
    vocabulary = VOCABULARIES["wordpiece"](["a b c d e f g"])
    found = Documents.open_or_build([tmp_path / "text"], vocabulary, tmp_path / "c", progress=False)
    assert np.diff(found.documents).tolist() == [3, 3, 3, 1, 1]


def test_no_text_is_said(tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text("\n\n  \n")
    vocabulary = Vocabulary.learn_wordpiece(lambda: ["a b c d"] * 9, 30, lowercase=True)
    with pytest.raises(KotyaError, match=r"empty\.txt: there is no text"):
        Documents.open_or_build([tmp_path / "empty.txt"], vocabulary, tmp_path / "c", progress=False)
    with pytest.raises(KotyaError, match="no such file"):
        Documents.open_or_build([tmp_path / "none.txt"], vocabulary, tmp_path / "c", progress=False)
    assert not [path for path in (tmp_path / "c").iterdir() if not path.name.startswith(".")]
