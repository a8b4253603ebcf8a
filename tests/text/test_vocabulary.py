"""The vocabulary: nothing unencodable, nothing lost, no special piece out of text, sampling a pure function."""

import json
import pickle
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

from kotya.errors import KotyaError
from kotya.text.vocabulary import Vocabulary

CORPUS = [
    "Zwei junge Männer sind im Freien, in der Nähe vieler Büsche.",
    "Я видел котю на мате; котя видел мышь.",
    "Two young men are outside near 25 bushes (and <pad> </s> ▁ too).",
] * 4


@pytest.fixture(scope="module")
def learned() -> Vocabulary:
    return Vocabulary.learn(lambda: CORPUS, 460)


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Vocabulary:
    codes = tmp_path_factory.mktemp("codes") / "codes"
    codes.write_text("#version: 0.2\nm e\nme n</w>\nn g\nj u\nju ng\njung e</w>\n")
    return Vocabulary.from_codes(codes, CORPUS)


@pytest.fixture(scope="module")
def unigram() -> Vocabulary:
    """As Marian's: end is 0, unknown 1, pad and begin the last."""
    pieces = ["</s>", "<unk>", "▁", "▁a", "a", "b", "s", "<", ">", "/", "ab", "▁ab", "p", "d", "<pad>"]
    scores = [0.0, 0.0, -3.0, -2.5, -4.0, -4.0, -4.5, -5.0, -5.0, -5.0, -3.0, -2.0, -6.0, -6.0, 0.0]
    tokenizer = Tokenizer(models.Unigram(list(zip(pieces, scores, strict=True)), unk_id=1))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Strip()])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace("▁", "always")
    tokenizer.decoder = decoders.Metaspace("▁", "always")
    return Vocabulary(tokenizer, pad=14, unknown=1, begin=14, end=0)


# Text that looks like what the encoding itself uses, among all of Unicode but lone surrogates.
TRICKY = st.sampled_from(
    ["<pad>", "<unk>", "</s>", "<s>", "</w>", "<0x41>", "▁", "\U0010ffff", "\U0010ffffa", "\U0010ffffb"]
)
TEXTS = st.lists(st.one_of(st.text(st.characters(exclude_categories=["Cs"])), TRICKY)).map("".join)


@settings(max_examples=300, deadline=None)
@given(text=TEXTS)
def test_decoding_undoes_encoding(learned: Vocabulary, imported: Vocabulary, text: str) -> None:
    for vocabulary in (learned, imported):
        ids = vocabulary.encode(text)
        assert vocabulary.decode(ids) == " ".join(text.split())
        assert not {0, 1, 2, 3} & set(ids)
        sampled = vocabulary.sample(text, 0.5, seed=1, epoch=2, example=3)
        assert vocabulary.decode(sampled) == " ".join(text.split())
        assert not {0, 1, 2, 3} & set(sampled)


@settings(max_examples=100, deadline=None)
@given(text=TEXTS)
def test_words_are_what_stands_between_spaces(learned: Vocabulary, imported: Vocabulary, text: str) -> None:
    for vocabulary in (learned, imported):
        ids = vocabulary.encode(text)
        words = vocabulary.words(ids)
        assert len(words) == len(ids)
        assert sorted(set(words)) == list(range(len(text.split())))
        assert words == sorted(words)


@settings(max_examples=200, deadline=None)
@given(texts=st.lists(TEXTS, max_size=3))
def test_words_by_place_in_the_text_are_the_words_of_the_pieces(
    learned: Vocabulary, imported: Vocabulary, texts: list[str]
) -> None:
    for vocabulary in (learned, imported):
        expected = [(ids, vocabulary.words(ids)) for ids in vocabulary.encode_batch(texts)]
        assert vocabulary.encode_words(texts) == expected


