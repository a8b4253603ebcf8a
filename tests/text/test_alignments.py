"""Pharaoh files: what is written is read, and what is wrong is named with its file and line."""

import gzip
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kotya.errors import KotyaError
from kotya.text import alignments

LINKS = st.frozensets(st.tuples(st.integers(0, 300), st.integers(0, 300)), max_size=20)


@given(links=LINKS)
def test_what_is_written_is_read(links: alignments.Links) -> None:
    assert alignments.parse(alignments.render(links), "here") == links


def test_links_are_written_in_order() -> None:
    assert alignments.render({(10, 2), (2, 10), (2, 9)}) == "2-9 2-10 10-2"


@pytest.mark.parametrize("wrong", ["0", "0-", "-1-2", "0–1", "1-2-3", "0:1", "²-1", "0p1"])
def test_what_is_no_link_is_named_with_its_line(tmp_path: Path, wrong: str) -> None:
    path = tmp_path / "a.gz"
    path.write_bytes(gzip.compress(f"0-0\n\n1-1 {wrong}\n".encode()))
    with pytest.raises(KotyaError, match=rf"{path}:3: {wrong!r} is no link"):
        list(alignments.read(path))


def test_a_link_outside_the_sentence_is_named() -> None:
    inside = frozenset({(2, 0), (0, 1)})
    alignments.check_inside(inside, 3, 2, "a:1")
    for source, target in ((2, 2), (3, 1)):
        with pytest.raises(KotyaError, match=r"a:1: the link .* points outside a pair"):
            alignments.check_inside(inside, source, target, "a:1")


def test_gold_is_two_files_and_what_is_sure_is_possible(tmp_path: Path) -> None:
    (tmp_path / "dev.sure").write_text("0-0 1-1\n\n")
    (tmp_path / "dev.possible").write_text("1-1 1-2\n2-2\n")
    first, second = alignments.read_gold(tmp_path / "dev")
    assert first == alignments.Gold(frozenset({(0, 0), (1, 1)}), frozenset({(0, 0), (1, 1), (1, 2)}))
    assert second == alignments.Gold(frozenset(), frozenset({(2, 2)}))


def test_gold_that_does_not_belong_together_is_refused(tmp_path: Path) -> None:
    (tmp_path / "dev.sure").write_text("0-0\n")
    with pytest.raises(KotyaError, match=r"dev\.possible: there is no such file"):
        alignments.read_gold(tmp_path / "dev")
    (tmp_path / "dev.possible").write_text("0-0\n1-1\n")
    with pytest.raises(KotyaError, match=r"dev\.sure ends after line 1 but .*dev\.possible goes on"):
        alignments.read_gold(tmp_path / "dev")
