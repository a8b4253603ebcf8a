"""The position encodings against their papers' formulas and properties."""

import math

import pytest
import torch

from kotya.attention.positions import LearnedPositions, SinusoidalPositions, rotate, sinusoidal


def test_sinusoids_are_exactly_those_of_the_paper() -> None:
    table = sinusoidal(1000, 16)
    for position in (0, 1, 17, 999):
        for i in range(8):
            angle = position / 10000 ** (2 * i / 16)
            assert table[position, 2 * i].item() == pytest.approx(math.sin(angle), abs=1e-7)
            assert table[position, 2 * i + 1].item() == pytest.approx(math.cos(angle), abs=1e-7)


def test_the_layout_of_halves_holds_the_same_numbers() -> None:
    interleaved, halves = sinusoidal(50, 10), sinusoidal(50, 10, "halves")
    assert torch.equal(halves, torch.cat([interleaved[:, 0::2], interleaved[:, 1::2]], 1))


def test_the_table_grows_with_the_text() -> None:
    positions = SinusoidalPositions(8, "interleaved")
    assert torch.equal(positions(torch.tensor([[2000]]), 2000)[0], sinusoidal(2001, 8)[2000:])
    assert not positions.state_dict()


def test_past_the_last_learned_position_the_last_vector_stays() -> None:
    positions = LearnedPositions(4, 3)
    torch.nn.init.normal_(positions.weight)
    assert torch.equal(positions(torch.tensor([[2, 5]]), 5)[0, 1], positions.weight[2])


def test_rotated_products_depend_on_distance_only() -> None:
    torch.manual_seed(1)
    query, key = torch.randn(1, 1, 1, 8).double(), torch.randn(1, 1, 1, 8).double()

    def product(q: int, k: int) -> torch.Tensor:
        return (rotate(query, torch.tensor([[q]])) * rotate(key, torch.tensor([[k]]))).sum()

    torch.testing.assert_close(product(3, 1), product(103, 101), atol=1e-4, rtol=1e-4)
    assert abs(product(3, 1) - product(3, 2)) > 1e-3
    torch.testing.assert_close(product(0, 0), (query * key).sum())
