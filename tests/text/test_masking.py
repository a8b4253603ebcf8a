"""Masking by its statistics: the rate, the three fates, whole words; a pure function of its key; no special piece."""

import numpy as np
import pytest

from kotya.errors import KotyaError
from kotya.text.masking import Masking, MaskingConfig
from kotya.text.vocabulary import Vocabulary

LINES = ["walking talked believable unbelievable walk talk able", "walked talking believe un able"] * 40


@pytest.fixture(scope="module")
def vocabulary() -> Vocabulary:
    return Vocabulary.learn_wordpiece(lambda: LINES, 70, lowercase=True)


def example(vocabulary: Vocabulary, length: int = 200) -> np.ndarray:
    ids = vocabulary.encode(" ".join(LINES[:8] * 10))[:length]
    return np.array(vocabulary.wrapped(ids[: length // 2], ids[length // 2 :]))


def test_rates_and_fates(vocabulary: Vocabulary) -> None:
    """15 % to the piece; 80, 10 and 10 % within four standard errors of a binomial."""
    ids, masking = example(vocabulary), Masking(MaskingConfig(), vocabulary)
    fates = {"mask": 0, "kept": 0, "other": 0}
    for number in range(500):
        hidden = masking.hide(ids, (1, 0, number))
        assert len(hidden.places) == round(0.15 * 200)
        assert np.array_equal(hidden.targets, ids[hidden.places])
        untouched = np.setdiff1d(np.arange(len(ids)), hidden.places)
        assert np.array_equal(hidden.ids[untouched], ids[untouched])
        new = hidden.ids[hidden.places]
        fates["mask"] += int((new == vocabulary.mask).sum())
        fates["kept"] += int((new == hidden.targets).sum())
    total = 500 * 30
    fates["other"] = total - fates["mask"] - fates["kept"]
    back = 1 / (len(vocabulary) - 5)  # a random piece may be the one that stood there
    for name, share in (("mask", 0.8), ("kept", 0.1 + 0.1 * back), ("other", 0.1 - 0.1 * back)):
        assert abs(fates[name] / total - share) < 4 * (share * (1 - share) / total) ** 0.5, name


def test_every_place_is_as_likely_and_special_ones_never(vocabulary: Vocabulary) -> None:
    ids, masking = example(vocabulary, 60), Masking(MaskingConfig(), vocabulary)
    counts = np.zeros(len(ids))
    for number in range(3000):
        counts[masking.hide(ids, (1, 0, number)).places] += 1
    special = np.isin(ids, list(vocabulary.roles.values()))
    assert counts[special].sum() == 0
    share = counts[~special] / 3000
    assert np.all(np.abs(share - 0.15) < 5 * (0.15 * 0.85 / 3000) ** 0.5)


def test_a_pure_function_of_its_key(vocabulary: Vocabulary) -> None:
    ids, masking = example(vocabulary), Masking(MaskingConfig(), vocabulary)
    one = masking.hide(ids, (1, 2, 3))
    masking.hide(ids, (9, 9, 9))
    again = Masking(MaskingConfig(), vocabulary).hide(ids.copy(), (1, 2, 3))
    assert np.array_equal(one.ids, again.ids)
    assert np.array_equal(one.places, again.places)
    for other in ((2, 2, 3), (1, 3, 3), (1, 2, 4)):
        assert not np.array_equal(masking.hide(ids, other).places, one.places)


def test_whole_words_are_chosen_whole(vocabulary: Vocabulary) -> None:
    ids, masking = example(vocabulary), Masking(MaskingConfig(whole_words=True), vocabulary)
    words = np.cumsum(vocabulary.word_starts()[ids] | np.isin(ids, [vocabulary.begin, vocabulary.end]))
    chosen = 0
    for number in range(200):
        places = masking.hide(ids, (1, 0, number)).places
        assert set(places) == set(np.flatnonzero(np.isin(words, words[places])))
        assert len(places) <= 30
        chosen += len(places)
    assert chosen / (200 * 200) > 0.14


def test_a_word_ends_at_a_special_piece(vocabulary: Vocabulary) -> None:
    """Where a block of text begins inside a word, what stands before its separator is no part of that."""
    first, inside = vocabulary.encode("w")[0], int(np.flatnonzero(~vocabulary.word_starts())[0])
    ids = np.array([first, inside, vocabulary.end, inside, first])
    masking = Masking(MaskingConfig(rate=0.5, whole_words=True), vocabulary)
    found = {tuple(masking.hide(ids, (1, 0, number)).places) for number in range(60)}
    assert found == {(0, 1), (3, 4)}


def test_a_text_that_is_one_word_is_masked_no_more_than_others(vocabulary: Vocabulary) -> None:
    """As where a script has no spaces: pieces are chosen, from everywhere."""
    inside = np.flatnonzero(~vocabulary.word_starts())[0]
    ids = np.array(vocabulary.wrapped([*vocabulary.encode("w"), *[int(inside)] * 99]))
    masking = Masking(MaskingConfig(whole_words=True), vocabulary)
    places = [masking.hide(ids, (1, 0, number)).places for number in range(100)]
    assert {len(some) for some in places} == {15}
    assert len(np.unique(np.concatenate(places))) == 100


@pytest.mark.parametrize("whole_words", [False, True])
def test_short_examples_have_one_at_least_and_empty_ones_none(
    vocabulary: Vocabulary, whole_words: bool
) -> None:
    masking = Masking(MaskingConfig(whole_words=whole_words), vocabulary)
    ids = np.array(vocabulary.wrapped(vocabulary.encode("walk")))
    assert len(masking.hide(ids, (1, 1, 1)).places) >= 1
    assert len(masking.hide(np.array(vocabulary.wrapped([])), (1, 1, 1)).places) == 0


def test_a_translator_s_vocabulary_has_no_mask() -> None:
    with pytest.raises(KotyaError, match="no mask"):
        Masking(MaskingConfig(), Vocabulary.learn(lambda: LINES, 280))
