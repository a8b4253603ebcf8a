"""FAVOR+'s error, as `kotya show approximation` draws it."""

import torch

from kotya.attention.features import orthogonal
from kotya.inference.approximation import by_drawing, by_spread, errors_of


def test_errors_fall_as_one_over_the_root_of_the_features_and_grow_with_the_spread() -> None:
    curves = by_spread([64, 1024], 64, 16, 12, 1)
    ends = [curve.y[-1] for curve in curves]
    assert ends == sorted(ends)
    falls = [curve.y[0] / curve.y[-1] for curve in curves]
    assert 3 < falls[0] < 5  # of sixteen times the features
    assert all(
        low <= y <= high for c in curves for low, y, high in zip(c.low or (), c.y, c.high or (), strict=True)
    )


def test_it_is_the_share_of_the_weight_that_lies_elsewhere() -> None:
    """Features that are no use, all weights alike: half the distance of softmax to the mean, whatever is drawn."""
    [error] = errors_of(lambda r, d: torch.zeros(r, d), 1.0, 8, length=32, size=4, draws=1, seed=3)
    torch.manual_seed(3)
    query, key = torch.randn(2, 1, 32, 1, 4).squeeze().double()
    exact = (query @ key.T / 2).softmax(1)
    lengths = (-key.square().sum(1) / 4).exp()  # all that features of zero know of a key, √d = 2 and the half
    expected = (exact - lengths / lengths.sum()).abs().sum(1).mean() / 2
    torch.testing.assert_close(error.double(), expected, atol=1e-6, rtol=1e-5)


def test_orthogonal_features_are_better_and_the_texts_those_of_the_seed() -> None:
    before = torch.get_rng_state()
    better, worse = by_drawing([64], 64, 64, 12, 1)
    assert better.y[0] < worse.y[0]
    assert torch.equal(torch.get_rng_state(), before)
    again = [errors_of(orthogonal, 0.3, 64, length=64, size=64, draws=2, seed=1) for _ in range(2)]
    assert torch.equal(*again)
