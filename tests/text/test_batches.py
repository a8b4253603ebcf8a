"""Batches: every example once, within the budget, little padding, the same again for the same seed and epoch."""

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kotya.errors import KotyaError
from kotya.text.batches import Batches, padding
from kotya.text.cache import TokenCache
from kotya.text.cleaning import CleaningConfig
from kotya.text.corpus import TextSource
from kotya.text.vocabularies import VocabularyConfig

LENGTHS = st.lists(st.tuples(st.integers(1, 60), st.integers(1, 60)), min_size=1, max_size=200)


@settings(max_examples=100, deadline=None)
@given(lengths=LENGTHS, tokens=st.integers(61, 500), seed=st.integers(0, 2**32), epoch=st.integers(0, 1000))
def test_every_example_once_within_the_budget(
    lengths: list[tuple[int, int]], tokens: int, seed: int, epoch: int
) -> None:
    source, target = (np.array(side, dtype=np.int32) for side in zip(*lengths, strict=True))
    batches = Batches(source, target, tokens=tokens).draw(np.random.default_rng([seed, epoch]))
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) * (source[batch].max() + 1) <= tokens
        assert len(batch) * (target[batch].max() + 1) <= tokens


def synthetic(count: int = 20_000) -> tuple[np.ndarray, np.ndarray]:
    """Lengths like those of captions: the target follows the source, with some spread."""
    random = np.random.default_rng(3)
    source = np.clip(random.lognormal(2.6, 0.35, count), 2, 60)
    target = np.clip(source * random.lognormal(0, 0.2, count), 2, 60)
    return source.astype(np.int32), target.astype(np.int32)


def test_little_padding_and_few_batches() -> None:
    source, target = synthetic()
    batches = Batches(source, target, tokens=4096)
    for epoch in range(3):
        drawn = batches.draw(np.random.default_rng(epoch))
        assert padding(drawn, source, target) < 0.05
        real = (np.maximum(source, target) + 1).sum()
        assert len(drawn) < 1.12 * real / 4096 + 2  # batches are full


def test_padding_on_real_text(tmp_path: Path) -> None:
    if "KOTYA_DATA" not in os.environ:
        pytest.skip("KOTYA_DATA is not set: no real text to measure on")
    folder = Path(os.environ["KOTYA_DATA"]) / "multi30k"
    source, target = TextSource.of(folder / "train.de.gz"), TextSource.of(folder / "train.en.gz")
    vocabularies = VocabularyConfig(size=8000).make(source, target, Path())
    cleaning = CleaningConfig(max_length=100)
    tokens = TokenCache.open_or_build(source, target, vocabularies, cleaning, tmp_path, progress=False)
    batches = Batches(tokens.source_lengths, tokens.target_lengths, tokens=4096).draw(
        np.random.default_rng(1)
    )
    assert padding(batches, tokens.source_lengths, tokens.target_lengths) < 0.05


def test_order_is_a_function_of_seed_and_epoch() -> None:
    lengths = synthetic(2000)

    def epoch(seed: int, number: int) -> list[list[int]]:
        return [
            batch.tolist()
            for batch in Batches(*lengths, tokens=1000).draw(np.random.default_rng([seed, number]))
        ]

    assert epoch(1, 5) == epoch(1, 5)
    assert epoch(1, 5) != epoch(1, 6)
    assert epoch(1, 5) != epoch(2, 5)
    # Batches are made anew, not only put in another order; few happen to be the same.
    one, two = ({tuple(sorted(batch)) for batch in epoch(1, number)} for number in (5, 6))
    assert len(one & two) < 0.2 * len(one)


def test_batches_come_in_no_order_of_length() -> None:
    source, target = synthetic(20_000)
    batches = Batches(source, target, tokens=1000).draw(np.random.default_rng(1))
    longest = [int(target[batch].max()) for batch in batches]
    assert abs(np.corrcoef(longest, np.arange(len(longest)))[0, 1]) < 0.2


def test_what_fits_no_batch_is_an_error() -> None:
    one = np.array([10], dtype=np.int32)
    with pytest.raises(KotyaError, match="an example has 11 tokens but a batch holds 10"):
        Batches(one, one, tokens=10)
    with pytest.raises(KotyaError, match="no example"):
        Batches(one[:0], one[:0], tokens=10)
