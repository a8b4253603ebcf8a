"""Alignment error rate as it is defined; what a perfect, an empty and a merely possible alignment get."""

import pytest

from kotya.errors import KotyaError
from kotya.metrics import AlignmentScores, alignment_scores

SURE = [{(0, 0), (1, 1)}, {(0, 1)}]
POSSIBLE = [{(0, 0), (1, 1), (1, 2)}, {(0, 1), (1, 1)}]


def test_the_formula_over_all_links_of_the_corpus() -> None:
    found = [{(0, 0), (1, 2), (2, 2)}, {(0, 0)}]
    scores = alignment_scores(found, SURE, POSSIBLE)
    assert scores.precision == pytest.approx(100 * 2 / 4)
    assert scores.recall == pytest.approx(100 * 1 / 3)
    assert scores.aer == pytest.approx(100 * (1 - (1 + 2) / (4 + 3)))


def test_extremes() -> None:
    assert alignment_scores(SURE, SURE, POSSIBLE) == AlignmentScores(0.0, 100.0, 100.0)
    assert alignment_scores(POSSIBLE, SURE, POSSIBLE) == AlignmentScores(0.0, 100.0, 100.0)
    assert alignment_scores([set(), set()], SURE, POSSIBLE) == AlignmentScores(100.0, 0.0, 0.0)
    assert alignment_scores(SURE, SURE, [set(), set()]).aer == 0.0  # what is sure is possible


def test_unequal_counts_and_an_empty_gold_set_are_refused() -> None:
    with pytest.raises(KotyaError, match="1 alignments but 2 lines of sure and 2 of possible"):
        alignment_scores(SURE[:1], SURE, POSSIBLE)
    with pytest.raises(KotyaError, match="no sure link"):
        alignment_scores([{(0, 0)}], [set()], [{(0, 0)}])
