"""Alignment error rate as it is defined; what a perfect, an empty and a merely possible alignment get."""

import math
import warnings

import numpy as np
import pytest
import seqeval.metrics as seqeval
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

from kotya.errors import KotyaError
from kotya.metrics import (
    AlignmentScores,
    alignment_scores,
    correlations,
    entity_scores,
    label_scores,
    ranking_scores,
)
from kotya.text.tags import entities

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


LABELS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=30)


@given(pairs=LABELS)
def test_label_scores_are_scikit_learn_s(pairs: list[tuple[int, int]]) -> None:
    found, gold = (list(side) for side in zip(*pairs, strict=True))
    scores = label_scores(found, gold)
    assert scores["accuracy"] == pytest.approx(100 * accuracy_score(gold, found))
    assert scores["macro F1"] == pytest.approx(100 * f1_score(gold, found, average="macro"))
    assert scores["Matthews"] == pytest.approx(100 * matthews_corrcoef(gold, found))


def test_correlations_by_hand() -> None:
    """Spearman's is Pearson's of the ranks, ties at their mean."""
    found, gold = [1.0, 3.0, 2.0, 2.0], [1.0, 10.0, 2.0, 5.0]
    scores = correlations(found, gold)
    assert scores["Pearson"] == pytest.approx(100 * np.corrcoef(found, gold)[0, 1])
    assert scores["Spearman"] == pytest.approx(100 * np.corrcoef([1, 4, 2.5, 2.5], [1, 4, 2, 3])[0, 1])
    assert correlations([1.0, 1.0], [1.0, 2.0]) == {"Pearson": 0.0, "Spearman": 0.0}


TAGS = st.lists(st.sampled_from(["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]), min_size=1, max_size=8)


@given(
    sentences=st.lists(TAGS.flatmap(lambda tags: st.tuples(st.just(tags), st.permutations(tags))), min_size=1)
)
def test_entity_scores_are_seqeval_s(sentences: list[tuple[list[str], list[str]]]) -> None:
    gold, found = (list(side) for side in zip(*sentences, strict=True))
    scores = entity_scores(*([entities(tags) for tags in side] for side in (found, gold)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # seqeval's, where there is no entity
        expected = [
            one(gold, found) for one in (seqeval.f1_score, seqeval.precision_score, seqeval.recall_score)
        ]
    assert [scores[name] for name in ("F1", "precision", "recall")] == pytest.approx(
        [100 * x for x in expected]
    )


def test_ranking_scores_by_hand() -> None:
    """Relevant at ranks 1 and 3 of three; at rank 2 of two; and a query that has none, which counts in nothing."""
    gold = {"a": {"x": 1, "y": 0, "z": 1}, "b": {"x": 0, "y": 1}, "c": {"x": 0}}
    found = {"a": {"x": 3.0, "y": 2.0, "z": 1.0}, "b": {"x": 2.0, "y": 1.0}, "c": {"x": 1.0}}
    scores = ranking_scores(found, gold)
    assert scores["MAP"] == pytest.approx(100 * ((1 + 2 / 3) / 2 + 1 / 2) / 2)
    assert scores["MRR@10"] == pytest.approx(100 * (1 + 1 / 2) / 2)
    ideal = 1 + 1 / math.log2(3)
    assert scores["NDCG@10"] == pytest.approx(100 * ((1 + 1 / 2) / ideal + 1 / math.log2(3)) / 2)


def test_all_ranking_measures_break_ties_alike() -> None:
    """Of one relevant document precision and reciprocal rank are the same number, also where scores are nearly one."""
    for scores in ({"a": 0.0, "b": 0.0, "c": 0.0}, {"a": 1.0, "b": 1.0 + 1e-9, "c": 1.0 - 1e-9}):
        places = sorted(scores, key=lambda name: (scores[name], name), reverse=True)
        for name in scores:
            found = ranking_scores({"q": scores}, {"q": {other: int(other == name) for other in scores}})
            place = 1 + places.index(name)
            assert found["MAP"] == pytest.approx(100 / place)
            assert found["MRR@10"] == pytest.approx(100 / place)
            assert found["NDCG@10"] == pytest.approx(100 / math.log2(1 + place))