def test_an_unknown_piece_stands_in_its_word(unigram: Vocabulary) -> None:
    [(ids, words)] = unigram.encode_words(["ab  qab z"])
    assert unigram.unknown in ids
    assert words[0] == 0
    assert words[-1] == 2
    assert sorted(set(words)) == [0, 1, 2]


def test_words_where_the_tokenizer_cuts_nothing(unigram: Vocabulary) -> None:
    """As Marian's: the pieces themselves begin with the space."""
    tokenizer = Tokenizer.from_str(unigram.tokenizer.to_str())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace("▁", "always", split=False)
    whole = Vocabulary(tokenizer, pad=14, unknown=1, begin=14, end=0)
    [(ids, words)] = whole.encode_words(["ab a  ab"])
    assert words == whole.words(ids)
    assert sorted(set(words)) == [0, 1, 2]


def test_a_space_alone_opens_the_word_after_it(unigram: Vocabulary) -> None:
    space, whole, a = unigram.ids(["▁", "▁ab", "a"])
    assert unigram.words([space, a, space, a, space, whole]) == [0, 0, 1, 1, 2, 2]


def test_words_of_special_pieces(learned: Vocabulary) -> None:
    ids = learned.encode("Männer, 25")
    assert learned.words([learned.begin, *ids, learned.end]) == [-1, *learned.words(ids), -1]


def test_punctuation_and_digits_stand_alone(learned: Vocabulary) -> None:
    pieces = learned.pieces(learned.encode("Männer. Männer, 25"))
    assert [piece for piece in pieces if piece in (".", ",", "2", "5")] == [".", ",", "2", "5"]
    assert learned.encode("Männer.")[:-1] == learned.encode("Männer")


def test_every_byte_has_a_piece_and_no_text_a_special_one(learned: Vocabulary) -> None:
    assert learned.ids(f"<0x{byte:02X}>" for byte in range(256)) == list(range(4, 260))
    assert learned.pieces([0, 1, 2, 3]) == ["<pad>", "<unk>", "<s>", "</s>"]
    with pytest.raises(KotyaError, match="'nosuch' is no piece"):
        learned.ids(["nosuch"])


def test_batches_encode_as_lines_do(learned: Vocabulary, unigram: Vocabulary) -> None:
    for vocabulary in (learned, unigram):
        assert vocabulary.encode_batch(CORPUS) == [vocabulary.encode(line) for line in CORPUS]


def test_a_million_characters(learned: Vocabulary) -> None:
    for text in ("a" * 10**6, "日" * 10**5, "a " * 10**5):
        assert learned.decode(learned.encode(text)) == text.strip()


def test_file_restores_everything(
    learned: Vocabulary, imported: Vocabulary, unigram: Vocabulary, tmp_path: Path
) -> None:
    for vocabulary in (learned, imported, unigram):
        vocabulary.save(tmp_path / "tokenizer.json")
        for again in (Vocabulary.load(tmp_path / "tokenizer.json"), pickle.loads(pickle.dumps(vocabulary))):
            assert again.fingerprint == vocabulary.fingerprint
            assert again.roles == vocabulary.roles
            assert len(again) == len(vocabulary)
            assert again.encode("a man </s>") == vocabulary.encode("a man </s>")
        # Other programs that read the file append end and skip special pieces, as we do.
        other = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
        assert other.encode("a b").ids == [*vocabulary.encode("a b"), vocabulary.end]
        assert other.decode([*vocabulary.encode("a b"), vocabulary.end]) == "a b"


def test_a_different_vocabulary_has_another_fingerprint(learned: Vocabulary) -> None:
    assert Vocabulary.learn(lambda: CORPUS, 320).fingerprint != learned.fingerprint
    assert Vocabulary.learn(lambda: CORPUS, 460).fingerprint == learned.fingerprint


