"""Tags of entities: the schemes are one another's images, entities are those of seqeval, what is forbidden is said."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from seqeval.metrics.sequence_labeling import get_entities

from kotya.errors import KotyaError
from kotya.text.conll import read_tagged
from kotya.text.tags import Entity, Scheme, encode, entities, forbidden

ANY = st.lists(st.sampled_from(["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]), max_size=12)
SCHEMES: list[Scheme] = ["iob1", "iob2", "iobes"]


@st.composite
def sentences(draw: st.DrawFn) -> tuple[list[Entity], int]:
    found, place = [], 0
    for gap, size, label in draw(
        st.lists(st.tuples(st.integers(0, 2), st.integers(1, 3), st.sampled_from(["PER", "LOC"])), max_size=5)
    ):
        found.append(Entity(place + gap, place + gap + size, label))
        place += gap + size
    return found, place + draw(st.integers(0, 2))


@given(tags=ANY)
def test_entities_are_those_of_seqeval(tags: list[str]) -> None:
    assert [(one.label, one.start, one.stop - 1) for one in entities(tags)] == get_entities(tags)


@pytest.mark.parametrize("scheme", SCHEMES)
@given(sentence=sentences())
def test_what_is_written_is_read_and_allowed(scheme: Scheme, sentence: tuple[list[Entity], int]) -> None:
    found, length = sentence
    tags = encode(found, length, scheme)
    assert entities(tags) == found
    assert forbidden(tags, scheme) is None


@given(tags=st.lists(st.sampled_from(["O", "B-A", "I-A", "E-A", "S-A", "B-B", "I-B"]), max_size=6))
@pytest.mark.parametrize("scheme", SCHEMES)
def test_only_what_a_scheme_writes_is_allowed(scheme: Scheme, tags: list[str]) -> None:
    assert (forbidden(tags, scheme) is None) == (encode(entities(tags), len(tags), scheme) == tags)


@pytest.mark.parametrize(
    ("text", "scheme", "message"),
    [
        ("Anna\tB-PER\nBonn\n", "iob2", r"x:2: one column \('Bonn'\)"),
        ("Anna\tO\n\n\nin\tO\nBonn\tI-LOC\n", "iob2", r"x:5: 'I-LOC' after 'O': in IOB2"),
        ("Anna\tPER\n", "iob2", r"x:1: 'PER' is no tag of IOB2"),
        ("Anna\tB-PER\n", "iob1", r"x:1: 'B-PER' after 'O': in IOB1"),
        ("Anna\tB-PER\nBonn\tO\n", "iobes", r"x:2: 'O' after 'B-PER': in IOBES"),
        ("a\tO\nAnna\tI-PER\n", "iobes", r"x:2: 'I-PER' after 'O': in IOBES"),
        ("Anna\tB-PER\n", "iobes", r"x:1: 'B-PER' ends the sentence"),
    ],
)
def test_bad_files_are_named_with_the_line(tmp_path: Path, text: str, scheme: Scheme, message: str) -> None:
    (tmp_path / "x").write_text(text)
    with pytest.raises(KotyaError, match=message):
        list(read_tagged(tmp_path / "x", scheme))


def test_a_document_begins_without_a_blank_line(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("Anna\tB-PER\n-DOCSTART-\t-X-\tO\nfilm\tO\nBonn\tB-LOC\n")
    assert [(one.words, one.line) for one in read_tagged(tmp_path / "x", "iob2")] == [
        (("Anna",), 1),
        (("film", "Bonn"), 3),
    ]


def test_other_schemes_become_iob2(tmp_path: Path) -> None:
    text = "-DOCSTART- -X- O\n\nAlex NNP I-PER\nAnna NNP B-PER\nSmith NNP I-PER\n\nso RB O\n"
    (tmp_path / "x").write_text(text)
    first, second = read_tagged(tmp_path / "x", "iob1")
    assert (first.words, first.tags, first.line) == (
        ("Alex", "Anna", "Smith"),
        ("B-PER", "B-PER", "I-PER"),
        3,
    )
    assert second.line == 7


def test_blanks_behind_a_tag_are_no_part_of_it(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("Bonn\tB-LOC \nam \tI-LOC\n", encoding="utf-8")
    (found,) = read_tagged(tmp_path / "text", "iob2")
    assert (found.words, found.tags) == (("Bonn", "am"), ("B-LOC", "I-LOC"))
