"""Samples follow the distribution they are said to, and depend on the line and the seed alone."""

from collections import Counter

import pytest
import torch

from kotya.search.config import SamplingConfig, SearchConfig
from kotya.search.ensemble import Ensemble
from kotya.search.mbr import expected_utilities, sentence_utility
from kotya.search.sampling import Sampling, draw, narrowed, uniform
from toy_decoder import END, PIECES, ROLES, answers, log_probability, toy

SOURCES = [[2 + (i * j) % 4 for j in range(1 + i % 5)] for i in range(12)]
CONFIG = SearchConfig(max_length_extra=9)


def test_frequencies_are_the_probabilities() -> None:
    probabilities = torch.tensor([[0.5, 0.2, 0.0, 0.3]])
    count = 20_000
    drawn = [int(draw(probabilities, [uniform(7, i, 0, 0)])) for i in range(count)]
    counts = Counter(drawn)
    for piece, probability in enumerate([0.5, 0.2, 0.0, 0.3]):
        assert counts[piece] / count == pytest.approx(probability, abs=4 * (0.25 / count) ** 0.5)


def test_uniform_numbers_of_neighbouring_lines_steps_and_draws_are_unrelated() -> None:
    numbers = torch.tensor(
        [[uniform(1, line, d, s) for s in range(50)] for line in range(20) for d in range(2)]
    )
    assert numbers.mean() == pytest.approx(0.5, abs=0.02)
    assert (torch.corrcoef(numbers).triu(1).abs() < 0.6).all()
    assert (torch.corrcoef(numbers.T).triu(1).abs() < 0.7).all()


def test_the_top_k_and_the_nucleus_are_those_of_their_definitions() -> None:
    torch.manual_seed(1)
    log_p = torch.randn(20, 9).log_softmax(-1)
    kept = narrowed(log_p, SamplingConfig(top_k=3))
    assert ((kept > 0).sum(1) == 3).all()
    kept = narrowed(log_p, SamplingConfig(top_p=0.7))
    for row, p in zip(kept, log_p.exp(), strict=True):
        ordered = p.sort(descending=True).values
        size = int((ordered.cumsum(0) < 0.7).sum()) + 1
        assert int((row > 0).sum()) == size
        torch.testing.assert_close(
            row.sort(descending=True).values[:size], ordered[:size] / ordered[:size].sum()
        )
    sharp = narrowed(log_p, SamplingConfig(temperature=0.5))
    torch.testing.assert_close(sharp, (log_p.exp() ** 2) / (log_p.exp() ** 2).sum(1, keepdim=True))


def test_a_line_is_sampled_alike_in_every_batch() -> None:
    model = toy(sharpness=1.0)
    sampling = SamplingConfig(samples=3, seed=5, temperature=1.3)

    def make() -> Sampling:
        return Sampling(Ensemble([model], END), ROLES, CONFIG, sampling)

    first = answers(make, SOURCES, rows=1)
    assert answers(make, SOURCES, rows=4) == first
    assert answers(make, SOURCES, rows=3, workers=2) == first
    assert len({tuple(one.tokens) for found in first for one in found}) > 10
    other = SamplingConfig(samples=3, seed=6, temperature=1.3)
    assert answers(lambda: Sampling(Ensemble([model], END), ROLES, CONFIG, other), SOURCES) != first
    for source, found in zip(SOURCES, first, strict=True):
        for one in found:
            assert one.log_probability == pytest.approx(
                log_probability([model], source, one.tokens), rel=1e-4
            )
            assert all(0 < token < PIECES for token in one.tokens)


def test_the_sample_of_least_risk_agrees_most_with_the_others() -> None:
    samples = [
        "the cat sat on a mat",
        "a cat sat on the mat",
        "a cat sat on a mat",
        "we go home",
        "a cat sat on a mat",
    ]
    for name in ("chrf", "bleu"):
        utility = sentence_utility(name)
        expected = expected_utilities(samples, utility)
        for hypothesis, value in zip(samples, expected, strict=True):
            assert value == pytest.approx(sum(utility(hypothesis, other) for other in samples) / 5)
        assert samples[max(range(5), key=expected.__getitem__)] == "a cat sat on a mat"
