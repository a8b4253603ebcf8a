"""Where the vocabularies of a run come from: learned, or read from files and folders."""

from pathlib import Path

import pytest
from pydantic import ValidationError
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from kotya.errors import KotyaError
from kotya.text.corpus import TextSource
from kotya.text.vocabularies import VocabularyConfig, open_vocabulary
from kotya.text.vocabulary import Vocabulary


@pytest.fixture
def sides(tmp_path: Path) -> tuple[TextSource, TextSource]:
    (tmp_path / "s").write_text("ein Mann\n" * 5)
    (tmp_path / "t").write_text("a man\n" * 5)
    return TextSource.of(tmp_path / "s"), TextSource.of(tmp_path / "t")


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Vocabulary, Vocabulary]:
    """Two vocabularies, in files and in a model folder."""
    one, two = Vocabulary.learn(lambda: ["ein Mann"] * 5, 300), Vocabulary.learn(lambda: ["a man"] * 5, 300)
    (tmp_path / "model").mkdir()
    for folder in (tmp_path, tmp_path / "model"):
        one.save(folder / "source.tokenizer.json")
        two.save(folder / "target.tokenizer.json")
    return one, two


def test_learned_joint_and_separate(tmp_path: Path, sides: tuple[TextSource, TextSource]) -> None:
    one, two = VocabularyConfig(size=300).make(*sides, tmp_path)
    assert one is two
    one, two = VocabularyConfig(size=300, joint=False).make(*sides, tmp_path)
    assert one.fingerprint != two.fingerprint
    with sides[0].paths[0].open("ab") as file:
        file.write(b"\xff\n")
    again, _ = VocabularyConfig(size=300, joint=False).make(*sides, tmp_path)
    assert again.fingerprint == one.fingerprint


def test_read_from_files_and_folders(
    tmp_path: Path, sides: tuple[TextSource, TextSource], saved: tuple[Vocabulary, Vocabulary]
) -> None:
    one, two = VocabularyConfig(file="source.tokenizer.json").make(*sides, tmp_path)
    assert one is two
    assert one.fingerprint == saved[0].fingerprint
    expected = [one.fingerprint for one in saved]
    for source, target in (("source.tokenizer.json", "target.tokenizer.json"), ("model", "model")):
        made = VocabularyConfig(source=source, target=target).make(*sides, tmp_path)
        assert [one.fingerprint for one in made] == expected
    with pytest.raises(KotyaError, match=r"model: a folder without tokenizer\.json$"):
        open_vocabulary(tmp_path / "model", None)
    (tmp_path / "model/source.tokenizer.json").unlink()
    with pytest.raises(KotyaError, match=r"a folder without source\.tokenizer\.json or tokenizer\.json"):
        open_vocabulary(tmp_path / "model", "source")


@pytest.mark.parametrize(
    ("given", "place"),
    [
        ({"file": "a", "source": "b"}, "file"),
        ({"source": "b"}, "source"),
        ({"target": "b"}, "target"),
        ({"file": "a", "source": "b", "target": "c"}, "file"),
        ({"file": "a", "size": 8000}, "size"),
        ({"file": "a", "joint": True}, "joint"),
        ({"source": "b", "target": "c", "joint": False}, "joint"),
        ({"size": 200}, "size"),
    ],
)
def test_contradictions_name_their_key(given: dict[str, object], place: str) -> None:
    with pytest.raises(ValidationError) as caught:
        VocabularyConfig.model_validate(given)
    assert [error["loc"] for error in caught.value.errors()] == [(place,)]


def test_a_config_written_out_is_read_back_as_itself() -> None:
    for given in ({}, {"joint": False}, {"file": "a"}, {"source": "b", "target": "c", "dropout": 0.1}):
        config = VocabularyConfig.model_validate(given)
        assert VocabularyConfig.model_validate(config.model_dump(exclude_none=True)) == config
        assert config.shared == (given in ({}, {"file": "a"}))
    assert VocabularyConfig().size == 8000


def test_what_is_no_vocabulary_says_what_would_be(
    tmp_path: Path, sides: tuple[TextSource, TextSource]
) -> None:
    (tmp_path / "codes").write_text("#version: 0.2\nm a\n")
    with pytest.raises(KotyaError, match=r"codes: codes of subword-nmt; `kotya vocabulary learn"):
        VocabularyConfig(file="codes").make(*sides, tmp_path)
    Tokenizer(models.BPE(vocab={"a": 0}, merges=[])).save(str(tmp_path / "foreign.json"))
    with pytest.raises(KotyaError, match=r"foreign\.json: not a vocabulary .* that kotya wrote"):
        VocabularyConfig(file="foreign.json").make(*sides, tmp_path)


def test_bpe_dropout_needs_merges(tmp_path: Path, sides: tuple[TextSource, TextSource]) -> None:
    pieces = [("</s>", 0.0), ("<unk>", 0.0), ("▁a", -1.0), ("<pad>", 0.0)]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=1))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace("▁", "always")
    tokenizer.decoder = decoders.Metaspace("▁", "always")
    Vocabulary(tokenizer, pad=3, unknown=1, begin=3, end=0).save(tmp_path / "unigram.json")
    assert len(VocabularyConfig(file="unigram.json").make(*sides, tmp_path)[0]) == 4
    with pytest.raises(KotyaError, match=r"set vocabulary\.dropout to 0"):
        VocabularyConfig(file="unigram.json", dropout=0.1).make(*sides, tmp_path)