def test_files_that_are_no_vocabulary(learned: Vocabulary, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    with pytest.raises(KotyaError, match="no such vocabulary"):
        Vocabulary.load(path)
    learned.save(path)
    whole = path.read_text(encoding="utf-8")
    content = json.loads(whole)
    del content["post_processor"]["special_tokens"]["end"]
    content["post_processor"]["single"] = content["post_processor"]["single"][:1]
    for text in (whole[: len(whole) // 2], "{}", "[]", "hello", json.dumps(content)):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(KotyaError, match=r"tokenizer.json: "):
            Vocabulary.load(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(KotyaError, match="not UTF-8"):
        Vocabulary.load(path)


def test_roles_must_be_ids(learned: Vocabulary) -> None:
    with pytest.raises(KotyaError, match="so end cannot be 5000"):
        Vocabulary(learned.tokenizer, pad=0, unknown=1, begin=2, end=5000)


def test_imported_unigram_keeps_its_own_ids(unigram: Vocabulary) -> None:
    assert unigram.roles == {"pad": 14, "unknown": 1, "begin": 14, "end": 0}
    assert unigram.pieces(unigram.encode("ab a")) == ["▁ab", "▁a"]
    assert unigram.decode([14, *unigram.encode("ab a"), 0]) == "ab a"
    assert unigram.encode("ж") == [2, 1]
    ids = unigram.encode("</s> <pad>")  # as text, whatever the scores of the special pieces
    assert unigram.decode(ids) == "</s> <pad>"
    assert not {0, 14} & set(ids)
    assert unigram.words(unigram.encode("ab a")) == [0, 1]
    with pytest.raises(KotyaError, match="needs a BPE vocabulary"):
        unigram.sample("ab", 0.1, 1, 1, 1)


# ── BPE-dropout ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_sampling_is_a_pure_function(learned: Vocabulary) -> None:
    def samples(vocabulary: Vocabulary, order: list[int]) -> dict[int, list[int]]:
        return {i: vocabulary.sample(CORPUS[i], 0.3, seed=7, epoch=i % 3, example=i) for i in order}

    forward = samples(pickle.loads(pickle.dumps(learned)), list(range(len(CORPUS))))
    learned.sample(CORPUS[0], 0.9, seed=1, epoch=0, example=0)  # another setting in between
    assert samples(learned, list(reversed(range(len(CORPUS))))) == forward
    assert len({tuple(learned.sample(CORPUS[0], 0.3, 7, epoch, 0)) for epoch in range(20)}) > 10
    assert len({tuple(learned.sample(CORPUS[0], 0.3, seed, 0, 0)) for seed in range(20)}) > 10


def test_no_dropout_encodes_and_full_dropout_spells(learned: Vocabulary, imported: Vocabulary) -> None:
    for vocabulary in (learned, imported):
        table = vocabulary.merge_table()
        for line in CORPUS[:3]:
            assert vocabulary.sample(line, 0.0, 1, 1, 1) == vocabulary.encode(line)
            # So little that nothing is dropped: our own merging equals the library's.
            assert vocabulary.sample(line, 1e-12, 1, 1, 1) == vocabulary.encode(line)
            spelled = vocabulary.pieces(vocabulary.sample(line, 1.0, 1, 1, 1))
            assert all(len(piece.removesuffix("</w>")) == 1 or piece.startswith("<0x") for piece in spelled)
        assert table is vocabulary.merge_table()


def test_samples_drop_each_merge_with_its_probability() -> None:
    # Three characters and two merges, one after the other; the last is made with probability (1 - p)², at least.
    vocabulary = Vocabulary.learn(lambda: ["ab"] * 5, 266)
    assert len(vocabulary) == 265
    assert len(vocabulary.encode("ab")) == 1
    whole = vocabulary.encode("ab")
    split = Counter(
        vocabulary.sample("ab", 0.2, seed, epoch=1, example=example) != whole
        for seed in range(300)
        for example in range(5)
    )
    assert split[True] / split.total() == pytest.approx(1 - 0.8**2, abs=0.05)
