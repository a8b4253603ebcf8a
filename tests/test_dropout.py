"""Dropout: right shares, right expectation, a gradient of what was computed, ruled by the seed."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from kotya.dropout import Dropout


@pytest.mark.parametrize("probability", [0.1, 0.3, 0.5])
def test_the_share_dropped_and_the_expectation(probability: float) -> None:
    torch.manual_seed(1)
    x = torch.ones(1_000_000)
    dropped = Dropout(probability)(x)
    assert (dropped == 0).float().mean().item() == pytest.approx(round(probability * 256) / 256, abs=2e-3)
    assert dropped.mean().item() == pytest.approx(1.0, abs=2e-3)
    assert len(dropped.unique()) == 2


def test_nothing_is_dropped_in_use_or_at_probability_zero() -> None:
    x = torch.randn(100)
    assert torch.equal(Dropout(0.5).eval()(x), x)
    assert torch.equal(Dropout(0.0)(x), x)


def test_the_seed_rules() -> None:
    x = torch.ones(1000)
    dropout = Dropout(0.5)
    torch.manual_seed(3)
    first, second = dropout(x), dropout(x)
    torch.manual_seed(3)
    assert torch.equal(dropout(x), first)
    assert not torch.equal(first, second)


FORMS: dict[str, Callable[[Dropout, Tensor], Tensor]] = {
    "plain": lambda dropout, x: dropout(x),
    "add": lambda dropout, x: dropout.add(x * 2, x),
    "relu": lambda dropout, x: dropout.relu(x * 1),
}


@pytest.mark.parametrize("form", FORMS)
def test_the_gradient_is_that_of_what_was_computed(form: str) -> None:
    x = torch.randn(40, dtype=torch.float64, requires_grad=True)

    def function(x: Tensor) -> Tensor:
        torch.manual_seed(5)
        return FORMS[form](Dropout(0.3), x)

    assert torch.autograd.gradcheck(function, x)


@pytest.mark.parametrize("form", FORMS)
def test_the_joined_forms_equal_the_parts(form: str) -> None:
    x = torch.randn(1000)
    parts = {"plain": lambda d: d(x), "add": lambda d: x * 2 + d(x), "relu": lambda d: d(x.relu())}
    torch.manual_seed(5)
    joined = FORMS[form](Dropout(0.3), x)
    torch.manual_seed(5)
    torch.testing.assert_close(joined, parts[form](Dropout(0.3)))
